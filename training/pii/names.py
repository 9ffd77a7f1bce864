"""Names of people: where a text says that one follows, and where a capital stands on a known name."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from training.pii.cues import TITLE, TOKEN, announced
from training.pii.spans import Span
from training.pii.words import Names, Words, all_names

_PARTICLES = frozenset(
    "van von der den de del della di da la le du dos das do bin ibn al el ten ter te vander zu".split()
)
_GIVEN = frozenset(
    "mark jack frank grace rose jan dean drew guy ray max rich bill joy hope faith dawn april june penny miles lance"
    " victor will sandy summer amber".split()
)  # words that before another capital are given names
_NO_PERSON_ENDS = re.compile(
    r"[ ,]+(?:ltd|inc|llc|gmbh|corp|plc|ag|s\.a|co|group|foundation|university|hospital|school|college|bank|airport"
    r"|hotel|church|club|street|road|avenue|lane|drive|boulevard|square|st|rd|ave|islands?)\b\.?",
    re.IGNORECASE,
)
_IN_A_LINK = re.compile(r"[.@_/][^\W_]")
_AND = re.compile(r"(?:, and|,| and| or| &) ")
_VOCABULARY = 300  # common words of a corpus, from which on a word that it lacks is none
_BEGINS = re.compile(r"(?:^|[.!?:\n])[\s\"'*–-]*$")
_PLACED = re.compile(r"\b(?:in|at|near|to|from|of|across|around|outside|visit|visiting)\s+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Token:
    """Hold one word of a text, a possessive ending left out."""

    start: int
    end: int
    text: str
    key: str  # in lower case
    capital: bool


class NameFinder:
    """Find names of people in single messages."""

    def __init__(self, words: Words, names: Names | None = None) -> None:
        """`words` is what the corpus teaches of common words and of the company's terms."""
        self._names = names or all_names()
        self._common = self._names.common | words.common | self._names.never
        self._terms = words.terms
        self._knows_words = len(words.common) >= _VOCABULARY

    def find(self, text: str, asked: str = "", known: Collection[str] = ()) -> Iterator[Span]:
        """Yield names; `asked` is what was said before, `known` holds words of names in lower case."""
        tokens = _tokens(text)
        small = not any(t.capital and t.text != "I" for t in tokens)
        starts = [t.start for t in tokens]
        for start, sure in announced(text, asked):
            first = bisect_left(starts, start)
            yield from self._name_from(text, tokens[first : first + 5], sure, small)
        listed = [span for run in _runs(text, tokens, known) for span in self._names_in(text, run, small, known)]
        yield from listed
        yield from self._beside(text, tokens, listed)

    def is_unusual(self, word: str) -> bool:
        """Say whether a word in lower case is neither common nor one of the company's terms."""
        return word not in self._common and word not in self._terms

    def _name_from(self, text: str, tokens: Sequence[_Token], sure: bool, small: bool) -> Iterator[Span]:
        """Read the name that begins with the first token, if it does."""
        while tokens and re.fullmatch(TITLE, tokens[0].text, re.IGNORECASE):
            tokens = tokens[1:]
        taken: list[_Token] = []
        for n, token in enumerate(tokens[:4]):
            if taken and not _adjacent(text, taken[-1], token):
                break
            after = tokens[n + 1] if n + 1 < len(tokens) else None
            if (
                taken
                and token.key in _PARTICLES
                and after
                and (after.capital or small)
                and _adjacent(text, token, after)
            ):
                taken.append(token)
            elif self._may_be(token, sure, small, first=not taken):
                taken.append(token)
            else:
                break
        while taken and taken[-1].key in _PARTICLES and len(taken) > 1:
            taken.pop()
        if not taken or (not sure and not any(self._is_first(t) or self._is_last(t) for t in taken)):
            return
        yield Span(taken[0].start, taken[-1].end, "name")

    def _may_be(self, token: _Token, sure: bool, small: bool, first: bool) -> bool:
        if token.key in self._names.never or (token.key in self._terms and not self._in_lists(token)):
            return False
        if token.capital:
            return token.key not in self._common or self._in_lists(token)
        return (small or (sure and first)) and token.key not in self._common and self._in_lists(token)

    def _names_in(self, text: str, run: Sequence[_Token], small: bool, known: Collection[str]) -> Iterator[Span]:
        """Find names in words that stand side by side with capitals, or in a text without any."""
        n = 0
        while n < len(run):
            length = self._length(text, run[n:], small, known)
            if length:
                yield Span(run[n].start, run[n + length - 1].end, "name")
            n += max(length, 1)

    def _beside(self, text: str, tokens: Sequence[_Token], found: Sequence[Span]) -> Iterator[Span]:
        """Yield single words with a capital that "and" or a comma joins to a name that is told by a first name."""
        sure = [s for s in found if any(self._is_first(t) for t in tokens if s.start <= t.start < s.end)]
        ends, starts = {s.end for s in sure}, {s.start for s in sure}
        other = self._common | self._terms | self._names.places
        queue = [t for t in tokens if t.capital and t.key not in other]
        for _ in range(3):
            for token in queue:
                before = re.search(rf"{_AND.pattern}$", text[max(0, token.start - 6) : token.start])
                after = _AND.match(text, token.end)
                joined = (before and token.start - len(before[0]) in ends) or (after and after.end() in starts)
                if joined and token.start not in starts and not _NO_PERSON_ENDS.match(text, token.end):
                    ends.add(token.end)
                    starts.add(token.start)
                    yield Span(token.start, token.end, "name")

    def _length(self, text: str, run: Sequence[_Token], small: bool, known: Collection[str]) -> int:
        """Return how many tokens from the first on are a name."""
        head = run[0]
        if head.key in known and (head.capital or head.key not in self._common):
            ends = self._extent(run, small, known)
            return ends
        if head.key in self._names.never or head.key in self._terms:
            return 0
        extent = self._extent(run, small, known)
        rest = run[1:extent]
        if (
            extent == 1
            and head.key in self._names.places
            and _PLACED.search(text[max(0, head.start - 20) : head.start])
        ):
            return 0
        inside = not small and not _BEGINS.search(text[max(0, head.start - 20) : head.start])
        alone = extent == 1 and inside and self._is_last(head) and head.key not in self._names.places
        if not (self._is_first(head, small) or alone or (rest and self._pair(head, rest[-1], inside))):
            return 0
        if _NO_PERSON_ENDS.match(text, run[extent - 1].end):
            return 0
        return extent

    def _pair(self, head: _Token, last: _Token, unknown: bool) -> bool:
        """Tell a first name that is a word too, or is unknown, by the last name behind it."""
        if head.key in _GIVEN and last.capital:
            return True
        if not self._is_last(last):
            return False
        return head.key in self._names.first or (unknown and head.key not in self._common and len(head.text) > 2)

    def _extent(self, run: Sequence[_Token], small: bool, known: Collection[str]) -> int:
        """Return how many tokens a name that begins here may have."""
        n = 1
        while n < min(len(run), 5):
            token = run[n]
            if token.key in _PARTICLES and _goes_on(run[n + 1 :], small):
                n += 1
                continue
            if token.key in known:
                n += 1
                continue
            surname = token.capital and token.key in self._names.last and token.key not in self._names.never
            if (token.key in self._common and not surname) or token.key in self._terms:
                break
            if small and not self._in_lists(token) and not self._knows_words:
                break
            n += 1
        while n > 1 and run[n - 1].key in _PARTICLES:
            n -= 1
        return n

    def _in_lists(self, token: _Token) -> bool:
        return token.key in self._names.first or token.key in self._names.last

    def _is_first(self, token: _Token, small: bool = False) -> bool:
        return self._is(token, self._names.often if small else self._names.first)

    def _is_last(self, token: _Token) -> bool:
        return self._is(token, self._names.last)

    def _is(self, token: _Token, names: frozenset[str]) -> bool:
        if token.key in self._common or token.key in self._terms or len(token.text) < 3:
            return False
        if token.text.isupper() and (len(token.text) < 4 or "-" in token.text):
            return False  # an abbreviation
        return token.key in names or any(
            p in names and p not in self._common for p in token.key.split("-") if len(p) > 2
        )


