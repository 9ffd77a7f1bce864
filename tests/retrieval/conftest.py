"""Fixtures of the retrieval tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.retrieval.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Give an empty folder of documents, nothing published yet."""
    made = World(tmp_path / "world")
    yield made
    made.close()
