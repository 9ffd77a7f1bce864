"""Deterministic stand-ins: what tests use where the real thing is slow, random or far away."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from bot.models import Sampling
from prompts.messages import Message
from prompts.render import ChatTemplate
from retrieval.embedders import Vectors

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class ChatMLTemplate:
    """A small ChatML template, as many models use it; fulfils prompts.render.ChatTemplate."""

    def __init__(self, chat_template: str = CHATML) -> None:
        self.chat_template = chat_template
        self.special_tokens = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


class HashEmbedder:
    """Unit vectors from hashed words: texts that share words are similar, equal texts have equal vectors.

    `embedded` counts the texts, `seconds_per_text` slows it down, `fails_after` raises once so many were embedded.
    """

    def __init__(
        self,
        name: str = "hash",
        *,
        dimension: int = 64,
        seconds_per_text: float = 0.0,
        fails_after: int | None = None,
    ) -> None:
        self.fingerprint = name
        self.dimension = dimension
        self.embedded = 0
        self._seconds_per_text = seconds_per_text
        self._fails_after = fails_after

    def embed(self, texts: Sequence[str]) -> Vectors:
        assert not isinstance(texts, str), "embed() takes a list of texts"
        if self._fails_after is not None and self.embedded + len(texts) > self._fails_after:
            raise RuntimeError("the embedder broke down")
        time.sleep(self._seconds_per_text * len(texts))
        self.embedded += len(texts)
        return np.array([self._vector(text) for text in texts], dtype=np.float32).reshape(len(texts), self.dimension)

    def _vector(self, text: str) -> Vectors:
        vector = np.full(self.dimension, 0.01, dtype=np.float32)  # a text without words has a direction too
        for word in re.findall(r"\w+", text.lower()):
            vector += _word_vector(word, self.dimension)
        unit: Vectors = vector / np.linalg.norm(vector)
        return unit


@lru_cache(maxsize=100_000)
def _word_vector(word: str, dimension: int) -> Vectors:
    seed = hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8]
    values = np.random.default_rng(int.from_bytes(seed, "big")).standard_normal(dimension)
    return values.astype(np.float32)


class ScriptedModel:
    """A chat model that streams a given reply in small pieces; fulfils bot.models.ChatModel.

    `reply` is a text, or a function of the messages. `asked` records the messages of each call,
    `closed_early` says whether the last stream was closed before its end, `finished` counts whole streams.
    """

    def __init__(
        self,
        reply: str | Callable[[Sequence[Message]], str] = "Hello.",
        *,
        delay: float = 0.0,
        piece: int = 4,
        name: str = "scripted",
        context_tokens: int = 8192,
        template: ChatTemplate | None = None,
    ) -> None:
        self.name = name
        self.context_tokens = context_tokens
        self.template = template
        self.asked: list[tuple[Message, ...]] = []
        self.samplings: list[Sampling] = []
        self.closed_early = False
        self.finished = 0
        self._reply = reply
        self._delay = delay
        self._piece = piece

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(self.count_text(message.content) + 4 for message in messages)

    def count_text(self, text: str) -> int:
        return len(text) // 4 + 1

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        self.asked.append(tuple(messages))
        self.samplings.append(sampling)
        self.closed_early = False
        text = self._reply if isinstance(self._reply, str) else self._reply(messages)
        return self._pieces(text)

    def _pieces(self, text: str) -> Iterator[str]:
        try:
            for start in range(0, len(text), self._piece):
                time.sleep(self._delay)
                yield text[start : start + self._piece]
        except GeneratorExit:
            self.closed_early = True
            raise
        self.finished += 1


def write_documents(folder: Path, documents: Mapping[str, str]) -> Path:
    """Write a folder of Markdown documents, by relative path; returns the folder."""
    for name, text in documents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
