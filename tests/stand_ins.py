"""Deterministic stand-ins: what tests use where the real thing is slow, random or far away."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from bot.models import Sampling
from prompts.messages import Message
from prompts.render import ChatTemplate
from retrieval.documents import Chunk
from retrieval.embedders import Vectors
from retrieval.sentences import sentences_of

ENCODER = Path(os.environ.get("TANDEM_CACHE") or Path.home() / ".cache" / "tandem") / "weights" / "all-minilm-l6-v2"
needs_weights = pytest.mark.skipif(
    not (ENCODER / "model.safetensors").is_file(), reason=f"no weights in {ENCODER}: run 'make setup'"
)

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


class ScriptedReranker:
    """Rates sentences by `odds`, a function of the question and the sentence; fulfils retrieval.reranker.Reranker.

    `asked` records the questions.
    """

    def __init__(self, odds: Callable[[str, str], float]) -> None:
        self.asked: list[str] = []
        self._odds = odds

    def rate(self, question: str, chunks: Sequence[Chunk]) -> list[Vectors]:
        self.asked.append(question)
        texts = [[sentence.whole for sentence in sentences_of(chunk.text)] for chunk in chunks]
        return [np.array([self._odds(question, text) for text in own], dtype=np.float32) for own in texts]


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


def write_tiny_bert(folder: Path, prefix: str = "", dtype: type[np.floating] = np.float32) -> None:
    """Write a random BERT of one layer, 16 wide, over the real tokenizer; it reads 64 word pieces."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(3)
    wide = {"intermediate.dense": (32, 16), "output.dense": (16, 32)}
    square = {f"attention.{part}": (16, 16) for part in ("self.query", "self.key", "self.value")}
    shapes = {"embeddings.word_embeddings.weight": (30522, 16)}
    shapes |= {"embeddings.position_embeddings.weight": (64, 16)}
    shapes |= {"embeddings.token_type_embeddings.weight": (2, 16)}
    shapes |= {f"embeddings.LayerNorm.{part}": (16,) for part in ("weight", "bias")}
    for name, shape in (wide | square | {"attention.output.dense": (16, 16)}).items():
        shapes |= {f"encoder.layer.0.{name}.weight": shape, f"encoder.layer.0.{name}.bias": shape[:1]}
    for name in ("attention.output", "output"):
        shapes |= {f"encoder.layer.0.{name}.LayerNorm.{part}": (16,) for part in ("weight", "bias")}
    tensors = {prefix + name: random.normal(0, 0.3, shape).astype(dtype) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
    config |= {"intermediate_size": 32}
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    shutil.copy(ENCODER / "tokenizer.json", folder / "tokenizer.json")
