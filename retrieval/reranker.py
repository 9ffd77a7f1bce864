"""Rate sentences by reading them together with the question, and say whether any of them answers it.

A cross-encoder (Nogueira and Cho, 2019) over passages, not pairs of sentences: one pass reads the question with a whole
passage, and each sentence is rated by the mean of its own word pieces' states. It is the embedder's network, changed
by low-rank factors, and a small head, both trained by training/reranker.py on invented companies.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.documents import Chunk
from retrieval.embedders import Vectors
from retrieval.embedders.bert import WEIGHTS, Weights, load_weights, read_shape
from retrieval.embedders.encoder import Encoder, clean, load_tokenizer
from retrieval.errors import EmbedderError
from retrieval.sentences import sentences_of

SHIPPED = Path(__file__).parent / "shipped" / "reranker.safetensors"
DOWN, UP = ".down", ".up"  # the two factors of what is added to a weight: (rank, in) and (out, rank)
_SEARCH = 10.0  # log odds that a rating by the search is worth; their order holds from 8 to 30
_QUESTION_PIECES = 64  # of a long question the end is read


class PairTokenizer:
    """Put a question and a passage together as the network reads them."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Load the tokenizer in `folder`; at most `limit` word pieces are read."""
        self.tokenizer = load_tokenizer(folder)
        self._limit = limit
        self._cls, self._sep = (self.tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))

    def pieces(self, question: str, head: str, texts: Sequence[str]) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the word pieces, and where in them each of the passage's sentences stands.

        What is beyond the limit is not read; such a sentence has an empty span.
        """
        asked, title, *parts = (
            encoding.ids
            for encoding in self.tokenizer.encode_batch_fast(
                [clean(text) for text in (question, head, *texts)], add_special_tokens=False
            )
        )
        row = [self._cls, *asked[-_QUESTION_PIECES:], self._sep, *title][: self._limit - 1]
        spans = []
        for part in parts:
            start = len(row)
            row += part[: self._limit - 1 - start]
            spans.append((start, len(row)))
        return [*row, self._sep], spans


class Reranker:
    """Hold the network; concurrent calls are safe."""

    def __init__(self, folder: Path, change: Path = SHIPPED, threads: int | None = None) -> None:
        """Load the embedder's weights in `folder` with what `change` adds; EmbedderError where they do not fit."""
        shape = read_shape(folder)
        base, tensors = load_weights(folder / WEIGHTS), load_weights(change)
        self._pairs = PairTokenizer(folder, shape.max_length)
        self._hidden = shape.hidden
        try:
            merged = _merged(base, tensors)
            size = shape.hidden
            self._middle = tensors["middle.weight"].reshape(size, size), tensors["middle.bias"].reshape(size)
            self._head = tensors["head.weight"].reshape(size), float(tensors["head.bias"].item())
        except (KeyError, ValueError) as error:
            raise EmbedderError(f"{change} is no reranker for the encoder in {folder}: {error}") from error
        vocabulary = self._pairs.tokenizer.get_vocab_size()
        self._encoder = Encoder(folder, shape, merged, vocabulary, threads, pooled=False, exact=False)

    def rate(self, question: str, chunks: Sequence[Chunk]) -> list[Vectors]:
        """Return for each chunk the log odds of its sentences to answer, beside none of all that is read."""
        texts = [[sentence.whole for sentence in sentences_of(chunk.text)] for chunk in chunks]
        read = [self._pairs.pieces(question, chunk.head, own) for chunk, own in zip(chunks, texts, strict=True)]
        means = [np.zeros((len(own), self._hidden), dtype=np.float32) for own in texts]
        for rows, states in self._encoder.run([pieces for pieces, _ in read]):
            for row, state in zip(rows, states, strict=True):
                for n, (start, end) in enumerate(read[row][1]):
                    if end > start:
                        means[row][n] = state[start:end].mean(axis=0)
        (weight, bias), (head, offset) = self._middle, self._head
        return [_gelu(own @ weight.T + bias) @ head + offset for own in means]


def joined(ratings: Sequence[Vectors], read: Sequence[Vectors]) -> list[Vectors]:
    """Join the ratings of sentences.rated with the log odds that the reranker gives to the same sentences."""
    return [_SEARCH * own + odds for own, odds in zip(ratings, read, strict=True)]


def evidence(read: Sequence[Vectors], similarity: float) -> float:
    """Return how probable it is that any of the sentences answers, 0 to 1.

    From the log odds of each, and the best cosine similarity of a whole passage, which knows other kinds of text.
    """
    total = float(np.logaddexp.reduce(np.concatenate(read))) + _SEARCH * (similarity - 0.5) if read else -np.inf
    return float(np.exp(-np.logaddexp(0.0, -total)))


def _merged(base: Weights, tensors: Weights) -> dict[str, NDArray[np.float32]]:
    """Add the products of the factors to the weights that they change, and put changed biases and norms in."""
    merged = dict(base) | {name: tensor for name, tensor in tensors.items() if name in base}
    for name, down in tensors.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            merged[f"{layer}.weight"] = base[f"{layer}.weight"] + tensors[f"{layer}{UP}"] @ down
    return merged


_ROOT = float(np.sqrt(2 / np.pi))


def _gelu(x: NDArray[np.float32]) -> Any:
    """Return the Gaussian error linear unit by its tanh form (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1 + np.tanh(_ROOT * (x + 0.044715 * x**3)))
