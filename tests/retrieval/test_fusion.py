"""Joining rankings, by hand."""

from __future__ import annotations

import pytest

from retrieval.fusion import reciprocal_rank_fusion


def test_scores_are_sums_of_reciprocal_ranks() -> None:
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["b", "d"]])
    assert [name for name, _ in fused] == ["b", "a", "d", "c"]
    assert [score for _, score in fused] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])


def test_k_weighs_the_first_ranks() -> None:
    assert dict(reciprocal_rank_fusion([["a", "b"]], k=1)) == pytest.approx({"a": 1 / 2, "b": 1 / 3})


def test_ties_are_broken_by_id() -> None:
    assert [name for name, _ in reciprocal_rank_fusion([["z", "b"], ["a", "c"]])] == ["a", "z", "b", "c"]


def test_nothing_joins_to_nothing() -> None:
    assert reciprocal_rank_fusion([]) == reciprocal_rank_fusion([[], []]) == []
