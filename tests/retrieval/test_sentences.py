"""Sentences: what a chunk is cut into, and how close the closest is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.documents import Chunk
from retrieval.errors import GenerationError
from retrieval.sentences import SentenceTable, embedded_sentences, excerpts, rated, sentences_of

CHUNK = Chunk("help/a.md#0", "help", "a.md", 0, "Export", "Limits", "Pro has 10,000 rows. Free has 500.", "public")


def texts(text: str) -> list[tuple[str, str]]:
    return [(sentence.lead, sentence.text) for sentence in sentences_of(text)]


def test_head_and_each_sentence_are_embedded_alone() -> None:
    head = "Export > Limits"
    assert embedded_sentences(CHUNK) == [head, f"{head}\nPro has 10,000 rows.", f"{head}\nFree has 500."]


def test_steps_are_one_sentence_with_the_line_that_announces_them() -> None:
    found = texts(
        "Exports are free. Do this:\n\n1. Open **Menu > Export**. Wait.\n2. Choose CSV.\n   Or JSON.\n\nDone."
    )
    steps = "1. Open **Menu > Export**. Wait.\n2. Choose CSV.\nOr JSON."
    assert found == [("", "Exports are free."), ("Do this:", steps), ("", "Done.")]
    assert texts("1. Open it.\n2. Close it.") == [("", "1. Open it.\n2. Close it.")]


def test_a_row_keeps_the_head_of_its_table() -> None:
    found = texts("Limits:\n\n| Plan | Rows |\n|---|---|\n| Pro | 10,000 |\n| Free | 500 |\n\n- An item.\n- Another.")
    rows = [("| Plan | Rows |", "| Pro | 10,000 |"), ("| Plan | Rows |", "| Free | 500 |")]
    assert found == [("", "Limits:"), *rows, ("", "- An item."), ("", "- Another.")]


@pytest.mark.parametrize("text", ["It opens at 2 p.m. on Fridays.", "Use e.g. a comma."])
def test_an_abbreviation_ends_nothing(text: str) -> None:
    assert texts(text) == [("", text)]


@pytest.mark.parametrize("text", ["Yes.", "", "x" * 5000, "| alone |"])
def test_any_text_is_a_sentence(text: str) -> None:
    chunk = replace(CHUNK, title="", heading="", text=text)
    assert [sentence.text for sentence in sentences_of(text)] == [text]
    assert embedded_sentences(chunk) == [text, text]


# Excerpts

LONG = replace(CHUNK, chunk="help/b.md#0", document="b.md", text="One two three. Four five six. Seven eight nine.")


def cut(words: int, *closeness: list[float], question: str = "?") -> list[tuple[str, str]]:
    chunks = [LONG, CHUNK][: len(closeness)]
    found = excerpts(chunks, rated(question, chunks, [np.array(own, dtype=np.float32) for own in closeness]), words)
    return [(chunk.document, chunk.text) for chunk in found]


def test_the_closest_sentences_are_kept_in_the_order_of_the_text() -> None:
    assert cut(6, [0.3, 0.1, 0.9]) == [("b.md", "One two three.\nSeven eight nine.")]
    assert cut(100, [0.3, 0.1, 0.9]) == [("b.md", "One two three.\nFour five six.\nSeven eight nine.")]


def test_chunks_stand_in_the_order_of_their_best_sentence() -> None:
    assert [name for name, _ in cut(100, [0.1, 0.2, 0.1], [0.9, 0.1])] == ["a.md", "b.md"]
    assert cut(4, [0.1, 0.2, 0.1], [0.9, 0.1]) == [("a.md", "Pro has 10,000 rows.")], "b.md has nothing to show"


def test_the_best_sentence_is_shown_however_long_it_is() -> None:
    assert cut(1, [0.1, 0.9, 0.2]) == [("b.md", "Four five six.")]


def test_shared_words_and_the_rank_count_beside_the_cosine() -> None:
    assert cut(3, [0.5, 0.5, 0.5], question="What are seven and eight?") == [("b.md", "Seven eight nine.")]
    assert cut(3, [0.5, 0.5, 0.5], [0.5, 0.5]) == [("b.md", "One two three.")]


def test_steps_count_more() -> None:
    steps = replace(CHUNK, text="One two three.\n\n1. Four five.\n2. Six.")
    for close, shown in ((0.45, "1. Four five.\n2. Six."), (0.3, "One two three.")):
        (found,) = excerpts([steps], rated("?", [steps], [np.array([0.5, close], dtype=np.float32)]), 3)
        assert found.text == shown


def test_a_table_shows_its_head_once() -> None:
    rows = replace(CHUNK, text="| Plan | Rows |\n|---|---|\n| Pro | 10,000 |\n| Free | 500 |")
    (found,) = excerpts([rows], [np.array([0.5, 0.5], dtype=np.float32)], 50)
    assert found.text == "| Plan | Rows |\n| Pro | 10,000 |\n| Free | 500 |"


def test_nothing_found_is_nothing_shown() -> None:
    assert excerpts([], [], 100) == []


def table(folder: Path) -> SentenceTable:
    SentenceTable.build(folder, [2, 1], np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32))
    return SentenceTable(folder, ["a", "b"])


def test_a_sentence_counts_for_the_wording_that_it_is_closest_to(tmp_path: Path) -> None:
    questions = np.array([[1, 0], [0.8, 0.6]], dtype=np.float32)
    first, second = table(tmp_path / "s").closeness(["b", "a"], questions)
    assert first == pytest.approx([0.96], abs=1e-3) and second == pytest.approx([1.0, 0.6], abs=1e-3)
    assert table(tmp_path / "t").closeness(["a"], questions[1:])[0] == pytest.approx([0.8, 0.6], abs=1e-3)


def test_a_generation_without_chunks_has_none(tmp_path: Path) -> None:
    SentenceTable.build(tmp_path / "s", [], np.empty((0, 2), dtype=np.float32))
    assert SentenceTable(tmp_path / "s", []).closeness([], np.ones((1, 2), dtype=np.float32)) == []


@pytest.mark.parametrize("ids", [["a"], ["a", "b", "c"], []])
def test_sentences_of_other_chunks_are_refused(tmp_path: Path, ids: list[str]) -> None:
    table(tmp_path / "s")
    with pytest.raises(GenerationError, match="not those of its chunks"):
        SentenceTable(tmp_path / "s", ids)


@pytest.mark.parametrize("harm", [b"", b"no array"])
def test_damage_is_an_error(tmp_path: Path, harm: bytes) -> None:
    table(tmp_path / "s")
    (tmp_path / "s" / "ends.npy").write_bytes(harm)
    with pytest.raises(GenerationError, match="damaged"):
        SentenceTable(tmp_path / "s", ["a", "b"])


def test_a_word_alone_is_shown_only_where_there_is_nothing_else() -> None:
    first = replace(CHUNK, text="Phone")
    second = replace(CHUNK, text="There is an app for phones. Get it from the store.")
    ratings = [np.array([9.0], np.float32), np.array([1.0, 2.0], np.float32)]
    assert [c.text for c in excerpts([first, second], ratings, 7)] == ["Get it from the store."]
    assert [c.text for c in excerpts([first], ratings[:1], 7)] == ["Phone"]
