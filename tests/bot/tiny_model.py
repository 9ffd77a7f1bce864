"""A Llama of a few kilobytes with its tokenizer, adapters for it and releases of them; written without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from bot.releases import Release, Releases, base_digest
from bot.weights import gguf_file, llama_layout
from prompts.fingerprint import fingerprint
from prompts.templates import default_templates
from prompts.tokenizer import ChatTokenizer
from tests.stand_ins import CHATML

WIDTH, INNER, HEADS, KEY_HEADS, LAYERS = 64, 96, 4, 2, 2
_KEYS = WIDTH // HEADS * KEY_HEADS
_LINEAR = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (_KEYS, WIDTH),
    "self_attn.v_proj": (_KEYS, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "target_modules": [module.rpartition(".")[2] for module in _LINEAR],
    "r": 4,
    "lora_alpha": 8,
    "bias": "none",
    "init_lora_weights": True,
    "use_rslora": False,
    "use_dora": False,
    "rank_pattern": {},
    "modules_to_save": None,
    "base_model_name_or_path": "tiny",
}
Weights = dict[str, NDArray[np.float32]]


def tiny_base(folder: Path, *, seed: int = 0, as_gguf: bool = False) -> Path:
    """Write a base model; with `as_gguf` a GGUF of the same weights beside the safetensors."""
    folder.mkdir(parents=True)
    words = [*_SPECIAL, "user", "assistant", "system", *(f"w{n}" for n in range(58))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(_SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    (folder / "chat_template.jinja").write_text(CHATML)
    (folder / "config.json").write_text(json.dumps(_config(len(words))))
    weights = _random_weights(len(words), seed)
    save_file({k: v.astype(np.float16) for k, v in weights.items()}, folder / "model.safetensors")
    if as_gguf:
        _write_gguf(folder / "model-q8_0.gguf", weights)
    return folder


def tiny_adapter(folder: Path, *, seed: int = 1, width: int = WIDTH, **config: Any) -> Path:
    """Write an adapter in peft's format on every linear layer of the tiny base; fp32."""
    folder.mkdir(parents=True)
    content = {**PLAIN, **config}
    draw = np.random.default_rng(seed)
    tensors: Weights = {}
    for layer in range(LAYERS):
        for module, (rows, columns) in _LINEAR.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            columns = width if columns == WIDTH else columns
            tensors[f"{name}.lora_A.weight"] = _small(draw, content["r"], columns)
            tensors[f"{name}.lora_B.weight"] = _small(draw, rows, content["r"])
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def add_release(releases: Releases, name: str, base: Path, adapter: Path, **changes: Any) -> Release:
    """Add a release that passed the gate; `changes` replace what its manifest says."""
    sha256 = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    values: dict[str, Any] = {
        "recipe": "hybrid",
        "base_model": base.name,
        "base_digest": base_digest(base),
        "fingerprint": fingerprint(ChatTokenizer(base), default_templates()),
        "created_at": "2026-05-01T00:00:00+00:00",
        "adapter_sha256": sha256,
        "gate": {"passed": True, "reasons": []},
    }
    release = Release(name=name, **{**values, **changes})
    return releases.add(release, adapter, default_templates(), f"# {name}\n")


def listed_release(releases: Releases, name: str, **changes: Any) -> Release:
    """Add a release without weights, for what only reads manifests or loads stand-ins."""
    values: dict[str, Any] = {
        "recipe": "hybrid",
        "base_model": "tiny",
        "base_digest": "0" * 24,
        "fingerprint": fingerprint(None, default_templates()),
        "created_at": "2026-05-01T00:00:00+00:00",
        "gate": {"passed": True, "reasons": []},
    }
    release = Release(name=name, **{**values, **changes})
    return releases.add(release, None, default_templates(), f"# {name}\n")


def _config(words: int) -> Mapping[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "max_position_embeddings": 8192,
        "vocab_size": words,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _random_weights(words: int, seed: int) -> Weights:
    draw = np.random.default_rng(seed)
    weights = {"model.embed_tokens.weight": _small(draw, words, WIDTH)}
    for layer in range(LAYERS):
        start = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{start}.{norm}.weight"] = np.ones(WIDTH, dtype=np.float32)
        for module, shape in _LINEAR.items():
            weights[f"{start}.{module}.weight"] = _small(draw, *shape)
    weights["model.norm.weight"] = np.ones(WIDTH, dtype=np.float32)
    return weights


def _small(draw: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return draw.standard_normal((rows, columns)).astype(np.float32) * np.float32(0.1)


def _write_gguf(path: Path, weights: Weights) -> None:
    empty = path.with_name("empty.gguf")  # whose metadata the real one takes over
    writer = gguf.GGUFWriter(empty, arch="llama")
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    named = []
    for name, weight in weights.items():
        gguf_name = llama_layout.to_gguf_name(name)
        rows = llama_layout.heads_of(gguf_name, HEADS, KEY_HEADS)
        named.append((gguf_name, llama_layout.to_gguf_rows(weight, rows) if rows else weight))
    gguf_file.write_q8_0(gguf_file.read(empty), named, path)
    empty.unlink()
