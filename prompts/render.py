"""The one place that applies a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from prompts.messages import Message


class ChatTemplate(Protocol):
    """Carry what rendering needs of a tokenizer."""

    @property
    def chat_template(self) -> str:
        """Give the Jinja source, as the model's authors publish it."""
        ...

    @property
    def special_tokens(self) -> dict[str, str]:
        """Give bos_token, eos_token and the like, where the model has them."""
        ...


def render(messages: Sequence[Message], tokenizer: ChatTemplate, *, reply: bool = True) -> str:
    """Render messages to the text the model reads; with `reply` it ends where the answer begins."""
    return str(
        _compile(tokenizer.chat_template).render(
            messages=[{"role": m.role, "content": m.content} for m in messages],
            add_generation_prompt=reply,
            **tokenizer.special_tokens,
        )
    )


@lru_cache(maxsize=8)
def _compile(source: str) -> Any:
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise ValueError(message)

    # trim_blocks, lstrip_blocks and loopcontrols are what transformers renders chat templates with
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(source)
