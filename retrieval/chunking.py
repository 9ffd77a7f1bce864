"""Cut documents into chunks along their structure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from retrieval.documents import Chunk, Document

if TYPE_CHECKING:
    from langchain_text_splitters import MarkdownHeaderTextSplitter, RecursiveCharacterTextSplitter

VERSION = 1  # raise it when the same document would be cut differently: it forces a new generation

_HEADERS = [("#", "1"), ("##", "2"), ("###", "3"), ("####", "4")]


def chunk_document(document: Document, characters: int) -> list[Chunk]:
    """Cut a document at its headings, then at paragraphs, into chunks of at most `characters`.

    Title and heading path are kept beside the text of each chunk. A document with text has at least one chunk.
    """
    pieces = [
        (heading, piece)
        for heading, section in _sections(document)
        for piece in _splitter(characters).split_text(section)
        if piece.strip()
    ]
    return [
        Chunk(
            chunk=f"{document.key}#{ordinal}",
            source=document.source,
            document=document.document,
            ordinal=ordinal,
            title=document.title,
            heading=heading,
            text=piece,
            audience=document.audience,
            url=document.url,
            updated=document.updated,
        )
        for ordinal, (heading, piece) in enumerate(pieces or [("", document.text[:characters])])
    ]


def _sections(document: Document) -> list[tuple[str, str]]:
    sections = []
    for section in _header_splitter().split_text(document.text):
        path = [section.metadata[level] for _, level in _HEADERS if level in section.metadata]
        if path and path[0] == document.title:
            path = path[1:]
        sections.append((" > ".join(path), section.page_content))
    return sections


@lru_cache(maxsize=1)
def _header_splitter() -> MarkdownHeaderTextSplitter:
    from langchain_text_splitters import MarkdownHeaderTextSplitter

    return MarkdownHeaderTextSplitter(_HEADERS, strip_headers=True)


@lru_cache(maxsize=4)
def _splitter(characters: int) -> RecursiveCharacterTextSplitter:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    separators = ["\n\n", "\n", ". ", " ", ""]
    return RecursiveCharacterTextSplitter(
        chunk_size=characters, chunk_overlap=0, separators=separators, keep_separator="end"
    )
