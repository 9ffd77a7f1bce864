"""The lexical index: BM25 as computed by hand, ties by id, the same after loading."""

from __future__ import annotations

from math import log
from pathlib import Path

import pytest

from retrieval.lexical import LexicalIndex
from tests.retrieval.world import sentences

# Lengths 2, 4 and 3 words, 3 on average; "apple" stands in two of three, "cherry" in two, "date" in one.
IDS = ["a", "b", "c"]
TEXTS = ["apple banana", "apple apple cherry date", "cherry banana melon"]


@pytest.fixture
def index() -> LexicalIndex:
    return LexicalIndex.build(IDS, TEXTS)


def bm25(frequency: int, length: int, documents_with: int) -> float:
    idf = log(1 + (3 - documents_with + 0.5) / (documents_with + 0.5))
    return idf * frequency / (frequency + 1.2 * (1 - 0.75 + 0.75 * length / 3))


def test_scores_are_those_of_bm25(index: LexicalIndex) -> None:
    assert bm25(2, 4, 2) == pytest.approx(0.470004 * 2 / 3.5, abs=1e-6)  # the formula above, by hand
    found = index.search("apple", 10)
    assert [name for name, _ in found] == ["b", "a"]
    assert [score for _, score in found] == pytest.approx([bm25(2, 4, 2), bm25(1, 2, 2)], rel=1e-5)


def test_the_scores_of_several_words_add_up(index: LexicalIndex) -> None:
    found = dict(index.search("date cherry", 10))
    assert found == pytest.approx({"b": bm25(1, 4, 1) + bm25(1, 4, 2), "c": bm25(1, 3, 2)}, rel=1e-5)


def test_words_are_stemmed_and_their_case_does_not_count(index: LexicalIndex) -> None:
    assert index.search("APPLES", 10) == index.search("apple", 10)


def test_only_chunks_with_a_common_word_are_found(index: LexicalIndex) -> None:
    assert [name for name, _ in index.search("melon zebra", 10)] == ["c"]
    assert index.search("zebra", 10) == []
    assert index.search("the and of", 10) == []
    assert index.search("?!", 10) == []


def test_ties_are_broken_by_id_at_the_cut_too() -> None:
    ids = ["e", "b", "d", "a", "c"]
    index = LexicalIndex.build(ids, ["refund policy"] * 5)
    assert [name for name, _ in index.search("refund", 3)] == ["a", "b", "c"]


def test_a_loaded_index_answers_as_the_one_that_was_saved(tmp_path: Path) -> None:
    ids = [f"c{number}" for number in range(50)]
    built = LexicalIndex.build(ids, [sentences(number, 4) for number in range(50)])
    built.save(tmp_path / "index")
    loaded = LexicalIndex.load(tmp_path / "index", ids)
    for seed in range(20):
        question = sentences(1000 + seed, 1)
        assert loaded.search(question, 10) == built.search(question, 10) != []


@pytest.mark.parametrize("texts", [[], ["the", "?"]])
def test_an_index_without_words_finds_nothing_and_can_be_saved(tmp_path: Path, texts: list[str]) -> None:
    ids = [str(number) for number in range(len(texts))]
    built = LexicalIndex.build(ids, texts)
    built.save(tmp_path / "index")
    assert built.search("apple", 5) == LexicalIndex.load(tmp_path / "index", ids).search("apple", 5) == []
