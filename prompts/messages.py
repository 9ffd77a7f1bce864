"""The values that phrasing works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """Hold one message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Slots:
    """Fill what differs between companies, so that a new company needs no retraining."""

    company: str = "our company"
    tone: str = ""
    closing: str = "Is there anything else I can help with?"
    handoff: str = "I am passing you on to a colleague, who will answer you here."
    decline: str = "I could not find that in our documentation. Would you like me to pass you on to a colleague?"
    quote: str = "This is what our documentation says:"
    follow_up: str = "Could you tell me a little more about what you were doing and what you see?"


@dataclass(frozen=True, slots=True)
class Passage:
    """Show one chunk under the number that a citation names it by."""

    n: int
    source: str
    document: str
    chunk: str
    title: str
    heading: str
    text: str
    url: str | None = None
    updated: str | None = None

    @property
    def head(self) -> str:
        """Join title and heading path."""
        return " > ".join(part for part in (self.title, self.heading) if part)


@dataclass(frozen=True, slots=True)
class CustomerContext:
    """Show the caller's own record: fields in the source's order, tickets with the latest first."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    tickets: tuple[TicketLine, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketLine:
    """Show one ticket in a line."""

    subject: str
    status: str
    date: str
    excerpt: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Hold a prompt as shown, with the parts of it that an answer may rest on."""

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    record: str  # the customer's record as shown, "" without one
    history: tuple[Message, ...]  # of this conversation, examples left out
    question: str
