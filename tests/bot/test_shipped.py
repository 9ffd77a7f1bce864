"""The release that comes with the package is what its card says, and small."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bot import weights
from bot.releases import SHIPPED, Release, Releases
from bot.weights.errors import WeightsMissing
from prompts.fingerprint import fingerprint
from prompts.templates import default_templates
from prompts.tokenizer import ChatTokenizer


@pytest.fixture
def shipped(tmp_path: Path) -> Release:
    found = Releases(tmp_path / "releases").shipped()
    assert found is not None
    return found


def test_the_gate_let_it_through_and_its_card_names_its_adapter(shipped: Release) -> None:
    digest = hashlib.sha256((shipped.adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    assert shipped.gate["passed"] is True and shipped.verified
    assert digest == shipped.adapter_sha256 and digest in (SHIPPED / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_ten_megabytes(shipped: Release) -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 10_000_000


def test_it_is_served_with_the_prompts_that_it_was_trained_on(shipped: Release) -> None:
    assert shipped.templates() == default_templates()
    try:
        tokenizer = ChatTokenizer(weights.chat_model_folder())
    except WeightsMissing as error:
        pytest.skip(str(error))
    assert fingerprint(tokenizer, shipped.templates()) == shipped.fingerprint
