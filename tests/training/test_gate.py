"""The gate: what speaks against a candidate, what does not, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from training.cases import Case
from training.forgetting import Forgetting
from training.forgetting import Tested as OneSet  # pytest takes a name that begins with Test for tests
from training.gate import MAX_RECITED, MAX_SLOWDOWN, MIN_FOLLOWED, Replies, Side, Verdict, judge
from training.metrics import Metric, Result
from training.probe import Probe
from training.style import MAX_WORDS

CLOSING = "Anything else?"
RIGHT, WRONG = f"It is red.\n\n{CLOSING}", f"It is blue.\n\n{CLOSING}"
CITED = f"It is red. [1]\n\n{CLOSING}"
DECLINE = "I do not know that. Shall I ask a colleague?"
FORGOTTEN = Forgetting((OneSet("arc", 9, 0.5, 0.5, Metric(0.0, -0.1, 0.1, 9)),), Metric(0.0, -0.1, 0.1, 9))
ASKED = 100


def result(
    n: int, text: str = RIGHT, action: str = "answer", *, of: dict[str, Any] | None = None, **own: Any
) -> Result:
    """Answer case `n`, one with a fact and without documents unless `of` says otherwise."""
    case = Case(**{"id": f"c{n}", "question": "Which colour?", "answerable": True, "facts": ("red",)} | (of or {}))
    return Result(case, text, action, **own)


def cited(n: int, *documents: str) -> Result:
    return result(n, CITED, documents=documents, of={"documents": ("help/a.md",)})


def unanswerable(n: int, text: str, action: str) -> Result:
    return result(n, text, action, of={"answerable": False, "facts": ()})


def right_in(right: int, n: int) -> list[Result]:
    return [result(i, RIGHT if i < right else WRONG) for i in range(n)]


def judged(after: list[Result], before: list[Result], margin: float = 3.0, **beside: Any) -> Verdict:
    names = {"customer-1": "Maria"}
    candidate, current = Side("tandem-2", after), Side("tandem-1", before)
    return judge(candidate, current, closing=CLOSING, first_names=names, margin=margin, **beside)


def without_cases(**beside: Any) -> Verdict:
    return judge(None, None, closing=CLOSING, first_names={}, margin=3.0, **beside)


# ---------------------------------------------------------------- the same cases


def test_a_loss_of_facts_is_said_with_both_shares() -> None:
    verdict = judged(right_in(7, 10), right_in(9, 10))
    assert not verdict.passed
    assert verdict.reasons == ("right facts fell from 90.0% to 70.0% on the same cases",)
    assert verdict.verdict == f"The candidate does not pass: {verdict.reasons[0]}."


@pytest.mark.parametrize(
    ("lost", "n", "margin", "passed"),
    [
        (0, 10, 0.0, True),
        (1, 100, 3.0, True),
        (1, 10, 10.0, True),
        (1, 10, 9.9, False),  # chance explains it, but no more than the margin may be lost
        (15, 100, 20.0, False),  # within the margin, but chance does not explain it
    ],
)
def test_what_may_be_lost(lost: int, n: int, margin: float, passed: bool) -> None:
    assert judged(right_in(n - lost, n), right_in(n, n), margin).passed is passed


def test_as_many_cases_won_as_lost_are_no_loss() -> None:
    half = right_in(5, 10)
    other_half = [result(n, WRONG if n < 5 else RIGHT) for n in range(10)]
    assert judged(other_half, half).passed


@pytest.mark.parametrize(
    ("after", "before", "reasons"),
    [
        (
            [cited(1, "help/a.md"), cited(2, "help/x.md")],
            [cited(1, "help/a.md"), cited(2, "help/a.md")],
            ["citing the right document fell from 100.0% to 50.0%", "citation precision fell from 100.0% to 50.0%"],
        ),
        (
            [cited(1, "help/a.md"), cited(2, "help/a.md", "help/x.md")],
            [cited(1, "help/a.md"), cited(2, "help/a.md")],
            ["citation precision fell from 100.0% to 75.0%"],
        ),
        (
            [result(1), unanswerable(2, RIGHT, "answer")],
            [result(1), unanswerable(2, DECLINE, "decline")],
            ["abstention fell from 100.0% to 50.0%"],
        ),
        (
            [result(1), result(2, "It is red.")],
            [result(1), result(2)],
            ["style fell from 100.0% to 50.0%", "rules most often broken: closing line (1 of 2)"],
        ),
    ],
)
def test_what_fell_is_named(after: list[Result], before: list[Result], reasons: list[str]) -> None:
    assert [reason.removesuffix(" on the same cases") for reason in judged(after, before).reasons] == reasons


def test_both_shares_of_a_reason_are_over_the_cases_in_common() -> None:
    """Precision has only answers: declining what was cited well must not read as a rise."""
    before = [cited(0, "help/a.md"), cited(1, "help/a.md"), cited(2, "help/x.md"), cited(3, "help/x.md")]
    declined = [result(n, DECLINE, "decline", of={"documents": ("help/a.md",)}) for n in (2, 3)]
    verdict = judged([cited(0, "help/a.md", "help/x.md"), cited(1, "help/a.md"), *declined], before)
    assert any("citation precision fell from 100.0% to 75.0%" in reason for reason in verdict.reasons)


def test_errors_are_named() -> None:
    verdict = judged([result(n, error="ModelError: broken") for n in range(4)], right_in(4, 4))
    assert "4 of 4 answers failed, the first with: ModelError: broken" in verdict.reasons
    assert not any("rules most often broken" in reason for reason in verdict.reasons)


def test_errors_count_as_wrong() -> None:
    failed = [result(n, RIGHT, error="ModelError: broken") for n in range(2)]
    verdict = judged([*failed, result(2), result(3)], right_in(4, 4))
    assert "right facts fell from 100.0% to 50.0% on the same cases" in verdict.reasons
    assert "style fell from 100.0% to 50.0% on the same cases" in verdict.reasons


def test_the_three_rules_broken_most_often_are_named() -> None:
    texts = [
        "Hi Maria, it is red.",
        "Hi Maria, great question! It is red.",
        "Great question! It is red.",
        "Great question! It is red." + " word" * MAX_WORDS,
    ]
    known = {"customer": "customer-1"}
    after = [result(n, text, of=known) for n, text in enumerate(texts)]
    before = [result(n, f"Hi Maria, it is red. {CLOSING}", of=known) for n in range(4)]
    rules = "closing line (4 of 4), answer first (3 of 4), greeting (2 of 4)"
    assert judged(after, before).reasons[1:] == (f"rules most often broken: {rules}",)


def test_style_that_was_no_better_before_is_no_loss() -> None:
    careless = [result(n, "It is red.") for n in range(4)]
    assert judged(careless, careless).passed


@pytest.mark.parametrize(
    ("took", "took_before", "reasons"),
    [
        (100 * MAX_SLOWDOWN, 100.0, ()),
        (100 * MAX_SLOWDOWN + 1, 100.0, ("an answer takes 151 ms instead of 100",)),
        (50.0, 100.0, ()),
        (None, 100.0, ()),
        (500.0, None, ()),
    ],
)
def test_slow_answers(took: float | None, took_before: float | None, reasons: tuple[str, ...]) -> None:
    after, before = ([result(n, total_ms=ms) for n in range(3)] for ms in (took, took_before))
    assert judged(after, before).reasons == reasons


def test_a_metric_without_cases_speaks_neither_for_nor_against() -> None:
    verdict = judged(right_in(4, 4), right_in(4, 4))
    nothing = {name for name, change in verdict.differences.items() if change.value is None}
    assert verdict.passed and nothing == {"citation_hit", "citation_precision", "abstention"}


# ---------------------------------------------------------------- what stands beside the cases


def test_what_was_forgotten_is_passed_on() -> None:
    reason = "general knowledge fell (-5.0 points)"
    verdict = without_cases(forgetting=FORGOTTEN, forgets=reason)
    assert (verdict.passed, verdict.reasons, verdict.forgetting) == (False, (reason,), FORGOTTEN)
    assert without_cases(forgetting=FORGOTTEN).passed


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Probe(ASKED, round(MAX_RECITED * ASKED), ASKED, ASKED), []),
        (Probe(ASKED, round(MAX_RECITED * ASKED) + 1, ASKED, ASKED), ["recites", "11 of 100"]),
        (Probe(ASKED, 0, ASKED, round(MIN_FOLLOWED * ASKED)), []),
        (Probe(ASKED, 0, ASKED, round(MIN_FOLLOWED * ASKED) - 1), ["does not follow edited passages", "79 of 100"]),
        (Probe(0, 0, 0, 0), []),
    ],
)
def test_the_limits_of_the_probe(found: Probe, said: list[str]) -> None:
    verdict = without_cases(probe=found)
    assert verdict.passed is not bool(said) and len(verdict.reasons) == bool(said)
    assert all(words in verdict.verdict for words in said)


@pytest.mark.parametrize(("chrf", "passed"), [(41.3, True), (38.0, True), (37.0, True), (36.9, False)])
def test_replies_to_unseen_questions_must_not_move_away_from_the_logs(chrf: float, passed: bool) -> None:
    verdict = without_cases(replies=Replies(40, chrf, 38.0))
    assert verdict.passed is passed
    assert ("further from the logs than before (chrF 36.9, before 38.0)" in verdict.verdict) is not passed


# ---------------------------------------------------------------- in words and as values


def test_a_pass_says_against_what_and_in_what_it_is_better() -> None:
    verdict = judged(right_in(20, 20), right_in(8, 20))
    assert verdict.passed and verdict.current_name == "tandem-1"
    assert verdict.verdict.startswith("The candidate passes against tandem-1: ")
    assert verdict.verdict.endswith(" It is better in right facts.")


def test_a_gain_that_chance_explains_is_not_claimed() -> None:
    assert "better" not in judged(right_in(10, 10), right_in(9, 10)).verdict


def test_a_gain_does_not_make_up_for_a_loss() -> None:
    after = [result(n, "It is red.") for n in range(10)]
    verdict = judged(after, right_in(0, 10))
    assert verdict.differences["facts"].value == 1.0
    assert not verdict.passed and "better" not in verdict.verdict


def test_all_that_speaks_against_it_is_said_at_once() -> None:
    verdict = judged(
        [result(0, WRONG, total_ms=900.0)],
        [result(0, total_ms=300.0)],
        forgets="general knowledge fell",
        probe=Probe(10, 10, 10, 0),
        replies=Replies(40, 1.0, 9.0),
    )
    beginnings = ["right facts", "an answer takes", "replies", "general knowledge fell", "it recites", "it does not"]
    assert len(verdict.reasons) == len(beginnings)
    assert all(r.startswith(b) for r, b in zip(verdict.reasons, beginnings, strict=True))
    assert all(reason in verdict.verdict for reason in verdict.reasons)


def test_without_cases_nothing_is_compared() -> None:
    verdict = without_cases()
    assert verdict.passed and verdict.verdict.startswith("The candidate passes: ")
    assert (verdict.candidate, verdict.current, verdict.current_name, verdict.differences) == ({}, None, None, {})


def test_the_verdict_is_plain_json() -> None:
    after, before = ([result(n, text, total_ms=9.0) for n in range(2)] for text in (WRONG, RIGHT))
    verdict = judged(after, before, forgetting=FORGOTTEN, probe=Probe(4, 1, 3, 2), replies=Replies(9, 1.0, 1.0))
    plain = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert plain["passed"] is False and plain["reasons"] == list(verdict.reasons)
    assert plain["candidate"]["facts"]["value"] == 0.0 and plain["current"]["facts"]["value"] == 1.0
    assert plain["differences"]["facts"] == {"value": -1.0, "low": -1.0, "high": -1.0, "n": 2}
    assert plain["forgetting"]["sets"][0]["name"] == "arc" and plain["forgetting"]["all"]["n"] == 9
    assert plain["probe"] == {"asked_without": 4, "recited": 1, "asked_edited": 3, "followed": 2}
    assert plain["replies"] == {"n": 9, "chrf": 1.0, "chrf_before": 1.0, "loss": None, "loss_before": None}
