"""Near-duplicates between questions, so that no case is asked in training too."""

from __future__ import annotations

import re
from collections.abc import Iterable

THRESHOLD = 0.6  # estimated Jaccard similarity from which two questions count as the same
_SHINGLE = 5  # characters; questions are too short for shingles of words
_PERMUTATIONS = 128


class Questions:
    """Find questions like those given (MinHash and LSH: Broder, 1997; Leskovec et al., 2014)."""

    def __init__(self, questions: Iterable[str], threshold: float = THRESHOLD) -> None:
        """Index the questions; the cases of an evaluation, say."""
        from datasketch import MinHashLSH

        self._threshold = threshold
        # The buckets are made finer than the threshold, so that next to none is missed; `like` then compares.
        self._index = MinHashLSH(threshold=threshold * 0.75, num_perm=_PERMUTATIONS)
        self._hashes = {text: _hash(text) for text in dict.fromkeys(questions)}
        for text, value in self._hashes.items():
            self._index.insert(text, value)

    def like(self, question: str) -> str | None:
        """Return the most similar question over the threshold, None where there is none."""
        wanted = _hash(question)
        found = [(wanted.jaccard(self._hashes[text]), text) for text in self._index.query(wanted)]
        best = max(found, default=(0.0, ""))
        return best[1] if best[0] > self._threshold else None


def _hash(text: str):  # type: ignore[no-untyped-def]  # datasketch.MinHash, imported only here
    from datasketch import MinHash

    plain = " ".join(re.findall(r"\w+", text.lower()))
    shingles = {plain[i : i + _SHINGLE].encode() for i in range(max(1, len(plain) - _SHINGLE + 1))}
    value = MinHash(num_perm=_PERMUTATIONS, seed=1)
    value.update_batch(shingles)
    return value
