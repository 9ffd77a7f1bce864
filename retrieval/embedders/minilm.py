"""The local embedder: a BERT sentence encoder (all-MiniLM-L6-v2) on OpenVINO, in fp32, without torch."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from retrieval.embedders import Vectors
from retrieval.embedders.bert import CONFIG, TOKENIZER, WEIGHTS, load_weights, read_shape
from retrieval.embedders.encoder import Encoder, clean, load_tokenizer

logger = logging.getLogger(__name__)


class MiniLMEmbedder:
    """Embed texts with the BERT sentence encoder in `folder`; concurrent calls are safe."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load and compile; `threads` defaults to the engine's choice.

        Raise EmbedderError when files are missing or damaged or the encoder is of another kind.
        """
        started = time.perf_counter()
        self._folder = folder
        self._shape = read_shape(folder)
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.enable_truncation(self._shape.max_length)
        weights = load_weights(folder / WEIGHTS)
        self._encoder = Encoder(folder, self._shape, weights, self._tokenizer.get_vocab_size(), threads)
        logger.info("embedder loaded: folder=%s seconds=%.2f", folder.name, time.perf_counter() - started)

    @cached_property
    def fingerprint(self) -> str:
        """Name pooling, maximum length and the content of weights, tokenizer and configuration."""
        parts = [self._folder / name for name in (WEIGHTS, TOKENIZER, CONFIG)]
        digest = hashlib.sha256("".join(_digest_of(path) for path in parts).encode()).hexdigest()
        size = parts[0].stat().st_size
        return f"bert-mean-{self._shape.max_length}-{self._shape.hidden}-{size}-{digest[:16]}"

    @property
    def dimension(self) -> int:
        """Give the hidden size, 384 for MiniLM."""
        return self._shape.hidden

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, fp32, shape (len(texts), dimension), in the order of `texts`."""
        if isinstance(texts, str):
            raise TypeError("embed() takes a list of texts, not one text")
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch_fast([clean(text) for text in texts])]
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for rows, found in self._encoder.run(encoded):
            vectors[rows] = found
        return vectors


def _digest_of(path: Path) -> str:
    """Hash a file, once for each state of it in this process."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
