"""Cutting: nothing is lost, chunks are small, and each knows the headings above it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.chunking import chunk_document
from retrieval.documents import Chunk, Document, Skipped
from retrieval.loaders import load_source
from retrieval.settings import SourceSettings
from tests.retrieval.world import sentences

EXAMPLES = Path(__file__).parents[2] / "examples"


def document(text: str, title: str = "Page") -> Document:
    return Document("help", "a/page.md", title, text, "public", "https://example.com", "2026-01-02")


def cut(text: str, characters: int = 200, title: str = "Page") -> list[Chunk]:
    return chunk_document(document(text, title), characters)


def words_outside_headings(text: str) -> list[str]:
    """List the words of a Markdown text, heading lines (outside of fences) left out."""
    fence, words = False, []
    for line in text.splitlines():
        fence ^= line.lstrip().startswith("```")
        if fence or not re.match(r"#{1,4} ", line):
            words += line.split()
    return words


def words_of(chunks: list[Chunk]) -> list[str]:
    return [word for chunk in chunks for word in chunk.text.split()]


# ---------------------------------------------------------------- nothing is lost


def example_documents() -> list[Document]:
    found = []
    for name in ("knowledge", "internal"):
        items = list(load_source(SourceSettings(name=name, path=name), EXAMPLES))
        assert not [item for item in items if isinstance(item, Skipped)]
        found += [item for item in items if isinstance(item, Document)]
    return found


@pytest.mark.parametrize("characters", [100, 700])
def test_the_chunks_of_the_worked_example_hold_its_words_in_their_order(characters: int) -> None:
    documents = example_documents()
    assert len(documents) > 20
    for one in documents:
        assert words_of(chunk_document(one, characters)) == words_outside_headings(one.text), one.key


HEADINGS = ["## Section", "### Sub section", "#### Detail", "# Other title"]
BLOCKS = st.one_of(
    st.sampled_from(HEADINGS),
    st.integers(0, 10**6).map(lambda seed: sentences(seed, 1 + seed % 6)),
    st.integers(0, 10**6).map(lambda seed: "\n".join(f"- {sentences(seed + i, 1)}" for i in range(4))),
    st.just("| tier | price |\n|---|---|\n| Free | $0 |\n| Pro | $12.50 |"),
    st.just("```sh\n# not a heading\ntandem refresh --json\n```"),
    st.just("> quoted, with ünïcode, 漢字 and 🙂"),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(BLOCKS, min_size=1, max_size=12), st.sampled_from([100, 250, 700]))
def test_the_words_of_the_chunks_are_the_words_of_the_document(blocks: list[str], characters: int) -> None:
    text = "Before.\n\n" + "\n\n".join(blocks)
    chunks = cut(text, characters)
    texts = [chunk for chunk in chunks if chunk.text not in HEADINGS]  # a heading over nothing is a text of its own
    assert words_of(texts) == words_outside_headings(text)
    assert all(0 < len(chunk.text) <= characters for chunk in chunks)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert len({chunk.chunk for chunk in chunks}) == len(chunks)


def test_a_word_longer_than_a_chunk_is_cut_and_whole_when_joined() -> None:
    text = "".join(f"{number:04}" for number in range(150))
    chunks = cut(text, 100)
    assert "".join(chunk.text for chunk in chunks) == text
    assert max(len(chunk.text) for chunk in chunks) <= 100


@pytest.mark.parametrize("space", ["\t", "\u00a0", "\u202f", "\u3000"])
def test_words_parted_by_a_tab_or_a_wide_space_stay_parted(space: str) -> None:
    assert words_of(cut(f"10{space}GB")) == ["10", "GB"]


@pytest.mark.parametrize("word", ["می\u200cخواهم", "👩\u200d💻"])
def test_joiners_inside_a_word_stay(word: str) -> None:
    assert words_of(cut(word)) == [word]


def test_code_keeps_its_indentation() -> None:
    code = "```python\ndef f():\n    return 1\n```"
    assert cut(code)[0].text == code


@pytest.mark.parametrize("text", ["## Is there a phone line?\n\n## Next\nx", "x\n\n## Is there a phone line?"])
def test_a_heading_without_text_is_kept(text: str) -> None:
    assert "phone line" in " ".join(chunk.embedded_text for chunk in cut(text))


def test_a_document_of_headings_only_is_kept_whole() -> None:
    chunks = cut("\n".join(f"## Heading {number}" for number in range(60)), 100)
    assert "Heading 59" in " ".join(chunk.embedded_text for chunk in chunks)


# ---------------------------------------------------------------- headings


def test_a_chunk_knows_the_path_of_headings_above_it() -> None:
    chunks = cut("Intro.\n\n# Page\n\nOne.\n\n## Export\n\nTwo.\n\n### CSV\n\nThree.\n\n## Import\n\nFour.")
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [
        ("", "Intro."),
        ("", "One."),
        ("Export", "Two."),
        ("Export > CSV", "Three."),
        ("Import", "Four."),
    ]


def test_a_first_heading_other_than_the_title_stays_in_the_path() -> None:
    assert cut("# Exports\n\n## CSV\n\nx", title="Export data")[0].heading == "Exports > CSV"


def test_each_piece_of_a_long_section_carries_its_heading() -> None:
    chunks = cut("## Limits\n\n" + sentences(1, 12), 150)
    assert len(chunks) > 3
    assert {chunk.heading for chunk in chunks} == {"Limits"}


def test_both_indexes_see_title_and_heading() -> None:
    (chunk,) = cut("## Limits\n\nTen a day.")
    assert chunk.embedded_text == "Page > Limits\nTen a day."


@pytest.mark.parametrize("fence", ["```", "~~~"])
def test_a_comment_in_a_code_fence_is_no_heading(fence: str) -> None:
    chunks = cut(f"{fence}sh\n# comment\n## another\nls\n{fence}\n\n## Real\n\nx", 400)
    assert [chunk.heading for chunk in chunks] == ["", "Real"]
    assert "# comment" in chunks[0].text


def test_a_comment_in_indented_code_is_no_heading() -> None:
    assert [chunk.heading for chunk in cut("Run:\n\n    # comment\n    ls")] == [""]


def test_a_fence_inside_a_longer_fence_does_not_end_it() -> None:
    assert [chunk.heading for chunk in cut("````\n```\n# comment\n```\n````")] == [""]


# ---------------------------------------------------------------- shape


def test_sections_are_not_joined_and_sentences_not_cut_where_there_is_room() -> None:
    text = "## A\n\nOne sentence here. " + "Another sentence there. " * 3 + "\n\n## B\n\nTwo."
    chunks = cut(text, 100)
    assert chunks[-1].text == "Two."
    assert all(chunk.text.endswith(".") for chunk in chunks)


def test_a_chunk_carries_what_its_document_says() -> None:
    (chunk,) = cut("x")
    assert chunk == Chunk(
        "help/a/page.md#0", "help", "a/page.md", 0, "Page", "", "x", "public", "https://example.com", "2026-01-02"
    )


def test_the_same_document_is_cut_the_same_way_again() -> None:
    text = "\n\n".join(f"## Part {i}\n\n{sentences(i, 8)}" for i in range(6))
    assert cut(text) == cut(text)
