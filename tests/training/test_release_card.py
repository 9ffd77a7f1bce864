"""The model card: what a release was made of, what the gate found, and tables that render."""

from __future__ import annotations

from typing import Any

import pytest

from bot.releases import Release
from training.gate import Verdict
from training.metrics import COMPARED, Metric
from training.release_card import write_card

NOTHING = Metric(None, None, None, 0)
VERDICT = "The candidate passes against tandem-1: nothing that was measured has been lost."


def release(**changes: Any) -> Release:
    fields: dict[str, Any] = {
        "name": "tandem-2",
        "recipe": "hybrid",
        "base_model": "SmolLM2-360M-Instruct",
        "base_digest": "ba5ed1",
        "fingerprint": "f1f1f1",
        "created_at": "2026-11-26T14:03:11+00:00",
        "adapter_sha256": "ada9e4",
        "data_hash": "da7a00",
        "parents": ("tandem-1",),
        "settings": {"learning_rate": 0.0005, "rank": 16},
    }
    return Release(**(fields | changes))


def verdict(**measured: tuple[Metric, Metric, Metric]) -> Verdict:
    """Build a verdict of metrics by name, each after, before and the difference; the others do not apply."""
    every = {name: measured.get(name, (NOTHING, NOTHING, NOTHING)) for name in COMPARED}
    after, before, change = ({name: metrics[side] for name, metrics in every.items()} for side in range(3))
    return Verdict(True, VERDICT, (), after, before, "tandem-1", change)


def share(value: float) -> Metric:
    return Metric(value, value - 0.1, value + 0.1, 50)


def rows(card: str) -> dict[str, list[str]]:
    """Return the cells of each table row by its first cell."""
    lines = [line for line in card.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


def test_the_card_says_what_the_release_was_made_of() -> None:
    card = write_card(release(), None)
    assert card.startswith("# tandem-2\n")
    assert "for SmolLM2-360M-Instruct, recipe hybrid" in card and "on 2026-11-26." in card
    said = rows(card)
    assert said["base model"] == ["SmolLM2-360M-Instruct (ba5ed1)"]
    assert (said["adapter, SHA-256"], said["data set"], said["prompt fingerprint"]) == (
        ["ada9e4"],
        ["da7a00"],
        ["f1f1f1"],
    )
    assert (said["learning rate"], said["rank"]) == (["0.0005"], ["16"])


@pytest.mark.parametrize(("parents", "said"), [(("tandem-1",), "tandem-1"), ((), "the base model")])
def test_the_card_says_what_it_was_compared_with(parents: tuple[str, ...], said: str) -> None:
    assert rows(write_card(release(parents=parents), None))["compared with"] == [said]


def test_a_release_that_was_not_gated_says_so() -> None:
    gate = write_card(release(), None).partition("## Gate")[2]
    assert gate.strip() == "Not gated."


def test_the_table_shows_both_sides_and_the_difference() -> None:
    measured = verdict(
        facts=(share(0.9), share(0.8), Metric(0.1, 0.021, 0.178, 50)),
        citation_hit=(share(0.7), share(0.75), Metric(-0.05, -0.12, 0.02, 50)),
    )
    card = write_card(release(), measured)
    assert VERDICT in card
    said = rows(card.partition("## Gate")[2])
    assert said["metric"] == ["this release", "before", "difference"]
    after, before, change = said["facts"]
    assert (after, before) == ("90.0%", "80.0%")
    assert change.startswith("+10.0 points (") and "+2.1" in change and "+17.8" in change
    after, before, change = said["citation hit"]
    assert (after, before) == ("70.0%", "75.0%")
    assert change.startswith("-5.0 points (") and "-12.0" in change and "+2.0" in change


@pytest.mark.parametrize(
    ("after", "before"), [(NOTHING, NOTHING), (NOTHING, share(0.8)), (share(0.9), NOTHING), (share(0.9), share(0.8))]
)
def test_metrics_without_cases_in_common_are_left_out(after: Metric, before: Metric) -> None:
    measured = verdict(style=(share(0.9), share(0.9), share(0.0)), citation_precision=(after, before, NOTHING))
    card = write_card(release(), measured)
    said = rows(card.partition("## Gate")[2])
    assert [name for name in said if name.replace(" ", "_") in COMPARED] == ["style"]
    assert "None" not in card


def test_without_cases_the_verdict_stands_alone() -> None:
    said = "The candidate does not pass: general knowledge fell."
    gate = write_card(release(), Verdict(False, said, ("general knowledge fell",))).partition("## Gate")[2]
    assert gate.strip() == said
