"""Fixtures of the tests of learning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bot import weights
from bot.weights.errors import WeightsMissing
from prompts.tokenizer import ChatTokenizer
from tests.bot.conftest import BotWith, bots_of, no_variables
from tests.bot.world import World, small_world
from tests.stand_ins import HashEmbedder
from training.companies import Company, load_companies
from training.conversations import Conversation
from training.grow import grow

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def companies() -> list[Company]:
    """Give the invented companies that are shipped."""
    return load_companies(EXAMPLES / "companies")


@pytest.fixture(scope="session")
def grown(companies: list[Company]) -> list[Conversation]:
    """Give 2,000 conversations in the words of the companies' files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.grow._RENAMED", 0.0)
        return grow(companies, 2000, seed=0, embedder=HashEmbedder())


@pytest.fixture(scope="session")
def smollm() -> ChatTokenizer:
    """Give the local model's tokenizer; without it the test is skipped."""
    try:
        return ChatTokenizer(weights.chat_model_folder())
    except WeightsMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give a small deployment that needs no weights."""
    with no_variables():
        world = small_world(tmp_path_factory.mktemp("small"))
    yield world
    world.close()


@pytest.fixture
def bot_with(small: World, tmp_path: Path) -> Iterator[BotWith]:
    """Build bots on the small deployment."""
    with bots_of(small, tmp_path) as build:
        yield build


@pytest.fixture(scope="module")
def torch() -> Iterator[ModuleType]:
    """Give torch with one thread: more of them wait for each other longer than a tiny model computes."""
    module: Any = pytest.importorskip("torch")
    pytest.importorskip("peft")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)
