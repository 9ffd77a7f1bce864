"""The worked example's own three questions: what is found, shown and cited, with the real embedder.

The model is a stand-in that reads its passages aloud; what it is shown is what every model would be shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bot import weights
from bot.answer import SupportBot
from bot.turns import Caller
from bot.weights.errors import WeightsMissing
from prompts.messages import Message
from prompts.tokenizer import ChatTokenizer
from tests.bot.world import ROOT, World, reader_model
from tests.stand_ins import ScriptedModel

MARIA = "cus_42"
PROMPT_TOKENS = 900
QUESTIONS = {
    "How do I export my data?": ("features/export-data.md", "Settings > Data > Export"),
    "How much does the Pro tier cost?": ("billing/plans-and-pricing.md", "Pro costs $12 per user per month"),
    "The app keeps freezing, what can I do?": (
        "troubleshooting/app-freezes-or-is-slow.md",
        "restart the app, check your connection and update the app to the latest version",
    ),
}
each_question = pytest.mark.parametrize(("question", "document", "fact"), [(q, *v) for q, v in QUESTIONS.items()])


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / "examples" / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def count_tokens() -> Callable[[tuple[Message, ...]], int]:
    try:
        tokenizer = ChatTokenizer(weights.chat_model_folder())
    except WeightsMissing as error:
        pytest.skip(str(error))
    return lambda messages: len(tokenizer.encode_messages(messages))


def shown_to(model: ScriptedModel) -> str:
    return "\n".join(message.content for message in model.asked[-1])


@each_question
def test_the_right_document_is_found_first(example: World, question: str, document: str, fact: str) -> None:
    hits = example.searcher.search(question, top_k=4).hits
    assert hits[0].chunk.document == document
    assert any(fact in hit.chunk.text for hit in hits if hit.chunk.document == document)


@each_question
def test_the_answer_states_the_fact_and_cites_its_document(
    example_bot_with: Callable[..., SupportBot], question: str, document: str, fact: str
) -> None:
    answer = example_bot_with().answer(question, customer_id=MARIA)
    assert answer.action == "answer"
    assert answer.text.startswith("Hi Maria,")
    assert fact in answer.text.replace("**", "")
    first = answer.citations[0]
    assert (first.n, first.source, first.document) == (1, "help", document)
    assert f"[{first.n}]" in answer.text
    assert first.url is not None and first.url.startswith("https://help.brightfold.example/")


@each_question
def test_the_prompt_holds_passage_tier_date_and_both_tickets(
    example_bot_with: Callable[..., SupportBot], question: str, document: str, fact: str
) -> None:
    model = reader_model()
    example_bot_with(model).answer(question, customer_id=MARIA)
    prompt = shown_to(model)
    assert fact in prompt.replace("**", "")
    for line in ("- name: Maria Keller", "- tier: Pro", "- joined: 2024-03-15", f"Question: {question}"):
        assert f"{line}\n" in f"{prompt}\n"
    assert '"Bug in export feature" (open' in prompt
    assert '"Password reset issue" (resolved' in prompt


@each_question
def test_the_prompt_holds_nothing_of_another_customer(
    example_bot_with: Callable[..., SupportBot], question: str, document: str, fact: str
) -> None:
    model = reader_model()
    example_bot_with(model).answer(question, customer_id=MARIA)
    prompt = shown_to(model)
    customers, tickets = rows("customers.jsonl"), rows("tickets.jsonl")
    own_subjects = {t["subject"] for t in tickets if t["customer_id"] == MARIA}
    others = [row[key] for row in customers if row["customer_id"] != MARIA
              for key in ("customer_id", "name", "email", "company")]  # fmt: skip
    others += [t["ticket_id"] for t in tickets]  # not even one's own: an id is of no use to the model
    others += [t["subject"] for t in tickets if t["customer_id"] != MARIA and t["subject"] not in own_subjects]
    assert len(others) > 250
    assert [text for text in others if text in prompt] == []
    assert "maria.keller@kellerplan.example" not in prompt


def test_a_visitor_is_shown_no_record(example_bot_with: Callable[..., SupportBot]) -> None:
    model = reader_model()
    answer = example_bot_with(model).answer("How do I export my data?")
    assert answer.text.startswith("Hi,\n")
    assert "Customer record" not in shown_to(model)


def test_staff_documents_are_for_staff(example_bot_with: Callable[..., SupportBot]) -> None:
    question, bot = "Which discount may I approve without asking?", example_bot_with()
    sources = {}
    for audience in ("public", "internal"):
        caller = Caller("staff", audience)
        turn = bot.turns.turn(bot.answer(question, caller=caller).turn_id, caller)
        sources[audience] = {passage.source for passage in turn.passages}
    assert "internal" not in sources["public"]
    assert "internal" in sources["internal"]


@each_question
def test_the_prompt_keeps_its_budget(
    example_bot_with: Callable[..., SupportBot],
    count_tokens: Callable[[tuple[Message, ...]], int],
    question: str,
    document: str,
    fact: str,
) -> None:
    model = TokenCounting(count_tokens)
    example_bot_with(model).answer(question, customer_id=MARIA)
    assert 300 < count_tokens(model.asked[-1]) <= PROMPT_TOKENS


def test_p95_of_the_prompts_of_all_eval_questions_keeps_the_budget(
    example_bot_with: Callable[..., SupportBot], count_tokens: Callable[[tuple[Message, ...]], int]
) -> None:
    model = TokenCounting(count_tokens)
    bot = example_bot_with(model)
    for case in rows("eval/cases.jsonl"):
        history = [Message(m["role"], m["content"]) for m in case.get("history", [])]
        for customer in (None, MARIA, "cus_02", "cus_04"):
            bot.answer(case["question"], customer_id=customer, history=history)
    sizes = sorted(count_tokens(messages) for messages in model.asked)
    assert len(sizes) > 100  # most questions reach the model
    assert sizes[int(0.95 * len(sizes))] <= PROMPT_TOKENS


class TokenCounting(ScriptedModel):
    """A stand-in that counts with the local model's tokenizer, which decides what fits the prompt."""

    def __init__(self, count: Callable[[tuple[Message, ...]], int]) -> None:
        super().__init__("Hello.")
        self._count = count

    def count_tokens(self, messages: Any) -> int:
        return self._count(tuple(messages))
