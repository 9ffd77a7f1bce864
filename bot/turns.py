"""The turn log: conversations, their turns with all that was shown, and feedback."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from bot.errors import UnknownConversation, UnknownTurn
from bot.state import ConversationRow, FeedbackRow, TurnRow, utc_now
from prompts.messages import Message, Passage
from retrieval.documents import Audience


@dataclass(frozen=True, slots=True)
class Caller:
    """Name who asks, as authenticated; a visitor has no customer_id."""

    customer_id: str | None = None
    audience: Audience = "public"


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold one turn as it is logged."""

    turn_id: str
    conversation_id: str
    mode: str
    question: str
    text: str
    action: str
    reason: str  # why this action
    model: str
    release: str | None
    generation: str | None
    fingerprint: str
    raw: str
    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    citations: tuple[Mapping[str, Any], ...]
    usage: Mapping[str, int]
    milliseconds: Mapping[str, float]


def new_id(kind: str) -> str:
    """Make an id that cannot be guessed, such as turn_1f0c..."""
    return f"{kind}_{uuid.uuid4().hex}"


class TurnLog:
    """Read and write the log of one deployment; a caller reaches only its own rows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def owner(self, conversation_id: str) -> Caller:
        """Say whose conversation this is, or raise UnknownConversation; for trusted callers in this process only."""
        with Session(self._engine) as session:
            row = session.get(ConversationRow, conversation_id)
            if row is None:
                raise UnknownConversation(f"There is no conversation '{conversation_id[:80]}'.")
            return Caller(row.customer_id, "internal" if row.audience == "internal" else "public")

    def history(self, conversation_id: str, caller: Caller) -> list[Message]:
        """Return the messages of the caller's conversation, oldest first, or raise UnknownConversation."""
        with Session(self._engine) as session:
            self._own(session, conversation_id, caller)
            query = (
                select(TurnRow.question, TurnRow.text)
                .where(TurnRow.conversation_id == conversation_id)
                .order_by(TurnRow.created_at, TurnRow.id)
            )
            rows = session.execute(query).all()
        return [Message(*pair) for q, t in rows for pair in (("user", q), ("assistant", t))]

    def begin(self, caller: Caller) -> str:
        """Start a conversation of this caller and return its id."""
        name = new_id("conv")
        with Session(self._engine) as session, session.begin():
            session.add(ConversationRow(id=name, customer_id=caller.customer_id, audience=caller.audience))
        return name

    def save(self, turn: Turn) -> None:
        """Append a turn to its conversation."""
        with Session(self._engine) as session, session.begin():
            values = asdict(turn)
            values["id"] = values.pop("turn_id")
            session.add(TurnRow(**values))

    def turn(self, turn_id: str, caller: Caller) -> Turn:
        """Return a turn of the caller's own, or raise UnknownTurn."""
        with Session(self._engine) as session:
            row = self._own_turn(session, turn_id, caller)
            values = {name: getattr(row, name) for name in Turn.__slots__ if name != "turn_id"}
        values["messages"] = tuple(Message(**m) for m in values["messages"])
        values["passages"] = tuple(Passage(**p) for p in values["passages"])
        values["citations"] = tuple(values["citations"])
        return Turn(turn_id=turn_id, **values)

    def rate(self, turn_id: str, caller: Caller, rating: str, comment: str | None, correction: str | None) -> None:
        """Store the caller's word on one of its turns; a second word replaces the first."""
        with Session(self._engine) as session, session.begin():
            self._own_turn(session, turn_id, caller)
            row = session.get(FeedbackRow, turn_id) or FeedbackRow(turn_id=turn_id)
            row.rating, row.comment, row.correction, row.created_at = rating, comment, correction, utc_now()
            session.add(row)

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    def _own(self, session: Session, conversation_id: str, caller: Caller) -> ConversationRow:
        row = session.get(ConversationRow, conversation_id)
        if row is None or (row.customer_id, row.audience) != (caller.customer_id, caller.audience):
            raise UnknownConversation(
                "There is no such conversation. Leave conversation_id out to start one; the answer names it."
            )
        return row

    def _own_turn(self, session: Session, turn_id: str, caller: Caller) -> TurnRow:
        row = session.get(TurnRow, turn_id)
        try:
            if row is not None:
                self._own(session, row.conversation_id, caller)
                return row
        except UnknownConversation:
            pass
        raise UnknownTurn("There is no such turn.")
