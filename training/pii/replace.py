"""Whole conversations with stand-ins in place of what is personal; what the company says of itself stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from training.conversations import Conversation, Logged
from training.pii.company import Company, host_of, is_role, said_as_ours
from training.pii.find import Finder
from training.pii.links import has_user_data, without_user_data
from training.pii.spans import Kind, Span
from training.pii.stand_ins import StandIns

NamesOf = Callable[[str], str | None]
_FIELDS: dict[str, Kind] = {
    "name": "name", "full_name": "name", "first_name": "name", "last_name": "name", "contact": "name",
    "email": "email", "phone": "phone", "mobile": "phone", "address": "address", "street": "address",
    "birth_date": "birth_date", "date_of_birth": "birth_date", "birthday": "birth_date", "dob": "birth_date",
    "ssn": "ssn", "iban": "iban", "ip": "ip",
}  # fmt: skip


class Replacer:
    """Replace what is personal, conversation by conversation."""

    def __init__(self, company: Company, names_of: NamesOf | None = None) -> None:
        """`names_of` gives the name on a customer's record."""
        self._company = company
        self._names_of = names_of or (lambda _: None)
        self._finder = Finder(company.words)

    def replace(self, conversation: Conversation) -> tuple[Conversation, StandIns]:
        """Return the conversation, and what was invented for it."""
        texts = [text for m in conversation.messages for text in _texts(m)]
        stand_ins = StandIns(conversation.conversation_id, "\n".join(texts))
        names = [name for c in [conversation.customer_id] if c and (name := self._names_of(c))]
        records = [m.record for m in conversation.messages if m.record]
        names += [str(v) for record in records for k, v in record.items() if v and _FIELDS.get(k) == "name"]
        for name in names:
            stand_ins.of(name, "name")
        work = _Work(self._company, self._finder, stand_ins, self._known(conversation, names), conversation)
        for record in records:  # first, so that replies are searched for what they hold
            work.record(record)
        messages = tuple(work.message(n, m) for n, m in enumerate(conversation.messages))
        if messages == conversation.messages:
            return conversation, stand_ins
        return conversation.model_copy(update={"messages": messages}), stand_ins

    def _known(self, conversation: Conversation, names: list[str]) -> frozenset[str]:
        """Gather the words of names that one message tells, so that the others are searched for them."""
        found = [word for name in names for word in name.casefold().split()]
        asked = ""
        for message in conversation.messages:
            for text in _texts(message):
                for span in self._finder.find(text, asked):
                    if span.kind == "name":
                        found += text[span.start : span.end].casefold().split()
            asked = message.content
        return frozenset(word for word in found if len(word) > 2 and self._finder.is_unusual(word))


class _Work:
    """Carry one conversation through."""

    def __init__(
        self, company: Company, finder: Finder, stand_ins: StandIns, known: frozenset[str], conversation: Conversation
    ) -> None:
        self._company = company
        self._finder = finder
        self._stand_ins = stand_ins
        self._known = known
        self._messages = conversation.messages
        self._year = _year(conversation.created_at)
        self._theirs = "\n".join(m.content for m in conversation.messages if m.role == "user").casefold()

    def message(self, n: int, message: Logged) -> Logged:
        """Return one message with all that hangs on it."""
        asked = self._messages[n - 1].content if n else ""
        update: dict[str, Any] = {"content": self._text(message.content, message.role, asked)}
        if message.correction:
            update["correction"] = self._text(message.correction, "assistant", asked)
        if message.record:
            update["record"] = self.record(message.record)
        if message.prompt:
            update["prompt"] = tuple(self._prompted(p) for p in message.prompt)
        changed = {name: value for name, value in update.items() if value != getattr(message, name)}
        return message.model_copy(update=changed) if changed else message

    def _prompted(self, message: dict[str, str]) -> dict[str, str]:
        if message.get("role") == "system":
            return message
        return {**message, "content": self._text(message.get("content", ""), "prompt", "")}

    def _text(self, text: str, role: str, asked: str) -> str:
        year = self._year if role == "user" else None
        parts: list[str] = []
        end = 0
        for span in self._finder.find(text, asked, self._known, year):
            value = text[span.start : span.end]
            made = self._stand_in(value, span, text, role)
            if made is not None:
                parts += [text[end : span.start], made]
                end = span.end
        return self._stand_ins.spelled("".join([*parts, text[end:]]))

    def _stand_in(self, value: str, span: Span, text: str, role: str) -> str | None:
        """Return what replaces a value, None where it stays."""
        if span.kind == "name":
            return self._stand_ins.of(value, "name")
        own = self._company.owns(value, span.kind)
        if span.kind == "url":
            own = own or host_of(value) in self._company.hosts
        if role == "assistant" and value.casefold() not in self._theirs:  # the company brought it up
            own = own or span.kind == "url" or said_as_ours(text[: span.start])
            own = own or (span.kind == "email" and is_role(value))
        if not own:
            return self._stand_ins.of(value, span.kind)
        return without_user_data(value) if span.kind == "url" and has_user_data(value) else None

    def record(self, value: Any, field: str = "") -> Any:
        """Return a record, or a part of one, with stand-ins; a field's name tells more than its value."""
        if isinstance(value, dict):
            return {name: self.record(item, str(name)) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.record(item, field) for item in value]
        if not isinstance(value, str) or not value.strip():
            return value
        kind = _FIELDS.get(field)
        if kind and (kind == "name" or re.search(r"\d{3}|@|\d.*[ /.-]", value)):  # a "phone" may be an "Android"
            return self._stand_ins.of(value, kind)
        return self._text(value, "record", "")


def _texts(message: Logged) -> Iterator[str]:
    yield message.content
    if message.correction:
        yield message.correction
    for prompted in message.prompt or ():
        yield prompted.get("content", "")


def _year(created_at: str | None) -> int:
    found = re.match(r"(?:19|20)\d\d", created_at or "")
    return int(found[0]) if found else datetime.now(UTC).year
