"""Loaders: a source in, documents and reasons for what was skipped out."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from retrieval.documents import Document, Skipped
from retrieval.errors import SourceError
from retrieval.settings import SourceSettings

MAX_BYTES = 20_000_000  # a help page above this is a mistake, and would stall the refresh

_FOREIGN = re.compile(
    r"(?P<code>(?P<fence>`{3,}|~{3,})[\s\S]*?(?P=fence)(?!`)|(?<!`)(?P<ticks>`{1,2})(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<comment><!--[\s\S]*?-->)"
    r"|</?(?P<tag>[A-Za-z][A-Za-z0-9-]*)(?:\s[^<>]{0,2000})?/?>"
    r"|!?\[(?P<text>[^\[\]]{0,500})\]\((?!https?://|mailto:)[^)\s]{0,2000}(?:\s+\"[^\"\n]{0,500}\")?\)"
)
_PARTS_WORDS = frozenset("br td th".split())
_PARTS_LINES = frozenset("p div tr li ul ol table thead tbody h1 h2 h3 h4 h5 h6 section blockquote dl dt dd".split())
_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+\n")


def load_source(source: SourceSettings, root: Path) -> Iterator[Document | Skipped]:
    """Yield each document of a source in the order of its id; a bad one is yielded as Skipped.

    Raises SourceError when the source as a whole cannot be read.
    """
    match source.kind:
        case "folder":
            yield from _load_folder(source, root)
        case "langchain":
            yield from _load_langchain(source)


def _load_folder(source: SourceSettings, root: Path) -> Iterator[Document | Skipped]:
    folder = (root / str(source.path)).resolve()
    if not folder.is_dir():
        raise SourceError(f"Source '{source.name}': the folder {folder} does not exist. Correct its 'path'.")
    paths = {path.relative_to(folder).as_posix(): path for path in folder.glob(source.glob)}
    for name in sorted(paths):
        path = paths[name]
        if not path.is_file():
            continue
        try:
            name.encode()
        except UnicodeEncodeError:
            yield Skipped(f"{source.name}/{name.encode(errors='replace').decode()}", "its name is not UTF-8")
            continue
        if not path.resolve().is_relative_to(folder):
            yield Skipped(f"{source.name}/{name}", "a link that leads out of the folder")
            continue
        yield _read_file(source, name, path)


def _read_file(source: SourceSettings, name: str, path: Path) -> Document | Skipped:
    key = f"{source.name}/{name}"
    try:
        if path.stat().st_size > MAX_BYTES:
            return Skipped(key, f"larger than {MAX_BYTES // 1_000_000} MB")
        raw = path.read_bytes()
    except OSError as error:
        return Skipped(key, f"cannot be read: {error.strerror}")
    if b"\0" in raw:
        return Skipped(key, "binary, not text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Skipped(key, "not UTF-8 text")
    return parse_markdown(source, name, text, hashlib.sha256(raw).hexdigest())


def parse_markdown(source: SourceSettings, name: str, text: str, digest: str) -> Document | Skipped:
    """Read front matter (title, url, updated) and body of a Markdown or plain text file."""
    import yaml

    key = f"{source.name}/{name}"
    try:
        meta, content = _front_matter(text)
    except (yaml.YAMLError, ValueError):
        return Skipped(key, "its front matter is not valid YAML")
    body = clean_markdown(content)
    if not body.strip():
        return Skipped(key, "empty")
    return Document(
        source=source.name,
        document=name,
        title=str(meta.get("title") or _first_heading(body) or Path(name).stem.replace("-", " ").capitalize()),
        text=body,
        audience=source.audience,
        url=str(meta["url"]) if meta.get("url") else None,
        updated=str(meta["updated"]) if meta.get("updated") else None,
        digest=digest,
    )


def _front_matter(text: str) -> tuple[dict[str, object], str]:
    """Part the head from the body; what stands between two rules and is no table of keys is text."""
    from frontmatter import YAMLHandler

    handler = YAMLHandler()
    if not handler.detect(text):
        return {}, text
    try:
        head, body = handler.split(text)
    except ValueError:  # a rule that no other one closes
        return {}, text
    meta = handler.load(head)
    return (meta, body) if isinstance(meta, dict) else ({}, text) if meta is not None else ({}, body)


def clean_markdown(text: str) -> str:
    """Take HTML tags and the targets of relative links out, code left as it stands.

    Both cost the prompt tokens and say nothing to a reader of the passage.
    """
    cleaned = _FOREIGN.sub(_replacement, text.replace("\r\n", "\n"))
    return _BLANK_LINES.sub("\n\n", cleaned).strip("\n").rstrip()


def _replacement(found: re.Match[str]) -> str:
    if found["code"]:
        return found[0]
    if found["text"] is not None:
        return found["text"]
    tag = (found["tag"] or "").lower()
    return " " if tag in _PARTS_WORDS else "\n" if tag in _PARTS_LINES else ""


def _first_heading(body: str) -> str | None:
    found = re.search(r"^#\s+(.+?)\s*#*$", body, re.MULTILINE)
    return found.group(1) if found else None


def _load_langchain(source: SourceSettings) -> Iterator[Document | Skipped]:
    from langchain_core.document_loaders import BaseLoader

    module, _, name = str(source.loader).rpartition(".")
    try:
        loader_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SourceError(
            f"Source '{source.name}': the loader '{source.loader}' cannot be imported ({error}). "
            f"Install its package, or correct the name."
        ) from error
    if not (isinstance(loader_class, type) and issubclass(loader_class, BaseLoader)):
        raise SourceError(f"Source '{source.name}': '{source.loader}' is not a LangChain loader class.")
    seen: set[str] = set()
    try:
        for item in loader_class(**source.options).lazy_load():
            yield _from_langchain(source, item.page_content, item.metadata, seen)
    except Exception as error:  # a foreign loader may raise anything; the source keeps its old documents
        raise SourceError(f"Source '{source.name}': its loader failed: {error}") from error


def _from_langchain(source: SourceSettings, text: str, meta: dict[str, object], seen: set[str]) -> Document | Skipped:
    given = name = str(meta.get("id") or meta.get("source") or "document")
    number = 1
    while name in seen:  # one file often comes as several pages
        number += 1
        name = f"{given}#{number}"
    seen.add(name)
    body = clean_markdown(text)
    if not body.strip():
        return Skipped(f"{source.name}/{name}", "empty")
    url = meta.get("url")
    return Document(
        source=source.name,
        document=name,
        title=str(meta.get("title") or _first_heading(body) or Path(name).stem),
        text=body,
        audience=source.audience,
        url=str(url) if url else None,
        updated=str(meta["updated"]) if meta.get("updated") else None,
        digest=hashlib.sha256(json.dumps([text, meta], default=str).encode()).hexdigest(),
    )
