"""Read the current generation, and follow when another is published."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from retrieval.documents import Audience, Chunk
from retrieval.embedders import Vectors
from retrieval.errors import GenerationError
from retrieval.generations import Generations, Manifest
from retrieval.lexical import LexicalIndex
from retrieval.sentences import SentenceTable
from retrieval.store import DenseStore


class Snapshot:
    """Hold one opened generation; it never changes while it is open."""

    def __init__(self, generations: Generations, generation: str) -> None:
        folder = generations.path(generation)
        self.manifest: Manifest = generations.manifest(generation)
        chunks = generations.chunks(generation)
        self.chunks: dict[str, Chunk] = {chunk.chunk: chunk for chunk in chunks}
        public = [chunk.chunk for chunk in chunks if chunk.audience == "public"]
        try:
            self._lexical = {
                "public": LexicalIndex.load(folder / "lexical-public", public),
                "internal": LexicalIndex.load(folder / "lexical-all", list(self.chunks)),
            }
        except OSError as error:
            raise GenerationError(f"Generation '{generation}' is damaged: {error}") from error
        self._sentences = SentenceTable(folder / "sentences", list(self.chunks))
        self._dense = DenseStore(folder / "chroma")
        self.users = 0

    def dense(self, vector: Vectors, k: int, audience: Audience) -> list[tuple[str, float]]:
        """Rank by cosine similarity what this audience may see; see DenseStore.search."""
        return self._dense.search(vector, k, ("public",) if audience == "public" else ("public", "internal"))

    def lexical(self, question: str, k: int, audience: Audience) -> list[tuple[str, float]]:
        """Rank by BM25 what this audience may see; see LexicalIndex.search."""
        return self._lexical[audience].search(question, k)

    def closeness(self, chunks: Sequence[str], questions: Vectors) -> list[Vectors]:
        """Return how close each chunk's sentences are; see SentenceTable.closeness."""
        return self._sentences.closeness(chunks, questions)

    def close(self) -> None:
        """Release the generation's files."""
        self._dense.close()


class KnowledgeReader:
    """Lend the current generation to one search at a time per caller; safe to share between threads."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._snapshot: Snapshot | None = None

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Lend the current generation; one that is replaced meanwhile stays open until it is given back.

        Raises NoGeneration before the first refresh.
        """
        snapshot = self._take()
        try:
            yield snapshot
        finally:
            with self._lock:
                snapshot.users -= 1
                unused = snapshot is not self._snapshot and snapshot.users == 0
            if unused:
                snapshot.close()

    def close(self) -> None:
        """Close the generation that is open."""
        with self._lock:
            snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None and snapshot.users == 0:
            snapshot.close()

    def _take(self) -> Snapshot:
        current = self._generations.current()
        if self._snapshot is None or self._snapshot.manifest.generation != current:
            # While one caller opens the new generation the others go on with the one before.
            if self._opening.acquire(blocking=self._snapshot is None):
                try:
                    self._follow()
                finally:
                    self._opening.release()
        with self._lock:
            if self._snapshot is None:
                raise GenerationError("The knowledge reader is closed.")
            self._snapshot.users += 1
            return self._snapshot

    def _follow(self) -> None:
        current = self._generations.current()
        if self._snapshot is not None and self._snapshot.manifest.generation == current:
            return
        try:
            fresh = Snapshot(self._generations, current)
        except GenerationError:
            if self._generations.current() == current:  # not merely replaced and removed meanwhile
                raise
            fresh = Snapshot(self._generations, self._generations.current())
        with self._lock:
            old, self._snapshot = self._snapshot, fresh
        if old is not None and old.users == 0:
            old.close()