def _goes_on(tokens: Sequence[_Token], small: bool) -> bool:
    """Say whether behind a "van" or "de" a name goes on."""
    following = next((t for t in tokens if t.key not in _PARTICLES), None)
    return following is not None and (following.capital or small)


def _tokens(text: str) -> list[_Token]:
    tokens = []
    for match in re.finditer(TOKEN, text):
        if match[0].islower() and _IN_A_LINK.match(text, match.end()):
            continue
        word = re.sub(r"['’]s$", "", match[0])
        tokens.append(_Token(match.start(), match.start() + len(word), word, word.casefold(), word[0].isupper()))
    return tokens


def _adjacent(text: str, one: _Token, other: _Token) -> bool:
    """Say whether a name may go on from one word to the next; a full stop stands behind initials alone."""
    between = text[one.end : other.start]
    return between in (" ", "\t", "\xa0") or (between in (".", ". ") and len(one.text) == 1)


def _runs(text: str, tokens: Sequence[_Token], known: Collection[str]) -> Iterator[list[_Token]]:
    """Part the tokens where no name goes on: at punctuation, and at words without a capital in a text that has them."""
    small = not any(t.capital and t.text != "I" for t in tokens)
    run: list[_Token] = []
    for token in tokens:
        if run and not _adjacent(text, run[-1], token):
            yield run
            run = []
        if token.capital or small or token.key in known or (run and token.key in _PARTICLES):
            run.append(token)
        elif run:
            yield run
            run = []
    if run:
        yield run
