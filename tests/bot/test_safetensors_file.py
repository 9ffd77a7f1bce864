"""Reading safetensors without torch: every kind of float, and no crash on files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from bot.weights import safetensors_file
from bot.weights.errors import ConversionFailed


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_each_float_is_read_as_fp32(tmp_path: Path, kind: Any) -> None:
    wanted = {"a": np.arange(6).reshape(2, 3) / 7, "b": np.array(0.5), "c": np.zeros((0, 4))}
    save_file({name: value.astype(kind) for name, value in wanted.items()}, tmp_path / "m.safetensors")
    found = dict(safetensors_file.tensors(tmp_path / "m.safetensors"))
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == np.float32 and found[name].shape == value.shape
        assert np.array_equal(found[name], value.astype(kind).astype(np.float32))


@pytest.mark.slow
def test_bf16_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_torch

    odd = torch.tensor([[0.0, -0.0, 1e-40, 3.4e38], [float("inf"), -1.5, 1 / 3, 65504.0]])
    tensors = {"random": torch.randn(31, 17), "odd": odd}
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    save_torch(halves, tmp_path / "m.safetensors")
    found = dict(safetensors_file.tensors(tmp_path / "m.safetensors"))
    for name, tensor in halves.items():
        assert np.array_equal(found[name], tensor.float().numpy())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "does not begin with a header"),
        (b"\x01", "is no safetensors file"),
        (b"GGUF" + b"\x00" * 60, "is no safetensors file"),
        (b"\xff" * 64, "does not begin with a header"),
        ((10_000).to_bytes(8, "little") + b'{"w":', "is no safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "no table of tensors"),
        ((2).to_bytes(8, "little") + b"\xfe\xff", "is no safetensors file"),
        ((90_000).to_bytes(8, "little") + b"[" * 90_000, "is no safetensors file"),
    ],
)
def test_garbage_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConversionFailed, match=reason) as caught:
        list(safetensors_file.tensors(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (entry("I64"), "is I64, and only floats"),
        (entry("F8_E4M3"), "only floats"),
        (entry(offsets=(0, 4)), "do not hold F32"),
        (entry(shape=(3,)), "do not hold F32"),
        (entry(offsets=(8, 16)), "bytes 8 to 16 of 8"),  # beyond the end: a download that was cut
        (entry(offsets=(-8, 0)), "do not hold"),
        (entry(offsets=(8,)), "damaged"),
        (entry(shape="ab"), "damaged"),
        (entry(offsets=None), "damaged"),
        ({"w": {"dtype": "F32"}}, "damaged"),
        ({"w": 5}, "damaged"),
        ({"w": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}}, "damaged"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, header: Any, reason: str) -> None:
    path = write(tmp_path / "m.safetensors", header, b"\0" * 8)
    with pytest.raises(ConversionFailed, match=reason):
        list(safetensors_file.tensors(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="m.safetensors cannot be read: No such file"):
        list(safetensors_file.tensors(tmp_path / "m.safetensors"))


# Which files are the model's


def test_one_file_alone_is_the_model_whatever_lies_beside_it(tmp_path: Path) -> None:
    for name in ("model.safetensors", "consolidated.safetensors"):
        write(tmp_path / name, {})
    assert [path.name for path in safetensors_file.files_of(tmp_path)] == ["model.safetensors"]


def test_an_index_says_which_files_are_the_model(tmp_path: Path) -> None:
    table = {"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}
    (tmp_path / safetensors_file.INDEX).write_text(json.dumps(table))
    write(tmp_path / "consolidated.safetensors", {})
    assert [p.name for p in safetensors_file.files_of(tmp_path)] == ["model-1.safetensors", "model-2.safetensors"]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1, "b": "c"}}'])
def test_a_damaged_index_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / safetensors_file.INDEX).write_text(content)
    with pytest.raises(ConversionFailed, match="index.json cannot be read"):
        safetensors_file.files_of(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="holds no"):
        safetensors_file.files_of(tmp_path)
