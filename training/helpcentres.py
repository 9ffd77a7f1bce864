"""Help centres of invented companies, written to learn reading from: whole documents, and which sentences answer.

Run as: python -m training.helpcentres FILE...   (checks files and prints what is wrong)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrieval.chunking import chunk_document
from retrieval.documents import Chunk, Document
from retrieval.sentences import sentences_of
from retrieval.settings import RetrievalSettings
from training.errors import CompaniesError

Place = tuple[str, int]  # id of a chunk and place of a sentence in it


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HelpDocument(_Part):
    """Be one document, in Markdown."""

    id: str
    title: str
    text: str


class Question(_Part):
    """Be one question in several wordings, with words of the sentences that answer it, by document."""

    ask: tuple[str, ...] = Field(min_length=1)
    rests_on: Mapping[str, tuple[str, ...]] = Field(min_length=1)
    then: Question | None = None  # asked after it


class Unanswerable(_Part):
    """Be one question that is close to what documents say and is answered by none."""

    ask: tuple[str, ...] = Field(min_length=1)
    near: tuple[str, ...] = Field(min_length=1)  # documents


class HelpCentre(_Part):
    """Be the help centre of one company."""

    company: str
    about: str
    documents: tuple[HelpDocument, ...]
    questions: tuple[Question, ...]
    unanswerable: tuple[Unanswerable, ...]

    def asked(self) -> Iterator[tuple[Question | Unanswerable, Question | None]]:
        """Yield what is asked, with the question asked before it where it goes on."""
        for question in self.questions:
            yield question, None
            if question.then:
                yield question.then, question
        for near in self.unanswerable:
            yield near, None

    def chunks(self) -> list[Chunk]:
        """Cut the documents as a refresh does with the default settings."""
        size = RetrievalSettings().chunk_characters
        return [
            chunk
            for d in self.documents
            for chunk in chunk_document(Document("help", d.id, d.title, d.text, audience="public"), size)
        ]


def load_help_centre(path: Path) -> HelpCentre:
    """Read one file; raises CompaniesError that names what is wrong."""
    try:
        return HelpCentre.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CompaniesError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        raise CompaniesError(f"{path}: {'; '.join(lines)}") from None


def load_help_centres(folder: Path) -> list[HelpCentre]:
    """Read every help centre of a folder, in the order of the files' names."""
    return [load_help_centre(path) for path in sorted(folder.glob("*.yaml"))]


def places(chunks: Sequence[Chunk], document: str, words: str) -> list[Place]:
    """Return the sentences of a document that hold these words; spaces and case do not count."""
    wanted = _plain(words)
    return [
        (chunk.chunk, place)
        for chunk in chunks
        if chunk.document == document
        for place, sentence in enumerate(sentences_of(chunk.text))
        if wanted in _plain(sentence.text)
    ]


def _plain(text: str) -> str:
    return " ".join(text.replace("*", "").replace("`", "").casefold().split())


def problems(centre: HelpCentre) -> Iterator[str]:
    """Yield what is wrong: unknown documents, words that stand in no sentence, or in several, repeated wordings."""
    chunks, ids = centre.chunks(), {d.id for d in centre.documents}
    if len(ids) != len(centre.documents):
        yield "ids of documents must be unique"
    seen: set[str] = set()
    for asked, _ in centre.asked():
        yield from (f"{wording!r} is asked twice" for wording in asked.ask if _plain(wording) in seen)
        seen |= {_plain(wording) for wording in asked.ask}
        named = asked.near if isinstance(asked, Unanswerable) else asked.rests_on
        unknown = [document for document in named if document not in ids]
        yield from (f"{asked.ask[0]!r}: unknown document {document}" for document in unknown)
        if isinstance(asked, Question) and not unknown:
            yield from _misquoted(asked, chunks)


def _misquoted(asked: Question, chunks: Sequence[Chunk]) -> Iterator[str]:
    for document, quotes in asked.rests_on.items():
        for words in quotes:
            found = places(chunks, document, words)
            if not found:
                yield f"{asked.ask[0]!r}: {words!r} stands in no single sentence, item, row or list of {document}"
            elif len(found) > 1:
                yield f"{asked.ask[0]!r}: {words!r} stands in {len(found)} sentences of {document}; quote more"


def main(paths: list[str]) -> int:
    """Check files; returns the exit status."""
    wrong = 0
    for path in paths:
        try:
            centre = load_help_centre(Path(path))
            found = list(problems(centre))
        except CompaniesError as error:
            found = [str(error)]
        wrong += len(found)
        for line in found:
            sys.stdout.write(f"{path}: {line}\n")
        if not found:
            asks = sum(len(asked.ask) for asked, _ in centre.asked())
            sys.stdout.write(
                f"{path}: right, {len(centre.documents)} documents, {len(centre.chunks())} passages, {asks} wordings\n"
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
