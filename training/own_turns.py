"""The bot's own turns as conversations: what people rated up or corrected, with the prompt as it was served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from bot.state import ConversationRow, FeedbackRow, TurnRow
from training.conversations import Conversation, Logged, Shown

_CHUNK = 200  # turns read at once
_LEARNED = ("answer", "follow_up")  # the rest is said in words that the settings give, and no model's


def own_turns(session: Session, modes: Sequence[str]) -> Iterator[Conversation]:
    """Yield one conversation a turn, oldest first: the question, and the reply with prompt, rating and correction.

    A turn stands alone because the turns around it may be bad; what was said before is in its prompt. Turns of
    staff are left out: their prompts show internal documents, which weights must not learn.
    """
    query = (
        select(TurnRow, FeedbackRow, ConversationRow.customer_id)
        .join(FeedbackRow, FeedbackRow.turn_id == TurnRow.id)
        .join(ConversationRow, ConversationRow.id == TurnRow.conversation_id)
        .where(ConversationRow.audience == "public", TurnRow.mode.in_(modes))
        .order_by(TurnRow.created_at, TurnRow.id)
    )
    for turn, feedback, customer_id in session.execute(query.execution_options(yield_per=_CHUNK)):
        correction = (feedback.correction or "").strip() or None
        liked = feedback.rating == "up" and turn.action in _LEARNED and turn.raw.strip() and turn.text.strip()
        if correction or liked:
            yield _conversation(turn, feedback.rating, correction, customer_id)


def _conversation(turn: TurnRow, rating: str, correction: str | None, customer_id: str | None) -> Conversation:
    reply = Logged(
        role="assistant",
        content=turn.text or turn.raw or correction or "",
        prompt=tuple({"role": m["role"], "content": m["content"]} for m in turn.messages),
        passages=tuple(Shown.model_validate(passage) for passage in turn.passages),
        documents=tuple(f"{c['source']}/{c['document']}" for c in turn.citations),
        rating="up" if rating == "up" else "down",
        correction=correction,
    )
    return Conversation(
        conversation_id=f"{turn.conversation_id}/{turn.id}",
        messages=(Logged(role="user", content=turn.question), reply),
        customer_id=customer_id,
        created_at=turn.created_at.isoformat(),
    )
