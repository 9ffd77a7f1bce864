"""The lexical index: BM25 over the chunks of one generation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

K1, B = 1.2, 0.75  # Robertson and Zaragoza, 2009; Lucene's defaults


class LexicalIndex:
    """Rank the chunks of a generation by BM25; stateless after loading, safe to share between threads."""

    def __init__(self, ids: Sequence[str], index: Any | None) -> None:
        self._ids = list(ids)
        self._index = index

    @classmethod
    def build(cls, ids: Sequence[str], texts: Sequence[str]) -> LexicalIndex:
        """Index `texts`, named by `ids` in the same order."""
        import bm25s

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG when imported
        tokens = [_tokens(text) for text in texts]
        if not any(tokens):
            return cls(ids, None)
        index = bm25s.BM25(k1=K1, b=B, method="lucene")
        index.index(tokens, show_progress=False)
        return cls(ids, index)

    def save(self, folder: Path) -> None:
        """Write the index under `folder`."""
        folder.mkdir(parents=True)
        if self._index is not None:
            self._index.save(str(folder), show_progress=False)

    @classmethod
    def load(cls, folder: Path, ids: Sequence[str]) -> LexicalIndex:
        """Read what `save` wrote; `ids` in the order given to `build`."""
        import bm25s

        if not any(folder.iterdir()):
            return cls(ids, None)
        return cls(ids, bm25s.BM25.load(str(folder), show_progress=False))

    def search(self, question: str, k: int) -> list[tuple[str, float]]:
        """Return up to k (chunk id, score), best first, ties by id; chunks without a common word are left out."""
        tokens = _tokens(question)
        if self._index is None or not tokens:
            return []
        known = [token for token in tokens if token in self._index.vocab_dict]
        if not known:
            return []
        scores = self._index.get_scores(known)
        k = min(k, len(scores))
        least = np.partition(scores, -k)[-k]  # all that tie with the last one stay, so that ids decide
        kept = np.flatnonzero((scores >= least) & (scores > 0))
        best = sorted((-float(scores[i]), self._ids[i]) for i in kept)[:k]
        return [(chunk, -negative) for negative, chunk in best]


def _tokens(text: str) -> list[str]:
    import Stemmer
    from bm25s.tokenization import tokenize

    stemmer = Stemmer.Stemmer("english")  # one a call: an instance must not be shared between threads
    found: list[list[str]] = tokenize(
        [text], stopwords="en", stemmer=stemmer.stemWords, return_ids=False, show_progress=False
    )
    return list(found[0])
