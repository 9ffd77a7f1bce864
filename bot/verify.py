"""Verify an answer while it is written: show what is supported, cite it, leave the rest out."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator

from bot.grounding import Grounding, plain_sentence, strip_markers
from bot.sentences import units
from prompts.messages import Passage, Prompt

_REFUSES = re.compile(
    r"\b(?:(?:could|did|do|does|can)(?:n['’]?t|not|['’]t| not) (?:find|have|mention|say|cover|contain|know)"
    r"|not (?:sure|mentioned)|no (?:information|documentation|mention)"
    r"|unable to (?:find|answer|help)|nothing (?:in|about))\b",
    re.IGNORECASE,
)
_DANGLING = re.compile(r"(?:\s*(?:[^\n]*:|\d{1,2}[.)]|[-*]))+\s*$")  # announces what was left out
_TERMINAL = re.compile(r"[.!?:)\]\"*|`]\s*$")


class Verifier:
    """Judge one answer unit by unit.

    Greetings and other units that state nothing are held back until something supported follows, so that a reply
    which turns into a decline shows nothing before it.
    """

    def __init__(self, prompt: Prompt, *, checked: bool, own_history: bool) -> None:
        """Take the evidence from the prompt; with `checked` False everything is shown, without citations."""
        self._grounding = Grounding(prompt, own_history=own_history) if checked else None
        self._held = ""
        self._seen: set[str] = set()
        self._cited: dict[int, None] = {}
        self.supported = False
        self.refused = False
        self.asked_back = False
        self.showed_text = False

    @property
    def cited(self) -> tuple[int, ...]:
        """Give the numbers of the passages cited, in the order of the text."""
        return tuple(self._cited)

    def shown(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield what may be shown; an empty string says that work goes on. Stops at the first repetition."""
        for unit in units(pieces):
            if not unit.strip():
                yield self._follow(unit)
                continue
            key = " ".join(plain_sentence(unit).lower().split())
            if key in self._seen and len(key) > 12:  # a small model in a loop never leaves it
                return
            self._seen.add(key)
            yield self._judge(unit)

    def rest(self, *, cut_short: bool) -> str:
        """Return what is still held back and may be shown at the end; a sentence cut short is left out."""
        held, self._held = self._held, ""
        if not (self.supported or self.asked_back or self.refused):
            return ""
        if cut_short and not _TERMINAL.search(held):
            return ""
        return self._show(_DANGLING.sub("", held))

    def quote(self, passage: Passage) -> str:
        """Return a passage as an answer that cites itself."""
        self._cited = {passage.n: None}
        return _mark(strip_markers(passage.text), passage.n)

    def _judge(self, unit: str) -> str:
        plain = strip_markers(unit)
        refuses = bool(_REFUSES.search(plain))
        if self._grounding is None:  # nothing is checked where the weights are all the evidence there is
            self.supported = self.supported or not refuses
            self.refused = self.refused or refuses
            return self._release(plain)
        checked = self._grounding.check(unit)
        if refuses and checked.verdict != "supported":
            self.refused = True
            self._held += plain if not checked.specific else ""
            return ""
        if checked.verdict == "unsupported":
            return ""
        if checked.verdict == "neutral":
            self.asked_back = self.asked_back or plain.rstrip().endswith("?")
            self._held += plain
            return ""
        self.supported = True
        if checked.passage is not None:
            self._cited.setdefault(checked.passage)
            plain = _mark(plain, checked.passage)
        return self._release(plain)

    def _follow(self, white: str) -> str:
        """Keep line breaks where the text before them stays."""
        if self._held:
            self._held += white
        return ""

    def _release(self, text: str) -> str:
        held, self._held = self._held, ""
        return self._show(held + text)

    def _show(self, text: str) -> str:
        if text.strip():
            self.showed_text = True
        return text


def trimmed(pieces: Generator[str, None, None]) -> Generator[str, None, None]:
    """Yield pieces so that, joined, they have no white space at either end; closing reaches `pieces`."""
    carried, begun = "", False
    try:
        for piece in pieces:
            text = carried + piece if begun else (carried + piece).lstrip()
            body = text.rstrip()
            carried = text[len(body) :]
            begun = begun or bool(body)
            yield body
    finally:
        pieces.close()


def _mark(unit: str, n: int) -> str:
    body = unit.rstrip()
    return f"{body} [{n}]{unit[len(body) :]}"
