"""Answer customers from the current knowledge, in the manner the model has learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bot.answer import Answer, Begun, Citation, Delta, Done, SupportBot

__all__ = ["Answer", "Begun", "Citation", "Delta", "Done", "SupportBot"]


def __getattr__(name: str) -> Any:
    """Import the bot where it is used, so that `import bot` stays light."""
    if name in __all__:
        from bot import answer

        return getattr(answer, name)
    raise AttributeError(f"module 'bot' has no attribute '{name}'")
