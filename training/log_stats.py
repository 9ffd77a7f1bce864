"""What there is to learn from, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bot.state import FeedbackRow, LogRow, TurnRow
from training.conversations import Conversation
from training.language import language_of

_UNKNOWN = "unknown"  # too short to tell


@dataclass(frozen=True, slots=True)
class Medians:
    """Hold the middle of three lengths; words, and messages of a conversation."""

    messages: float
    question_words: float
    reply_words: float


@dataclass(frozen=True, slots=True)
class OwnTurns:
    """Count the bot's own turns, and what people said of them."""

    turns: int
    up: int
    down: int
    corrected: int


@dataclass(frozen=True, slots=True)
class LogStats:
    """Count imported conversations; `first` and `last` are the days they are from, where the logs say so."""

    conversations: int
    messages: int
    assistant_turns: int
    customers: int
    with_rating: int
    first: str | None
    last: str | None
    files: dict[str, int]
    languages: dict[str, int]
    median: Medians
    own: OwnTurns


def log_stats(session: Session, conversations: Iterable[Conversation]) -> LogStats:
    """Count; each conversation is looked at once."""
    questions: list[int] = []
    replies: list[int] = []
    lengths: list[int] = []
    languages: Counter[str] = Counter()
    rated = 0
    for conversation in conversations:
        said = [m for m in conversation.messages if m.role != "system"]
        lengths.append(len(said))
        for message in said:
            (replies if message.role == "assistant" else questions).append(len(message.content.split()))
        languages[language_of("\n".join(m.content for m in said)) or _UNKNOWN] += 1
        rated += conversation.rating is not None or any(m.rating for m in said)
    first, last = session.execute(select(func.min(LogRow.created_at), func.max(LogRow.created_at))).one()
    files = session.execute(select(LogRow.file, func.count()).group_by(LogRow.file).order_by(LogRow.file)).all()
    return LogStats(
        conversations=len(lengths),
        messages=sum(lengths),
        assistant_turns=len(replies),
        customers=session.scalar(select(func.count(LogRow.customer_id.distinct()))) or 0,
        with_rating=rated,
        first=first.date().isoformat() if first else None,
        last=last.date().isoformat() if last else None,
        files={name: count for name, count in files},
        languages=dict(languages.most_common()),
        median=Medians(_middle(lengths), _middle(questions), _middle(replies)),
        own=_own(session),
    )


def _own(session: Session) -> OwnTurns:
    rated = session.execute(select(FeedbackRow.rating, func.count()).group_by(FeedbackRow.rating)).all()
    ratings = {rating: count for rating, count in rated}
    corrected = select(func.count()).where(FeedbackRow.correction.is_not(None), FeedbackRow.correction != "")
    return OwnTurns(
        turns=session.scalar(select(func.count(TurnRow.id))) or 0,
        up=ratings.get("up", 0),
        down=ratings.get("down", 0),
        corrected=session.scalar(corrected) or 0,
    )


def _middle(values: list[int]) -> float:
    return float(median(values)) if values else 0.0
