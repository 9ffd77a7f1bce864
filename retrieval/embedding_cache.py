"""Vectors kept by content, so that no chunk is embedded twice and a killed refresh goes on where it stood."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, LargeBinary, String, create_engine, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from retrieval.embedders import Embedder, Vectors
from retrieval.errors import EmbedderError

_BATCH = 256  # chunks between two commits; a kill loses at most these
_PARAMETERS = 500  # SQLite's limit on bound parameters is 999 in old builds


class _Base(DeclarativeBase):
    pass


class _Row(_Base):
    __tablename__ = "embeddings"
    embedder: Mapped[str] = mapped_column(String, primary_key=True)
    digest: Mapped[str] = mapped_column(String, primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)  # fp32, little endian


class EmbeddingCache:
    """Look vectors up by embedder and content, and embed only what is missing."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine: Engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
        _Base.metadata.create_all(self._engine)

    def embed(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Vectors, int]:
        """Return the vectors of `texts`, shape (len(texts), dimension), and how many were new."""
        digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        known = self._known(embedder.fingerprint, set(digests))
        missing = [(d, text) for d, text in dict(zip(digests, texts, strict=True)).items() if d not in known]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            vectors = embedder.embed([text for _, text in batch])
            if not np.isfinite(vectors).all():
                raise EmbedderError("The embedder returned vectors that are not finite numbers.")
            self._save(embedder.fingerprint, [digest for digest, _ in batch], vectors)
            known.update(zip((digest for digest, _ in batch), vectors, strict=True))
            if progress:
                progress(start + len(batch), len(missing))
        table = [known[digest] for digest in digests]
        return np.asarray(table, dtype=np.float32).reshape(len(texts), embedder.dimension), len(missing)

    def _known(self, fingerprint: str, digests: Iterable[str]) -> dict[str, Vectors]:
        wanted, found = sorted(digests), {}
        with self._engine.connect() as connection:
            for start in range(0, len(wanted), _PARAMETERS):
                query = select(_Row.digest, _Row.vector).where(
                    _Row.embedder == fingerprint, _Row.digest.in_(wanted[start : start + _PARAMETERS])
                )
                for digest, vector in connection.execute(query):
                    found[digest] = np.frombuffer(vector, dtype="<f4")
        return found

    def _save(self, fingerprint: str, digests: Sequence[str], vectors: Vectors) -> None:
        rows = [
            {"embedder": fingerprint, "digest": digest, "vector": vector.astype("<f4").tobytes()}
            for digest, vector in zip(digests, vectors, strict=True)
        ]
        with self._engine.begin() as connection:
            connection.execute(insert(_Row).on_conflict_do_nothing(), rows)

    def close(self) -> None:
        """Release the database file."""
        self._engine.dispose()
