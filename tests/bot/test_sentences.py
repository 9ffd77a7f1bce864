"""Cutting a growing answer into units: nothing lost, nothing cut in the wrong place, however the pieces fall."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.sentences import units

ANSWER = (
    "Hi Ada,\n\nOpen **Settings > Export**. [1] Choose CSV, e.g. for Excel. [1] [2]\n\n"
    '1. Select "Start!" [3]\n2. Wait.\n\nVersion 5.9.2 costs $12.50 per user. Anything else?'
)
TEXTS = st.one_of(
    st.just(ANSWER),
    st.text(alphabet=" \n\t.!?[]()*_\"'0123456789aBe,é😊", max_size=60),
    st.lists(st.sampled_from(["Yes.", " [1]", " [12]", "\n", "1. ", "e.g. ", "So?", " ", "[", "No", "!*"])).map(
        "".join
    ),
)


def split(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    return [text[a:b] for a, b in zip(places, places[1:], strict=False)]


def whole(pieces: list[str]) -> list[str]:
    return [unit for unit in units(pieces) if unit]


@given(TEXTS, st.lists(st.integers(min_value=0)))
def test_the_units_joined_are_the_pieces_joined(text: str, cuts: list[int]) -> None:
    assert "".join(units(split(text, cuts))) == text


@given(TEXTS, st.lists(st.integers(min_value=0)))
def test_the_units_do_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    assume("][" not in text)  # see the expected failure below
    assert whole(split(text, cuts)) == whole([text])


def test_adjoining_markers_split_over_pieces_stay_together() -> None:
    assert whole(["One. [1][", "2] Two."]) == ["One. [1][2] ", "Two."]


@pytest.mark.parametrize(
    "sentence",
    [
        "Use a spreadsheet, e.g. Excel or i.e. anything alike.",
        "Ask Mr. Moran or Dr. Byron.",
        "It costs $12.50 in version 5.9.2.",
        "Write to help@example.com or see https://example.com/a.html for more.",
        "1. Open the settings.",
        "12. Open the settings.",
        pytest.param(
            "Select the **...** menu and choose Export.",
        ),
    ],
)
def test_a_sentence_stays_whole(sentence: str) -> None:
    assert whole([sentence, " Then go on."]) == [sentence + " ", "Then go on."]


def test_sentences_lines_and_list_items_are_units() -> None:
    assert whole(["First. Second! Third?\n- one\n- two\n"]) == ["First. ", "Second! ", "Third?\n", "- one\n", "- two\n"]


@pytest.mark.parametrize("pieces", [["One.", " [", "1", "]", " Two."], ["One. [1", "] Two."], ["One.", " [1] Two."]])
def test_a_marker_behind_a_sentence_belongs_to_it(pieces: list[str]) -> None:
    assert whole(pieces) == ["One. [1] ", "Two."]


def test_a_unit_comes_as_soon_as_the_next_one_begins() -> None:
    stream = units(iter(["First. ", "Se", "cond"]))
    assert [next(stream) for _ in range(2)] == ["", "First. "]


def test_every_piece_gives_a_sign_of_life() -> None:
    assert list(units(["a", "b", "c"])) == ["", "", "", "abc"]
