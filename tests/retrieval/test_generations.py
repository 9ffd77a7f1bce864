"""Generations: complete or absent, one of them current, and never a damaged one without saying so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from retrieval.chunking import chunk_document
from retrieval.documents import Document
from retrieval.errors import GenerationError, NoGeneration
from retrieval.generations import Generations
from retrieval.reader import Snapshot
from tests.stand_ins import HashEmbedder


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    return Generations(tmp_path / "knowledge")


def documents(*texts: str) -> list[Document]:
    return [
        Document("help", f"d{number}.md", f"Page {number}", text, "public", digest=text)
        for number, text in enumerate(texts)
    ]


def build(generations: Generations, given: Sequence[Document] | None = None) -> str:
    given = documents("one", "two") if given is None else given
    chunks = [chunk for document in given for chunk in chunk_document(document, 700)]
    vectors = HashEmbedder().embed([chunk.embedded_text for chunk in chunks])
    sentences = ([1] * len(chunks), vectors)
    return generations.build(given, chunks, vectors, sentences=sentences, embedder="hash", chunking="v1").generation


def publish(generations: Generations, given: Sequence[Document] | None = None) -> str:
    name = build(generations, given)
    generations.publish(name)
    return name


def folders(generations: Generations) -> list[str]:
    return sorted(path.name for path in (generations.folder / "generations").iterdir())


# ---------------------------------------------------------------- build and publish


def test_before_the_first_one_the_reader_is_told_to_refresh(generations: Generations) -> None:
    assert generations.published().current is None
    with pytest.raises(NoGeneration, match="tandem refresh"):
        generations.current()


def test_a_built_generation_is_whole_and_not_yet_current(generations: Generations) -> None:
    name = build(generations)
    assert generations.published().current is None
    manifest = generations.manifest(name)
    assert (manifest.parent, manifest.documents, manifest.chunks, manifest.embedder) == (None, 2, 2, "hash")
    assert [chunk.text for chunk in generations.chunks(name)] == ["one", "two"]
    Snapshot(generations, name).close()


def test_publishing_makes_it_current_and_the_next_ones_parent(generations: Generations) -> None:
    first, second = publish(generations), publish(generations)
    assert generations.current() == second != first
    assert generations.manifest(second).parent == first
    assert generations.published().history == (first, second)


def test_an_unknown_or_unfinished_generation_cannot_be_published(generations: Generations) -> None:
    first = publish(generations)
    with pytest.raises(GenerationError, match="There is no generation 'g000099'"):
        generations.publish("g000099")
    second = build(generations)
    (generations.path(second) / "manifest.json").unlink()
    with pytest.raises(GenerationError):
        generations.publish(second)
    assert generations.current() == first


def test_a_publish_that_fails_half_way_leaves_the_old_one(
    generations: Generations, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish(generations), build(generations)
    before = (generations.folder / "published.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        generations.publish(second)
    assert (generations.folder / "published.json").read_bytes() == before
    assert generations.current() == first


def test_a_build_that_fails_leaves_no_generation(generations: Generations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.generations._build_lexical", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(generations)
    assert folders(generations) == [".building-g000001"]


def test_documents_tell_what_differs_between_two_generations(generations: Generations) -> None:
    first = publish(generations, documents("same", "old", "gone"))
    second = publish(generations, documents("same", "new"))
    before, after = generations.documents(first), generations.documents(second)
    assert set(before) - set(after) == {"help/d2.md"}
    assert [key for key in after if after[key] != before[key]] == ["help/d1.md"]
    assert after["help/d0.md"]["title"] == "Page 0"


# ---------------------------------------------------------------- rollback and clean


def test_rollback_makes_an_earlier_one_current_and_keeps_the_way_back(generations: Generations) -> None:
    first, second = publish(generations), publish(generations)
    generations.rollback(first)
    assert generations.current() == first
    generations.rollback(second)
    assert generations.current() == second
    assert generations.published().history == (first, second)


def test_only_what_was_published_can_be_rolled_back_to(generations: Generations) -> None:
    current = publish(generations)
    for name in (build(generations), "g000099", "../outside"):
        with pytest.raises(GenerationError, match="no published generation"):
            generations.rollback(name)
    assert generations.current() == current


def test_names_are_never_used_again(generations: Generations) -> None:
    first, second = publish(generations), publish(generations)
    generations.rollback(first)
    assert publish(generations) not in (first, second)


def test_clean_keeps_the_last_ones(generations: Generations) -> None:
    names = [publish(generations) for _ in range(4)]
    generations.clean(keep=2)
    assert folders(generations) == names[2:]
    assert generations.published().history == tuple(names[2:])
    assert generations.current() == names[3]


def test_clean_keeps_the_current_one_however_old_it_is(generations: Generations) -> None:
    names = [publish(generations) for _ in range(4)]
    generations.rollback(names[0])
    generations.clean(keep=2)
    assert folders(generations) == [names[0], *names[2:]]
    Snapshot(generations, generations.current()).close()


def test_clean_removes_what_a_killed_build_left(generations: Generations) -> None:
    current = publish(generations)
    never_published = build(generations)
    (generations.folder / "generations" / ".building-g000009" / "chroma").mkdir(parents=True)
    generations.clean(keep=5)
    assert folders(generations) == [current]
    assert never_published != current


def test_clean_before_anything_was_built_does_nothing(generations: Generations) -> None:
    generations.clean(keep=2)
    assert not generations.folder.exists()


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"current": "g000001"}', '{"current": "x", "history": 5}'])
def test_a_damaged_pointer_is_an_error_that_names_the_file(generations: Generations, damage: str) -> None:
    publish(generations)
    (generations.folder / "published.json").write_text(damage)
    with pytest.raises(GenerationError, match=r"published\.json is damaged"):
        generations.current()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"generation": "g000001", "unknown": 1}'])
def test_a_damaged_manifest_is_an_error(generations: Generations, damage: str) -> None:
    name = publish(generations)
    (generations.path(name) / "manifest.json").write_text(damage)
    with pytest.raises(GenerationError, match=f"manifest of generation '{name}' is damaged"):
        generations.manifest(name)


@pytest.mark.parametrize("damaged", ["chunks.jsonl", "lexical-public", "lexical-all"])
def test_a_generation_with_a_missing_part_is_not_opened(generations: Generations, damaged: str) -> None:
    path = generations.path(publish(generations)) / damaged
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(GenerationError):
        Snapshot(generations, generations.current())


def test_a_cut_file_of_chunks_is_an_error(generations: Generations) -> None:
    path = generations.path(publish(generations)) / "chunks.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(GenerationError, match=r"chunks\.jsonl is missing or damaged"):
        Snapshot(generations, generations.current())


def test_a_generation_without_its_vectors_is_not_opened(generations: Generations) -> None:
    shutil.rmtree(generations.path(publish(generations)) / "chroma")
    with pytest.raises(GenerationError):
        Snapshot(generations, generations.current()).close()


def test_damaged_vectors_are_an_error_of_this_package(generations: Generations) -> None:
    path = generations.path(publish(generations)) / "chroma" / "chroma.sqlite3"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(GenerationError):
        Snapshot(generations, generations.current()).close()


def test_a_chunk_with_other_keys_is_an_error_of_this_package(generations: Generations) -> None:
    (generations.path(publish(generations)) / "chunks.jsonl").write_text(json.dumps({"chunk": "a"}) + "\n")
    with pytest.raises(GenerationError):
        Snapshot(generations, generations.current()).close()


def test_a_generation_of_another_version_is_not_opened(generations: Generations) -> None:
    path = generations.path(publish(generations)) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(GenerationError, match="tandem refresh"):
        Snapshot(generations, generations.current())
