"""What a search of a company's own passages would show: the passages of a prompt as served, for invented companies.

Closeness is measured once for each wording, on the first value of each slot: which sentence answers a question does
not depend on the number that stands in it. The reranker is not asked: it has learned from these very questions, and
would put what answers first more often than it does for a stranger's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bot.grounding import content_words, specifics_of
from retrieval.documents import Chunk
from retrieval.embedders import Embedder, Vectors
from retrieval.sentences import embedded_sentences, excerpts, rated, sentences_of

_TOP_K = 8  # passages that may be shown, as RetrievalSettings.top_k has it
_ALIKE = 0.4  # share of a statement's words that the sentence it rests on holds
_NAMED = re.compile(r"\s*\[([\w-]+)\]")
_STATEMENTS = re.compile(r"(?<=[.!?\]])\s+|\n+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hold what is searched with, and what the answer to it rests on."""

    queries: tuple[str, ...]  # as Searcher.search joins them; the question first
    answer: str = ""  # with the ids of passages as markers; "" where there is none
    without: Collection[str] = ()  # passages that are not there


class Shelf:
    """Hold one company's passages, by id."""

    def __init__(self, passages: Sequence[Chunk], embedder: Embedder) -> None:
        self.passages = {chunk.document: chunk for chunk in passages}
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}
        texts = [embedded_sentences(chunk) for chunk in passages]
        rows = iter(embedder.embed([text for own in texts for text in own]))
        self._rows = {
            chunk.document: np.stack([next(rows) for _ in own]) for chunk, own in zip(passages, texts, strict=True)
        }

    def show(
        self, wanted: Wanted, passages: Mapping[str, Chunk], question: str, words: int, draw: random.Random
    ) -> list[Chunk]:
        """Return what a prompt shows of `passages`, which are this shelf's as a scene has them, for its `question`.

        What the answer rests on is there even where the search would miss it, and then stands anywhere.
        """
        close = self.closeness(wanted)
        ranked = sorted(close, key=lambda name: -float(close[name].max()))
        needed = self.rests_on(wanted.answer)
        shown = _cut(ranked, close, passages, question, words)
        if all(_holds(shown, passages[name], place) for name, place in needed):
            return shown
        for name, place in needed:
            close[name][1 + place] += 2.0  # more than any cosine can make up for
        sizes = [len(sentences_of(passages[name].text)[place].text.split()) for name, place in needed]
        named, words = dict.fromkeys(name for name, _ in needed), max(words, sum(sizes))
        shown = _cut([*named, *(n for n in ranked if n not in named)], close, passages, question, words)
        draw.shuffle(shown)
        return shown

    def closeness(self, wanted: Wanted) -> dict[str, Vectors]:
        """Return the cosine similarities of head and sentences of each passage that is there."""
        missing = [text for text in wanted.queries if text not in self._vectors]
        if missing:
            self._vectors.update(zip(missing, self._embedder.embed(missing), strict=True))
        vectors = np.stack([self._vectors[text] for text in wanted.queries])
        there = (item for item in self._rows.items() if item[0] not in wanted.without)
        return {name: (rows @ vectors.T).max(axis=1) for name, rows in there}

    def rests_on(self, answer: str) -> list[tuple[str, int]]:
        """Return where each statement of the answer comes from: passage and place of the sentence most like it."""
        statements = [
            said for part in _STATEMENTS.split(_NAMED.sub("", answer)) if len(said := weighty_words(part)) > 1
        ]
        found: dict[tuple[str, int], None] = {}
        for name in dict.fromkeys(_NAMED.findall(answer)):
            sentences = [weighty_words(sentence.whole) for sentence in sentences_of(self.passages[name].text)]
            alike = [max(len(said & held) for held in sentences) / len(said) for said in statements]
            for said, share in zip(statements, alike, strict=True):
                if share >= _ALIKE or share == max(alike):
                    found.update(dict.fromkeys((name, place) for place in _places(said, sentences)))
        return list(found)


def weighty_words(text: str) -> frozenset[str]:
    """Return what a statement is recognised by: its content words and its specifics."""
    return content_words(text) | specifics_of(text)


def _places(said: frozenset[str], sentences: Sequence[frozenset[str]]) -> Iterator[int]:
    """Yield the sentence most like a statement, then those that hold the figures which it lacks."""
    best = max(range(len(sentences)), key=lambda n: len(said & sentences[n]))
    yield best
    left = {word for word in said - sentences[best] if any(c.isdigit() for c in word)}
    for place, held in enumerate(sentences):
        if left & held:
            yield place
            left -= held


def _cut(
    ranked: Sequence[str], close: Mapping[str, Vectors], passages: Mapping[str, Chunk], question: str, words: int
) -> list[Chunk]:
    chunks = [passages[name] for name in ranked[:_TOP_K]]
    return excerpts(chunks, rated(question, chunks, [close[chunk.document][1:] for chunk in chunks]), words)


def _holds(shown: Sequence[Chunk], passage: Chunk, place: int) -> bool:
    text = sentences_of(passage.text)[place].text
    return any(chunk.document == passage.document and text in chunk.text for chunk in shown)
