"""The split: whole conversations, and whole companies where there are many."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from training.dataset import _held_out


@pytest.mark.parametrize("share", [0.0, 0.04, 0.1, 0.3])
def test_about_the_share_is_held_out_in_whole_groups(share: float) -> None:
    groups = [f"g{n % 40}" for n in range(1000)]
    chosen = _held_out(groups, share, random.Random(0))
    held = sum(group in chosen for group in groups)
    assert share * 1000 <= held <= share * 1000 + 25


def test_never_is_all_held_out() -> None:
    assert _held_out(["one"] * 9, 0.5, random.Random(0)) == set()
    assert len(_held_out(["one", "two"] * 9, 0.9, random.Random(0))) == 1


def test_groups_of_any_size_are_drawn_by_the_seed() -> None:
    groups = ["big"] * 500 + [f"g{n}" for n in range(500)]
    draws = Counter(frozenset(_held_out(groups, 0.05, random.Random(seed))) for seed in range(20))
    assert len(draws) > 1
    assert _held_out(groups, 0.05, random.Random(1)) == _held_out(groups, 0.05, random.Random(1))
