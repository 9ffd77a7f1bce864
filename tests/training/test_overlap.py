"""Near-duplicate questions: found as a comparison of all pairs finds them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.overlap import _SHINGLE, THRESHOLD, Questions, _hash

QUESTIONS = (
    "How do I export my data as CSV?",
    "What does the Pro plan cost per year?",
    "Can I change the email address of my account?",
    "my webhook gets no deliveries since yesterday",
)


def shingles(text: str) -> set[str]:
    plain = " ".join("".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split())
    return {plain[i : i + _SHINGLE] for i in range(max(1, len(plain) - _SHINGLE + 1))}


def jaccard(a: str, b: str) -> float:
    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)


@pytest.mark.parametrize(
    ("asked", "like"),
    [
        *((question, question) for question in QUESTIONS),
        ("HOW do I export -- my data, as 'csv'", QUESTIONS[0]),
        ("How do I export my data as a CSV?", QUESTIONS[0]),
        ("So what does the Pro plan cost per year?", QUESTIONS[1]),
        ("How do I import contacts?", None),
        ("What does the Business plan include?", None),
        ("", None),
        ("?", None),
    ],
)
def test_a_question_worded_nearly_alike_is_found(asked: str, like: str | None) -> None:
    assert Questions(QUESTIONS).like(asked) == like


def test_nothing_is_like_nothing() -> None:
    assert Questions([]).like("How?") is None


def test_the_most_similar_one_is_named() -> None:
    near = "Can I change the email address of my accounts?"
    assert Questions([*QUESTIONS, near]).like(near) == near
    assert Questions([near, *QUESTIONS]).like(QUESTIONS[2]) == QUESTIONS[2]


def test_questions_may_come_twice_and_from_an_iterator() -> None:
    assert Questions(iter([*QUESTIONS, *QUESTIONS])).like(QUESTIONS[0]) == QUESTIONS[0]


def test_a_threshold_of_its_own() -> None:
    near = "How do I export my data as PDF file?"
    assert 0.4 < jaccard(near, QUESTIONS[0]) < 0.9
    assert Questions(QUESTIONS, threshold=0.4).like(near) == QUESTIONS[0]
    assert Questions(QUESTIONS, threshold=0.95).like(near) is None


@given(st.text(max_size=60))
def test_every_text_is_like_itself(text: str) -> None:
    assert Questions([text]).like(text) == text


@given(st.text("abc ", max_size=60), st.text("abc ", max_size=60))
def test_the_estimate_is_near_the_true_similarity(a: str, b: str) -> None:
    """The standard error is sqrt(J(1-J)/128), 0.044 at most."""
    assert _hash(a).jaccard(_hash(b)) == pytest.approx(jaccard(a, b), abs=5 * 0.0442)


def variants(seed: int, count: int) -> list[str]:
    """Change words of questions: some copies stay close, others do not."""
    draw = random.Random(seed)
    words = sorted({word for question in QUESTIONS for word in question.split()})
    made = []
    for _ in range(count):
        said = draw.choice(QUESTIONS).split()
        for _ in range(draw.randrange(5)):
            said[draw.randrange(len(said))] = draw.choice(words)
        made.append(" ".join(said))
    return made


def test_the_index_misses_next_to_none() -> None:
    asked, known = variants(1, 400), list(dict.fromkeys(variants(2, 60)))
    index = Questions(known)
    hashes = {text: _hash(text) for text in known}
    found = missed = wrong = 0
    for question in asked:
        own = _hash(question)
        alike = any(own.jaccard(value) > THRESHOLD for value in hashes.values())
        like = index.like(question)
        found += like is not None
        missed += alike and like is None
        wrong += like is not None and own.jaccard(hashes[like]) <= THRESHOLD
    assert found > 100 and wrong == 0
    assert missed <= found * 0.01
