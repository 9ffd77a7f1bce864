"""Checking sentences against what was shown, and tying each to the passage that supports it."""

from __future__ import annotations

import pytest

from bot.grounding import Checked, Grounding
from prompts.messages import Message, Passage, Prompt

SEATS = "Pro has up to 100 seats. Each seat costs $12 per month, and yearly payment saves 15 % of the price."
EXPORT = "Export the workspace under Settings > Data > Export. Files up to 1,000 MB are kept for 14 days."
CONTACT = "Write to billing@example.com, or read https://example.com/refunds about refunds."
RECORD = "Customer record:\n- tier: Business\n- joined: 2024-03-15\n- usage: seats used 8, seats 10"


def grounding(
    *passages: str, record: str = "", question: str = "What about it?", history: tuple[Message, ...] = ()
) -> Grounding:
    shown = tuple(Passage(n, "help", f"{n}.md", f"help/{n}.md#0", "Help", "", t) for n, t in enumerate(passages, 1))
    return Grounding(Prompt((), shown, record, history, question), own_history=True)


@pytest.fixture
def help_pages() -> Grounding:
    return grounding(SEATS, EXPORT, CONTACT, record=RECORD)


@pytest.mark.parametrize(
    ("sentence", "passage"),
    [
        ("Each seat costs $12 per month.", 1),
        ("Yearly payment saves 15% of the price.", 1),
        ("You save 15 % of the price with yearly payment.", 1),
        ("Files up to 1000 MB are kept for 14 days.", 2),
        ("1. Export the workspace under **Settings > Data > Export**.", 2),
        ("Write to billing@example.com.", 3),
        ("Please read https://example.com/refunds.", 3),
    ],
)
def test_supported_by_the_passage_that_says_so(help_pages: Grounding, sentence: str, passage: int) -> None:
    assert help_pages.check(sentence) == Checked("supported", passage)


@pytest.mark.parametrize(
    "sentence",
    [
        "Each seat costs $13 per month.",
        "Each seat costs €12 per month.",
        "Yearly payment saves 20 % of the price.",
        "Pro has up to 15 seats.",  # 15 stands in the passage as a percentage only
        "Files up to 1000 MB are kept for 100 days.",  # 100 is of another passage
        "Write to sales@example.com.",
        "Please read https://example.com/refund.",
        "Our warehouse ships parcels to Iceland every Tuesday morning.",
    ],
)
def test_unsupported(help_pages: Grounding, sentence: str) -> None:
    assert help_pages.check(sentence).verdict == "unsupported"


@pytest.mark.parametrize(
    "sentence",
    ["Hi Ada,", "I am happy to help you with that!", "Thank you for reaching out.", "Is there anything else?"],
)
def test_manners_state_nothing(help_pages: Grounding, sentence: str) -> None:
    assert help_pages.check(sentence) == Checked("neutral")


def test_a_question_back_states_nothing_unless_it_names_a_number(help_pages: Grounding) -> None:
    assert help_pages.check("Which spreadsheet program do you open exported files with?").verdict == "neutral"
    assert help_pages.check("Did you see the discount of 90 % on spreadsheets?").verdict == "unsupported"


def test_record_and_earlier_answers_support_without_a_citation() -> None:
    history = (Message("user", "Hi"), Message("assistant", "Invoices are sent on the 3rd day of each month."))
    checked = grounding(record=RECORD, history=history)
    assert checked.check("You joined on 2024-03-15 with the Business tier.") == Checked("supported", None)
    assert checked.check("Invoices are sent on the 3rd day of each month.") == Checked("supported", None)


def test_what_the_customer_says_supports_its_numbers_but_no_statement() -> None:
    checked = grounding(SEATS, question="Webhooks retry 6 times within 24 hours and I have 8 seats, right?")
    assert checked.check("Webhooks retry 6 times within 24 hours.").verdict == "unsupported"
    assert checked.check("For your 8 seats, each seat costs $12 per month.") == Checked("supported", 1)


def test_the_passage_decides_over_the_models_marker() -> None:
    checked = grounding(SEATS, EXPORT)
    assert checked.check("Each seat costs $12 per month. [2]") == Checked("supported", 1)
    assert checked.check("Each seat costs $12 per month. [9]") == Checked("supported", 1)


def test_of_equal_passages_the_marked_one_is_cited_else_the_first() -> None:
    checked = grounding(SEATS, SEATS)
    assert checked.check("Each seat costs $12 per month. [2]").passage == 2
    assert checked.check("Each seat costs $12 per month.").passage == 1


def test_nothing_shown_supports_nothing() -> None:
    assert grounding().check("Each seat costs $12 per month.") == Checked("unsupported")
