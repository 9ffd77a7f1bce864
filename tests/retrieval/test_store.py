"""The dense index, on a real Chroma: order, audiences, and more rows than one batch takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from retrieval.documents import Audience, Chunk
from retrieval.embedders import Vectors
from retrieval.store import DenseStore

ANGLES = {"public-0": 0, "public-30": 30, "public-60": 60, "public-180": 180, "internal-10": 10, "internal-50": 50}


def chunk(name: str, audience: Audience = "public") -> Chunk:
    return Chunk(name, "help", "page.md", 0, "Page", "", name, audience)


def at(degrees: float) -> Vectors:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], dtype=np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DenseStore]:
    folder = tmp_path_factory.mktemp("store") / "chroma"
    chunks = [chunk(name, "internal" if name.startswith("internal") else "public") for name in ANGLES]
    DenseStore.build(folder, chunks, np.array([at(angle) for angle in ANGLES.values()]))
    opened = DenseStore(folder)
    yield opened
    opened.close()


def test_the_nearest_comes_first_with_its_cosine(store: DenseStore) -> None:
    found = store.search(at(20), 3, ("public",))
    assert [name for name, _ in found] == ["public-30", "public-0", "public-60"]
    assert [score for _, score in found] == pytest.approx([np.cos(np.radians(d)) for d in (10, 20, 40)], abs=1e-5)


def test_what_points_away_has_a_negative_similarity(store: DenseStore) -> None:
    assert dict(store.search(at(0), 10, ("public",)))["public-180"] == pytest.approx(-1.0, abs=1e-5)


def test_an_audience_sees_only_its_own(store: DenseStore) -> None:
    assert {name.split("-")[0] for name, _ in store.search(at(10), 10, ("public",))} == {"public"}
    assert {name.split("-")[0] for name, _ in store.search(at(10), 10, ("internal",))} == {"internal"}


def test_two_audiences_are_ranked_together(store: DenseStore) -> None:
    found = store.search(at(12), 3, ("public", "internal"))
    assert [name for name, _ in found] == ["internal-10", "public-0", "public-30"]


def test_more_than_there_is_gives_all(store: DenseStore) -> None:
    assert store.count() == len(store.search(at(0), 1000, ("public", "internal"))) == 6


def test_an_empty_store_finds_nothing(tmp_path: Path) -> None:
    DenseStore.build(tmp_path / "chroma", [], np.empty((0, 2), dtype=np.float32))
    store = DenseStore(tmp_path / "chroma")
    assert store.search(at(0), 5, ("public", "internal")) == []
    store.close()


@pytest.fixture(scope="module")
def equal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DenseStore]:
    """Give twelve chunks with the same vector, not added in the order of their ids."""
    folder = tmp_path_factory.mktemp("equal") / "chroma"
    DenseStore.build(folder, [chunk(f"c{(7 * number) % 12:02}") for number in range(12)], np.array([at(0)] * 12))
    opened = DenseStore(folder)
    yield opened
    opened.close()


def test_ties_are_broken_by_id(equal: DenseStore) -> None:
    assert [name for name, _ in equal.search(at(0), 12, ("public",))] == [f"c{number:02}" for number in range(12)]


def test_ties_at_the_cut_are_broken_by_id(equal: DenseStore) -> None:
    assert [name for name, _ in equal.search(at(0), 3, ("public",))] == ["c00", "c01", "c02"]


def test_closing_one_store_leaves_another_of_the_same_folder_open(tmp_path: Path) -> None:
    DenseStore.build(tmp_path / "chroma", [chunk("a")], np.array([at(0)]))
    first, second = DenseStore(tmp_path / "chroma"), DenseStore(tmp_path / "chroma")
    first.close()
    first.close()  # a second time does nothing
    assert [name for name, _ in second.search(at(0), 1, ("public",))] == ["a"]
    second.close()


@pytest.mark.scale
def test_more_rows_than_one_batch_of_chroma(tmp_path: Path) -> None:
    count = 6000  # Chroma takes 5,461 at once
    vectors = np.random.default_rng(1).standard_normal((count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    DenseStore.build(tmp_path / "chroma", [chunk(f"c{number}") for number in range(count)], vectors)
    store = DenseStore(tmp_path / "chroma")
    assert store.count() == count
    for number in (0, 4999, 5000, 5461, 5999):
        assert store.search(vectors[number], 1, ("public",))[0][0] == f"c{number}"
    store.close()
