"""Loading: what a document is read as, and why one is left out."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as LangChainDocument

from retrieval import loaders
from retrieval.documents import Document, Skipped
from retrieval.errors import SourceError
from retrieval.loaders import clean_markdown, load_source
from retrieval.settings import SourceSettings
from tests.stand_ins import write_documents

HELP = SourceSettings(name="help", path="docs")


def load(root: Path, source: SourceSettings = HELP) -> tuple[dict[str, Document], dict[str, str]]:
    """Load a source: documents by id, and the reasons of the skipped ones."""
    items = list(load_source(source, root))
    documents = {item.document: item for item in items if isinstance(item, Document)}
    return documents, {item.document: item.reason for item in items if isinstance(item, Skipped)}


def load_one(tmp_path: Path, text: str, name: str = "page.md") -> Document:
    write_documents(tmp_path / "docs", {name: text})
    documents, skipped = load(tmp_path)
    assert not skipped
    return documents[name]


# ---------------------------------------------------------------- a document


def test_front_matter_gives_title_url_and_date_and_stays_out_of_the_text(tmp_path: Path) -> None:
    text = "---\ntitle: Exports\nurl: https://example.com/x\nupdated: 2026-05-04\n---\n# Export data\nPress *Export*.\n"
    document = load_one(tmp_path, text)
    assert (document.title, document.url, document.updated) == ("Exports", "https://example.com/x", "2026-05-04")
    assert document.text == "# Export data\nPress *Export*."
    assert document.digest == hashlib.sha256(text.encode()).hexdigest()
    assert document.key == "help/page.md"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("---\ntitle: From the matter\n---\n# Heading\nx", "From the matter"),
        ("intro\n\n# The heading #\n\n# Second", "The heading"),
        ("## Only a smaller heading\nx", "Two factor login"),
        ("---\ntitle:\n---\nno heading", "Two factor login"),
    ],
)
def test_the_title_is_the_matters_then_the_first_headings_then_the_file_names(
    tmp_path: Path, text: str, title: str
) -> None:
    assert load_one(tmp_path, text, "a/two-factor-login.md").title == title


def test_ids_are_relative_paths_with_slashes_in_order(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", {"b/c/deep.md": "x", "a.md": "x", "b.md": "x", "notes.txt": "x"})
    assert list(load(tmp_path)[0]) == ["a.md", "b.md", "b/c/deep.md"]


def test_the_glob_and_the_audience_are_the_sources(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", {"a.md": "x", "notes.txt": "y"})
    source = SourceSettings(name="staff", path="docs", glob="*.txt", audience="internal")
    documents, _ = load(tmp_path, source)
    assert [(d.key, d.audience) for d in documents.values()] == [("staff/notes.txt", "internal")]


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_bytes(b"\xef\xbb\xbf---\r\ntitle: T\r\n---\r\none\r\ntwo\r\n")
    document = load(tmp_path)[0]["page.md"]
    assert (document.title, document.text) == ("T", "one\ntwo")


# ---------------------------------------------------------------- cleaning


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('a <b class="x">bold</b> word', "a bold word"),
        ("one <!-- a\nnote --> two", "one  two"),
        ("see [Export](../export.md#csv) and [x](#top)", "see Export and x"),
        ('![The menu](img/menu.png "Menu") here', "The menu here"),
        ("[site](https://example.com/a) [mail](mailto:a@b.c)", "[site](https://example.com/a) [mail](mailto:a@b.c)"),
        ("mail <https://example.com> if a < b and c > d", "mail <https://example.com> if a < b and c > d"),
        ("one\n\n\n \n\ntwo\n", "one\n\ntwo"),
    ],
)
def test_tags_and_relative_links_are_taken_out(text: str, clean: str) -> None:
    assert clean_markdown(text) == clean


@pytest.mark.parametrize(
    "code",
    ["```html\n<div>[a](b.md)</div>\n```", "~~~\n<p>\n~~~", "use `<b>` and `[a](b.md)`", "- x\n  ```\n  <i>\n  ```"],
)
def test_code_stays_as_it_stands(code: str) -> None:
    assert clean_markdown(code) == code


@pytest.mark.parametrize(
    ("text", "words"),
    [("First<br>Second", ["First", "Second"]), ("<td>Free</td><td>$0</td>", ["Free", "$0"])],
)
def test_a_tag_that_parts_words_leaves_them_parted(text: str, words: list[str]) -> None:
    assert clean_markdown(text).split() == words


def test_code_between_double_backticks_stays() -> None:
    assert clean_markdown("``a `<b>` c``") == "``a `<b>` c``"


# ---------------------------------------------------------------- left out, with a reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", "binary, not text"),
        (b"text with a NUL \x00 in it", "binary, not text"),
        ("Prix d'été".encode("latin-1"), "not UTF-8 text"),
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (b"---\ntitle: only matter\n---\n", "empty"),
        (b"<!-- nothing -->", "empty"),
        (b"---\ntitle: [open\n---\ntext", "its front matter is not valid YAML"),
        (b"---\nupdated: 2026-13-45\n---\ntext", "its front matter is not valid YAML"),
    ],
)
def test_a_bad_file_is_skipped_with_a_reason_and_the_rest_is_loaded(tmp_path: Path, raw: bytes, reason: str) -> None:
    write_documents(tmp_path / "docs", {"a.md": "good", "z.md": "good"})
    (tmp_path / "docs" / "m.md").write_bytes(raw)
    documents, skipped = load(tmp_path)
    assert skipped == {"help/m.md": reason}
    assert list(documents) == ["a.md", "z.md"]


def test_a_huge_file_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "MAX_BYTES", 2_000_000)
    write_documents(tmp_path / "docs", {"a.md": "x" * 2_000_001, "b.md": "x" * 100})
    documents, skipped = load(tmp_path)
    assert list(documents) == ["b.md"]
    assert skipped == {"help/a.md": "larger than 2 MB"}


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("the secret")
    write_documents(tmp_path / "docs", {"a.md": "good"})
    (tmp_path / "docs" / "out.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "docs" / "in.md").symlink_to(tmp_path / "docs" / "a.md")
    (tmp_path / "docs" / "broken.md").symlink_to(tmp_path / "nowhere.md")
    documents, skipped = load(tmp_path)
    assert skipped == {"help/out.md": "a link that leads out of the folder"}
    assert {d.text for d in documents.values()} == {"good"}


@pytest.mark.parametrize("key", ["content", "handler", "2026", "yes"])
def test_any_key_may_stand_in_the_front_matter(tmp_path: Path, key: str) -> None:
    assert load_one(tmp_path, f"---\n{key}: x\n---\nbody").text == "body"


def test_text_between_rules_at_the_top_is_text(tmp_path: Path) -> None:
    assert "Planned maintenance" in load_one(tmp_path, "---\nPlanned maintenance\n---\nSunday.").text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_file_name_that_is_not_utf8_does_not_become_an_id(tmp_path: Path) -> None:
    write_documents(tmp_path / "docs", {"a.md": "good"})
    Path(os.fsdecode(os.fsencode(tmp_path / "docs") + b"/caf\xe9.md")).write_text("text")
    for name in load(tmp_path)[0]:
        name.encode()


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'help'.*docs does not exist"):
        load(tmp_path)


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("x")
    with pytest.raises(SourceError, match="does not exist"):
        load(tmp_path)


# ---------------------------------------------------------------- LangChain loaders


class Pages(BaseLoader):
    """Yield given pages."""

    def __init__(self, pages: list[tuple[str, dict[str, Any]]]) -> None:
        self._pages = pages

    def lazy_load(self) -> Iterator[LangChainDocument]:
        for text, metadata in self._pages:
            yield LangChainDocument(page_content=text, metadata=metadata)


class BrokenLoader(BaseLoader):
    """Fail after the first page."""

    def lazy_load(self) -> Iterator[LangChainDocument]:
        yield LangChainDocument(page_content="one", metadata={})
        raise KeyError("page 2")


def langchain_source(loader: str, **options: Any) -> SourceSettings:
    return SourceSettings(name="wiki", kind="langchain", loader=loader, options=options)


def pages(*given: tuple[str, dict[str, Any]]) -> SourceSettings:
    return langchain_source(f"{__name__}.Pages", pages=list(given))


def test_a_langchain_loader_is_named_by_its_dotted_path(tmp_path: Path) -> None:
    page = {"id": "p1", "title": "One", "url": "https://w/1", "updated": "2026-01-02"}
    documents, skipped = load(tmp_path, pages(("Some <b>text</b>", page), ("  ", {"id": "p2"})))
    assert documents["p1"] == Document(
        "wiki", "p1", "One", "Some text", "public", "https://w/1", "2026-01-02", documents["p1"].digest
    )
    assert skipped == {"wiki/p2": "empty"}


def test_pages_of_one_file_get_ids_of_their_own(tmp_path: Path) -> None:
    documents, _ = load(tmp_path, pages(("a", {"source": "f.pdf"}), ("b", {"source": "f.pdf"}), ("c", {})))
    assert {name: d.text for name, d in documents.items()} == {"f.pdf": "a", "f.pdf#2": "b", "document": "c"}


def test_a_made_up_id_never_meets_a_given_one(tmp_path: Path) -> None:
    documents, _ = load(tmp_path, pages(("a", {"id": "x"}), ("b", {"id": "x"}), ("c", {"id": "x#2"})))
    assert len(documents) == 3


def test_a_changed_title_changes_the_digest(tmp_path: Path) -> None:
    before, _ = load(tmp_path, pages(("text", {"id": "p", "title": "Old", "url": "https://w/old"})))
    after, _ = load(tmp_path, pages(("text", {"id": "p", "title": "New", "url": "https://w/new"})))
    assert before["p"].digest != after["p"].digest


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ("no_such_package.Loader", "cannot be imported"),
        ("langchain_core.documents.NoSuchLoader", "cannot be imported"),
        ("Loader", "cannot be imported"),
        ("pathlib.Path", "is not a LangChain loader class"),
        (f"{__name__}.pages", "is not a LangChain loader class"),
        (f"{__name__}.BrokenLoader", "its loader failed: 'page 2'"),
    ],
)
def test_a_loader_that_cannot_be_used_is_an_error_that_names_the_source(
    tmp_path: Path, loader: str, message: str
) -> None:
    with pytest.raises(SourceError, match=f"Source 'wiki'.*{message}"):
        load(tmp_path, langchain_source(loader))


def test_options_that_the_loader_does_not_take_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="its loader failed"):
        load(tmp_path, langchain_source(f"{__name__}.Pages", colour="blue"))
