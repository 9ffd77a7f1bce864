"""The bot on one page: understand, retrieve, phrase, generate, verify, decide.

`answer` and `stream` go through the same steps; `answer` only waits for the end. A sentence is shown once it is
complete and supported by what the model was shown, so nothing that was shown has to be taken back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bot.decide import Decision, decide_after, decide_before
from bot.errors import KnowledgeTooLarge
from bot.models import ChatModel, Sampling
from bot.turns import Caller, Turn, TurnLog, new_id
from bot.verify import Verifier
from prompts.build import build_messages, fit_prompt
from prompts.fingerprint import fingerprint
from prompts.messages import CustomerContext, Message, Passage, Prompt, Slots, TicketLine
from retrieval.documents import Chunk
from retrieval.records import Customer, Records
from retrieval.search import Found, FoundTicket, Searcher, check_question

if TYPE_CHECKING:
    from pathlib import Path

    from bot.settings import Settings

Mode = Literal["hybrid", "rag", "finetuned", "prompt"]
MODES: tuple[Mode, ...] = ("hybrid", "rag", "finetuned", "prompt")

_RECENT_TICKETS = 2
_MAX_HISTORY = 8  # messages of a conversation that a prompt may carry; the budget may drop more
_EXCERPT = 120  # characters of a ticket's text


@dataclass(frozen=True, slots=True)
class Citation:
    """Name a passage that the answer rests on; `n` is its number in the text."""

    n: int
    source: str
    document: str
    chunk: str
    title: str
    url: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold a finished answer."""

    text: str
    action: str  # answer | follow_up | decline | handoff
    citations: tuple[Citation, ...]
    mode: str
    release: str | None
    generation: str | None
    conversation_id: str
    turn_id: str
    usage: dict[str, int]
    milliseconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Delta:
    """Hold a piece of the answer; an empty one says that a sentence is still being written and checked."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Close a stream with the whole answer; its text is the pieces joined."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class BotOptions:
    """Hold what the bot needs of the settings."""

    slots: Slots = field(default_factory=Slots)
    sampling: Sampling = field(default_factory=Sampling)
    prompt_tokens: int = 900
    top_k: int = 4
    min_similarity: float = 0.3
    check_grounding: bool = True
    quote_similarity: float = 0.5
    has_sources: bool = True  # a deployment without sources answers from its weights
    examples: tuple[Message, ...] = ()  # shown exchanges of prompt mode


@dataclass(slots=True)
class _Work:
    """Carry one turn from step to step."""

    question: str
    mode: Mode
    caller: Caller
    conversation_id: str
    history: list[Message]
    started: float
    found: Found | None = None
    prompt: Prompt | None = None
    decision: Decision | None = None
    raw: str = ""
    text: str = ""
    verifier: Verifier | None = None
    first_token: float | None = None


class SupportBot:
    """Answer questions for one deployment; safe to share between threads."""

    def __init__(
        self, model: ChatModel, searcher: Searcher, records: Records, turns: TurnLog, options: BotOptions
    ) -> None:
        self.model = model
        self.searcher = searcher
        self.records = records
        self.turns = turns
        self._options = options
        self._fingerprint = fingerprint(model.template)

    @classmethod
    def from_settings(cls, settings: Settings | Path | None = None) -> SupportBot:
        """Build the bot that the settings describe; by default those of tandem.toml here."""
        from bot.bootstrap import build_bot

        return build_bot(settings)

    def answer(
        self,
        question: str,
        *,
        customer_id: str | None = None,
        mode: Mode = "hybrid",
        conversation_id: str | None = None,
        history: Sequence[Message] | None = None,
        caller: Caller | None = None,
    ) -> Answer:
        """Answer a question; parameters and errors as of `stream`."""
        events = self.stream(
            question,
            customer_id=customer_id,
            mode=mode,
            conversation_id=conversation_id,
            history=history,
            caller=caller,
        )
        done = [event.answer for event in events if isinstance(event, Done)]
        return done[-1]

    def stream(
        self,
        question: str,
        *,
        customer_id: str | None = None,
        mode: Mode = "hybrid",
        conversation_id: str | None = None,
        history: Sequence[Message] | None = None,
        caller: Caller | None = None,
    ) -> Iterator[Delta | Done]:
        """Answer a question piece by piece; closing the iterator stops the model.

        Without `customer_id` a known conversation goes on as whoever began it. A server passes the authenticated
        `caller` instead of both. `history` stands in for a conversation that is kept elsewhere. Raises
        QuestionError, UnknownCustomer, UnknownConversation, NoGeneration, KnowledgeTooLarge and ModelError.
        """
        started = time.perf_counter()
        question = check_question(question)
        who = caller or self._caller(customer_id, conversation_id)
        before = self._history(conversation_id, history, who)
        work = _Work(question, mode, who, conversation_id or new_id("conv"), before, started)
        return self._run(work)

    def readiness(self) -> dict[str, Any]:
        """Say whether questions can be answered now, from which knowledge, and by which model."""
        state = self.searcher.state()
        return {
            "ready": state is not None or not self._options.has_sources,
            "model": self.model.name,
            "release": None,
            "generation": state.generation if state else None,
            "knowledge_updated_at": state.created_at if state else None,
        }

    def _run(self, work: _Work) -> Iterator[Delta | Done]:
        self._prepare(work)
        try:
            yield from self._generate(work)
        except GeneratorExit:
            if work.text:
                work.decision = Decision("answer", "the client went away", "")
                self._finish(work)
            raise
        yield Done(self._finish(work))

    def _prepare(self, work: _Work) -> None:
        """Understand, retrieve, phrase, and decide what needs no model."""
        customer = self.records.find_customer(work.caller.customer_id)
        early = decide_before(work.question, work.history, self._options.slots)
        searched = work.mode in ("hybrid", "rag") and early is None
        if searched:
            work.found = self.searcher.search(
                work.question,
                customer_id=customer.customer_id if customer else None,
                audience=work.caller.audience,
                top_k=self._options.top_k,
                earlier=[m.content for m in work.history if m.role == "user"],
            )
            early = self._decline_without_evidence(work.question, work.found, customer)
        work.decision = early
        work.prompt = self._phrase(work, customer, known=searched)

    def _decline_without_evidence(self, question: str, found: Found, customer: Customer | None) -> Decision | None:
        best_ticket = max((t.similarity for t in found.tickets), default=-1.0)
        if max(found.similarity, best_ticket) >= self._options.min_similarity:
            return None
        if customer is not None and _names_a_field(question, customer):
            return None
        return Decision("decline", "nothing relevant was found", self._options.slots.decline)

    def _phrase(self, work: _Work, customer: Customer | None, *, known: bool) -> Prompt:
        chunks = self._evidence(work) if known or work.mode == "prompt" else None
        if work.decision is not None and work.decision.action == "answer":
            chunks = None  # small talk needs no documentation
        record = _context(customer, work.found.tickets if work.found else (), whole=chunks is not None)

        def build(shown: Sequence[Chunk] | None, kept: Sequence[Message]) -> Prompt:
            return build_messages(
                work.question,
                shown,
                record,
                kept,
                slots=self._options.slots,
                examples=self._options.examples if work.mode == "prompt" else (),
            )

        if work.mode != "prompt" or chunks is None:
            budget = self._options.prompt_tokens
            return fit_prompt(build, chunks, work.history, self.model.count_tokens, budget)
        prompt = build(chunks, work.history)
        size = self.model.count_tokens(prompt.messages)
        limit = self.model.context_tokens - self._options.sampling.max_tokens
        if size > limit:
            raise KnowledgeTooLarge(
                f"Prompt mode shows the whole knowledge: that prompt has {size:,} tokens, and {self.model.name} "
                f"takes {limit:,}. Use hybrid or rag, or a model with a longer context."
            )
        return prompt

    def _evidence(self, work: _Work) -> list[Chunk]:
        if work.mode == "prompt":
            generation, chunks = self.searcher.everything(work.caller.audience)
            work.found = Found(generation, (), self._own_tickets(work), 0.0)
            return chunks
        if work.found is None or (work.decision is not None and work.decision.action == "decline"):
            return []
        return [hit.chunk for hit in work.found.hits]

    def _own_tickets(self, work: _Work) -> tuple[FoundTicket, ...]:
        return self.searcher.tickets_only(work.question, work.caller.customer_id)

    def _generate(self, work: _Work) -> Iterator[Delta]:
        """Write, verify and show; a decision made before is shown as it stands."""
        assert work.prompt is not None
        if work.decision is not None and work.decision.text:
            work.text = work.decision.text
            work.first_token = _milliseconds(work.started)
            yield Delta(work.text)
            return
        checked = self._options.check_grounding and work.mode != "finetuned"
        work.verifier = verifier = Verifier(work.prompt, checked=checked)
        with closing(self._pieces(work)) as pieces:  # type: ignore[type-var]
            for shown in verifier.shown(pieces):
                work.text += shown
                yield Delta(shown)
        cut_short = self.model.count_text(work.raw) >= self._options.sampling.max_tokens
        rest = verifier.rest(cut_short=cut_short)
        if rest:
            work.text += rest
            yield Delta(rest)
        work.decision = decide_after(work.decision, verifier, self._options.slots, self._quotable(work))
        if work.decision.text:  # nothing was shown yet
            work.text = work.decision.text
            yield Delta(work.text)

    def _quotable(self, work: _Work) -> Passage | None:
        """Return the best passage where it is so close to the question that it answers by itself."""
        assert work.prompt is not None
        hits = work.found.hits if work.found else ()
        if not hits or not work.prompt.passages or hits[0].similarity < self._options.quote_similarity:
            return None
        return work.prompt.passages[0]

    def _pieces(self, work: _Work) -> Iterator[str]:
        assert work.prompt is not None
        with closing(self.model.stream(work.prompt.messages, self._options.sampling)) as stream:  # type: ignore[type-var]
            for piece in stream:
                if work.first_token is None:
                    work.first_token = _milliseconds(work.started)
                work.raw += piece
                yield piece

    def _finish(self, work: _Work) -> Answer:
        """Log the turn and return the answer."""
        assert work.prompt is not None and work.decision is not None
        used = not (work.decision.text and not work.raw)  # whether the model was asked
        work.text = work.text.strip()
        total = _milliseconds(work.started)
        cited = work.verifier.cited if work.verifier else ()
        answer = Answer(
            text=work.text,
            action=work.decision.action,
            citations=tuple(_citation(p) for n in cited for p in work.prompt.passages if p.n == n),
            mode=work.mode,
            release=None,
            generation=work.found.generation if work.found else None,
            conversation_id=work.conversation_id,
            turn_id=new_id("turn"),
            usage={
                "prompt_tokens": self.model.count_tokens(work.prompt.messages) if used else 0,
                "completion_tokens": self.model.count_text(work.raw) if used else 0,
            },
            milliseconds={
                "retrieve": round(work.found.milliseconds, 1) if work.found else 0.0,
                "first_token": round(work.first_token if work.first_token is not None else total, 1),
                "total": round(total, 1),
            },
        )
        self.turns.save(self._turn(work, answer), work.caller)
        return answer

    def _turn(self, work: _Work, answer: Answer) -> Turn:
        assert work.prompt is not None and work.decision is not None
        return Turn(
            turn_id=answer.turn_id,
            conversation_id=work.conversation_id,
            mode=work.mode,
            question=work.question,
            text=answer.text,
            action=answer.action,
            reason=work.decision.reason,
            model=self.model.name,
            release=answer.release,
            generation=answer.generation,
            fingerprint=self._fingerprint,
            raw=work.raw,
            messages=work.prompt.messages,
            passages=work.prompt.passages,
            citations=tuple(asdict(citation) for citation in answer.citations),
            usage=answer.usage,
            milliseconds=answer.milliseconds,
        )

    def _caller(self, customer_id: str | None, conversation_id: str | None) -> Caller:
        if customer_id is not None:
            return Caller(self.records.customer(customer_id).customer_id)
        return self.turns.owner(conversation_id) if conversation_id else Caller()

    def _history(self, conversation_id: str | None, history: Sequence[Message] | None, caller: Caller) -> list[Message]:
        if conversation_id is not None:
            return self.turns.history(conversation_id, caller)[-_MAX_HISTORY:]
        return [m for m in history or () if m.role != "system" and m.content.strip()][-_MAX_HISTORY:]


def _context(customer: Customer | None, tickets: Sequence[FoundTicket], *, whole: bool) -> CustomerContext | None:
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


def _names_a_field(question: str, customer: Customer) -> bool:
    """Say whether the question names something of the record, as in "which tier am I on?"."""
    words = set(question.lower().replace("?", " ").split())
    names = {word for key in customer.fields for word in key.lower().split("_")}
    return bool(words & (names | {"ticket", "tickets", "account", "profile"}))


def _citation(passage: Passage) -> Citation:
    return Citation(passage.n, passage.source, passage.document, passage.chunk, passage.title, passage.url)


def _milliseconds(started: float) -> float:
    return (time.perf_counter() - started) * 1000
