"""Words as evidence: which are names, and which a corpus shows to be common or the company's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_AMBIGUOUS = Path(__file__).with_name("not_names.txt")
_SEVERAL = 3  # conversations, from which on a word is the company's
_GREETED = re.compile(r"(?:^|\n)\s*(?:hi|hello|hey|dear|thanks|thank you|good \w+)[ ,]+[^\n,.!]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Names:
    """Hold names in lower case; `common` are words and brands that are names too, `places` towns and regions.

    `never` are words that begin no name.
    """

    first: frozenset[str]
    often: frozenset[str]  # first names of more than one language
    last: frozenset[str]
    common: frozenset[str]
    never: frozenset[str]
    places: frozenset[str]


@cache
def all_names() -> Names:
    """Gather the names of all languages that Faker knows; takes a fifth of a second."""
    import importlib
    import pkgutil

    from faker.providers import person

    first: Counter[str] = Counter()
    last: set[str] = set()
    for module in pkgutil.iter_modules(person.__path__):
        provider = importlib.import_module(f"{person.__name__}.{module.name}").Provider
        first.update(set(_listed(provider, "first_name")))
        last.update(_listed(provider, "last_name"))
    often = frozenset(name for name, languages in first.items() if languages > 1)
    parts = re.split(r"^#.*\n", _AMBIGUOUS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    common, never, places = (frozenset(part.split()) for part in parts[1:])
    return Names(frozenset(first), often, frozenset(last), common, never, places)


def _listed(provider: type, prefix: str) -> Iterator[str]:
    for attribute in dir(provider):
        names = getattr(provider, attribute, None) if attribute.startswith(prefix) else None
        if isinstance(names, tuple | list | dict):
            for name in names:
                if isinstance(name, str):
                    yield from (token.casefold() for token in WORD.findall(name) if len(token) > 1)


@dataclass(frozen=True, slots=True)
class Words:
    """Hold what a corpus teaches, in lower case: words that are no names in it, and the company's own terms."""

    common: frozenset[str] = frozenset()
    terms: frozenset[str] = frozenset()


def learn_words(messages: Iterable[str], replies: Iterable[str], knowledge: Iterable[str]) -> Words:
    """Learn from a corpus; `replies` holds for each conversation what the company wrote in it."""
    small: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    terms: Counter[str] = Counter()
    for text in messages:
        _count(text, small, capital)
    for text in replies:
        terms.update({word.casefold() for word in _capitals_inside(_GREETED.sub("\n", text))})
    known: set[str] = set()
    for text in knowledge:
        _count(text, small, capital)
        known.update(word.casefold() for word in WORD.findall(text) if word[0].isupper())
    common = {word for word, n in small.items() if n > 1 and n > capital[word]}
    return Words(frozenset(common), frozenset(known | {word for word, n in terms.items() if n >= _SEVERAL}))


def _count(text: str, small: Counter[str], capital: Counter[str]) -> None:
    """Count words by their first letter, in texts that use capitals at all."""
    words = WORD.findall(text)
    if not any(word[0].isupper() and word != "I" for word in words):
        return
    small.update(word for word in words if word.islower())
    capital.update(word.casefold() for word in words if word[0].isupper())


def _capitals_inside(text: str) -> Iterator[str]:
    """Yield words with a capital that no sentence begins with."""
    for match in re.finditer(rf"(?<=[\w,;:)] )\**{WORD.pattern}", text):
        word = match[0].lstrip("*")
        if word[0].isupper():
            yield word
