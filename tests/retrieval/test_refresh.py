"""Refreshing: counted, checked, published in one step, and equal to a store built fresh."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.errors import RefreshRefused, RefreshRunning, SourceError
from retrieval.reader import Snapshot
from retrieval.refresh import RefreshReport
from retrieval.search import Found
from retrieval.settings import RetrievalSettings, SourceSettings
from tests.retrieval.world import World, sentences
from tests.stand_ins import HashEmbedder, write_documents

TEN = {f"d{number}.md": f"# Page {number}\n\n{sentences(number, 2)}" for number in range(10)}


@pytest.fixture
def ten(tmp_path: Path) -> Iterator[World]:
    """Give ten published documents of one chunk each."""
    made = World(tmp_path / "ten", TEN)
    assert made.refresh().published
    yield made
    made.close()


def counts(report: RefreshReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.deleted, report.unchanged


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "refresh.lock"
    }


# ---------------------------------------------------------------- what is counted


def test_the_first_refresh_adds_everything(world: World) -> None:
    write_documents(world.folder, TEN)
    report = world.refresh()
    assert counts(report) == (10, 0, 0, 0)
    assert (report.published, report.parent, report.refused) == (True, None, None)
    assert (report.documents, report.chunks, report.chunks_embedded) == (10, 10, 10)
    assert report.generation == world.generations.current()


def test_added_updated_deleted_and_unchanged_documents_are_counted(ten: World) -> None:
    before = ten.generations.current()
    ten.write("new.md", "# New\n\nA new page.")
    ten.write("d1.md", "# Page 1\n\nOther text.")
    ten.write("d2.md", TEN["d2.md"] + "\n")  # the bytes differ, the text does not
    ten.remove("d3.md")
    report = ten.refresh()
    assert counts(report) == (1, 2, 1, 7)
    assert (report.parent, report.published, report.documents) == (before, True, 10)
    assert {"A new page.", "Other text."} <= ten.texts()


def test_only_new_chunks_are_embedded(ten: World) -> None:
    embedded = ten.embedder.embedded
    ten.write("new.md", "# New\n\n## A\n\nFirst.\n\n## B\n\nSecond.")
    ten.write("d2.md", TEN["d2.md"] + "\n")
    shutil.copy(ten.folder / "d5.md", ten.folder / "copy.md")
    report = ten.refresh()
    assert (report.chunks, report.chunks_embedded) == (13, 2)
    probes = 13  # at most 20 chunks are looked for in the new generation
    heads = 2  # of the new chunks; their sentences are too short to stand alone
    assert ten.embedder.embedded - embedded == 2 + heads + probes


def test_a_page_that_comes_back_is_not_embedded_again(ten: World) -> None:
    ten.remove("d4.md")
    ten.refresh()
    ten.write("d4.md", TEN["d4.md"])
    report = ten.refresh()
    assert (report.added, report.chunks_embedded, report.published) == (1, 0, True)


def test_nothing_changed_publishes_nothing(ten: World) -> None:
    before, embedded = files_of(ten.generations.folder), ten.embedder.embedded
    report = ten.refresh()
    assert (report.published, report.refused, counts(report)) == (False, None, (0, 0, 0, 10))
    assert report.generation == report.parent == ten.generations.current()
    assert (report.chunks, report.chunks_embedded, ten.embedder.embedded) == (10, 0, embedded)
    assert files_of(ten.generations.folder) == before


def test_skipped_documents_are_named(ten: World) -> None:
    (ten.folder / "bad.md").write_bytes(b"\xff\xfe")
    report = ten.refresh()
    assert [(item.document, item.reason) for item in report.skipped] == [("help/bad.md", "not UTF-8 text")]
    assert not report.published


def test_the_same_id_in_two_sources_is_two_documents(ten: World) -> None:
    write_documents(ten.root / "staff", {"d1.md": "For staff."})
    ten.sources.append(SourceSettings(name="staff", path="staff", audience="internal"))
    report = ten.refresh()
    assert counts(report) == (1, 0, 0, 10)
    assert {"help/d1.md", "staff/d1.md"} <= set(ten.generations.documents(ten.generations.current()))


def test_a_source_that_turns_internal_is_published_as_such(ten: World) -> None:
    ten.sources[0] = SourceSettings(name="help", path="knowledge", audience="internal")
    assert counts(ten.refresh()) == (0, 10, 0, 0)
    assert ten.search("export").hits == ()
    assert ten.search("export", audience="internal").hits


@pytest.mark.parametrize(
    "change",
    [
        lambda world: setattr(world, "settings", RetrievalSettings(chunk_characters=100)),
        lambda world: setattr(world, "embedder", HashEmbedder("another")),
    ],
    ids=["chunk size", "embedder"],
)
def test_another_way_of_cutting_or_embedding_builds_everything_anew(
    ten: World, change: Callable[[World], None]
) -> None:
    before = ten.generations.manifest(ten.generations.current())
    change(ten)
    report = ten.refresh()
    assert counts(report) == (0, 0, 0, 10)
    after = ten.generations.manifest(ten.generations.current())
    assert report.published and after.generation != before.generation
    assert (after.embedder, after.chunking) != (before.embedder, before.chunking)
    assert not ten.refresh().published
    assert ten.search("export").generation == report.generation


def test_old_generations_are_removed(tmp_path: Path) -> None:
    world = World(tmp_path / "world", {"a.md": "x"}, keep_generations=2)
    for number in range(4):
        world.write("a.md", f"version {number}")
        world.refresh()
    kept = sorted(path.name for path in (world.generations.folder / "generations").iterdir())
    assert kept == list(world.generations.published().history) == ["g000003", "g000004"]


# ---------------------------------------------------------------- refused, and errors


def remove_four(world: World) -> None:
    for number in range(4):
        world.remove(f"d{number}.md")


def test_a_sudden_shrink_is_refused_and_can_be_allowed(ten: World) -> None:
    before = files_of(ten.generations.folder)
    remove_four(ten)
    report = ten.refresh()
    assert report.refused is not None and "lost 4 of its 10 documents" in report.refused
    assert not report.published and report.generation == ten.generations.current()
    assert files_of(ten.generations.folder) == before
    allowed = ten.refresh(allow_shrink=True)
    assert (allowed.published, allowed.deleted, allowed.refused) == (True, 4, None)


def test_a_shrink_below_the_limit_is_published(ten: World) -> None:
    for number in range(3):
        ten.remove(f"d{number}.md")
    assert ten.refresh().published


def test_pages_that_were_only_renamed_are_no_shrink(ten: World) -> None:
    for number in range(10):
        (ten.folder / f"d{number}.md").rename(ten.folder / f"renamed-{number}.md")
    report = ten.refresh()
    assert (counts(report), report.published) == ((10, 0, 10, 0), True)


def test_the_shrink_of_one_source_is_not_hidden_by_another(ten: World) -> None:
    write_documents(ten.root / "more", {f"m{number}.md": sentences(number, 1) for number in range(30)})
    ten.sources.append(SourceSettings(name="more", path="more"))
    assert ten.refresh().published
    remove_four(ten)
    report = ten.refresh()
    assert report.refused is not None and report.refused.startswith("Source 'help' lost 4 of its 10")


def test_a_source_whose_name_begins_like_another_is_counted_by_itself(ten: World) -> None:
    write_documents(ten.root / "faq", {"a.md": "x"})
    ten.sources.append(SourceSettings(name="help-faq", path="faq"))
    assert ten.refresh().published
    remove_four(ten)
    assert "4 of its 10" in str(ten.refresh().refused)


@pytest.mark.parametrize("when", ["first", "later"])
def test_an_empty_source_is_refused(tmp_path: Path, when: str) -> None:
    world = World(tmp_path / "world", TEN if when == "later" else {})
    if when == "later":
        world.refresh()
        for name in TEN:
            world.remove(name)
    report = world.refresh()
    assert report.refused is not None and "'help' holds no documents" in report.refused
    assert world.generations.published().current == report.generation
    assert world.refresh(allow_shrink=True).published


def test_a_missing_folder_is_an_error_and_the_published_generation_stays(ten: World) -> None:
    found = ten.search("export").hits
    before = files_of(ten.generations.folder)
    shutil.rmtree(ten.folder)
    for options in ({}, {"allow_shrink": True}, {"dry_run": True}):
        with pytest.raises(SourceError, match="does not exist"):
            ten.refresh(**options)
    assert files_of(ten.generations.folder) == before
    assert ten.search("export").hits == found


def test_an_embedder_that_breaks_down_leaves_the_published_generation(ten: World) -> None:
    current, found = ten.generations.current(), ten.search("export").hits
    ten.write("new.md", "# New\n\nA new page.")
    ten.embedder = HashEmbedder(fails_after=0)
    with pytest.raises(RuntimeError):
        ten.refresh()
    ten.embedder = HashEmbedder()
    assert ten.generations.current() == current
    assert ten.search("export").hits == found
    assert ten.refresh().published


def test_a_generation_that_does_not_find_its_own_chunks_is_not_published(
    ten: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = ten.generations.current()
    ten.write("new.md", "# New\n\nA new page.")
    monkeypatch.setattr(Snapshot, "dense", lambda *_: [("help/d0.md#0", 1.0)])
    with pytest.raises(RefreshRefused, match="does not find its own chunk"):
        ten.refresh()
    assert ten.generations.current() == current


def test_a_second_refresh_at_the_same_time_is_an_error(ten: World) -> None:
    ten.write("new.md", "# New\n\nA new page.")
    inside, go_on = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        inside.set()
        assert go_on.wait(60)

    first = threading.Thread(target=lambda: ten.refresher().refresh(progress=wait))
    first.start()
    assert inside.wait(60)
    with pytest.raises(RefreshRunning):
        ten.refresh()
    go_on.set()
    first.join()
    assert "A new page." in ten.texts()
    assert not ten.refresh().published  # the lock is free again


# ---------------------------------------------------------------- dry run


def test_a_dry_run_counts_and_writes_nothing(ten: World) -> None:
    ten.write("new.md", "# New\n\nA new page.")
    ten.remove("d1.md")
    before, embedded = files_of(ten.generations.folder), ten.embedder.embedded
    report = ten.refresh(dry_run=True)
    assert (counts(report), report.published, report.documents) == ((1, 0, 1, 9), False, 10)
    assert report.generation == ten.generations.current()
    assert files_of(ten.generations.folder) == before
    assert ten.embedder.embedded == embedded


def test_a_dry_run_before_the_first_refresh_publishes_nothing(world: World) -> None:
    world.write("a.md", "x")
    report = world.refresh(dry_run=True)
    assert (report.generation, report.added, report.published) == (None, 1, False)
    assert files_of(world.generations.folder) == {}


def test_a_dry_run_tells_of_a_refusal(ten: World) -> None:
    remove_four(ten)
    assert "lost 4" in str(ten.refresh(dry_run=True).refused)


# ---------------------------------------------------------------- configuration


def test_no_sources_at_all_is_a_valid_deployment(world: World) -> None:
    world.sources.clear()
    assert world.refresh().refused is None


def test_a_configuration_that_lost_its_sources_is_refused(ten: World) -> None:
    ten.sources.clear()
    assert ten.refresh().refused is not None


def test_two_sources_of_one_name_are_an_error_of_this_package(world: World) -> None:
    world.write("a.md", "x")
    world.sources *= 2
    with pytest.raises(SourceError):
        world.refresh()


# ---------------------------------------------------------------- a refreshed store equals a fresh one


def shown(found: Found) -> list[tuple[str, str, float]]:
    return [(hit.chunk.chunk, hit.chunk.text, round(hit.score, 9)) for hit in found.hits]


def test_a_refreshed_store_equals_one_built_fresh(tmp_path: Path) -> None:
    def page(number: int, version: int) -> str:
        parts = (f"## Part {part}\n\n{sentences(1000 * version + 10 * number + part, 3)}" for part in range(3))
        return f"# Page {number}\n\n" + "\n\n".join(parts)

    chance = random.Random(7)
    refreshed = World(tmp_path / "refreshed", {f"p{number:02}.md": page(number, 0) for number in range(40)})
    refreshed.refresh()
    for version in (1, 2, 3):
        for number in chance.sample(range(40), 6):
            refreshed.write(f"p{number:02}.md", page(number, version))
        refreshed.write(f"a-new-{version}.md", page(50, version))
        path = chance.choice(sorted(refreshed.folder.glob("p*.md")))
        path.unlink()
        assert refreshed.refresh().published
    fresh = World(tmp_path / "fresh", {path.name: path.read_text() for path in refreshed.folder.iterdir()})
    fresh.refresh()

    documents = [world.generations.documents(world.generations.current()) for world in (refreshed, fresh)]
    assert documents[0] == documents[1]
    for seed in range(30):
        question = sentences(5000 + seed, 1)
        assert shown(refreshed.search(question)) == shown(fresh.search(question)) != []
    refreshed.close()
    fresh.close()
