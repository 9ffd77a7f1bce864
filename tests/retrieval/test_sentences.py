"""Sentences: what a chunk is cut into, and how close the closest is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.documents import Chunk
from retrieval.errors import GenerationError
from retrieval.sentences import SentenceTable, sentences_of

CHUNK = Chunk("help/a.md#0", "help", "a.md", 0, "Export", "Limits", "Pro has 10,000 rows. Free has 500.", "public")


def test_title_and_each_sentence_stand_alone() -> None:
    head = "Export > Limits"
    assert sentences_of(CHUNK) == [head, f"{head}\nPro has 10,000 rows.", f"{head}\nFree has 500."]


def test_items_and_rows_are_sentences_and_signs_are_none() -> None:
    text = "Do this:\n\n1. Open **Menu > Export**.\n2. Choose CSV.\n\n| Plan | Rows |\n|---|---|\n| Pro | 10,000 |"
    found = [sentence.partition("\n")[2] for sentence in sentences_of(replace(CHUNK, text=text))]
    assert "Open **Menu > Export**." in found or "1. Open **Menu > Export**." in found
    assert "| Pro | 10,000 |" in found and "|---|---|" not in found and "1." not in found


@pytest.mark.parametrize("text", ["Yes.", "", "x" * 5000])
def test_a_chunk_without_a_head_has_a_sentence(text: str) -> None:
    assert sentences_of(replace(CHUNK, title="", heading="", text=text)) == [text]


def table(folder: Path) -> SentenceTable:
    SentenceTable.build(folder, [2, 1], np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32))
    return SentenceTable(folder, ["a", "b"])


def test_the_closest_sentence_counts_for_the_closest_wording(tmp_path: Path) -> None:
    questions = np.array([[1, 0], [0.8, 0.6]], dtype=np.float32)
    assert table(tmp_path / "s").closeness(["b", "a"], questions) == pytest.approx([0.96, 1.0], abs=1e-3)
    assert table(tmp_path / "t").closeness(["a"], questions[1:]) == pytest.approx([0.8], abs=1e-3)


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
