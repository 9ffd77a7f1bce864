"""Renaming: the same word becomes the same other word wherever it stands, and nothing else changes."""

from __future__ import annotations

import random
import re

import pytest

from training.renamed import Renamer

PASSAGE = "Choose **Export**. Exporting the ledger takes 30 minutes; the exported ledger lies in `ledger.csv`."
QUESTION = "how do i get the LEDGER exported, ada@ledger.example?"
OTHERS = ["Harbours hold lanterns, kettles and painted barrels.", "A gardener watered seven orchids beside the chapel."]


def renamed(*texts: str, share: float = 1.0, seed: int = 0) -> list[str]:
    rename = Renamer([PASSAGE, *OTHERS]).draw([PASSAGE], share, random.Random(seed))
    return [rename(text) for text in texts]


def test_a_word_is_renamed_alike_in_every_text_and_form() -> None:
    passage, question = renamed(PASSAGE, QUESTION)
    assert "xport" not in passage + question and "ledger takes" not in passage
    new = re.search(r"the (\w+) takes", passage)
    assert new and new[1].lower() in question.lower()


def test_numbers_addresses_code_and_small_words_stay() -> None:
    passage, question = renamed(PASSAGE, QUESTION)
    assert "30 minutes" in passage and "`ledger.csv`" in passage and "ada@ledger.example" in question
    assert passage.startswith("Choose **") and question.startswith("how do i get the ")


def test_a_capital_stays_a_capital() -> None:
    (passage,) = renamed(PASSAGE)
    found = re.search(r"\*\*(\w+)\*\*", passage)
    assert found and found[1][0].isupper() and found[1] != "Export"


def test_new_words_are_none_of_the_own() -> None:
    for seed in range(20):
        (passage,) = renamed(PASSAGE, seed=seed)
        assert not re.search(r"ledger(?!\.csv)|export|l(?:ies|y) in", passage.lower())


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_only_the_share_is_renamed(share: float) -> None:
    before, (after,) = PASSAGE.split(), renamed(PASSAGE, share=share)
    changed = sum(a != b for a, b in zip(before, after.split(), strict=True))
    assert changed == 0 if share == 0 else 0 < changed < len(before) / 2


def test_the_same_draw_gives_the_same_names() -> None:
    assert renamed(PASSAGE, seed=3) == renamed(PASSAGE, seed=3) != renamed(PASSAGE, seed=4)
