"""Documents kept out of all training prompts, so that answers from unseen documents can be measured."""

from __future__ import annotations

from bot.errors import ConfigError
from bot.settings import Settings


def held_out(settings: Settings) -> frozenset[str]:
    """Read the file that [training] held_out names, one "source/document" a line; empty where none is named."""
    path = settings.training.held_out
    if not path:
        return frozenset()
    try:
        return frozenset((settings.root / path).read_text(encoding="utf-8").split())
    except OSError as error:
        raise ConfigError(f"[training] held_out: {path} cannot be read: {error.strerror}.") from None
