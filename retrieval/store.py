"""The dense index: one Chroma folder a generation, one collection an audience."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from retrieval.documents import Audience, Chunk
from retrieval.embedders import Vectors
from retrieval.errors import GenerationError

if TYPE_CHECKING:
    from chromadb.api.client import Client

AUDIENCES: tuple[Audience, ...] = ("public", "internal")
_TIE = 1e-6  # distances closer than this are equal but for rounding
_BATCH = 5000  # Chroma takes 5,461 at most
# Malkov and Yashunin, 2018: recall grows with all three. A generation is built once and read often.
_HNSW = {"space": "cosine", "ef_construction": 200, "max_neighbors": 32, "ef_search": 200}


class DenseStore:
    """Search the vectors of one generation; opened read-only in practice, since a generation never changes."""

    def __init__(self, folder: Path) -> None:
        """Open what `build` wrote, or raise GenerationError."""
        if not (folder / "chroma.sqlite3").is_file():  # Chroma would make an empty store in its place
            raise GenerationError(f"The vector store {folder} is missing.")
        self._client: Client | None = None
        try:
            self._client = client = _open(folder)
            self._collections = {name: client.get_collection(name, embedding_function=None) for name in AUDIENCES}
            self._counts = {name: collection.count() for name, collection in self._collections.items()}
        except Exception as error:  # Chroma has many kinds, and its Rust core others
            self.close()
            raise GenerationError(f"The vector store {folder} is damaged: {error}") from error

    @classmethod
    def build(cls, folder: Path, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Write chunks and their vectors, shape (len(chunks), dimension), into a new folder."""
        client = _open(folder)
        try:
            for audience in AUDIENCES:
                rows = [i for i, chunk in enumerate(chunks) if chunk.audience == audience]
                collection = client.create_collection(
                    audience,
                    configuration={"hnsw": _HNSW},  # type: ignore[arg-type]
                    embedding_function=None,
                )
                for start in range(0, len(rows), _BATCH):
                    batch = rows[start : start + _BATCH]
                    collection.add(
                        ids=[chunks[i].chunk for i in batch],
                        embeddings=vectors[batch],
                        documents=[chunks[i].text for i in batch],
                        metadatas=[_metadata(chunks[i]) for i in batch],
                    )
        finally:
            client.close()

    def count(self) -> int:
        """Count the chunks of all audiences."""
        return sum(self._counts.values())

    def search(self, vector: Vectors, k: int, audiences: Sequence[Audience]) -> list[tuple[str, float]]:
        """Return up to k (chunk id, cosine similarity), best first, ties by id; `vector` has shape (dimension,)."""
        found: list[tuple[str, float]] = []
        for audience in audiences:
            found += self._nearest(audience, vector, k)
        # rounded, so that equal content ties whatever the order of its additions
        return sorted(found, key=lambda item: (-round(item[1], 6), item[0]))[:k]

    def _nearest(self, audience: Audience, vector: Vectors, k: int) -> list[tuple[str, float]]:
        """Return the k nearest and all that tie with the last of them, so that ids decide and not Chroma."""
        count = self._counts[audience]
        wanted = min(k + 1, count)
        while wanted:
            answer = self._collections[audience].query(
                query_embeddings=vector[None, :], n_results=wanted, include=["distances"]
            )
            distances = (answer["distances"] or [[]])[0]
            if wanted == count or len(distances) < wanted or distances[-1] - distances[k - 1] > _TIE:
                return [(i, 1.0 - float(d)) for i, d in zip(answer["ids"][0], distances, strict=True)]
            wanted = min(4 * wanted, count)
        return []

    def close(self) -> None:
        """Release the files; the store cannot be used afterwards."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _open(folder: Path) -> Client:
    import chromadb
    from chromadb.config import Settings

    settings = Settings(anonymized_telemetry=False, is_persistent=True)
    return cast("Client", chromadb.PersistentClient(str(folder), settings=settings))


def _metadata(chunk: Chunk) -> dict[str, str | int]:
    return {
        "source": chunk.source,
        "document": chunk.document,
        "ordinal": chunk.ordinal,
        "title": chunk.title,
        "heading": chunk.heading,
        "url": chunk.url or "",
    }
