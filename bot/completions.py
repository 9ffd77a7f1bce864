"""Answers in the shapes of OpenAI's chat completions."""

from __future__ import annotations

import json
import time
from typing import Any

from bot.answer import Answer, Begun, Mode
from bot.errors import BotError
from bot.schemas import ChatMessage
from prompts.messages import Message
from retrieval.errors import QuestionError

MODELS: dict[str, Mode] = {
    "tandem": "hybrid",
    "tandem-rag": "rag",
    "tandem-finetuned": "finetuned",
    "tandem-prompt": "prompt",
}


class UnknownModel(BotError):
    """Say that no model has this name."""


def mode_of(model: str) -> Mode:
    """Return the mode that a model name stands for, or raise UnknownModel."""
    if model not in MODELS:
        raise UnknownModel(f"There is no model '{model[:80]}'; there are {', '.join(MODELS)}.")
    return MODELS[model]


def split_messages(messages: list[ChatMessage]) -> tuple[str, list[Message]]:
    """Return the question (the last message) and the history; system messages of clients are ignored."""
    talk = [m for m in messages if m.role in ("user", "assistant")]
    if not talk or talk[-1].role != "user":
        raise QuestionError("The last message must be the user's question.")
    history = [Message("assistant" if m.role == "assistant" else "user", m.text) for m in talk[:-1]]
    return talk[-1].text, history


def extra_fields(answer: Answer) -> dict[str, Any]:
    """Return what stands under `tandem` in a reply."""
    return {
        "action": answer.action,
        "citations": [
            {
                "n": c.n,
                "source": c.source,
                "document": c.document,
                "chunk": c.chunk,
                "title": c.title,
                "url": c.url,
            }
            for c in answer.citations
        ],
        "mode": answer.mode,
        "generation": answer.generation,
        "release": answer.release,
        "conversation_id": answer.conversation_id,
        "turn_id": answer.turn_id,
        "milliseconds": answer.milliseconds,
    }


def usage_of(answer: Answer) -> dict[str, int]:
    """Return the token counts."""
    prompt, completion = answer.usage["prompt_tokens"], answer.usage["completion_tokens"]
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def completion(answer: Answer, model: str) -> dict[str, Any]:
    """Return a whole reply."""
    message = {"role": "assistant", "content": answer.text, "refusal": None}
    return {
        "id": f"chatcmpl-{answer.turn_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage_of(answer),
        "tandem": extra_fields(answer),
    }


class Chunks:
    """Make the chunks of one streamed reply."""

    def __init__(self, model: str, stream_id: str, *, include_usage: bool) -> None:
        self._model = model
        self._id = stream_id
        self._created = int(time.time())
        self._include_usage = include_usage

    def first(self, begun: Begun) -> str:
        """Return the opening chunk; it names the conversation, for a client that stops before the end."""
        chunk = self._chunk({"role": "assistant", "content": ""}, None)
        names = {"conversation_id": begun.conversation_id, "turn_id": begun.turn_id}
        return json.dumps(chunk | {"tandem": names})

    def text(self, piece: str) -> str:
        """Return a chunk with a piece of text."""
        return json.dumps(self._chunk({"content": piece}, None))

    def last(self, answer: Answer) -> list[str]:
        """Return the closing chunks; the very last carries the fields of `tandem`, and the usage where asked for."""
        closing = self._chunk({}, "stop")
        extra = {"tandem": extra_fields(answer)}
        if not self._include_usage:
            return [json.dumps(closing | extra)]
        usage = self._chunk({}, None) | {"choices": [], "usage": usage_of(answer)}
        return [json.dumps(closing | extra), json.dumps(usage | extra)]

    def _chunk(self, delta: dict[str, str], finish: str | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
        }


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
