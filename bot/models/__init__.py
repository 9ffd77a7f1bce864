"""Chat models: messages in, text out, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from prompts.messages import Message
from prompts.render import ChatTemplate


@dataclass(frozen=True, slots=True)
class Sampling:
    """Set how an answer is sampled; temperature 0 is greedy."""

    max_tokens: int = 220
    temperature: float = 0.0
    repetition_penalty: float = 1.05


class ChatModel(Protocol):
    """Answer messages.

    Closing the iterator that `stream` returns stops the generation. Implementations are safe to share
    between threads.
    """

    @property
    def name(self) -> str:
        """Name the model for the turn log."""
        ...

    @property
    def context_tokens(self) -> int:
        """Give the longest prompt and answer together, in tokens."""
        ...

    @property
    def template(self) -> ChatTemplate | None:
        """Give the chat template, None where a server applies it."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt; a remote model may estimate."""
        ...

    def count_text(self, text: str) -> int:
        """Count the tokens of an answer; a remote model may estimate."""
        ...

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield the answer in pieces; raises ModelError."""
        ...
