"""A shelf: what a question about an invented company is shown."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from retrieval.documents import Chunk
from tests.stand_ins import HashEmbedder
from training.shelf import Shelf, Wanted


def passage(name: str, text: str) -> Chunk:
    return Chunk(f"help/{name}#0", "help", name, 0, name.title(), "", text, "public")


PASSAGES = [
    passage("returns", "A return is free. Send the lamp back within 30 days. Keep the box."),
    passage("prices", "A lamp costs $40. A shade costs $12."),
    passage("repair", "Repairs take two weeks. Bring the lamp to a shop."),
]
OTHER = {chunk.document: replace(chunk, text=chunk.text.replace("30", "45")) for chunk in PASSAGES}
ASKED = "Within how many days can I send the lamp back?"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf(PASSAGES, HashEmbedder())


def shown(shelf: Shelf, wanted: Wanted, words: int = 8) -> dict[str, str]:
    found = shelf.show(wanted, OTHER, wanted.queries[0], words, random.Random(0))
    return {chunk.document: chunk.text for chunk in found}


def test_the_closest_sentences_are_shown_as_the_scene_has_them(shelf: Shelf) -> None:
    assert shown(shelf, Wanted((ASKED,))) == {"returns": "Send the lamp back within 45 days."}


def test_what_the_answer_rests_on_is_there_even_where_the_search_misses_it(shelf: Shelf) -> None:
    found = shown(shelf, Wanted((ASKED,), answer="A shade costs $12. [prices]"))
    assert "A shade costs $12." in found["prices"]
    both = shown(
        shelf, Wanted((ASKED,), answer="A shade costs $12. [prices] Repairs take two weeks. [repair]"), words=20
    )
    assert "A shade costs $12." in both["prices"] and "Repairs take two weeks." in both["repair"]


def test_a_passage_that_is_away_is_not_shown(shelf: Shelf) -> None:
    assert "returns" in shown(shelf, Wanted((ASKED,)), words=100)
    assert "returns" not in shown(shelf, Wanted((ASKED,), without={"returns"}), words=100)


def test_a_follow_up_is_close_to_what_its_wordings_are_close_to(shelf: Shelf) -> None:
    alone = shelf.closeness(Wanted(("And how long?",)))
    after = shelf.closeness(Wanted(("And how long?", "Repairs take how long?")))
    assert after["repair"].max() > alone["repair"].max()
