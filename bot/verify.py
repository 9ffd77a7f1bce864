"""Verify an answer while it is written: show what is supported, cite it, leave the rest out."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bot.grounding import Grounding, content_words, plain_sentence, specifics_of, strip_markers
from bot.sentences import units
from prompts.build import SECTIONS
from prompts.messages import Prompt
from retrieval.documents import Sentence

# The bot or its documentation must be the one that lacks the answer: "if you do not have a key" refuses nothing.
_REFUSES = re.compile(
    r"^\W*(?:(?:sorry|unfortunately|i['’]?m sorry|i am sorry|hi|hello|but|however)\b[^.?!]{0,40}?)?"
    r"\b(?:i|we|(?:the|our|this) (?:documentation|help|passages?|articles?)|there is|it)\b[^.?!]{0,40}?"
    r"\b(?:(?:could|did|do|does|can)(?:n['’]?t|not|['’]t| not) (?:find|have|mention|say|cover|contain|know)"
    r"|not (?:sure|mentioned)|no (?:information|documentation|mention)"
    r"|unable to (?:find|answer|help)|nothing (?:in|about))\b",
    re.IGNORECASE,
)
# To offer a person is how a decline ends.
_OFFERS = re.compile(
    r"\b(?:pass (?:you|this|it) on|hand (?:you|this|it) over|put you through|colleague (?:to )?look)\b[^.!]*\?\s*$"
)
_DANGLING = re.compile(r"(?:\s*(?:[^\n]*:|\d{1,2}[.)]|[-*]))+\s*$")  # announces what was left out
_SAID = 0.6  # share of a sentence's words from which on it has been said
_LONGER = 25  # words that a quotation may go beyond what is wanted
_TERMINAL = re.compile(r"[.!?:)\]\"*|`]\s*$")


@dataclass(frozen=True, slots=True)
class Quotable:
    """Hold a sentence that may be quoted, and where it stands."""

    passage: int  # its number in the prompt
    place: int  # among the passage's sentences
    sentence: Sentence


class Verifier:
    """Judge one answer unit by unit.

    Greetings and other units that state nothing are held back until something supported follows, so that a reply
    which turns into a decline shows nothing before it.
    """

    def __init__(
        self,
        prompt: Prompt,
        *,
        checked: bool,
        own_history: bool,
        small_talk: bool,
        asks: bool = False,
        closing: str = "",
    ) -> None:
        """Take the evidence from the prompt; with `checked` False everything is shown, without citations.

        In `small_talk` what states nothing is all there is to show. `asks` says that the model was trained to ask
        for what is missing: then any question of its own is one, other than `closing`.
        """
        self._small_talk = small_talk
        self._asks = asks
        self._closing = closing
        self._asked = content_words("\n".join([prompt.question, *(m.content for m in prompt.history)]))
        self._grounding = Grounding(prompt, own_history=own_history) if checked else None
        self._held = ""
        self._shown = ""
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

    @property
    def closed(self) -> bool:
        """Say whether the closing line was shown."""
        return self._closing in self._shown

    def shown(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield what may be shown; an empty string says that work goes on. Stops at a repetition."""
        for unit in units(pieces):
            if not unit.strip():
                yield self._follow(unit)
                continue
            if plain_sentence(unit).strip().startswith(SECTIONS):  # it goes on with the prompt's form, not the answer
                return
            key = " ".join(plain_sentence(unit).lower().split())
            if key in self._seen and len(key) > 12:  # a small model in a loop never leaves it
                return
            self._seen.add(key)
            yield self._judge(unit)
            if self.refused and not self.supported:  # a decline is said in the company's words, not the model's
                return

    def rest(self, *, cut_short: bool) -> str:
        """Return what is still held back and may be shown at the end; a sentence cut short is left out."""
        held, self._held = self._held, ""
        if self.refused and not self.supported:
            return ""
        if not (self.supported or self.asked_back or self._small_talk):
            return ""
        if cut_short and not _TERMINAL.search(held):
            return ""
        return self._show(_DANGLING.sub("", held))

    def more(self, quotable: Sequence[Quotable], words: int) -> str:
        """Return what goes on from what was shown: quotations after an empty line, or nothing."""
        quoted = self.quote(quotable, words)
        ends = len(self._shown) - len(self._shown.rstrip("\n"))
        return "\n" * max(0, 2 - ends) + quoted if quoted else ""

    def quote(self, quotable: Sequence[Quotable], words: int) -> str:
        """Return what sentences, the best first, say beyond what was shown, until all of it has `words` words.

        Each quotation cites its passage. A sentence that would make it much longer is left out.
        """
        size = len(self._shown.split())
        said, figures = content_words(self._shown), specifics_of(self._shown)
        kept: dict[int, list[Quotable]] = {}
        for one in quotable:
            text = one.sentence.text
            more, own, new = len(text.split()), content_words(text), specifics_of(text)
            is_said = new <= figures and len(own & said) >= _SAID * len(own)
            if size < words and size + more <= words + _LONGER and not is_said:
                kept.setdefault(one.passage, []).append(one)
                size, said, figures = size + more, said | own, figures | new
        self._cited |= dict.fromkeys(kept)
        return "\n\n".join(
            _mark(_flowing([one.sentence for one in sorted(own, key=lambda one: one.place)]), passage)
            for passage, own in kept.items()
        )

    def _judge(self, unit: str) -> str:
        plain = strip_markers(unit)
        refuses = bool(_REFUSES.search(plain) or _OFFERS.search(plain))
        if self._grounding is None:  # nothing is checked where the weights are all the evidence there is
            self.supported = self.supported or not refuses
            self.refused = self.refused or refuses
            return self._release(plain)
        checked = self._grounding.check(unit)
        if refuses and checked.verdict != "supported":
            self.refused = True
            return ""
        if checked.verdict == "unsupported":
            return ""
        if checked.verdict == "neutral":
            self.asked_back = self.asked_back or self._asks_back(plain)
            self._held += plain
            return ""
        self.supported = True
        if checked.passage is not None:
            # Once for each passage, and wherever the model put a marker: a list need not carry one on every line.
            if checked.passage not in self._cited or plain != unit:
                plain = _mark(plain, checked.passage)
            self._cited.setdefault(checked.passage)
        return self._release(plain)

    def _asks_back(self, sentence: str) -> bool:
        """Say whether a question is about what was asked, and no mere echo of it."""
        words = content_words(sentence)
        if not sentence.rstrip().endswith("?") or sentence.strip() == self._closing:
            return False
        if self._asks:
            return bool(words - self._asked)
        shared = words & self._asked
        return bool(shared) and shared != self._asked

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
        self._shown += text
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


def _flowing(sentences: Sequence[Sentence]) -> str:
    """Put sentences behind each other, a row in words; items and steps stand under each other."""
    texts = [_in_words(s) if s.text.startswith("|") else s.whole for s in sentences]
    return ("\n" if any("\n" in text or text.startswith(("- ", "* ")) for text in texts) else " ").join(texts)


def _in_words(row: Sentence) -> str:
    """Say a table's row by the names of its columns: "Pro: Monthly plan $12, Annual plan $120."."""
    names, cells = ([cell.strip() for cell in line.strip("| ").split("|")] for line in (row.lead, row.text))
    if len(names) < len(cells):  # the first column has no name
        names = [""] * (len(cells) - len(names)) + names
    rest = ", ".join(f"{name} {cell}".strip() for name, cell in zip(names[1:], cells[1:], strict=False))
    return f"{cells[0]}: {rest}." if rest else f"{cells[0]}."


def _mark(unit: str, n: int) -> str:
    body = unit.rstrip()
    return f"{body} [{n}]{unit[len(body) :]}"
