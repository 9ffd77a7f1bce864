"""The house style as rules that a program can check; each says "kept" where it does not apply."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from training.cases import Case

MAX_WORDS = 110
MAX_GREETING_WORDS = 40  # of a reply to small talk

_MARKER = re.compile(r"\[\d{1,2}\]")
_GREETING = re.compile(r"^(?:hi|hello|hey|dear)(?:\s+(?P<name>[^\W\d_][\w'’-]*))?\s*[,.!]", re.IGNORECASE)
_STEP = re.compile(r"^\s*\d{1,2}[.)]\s+\S", re.MULTILINE)
# What stands before an answer instead of it.
_OPENER = re.compile(
    r"^(?:great question|good question|thank(?:s| you) for|i understand|i(?:'d| would) be happy|of course"
    r"|certainly|sure|according to|based on|as (?:stated|mentioned|described)|to answer your"
    r"|you (?:asked|want to know)|the question)\b|^(?:documentation|question|customer record):",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one reply with what its rules depend on; `first_name` is None where the customer is unknown."""

    text: str
    action: str
    case: Case
    closing: str
    first_name: str | None

    @property
    def body(self) -> str:
        """Return the text after its greeting."""
        text = self.text.strip()
        greeting = _GREETING.match(text)
        return text[greeting.end() :].lstrip() if greeting else text


def greets(reply: Reply) -> bool:
    """Greet by first name when it is known, in the first reply of a conversation."""
    if reply.case.history or reply.first_name is None or reply.action == "handoff":
        return True
    greeting = _GREETING.match(reply.text.strip())
    if greeting and greeting["name"] is not None:
        return greeting["name"].casefold() == reply.first_name.casefold()
    return reply.case.kind == "greeting" and reply.first_name.casefold() in reply.text.casefold()


def answers_first(reply: Reply) -> bool:
    """Begin with the answer: no filler, no question, no repeating of what was asked."""
    if reply.action != "answer" or reply.case.kind == "greeting":
        return True
    first = re.split(r"(?<=[.!?:])\s", reply.body, maxsplit=1)[0]
    echo = " ".join(re.findall(r"\w+", first.lower())) == " ".join(re.findall(r"\w+", reply.case.question.lower()))
    return not _OPENER.match(reply.body) and not first.endswith("?") and not echo


def numbers_steps(reply: Reply) -> bool:
    """Write a procedure as numbered steps."""
    return reply.action != "answer" or not reply.case.procedure or len(_STEP.findall(reply.text)) >= 2


def cites(reply: Reply) -> bool:
    """Put a citation marker on an answer that rests on the documentation."""
    return reply.action != "answer" or not reply.case.documents or bool(_MARKER.search(reply.text))


def closes(reply: Reply) -> bool:
    """End an answer with the closing line, said once; end a decline or a question back with a question."""
    if reply.action == "handoff" or reply.case.kind == "greeting":
        return True
    text = reply.text.strip()
    if reply.action != "answer":
        return text.endswith("?")
    return text.endswith(reply.closing) and text.count(reply.closing) == 1


def is_brief(reply: Reply) -> bool:
    """Say something, in few words."""
    return 0 < len(reply.text.split()) <= (MAX_GREETING_WORDS if reply.case.kind == "greeting" else MAX_WORDS)


RULES: Mapping[str, Callable[[Reply], bool]] = {
    "greeting": greets,
    "answer first": answers_first,
    "numbered steps": numbers_steps,
    "citation marker": cites,
    "closing line": closes,
    "length": is_brief,
}


def broken_rules(reply: Reply) -> list[str]:
    """Name the rules that a reply breaks."""
    return [name for name, holds in RULES.items() if not holds(reply)]
