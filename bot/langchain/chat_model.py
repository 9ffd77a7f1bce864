"""Our model as LangChain's BaseChatModel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, ModelProfile
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, SkipValidation

from bot.bootstrap import build_model
from bot.langchain.messages import UnsupportedInput, to_messages
from bot.langchain.threads import in_thread
from bot.models import ChatModel, Sampling
from bot.settings import Settings, settings_of
from prompts.messages import Message

_DEFAULTS = Sampling()
_OPTIONS = ("max_tokens", "temperature", "repetition_penalty")
_REFUSED_OPTIONS = ("tools", "functions", "response_format")  # dropping them would change what is asked for


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
        settings = settings_of(settings)
        chosen = {name: getattr(settings.bot, name) for name in _OPTIONS}
        return cls(model=build_model(settings), **(chosen | fields))

    def get_num_tokens(self, text: str) -> int:
        """Count with the model's own tokenizer; LangChain's default fetches GPT-2's."""
        return self.model.count_text(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """Count the rendered prompt, chat template included."""
        _refuse({"tools": tools}, self.model.name)
        return self.model.count_tokens(to_messages(messages))

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
        prompt, sampling = to_messages(messages), self._sampling(kwargs)
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
        async with aclosing(in_thread(self._stream(messages, stop, **kwargs))) as chunks:  # type: ignore[type-var]
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
