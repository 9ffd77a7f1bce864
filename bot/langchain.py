"""The border to LangChain: our retriever, our tuned model and our bot as its own interfaces.

retriever = TandemRetriever.from_settings()        # BaseRetriever: find
model = TandemChatModel.from_settings()            # BaseChatModel: write, without our prompts and checks
chain = as_runnable()                              # Runnable: the whole bot
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForLLMRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel, LangSmithParams, ModelProfile
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    convert_to_messages,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import AddableDict, Runnable, RunnableLambda
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from bot.answer import Answer, Delta, Done, Mode, SupportBot
from bot.bootstrap import build_model, build_searcher
from bot.errors import BotError
from bot.models import ChatModel, Sampling
from bot.settings import Settings, load_settings
from prompts.messages import Message, Role
from prompts.neutralise import neutralise
from retrieval.documents import Audience, Hit
from retrieval.search import Found, FoundTicket, Searcher

T = TypeVar("T")

_DEFAULTS = Sampling()
_OPTIONS = ("max_tokens", "temperature", "repetition_penalty")
_REFUSED_OPTIONS = ("tools", "functions", "response_format")  # dropping them would change what is asked for


class UnsupportedInput(BotError):
    """Say what LangChain handed over that a model of text cannot take."""


class TandemRetriever(BaseRetriever):
    """Find documents in the current knowledge and, for a customer, among the customer's own tickets.

    `customer_id` and `audience` belong to the authenticated caller: they are fields, and a call cannot change them.
    """

    searcher: Searcher = Field(exclude=True, repr=False)
    k: int = Field(default=4, ge=1)  # documents returned
    customer_id: str | None = None
    audience: Audience = "public"

    @classmethod
    def from_settings(cls, settings: Settings | Path | None = None, **fields: Any) -> Self:
        """Build the retriever of a deployment, by default that of tandem.toml here; `fields` win over settings."""
        settings = _settings(settings)
        return cls(searcher=build_searcher(settings), **({"k": settings.retrieval.top_k} | fields))

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        top_k = self.k if k is None else k
        if top_k < 1:
            raise UnsupportedInput(f"k is {top_k}; ask for at least one document.")
        found = self.searcher.search(query, customer_id=self.customer_id, audience=self.audience, top_k=top_k)
        return _documents(found)[:top_k]

    # Without this one `ainvoke` would not take the `k` that `invoke` takes.
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await run_in_executor(None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k)


class TandemChatModel(BaseChatModel):
    """Write with a Tandem model: text in, text out; tools, images and structured output are not supported."""

    model: SkipValidation[ChatModel] = Field(exclude=True, repr=False)  # a protocol, which pydantic cannot check
    max_tokens: int = Field(default=_DEFAULTS.max_tokens, ge=1)
    temperature: float = Field(default=_DEFAULTS.temperature, ge=0)  # 0 is greedy
    repetition_penalty: float = Field(default=_DEFAULTS.repetition_penalty, ge=1)
    stop: list[str] = Field(default_factory=list)  # for calls that name none

    @classmethod
    def from_settings(cls, settings: Settings | Path | None = None, **fields: Any) -> Self:
        """Build the model of a deployment, by default that of tandem.toml here; `fields` win over settings."""
        settings = _settings(settings)
        chosen = {name: getattr(settings.bot, name) for name in _OPTIONS}
        return cls(model=build_model(settings), **(chosen | fields))

    def get_num_tokens(self, text: str) -> int:
        """Count with the model's own tokenizer; LangChain's default fetches GPT-2's."""
        return self.model.count_text(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count the rendered prompt, chat template included."""
        _refuse({"tools": tools}, self.model.name)
        return self.model.count_tokens(_to_messages(messages))

    @property
    def _llm_type(self) -> str:
        return "tandem"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Name all that an answer depends on: LangChain's caches take it as their key."""
        options = {name: getattr(self, name) for name in _OPTIONS}
        # Not "stop": LangChain puts the stop strings of the call under that name.
        return {"model_name": self.model.name, **options, "default_stop": self.stop}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop or None, **kwargs)
        params["ls_provider"] = self._llm_type
        params.setdefault("ls_model_name", self.model.name)
        return params

    def _resolve_model_profile(self) -> ModelProfile:
        return ModelProfile(
            max_input_tokens=self.model.context_tokens,
            text_inputs=True,
            text_outputs=True,
            image_inputs=False,
            tool_calling=False,
            structured_output=False,
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        prompt, sampling = _to_messages(messages), self._sampling(kwargs)
        raw: list[str] = []
        shown = 0
        with closing(self.model.stream(prompt, sampling)) as pieces:  # type: ignore[type-var]
            for text in until_stop(_noted(pieces, raw), self.stop if stop is None else stop):
                shown += len(text)
                yield ChatGenerationChunk(message=AIMessageChunk(content=text))
        yield self._last(prompt, "".join(raw), sampling, shown)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        # LangChain's default leaves it to the garbage collector when a cancelled call stops the model.
        async with aclosing(_in_thread(self._stream(messages, stop, **kwargs))) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    def _sampling(self, options: Mapping[str, Any]) -> Sampling:
        """Take the fields, and from the call what it states."""
        _refuse(options, self.model.name)
        stated = {name: options[name] for name in _OPTIONS if options.get(name) is not None}
        sampling = Sampling(**({name: getattr(self, name) for name in _OPTIONS} | stated))
        if sampling.max_tokens < 1 or sampling.temperature < 0 or sampling.repetition_penalty < 1:
            raise UnsupportedInput(
                f"{sampling} cannot be used: max_tokens and repetition_penalty start at 1, temperature at 0."
            )
        return sampling

    def _last(self, prompt: Sequence[Message], raw: str, sampling: Sampling, shown: int) -> ChatGenerationChunk:
        """Close the stream with the usage: what was cut off at a stop string was written all the same."""
        read, written = self.model.count_tokens(prompt), self.model.count_text(raw)
        too_long = shown == len(raw) and written >= sampling.max_tokens
        usage = UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
        about = {"model_name": self.model.name, "finish_reason": "length" if too_long else "stop"}
        return ChatGenerationChunk(
            message=AIMessageChunk(content="", usage_metadata=usage, response_metadata=about, chunk_position="last")
        )


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
        async with aclosing(_in_thread(steps(value))) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk

    runnable = RunnableLambda(steps, asteps, name="tandem")
    # Stated, since LangChain would make a schema of the iterator; mypy knows no type of a union.
    return runnable.with_types(input_type=cast(Any, str | BotInput), output_type=dict[str, Any])


def until_stop(pieces: Iterable[str], stop: Iterable[str]) -> Iterator[str]:
    """Yield text up to the stop string that is complete first; how the text is cut into pieces does not matter."""
    stops = [text for text in stop if text]
    held = ""  # may turn out to begin a stop string
    for piece in pieces:
        text = held + piece
        # Of those that end together the longest counts.
        ends = [(start + len(s), start) for s in stops if (start := text.find(s)) >= 0]
        if ends:
            before = text[: min(ends)[1]]
            if before:
                yield before
            return
        keep = max((n for s in stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
        ready, held = text[: len(text) - keep], text[len(text) - keep :]
        if ready:
            yield ready
    if held:
        yield held


def _settings(settings: Settings | Path | None) -> Settings:
    return settings if isinstance(settings, Settings) else load_settings(settings)


def _documents(found: Found) -> list[Document]:
    """Put hits and tickets in one order: a ticket stands before the hits that are all less similar than it."""
    tickets = sorted(found.tickets, key=lambda t: -t.similarity)
    documents = []
    for position, hit in enumerate(found.hits):
        best = max(later.similarity for later in found.hits[position:])
        while tickets and tickets[0].similarity > best:
            documents.append(_ticket_document(tickets.pop(0)))
        documents.append(_hit_document(hit, found.generation))
    return documents + [_ticket_document(ticket) for ticket in tickets]


def _hit_document(hit: Hit, generation: str | None) -> Document:
    chunk = hit.chunk
    metadata = {
        "source": chunk.source,
        "document": chunk.document,
        "chunk": chunk.chunk,
        "title": chunk.title,
        "heading": chunk.heading,
        "url": chunk.url,
        "score": hit.score,
        "similarity": hit.similarity,
        "generation": generation,
    }
    return Document(chunk.text, id=chunk.chunk, metadata=metadata)


def _ticket_document(found: FoundTicket) -> Document:
    """Give a ticket the same keys; it has no fused score, and belongs to no generation."""
    ticket = found.ticket
    name = f"tickets/{ticket.ticket_id}"  # no source may be named "tickets"
    metadata = {
        "source": "tickets",
        "document": ticket.ticket_id,
        "chunk": name,
        "title": ticket.subject,
        "heading": "",
        "url": None,
        "score": None,
        "similarity": found.similarity,
        "generation": None,
        "status": ticket.status,
        "updated_at": ticket.updated_at,
    }
    return Document(ticket.text, id=name, metadata=metadata)


def _to_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Map LangChain's messages to ours, with control tokens neutralised."""
    if not messages:
        raise UnsupportedInput("There is no message. Give at least the user's.")
    # Blocks are joined first: a control token may be spread over two of them.
    return [Message(_role(message), neutralise(_text(message))) for message in messages]


def _role(message: BaseMessage) -> Role:
    match message:
        case SystemMessage():
            return "system"
        case HumanMessage():
            return "user"
        case AIMessage() if not (message.tool_calls or message.invalid_tool_calls):
            return "assistant"
    kind = "tool call" if isinstance(message, AIMessage) else f"message of type '{message.type}'"
    raise UnsupportedInput(f"The history holds a {kind}; this model takes system, human and AI messages of text.")


def _text(message: BaseMessage) -> str:
    """Join the text of a message as its `.text` does, and refuse what that would leave out."""
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict) and block.get("type") != "text":
            raise UnsupportedInput(
                f"A message holds a block of type '{block.get('type')}'; this model reads text alone."
            )
    return str(message.text)


def _refuse(options: Mapping[str, Any], name: str) -> None:
    for option in _REFUSED_OPTIONS:
        if options.get(option):
            raise UnsupportedInput(f"{name} does not support '{option}'. Leave it out, or use another model.")
    if options.get("model") not in (None, name):
        raise UnsupportedInput(f"This is {name}; another model needs a TandemChatModel of its own.")


def _noted(pieces: Iterable[str], note: list[str]) -> Iterator[str]:
    for piece in pieces:
        note.append(piece)
        yield piece


def _history(given: list[Any] | None) -> list[Message]:
    messages: list[Message] = []
    for item in given or ():
        messages += [item] if isinstance(item, Message) else _to_messages(convert_to_messages([item]))
    return messages


def _chunks(events: Iterable[Delta | Done]) -> Iterator[dict[str, Any]]:
    """Turn events into dicts that add up to the answer, whose text has no white space at its ends."""
    written, sent = "", 0
    for event in events:
        if isinstance(event, Done):
            yield AddableDict(_fields(event.answer) | {"text": event.answer.text[sent:]})
            continue
        written += event.text
        piece = written.strip()[sent:]
        sent += len(piece)
        if piece:
            yield AddableDict(text=piece)


def _fields(answer: Answer) -> dict[str, Any]:
    return asdict(answer) | {"citations": [asdict(citation) for citation in answer.citations]}


async def _in_thread(steps: Iterator[T]) -> AsyncIterator[T]:
    """Run a generator's steps in the executor, and close it as soon as nobody listens."""
    end = object()
    step: asyncio.Future[T | object] | None = None
    try:
        while True:
            step = asyncio.ensure_future(run_in_executor(None, next, steps, end))
            item = await asyncio.shield(step)
            if item is end:
                return
            yield cast(T, item)
    finally:
        if step is not None:
            await asyncio.wait([step])  # cancelled in mid-step: a generator that runs cannot be closed
        await run_in_executor(None, cast(Generator[T, None, None], steps).close)
