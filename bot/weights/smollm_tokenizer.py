"""Rebuild SmolLM2's tokenizer from the tokens and merges that a GGUF file carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bot.weights.errors import ConversionFailed
from bot.weights.gguf_file import value

_CONTROL = 3  # gguf.TokenType.CONTROL
_SPECIAL = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}


def write_tokenizer(reader: gguf.GGUFReader, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja; raises ConversionFailed."""
    kind = (value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise ConversionFailed(f"The weights carry a tokenizer of kind {kind}; only ('gpt2', 'smollm') is known.")
    build_tokenizer(reader).save(str(folder / "tokenizer.json"))
    config = json.dumps(_config(reader), indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")
    template = value(reader, "tokenizer.chat_template")
    # newline="": the template is part of what the model was trained with, to the byte.
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")


def build_tokenizer(reader: gguf.GGUFReader) -> Tokenizer:
    """Return the byte-level BPE tokenizer that the file describes."""
    tokens = value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # SmolLM2 cuts every digit off before anything else ("smollm" in llama.cpp). transformers' own GGUF loader
    # leaves this out, and then "\n\n1." and indented numbers come out as tokens the model was not trained on.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = value(reader, "tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def _config(reader: gguf.GGUFReader) -> dict[str, Any]:
    tokens = value(reader, "tokenizer.ggml.tokens")
    special = {name: tokens[value(reader, key)] for name, key in _SPECIAL.items()}
    return {
        **special,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": value(reader, "llama.context_length"),
        # The plain class takes tokenizer.json as it stands; GPT2Tokenizer would split by its own rule.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
