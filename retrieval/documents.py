"""The values that finding works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Audience = Literal["public", "internal"]


def valid_text(text: str) -> str:
    """Return the text with lone surrogates, which JSON may carry and no encoding takes, as "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Document:
    """Hold one document of a source; `source` and `document` together are unique."""

    source: str
    document: str  # id inside the source; for a folder the relative path with "/"
    title: str
    text: str
    audience: Audience
    url: str | None = None
    updated: str | None = None  # ISO 8601 date as the document states it
    digest: str = ""  # sha256 of the raw bytes: a document is "updated" when this differs

    @property
    def key(self) -> str:
        """Name the document across sources."""
        return f"{self.source}/{self.document}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Hold a passage of a document with the path of headings that it stands under."""

    chunk: str  # unique over the generation: "source/document#ordinal"
    source: str
    document: str
    ordinal: int  # 0-based position inside the document
    title: str
    heading: str  # "Section > Subsection", "" above the first heading
    text: str
    audience: Audience
    url: str | None = None
    updated: str | None = None

    @property
    def head(self) -> str:
        """Join title and heading."""
        return " > ".join(part for part in (self.title, self.heading) if part)

    @property
    def embedded_text(self) -> str:
        """Put title and heading before the text; this is what both indexes see."""
        return f"{self.head}\n{self.text}" if self.head else self.text


@dataclass(frozen=True, slots=True)
class Sentence:
    """Hold what can be shown by itself: a sentence, an item, a row, or a list of numbered steps as a whole."""

    text: str
    lead: str = ""  # what it cannot be understood without: the head of its table, the line that announces its steps

    @property
    def whole(self) -> str:
        """Join the lead and the text."""
        return f"{self.lead}\n{self.text}" if self.lead else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """Hold a found chunk; `rank` counts from 1, `score` is comparable within one answer only."""

    rank: int
    chunk: Chunk
    score: float
    similarity: float  # cosine of question and chunk, -1 to 1; 0.0 where only the lexical index found it
    sentences: tuple[tuple[Sentence, float], ...] = ()  # with their ratings, where the chunk is cut down to its best


@dataclass(frozen=True, slots=True)
class Skipped:
    """Name a document that was left out, and why."""

    document: str
    reason: str
