"""The house style: each rule with replies that keep and replies that break it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.training.test_cases import CASES, rows
from training.cases import Case
from training.style import MAX_GREETING_WORDS, MAX_WORDS, RULES, Reply, broken_rules

CLOSING = "Anything else?"
GOOD = f"Hi Maria,\n\nOpen Settings. [1]\n\n{CLOSING}"
HISTORY = ({"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi Maria, yes?"})


def reply(text: str, *, action: str = "answer", name: str | None = "Maria", closing: str = CLOSING, **of: Any) -> Reply:
    case = Case(**{"id": "c", "question": "How do I start?", "answerable": True, "documents": ("help/a.md",)} | of)
    return Reply(text, action, case, closing, name)


def holds(rule: str, text: str, **fields: Any) -> bool:
    return RULES[rule](reply(text, **fields))


def test_a_good_reply_keeps_every_rule() -> None:
    assert broken_rules(reply(GOOD)) == []
    assert broken_rules(reply(f"Open Settings. [1] {CLOSING}", history=HISTORY)) == []
    assert broken_rules(reply("Hi Maria, how can I help?", kind="greeting", documents=())) == []
    assert broken_rules(reply("Hi Maria,\n\nThat is not there. Shall I pass you on?", action="decline")) == []


def test_broken_rules_are_named() -> None:
    steps = reply("Great question! Open Settings." + " word" * MAX_WORDS, procedure=True)
    assert broken_rules(steps) == list(RULES)
    assert broken_rules(reply("  \n", action="decline")) == ["greeting", "closing line", "length"]
    assert broken_rules(reply("", action="handoff")) == ["length"]


@pytest.mark.parametrize(
    ("text", "fields", "kept"),
    [
        (GOOD, {}, True),
        ("\n" + GOOD, {}, True),
        (GOOD.replace("Hi Maria,", "hello maria!"), {}, True),
        (GOOD.replace("Hi Maria,", "Dear Maria."), {}, True),
        (GOOD.replace("Maria", "Mariana"), {}, False),
        (GOOD.replace("Maria", "Bob"), {}, False),
        (GOOD.replace("Hi Maria,", "Hi,"), {}, False),
        (GOOD.replace("Hi Maria,", "Hi Maria Keller,"), {}, False),  # by first name
        ("Open Settings, Maria. [1]", {}, False),
        ("Open Settings. [1]", {"history": HISTORY}, True),
        ("Hi,\n\nOpen Settings. [1]", {"name": None}, True),
        ("Open Settings. [1]", {"name": None}, True),
        ("A colleague will answer.", {"action": "handoff"}, True),
        ("Open Settings.", {"action": "decline"}, False),
        ("Good morning, Maria!", {"kind": "greeting"}, True),
        ("Good morning!", {"kind": "greeting"}, False),
        ("Hi O'Neil-Li, yes. [1]", {"name": "O'Neil-Li"}, True),
        ("Hi Zoë, yes. [1]", {"name": "Zoë"}, True),
    ],
)
def test_the_customer_is_greeted_by_first_name(text: str, fields: dict[str, Any], kept: bool) -> None:
    assert holds("greeting", text, **fields) is kept


@pytest.mark.parametrize(
    ("text", "fields", "kept"),
    [
        ("Open Settings. [1]", {}, True),
        ("Hi Maria,\n\nYes. Open Settings. [1]", {}, True),
        ("Surely it is under Settings. [1]", {}, True),  # "sure" is a word, not a beginning
        ("Question marks are allowed in names. [1]", {}, True),
        ("Great question! Open Settings. [1]", {}, False),
        ("Hi Maria, thank you for asking. Open Settings. [1]", {}, False),
        ("Hi Maria,\n\nthanks for writing. Open Settings.", {}, False),
        ("I would be happy to help. Open Settings.", {}, False),
        ("According to the documentation, it is under Settings. [1]", {}, False),
        ("Based on [1] it is under Settings.", {}, False),
        ("Certainly! Open Settings.", {}, False),
        ("Would you like to start? Open Settings.", {}, False),
        ("How do I start? Open Settings.", {}, False),
        ("how do I start: open Settings.", {}, False),
        ("HOW DO I START. Open Settings.", {}, False),
        ("Would you like to start?", {"action": "follow_up"}, True),
        ("Great question!", {"kind": "greeting"}, True),
    ],
)
def test_the_answer_comes_first(text: str, fields: dict[str, Any], kept: bool) -> None:
    assert holds("answer first", text, **fields) is kept


@pytest.mark.parametrize("text", ["Documentation: open Settings.", "Question: how?", "Customer record:\n- tier: Pro"])
def test_a_prompt_carried_on_is_no_answer(text: str) -> None:
    assert not holds("answer first", text)


@pytest.mark.parametrize(
    ("text", "fields", "kept"),
    [
        ("1. Open Settings.\n2. Press Export.", {"procedure": True}, True),
        ("Do this: [1]\n\n  1) Open Settings.\n  2) Press Export.", {"procedure": True}, True),
        ("Open Settings, then press Export.", {"procedure": True}, False),
        ("- Open Settings.\n- Press Export.", {"procedure": True}, False),
        ("1. Open Settings, then press Export.", {"procedure": True}, False),
        ("Version 1. and 2. are old.", {"procedure": True}, False),
        ("Open Settings.", {}, True),
        ("Which version do you have?", {"procedure": True, "action": "follow_up"}, True),
    ],
)
def test_a_procedure_has_numbered_steps(text: str, fields: dict[str, Any], kept: bool) -> None:
    assert holds("numbered steps", text, **fields) is kept


@pytest.mark.parametrize(
    ("text", "fields", "kept"),
    [
        ("Open Settings. [1]", {}, True),
        ("Open Settings. [12]", {}, True),
        ("Open Settings.", {}, False),
        ("Open Settings. [a] (1) [123]", {}, False),
        ("You are on Pro.", {"documents": ()}, True),
        ("That is not there.", {"action": "decline"}, True),
    ],
)
def test_documentation_is_cited(text: str, fields: dict[str, Any], kept: bool) -> None:
    assert holds("citation marker", text, **fields) is kept


@pytest.mark.parametrize(
    ("text", "fields", "kept"),
    [
        (GOOD, {}, True),
        (GOOD + " \n", {}, True),
        (GOOD.replace(CLOSING, ""), {}, False),
        (f"{CLOSING} {GOOD}", {}, False),
        (f"{GOOD} Bye.", {}, False),
        (GOOD, {"closing": "Call again."}, False),
        ("You are welcome.", {"kind": "greeting"}, True),
        ("A colleague will answer.", {"action": "handoff"}, True),
        ("That is not there. Shall I pass you on?", {"action": "decline"}, True),
        ("That is not there.", {"action": "decline"}, False),
        ("Which one do you mean?", {"action": "follow_up"}, True),
        ("Tell me which one you mean.", {"action": "follow_up"}, False),
    ],
)
def test_the_closing_line_is_said_once_at_the_end(text: str, fields: dict[str, Any], kept: bool) -> None:
    assert holds("closing line", text, **fields) is kept


def test_a_reply_is_brief() -> None:
    for kind, limit in (("", MAX_WORDS), ("greeting", MAX_GREETING_WORDS)):
        assert holds("length", "word " * limit, kind=kind)
        assert not holds("length", "word " * (limit + 1), kind=kind)
    assert not holds("length", " \n ")


def test_the_body_is_what_follows_the_greeting() -> None:
    assert reply(GOOD).body == f"Open Settings. [1]\n\n{CLOSING}"
    assert reply("Open Settings.").body == "Open Settings."
    assert reply("History is kept.").body == "History is kept."


def broken_references(*, ambiguous: bool) -> dict[str, list[str]]:
    names = {row["customer_id"]: row["name"].split()[0] for row in rows("customers.jsonl")}
    closing = "Is there anything else I can help with?"
    broken = {}
    for case in CASES:
        assert case.reference is not None
        action = "answer" if case.answerable else "follow_up" if case.kind == "ambiguous" else "decline"
        said = Reply(case.reference, action, case, closing, names.get(case.customer or ""))
        if (case.kind == "ambiguous") is ambiguous and (found := broken_rules(said)):
            broken[case.id] = found
    return broken


def test_the_references_of_the_eval_keep_the_style() -> None:
    """A rule that a right answer cannot keep would measure nothing."""
    assert broken_references(ambiguous=False) == {}


@pytest.mark.xfail(strict=True, reason="case_056 and seen_075 ask, and end with another sentence")
def test_the_references_of_ambiguous_cases_keep_the_style() -> None:
    assert broken_references(ambiguous=True) == {}
