"""Read safetensors with numpy alone; its own numpy reader knows no bf16, which adapters are stored in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bot.weights.errors import ConversionFailed
from bot.weights.llama_layout import Array

INDEX = "model.safetensors.index.json"
_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
_LONGEST_HEADER = 100_000_000  # bytes, as the safetensors library has it


def tensors(path: Path) -> Iterator[tuple[str, Array]]:
    """Yield each tensor as fp32; ConversionFailed for a file that is damaged or holds something else."""
    header, start = _header(path)
    data = np.memmap(path, dtype=np.uint8, mode="r")
    for name, entry in header.items():
        try:
            tensor = _tensor(data[start:], entry)
        except (ValueError, KeyError, TypeError) as error:
            raise ConversionFailed(f"{path} is damaged or no safetensors file: {name}: {error}") from None
        yield name, tensor


def files_of(folder: Path) -> list[Path]:
    """List a model's safetensors files; ConversionFailed where there are none.

    Some models carry their weights a second time, as consolidated.safetensors.
    """
    if (folder / INDEX).is_file():
        try:
            parts = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / name for name in sorted(set(parts))]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConversionFailed(f"{folder / INDEX} cannot be read: {error}") from None
    whole = folder / "model.safetensors"
    found = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    if not found:
        raise ConversionFailed(f"{folder} holds no *.safetensors file.")
    return found


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LONGEST_HEADER:
                raise ValueError("it does not begin with a header")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no table of tensors")
    except OSError as error:
        raise ConversionFailed(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConversionFailed(f"{path} is no safetensors file: {error}") from None
    header.pop("__metadata__", None)
    return header, 8 + length


def _tensor(data: Array, entry: dict[str, Any]) -> Array:
    """Read the tensor that an entry of the header describes; ValueError, KeyError or TypeError for a wrong one."""
    kind = _TYPES.get(entry["dtype"])
    if kind is None:
        raise ValueError(f"it is {entry['dtype']}, and only floats can be merged")
    first, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not 0 <= first <= end <= len(data) or end - first != prod(shape) * np.dtype(kind).itemsize:
        raise ValueError(f"bytes {first} to {end} of {len(data)} do not hold {entry['dtype']} {list(shape)}")
    raw: Array = np.frombuffer(data[first:end].tobytes(), dtype=kind)
    if entry["dtype"] == "BF16":  # the upper half of an fp32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False).reshape(shape)
