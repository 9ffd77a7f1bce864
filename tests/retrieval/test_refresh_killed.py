"""A refresh killed at any moment: readers see the old knowledge or the new, and the next refresh completes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrieval.errors import RetrievalError
from tests.retrieval.world import World, sentences

REPOSITORY = Path(__file__).parents[2]
PAGES = 60
QUESTIONS = [sentences(seed, 1) for seed in range(900, 905)]

# Refreshes the world in argv[1] slowly. With argv[2] it kills itself at the n-th os.replace: before or after it.
_CHILD = """
import os, signal, sys
from pathlib import Path
import chromadb, bm25s, Stemmer, frontmatter, langchain_text_splitters
from retrieval import embedding_cache
from tests.retrieval.world import World
from tests.stand_ins import HashEmbedder

embedding_cache._BATCH = 8
world = World(Path(sys.argv[1]))
world.embedder = HashEmbedder(seconds_per_text=0.004)
when, number = (sys.argv[2].split("-") + ["0"])[:2]
replace, seen = os.replace, []

def dying_replace(*names):
    seen.append(names)
    if len(seen) == int(number) and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
    if len(seen) == int(number) and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = dying_replace
print("ready", flush=True)
sys.stdin.readline()
world.refresh()
print("done", flush=True)
"""


def write_version(world: World, version: int) -> None:
    for number in range(PAGES):
        if number % 2 == 0 or version == 0:
            world.write(f"p{number:02}.md", f"# Page {number}\n\nVersion {version}. {sentences(number + version, 2)}")


def start(world: World, when: str = "never") -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(world.root), when],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> str:
    """Let the child refresh to its end, or to its death; returns what it printed."""
    printed, _ = child.communicate("\n", timeout=120)
    return printed


def answers(root: Path) -> tuple[set[str], list[list[str]]]:
    """Give what a reader that has just started finds: all texts, and the hits of the questions."""
    world = World(root)
    found = [[hit.chunk.text for hit in world.search(question).hits] for question in QUESTIONS]
    texts = world.texts()
    world.close()
    return texts, found


def expected(tmp_path: Path, world: World) -> tuple[set[str], list[list[str]]]:
    """Give what the documents as they stand answer, from a store built fresh."""
    documents = {path.name: path.read_text() for path in world.folder.iterdir()}
    fresh = World(tmp_path / f"fresh-{time.monotonic_ns()}", documents)
    fresh.refresh()
    fresh.close()
    return answers(fresh.root)


def check_after_kill(world: World, old: object, new: object) -> None:
    assert answers(world.root) in (old, new)
    world.refresh()
    assert answers(world.root) == new
    left = {path.name for path in (world.generations.folder / "generations").iterdir()}
    assert left == set(world.generations.published().history)


@pytest.fixture
def published(tmp_path: Path) -> World:
    made = World(tmp_path / "world")
    write_version(made, 0)
    made.refresh()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before-1", "after-1", "before-2", "after-2", "before-3", "after-3"])
def test_a_kill_around_each_replaced_file(tmp_path: Path, published: World, when: str) -> None:
    """The manifest, the generation's folder and the pointer are what a refresh replaces, in this order."""
    old = answers(published.root)
    write_version(published, 1)
    new = expected(tmp_path, published)
    assert old != new
    assert finish(start(published, when)) == "", "the child was not killed"
    assert answers(published.root) == (new if when == "after-3" else old)
    check_after_kill(published, old, new)


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path: Path, published: World) -> None:
    chance = random.Random(20260501)
    killed = 0
    for version in range(1, 9):
        old = answers(published.root)
        write_version(published, version)
        new = expected(tmp_path, published)
        child = start(published)
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(chance.uniform(0.0, 0.6))
        child.kill()
        printed, _ = child.communicate()
        killed += printed == ""
        check_after_kill(published, old, new)
    assert killed >= 2, "the delays no longer fall inside a refresh: choose others"


@pytest.mark.slow
def test_a_killed_refresh_goes_on_where_it_stood(published: World) -> None:
    """What was embedded before the kill is not embedded again."""
    write_version(published, 1)
    finish(start(published, "before-1"))
    embedded = published.embedder.embedded
    report = published.refresh()
    assert (report.published, report.chunks_embedded) == (True, 0)
    assert published.embedder.embedded - embedded <= 25  # the probes


@pytest.mark.slow
def test_a_killed_first_refresh_leaves_nothing_published(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    write_version(world, 0)
    finish(start(world, "after-2"))
    with pytest.raises(RetrievalError, match="tandem refresh"):
        answers(world.root)
    assert world.refresh().published
    assert len(world.texts()) == PAGES
    world.close()
