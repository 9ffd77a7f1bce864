"""Curation: from logs as they come to conversations that are worth learning from, one counted stage after another."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from training.conversations import Conversation, Logged
from training.duplicates import exact_duplicates, near_duplicates
from training.language import language_of
from training.pii import NamesOf, Replacer, StandIns, learn_company

_UP, _DOWN = frozenset(("up", "good", "positive")), frozenset(("down", "bad", "negative"))
_LOW = 2.0  # of 5 stars


@dataclass(frozen=True, slots=True)
class CurateSettings:
    """Set what is left out."""

    languages: tuple[str, ...] = ("en",)  # ISO 639; empty keeps all
    min_reply_words: int = 2  # the longest reply of a conversation has at least so many
    max_reply_words: int = 300  # and none more than so many
    near_duplicates: float = 0.9  # share of shingles; more than 1 keeps them all
    replace_pii: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """Count what a stage left, what it dropped, and what it only changed."""

    name: str
    left: int
    dropped: int
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Curated:
    """Hold the conversations that stay, in the order they came in, and how many each stage took.

    `stand_ins` maps a conversation's id to what was invented for it: a customer's record that is looked up later
    has to go through it too, or the reply greets somebody else than the record names.
    """

    conversations: tuple[Conversation, ...]
    funnel: tuple[Stage, ...]
    stand_ins: Mapping[str, StandIns] = field(default_factory=dict)


def curate(
    conversations: Iterable[Conversation],
    settings: CurateSettings,
    *,
    names_of: NamesOf | None = None,
    knowledge: Sequence[str] = (),
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Curated:
    """Take the conversations through all stages.

    `names_of` gives the name on a customer's record, by customer_id. `knowledge` holds the company's own texts:
    what stands in them is a fact and not personal.
    """
    kept = list(conversations)
    funnel = [Stage("logs", len(kept), 0)]

    def stage(name: str, after: Sequence[Conversation]) -> None:
        nonlocal kept
        changed = len({id(c) for c in after} - {id(c) for c in kept})
        funnel.append(Stage(name, len(after), len(kept) - len(after), changed))
        kept = list(after)

    stage("empty or broken", [c for c in kept if _whole(c)])
    stage("other languages", [c for c in kept if _spoken(c, settings.languages)])
    stage("too short or too long", [c for c in kept if _fitting(c, settings)])
    stage("exact duplicates", _distinct(kept, exact_duplicates))
    stage("near duplicates", _distinct(kept, lambda texts: near_duplicates(texts, settings.near_duplicates)))
    stage("rated down", [left for c in kept if (left := _without_bad(c)) is not None])
    stage("corrections put in", [_corrected(c) for c in kept])
    stand_ins: dict[str, StandIns] = {}
    if settings.replace_pii:
        replacer = Replacer(learn_company(kept, knowledge), names_of)
        replaced = []
        for number, conversation in enumerate(kept, start=1):
            after, stand_ins[conversation.conversation_id] = replacer.replace(conversation)
            replaced.append(after)
            progress("personal data", number, len(kept))
        stage("personal data replaced", replaced)
    return Curated(tuple(kept), tuple(funnel), stand_ins)


def _whole(conversation: Conversation) -> bool:
    """Ask for a question with its reply, and for words in every message."""
    roles = [m.role for m in conversation.messages]
    pairs = any(pair == ("user", "assistant") for pair in zip(roles, roles[1:], strict=False))
    return pairs and all(_has_words(m.content) for m in conversation.messages if m.role != "system")


def _has_words(text: str) -> bool:
    return any(not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn") for c in text)


def _spoken(conversation: Conversation, languages: Sequence[str]) -> bool:
    if not languages:
        return True
    found = language_of(_text(conversation))
    return found is None or found in languages


def _fitting(conversation: Conversation, settings: CurateSettings) -> bool:
    lengths = [len(m.content.split()) for m in conversation.messages if m.role == "assistant"]
    return max(lengths) >= settings.min_reply_words and max(lengths) <= settings.max_reply_words


def _text(conversation: Conversation) -> str:
    return "\n".join(m.content for m in conversation.messages if m.role != "system")


def _distinct(
    conversations: Sequence[Conversation], find: Callable[[Sequence[str]], Mapping[int, int]]
) -> list[Conversation]:
    """Keep one of those that are alike: a corrected one, else one rated up, else the first."""
    best_first = sorted(range(len(conversations)), key=lambda n: (-_worth(conversations[n]), n))
    alike = find([_text(conversations[n]) for n in best_first])
    dropped = {best_first[n] for n in alike}
    return [c for n, c in enumerate(conversations) if n not in dropped]


def _worth(conversation: Conversation) -> int:
    if any(_is_corrected(m) for m in conversation.messages):
        return 2
    rating = stars(conversation.rating)
    liked = (rating is not None and rating > 3) or any(m.rating == "up" for m in conversation.messages)
    disliked = _is_low(conversation) or any(m.rating == "down" for m in conversation.messages)
    return int(liked) - int(disliked)


def stars(rating: float | str | None) -> float | None:
    """Read a rating of any kind as 1 to 5 stars, None where there is none or it cannot be read."""
    if not isinstance(rating, str):
        return rating
    text = rating.strip().lower()
    if text in _UP or text in _DOWN:
        return 5.0 if text in _UP else 1.0
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(?:\s*(?:/|of|out of)\s*5)?(?:\s*stars?)?", text)
    return float(number[1]) if number else None


def _is_low(conversation: Conversation) -> bool:
    rating = stars(conversation.rating)
    return rating is not None and rating <= _LOW


def _without_bad(conversation: Conversation) -> Conversation | None:
    """Cut a conversation before the question whose reply was rated down; None where nothing is left."""
    if _is_low(conversation) and not any(_is_corrected(m) for m in conversation.messages):
        return None
    bad = next((n for n, m in enumerate(conversation.messages) if m.rating == "down" and not _is_corrected(m)), None)
    if bad is None:
        return conversation
    while bad > 0 and conversation.messages[bad - 1].role == "user":
        bad -= 1
    left = conversation.messages[:bad]
    if not any(m.role == "assistant" for m in left):
        return None
    return conversation.model_copy(update={"messages": left})


def _is_corrected(message: Logged) -> bool:
    return bool(message.correction and message.correction.strip())


def _corrected(conversation: Conversation) -> Conversation:
    """Let each correction stand as the reply; whoever wrote it liked it."""
    if not any(_is_corrected(m) for m in conversation.messages):
        return conversation
    messages = tuple(
        m.model_copy(update={"content": m.correction, "correction": None, "rating": "up"}) if _is_corrected(m) else m
        for m in conversation.messages
    )
    return conversation.model_copy(update={"messages": messages})
