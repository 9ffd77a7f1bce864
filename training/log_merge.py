"""What becomes of a conversation that is imported: new, known already, or in place of an older one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from training.conversations import Conversation

Fate = Literal["added", "known", "replaced"]


@dataclass(slots=True)
class Stored:
    """Hold a row of the table; `changed` where it has still to be written."""

    digest: str
    conversation_id: str  # as the log names it
    value: dict[str, Any]
    changed: bool = False

    @property
    def opening(self) -> str:
        """Return what was said first, which tells apart conversations that share an id."""
        said = [m for m in self.value["messages"] if m["role"] != "system"] or self.value["messages"]
        return " ".join(str(said[0]["content"]).split())


@dataclass(slots=True)
class Merge:
    """Take conversations one by one; `rows` holds those stored under the ids in question."""

    rows: dict[str, list[Stored]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # digests of stored rows that were replaced
    counts: Counter[Fate] = field(default_factory=lambda: Counter({"added": 0, "known": 0, "replaced": 0}))

    def take(self, conversation: Conversation) -> None:
        """Add a conversation, or let it replace the one that it carries on.

        Exports of two systems may both begin to count at 1: a conversation that begins otherwise than the one
        stored under its id is another one, and gets an id of its own.
        """
        value = conversation.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        new = Stored(conversation.digest(), conversation.conversation_id, value, changed=True)
        rows = self.rows.setdefault(new.conversation_id, [])
        for n, old in enumerate(rows):
            if old.digest == new.digest or old.opening == new.opening:
                new.value["conversation_id"] = old.value["conversation_id"]
                if not _newer(old, new):
                    self.counts["known"] += 1
                    return
                if not old.changed:
                    self.gone.add(old.digest)
                rows[n] = new
                self.counts["replaced"] += 1
                return
        if rows:
            new.value["conversation_id"] = f"{new.conversation_id}~{new.digest[:8]}"
        rows.append(new)
        self.counts["added"] += 1


def _newer(old: Stored, new: Stored) -> bool:
    """Prefer more messages, then more said about them (ratings, corrections), then the later import."""
    if old.value == new.value:
        return False
    before, after = ((len(s.value["messages"]), len(json.dumps(s.value))) for s in (old, new))
    if old.digest == new.digest or before[0] != after[0]:
        return after > before
    return True
