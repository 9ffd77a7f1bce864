"""Reading: always one whole generation, and always the one that is published."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.errors import GenerationError, NoGeneration
from tests.retrieval.world import World, sentences
from tests.stand_ins import write_documents

REPOSITORY = Path(__file__).parents[2]
PAGES = 12


def write_version(world: World, version: int) -> None:
    pages = {f"p{number:02}.md": f"Version {version}. {sentences(number, 2)}" for number in range(PAGES)}
    write_documents(world.folder, pages)


def publish(world: World, version: int) -> str:
    write_version(world, version)
    report = world.refresh()
    assert report.published and report.generation
    return report.generation


@pytest.fixture
def first(world: World) -> Iterator[World]:
    publish(world, 1)
    yield world


def versions(world: World) -> set[str]:
    return {hit.chunk.text.split(".")[0] for hit in world.search("export plan").hits}


def test_nothing_published_is_an_error_that_says_what_to_do(world: World) -> None:
    with pytest.raises(NoGeneration, match="tandem refresh"):
        world.search("export")
    assert world.searcher().state() is None


def test_a_publish_is_followed_without_a_restart(first: World) -> None:
    searcher = first.searcher()
    assert versions(first) == {"Version 1"}
    name = publish(first, 2)
    assert versions(first) == {"Version 2"}
    state = searcher.state()
    assert state is not None and state.generation == name


def test_a_rollback_is_followed_too(first: World) -> None:
    old = first.generations.current()
    publish(first, 2)
    assert versions(first) == {"Version 2"}
    first.generations.rollback(old)
    assert versions(first) == {"Version 1"}


def test_a_publish_of_another_process_is_followed(first: World) -> None:
    assert versions(first) == {"Version 1"}
    write_version(first, 2)
    code = (
        "import sys; from tests.retrieval.world import World, Path; assert World(Path(sys.argv[1])).refresh().published"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code, str(first.root)], cwd=REPOSITORY, env=environment, check=True)
    assert versions(first) == {"Version 2"}


def test_a_snapshot_lent_out_stays_usable_while_others_are_published(tmp_path: Path) -> None:
    world = World(tmp_path / "world", keep_generations=2)
    publish(world, 1)
    vector = world.embedder.embed(["export plan"])[0]
    with world.reader.snapshot() as lent:
        name = lent.manifest.generation
        for version in (2, 3, 4):
            publish(world, version)
        assert versions(world) == {"Version 4"}
        assert not world.generations.path(name).exists()  # clean has already removed it
        found = [chunk for chunk, _ in (*lent.dense(vector, 5, "public"), *lent.lexical("export", 5, "public"))]
        assert found and {lent.chunks[chunk].text[:9] for chunk in found} == {"Version 1"}
    world.close()


def test_a_replaced_snapshot_is_closed_once_it_is_given_back(first: World) -> None:
    with first.reader.snapshot() as lent:
        publish(first, 2)
        versions(first)
        assert lent._dense._client is not None
    assert lent._dense._client is None


def test_a_snapshot_that_nobody_uses_is_closed_when_it_is_replaced(first: World) -> None:
    with first.reader.snapshot() as old:
        pass
    publish(first, 2)
    versions(first)
    assert old._dense._client is None
    with first.reader.snapshot() as now:
        assert now._dense._client is not None


def test_two_readers_of_one_process_do_not_close_each_other(first: World) -> None:
    other = World(first.root)
    assert versions(first) == versions(other) == {"Version 1"}
    first.reader.close()
    assert versions(other) == {"Version 1"}
    other.close()
    assert versions(first) == {"Version 1"}  # and one that was closed opens again


def test_a_damaged_generation_is_an_error_until_a_whole_one_is_published(first: World) -> None:
    (first.generations.path(first.generations.current()) / "chunks.jsonl").write_text("{")
    with pytest.raises(GenerationError):
        versions(first)
    publish(first, 2)
    assert versions(first) == {"Version 2"}


def test_threads_that_search_during_publishes_see_whole_generations_only(first: World) -> None:
    version_of = {first.generations.current(): "Version 1"}
    searcher, seen, errors = first.searcher(), set(), []
    stop = threading.Event()

    def search() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                found = searcher.search(sentences(number, 1))
                seen.add((found.generation, frozenset(hit.chunk.text.split(".")[0] for hit in found.hits)))
        except Exception as error:  # reported by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(2, 7):
        version_of[publish(first, version)] = f"Version {version}"
    searcher.search("export")
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(texts == {version_of[str(generation)]} for generation, texts in seen)
    assert len({generation for generation, _ in seen}) > 1, "the searches did not run beside a publish"
    assert versions(first) == {"Version 6"}
