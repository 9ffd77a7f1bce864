"""The local weights: two small models that set-up brings through the package index."""

from __future__ import annotations

from pathlib import Path

from bot.weights.errors import WeightsMissing
from bot.weights.folder import is_complete
from bot.weights.paths import weights_folder
from bot.weights.sources import CHAT_MODEL, EMBEDDER, Source


def chat_model_folder(cache: Path | None = None) -> Path:
    """Return the folder of SmolLM2-135M-Instruct; raises WeightsMissing."""
    return _complete(CHAT_MODEL, cache)


def embedder_folder(cache: Path | None = None) -> Path:
    """Return the folder of all-MiniLM-L6-v2; raises WeightsMissing."""
    return _complete(EMBEDDER, cache)


def _complete(source: Source, cache: Path | None) -> Path:
    folder = weights_folder(cache) / source.folder
    if not is_complete(folder):
        raise WeightsMissing(f"The weights of {source.model} are missing or incomplete in {folder}: run 'make setup'.")
    return folder
