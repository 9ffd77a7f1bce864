"""Conversation logs: the rows that learning starts from, one JSON object a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prompts.messages import Message, Slots
from retrieval.files import write_atomically
from training.errors import LogError


class Shown(BaseModel):
    """Be a passage that stood in the prompt, in the order of the markers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str = "log"
    document: str
    title: str = ""
    heading: str = ""
    text: str


class Logged(BaseModel):
    """Be one message; what stands beside `content` belongs to replies.

    `record` is what the reply knew of the customer, `passages` what it was shown (None: unknown), `documents` what
    it rests on, `prompt` the whole prompt as served, where the bot itself wrote the reply.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["user", "assistant", "system"]
    content: str
    record: dict[str, Any] | None = None
    passages: tuple[Shown, ...] | None = None
    documents: tuple[str, ...] = ()
    prompt: tuple[dict[str, str], ...] | None = None
    rating: Literal["up", "down"] | None = None
    correction: str | None = None


class Conversation(BaseModel):
    """Be one conversation; `company`, `closing` and `tone` fill the templates where they are not the deployment's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    conversation_id: str = Field(min_length=1)
    messages: tuple[Logged, ...] = Field(min_length=1)
    customer_id: str | None = None
    created_at: str | None = None
    rating: float | str | None = None
    company: str | None = None
    closing: str | None = None
    tone: str | None = None
    knowledge: Literal["search", "none"] | None = None  # "none": replies from the weights, nothing is searched

    def slots(self, default: Slots) -> Slots:
        """Return the words of this conversation's company."""
        changed = {k: v for k in ("company", "closing", "tone") if (v := getattr(self, k)) is not None}
        return replace(default, **changed)

    def before(self, index: int) -> list[Message]:
        """Return what was said before message `index`, system messages left out."""
        return [Message(m.role, m.content) for m in self.messages[:index] if m.role != "system"]

    def digest(self) -> str:
        """Hash what was said, so that the same conversation is imported once."""
        said = [(m.role, m.content) for m in self.messages]
        return hashlib.sha256(json.dumps([self.conversation_id, said]).encode()).hexdigest()[:24]


def read_conversations(path: Path) -> tuple[list[Conversation], list[tuple[int, str]]]:
    """Read a JSONL file; returns the conversations, and the number of each bad line with what is wrong with it."""
    good: list[Conversation] = []
    bad: list[tuple[int, str]] = []
    for number, line in _lines(path):
        try:
            good.append(Conversation.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            bad.append((number, f"{where}: {first['msg']}" if where else str(first["msg"])))
    return good, bad


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """Write a JSONL file in one step."""
    rows = (c.model_dump_json(exclude_none=True, exclude_defaults=True) for c in conversations)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(f"{row}\n" for row in rows))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise LogError(f"The log {path} cannot be read: {error.strerror}.") from None
