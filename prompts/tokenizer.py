"""A tokenizer folder read without transformers, which takes seconds to import."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from prompts.messages import Message
from prompts.render import render


class ChatTokenizer:
    """Turn messages into ids and ids into text, from tokenizer.json and the chat template beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self._folder / "tokenizer.json"))

    @cached_property
    def _config(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self._folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return loaded

    @cached_property
    def chat_template(self) -> str:
        """Give the Jinja source."""
        path = self._folder / "chat_template.jinja"
        return path.read_text(encoding="utf-8") if path.is_file() else str(self._config["chat_template"])

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """Give bos_token, eos_token and the like."""
        found = {}
        for key, value in self._config.items():
            if key.endswith("_token") and value is not None and not isinstance(value, bool):
                found[key] = value["content"] if isinstance(value, dict) else str(value)
        return found

    @cached_property
    def eos_id(self) -> int:
        """Give the id that ends an answer."""
        return int(self._tokenizer.token_to_id(self.special_tokens["eos_token"]))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a rendered prompt; nothing is added, the template holds all special tokens."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def encode_messages(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids that the model answers to."""
        return self.encode(render(messages, self))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield text as soon as ids complete it, so that no character is ever split."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=True)
        for token in ids:
            piece = stream.step(self._tokenizer, token)
            if piece:
                yield piece
