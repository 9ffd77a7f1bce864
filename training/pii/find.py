"""All that is personal in one message."""

from __future__ import annotations

from collections.abc import Collection

from training.pii.addresses import find_addresses
from training.pii.names import NameFinder
from training.pii.patterns import find_patterns
from training.pii.phones import find_phones
from training.pii.spans import Span, without_overlaps
from training.pii.words import Words


class Finder:
    """Find personal data in single messages."""

    def __init__(self, words: Words | None = None) -> None:
        """`words` is what the corpus teaches; without it names are told by lists and forms alone."""
        self._names = NameFinder(words or Words())

    def find(self, text: str, asked: str = "", known: Collection[str] = (), year: int | None = None) -> list[Span]:
        """Return spans that do not overlap, in order.

        `asked` is what was said before, `known` holds words of names in lower case. `year` is that in which a
        customer wrote it, None for what others wrote.
        """
        found = [*find_patterns(text, asked, year), *find_phones(text, asked), *find_addresses(text)]
        found.extend(self._names.find(text, asked, known))
        return without_overlaps(found)

    def is_unusual(self, word: str) -> bool:
        """Say whether a word in lower case is neither common nor one of the company's terms."""
        return self._names.is_unusual(word)
