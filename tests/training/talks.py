"""Conversations, written briefly."""

from __future__ import annotations

from typing import Any

from training.conversations import Conversation


def talk(name: str, *said: str | dict[str, Any], **fields: Any) -> Conversation:
    """Make a conversation; the two sides take turns, and a dict gives what stands beside a message's content."""
    roles = ["user", "assistant"] * len(said)
    messages = [
        {"role": role, **(text if isinstance(text, dict) else {"content": text})}
        for role, text in zip(roles, said, strict=False)
    ]
    return Conversation.model_validate({"conversation_id": name, "messages": messages, **fields})
