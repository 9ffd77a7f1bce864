"""The embedding cache: nothing is embedded twice, also after a break-down half way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from retrieval import embedding_cache
from retrieval.embedders import Vectors
from retrieval.embedding_cache import EmbeddingCache
from retrieval.errors import EmbedderError
from tests.stand_ins import HashEmbedder

ITEMS = [f"text number {number}" for number in range(20)]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[EmbeddingCache]:
    made = EmbeddingCache(tmp_path / "knowledge" / "embeddings.sqlite3")
    yield made
    made.close()


def test_vectors_come_in_the_order_of_the_items(cache: EmbeddingCache) -> None:
    embedder = HashEmbedder()
    cache.embed(embedder, ITEMS[5:10])
    vectors, new = cache.embed(embedder, ITEMS[::-1])
    assert new == 15
    assert np.array_equal(vectors, embedder.embed(ITEMS[::-1]))


def test_nothing_is_embedded_twice(cache: EmbeddingCache) -> None:
    embedder = HashEmbedder()
    assert cache.embed(embedder, [*ITEMS, *ITEMS])[1] == 20
    vectors, new = cache.embed(embedder, ITEMS)
    assert (new, embedder.embedded, vectors.shape) == (0, 20, (20, 64))


def test_what_was_embedded_is_there_after_opening_again(tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        cache = EmbeddingCache(tmp_path / "e.sqlite3")
        counts.append(cache.embed(HashEmbedder(), ITEMS)[1])
        cache.close()
    assert counts == [20, 0]


def test_another_embedder_does_not_get_the_vectors_of_the_first(cache: EmbeddingCache) -> None:
    cache.embed(HashEmbedder("one"), ITEMS)
    vectors, new = cache.embed(HashEmbedder("two", dimension=32), ITEMS)
    assert (new, vectors.shape) == (20, (20, 32))
    assert cache.embed(HashEmbedder("one"), ITEMS)[1] == 0


def test_after_a_break_down_only_the_rest_is_embedded(cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_cache, "_BATCH", 4)
    with pytest.raises(RuntimeError, match="broke down"):
        cache.embed(HashEmbedder(fails_after=11), ITEMS)
    embedder = HashEmbedder()
    vectors, new = cache.embed(embedder, ITEMS)
    assert (new, embedder.embedded) == (12, 12)
    assert np.array_equal(vectors, embedder.embed(ITEMS))


def test_progress_counts_what_is_missing(cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_cache, "_BATCH", 8)
    cache.embed(HashEmbedder(), ITEMS[:2])
    seen: list[tuple[int, int]] = []
    cache.embed(HashEmbedder(), ITEMS, lambda done, total: seen.append((done, total)))
    assert seen == [(8, 18), (16, 18), (18, 18)]


def test_no_items_give_an_empty_table(cache: EmbeddingCache) -> None:
    vectors, new = cache.embed(HashEmbedder(), [])
    assert (vectors.shape, new) == ((0, 64), 0)


def test_more_items_than_one_query_may_name(cache: EmbeddingCache) -> None:
    many = [f"text {number}" for number in range(1200)]
    assert cache.embed(HashEmbedder(), many)[1] == 1200
    assert cache.embed(HashEmbedder(), many)[1] == 0


class NotANumber(HashEmbedder):
    """Answer with what is no number."""

    def embed(self, texts: list[str]) -> Vectors:  # type: ignore[override]
        return np.full((len(texts), self.dimension), np.nan, dtype=np.float32)


def test_vectors_that_are_no_numbers_are_refused_and_not_kept(cache: EmbeddingCache) -> None:
    with pytest.raises(EmbedderError, match="not finite"):
        cache.embed(NotANumber(), ITEMS)
    assert cache.embed(HashEmbedder(), ITEMS)[1] == 20
