"""Translate a Llama model between the layouts of GGUF and of Hugging Face, both ways.

The two differ in tensor names and in the row order of the query and key projections: llama.cpp pairs
neighbouring rows for the rotary embedding, Hugging Face pairs a row with the one half a head away.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FROM_BLOCK = {there: here for here, there in _IN_BLOCK.items()}


def to_hugging_face_name(name: str) -> str:
    """Return the Hugging Face name of a GGUF tensor; KeyError for a tensor no Llama model has."""
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if block is None:
        return _WHOLE[name]
    return f"model.layers.{block[1]}.{_IN_BLOCK[block[2]]}.weight"


def to_gguf_name(name: str) -> str:
    """Return the GGUF name of a Hugging Face tensor; KeyError for a tensor no Llama model has."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.([\w.]+)\.weight", name)
    if layer is None:
        return {there: here for here, there in _WHOLE.items()}[name]
    return f"blk.{layer[1]}.{_FROM_BLOCK[layer[2]]}.weight"


def heads_of(gguf_name: str, heads: int, key_heads: int) -> int | None:
    """Return into how many heads a tensor's rows are permuted, None where they are not."""
    if ".attn_q." in gguf_name:
        return heads
    return key_heads if ".attn_k." in gguf_name else None


def to_hugging_face_rows(weight: Array, heads: int) -> Array:
    """Undo llama.cpp's row order of a (heads * head size, width) query or key projection."""
    half = weight.shape[0] // heads // 2
    return np.ascontiguousarray(weight.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(weight.shape))


def to_gguf_rows(weight: Array, heads: int) -> Array:
    """Put a (heads * head size, width) query or key projection into llama.cpp's row order."""
    half = weight.shape[0] // heads // 2
    return np.ascontiguousarray(weight.reshape(heads, 2, half, -1).swapaxes(1, 2).reshape(weight.shape))
