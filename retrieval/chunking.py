"""Cut documents into chunks along their structure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from retrieval.documents import Chunk, Document

if TYPE_CHECKING:
    from langchain_text_splitters import RecursiveCharacterTextSplitter
    from markdown_it import MarkdownIt

VERSION = 2  # raise it when the same document would be cut differently: it forces a new generation

_DEEPEST = 4  # headings below this level stay in the text


def chunk_document(document: Document, characters: int) -> list[Chunk]:
    """Cut a document at its headings, then at paragraphs, into chunks of at most `characters`.

    Title and heading path are kept beside the text of each chunk. A document with text has at least one chunk.
    """
    pieces = [
        (heading, piece)
        for heading, section in _sections(document)
        for part in _splitter(characters).split_text(section)
        if (piece := part.strip("\n").rstrip())
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
        for ordinal, (heading, piece) in enumerate(pieces)
    ]


def _sections(document: Document) -> list[tuple[str, str]]:
    """Return (heading path, text) of each section; a heading that nothing stands under is a text of its own.

    LangChain's MarkdownHeaderTextSplitter is not used for this: it strips every line, code included, drops
    characters, and takes comments in indented code for headings.
    """
    lines = document.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    sections: list[tuple[str, str]] = []
    path: list[tuple[int, str]] = []
    start = 0
    headings = _headings("\n".join(lines))
    for i, (begin, end, level, title) in enumerate(headings):
        sections.append((_path(path, document.title), "\n".join(lines[start:begin])))
        path = [item for item in path if item[0] < level]
        following = headings[i + 1] if i + 1 < len(headings) else None
        bare = not "".join(lines[end : following[0] if following else None]).strip()
        if bare and (following is None or following[2] <= level):
            sections.append((_path(path, document.title), "\n".join(lines[begin:end])))
        path.append((level, title))
        start = end
    sections.append((_path(path, document.title), "\n".join(lines[start:])))
    return [(heading, text) for heading, text in sections if text.strip()]


def _path(headings: list[tuple[int, str]], title: str) -> str:
    names = [name for _, name in headings if name]
    return " > ".join(names[1:] if names and names[0] == title else names)


def _headings(text: str) -> list[tuple[int, int, int, str]]:
    """Return (first line, line after, level, title) of each heading that divides the document."""
    tokens = _parser().parse(text)
    found = []
    for token, inline in zip(tokens, tokens[1:], strict=False):
        level = int(token.tag[1]) if token.type == "heading_open" else 0
        if token.type == "heading_open" and token.level == 0 and level <= _DEEPEST and token.map:
            found.append((token.map[0], token.map[1], level, inline.content.strip()))
    return found


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").disable("inline")  # blocks are all that is asked for


@lru_cache(maxsize=4)
def _splitter(characters: int) -> RecursiveCharacterTextSplitter:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    return RecursiveCharacterTextSplitter(
        chunk_size=characters,
        chunk_overlap=0,
        separators=["\n\n", "\n", ". ", " ", ""],
        keep_separator="end",
        strip_whitespace=False,  # the indentation of code is text
    )
