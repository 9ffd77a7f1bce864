"""Examples as served: the prompt that the bot would build, and the reply that it should write."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bot.grounding import Grounding, markers_of, plain_sentence, specifics_of, strip_markers
from bot.handoff import is_small_talk
from bot.phrase import Counter, phrase, said_before
from bot.sentences import units
from bot.values import MAX_HISTORY, BotOptions
from prompts.messages import CustomerContext, Message, Prompt, TicketLine
from prompts.neutralise import neutralise
from prompts.templates import Templates
from retrieval.documents import Chunk
from training.conversations import Conversation, Logged, Shown
from training.evidence import SearchedEvidence
from training.pii import StandIns

Recipe = Literal["hybrid", "closed-book"]
Outcome = Literal["kept", "unsupported", "no question", "cut"]


@dataclass(frozen=True, slots=True)
class Example:
    """Hold one prompt with the reply to learn; the loss is taken on `answer` alone."""

    id: str  # conversation and the reply's place in it
    conversation: str
    question: str
    messages: tuple[Message, ...]
    answer: str
    documents: tuple[str, ...] = ()  # shown, as "source/document"


class ExampleBuilder:
    """Make examples of conversations, with the one prompt builder."""

    def __init__(
        self,
        options: BotOptions,
        templates: Templates,
        counter: Counter,
        *,
        recipe: Recipe,
        evidence: SearchedEvidence | None,
        seed: int,
        stand_ins: Mapping[str, StandIns] | None = None,
    ) -> None:
        """Take the deployment's options; `evidence` None says that there is no knowledge store.

        `stand_ins`, by conversation, disguise the records that are looked up as the conversations were disguised.
        """
        self._options = options
        self._templates = templates
        self._counter = counter
        self._recipe = recipe
        self._evidence = evidence
        self._stand_ins = stand_ins or {}
        self._draw = random.Random(seed)  # reproducible on purpose
        self._searched: set[str] = set()

    def searched(self, example: Example) -> bool:
        """Say whether the example's passages come from today's search, and its facts from today's knowledge."""
        return example.id in self._searched

    def examples(self, conversation: Conversation) -> Iterator[tuple[Example | None, Outcome]]:
        """Yield one example for each reply, or None with why there is none."""
        for index, message in enumerate(conversation.messages):
            if message.role != "assistant":
                continue
            if not index or conversation.messages[index - 1].role != "user":
                yield None, "no question"
                continue
            yield self._example(conversation, index, message)

    def _example(self, conversation: Conversation, index: int, reply: Logged) -> tuple[Example | None, Outcome]:
        name = f"{conversation.conversation_id}#{index}"
        question = conversation.messages[index - 1].content.strip()
        answer = neutralise((reply.correction or reply.content).strip())
        if reply.prompt and self._recipe == "hybrid":
            shown = tuple(Message(m["role"], m["content"]) for m in reply.prompt)  # type: ignore[arg-type]
            return Example(name, conversation.conversation_id, question, shown, answer), "kept"
        history = conversation.before(index - 1)[-MAX_HISTORY:]
        chunks, customer, searched = self._shown(conversation, question, history, reply)
        options = replace(self._options, slots=conversation.slots(self._options.slots))
        prompt = phrase(question, "hybrid", chunks, customer, history, options, self._counter, self._templates)
        if searched and chunks and self._draw.random() < 0.1:
            # The order of the search is evidence that serving has too; shuffled ones keep it from being all there is.
            # What the budget drops is the lowest of the search, as when serving: so after it.
            kept = chunks[: len(prompt.passages)]
            self._draw.shuffle(kept)
            prompt = phrase(question, "hybrid", kept, customer, history, options, self._counter, self._templates)
        if searched:
            cited = cite(answer, prompt, reply.documents)
            if cited is None:
                return None, "unsupported"
            answer = cited
            self._searched.add(name)
        elif chunks is None:
            answer = strip_markers(answer)
        elif any(n > len(prompt.passages) for n in markers_of(answer)):
            return None, "cut"  # the budget has no room for a passage that the answer rests on
        documents = tuple(f"{p.source}/{p.document}" for p in prompt.passages)
        return Example(name, conversation.conversation_id, question, prompt.messages, answer, documents), "kept"

    def _shown(
        self, conversation: Conversation, question: str, history: Sequence[Message], reply: Logged
    ) -> tuple[list[Chunk] | None, CustomerContext | None, bool]:
        """Return passages, record, and whether they were searched for; passages None where the weights answer."""
        customer = customer_of(reply.record)
        if self._recipe == "closed-book" or conversation.knowledge == "none" or is_small_talk(question):
            known = CustomerContext(customer.name) if customer and customer.name else None
            # A record that a log carries is all that its replies could know: it stays in either recipe.
            return None, customer if reply.record and conversation.knowledge != "none" else known, False
        if reply.passages is not None:
            return [_chunk(shown, n) for n, shown in enumerate(reply.passages)], customer, False
        if self._evidence is None:
            return None, customer, False
        chunks, found = self._evidence.show(
            question,
            *said_before(history, conversation.slots(self._options.slots).closing),
            conversation.customer_id,
            reply.documents,
            strip_markers(reply.correction or reply.content),
        )
        return chunks, customer or _disguised(found, self._stand_ins.get(conversation.conversation_id)), True


