"""Nothing of the evaluation is seen in training: no case's question, no document that is held out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from tests.training.conftest import EXAMPLES
from tests.training.test_cases import CASES, documents
from training.conversations import Conversation, Logged, read_conversations
from training.overlap import THRESHOLD, Questions, _hash

HELD_OUT = (EXAMPLES / "eval" / "held_out.txt").read_text(encoding="utf-8").split()
SMALL_TALK = {case.id for case in CASES if case.kind == "greeting"}


@pytest.fixture(scope="module")
def logged() -> list[Conversation]:
    conversations, bad = read_conversations(EXAMPLES / "conversations.jsonl")
    assert bad == []
    return conversations


def questions(conversations: Iterable[Conversation]) -> list[str]:
    asked = (m.content for conversation in conversations for m in conversation.messages if m.role == "user")
    return list(dict.fromkeys(asked))


def hashed(texts: Iterable[str]) -> Any:
    return np.array([_hash(text).hashvalues for text in texts])


def near_duplicates(asked: list[str]) -> list[tuple[str, str]]:
    """Compare every case with every question, without an index that might miss one."""
    rows = hashed(asked)
    found = []
    for case in CASES:
        alike = (rows == hashed([case.question])).mean(axis=1)
        found += [(case.id, asked[n]) for n in np.flatnonzero(alike > THRESHOLD)]
    return found


def test_there_are_220_cases_and_25_held_out_documents() -> None:
    assert len(CASES) == 220
    assert len(HELD_OUT) == len(set(HELD_OUT)) == 25


def test_held_out_documents_exist_and_can_be_found_by_customers() -> None:
    assert set(HELD_OUT) <= set(documents())
    assert all(name.startswith("help/") for name in HELD_OUT)


def test_unseen_cases_rest_on_held_out_documents_and_seen_ones_do_not() -> None:
    for case in CASES:
        held_out = set(case.documents) & set(HELD_OUT)
        if case.id.startswith("unseen") and case.documents:
            assert held_out, case.id
        if case.id.startswith("seen"):
            assert not held_out, case.id
    assert {name for case in CASES for name in case.documents} >= set(HELD_OUT), "a held-out document that nobody asks"


def test_no_logged_reply_rests_on_a_held_out_document(logged: list[Conversation]) -> None:
    rested = {name for c in logged for m in c.messages for name in m.documents}
    assert rested and rested.isdisjoint(HELD_OUT)
    assert rested <= set(documents())


def test_no_logged_reply_quotes_a_held_out_document(logged: list[Conversation]) -> None:
    """Not a whole line of one, front matter and short lines aside."""
    said = " ".join(m.content for c in logged for m in c.messages if m.role == "assistant").replace("**", "")
    others = "\n".join(text for name, text in documents().items() if name not in HELD_OUT)
    for name in HELD_OUT:
        lines = [line.strip(" -0123456789.").replace("**", "") for line in documents()[name].splitlines()]
        quoted = [line for line in lines if len(line) > 60 and line in said and line not in others]
        assert quoted == [], name


def test_no_case_is_asked_in_the_conversations(logged: list[Conversation]) -> None:
    asked = questions(logged)
    assert len(asked) > 100
    assert [pair for pair in near_duplicates(asked) if pair[0] not in SMALL_TALK] == []
    known = Questions(case.question for case in CASES if case.id not in SMALL_TALK)
    assert [question for question in asked if known.like(question)] == []


def test_no_case_is_left_in_grown_conversations_after_the_filter(grown: list[Conversation]) -> None:
    cases = Questions(case.question for case in CASES)
    asked = questions(grown)
    kept = [question for question in asked if cases.like(question) is None]
    assert near_duplicates(kept) == [], "the index of the filter misses some"
    assert len(asked) > 1500 and len(kept) > 0.97 * len(asked), "other companies are asked other things"


def test_no_case_is_a_near_duplicate_of_another_part() -> None:
    """Else what is unseen is measured on what was seen."""
    parts = {part: [c.question for c in CASES if c.id.startswith(part)] for part in ("seen", "unseen")}
    seen = Questions(parts["seen"])
    assert [question for question in parts["unseen"] if seen.like(question)] == []


def test_nothing_of_the_worked_example_is_in_the_invented_companies(grown: list[Conversation]) -> None:
    company = json.dumps([c.model_dump() for c in grown]).lower()
    assert "brightfold" not in company


def test_a_leak_would_be_noticed() -> None:
    case = next(case for case in CASES if case.kind == "answerable")
    message = Logged(role="user", content=case.question.upper())
    assert near_duplicates(questions([Conversation(conversation_id="c1", messages=(message,))]))[0][0] == case.id
