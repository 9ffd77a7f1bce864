"""Counterfactual copies: numbers change in prompt and answer alike, and nothing else changes."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.messages import Message
from training.counterfactual import changed_numbers, counterfactual
from training.examples import Example

SYSTEM = "You are a support agent. Put the number behind each statement, like [1].\n- End with: More?"
DIGITS = re.compile(r"\d+(?:[.,]\d+)*")


def example(shown: str, answer: str, *history: str) -> Example:
    said = [Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(history)]
    return Example(
        "c1#1", "c1", "How?", (Message("system", SYSTEM), *said, Message("user", shown)), answer, ("help/a.md",)
    )


def copied(shown: str, answer: str, *history: str, seed: int = 0) -> tuple[str, str] | None:
    copy = counterfactual(example(shown, answer, *history), random.Random(seed))
    return (copy.messages[-1].content, copy.answer) if copy else None


def masked(text: str) -> str:
    return re.sub(r"\d", "0", text)


def test_a_number_is_changed_in_evidence_and_answer_alike() -> None:
    shown, answer = copied(
        "[1] Rows\nUp to 24 rows. At most 24.\n\nQuestion: 24?", "24 rows, so 24. [1] It is 24."
    ) or ("", "")
    numbers = set(DIGITS.findall(re.sub(r"\[1\]", "", shown + answer)))
    assert len(numbers) == 1 and numbers != {"24"}, (shown, answer)
    assert masked(shown) == masked("[1] Rows\nUp to 24 rows. At most 24.\n\nQuestion: 24?")
    assert masked(answer) == masked("24 rows, so 24. [1] It is 24.")


@pytest.mark.parametrize(
    "sentence",
    [
        "Up to 24 rows.", "It costs $24.", "It costs $24. More?", "(at most 24) rows", "(24)", "24, or fewer", "24!",
        "It is 24: no more", "about 24 %", "24% off", "“24”", "**24** rows", "at 24\nrows", "| 24 | rows |",
        "€24.50 each", "10,000 rows", "1,250,000.", "a limit of 0.5 GB", "24; 25", "24…",
    ],
)  # fmt: skip
def test_numbers_that_are_changed(sentence: str) -> None:
    shown, answer = copied(f"[1] Rows\n{sentence}", f"{sentence} [1]") or ("", "")
    assert shown == f"[1] Rows\n{answer[: -len(' [1]')]}"
    assert masked(answer) == masked(f"{sentence} [1]") and answer != f"{sentence} [1]"
    assert not set(DIGITS.findall(answer[:-4])) & set(DIGITS.findall(sentence))


@pytest.mark.parametrize(
    "text",
    [
        "See [1] and [2].", "see [12]", "Both say so. [1, 2]", "1. Open it.\n2. Close it.",
        "  1) Open it.\n  12) Close it.",
        "On 2026-05-02 it ends.", "On 02/05/2026.", "On 5 May 2026.", "On May 5, 2026.", "by March 15", "in June 2026",
        "until 31 Dec 2026", "At 10:30.", "from 9 a.m. to 5 pm", "https://a.example/v2/24?limit=24&x=24#24",
        "(https://24.example/24)", "write to team24@a.example", "24@a.example", "24.day@a24.example",
        "version 2.4-beta", "the B24",
        "a 24-hour day", "24h", "24th", "1.2.3-4", "x_24", "host:8080",
    ],
)  # fmt: skip
def test_what_is_no_number_stays(text: str) -> None:
    assert copied(f"[1] About\n{text}", f"{text} [1]") is None
    both = copied(f"[1] About\n{text}\nAnd 777 rows.", f"{text} [1] 777 rows.")
    assert both is not None
    shown, answer = both
    assert shown.startswith(f"[1] About\n{text}\nAnd ") and answer.startswith(f"{text} [1] ")
    assert "777" not in shown + answer


def test_a_number_that_is_not_shown_stays() -> None:
    assert copied("[1] Rows\nUp to 24 rows.", "You have 25 rows. [1]") is None
    shown, answer = copied("[1] Rows\nUp to 24 rows.", "You have 25 of 24 rows.") or ("", "")
    assert "have 25 of" in answer and "24" not in shown + answer


def test_a_number_of_the_evidence_that_the_answer_does_not_take_stays() -> None:
    shown, _ = copied("[1] Rows\nUp to 24 rows on Pro, 50 rows on Business.", "24 rows. [1]") or ("", "")
    assert "50 rows on Business" in shown and "24" not in shown


def test_a_number_written_in_another_way_too_stays() -> None:
    """Else the evidence would say 24-hour and 73 hours."""
    assert copied("[1] Support\nA 24-hour line: 24 hours a day.", "It is open 24 hours a day. [1]") is None
    assert copied("[1] Support\nIt is open 24 hours a day.", "It is a 24-hour line, 24 hours a day. [1]") is None


def test_step_numbers_stay_where_the_same_number_is_changed() -> None:
    text = "1. Wait 2 days.\n2. Press Export."
    shown, answer = copied(f"[1] Export\n{text}", f"{text} [1]") or ("", "")
    new = re.fullmatch(r"1\. Wait (\d) days\.\n2\. Press Export\. \[1\]", answer)
    assert new is not None and new[1] not in "12"
    assert shown == f"[1] Export\n1. Wait {new[1]} days.\n2. Press Export."


def test_what_was_said_before_changes_too() -> None:
    before = ("May I add 24 rows?", "Yes, 24 rows are allowed.")
    copy = counterfactual(example("[1] Rows\n24 rows. 30 columns.", "24 rows. [1]", *before), random.Random(0))
    assert copy is not None
    assert all("24" not in message.content for message in copy.messages) and "24" not in copy.answer
    assert copy.messages[0].content == SYSTEM


def test_a_new_number_stands_nowhere_else() -> None:
    others = " ".join(str(n) for n in range(10, 100) if n != 24 and n not in range(50, 60))
    shown, answer = copied(f"[1] Rows\n24 rows.\n\nQuestion: {others}", "24 rows. [1]") or ("", "")
    assert answer[0] == "5" and f"Rows\n{answer[:2]} rows." in shown
    history = copied("[1] Rows\n24 rows.", "24 rows. [1]", others, "So?")
    assert history is not None and history[1][0] == "5"


def test_where_no_other_number_is_left_there_is_no_copy() -> None:
    digits = " ".join("123456789")
    assert copied(f"[1] Rows\n{digits}", "7 rows. [1]") is None
    shown, answer = copied(f"[1] Rows\n{digits} 24", "7 or 24 rows. [1]") or ("", "")
    assert answer.startswith("7 or ") and "24" not in answer and shown.startswith(f"[1] Rows\n{digits} ")


def test_the_copy_is_told_apart_and_the_same_for_the_same_seed() -> None:
    made = example("[1] Rows\n24 rows.", "24 rows. [1]")
    first, again = (counterfactual(made, random.Random(1)) for _ in range(2))
    assert first is not None and first == again
    assert (first.id, first.conversation, first.question, first.documents) == ("c1#1~", "c1", "How?", ("help/a.md",))
    assert first != counterfactual(made, random.Random(2))
    assert made.answer == "24 rows. [1]"


def test_changed_numbers_are_told() -> None:
    made = example("[1] Rows\n24 rows, 3 files, 9 GB.", "1. Up to 24 rows, 24 at most.\n2. 3 files. [1] 8 more.")
    copy = counterfactual(made, random.Random(0))
    assert copy is not None
    (old, new), (other, another) = changed_numbers(made, copy)
    assert (
        (old, other) == ("24", "3")
        and f"Up to {new} rows, {new} at most" in copy.answer
        and f" {another} files" in copy.answer
    )


# Any text

NUMBERS = st.one_of(st.integers(0, 99_999).map(str), st.sampled_from(["1,000", "0.5", "12.50", "10,000"]))
PIECES = st.one_of(
    NUMBERS.map(lambda n: f"{n} rows. "),
    NUMBERS.map(lambda n: f"It costs ${n}.\n"),
    st.sampled_from(
        ["[1] ", "\n1. Open it.\n2. Close it.\n", "On 2026-05-02. ", "by 5 May 2026, ", "a 24-hour line ", "at 10:30 "]
    ),
    st.sampled_from(["https://a.example/24?x=5 ", "Open **Settings**. ", "\n\n", "team7@a.example ", "(5) ", "99 % "]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 9))
def test_a_copy_says_the_same_of_other_numbers(shown: str, said: str, extra: str, seed: int) -> None:
    made = example(shown + extra, said + extra, said, shown)
    copy = counterfactual(made, random.Random(seed))
    if copy is None:
        return
    old = [*(m.content for m in made.messages), made.answer]
    new = [*(m.content for m in copy.messages), copy.answer]
    assert [masked(text) for text in new] == [masked(text) for text in old], "only digits change"
    assert [m.role for m in copy.messages] == [m.role for m in made.messages]
    pairs = [p for a, b in zip(old, new, strict=True) for p in zip(DIGITS.findall(a), DIGITS.findall(b), strict=True)]
    changed = {(a, b) for a, b in pairs if a != b}
    assert changed and changed == set(changed_numbers(made, copy))
    assert len({a for a, _ in changed}) == len({b for _, b in changed}) == len(changed), "one number becomes one other"
    kept = re.compile(r"\[\d\]|^\d\. |\d{4}-\d\d-\d\d|\d May 2026|24-hour|\d\d:\d\d|https\S+|\w+@\S+", re.MULTILINE)
    stood = {number for text in old for number in DIGITS.findall(kept.sub(" ", text))}
    assert not {b for _, b in changed} & stood, "a new number stood nowhere before"
    assert [kept.findall(text) for text in new] == [kept.findall(text) for text in old]
