"""The metrics against values worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import pytest

from training.cases import Case
from training.metrics import (
    Metric,
    Result,
    auroc,
    balanced_accuracy,
    citation_precision,
    has_facts,
    mean,
    measure,
    median,
    normalise,
    proportion,
)

CLOSING = "Anything else?"


def case(**fields: Any) -> Case:
    return Case(**{"id": "c", "question": "q", "answerable": True} | fields)


def says(text: str, *facts: str, forbidden: Sequence[str] = (), error: str | None = None) -> bool:
    return has_facts(Result(case(facts=facts, forbidden=tuple(forbidden)), text=text, action="answer", error=error))


# Both bounds solve Wilson's (1927) score equation (p - x)² = z²·x(1 - x)/n; found by bisection, not by its formula.


@pytest.mark.parametrize(
    ("right", "n", "value", "low", "high"),
    [
        (8, 10, 0.8, 0.490162, 0.943318),
        (5, 10, 0.5, 0.236593, 0.763407),
        (0, 10, 0.0, 0.0, 0.277533),
        (10, 10, 1.0, 0.722467, 1.0),
        (1, 1, 1.0, 0.206549, 1.0),
        (57, 60, 0.95, 0.862995, 0.982850),
    ],
)
def test_a_share_has_its_wilson_interval(right: int, n: int, value: float, low: float, high: float) -> None:
    metric = proportion([True] * right + [False] * (n - right))
    assert (metric.value, metric.low, metric.high, metric.n) == (
        value,
        *(pytest.approx(x, abs=2e-6) for x in (low, high)),
        n,
    )


def test_balanced_accuracy_weighs_both_classes_alike() -> None:
    metric = balanced_accuracy([True] * 9 + [False] * 81, [True] * 8 + [False] * 2)
    assert metric.value == pytest.approx((0.1 + 0.8) / 2) and metric.n == 100
    # normal approximation: sqrt(.1*.9/90 + .8*.2/10) / 2 = 0.0652
    half = 1.96 * sqrt(0.1 * 0.9 / 90 + 0.8 * 0.2 / 10) / 2
    assert metric.low == pytest.approx(0.45 - half, abs=0.03) and metric.high == pytest.approx(0.45 + half, abs=0.03)


def test_the_mean_has_a_bootstrap_interval() -> None:
    metric = mean([0.0, 1.0] * 50)
    half = 1.96 * 0.5 / sqrt(100)
    assert metric.value == 0.5 and metric.n == 100
    assert metric.low == pytest.approx(0.5 - half, abs=0.02) and metric.high == pytest.approx(0.5 + half, abs=0.02)
    assert mean([0.25]) == Metric(0.25, 0.25, 0.25, 1)
    assert mean([0.0, 1.0] * 50) == metric  # the same answers, the same interval


def test_the_median_leaves_out_what_is_missing() -> None:
    metric = median([10, None, 30, 1000, None])
    assert (metric.value, metric.n) == (30.0, 3) and metric.low == 10.0 and metric.high == 1000.0


@pytest.mark.parametrize("metric", [proportion([]), mean([]), median([None])])
def test_nothing_to_measure(metric: Metric) -> None:
    assert metric == Metric(None, None, None, 0)


def test_one_class_alone_has_no_balanced_accuracy() -> None:
    assert balanced_accuracy([True, True], []).value is None


# Facts


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("It costs $12 per user.", ["$12"]),
        ("It costs $12.", ["$12"]),
        ("It costs **$12**, [1] before tax", ["$12"]),
        ("Open **Settings > Data > Export**.", ["Settings > Data > Export"]),
        ("You have 7,660 left.", ["7,660 | 7660"]),
        ("You have 7660 left.", ["7,660"]),
        ("Up to 1,250,000 rows", ["1250000"]),
        ("restart it, check the CONNECTION,\nthen  update", ["restart", "connection", "Update"]),
        ("The   first\npayment", ["annual | first payment"]),
        ("It\u00a0takes 30\u202fdays", ["30 days"]),
        ("We don’t", ["don't"]),
        ("Write to billing@brightfold.example.", ["billing@brightfold.example"]),
    ],
)
def test_a_fact_stands_in_the_text(text: str, facts: list[str]) -> None:
    assert says(text, *facts)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("It costs $120.", ["$12"]),
        ("It costs $12.50.", ["$12"]),
        ("It costs 12.5 dollars.", ["12"]),
        ("It takes 12,5 days.", ["12"]),
        ("It costs $12,000.", ["$12"]),
        ("It costs $12.", ["12"]),
        ("It costs US$12 or 112.", ["12"]),
        ("Version 5.9.2", ["5.9"]),
        ("a disconnection", ["connection"]),
        ("restarting", ["restart"]),
        ("restart it and update", ["restart", "connection", "update"]),
        ("neither", ["one | two"]),
        ("", ["x"]),
    ],
)
def test_a_fact_is_missing(text: str, facts: list[str]) -> None:
    assert not says(text, *facts)


@pytest.mark.parametrize(("text", "fact"), [("Up to 2.5 GB.", "5"), ("It costs 1.50.", "50"), ("Version 5.5.9", "5.9")])
def test_the_end_of_a_longer_number_is_not_the_fact(text: str, fact: str) -> None:
    assert not says(text, fact)


def test_what_is_forbidden_spoils_the_answer() -> None:
    assert says("Every 15 minutes.", "15 minutes", forbidden=["every 30 minutes"])
    assert not says("Every 15 minutes, before every **30 minutes**.", "15 minutes", forbidden=["every 30 minutes"])
    assert says("25%5 is no discount", forbidden=["25%"])


def test_an_error_holds_no_facts() -> None:
    assert not says("$12", "$12", error="broken")
    assert not says("", error="broken")


def test_what_text_is_compared_as() -> None:
    assert normalise("**Settings** > `Data` [1], 1,234 _of_ 1,2345\n\nIt’s") == "settings > data, 1234 of 1,2345 it's"


# Citations


@pytest.mark.parametrize(
    ("cited", "value"),
    [((), 0.0), (("help/a.md",), 1.0), (("help/a.md", "help/x.md"), 0.5), (("other/a.md",), 0.0),
     (("help/a.md", "help/b.md", "help/x.md", "help/y.md"), 0.5)],
)  # fmt: skip
def test_citation_precision(cited: tuple[str, ...], value: float) -> None:
    result = Result(case(documents=("help/a.md", "help/b.md")), text="t", action="answer", documents=cited)
    assert citation_precision(result) == value


# All together


def answered(n: int, action: str = "answer", text: str = f"Yes: red. [1]\n\n{CLOSING}", **fields: Any) -> Result:
    fields = {"documents": ("help/a.md",), "first_token_ms": 10.0, "total_ms": 20.0, "prompt_tokens": 100} | fields
    return Result(case(id=f"c{n}", facts=("red",), documents=("help/a.md",)), text=text, action=action, **fields)


def test_measure_counts_each_case_where_it_belongs() -> None:
    failed = Result(case(id="c9", facts=("red",), documents=("help/a.md",)), error="broken")
    none, other, third = (case(id=f"c{n}", answerable=False) for n in (5, 6, 7))
    results = [
        answered(1),
        answered(2, documents=("help/x.md", "help/a.md")),
        answered(3, documents=(), text=f"Blue, says [1].\n\n{CLOSING}"),
        answered(4, "decline", "I do not know. Who would?", documents=()),
        Result(none, text="I do not know. Who would?", action="decline", first_token_ms=30.0, total_ms=40.0),
        Result(other, text="Yes.", action="answer", first_token_ms=30.0, total_ms=40.0),
        Result(third, error="broken"),
        failed,
    ]
    metrics = measure(results, closing=CLOSING, first_names={})
    shown = {name: (metric.value, metric.n) for name, metric in metrics.items()}
    assert shown == {
        "facts": (pytest.approx(2 / 5), 5),
        "citation_hit": (pytest.approx(2 / 5), 5),
        "citation_precision": (pytest.approx((1 + 0.5 + 0 + 0) / 4), 4),  # the declined one cites nothing, rightly
        "abstention": (pytest.approx((3 / 5 + 1 / 3) / 2), 8),
        "style": (pytest.approx(5 / 8), 8),  # not "Yes." without closing, nor the two errors
        "first_token_ms": (10.0, 6),
        "total_ms": (20.0, 6),
        "prompt_tokens": (100.0, 4),
    }


@pytest.mark.parametrize(
    ("positives", "negatives", "area"),
    [([2, 3], [0, 1], 1.0), ([0, 1], [2, 3], 0.0), ([1, 1], [1], 0.5), ([1, 3], [2], 0.5), ([3, 3, 1], [1, 2], 0.75)],
)
def test_auroc_is_the_share_of_pairs_in_order(positives: list[float], negatives: list[float], area: float) -> None:
    assert auroc(positives, negatives) == pytest.approx(area)
