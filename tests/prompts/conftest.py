"""Fixtures of the prompt tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot import weights
from bot.weights.errors import WeightsMissing
from prompts.tokenizer import ChatTokenizer


@pytest.fixture(scope="session")
def smollm_folder() -> Path:
    """Give the folder of the local chat model; without it the test is skipped."""
    try:
        return weights.chat_model_folder()
    except WeightsMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def smollm(smollm_folder: Path) -> ChatTokenizer:
    return ChatTokenizer(smollm_folder)
