"""Remote models: any OpenAI-shaped server, and any model that LangChain's init_chat_model knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from bot.errors import ModelError, ModelMissing, ModelUnavailable
from bot.models import Sampling
from prompts.messages import Message

_CHARACTERS_A_TOKEN = 4  # a usual estimate for English; the server's tokenizer is not ours to see
DEFAULT_CONTEXT = 8192  # assumed of a remote model unless [bot] context_tokens says otherwise


class _RemoteModel:
    def __init__(self, name: str, context_tokens: int | None) -> None:
        self.name = name
        self.context_tokens = context_tokens or DEFAULT_CONTEXT
        self.template = None

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Estimate the tokens of a prompt."""
        return sum(self.count_text(m.content) + 4 for m in messages)

    def count_text(self, text: str) -> int:
        """Estimate the tokens of a text."""
        return -(-len(text) // _CHARACTERS_A_TOKEN)


class OpenAIModel(_RemoteModel):
    """Ask an OpenAI-shaped server; the key comes from the settings or from OPENAI_API_KEY."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        context_tokens: int | None = None,
    ) -> None:
        super().__init__(f"openai:{model}", context_tokens)
        import openai

        self._model = model
        try:
            self._client = openai.OpenAI(
                base_url=base_url, api_key=api_key or ("none" if base_url else None), timeout=timeout
            )
        except openai.OpenAIError as error:
            raise ModelError(f"{self.name} needs a key: set TANDEM_BOT_API_KEY or OPENAI_API_KEY.") from error

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield text; closing the iterator closes the connection, which makes a server stop."""
        import openai

        try:
            answer: Any = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": m.role, "content": m.content} for m in messages],  # type: ignore[misc]
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                stream=True,
            )
            with closing(answer) as chunks:
                for chunk in chunks:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise ModelUnavailable(f"{self.name} does not answer: {type(error).__name__}.") from error
        except openai.OpenAIError as error:
            # Not the server's own words: some repeat the key.
            status = getattr(error, "status_code", None)
            raise ModelError(f"{self.name} refused the request: {type(error).__name__}, status {status}.") from error


class LangChainModel(_RemoteModel):
    """Ask any model that LangChain's init_chat_model knows, named "<provider>:<model>"."""

    def __init__(self, name: str, *, timeout: float = 60.0, context_tokens: int | None = None) -> None:
        super().__init__(name, context_tokens)
        from langchain.chat_models import init_chat_model

        try:
            self._model: Any = init_chat_model(name, timeout=timeout)
        except ImportError as error:
            raise ModelMissing(f"The model '{name}' needs a package that is not installed: {error}") from error
        except Exception as error:  # providers raise what they like for a missing key or a bad name
            raise ModelError(f"The model '{name}' cannot be used: {error}") from error

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield text as the provider streams it."""
        pairs = [(m.role, m.content) for m in messages]
        try:
            for chunk in self._model.stream(pairs, max_tokens=sampling.max_tokens, temperature=sampling.temperature):
                text = chunk.text
                if text:
                    yield str(text)
        except Exception as error:
            raise ModelUnavailable(f"{self.name} does not answer: {type(error).__name__}.") from error
