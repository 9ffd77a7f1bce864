"""Read a GGUF file, and write another that keeps its metadata but holds other tensors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from bot.weights.llama_layout import Array

# The writer makes these itself from what it is given.
_WRITTEN_BY_WRITER = {"general.architecture", "general.file_type", "general.quantization_version"}


def read(path: Path) -> gguf.GGUFReader:
    """Open a GGUF file; its tensors stay on disk until they are used."""
    return gguf.GGUFReader(path)


def value(reader: gguf.GGUFReader, key: str) -> Any:
    """Return the value under a metadata key; KeyError with the key's name where there is none."""
    field = reader.get_field(key)
    if field is None:
        raise KeyError(key)
    return field.contents()


def dequantise(tensor: gguf.ReaderTensor) -> Array:
    """Return a tensor as fp32, (rows, width)."""
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)


def write_q8_0(metadata: gguf.GGUFReader, tensors: Iterable[tuple[str, Array]], target: Path) -> None:
    """Write fp32 `tensors`, named and ordered as in GGUF, as Q8_0 with the metadata of another file.

    Vectors (the norms) stay fp32: they are tiny and every value after them depends on them.
    """
    writer = gguf.GGUFWriter(target, arch=value(metadata, "general.architecture"), endianess=metadata.endianess)
    _copy_metadata(metadata, writer)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for name, weight in tensors:
        if weight.ndim == 1:
            writer.add_tensor(name, np.ascontiguousarray(weight, dtype=np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(weight, q8_0), raw_dtype=q8_0)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in _WRITTEN_BY_WRITER:
            continue
        kind = field.types[0]
        items = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=items)