def cite(answer: str, prompt: Prompt, documents: Sequence[str] = ()) -> str | None:
    """Mark each statement with the passage that supports it; None where a fact of it is supported by nothing.

    A list is marked at its lead and at its last item. A statement without a number, price, date or address that
    nothing supports stays as it is: it is how people talk. Where the log names the `documents` that its markers
    stand for, a statement may also rest on the one that it was marked with, however differently it is worded.
    """
    grounding = Grounding(prompt, own_history=True)
    parts: list[tuple[str, int | None]] = []
    for unit in units([answer]):
        checked = grounding.check(strip_markers(unit)) if unit.strip() else None
        passage = checked.passage if checked and checked.verdict == "supported" else None
        if checked and checked.verdict == "unsupported":
            passage = _named(unit, prompt, documents)
            if passage is None and checked.specific and not unit.rstrip().endswith("?"):
                return None
        parts.append((strip_markers(unit), passage))
    text = ""
    for index, (unit, passage) in enumerate(parts):
        later = next((u for u, _ in parts[index + 1 :] if u.strip()), "")
        inside = _is_item(unit) and _is_item(later)
        body = unit.rstrip()
        text += f"{body} [{passage}]{unit[len(body) :]}" if passage and not inside else unit
    return text


def _named(unit: str, prompt: Prompt, documents: Sequence[str]) -> int | None:
    """Return the shown passage of the document that a marker stands for, if it holds the sentence's specifics."""
    specifics = specifics_of(plain_sentence(unit))
    for n in markers_of(unit):
        named = documents[n - 1] if 0 < n <= len(documents) else ""
        for passage in prompt.passages:
            shown = specifics_of(f"{passage.head}\n{passage.text}")
            if f"{passage.source}/{passage.document}" == named and specifics <= shown:
                return passage.n
    return None


def _is_item(unit: str) -> bool:
    return re.match(r"\s*(?:\d{1,2}[.)]|[-*])\s", unit) is not None


def customer_of(record: Mapping[str, Any] | None) -> CustomerContext | None:
    """Turn a logged record into what the prompt shows: `name` and `tickets` apart, the rest as its fields."""
    if not record:
        return None
    tickets = tuple(
        TicketLine(
            str(t.get("subject", "")), str(t.get("status", "")), str(t.get("date", "")), str(t.get("excerpt", ""))
        )
        for t in record.get("tickets") or ()
        if isinstance(t, dict)
    )
    fields = {key: value for key, value in record.items() if key not in ("name", "tickets")}
    return CustomerContext(str(record.get("name") or ""), fields, tickets)


def _disguised(customer: CustomerContext | None, stand_ins: StandIns | None) -> CustomerContext | None:
    if customer is None or stand_ins is None:
        return customer
    name = stand_ins.of(customer.name, "name") if customer.name else ""
    tickets = tuple(
        replace(t, subject=stand_ins.apply(t.subject), excerpt=stand_ins.apply(t.excerpt)) for t in customer.tickets
    )
    return CustomerContext(name, stand_ins.apply(dict(customer.fields)), tickets)


def _chunk(shown: Shown, n: int) -> Chunk:
    name = f"{shown.source}/{shown.document}#{n}"
    return Chunk(name, shown.source, shown.document, n, shown.title, shown.heading, shown.text, "public")
