"""What belongs to the company: its addresses, links and terms are facts, however personal they look."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from training.conversations import Conversation
from training.pii.addresses import find_addresses
from training.pii.patterns import find_patterns
from training.pii.phones import find_phones
from training.pii.spans import Kind, without_overlaps
from training.pii.words import Words, learn_words

_SEVERAL = 3  # customers in whose replies a value stands that is the company's
_ROLES = frozenset(
    "support help info contact billing sales hello team noreply no-reply accounts privacy security legal admin feedback"
    " jobs careers press partners service office abuse postmaster".split()
)
# Said before a value, in a reply, these make it the company's.
_OURS = re.compile(
    r"\b(?:us|our|ours|hotline|toll[- ]free|helpline|support (?:team|line|number|phone|desk|e-?mail))\b[^.!?\n]{0,25}$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Company:
    """Hold the company's own values, as `key` writes them, its hosts, and the words of the corpus."""

    values: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    words: Words = field(default_factory=Words)

    def owns(self, value: str, kind: Kind) -> bool:
        """Say whether a value is a fact about the company."""
        return key(value, kind) in self.values or (
            kind == "email" and is_role(value) and value.lower().rpartition("@")[2] in self.hosts
        )


def is_role(email: str) -> bool:
    """Say whether an e-mail address is that of a post and not of a person."""
    return email.lower().partition("@")[0] in _ROLES


def said_as_ours(before: str) -> bool:
    """Say whether the words before a value in a reply call it the company's."""
    return _OURS.search(before[-60:]) is not None


def key(value: str, kind: Kind) -> str:
    """Write a value in the one form that all its spellings share."""
    match kind:
        case "phone" | "card" | "iban" | "ssn":
            return re.sub(r"[^a-z0-9]", "", value.lower())
        case "url":
            parts = urlsplit(value.lower() if "://" in value else f"//{value.lower()}")
            return f"{host_of(value)}{parts.path.rstrip('/')}"
        case _:
            return " ".join(value.casefold().replace(",", " ").split())


def host_of(url: str) -> str:
    """Return the host of a link, "www." left out."""
    host = urlsplit(url if "://" in url else f"//{url}").netloc.rpartition("@")[2]
    return host.lower().removeprefix("www.")


def learn_company(conversations: Iterable[Conversation], knowledge: Sequence[str] = ()) -> Company:
    """Learn what the replies to several customers share, and all that stands in the company's own texts.

    Passages that a reply was shown count as such texts. What a customer wrote first, or a record holds, never counts.
    """
    shared: defaultdict[str, set[str]] = defaultdict(set)
    messages: list[str] = []
    replies: list[str] = []
    texts = dict.fromkeys(knowledge)
    for conversation in conversations:
        said = "\n".join(m.content for m in conversation.messages if m.role == "assistant")
        theirs = " ".join([m.content for m in conversation.messages if m.role == "user"] + list(_record(conversation)))
        messages.extend(m.content for m in conversation.messages)
        replies.append(said)
        texts.update((p.text, None) for m in conversation.messages for p in m.passages or ())
        for value, kind in _values(said):
            if value.lower() not in theirs.lower():
                for name in _names_of(value, kind):
                    shared[name].add(conversation.customer_id or conversation.conversation_id)
    own = {name for text in texts for value, kind in _values(text) for name in _names_of(value, kind)}
    own |= {name for name, customers in shared.items() if len(customers) >= _SEVERAL}
    hosts = {name.removeprefix("//") for name in own if name.startswith("//")}
    return Company(frozenset(own), frozenset(hosts), learn_words(messages, replies, texts))


def _names_of(value: str, kind: Kind) -> Iterator[str]:
    """Yield a value's key, and its host after two slashes."""
    yield key(value, kind)
    if kind == "url":
        yield f"//{host_of(value)}"
    elif kind == "email" and is_role(value):
        yield f"//{value.lower().rpartition('@')[2]}"


def _values(text: str) -> Iterator[tuple[str, Kind]]:
    spans = [*find_patterns(text), *find_phones(text), *find_addresses(text)]
    for span in without_overlaps(spans):
        yield text[span.start : span.end], span.kind


def _record(conversation: Conversation) -> Iterator[str]:
    for message in conversation.messages:
        yield from _strings(message.record)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif value is not None:
        yield str(value)
