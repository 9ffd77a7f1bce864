"""The sentences of each chunk as vectors: a question is often close to one sentence and far from the rest.

sentences.npy             fp16, a row for the head of each chunk and a row a sentence, in the order of the chunks
ends.npy                  the row after each chunk's last one
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import Stemmer

from retrieval.documents import Chunk, Sentence
from retrieval.embedders import Vectors
from retrieval.errors import GenerationError

_END = re.compile(r"(?<=[.!?:])\s+(?![a-z])")  # "after 2 p.m. on Friday" is one
_STEP = re.compile(r"\s*\d{1,2}[.)]\s")
_RULE = re.compile(r"[\s|:-]+")  # the line under a table's head
_WORD = re.compile(r"[a-z0-9$€£%]+")
_ASIDE = frozenset(
    """a about am an and any are as at be been but by can could did do does for from had has have here how i if in
    is it just me my no not of on or our should so some than that the their then there these they this those to was
    we were what when where which who why will with would you your""".split()
)
# What counts beside the cosine: the question's words that a sentence shares and the rank of its chunk, by about the
# weights that a softmax regression gives them on 5,854 questions about invented companies whose answering sentence is
# known; and steps, whose many words blur their vector.
_SHARED, _RANKED, _STEPS = 0.4, 0.2, 0.1
_SHORTEST = 3  # words; less says nothing by itself


@lru_cache(maxsize=1024)  # one search asks for the same chunks' sentences several times
def sentences_of(text: str) -> tuple[Sentence, ...]:
    """Cut a text, which Markdown may give a form; nothing is left out but the rules of tables."""
    found: list[Sentence] = []
    steps: list[str] = []
    table = ""
    for line in text.splitlines():
        if _STEP.match(line) or (steps and line.startswith("   ") and line.strip()):
            steps.append(line.strip())
            continue
        is_row = line.lstrip().startswith("|")
        if steps and line.strip():
            found.append(_procedure(found, steps))
            steps = []
        if not line.strip() or (is_row and _RULE.fullmatch(line)):
            continue
        if is_row and table:
            found.append(Sentence(line.strip(), table))
        elif is_row:
            table = line.strip()
        else:
            found += [Sentence(part) for part in _END.split(line.strip())]
            table = ""
    if steps:
        found.append(_procedure(found, steps))
    return tuple(found or [Sentence(table or text)])


def _procedure(before: list[Sentence], steps: Sequence[str]) -> Sentence:
    """Make one of the steps; the line that announces them is taken from what stands before."""
    announced = bool(before) and before[-1].text.endswith(":")
    return Sentence("\n".join(steps), before.pop().text if announced else "")


def embedded_sentences(chunk: Chunk) -> list[str]:
    """Return what stands for a chunk in the table: its title with its heading, and each sentence under them."""
    head = f"{chunk.head}\n" if chunk.head else ""
    return [chunk.head or chunk.text, *(f"{head}{sentence.whole}" for sentence in sentences_of(chunk.text))]


def rated(question: str, chunks: Sequence[Chunk], closeness: Sequence[Vectors]) -> list[Vectors]:
    """Rate the sentences of each chunk, the best first, for a question: the higher, the more it is an answer.

    `closeness` holds the cosine similarities of each chunk's sentences to the question.
    """
    asked = _words(question)
    return [
        np.asarray(
            [float(close) + _worth(asked, s) + _RANKED / rank for s, close in zip(own, near, strict=True)], np.float32
        )
        for rank, (own, near) in enumerate(zip((sentences_of(c.text) for c in chunks), closeness, strict=True), start=1)
    ]


def best_places(chunks: Sequence[Chunk], ratings: Sequence[Vectors], words: int) -> dict[int, list[int]]:
    """Choose the sentences that are rated best: at most `words` words, or the best one alone.

    One of less than three words says nothing, and is chosen only where there is no other. Gives for each chunk, in the
    order of their best sentences, the places of what is chosen of it, in the text's order.
    """
    cut = [sentences_of(chunk.text) for chunk in chunks]
    order = [(-float(rating), i, place) for i, own in enumerate(ratings) for place, rating in enumerate(own)]
    chosen: dict[int, list[int]] = {}
    used = 0
    sized = [(index, place, len(cut[index][place].text.split())) for _, index, place in sorted(order)]
    for index, place, size in [one for one in sized if one[2] >= _SHORTEST] or sized[:1]:
        if not used or size <= words - used:
            chosen.setdefault(index, []).append(place)
            used += size
    return {index: sorted(places) for index, places in chosen.items()}


def excerpt(chunk: Chunk, places: Sequence[int]) -> Chunk:
    """Cut a chunk down to the sentences at these places."""
    sentences = sentences_of(chunk.text)
    return replace(chunk, text=_joined([sentences[place] for place in places]))


def excerpts(chunks: Sequence[Chunk], ratings: Sequence[Vectors], words: int) -> list[Chunk]:
    """Cut chunks down to their best sentences; a chunk without any is left out. See best_places."""
    return [excerpt(chunks[index], places) for index, places in best_places(chunks, ratings, words).items()]


def _joined(sentences: Sequence[Sentence]) -> str:
    """Put sentences under each other, a lead that several share once."""
    lines: list[str] = []
    lead = ""
    for sentence in sentences:
        lines += [sentence.lead, sentence.text] if sentence.lead not in ("", lead) else [sentence.text]
        lead = sentence.lead
    return "\n".join(lines)


def _worth(asked: frozenset[str], sentence: Sentence) -> float:
    """Return what counts for a sentence beside its closeness."""
    shared = len(asked & _words(sentence.whole)) / len(asked) if asked else 0.0
    return _SHARED * shared + (_STEPS if _STEP.match(sentence.text) else 0.0)


def _words(text: str) -> frozenset[str]:
    stem = Stemmer.Stemmer("english").stemWord  # one a call: an instance must not be shared between threads
    return frozenset(stem(word) for word in _WORD.findall(text.lower()) if word not in _ASIDE)


class SentenceTable:
    """Say how close each chunk's sentences are to a question; safe to share between threads."""

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        """Open what `build` wrote for the chunks `ids`, in that order; GenerationError where it does not fit them."""
        try:
            ends = np.load(folder / "ends.npy")
            self._vectors = np.load(folder / "sentences.npy", mmap_mode="r" if len(ends) else None)  # none can be empty
        except (OSError, ValueError, EOFError) as error:
            raise GenerationError(f"The sentences in {folder} are damaged: {error}") from error
        if len(ends) != len(ids) or (len(ends) and ends[-1] != len(self._vectors)):
            raise GenerationError(f"The sentences in {folder} are not those of its chunks.")
        starts = [0, *ends.tolist()][:-1]
        self._rows = dict(zip(ids, zip(starts, ends.tolist(), strict=True), strict=True))

    @staticmethod
    def build(folder: Path, counts: Sequence[int], vectors: Vectors) -> None:
        """Write the vectors, shape (sum of counts, dimension), of `counts` sentences a chunk into a new folder."""
        folder.mkdir()
        np.save(folder / "sentences.npy", vectors.astype(np.float16))
        np.save(folder / "ends.npy", np.cumsum(counts, dtype=np.int64))

    def closeness(self, ids: Sequence[str], questions: Vectors) -> list[Vectors]:
        """Return for each chunk its rows' cosine similarities, the head's first, each to the closest wording.

        `questions` has shape (wordings, dimension).
        """
        return [(self._vectors[slice(*self._rows[i])].astype(np.float32) @ questions.T).max(axis=1) for i in ids]
