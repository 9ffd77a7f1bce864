"""The sentences of each chunk as vectors: a question is often close to one sentence and far from the rest.

sentences.npy             fp16, a row a sentence, in the order of the chunks
ends.npy                  the row after each chunk's last one
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retrieval.documents import Chunk
from retrieval.embedders import Vectors
from retrieval.errors import GenerationError

_PARTS = re.compile(r"(?<=[.!?:])\s+|\n+")
_SHORTEST = 12  # characters; less is a number of a list or a lone sign


def sentences_of(chunk: Chunk) -> list[str]:
    """Return the chunk's title with its heading, and each sentence, item or row under them."""
    parts = [part.strip() for part in _PARTS.split(chunk.text)]
    whole = [part for part in parts if len(part) > _SHORTEST]
    if not chunk.head:
        return whole or [chunk.text]
    return [chunk.head, *(f"{chunk.head}\n{part}" for part in whole)]


class SentenceTable:
    """Say how close each chunk's closest sentence is to a question; safe to share between threads."""

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        """Open what `build` wrote for the chunks `ids`, in that order; GenerationError where it does not fit them."""
        try:
            ends = np.load(folder / "ends.npy")
            self._vectors = np.load(folder / "sentences.npy", mmap_mode="r" if len(ends) else None)  # none can be empty
        except (OSError, ValueError, EOFError) as error:
            raise GenerationError(f"The sentences in {folder} are damaged: {error}") from error
        if len(ends) != len(ids) or (len(ends) and ends[-1] != len(self._vectors)):
            raise GenerationError(f"The sentences in {folder} are not those of its chunks.")
        starts = [0, *ends.tolist()][:-1]
        self._rows = dict(zip(ids, zip(starts, ends.tolist(), strict=True), strict=True))

    @staticmethod
    def build(folder: Path, counts: Sequence[int], vectors: Vectors) -> None:
        """Write the vectors, shape (sum of counts, dimension), of `counts` sentences a chunk into a new folder."""
        folder.mkdir()
        np.save(folder / "sentences.npy", vectors.astype(np.float16))
        np.save(folder / "ends.npy", np.cumsum(counts, dtype=np.int64))

    def closeness(self, ids: Sequence[str], questions: Vectors) -> list[float]:
        """Return each chunk's best cosine similarity; `questions` has shape (wordings, dimension)."""
        return [float((self._vectors[slice(*self._rows[i])].astype(np.float32) @ questions.T).max()) for i in ids]
