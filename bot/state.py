"""The state database of one deployment: tables, engine, migrations."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, DateTime, Engine, ForeignKey, Index, String, Text, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

MIGRATIONS = Path(__file__).parent / "migrations"


def utc_now() -> datetime:
    """Return the time now, with its zone."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """Be the root of the tables."""


class ConversationRow(Base):
    """Store who a conversation belongs to; NULL is a visitor without a name."""

    __tablename__ = "conversations"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer_id: Mapped[str | None] = mapped_column(String(255))
    audience: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=utc_now)


class TurnRow(Base):
    """Store one question and answer with all that was shown to the model."""

    __tablename__ = "turns"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=utc_now)
    mode: Mapped[str] = mapped_column(String(16))
    question: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(255))
    model: Mapped[str] = mapped_column(String(255))
    release: Mapped[str | None] = mapped_column(String(255))
    generation: Mapped[str | None] = mapped_column(String(32))
    fingerprint: Mapped[str] = mapped_column(String(32))
    raw: Mapped[str] = mapped_column(Text)  # what the model wrote, before checking
    messages: Mapped[list[Any]] = mapped_column(JSON)  # the prompt as shown
    passages: Mapped[list[Any]] = mapped_column(JSON)  # the chunks as shown
    citations: Mapped[list[Any]] = mapped_column(JSON)
    usage: Mapped[dict[str, Any]] = mapped_column(JSON)
    milliseconds: Mapped[dict[str, Any]] = mapped_column(JSON)
    __table_args__ = (Index("ix_turns_conversation", "conversation_id", "created_at"),)


class FeedbackRow(Base):
    """Store the last word of the caller on one turn."""

    __tablename__ = "feedback"
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=utc_now)
    rating: Mapped[str] = mapped_column(String(8))
    comment: Mapped[str | None] = mapped_column(Text)
    correction: Mapped[str | None] = mapped_column(Text)


class LogRow(Base):
    """Store one conversation of an imported log."""

    __tablename__ = "logs"
    digest: Mapped[str] = mapped_column(String(24), primary_key=True)  # of what was said
    conversation_id: Mapped[str] = mapped_column(String(255), index=True)  # as the log names it
    customer_id: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    imported_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=utc_now)
    file: Mapped[str] = mapped_column(String(255))
    conversation: Mapped[dict[str, Any]] = mapped_column(JSON)


def open_state(path: Path) -> Engine:
    """Open the database, bringing it to the newest version first; two processes may do so at once."""
    from alembic import command
    from alembic.config import Config
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    event.listen(engine, "connect", _configure)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with FileLock(path.with_suffix(".lock")), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return engine


def _configure(connection: sqlite3.Connection, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
