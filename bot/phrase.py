"""Phrase the prompt of one turn: what the model sees of the evidence and of the customer's record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bot.errors import KnowledgeTooLarge
from bot.grounding import strip_markers
from bot.values import BotOptions, Mode
from prompts.build import build_messages, fit_prompt
from prompts.messages import CustomerContext, Message, Prompt, TicketLine
from prompts.templates import Templates
from retrieval.documents import Chunk
from retrieval.records import Customer
from retrieval.search import FoundTicket

_RECENT_TICKETS = 2
_EXCERPT = 120  # characters of a ticket's text
_RECORD_WORDS = frozenset({"ticket", "tickets", "account", "profile"})


class Counter(Protocol):
    """Count tokens; every chat model does."""

    @property
    def name(self) -> str:
        """Name the model whose tokens are counted."""
        ...

    @property
    def context_tokens(self) -> int:
        """Give the longest prompt and answer together."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt."""
        ...


def said_before(history: Sequence[Message], closing: str) -> tuple[list[str], str]:
    """Return what a follow-up is searched with: the questions before it, and the last answer without its form."""
    answers = [m.content for m in history if m.role == "assistant"]
    last = strip_markers(answers[-1]).strip().removesuffix(closing).strip() if answers else ""
    return [m.content for m in history if m.role == "user"], last


def phrase(
    question: str,
    mode: Mode,
    chunks: Sequence[Chunk] | None,
    record: CustomerContext | None,
    history: Sequence[Message],
    options: BotOptions,
    model: Counter,
    templates: Templates | None = None,
) -> Prompt:
    """Build the prompt within its budget; `chunks` None says that retrieval is off.

    `templates` are those that the model was trained with; None takes the ones that come with the package.

    Raises KnowledgeTooLarge where prompt mode's whole knowledge exceeds the model's context.
    """

    def build(shown: Sequence[Chunk] | None, kept: Sequence[Message]) -> Prompt:
        examples = options.examples if mode == "prompt" else ()
        return build_messages(
            question, shown, record, kept, slots=options.slots, templates=templates, examples=examples
        )

    if mode != "prompt" or chunks is None:
        return fit_prompt(build, chunks, history, model.count_tokens, options.prompt_tokens)
    prompt = build(chunks, history)
    size = model.count_tokens(prompt.messages)
    limit = model.context_tokens - options.sampling.max_tokens
    if size > limit:
        raise KnowledgeTooLarge(
            f"Prompt mode shows the whole knowledge: that prompt has {size:,} tokens, and {model.name} "
            f"takes {limit:,}. Use hybrid or rag, or a model with a longer context."
        )
    return prompt


def record_shown(customer: Customer | None, tickets: Sequence[FoundTicket], *, whole: bool) -> CustomerContext | None:
    """Choose what the model sees of a record; without retrieval it is the name, which is manners."""
    if customer is None:
        return None
    if not whole:
        return CustomerContext(customer.name) if customer.name else None
    recent = list(tickets[:_RECENT_TICKETS])
    others = sorted(tickets[_RECENT_TICKETS:], key=lambda t: -t.similarity)[:1]
    lines = tuple(
        TicketLine(t.ticket.subject, t.ticket.status, t.ticket.updated_at[:10], t.ticket.text[:_EXCERPT])
        for t in (*recent, *others)
    )
    return CustomerContext(customer.name, customer.fields, lines)


def names_a_field(question: str, customer: Customer) -> bool:
    """Say whether the question names something of the record, as in "which tier am I on?"."""
    words = set(question.lower().replace("?", " ").split())
    names = {word for key in customer.fields for word in key.lower().split("_")}
    return bool(words & (names | _RECORD_WORDS))
