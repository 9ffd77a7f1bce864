"""The local embedder: a BERT sentence encoder (all-MiniLM-L6-v2) on OpenVINO, in fp32, without torch."""

from __future__ import annotations

import hashlib
import logging
import queue
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.embedders import Vectors
from retrieval.embedders.bert import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    BertShape,
    build_model,
    load_weights,
    read_shape,
)
from retrieval.errors import EmbedderError

_BATCH_TOKENS = 1024  # full speed from ~800 tokens on; a query waits at most one such batch (~0.1 s)
_EXACT_LENGTH = 32  # up to here texts are not padded at all: they are the questions
_LENGTH_STEP = 8
_MAX_CHARACTERS = 32_768  # 256 word pieces are ~1,200 characters; bounds the tokenizer's time

logger = logging.getLogger(__name__)


class MiniLMEmbedder:
    """Embed texts with the BERT sentence encoder in `folder`; concurrent calls are safe.

    A text is padded by its own length only and a batch holds a power of two of equally long texts:
    what stands beside a text cannot change its vector (measured: < 1e-6), and the engine meets
    few shapes (it keeps a plan for each).
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load and compile; `threads` defaults to the engine's choice.

        Raise EmbedderError when files are missing or damaged or the encoder is of another kind.
        """
        started = time.perf_counter()
        self._folder = folder
        self._shape = read_shape(folder)
        self._tokenizer = _load_tokenizer(folder / TOKENIZER, self._shape)
        self._requests = _compile(self._shape, folder, self._tokenizer.get_vocab_size(), threads)
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
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        encoded = self._encode(texts)
        for length, rows in _batches([len(ids) for ids in encoded], self._shape.max_length):
            vectors[rows] = self._infer([encoded[row] for row in rows], length)
        return vectors

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut into word pieces; lone surrogates, which no tokenizer accepts, become "?"."""
        if isinstance(texts, str):
            raise TypeError("embed() takes a list of texts, not one text")
        clean = [text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(clean)]

    def _infer(self, batch: Sequence[Sequence[int]], length: int) -> Vectors:
        """Run one batch, padded to `length`, on a free infer request."""
        ids = np.full((len(batch), length), self._shape.pad_id, dtype=np.int32)
        mask = np.zeros((len(batch), length), dtype=np.float32)
        for row, pieces in enumerate(batch):
            ids[row, : len(pieces)] = pieces
            mask[row, : len(pieces)] = 1.0
        request = self._requests.get()
        try:
            request.infer([ids, mask], share_inputs=True)
            vectors: Vectors = np.array(request.get_output_tensor().data)  # a copy: the next call reuses it
        finally:
            self._requests.put(request)
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"{self._folder} answered with values that are not finite: run 'make setup'.")
        return vectors


def _batches(lengths: Sequence[int], max_length: int) -> Iterator[tuple[int, list[int]]]:
    """Yield (padded length, rows) with a power of two of rows and at most ~1,024 tokens a batch."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, length in enumerate(lengths):
        stepped = length if length <= _EXACT_LENGTH else -(-length // _LENGTH_STEP) * _LENGTH_STEP
        groups[min(stepped, max_length)].append(row)
    for length, rows in sorted(groups.items()):
        limit = 1 << (max(1, _BATCH_TOKENS // length).bit_length() - 1)
        while rows:
            take = min(limit, 1 << (len(rows).bit_length() - 1))
            yield length, rows[:take]
            rows = rows[take:]


def _load_tokenizer(path: Path, shape: BertShape) -> Any:
    """Load the tokenizer; its own padding and truncation (128 in the file) are set aside."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exception
        raise EmbedderError(f"{path} cannot be read ({error}): run 'make setup'.") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(shape.max_length)
    return tokenizer


def _compile(shape: BertShape, folder: Path, vocabulary: int, threads: int | None) -> queue.Queue[Any]:
    """Compile for the CPU and return the pool of infer requests, one for each stream of the engine."""
    import openvino

    weights = load_weights(folder / WEIGHTS)
    words = weights.get("embeddings.word_embeddings.weight")
    if words is not None and len(words) < vocabulary:
        raise EmbedderError(f"{folder / TOKENIZER} has more word pieces than the weights: run 'make setup'.")
    options: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": "f32",  # bf16 would let a vector depend on its batch
        "PERFORMANCE_HINT": "LATENCY",  # all cores on one batch: half the wait, the same chunks/s
        "ENABLE_CPU_PINNING": False,  # pinned threads stall when another process holds their core
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(build_model(shape, weights), "CPU", options)
    requests: queue.Queue[Any] = queue.Queue()
    for _ in range(max(1, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))):
        requests.put(compiled.create_infer_request())
    return requests


def _digest_of(path: Path) -> str:
    """Hash a file, once for each state of it in this process."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _digest(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
