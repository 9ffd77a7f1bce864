"""The one prompt builder: training, evaluation and serving all call `build_messages`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prompts.messages import CustomerContext, Message, Passage, Prompt, Slots
from prompts.neutralise import neutralise
from prompts.templates import Templates, default_templates
from retrieval.documents import Chunk

SECTIONS = ("Documentation:", "Customer record:", "Recent tickets:", "Question:")  # what templates/question.txt writes
MAX_VALUE_CHARACTERS = 300  # of one field of a customer's record


def passages_of(chunks: Sequence[Chunk]) -> tuple[Passage, ...]:
    """Give chunks numbers from 1 in the order they will be shown in."""
    return tuple(
        Passage(n, c.source, c.document, c.chunk, c.title, c.heading, c.text, c.url, c.updated)
        for n, c in enumerate(chunks, start=1)
    )


def build_messages(
    question: str,
    chunks: Sequence[Chunk] | None,
    customer: CustomerContext | None,
    history: Sequence[Message] = (),
    *,
    slots: Slots | None = None,
    templates: Templates | None = None,
    examples: Sequence[Message] = (),
) -> Prompt:
    """Phrase one answer prompt.

    `chunks` None says that retrieval is off (answer from the weights); an empty sequence says that
    retrieval found nothing (decline). `examples` are shown exchanges, before the history. Text from outside
    is neutralised here and nowhere else.
    """
    slots = slots or Slots()
    templates = templates or default_templates()
    passages = None if chunks is None else passages_of(chunks)
    system = templates.fill(
        "system.txt" if passages is not None else "system_closed.txt",
        {"company": slots.company, "tone": slots.tone, "closing": slots.closing},
    )
    record = "" if customer is None else templates.fill("record.txt", _record(customer))
    values: dict[str, object] = {
        "question": neutralise(question),
        "passages": None if passages is None else [_shown(passage) for passage in passages],
        "record": record,
    }
    asked = Message("user", templates.fill("question.txt", values))
    said, shown = _spoken(history), _spoken(examples)
    return Prompt((Message("system", system), *shown, *said, asked), passages or (), record, said, question)


def fit_prompt(
    build: Callable[[Sequence[Chunk] | None, Sequence[Message]], Prompt],
    chunks: Sequence[Chunk] | None,
    history: Sequence[Message],
    count: Callable[[Sequence[Message]], int],
    budget: int,
) -> Prompt:
    """Drop the oldest exchanges, then the lowest passages, until the prompt has at most `budget` tokens.

    The last exchange, the first passage, the record and the question always stay.
    """
    kept, shown = list(history), None if chunks is None else list(chunks)
    while True:
        prompt = build(shown, kept)
        if count(prompt.messages) <= budget:
            return prompt
        if len(kept) > 2:
            kept = kept[2:]
        elif shown is not None and len(shown) > 1:
            shown = shown[:-1]
        else:
            return prompt


def _spoken(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(Message(m.role, neutralise(m.content)) for m in messages if m.role != "system")


def _shown(passage: Passage) -> Passage:
    return replace(
        passage,
        title=neutralise(passage.title),
        heading=neutralise(passage.heading),
        text=neutralise(passage.text),
    )


def _record(customer: CustomerContext) -> dict[str, object]:
    return {
        "name": _line(customer.name),
        "fields": [(_line(key), _line(_plain(value))) for key, value in customer.fields.items()],
        "tickets": [
            {
                "subject": _line(ticket.subject),
                "status": _line(ticket.status),
                "date": _line(ticket.date),
                "excerpt": _line(ticket.excerpt),
            }
            for ticket in customer.tickets
        ],
    }


def _line(text: str) -> str:
    """Keep a value on one line, so that it cannot pose as another part of the prompt."""
    flat = " ".join(neutralise(text).split())
    return flat if len(flat) <= MAX_VALUE_CHARACTERS else flat[: MAX_VALUE_CHARACTERS - 1] + "…"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return str(value)
