"""Decide what the reply is: an answer, a question back, a decline, or a person taking over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bot.handoff import asks_for_person, is_small_talk, is_vague
from bot.verify import Verifier
from prompts.messages import Message, Slots

Action = Literal["answer", "follow_up", "decline", "handoff"]


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold an action and why; a `text` stands in for what the model would write."""

    action: Action
    reason: str
    text: str


def decide_before(question: str, history: Sequence[Message], slots: Slots) -> Decision | None:
    """Decide from the question alone; None leaves it to the evidence and the model."""
    if asks_for_person(question):
        return Decision("handoff", "the customer asked for a person", slots.handoff)
    if is_small_talk(question):
        return Decision("answer", "small talk", "")
    if is_vague(question) and not history:
        return Decision("follow_up", "the question names nothing to look up", slots.follow_up)
    return None


def decide_after(before: Decision | None, verifier: Verifier, slots: Slots, quotes: Callable[[], str]) -> Decision:
    """Decide from what was verified; an unsupported reply is never an answer.

    Where nothing of it can be shown, `quotes` (what passages close to the question say) stand in its place.
    """
    if before is not None:
        return before if verifier.showed_text else Decision(before.action, before.reason, slots.closing)
    if verifier.supported:
        return Decision("answer", "supported by the evidence", "")
    if verifier.asked_back and not verifier.refused:  # of a refusal nothing is shown
        return Decision("follow_up", "the model asked back", "")
    why = (
        "the model found no answer in the evidence" if verifier.refused else "nothing that the model wrote is supported"
    )
    if quoted := quotes():
        return Decision("answer", f"{why}; passages are quoted", f"{slots.quote}\n\n{quoted}\n\n{slots.closing}")
    return Decision("decline", why, slots.decline)
