"""A BERT encoder on OpenVINO: word pieces in, vectors or states out, without torch."""

from __future__ import annotations

import queue
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.embedders.bert import TOKENIZER, BertShape, Weights, build_model
from retrieval.errors import EmbedderError

_BATCH_TOKENS = 1024  # full speed from ~800 tokens on; a query waits at most one such batch (~0.1 s)
_EXACT_LENGTH = 32  # up to here texts are not padded at all: they are the questions
_LENGTH_STEP = 8
_MAX_CHARACTERS = 32_768  # 256 word pieces are ~1,200 characters; bounds the tokenizer's time


class Encoder:
    """Run the encoder of a folder, or one with other weights of its shape; concurrent calls are safe.

    A text is padded by its own length only and a batch holds a power of two of equally long texts:
    what stands beside a text cannot change its vector (measured: < 1e-6), and the engine meets
    few shapes (it keeps a plan for each).
    """

    def __init__(
        self,
        folder: Path,
        shape: BertShape,
        weights: Weights,
        vocabulary: int,
        threads: int | None = None,
        *,
        pooled: bool = True,
        exact: bool = True,
    ) -> None:
        """Compile; `threads` defaults to the engine's choice. Raise EmbedderError for weights that do not fit.

        With `exact` False it computes in bf16 where the processor does: 2.3 times as fast, and what stands beside a
        text may then change the third digit.
        """
        words = weights.get("embeddings.word_embeddings.weight")
        if words is not None and len(words) < vocabulary:
            raise EmbedderError(f"{folder / TOKENIZER} has more word pieces than the weights: run 'make setup'.")
        self._folder = folder
        self._shape = shape
        self._requests = _compile(build_model(shape, weights, pooled=pooled), threads, exact)

    def run(self, texts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Yield places in `texts` (word pieces) with what the graph gives for them, in batches."""
        for length, rows in _batches([len(ids) for ids in texts], self._shape.max_length):
            yield rows, self._infer([texts[row] for row in rows], length)

    def _infer(self, batch: Sequence[Sequence[int]], length: int) -> NDArray[np.float32]:
        """Run one batch, padded to `length`, on a free infer request."""
        ids = np.full((len(batch), length), self._shape.pad_id, dtype=np.int32)
        mask = np.zeros((len(batch), length), dtype=np.float32)
        for row, pieces in enumerate(batch):
            ids[row, : len(pieces)] = pieces
            mask[row, : len(pieces)] = 1.0
        request = self._requests.get()
        try:
            request.infer([ids, mask], share_inputs=True)
            found: NDArray[np.float32] = np.array(request.get_output_tensor().data)  # a copy: the next call reuses it
        finally:
            self._requests.put(request)
        if not np.isfinite(found).all():
            raise EmbedderError(f"{self._folder} answered with values that are not finite: run 'make setup'.")
        return found


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer; its own padding and truncation (128 in the file) are set aside."""
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises bare Exception
        raise EmbedderError(f"{path} cannot be read ({error}): run 'make setup'.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def clean(text: str) -> str:
    """Cut what no encoder reads; lone surrogates, which no tokenizer accepts, become "?"."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


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


def _compile(model: Any, threads: int | None, exact: bool) -> queue.Queue[Any]:
    """Compile for the CPU and return the pool of infer requests, one for each stream of the engine."""
    import openvino

    core = openvino.Core()
    fast = not exact and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    options: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": "bf16" if fast else "f32",  # in bf16 a vector depends on its batch
        "PERFORMANCE_HINT": "LATENCY",  # all cores on one batch: half the wait, the same chunks/s
        "ENABLE_CPU_PINNING": False,  # pinned threads stall when another process holds their core
    }
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", options)
    requests: queue.Queue[Any] = queue.Queue()
    for _ in range(max(1, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))):
        requests.put(compiled.create_infer_request())
    return requests
