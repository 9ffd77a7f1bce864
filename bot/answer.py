"""The bot on one page: understand, retrieve, phrase, generate, verify, decide.

`answer` and `stream` go through the same steps; `answer` only waits for the end. A sentence is shown once it is
complete and supported by what the model was shown, so nothing that was shown has to be taken back.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bot.decide import Decision, decide_after, decide_before
from bot.errors import ConfigError
from bot.models import ChatModel, Sampling
from bot.phrase import names_a_field, phrase, record_shown, said_before
from bot.quotations import is_beside, quotable, quoted_instead, to_the_point
from bot.speakers import Speakers, one_model
from bot.turns import Caller, TurnLog, new_id
from bot.values import MAX_HISTORY, MODES, Answer, Begun, BotOptions, Citation, Delta, Done, Event, Mode
from bot.verify import Verifier, trimmed
from bot.work import Work, citation, greeted, milliseconds, turn_of
from prompts.messages import Message
from retrieval.documents import Chunk
from retrieval.records import Customer, Records
from retrieval.search import Found, Searcher, check_question

if TYPE_CHECKING:
    from pathlib import Path

    from bot.settings import Settings

__all__ = ["MODES", "Answer", "Begun", "BotOptions", "Citation", "Delta", "Done", "Event", "Mode", "SupportBot"]


class SupportBot:
    """Answer questions for one deployment; safe to share between threads."""

    def __init__(
        self,
        model: ChatModel | Speakers,
        searcher: Searcher,
        records: Records,
        turns: TurnLog,
        options: BotOptions,
    ) -> None:
        """Take one model for every mode, or the speakers that follow the promoted release."""
        self.speakers = model if isinstance(model, Speakers) else one_model(model)
        self.searcher = searcher
        self.records = records
        self.turns = turns
        self._options = options

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
        for event in self.stream(
            question,
            customer_id=customer_id,
            mode=mode,
            conversation_id=conversation_id,
            history=history,
            caller=caller,
        ):
            if isinstance(event, Done):
                return event.answer
        raise AssertionError("a stream ends with Done")

    def stream(
        self,
        question: str,
        *,
        customer_id: str | None = None,
        mode: Mode = "hybrid",
        conversation_id: str | None = None,
        history: Sequence[Message] | None = None,
        caller: Caller | None = None,
    ) -> Iterator[Event]:
        """Answer a question piece by piece: Begun, then Deltas, then Done; closing the iterator stops the model.

        Without `customer_id` a known conversation goes on as whoever began it. A server passes the authenticated
        `caller` instead of both. `history` stands in for a conversation that is kept elsewhere. Raises
        QuestionError, UnknownCustomer and UnknownConversation at once; NoGeneration, KnowledgeTooLarge and
        ModelError while iterating.
        """
        started = time.perf_counter()
        question = check_question(question)
        if mode not in MODES:
            raise ConfigError(f"There is no mode '{mode}'; there are {', '.join(MODES)}.")
        who = caller or self._caller(customer_id, conversation_id)
        before = self._history(conversation_id, history, who)
        speaker = self.speakers.speaker(mode)  # first: where no model can be loaded, no conversation begins
        conversation = conversation_id or self.turns.begin(who)
        own = conversation_id is not None
        return self._run(Work(question, mode, who, conversation, new_id("turn"), before, own, speaker, started))

    def readiness(self) -> dict[str, Any]:
        """Say whether questions can be answered now, from which knowledge, and by which model."""
        state = self.searcher.state()
        speaker = self.speakers.speaker("hybrid")
        return {
            "ready": state is not None or not self._options.has_sources,
            "model": speaker.model.name,
            "release": speaker.release,
            "generation": state.generation if state else None,
            "knowledge_updated_at": state.created_at if state else None,
        }

    def warm_up(self) -> None:
        """Load what the first question would wait for; nothing is logged."""
        self.readiness()
        self.searcher.warm_up()
        for _ in self.speakers.speaker("hybrid").model.stream([Message("user", "Hello")], Sampling(max_tokens=1)):
            pass

    def _run(self, work: Work) -> Iterator[Event]:
        self._prepare(work)
        try:
            yield Begun(work.conversation_id, work.turn_id)
            with closing(trimmed(self._generate(work))) as pieces:
                for piece in pieces:
                    work.text += piece
                    yield Delta(piece)
        except GeneratorExit:
            if work.text:
                work.decision = work.decision or Decision("answer", "the client went away", "")
                self._finish(work)
            raise
        yield Done(self._finish(work))

    def _prepare(self, work: Work) -> None:
        """Understand, retrieve, phrase, and decide what needs no model."""
        customer = self.records.find_customer(work.caller.customer_id)
        work.first_name = customer.first_name if customer and not work.history else ""
        work.decision = decide_before(work.question, work.history, self._options.slots)
        chunks = self._retrieve(work, customer) if work.decision is None else None
        record = record_shown(customer, work.found.tickets if work.found else (), whole=chunks is not None)
        speaker = work.speaker
        work.prompt = phrase(
            work.question, work.mode, chunks, record, work.history, self._options, speaker.model, speaker.templates
        )

    def _retrieve(self, work: Work, customer: Customer | None) -> Sequence[Chunk] | None:
        """Find what the prompt shows; None where the mode answers from the weights."""
        owner = customer.customer_id if customer else None
        match work.mode:
            case "finetuned":
                return None
            case "prompt":
                work.found = Found(None, (), self.searcher.tickets_only(work.question, owner), 0.0)
                return self.searcher.everything(work.caller.audience)
            case _:
                earlier, reply = said_before(work.history, self._options.slots.closing)
                work.found = self.searcher.search(
                    work.question,
                    customer_id=owner,
                    audience=work.caller.audience,
                    top_k=self._options.top_k,
                    words=self._options.words,
                    earlier=earlier,
                    reply=reply,
                )
                if self._lacks_evidence(work.question, work.found, customer):
                    work.decision = Decision("decline", "nothing relevant was found", self._options.slots.decline)
                    return ()
                return [hit.chunk for hit in work.found.hits]

    def _lacks_evidence(self, question: str, found: Found, customer: Customer | None) -> bool:
        best_ticket = max((t.similarity for t in found.tickets), default=-1.0)
        if max(found.similarity, best_ticket) >= self._options.min_similarity:
            return False
        return customer is None or not names_a_field(question, customer)

    def _generate(self, work: Work) -> Generator[str, None, None]:
        """Write and verify; a decision made before is shown as it stands. Empty pieces say that work goes on."""
        assert work.prompt is not None
        passages, found, options = work.prompt.passages, work.found, self._options
        if work.decision is not None and work.decision.text:
            work.first_token = milliseconds(work.started)
            yield greeted(work)
            return
        checked = options.check_grounding and work.mode != "finetuned"
        work.verifier = verifier = Verifier(
            replace(work.prompt, passages=tuple(to_the_point(passages, found, options))),
            checked=checked,
            own_history=work.own_history,
            small_talk=work.decision is not None,
            asks=work.speaker.release is not None,
            closing=options.slots.closing,
        )
        with closing(self._pieces(work)) as pieces:
            yield from verifier.shown(pieces)
        cut_short = work.speaker.model.count_text(work.raw) >= options.sampling.max_tokens
        more = verifier.more(quotable(passages, found), options.quote_words) if verifier.cited else ""
        rest = verifier.rest(cut_short=cut_short)
        if more or (verifier.cited and options.quote_words and not rest.strip()):
            rest = "\n\n" + (rest.strip() or ("" if verifier.closed else options.slots.closing))
        yield more + rest
        work.decision = decide_after(
            work.decision, verifier, options.slots, lambda: quoted_instead(passages, found, verifier, options)
        )
        if work.decision.action == "decline" and is_beside(found, options):
            work.decision = replace(work.decision, reason="nothing that was found answers the question")
        yield work.decision.text if verifier.showed_text else greeted(work)

    def _pieces(self, work: Work) -> Generator[str, None, None]:
        assert work.prompt is not None
        stream = work.speaker.model.stream(work.prompt.messages, self._options.sampling)
        with closing(stream):  # type: ignore[type-var]  # a generator, whose close stops the model
            for piece in stream:
                if work.first_token is None:
                    work.first_token = milliseconds(work.started)
                work.raw += piece
                yield piece

    def _finish(self, work: Work) -> Answer:
        """Log the turn and return the answer."""
        assert work.prompt is not None and work.decision is not None
        total = milliseconds(work.started)
        cited = work.verifier.cited if work.verifier else ()
        asked = work.verifier is not None  # whether the model was
        answer = Answer(
            text=work.text,
            action=work.decision.action,
            citations=tuple(citation(p) for n in cited for p in work.prompt.passages if p.n == n),
            mode=work.mode,
            release=work.speaker.release,
            generation=work.found.generation if work.found else None,
            conversation_id=work.conversation_id,
            turn_id=work.turn_id,
            usage={
                "prompt_tokens": work.speaker.model.count_tokens(work.prompt.messages) if asked else 0,
                "completion_tokens": work.speaker.model.count_text(work.raw) if asked else 0,
            },
            milliseconds={
                "retrieve": round(work.found.milliseconds, 1) if work.found else 0.0,
                "first_token": round(work.first_token if work.first_token is not None else total, 1),
                "total": round(total, 1),
            },
        )
        self.turns.save(turn_of(work, answer))
        return answer

    def _caller(self, customer_id: str | None, conversation_id: str | None) -> Caller:
        if customer_id is not None:
            return Caller(self.records.customer(customer_id).customer_id)
        return self.turns.owner(conversation_id) if conversation_id else Caller()

    def _history(self, conversation_id: str | None, history: Sequence[Message] | None, caller: Caller) -> list[Message]:
        if conversation_id is not None:
            return self.turns.history(conversation_id, caller)[-MAX_HISTORY:]
        return [m for m in history or () if m.role != "system" and m.content.strip()][-MAX_HISTORY:]
