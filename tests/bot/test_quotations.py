"""Quotations: what passages say beyond what was said, in a form that reads."""

from __future__ import annotations

import pytest

from bot.verify import Quotable, Verifier
from prompts.messages import Passage, Prompt
from retrieval.sentences import sentences_of


def passage(n: int, text: str) -> Passage:
    return Passage(n, "help", f"{n}.md", f"help/{n}.md#0", "Title", "", text)


def quoted(texts: list[str], words: int, said: str = "") -> tuple[str, tuple[int, ...]]:
    passages = tuple(passage(n, text) for n, text in enumerate(texts, start=1))
    prompt = Prompt((), passages, "", (), "Question?")
    verifier = Verifier(prompt, checked=True, own_history=False, small_talk=False)
    assert "".join(verifier.shown([said])) == "" or said
    quotable = [Quotable(p.n, place, sentence) for p in passages for place, sentence in enumerate(sentences_of(p.text))]
    return verifier.quote(quotable, words), verifier.cited


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("One thing is so.\nAnother is not.", "One thing is so. Another is not. [1]"),
        ("Do this:\n1. Open it.\n2. Close it.", "Do this:\n1. Open it.\n2. Close it. [1]"),
        ("- red\n- blue", "- red\n- blue [1]"),
        ("| Plan | Price | Seats |\n| Pro | $12 | 20 |", "Pro: Price $12, Seats 20. [1]"),
        ("| | Pro | Max |\n| Price | $12 | $24 |", "Price: Pro $12, Max $24. [1]"),
        ("| Code |\n| E7 |", "E7. [1]"),
    ],
)
def test_a_quotation_reads_like_text(text: str, quote: str) -> None:
    assert quoted([text], 40) == (quote, (1,))


def test_it_ends_when_enough_is_said() -> None:
    first, second = "Cats sleep all day long.", "Dogs bark at night."
    assert quoted([first, second], 5) == (f"{first} [1]", (1,))
    assert quoted([first, second], 6) == (f"{first} [1]\n\n{second} [2]", (1, 2))


def test_what_would_make_it_much_longer_is_left_out() -> None:
    assert quoted(["Cats sleep all day long.", "word " * 60 + "end."], 10)[1] == (1,)


def test_what_was_said_is_not_said_again_unless_its_figures_differ() -> None:
    passages = ["Pro costs $12 a month. Max costs $24 a month. Tax is added."]
    quote, _ = quoted(passages, 60, said="Pro costs $12 a month. ")
    assert quote == "Max costs $24 a month. Tax is added. [1]"


def test_the_best_sentence_comes_first_and_what_is_kept_stands_in_the_order_of_its_passage() -> None:
    first, second = sentences_of("Open the page. Choose Export."), sentences_of("Exports take an hour.")
    best_first = [Quotable(2, 0, second[0]), Quotable(1, 1, first[1]), Quotable(1, 0, first[0])]
    verifier = Verifier(Prompt((), (), "", (), "Question?"), checked=True, own_history=False, small_talk=False)
    assert verifier.quote(best_first, 40) == "Exports take an hour. [2]\n\nOpen the page. Choose Export. [1]"
    assert verifier.cited == (2, 1)
