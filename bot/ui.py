"""What the chat page shows beside answers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bot.completions import MODELS
from bot.errors import UnknownTurn
from bot.settings import Settings
from bot.turns import Turn


def ui_config(settings: Settings, readiness: dict[str, Any], *, demo: bool) -> dict[str, Any]:
    """Return what the page needs to know before the first question."""
    return {
        "company": settings.bot.company,
        "greeting": settings.bot.greeting,
        "suggestions": settings.bot.suggestions,
        "demo": demo,
        "modes": list(MODELS) if demo else ["tandem"],
        "generation": readiness["generation"],
        "knowledge_updated_at": readiness["knowledge_updated_at"],
        "release": readiness["release"],
    }


def passage_view(turn: Turn, n: int) -> dict[str, Any]:
    """Return a passage as it was shown to the model, as text and as safe HTML; or raise UnknownTurn."""
    cited = {citation["n"] for citation in turn.citations}
    for passage in turn.passages:
        if passage.n == n and n in cited:
            return {
                "n": n,
                "source": passage.source,
                "document": passage.document,
                "title": passage.title,
                "heading": passage.heading,
                "url": passage.url,
                "updated": passage.updated,
                "text": passage.text,
                "html": _markdown().render(passage.text),
            }
    raise UnknownTurn("This turn cites no such passage.")


@lru_cache(maxsize=1)
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    # js-default leaves raw HTML as text and refuses javascript: links
    return MarkdownIt("js-default").enable("table").disable("image")
