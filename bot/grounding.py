"""Check each sentence of an answer against what was shown, and tie it to the passage that supports it.

A sentence is supported when a few neighbouring sentences of one passage hold every specific in it (number, price,
date, URL, e-mail address) and enough of its content words. Words spread over a whole passage prove nothing: "Pro is
free" is made of words that stand in any price list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from prompts.messages import Passage, Prompt

MIN_OVERLAP = 0.7  # share of a sentence's content words that its evidence must hold
_WINDOW = 3  # neighbouring sentences or lines of a passage that may support one sentence together
_GREETING = re.compile(
    r"\s*(?:hi|hello|hey|dear|good (?:morning|afternoon|evening))(?:\s+[^\W\d_][\w'’-]*){0,3}[,.!]?\s*", re.IGNORECASE
)
_MIN_CONTENT_WORDS = 2  # a sentence with fewer and without specifics states nothing that needs support

_MARKER = re.compile(r"\s*\[(\d{1,2})\]")
_URL = re.compile(r"https?://[^\s)>\]]+|[\w.+-]+@[\w-]+\.[\w.-]+\w")
_NUMBER = re.compile(r"[$€£¥]?\d+(?:[.,:/-]\d+)*(?:\s?%)?")  # "10 %" is not supported by "10"
_PRICE_WORD = re.compile(r"(?<![Ff]eel )\b(?:free|unlimited)\b")  # as weighty as a number; "Free" is a tier's name
_LIST_NUMBER = re.compile(r"^\s*\d{1,2}[.)]\s+", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"[^\W\d_][\w'’-]*")

# Words of manners: they open, close and join an answer and state nothing about the product.
_MANNERS = frozenset(
    """a about above after again all also am an and any anything are as ask at back be because been before being
    below best but by can could did do does doing done else enjoy feel few for free from further get give glad go
    good great happy hard has have having hello help helpful her here hesitate hey hi him his hope how i if in
    into is it its just kindly know let like look make may me might mind more most much must my need next no not
    now of off ok on once one only or other our out over please question questions reach regards same see shall
    she should sincerely so some something soon sorry such sure thank thanks that the their them then there these
    they this those through to today too try under understand until up us very want was way we welcome well were
    what when where which while who why will with wish would yes you your yours assist assistance support team
    hear happen happened follow following steps step reaching contacting contact""".split()
)

Verdict = Literal["supported", "unsupported", "neutral"]


@dataclass(frozen=True, slots=True)
class Checked:
    """Hold the verdict on one sentence; `passage` is the number that supports it, None for record or conversation."""

    verdict: Verdict
    passage: int | None = None
    specific: bool = field(default=False, compare=False)  # whether the sentence names a number, price, date or address


@dataclass(frozen=True, slots=True)
class _Evidence:
    words: frozenset[str]
    specifics: frozenset[str]


class Grounding:
    """Judge the sentences of one answer against its evidence."""

    def __init__(self, prompt: Prompt, *, own_history: bool) -> None:
        """Take passages and record as shown; with `own_history` the bot's earlier answers too, as they were checked.

        What the customer said supports numbers and names ("I have 3 seats"), but no statement about the product.
        """
        said_before = prompt.history if own_history else ()
        answered = "\n".join(message.content for message in said_before if message.role == "assistant")
        asked = "\n".join([prompt.question, *(m.content for m in prompt.history if m.role == "user")])
        self._sentences = [(p.n, _windows(p, 1)) for p in prompt.passages]
        self._passages = [(p.n, _windows(p, _WINDOW)) for p in prompt.passages]
        self._known = _evidence(f"{prompt.record}\n{answered}")
        self._said = specifics_of(asked)

    def check(self, sentence: str) -> Checked:
        """Say whether a sentence is supported, and by which passage."""
        marked = markers_of(sentence)
        plain = plain_sentence(sentence)
        words, specifics = content_words(plain), specifics_of(plain)
        stated = len(words) >= _MIN_CONTENT_WORDS and not plain.rstrip().endswith("?")
        if not specifics and (not stated or _GREETING.fullmatch(plain)):
            return Checked("neutral")
        best, overlap = self._best(words, specifics, marked)
        if best is not None and overlap >= MIN_OVERLAP:
            return Checked("supported", best, bool(specifics))
        if self._known_otherwise(words, specifics):
            return Checked("supported", None, bool(specifics))
        return Checked("unsupported", None, bool(specifics))

    def _best(
        self, words: frozenset[str], specifics: frozenset[str], marked: Sequence[int]
    ) -> tuple[int | None, float]:
        """Return the passage that holds most of the words in one place; the marked one, else the first, wins a tie."""
        best, best_rank = None, (-1.0, False)
        elsewhere = self._known.specifics | self._said
        one_number = len(specifics) == 1
        for n, windows in self._sentences if one_number else self._passages:
            shown = frozenset().union(*(window.words for window in windows))
            for window in windows:
                if specifics and not (specifics & window.specifics and specifics <= window.specifics | elsewhere):
                    continue
                # "Pro costs $24" takes the price of one sentence and the plan of another.
                if one_number and (words - window.words) & shown:
                    continue
                overlap = len(words & window.words) / len(words) if words else 1.0
                if (rank := (overlap, n in marked)) > best_rank:
                    best, best_rank = n, rank
        return best, best_rank[0]

    def _known_otherwise(self, words: frozenset[str], specifics: frozenset[str]) -> bool:
        """Say whether the record and earlier answers support it."""
        if not specifics <= self._known.specifics | self._said:
            return False
        return bool(words) and len(words & self._known.words) / len(words) >= MIN_OVERLAP


def plain_sentence(text: str) -> str:
    """Return the text without citation markers and list numbers."""
    return _LIST_NUMBER.sub("", strip_markers(text))


def markers_of(text: str) -> list[int]:
    """Return the numbers of the citation markers, in their order."""
    return [int(n) for n in _MARKER.findall(text)]


def strip_markers(text: str) -> str:
    """Return the text without citation markers."""
    return _MARKER.sub("", text)


def _windows(passage: Passage, size: int) -> list[_Evidence]:
    """Return the evidence of each run of `size` neighbouring sentences; a row of a table has its head with it."""
    head = f"{passage.title}\n{passage.heading}"
    parts: list[str] = []
    table_head = ""
    for line in passage.text.splitlines():
        is_row = line.lstrip().startswith("|")
        if is_row and table_head:
            parts.append(f"{table_head}\n{line}")
        elif line.strip():
            parts += [line] if is_row else _SENTENCE_END.split(line)
        table_head = (table_head or line) if is_row else ""
    runs = range(max(1, len(parts) - size + 1))
    return [_evidence("\n".join([head, *parts[i : i + size]])) for i in runs]


def _evidence(text: str) -> _Evidence:
    return _Evidence(content_words(text), specifics_of(text))


def specifics_of(text: str) -> frozenset[str]:
    """Return what a sentence must not get wrong: numbers, prices, dates and addresses."""
    found = {url.rstrip(".,;:!?").lower() for url in _URL.findall(text)}
    rest = _URL.sub(" ", text)
    found |= set(_PRICE_WORD.findall(rest))
    found |= {number.replace(",", "").replace(" ", "") for number in _NUMBER.findall(rest)}
    return frozenset(found)


def content_words(text: str) -> frozenset[str]:
    """Return the stems of the words that say something, words of manners left out."""
    words = (word.lower().strip("'’-") for word in _WORD.findall(_URL.sub(" ", text)))
    return frozenset(_stem(word) for word in words if len(word) > 1 and word not in _MANNERS)


@lru_cache(maxsize=20_000)
def _stem(word: str) -> str:
    import Stemmer

    return str(Stemmer.Stemmer("english").stemWord(word))
