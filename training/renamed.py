"""Rename what a company's texts speak of, consistently, so that an answer can only come from what is shown.

A small model that meets the same question with the same answer a few times learns the answer and stops reading. In a
renamed scene the words are other ones in passages, questions and answers alike: "choose the export" may become "choose
the harbour", and what is left to learn is to find the passage and to copy it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence

import Stemmer

_WORD = re.compile(r"(?<![\w.@/`'’-])[A-Za-z]{4,}(?![\w@/`'’-]|\.\w)")
_ENDING = re.compile(r"(?:ing|ed|es|s|ly|er|ion|ions|ment)?$")
_KEPT = frozenset(
    """about above after again against also although always among another anybody anything around because been before
    begin behind being below between both bring cannot choose click come could days does done down each either else
    enter every everybody everything everywhere find first from further give gives goes have here hour hours into
    itself just keep know last later least less like long longer made make many minute minutes month months more most
    much must need needs never next none nothing nobody often once only onto open opens other others ours over please
    press question rather right same second seconds select shall should show shows since some somebody something soon
    still such take takes tell than that their theirs them themselves then there these they thing things this those
    though three through till time times today tomorrow twice under until upon very want week weeks well were what
    whatever when where whether which while whole whose will with within without would write year years your yours
    yourself money back help ticket status colleague documentation""".split()
)


class Renamer:
    """Rename words of one vocabulary; each call of `draw` gives another renaming."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take the texts that new words are drawn from."""
        self._stemmer = Stemmer.Stemmer("english")
        words = {m[0].lower() for text in texts for m in _WORD.finditer(text)}
        self._stems = {word: self._stem(word) for word in sorted(words - _KEPT)}

    def draw(self, texts: Sequence[str], share: float, draw: random.Random) -> Callable[[str], str]:
        """Return what renames about `share` of the content words of `texts`, with every form of each."""
        own = {self._stem(m[0]) for text in texts for m in _WORD.finditer(text) if m[0].lower() not in _KEPT}
        free = [word for word, stem in self._stems.items() if stem not in own]
        taken = draw.sample(sorted(own), min(round(len(own) * share), len(free)))
        new = {stem: self._base(word) for stem, word in zip(taken, draw.sample(free, len(taken)), strict=True)}

        def change(found: re.Match[str]) -> str:
            word = found[0]
            base = new.get(self._stem(word)) if word.lower() not in _KEPT else None
            if base is None:
                return word
            renamed = base + _ending(word.lower())
            return renamed.capitalize() if word[0].isupper() else renamed

        return lambda text: _WORD.sub(change, text)

    def _stem(self, word: str) -> str:
        return str(self._stemmer.stemWord(word.lower()))

    def _base(self, word: str) -> str:
        return word[: len(word) - len(_ending(word))]


def _ending(word: str) -> str:
    found = _ENDING.search(word)
    return found[0] if found and len(word) - len(found[0]) >= 3 else ""
