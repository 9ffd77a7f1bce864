"""What one turn carries from step to step, and what is kept of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from bot.decide import Decision
from bot.speakers import Speaker
from bot.turns import Caller, Turn
from bot.values import Answer, Citation, Mode
from bot.verify import Verifier
from prompts.messages import Message, Passage, Prompt
from retrieval.search import Found


@dataclass(slots=True)
class Work:
    """Carry one turn from step to step."""

    question: str
    mode: Mode
    caller: Caller
    conversation_id: str
    turn_id: str
    history: list[Message]
    own_history: bool  # from the turn log; what a client sends as our words was never checked
    speaker: Speaker
    started: float
    first_name: str = ""  # to greet with, in the first reply to a known customer
    found: Found | None = None
    prompt: Prompt | None = None
    decision: Decision | None = None
    verifier: Verifier | None = None
    raw: str = ""  # what the model wrote
    text: str = ""  # what was shown
    first_token: float | None = None


def turn_of(work: Work, answer: Answer) -> Turn:
    """Return what the log keeps of an answered turn."""
    assert work.prompt is not None and work.decision is not None
    return Turn(
        turn_id=answer.turn_id,
        conversation_id=work.conversation_id,
        mode=work.mode,
        question=work.question,
        text=answer.text,
        action=answer.action,
        reason=work.decision.reason,
        model=work.speaker.model.name,
        release=answer.release,
        generation=answer.generation,
        fingerprint=work.speaker.fingerprint,
        raw=work.raw,
        messages=work.prompt.messages,
        passages=work.prompt.passages,
        citations=tuple(asdict(citation) for citation in answer.citations),
        usage=answer.usage,
        milliseconds=answer.milliseconds,
    )


def greeted(work: Work) -> str:
    """Return the decision's own text, after a greeting by name where the house style asks for one."""
    assert work.decision is not None
    if not work.decision.text or not work.first_name or work.decision.action == "handoff":
        return work.decision.text
    return f"Hi {work.first_name},\n\n{work.decision.text}"


def citation(passage: Passage) -> Citation:
    """Return a passage as it is cited."""
    return Citation(passage.n, passage.source, passage.document, passage.chunk, passage.title, passage.url)


def milliseconds(started: float) -> float:
    """Return the time since a reading of the performance counter."""
    return (time.perf_counter() - started) * 1000
