"""Merge a LoRA adapter into its base, in fp32 and without torch, and write what the engines read.

Merged before it is quantised: a quantised base rounds the adapter's small changes away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from bot.weights import gguf_file, llama_layout, safetensors_file
from bot.weights.errors import ConversionFailed
from bot.weights.llama_layout import Array

GGUF_NAME = "model-q8_0.gguf"
_PREFIX = "base_model.model."
# What changes how peft computes a layer, or the base below it, beyond W + scale * B A.
_REFUSED = (
    "use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias", "use_bdlora",
    "layer_replication", "alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config", "use_qalora",
    "target_parameters", "trainable_token_indices", "velora_config",
)  # fmt: skip
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")  # init_lora_weights that leave the base alone


@dataclass(frozen=True, slots=True)
class _Change:
    """Hold what is added to one tensor of the base: scale * B A."""

    scale: float
    a: Array  # (rank, width)
    b: Array  # (rows, rank)


def merged(base: Path, adapter: Path) -> Iterator[tuple[str, Array]]:
    """Yield each tensor of the base as fp32 with the adapter merged in; ConversionFailed where they do not fit."""
    changes = _changes(adapter)
    for path in safetensors_file.files_of(base):
        yield from _merged_file(path, changes)
    _check_all_used(changes)


def write_gguf(base: Path, adapter: Path, target: Path) -> None:
    """Write the merged model as Q8_0, with the metadata of the base's own GGUF; for Llama models."""
    template = next(iter(sorted(base.glob("*.gguf"))), None)
    if template is None:
        raise ConversionFailed(f"{base} holds no GGUF file, whose metadata the merged one takes over.")
    heads, key_heads = _heads(base)
    try:
        reader = gguf_file.read(template)
    except (ValueError, KeyError, IndexError) as error:
        raise ConversionFailed(f"{template} is no GGUF file: {error}") from None
    table = dict(_gguf_named(merged(base, adapter), heads, key_heads))
    missing = sorted({tensor.name for tensor in reader.tensors} - set(table))
    if missing:
        raise ConversionFailed(f"{base} lacks {missing[0]}, which its GGUF has.")
    try:
        gguf_file.write_q8_0(reader, ((tensor.name, table[tensor.name]) for tensor in reader.tensors), target)
    except ValueError as error:  # rows that do not divide into blocks of 32
        raise ConversionFailed(f"The merged model cannot be written as Q8_0: {error}") from None


def write_safetensors(base: Path, adapter: Path, folder: Path) -> None:
    """Write the merged model as transformers reads it, fp16, with the base's configuration and tokenizer.

    One file for each of the base's, so that no more than one is in memory.
    """
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    copy_tokenizer(base, folder)
    changes = _changes(adapter)
    for path in safetensors_file.files_of(base):
        half = {name: _as_fp16(name, weight) for name, weight in _merged_file(path, changes)}
        save_file(half, folder / path.name, metadata={"format": "pt"})
        (folder / path.name).chmod(0o644)
    _check_all_used(changes)
    if (base / safetensors_file.INDEX).is_file():
        shutil.copyfile(base / safetensors_file.INDEX, folder / safetensors_file.INDEX)


def copy_tokenizer(base: Path, folder: Path) -> None:
    """Copy all small files of a model: configuration, tokenizer, chat template, licence."""
    for path in base.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model", "") and "index" not in path.name:
            if path.name != "manifest.json":
                shutil.copyfile(path, folder / path.name)


def adapter_config(adapter: Path) -> Mapping[str, Any]:
    """Return an adapter's configuration; ConversionFailed where it is none that can be merged here."""
    path = adapter / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no table")
    except OSError as error:
        raise ConversionFailed(f"{adapter} holds no adapter: {path.name} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConversionFailed(f"{adapter} holds no adapter: {path.name} is not valid: {error}") from None
    odd = [name for name in _REFUSED if config.get(name)]
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        odd.append(f"init_lora_weights = {config['init_lora_weights']}")
    if config.get("bias", "none") != "none":
        odd.append(f"bias = {config['bias']}")
    if config.get("peft_type") != "LORA":
        odd = [f"peft_type = {config.get('peft_type')}"]
    if odd:
        raise ConversionFailed(
            f"An adapter with {', '.join(odd)} cannot be merged here. Merge it with peft and add the whole model."
        )
    return config


def _merged_file(path: Path, changes: dict[str, _Change]) -> Iterator[tuple[str, Array]]:
    """Yield one file's tensors merged, taking what is used out of `changes`."""
    for name, weight in safetensors_file.tensors(path):
        change = changes.pop(name, None)
        if change is not None:
            if (change.b.shape[0], change.a.shape[1]) != weight.shape:
                wanted = f"{change.b.shape[0]} x {change.a.shape[1]}"
                found = " x ".join(map(str, weight.shape))
                raise ConversionFailed(f"The adapter does not fit this base: {name} is {found} here, not {wanted}.")
            weight = weight + np.float32(change.scale) * (change.b @ change.a)
        yield name, weight


def _check_all_used(changes: Mapping[str, _Change]) -> None:
    if changes:
        raise ConversionFailed(f"The adapter does not fit this base, which lacks {sorted(changes)[0]}.")


def _as_fp16(name: str, weight: Array) -> Array:
    with np.errstate(over="ignore"):
        half: Array = weight.astype(np.float16)
    if not np.isfinite(half).all():
        raise ConversionFailed(f"{name} holds values that fp16 cannot.")
    return half


def _heads(base: Path) -> tuple[int, int]:
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        heads = int(config["num_attention_heads"])
        return heads, int(config.get("num_key_value_heads") or heads)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionFailed(f"{base / 'config.json'} does not describe a Llama model: {error!r}") from None


def _gguf_named(tensors: Iterator[tuple[str, Array]], heads: int, key_heads: int) -> Iterator[tuple[str, Array]]:
    for name, weight in tensors:
        try:
            gguf_name = llama_layout.to_gguf_name(name)
        except KeyError:
            raise ConversionFailed(f"Only Llama models can be written as GGUF, and none has {name}.") from None
        rows = llama_layout.heads_of(gguf_name, heads, key_heads)
        yield gguf_name, llama_layout.to_gguf_rows(weight, rows) if rows else weight


def _changes(adapter: Path) -> dict[str, _Change]:
    """Return the changes by the name of the base's tensor."""
    scale = _scale(adapter_config(adapter))
    tensors = dict(safetensors_file.tensors(adapter / "adapter_model.safetensors"))
    found: dict[str, _Change] = {}
    for name, a in tensors.items():
        b = tensors.get(name.replace(".lora_A.", ".lora_B."))
        if not name.endswith(".lora_A.weight") or b is None:
            continue
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise ConversionFailed(f"The adapter is damaged: the matrices of {name} do not fit together.")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ConversionFailed(f"The adapter is damaged: some values of {name} or its lora_B are no numbers.")
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        found[f"{module}.weight"] = _Change(scale, a, b)
    if not found or 2 * len(found) != len(tensors):
        raise ConversionFailed(
            "The adapter holds something else than pairs of LoRA matrices. Merge it with peft and add the whole model."
        )
    return found


def _scale(config: Mapping[str, Any]) -> float:
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        return alpha / (sqrt(rank) if config.get("use_rslora") else rank)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConversionFailed(f"adapter_config.json lacks a usable r or lora_alpha: {error!r}") from None
