"""What enters over HTTP."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")  # clients send fields that mean nothing here


class ContentPart(_Body):
    """Be one part of a message that comes in parts."""

    type: str
    text: str = ""


class ChatMessage(_Body):
    """Be one message as OpenAI's clients send it."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        """Join the text of all parts."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class StreamOptions(_Body):
    """Say whether the last chunk carries the usage."""

    include_usage: bool = False


class ChatRequest(_Body):
    """Be the body of POST /v1/chat/completions."""

    model: str = "tandem"
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    metadata: dict[str, Any] | None = None


class FeedbackRequest(_Body):
    """Be the body of POST /v1/feedback."""

    turn_id: str = Field(max_length=100)
    rating: Literal["up", "down"]
    comment: str | None = Field(default=None, max_length=4000)
    correction: str | None = Field(default=None, max_length=4000)


class SignInRequest(_Body):
    """Be the body of POST /demo/sign-in."""

    customer_id: str | None = Field(default=None, max_length=255)
    role: Literal["agent"] | None = None
