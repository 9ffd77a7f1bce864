"""Our bot as LangChain's Runnable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing, closing
from dataclasses import asdict
from typing import Any, cast

from langchain_core.messages import convert_to_messages
from langchain_core.runnables import AddableDict, Runnable, RunnableLambda
from pydantic import BaseModel, ConfigDict

from bot.answer import Answer, Delta, Done, Event, Mode, SupportBot
from bot.langchain.messages import to_messages
from bot.langchain.threads import in_thread
from prompts.messages import Message


class BotInput(BaseModel):
    """Hold what the bot's Runnable is asked; `customer_id` must come from whoever authenticated the caller."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    question: str
    customer_id: str | None = None
    conversation_id: str | None = None
    mode: Mode = "hybrid"
    history: list[Any] | None = None  # messages as LangChain takes them: objects, {"role", "content"}, pairs


def as_runnable(bot: SupportBot | None = None) -> Runnable[str | dict[str, Any], dict[str, Any]]:
    """Offer the bot as a Runnable: a question, or the fields of BotInput, in; the fields of Answer out.

    Streamed chunks carry pieces of "text", and the last one all other fields; added up they are what `invoke` gives.
    Without `bot` it is that of tandem.toml here. Raises what SupportBot.stream raises.
    """
    whole = bot or SupportBot.from_settings()

    def steps(value: str | dict[str, Any]) -> Iterator[dict[str, Any]]:
        asked = BotInput.model_validate({"question": value} if isinstance(value, str) else value)
        fields = {name: getattr(asked, name) for name in ("customer_id", "conversation_id", "mode")}
        events = whole.stream(asked.question, history=_history(asked.history), **fields)
        with closing(events):  # type: ignore[type-var]
            yield from _chunks(events)

    async def asteps(value: str | dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with aclosing(in_thread(steps(value))) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    runnable = RunnableLambda(steps, asteps, name="tandem")
    # Stated, since LangChain would make a schema of the iterator; mypy knows no type of a union.
    return runnable.with_types(input_type=cast(Any, str | BotInput), output_type=dict[str, Any])


def _history(given: list[Any] | None) -> list[Message]:
    messages: list[Message] = []
    for item in given or ():
        messages += [item] if isinstance(item, Message) else to_messages(convert_to_messages([item]))
    return messages


def _chunks(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Turn events into dicts that add up to the answer."""
    for event in events:
        if isinstance(event, Done):
            yield AddableDict(_fields(event.answer) | {"text": ""})
        elif isinstance(event, Delta) and event.text:
            yield AddableDict(text=event.text)


def _fields(answer: Answer) -> dict[str, Any]:
    return asdict(answer) | {"citations": [asdict(citation) for citation in answer.citations]}
