"""Rows of exports as conversations, one function a format."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from training.conversations import Conversation

_USER = frozenset(("user", "end-user", "end_user", "customer", "client", "visitor", "human", "requester"))
_ASSISTANT = frozenset(("assistant", "agent", "admin", "bot", "support", "staff", "operator"))


class BadRow(ValueError):
    """Say what is wrong with one line."""


# What the formats have in common


def content_id(kind: str, said: object) -> str:
    """Name a conversation that has no id, alike at each import."""
    return f"{kind}_{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]}"


def role_of(name: object) -> str:
    """Translate the names that exports give the two sides."""
    known = str(name).strip().lower()
    if known in _USER:
        return "user"
    if known in _ASSISTANT:
        return "assistant"
    if known in ("system", "developer"):
        return "system"
    raise BadRow(f"role: '{str(name)[:40]}' is neither user nor assistant")


def as_id(value: object) -> str | None:
    """Give an id as text; exports write them as numbers too."""
    if value is None or isinstance(value, bool) or not str(value).strip():
        return None
    return str(value).strip()


def as_time(value: object) -> str | None:
    """Give a time as text; a number counts seconds or milliseconds since 1970."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return as_id(value)
    seconds = value / 1000 if abs(value) > 1e11 else value
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(value)


def time_of(text: str | None) -> datetime | None:
    """Read a time in ISO 8601, one without a zone as UTC; None for anything else."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


# One function a format


def chat(row: dict[str, Any]) -> Conversation:
    """Read a line of our own format; ids and times may be numbers."""
    ids = {key: as_id(row[key]) for key in ("conversation_id", "customer_id") if row.get(key) is not None}
    times = {"created_at": as_time(row["created_at"])} if row.get("created_at") is not None else {}
    return Conversation.model_validate({**row, **{k: v if v is not None else "" for k, v in ids.items()}, **times})


def openai(row: dict[str, Any]) -> Conversation:
    """Read a line of a fine-tuning file; what tools were called with and said is left out."""
    listed = row.get("messages")
    if not isinstance(listed, list) or not all(isinstance(m, dict) for m in listed):
        raise BadRow("messages: not a list of objects")
    said = [
        {**message, "role": role_of(message.get("role")), "content": _parts(message.get("content"))}
        for message in listed
        if message.get("role") not in ("tool", "function") and message.get("content") is not None
    ]
    named = as_id(row.get("conversation_id")) or as_id(row.get("id"))
    name = named or content_id("openai", [(m["role"], m["content"]) for m in said])
    return chat({**row, "conversation_id": name, "messages": said})


def _parts(content: object) -> object:
    if not isinstance(content, list):
        return content
    return "".join(str(p.get("text") or "") if isinstance(p, dict) else str(p) for p in content)


def zendesk(row: dict[str, Any]) -> Conversation:
    """Read a ticket with its comments; internal notes are left out."""
    comments = row.get("comments")
    if not isinstance(comments, list) or not all(isinstance(c, dict) for c in comments):
        raise BadRow("comments: not a list of objects")
    requester = row.get("requester")
    requester = requester if isinstance(requester, dict) else {}
    owner = as_id(row.get("requester_id")) or as_id(requester.get("id"))
    said = [
        {"role": _author(comment, owner), "content": body}
        for comment in comments
        if comment.get("public", True) is True and (body := _body(comment))
    ]
    if not said:
        raise BadRow("comments: none is public and has text")
    score = row.get("satisfaction_rating")
    score = score.get("score") if isinstance(score, dict) else score
    first = next((c.get("created_at") for c in comments if c.get("created_at")), None)
    return chat(
        {
            "conversation_id": as_id(row.get("id")) or content_id("zendesk", said),
            "messages": said,
            "customer_id": as_id(requester.get("external_id")) or owner,
            "created_at": row.get("created_at") or first,
            "rating": {"good": "up", "bad": "down"}.get(str(score).lower()),
        }
    )


def _author(comment: Mapping[str, Any], owner: str | None) -> str:
    author = comment.get("author")
    role = author.get("role") if isinstance(author, dict) else comment.get("author_role") or comment.get("role")
    if role is not None:
        return role_of(role)
    writer = as_id(comment.get("author_id"))
    if writer is None or owner is None:
        raise BadRow("comments: one has no author.role, and the ticket no requester_id to tell it by")
    return "user" if writer == owner else "assistant"


def _body(comment: Mapping[str, Any]) -> str:
    plain = comment.get("plain_body") or comment.get("body")
    if plain or not comment.get("html_body"):
        return str(plain or "").strip()
    broken = re.sub(r"(?i)<br\s*/?>|</(?:p|div|li|h\d|tr)>", "\n", str(comment["html_body"]))
    return html.unescape(re.sub(r"<[^>]*>", "", broken)).strip()
