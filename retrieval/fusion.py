"""Join rankings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RRF_K = 60  # Cormack, Clarke and Buettcher, 2009


def reciprocal_rank_fusion(rankings: Iterable[Sequence[str]], k: int = RRF_K) -> list[tuple[str, float]]:
    """Return (id, sum of 1 / (k + rank)) over all rankings, best first, ties by id."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
