"""The BERT encoder as an OpenVINO graph, built from safetensors so that serving needs no torch.

Architecture: Devlin et al., 2019 (post-layer-norm transformer encoder); sentence vector: mean over
the attention mask, then unit length (Reimers and Gurevych, 2019).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EmbedderError

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
CONFIG = "config.json"
MAX_LENGTH = 256  # word pieces with [CLS] and [SEP]; sentence_bert_config.json of all-MiniLM-L6-v2
_MASKED = 1e9  # exp(-1e9) is exactly 0 in fp32: a padded position adds nothing
_OTHERWISE = "Name a LangChain embeddings class instead, for instance 'langchain_huggingface.HuggingFaceEmbeddings'."

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BertShape:
    """Hold what the graph needs to know from the configuration files of a sentence encoder."""

    layers: int
    heads: int
    hidden: int
    epsilon: float  # of the layer norms
    max_length: int  # word pieces read of a text, [CLS] and [SEP] included
    pad_id: int


def read_shape(folder: Path) -> BertShape:
    """Read the encoder's shape; raise EmbedderError for files missing or an encoder of another kind."""
    for name in (WEIGHTS, TOKENIZER, CONFIG):
        if not (folder / name).is_file():
            raise EmbedderError(f"The embedding model lacks {folder / name}: run 'make setup'.")
    config = _read_json(folder / CONFIG)
    _require(folder, "model_type", config.get("model_type"), "bert")
    _require(folder, "hidden_act", config.get("hidden_act", "gelu"), "gelu")
    _require(folder, "position_embedding_type", config.get("position_embedding_type", "absolute"), "absolute")
    _require_mean_pooling(folder)
    limit = _optional_json(folder / "sentence_bert_config.json").get("max_seq_length") or MAX_LENGTH
    try:
        return BertShape(
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            hidden=int(config["hidden_size"]),
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            max_length=min(int(limit), int(config["max_position_embeddings"])),
            pad_id=int(config.get("pad_token_id") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EmbedderError(f"{folder / CONFIG} is damaged ({error!r}): run 'make setup'.") from error


def load_weights(path: Path) -> Weights:
    """Read the tensors as fp32, without the prefix "bert."; raise EmbedderError for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise EmbedderError(
            f"{path} cannot be read ({type(error).__name__}: {error}): run 'make setup'; "
            "weights of your own must be fp32 or fp16."
        ) from error
    return {
        name.removeprefix("bert."): np.ascontiguousarray(tensor, dtype=np.float32)
        for name, tensor in tensors.items()
        if np.issubdtype(tensor.dtype, np.floating)
    }


def build_model(shape: BertShape, weights: Weights, *, pooled: bool = True) -> Any:
    """Build the graph: ids int32 and mask fp32, both (batch, length), to unit vectors (batch, hidden).

    With `pooled` False it gives the last states of all word pieces, (batch, length, hidden). The weights are shared,
    not copied: keep them alive until the model is compiled. Raise EmbedderError when they do not fit the configuration.
    """
    try:
        return _Graph(shape, weights).model(pooled)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EmbedderError(f"{WEIGHTS} does not fit {CONFIG} ({reason}): run 'make setup'.") from error


class _Graph:
    """Write BERT in OpenVINO's operations."""

    def __init__(self, shape: BertShape, weights: Weights) -> None:
        from openvino import opset15

        self._op = opset15
        self._shape = shape
        self._weights = weights

    def model(self, pooled: bool) -> Any:
        """Join embeddings, layers and, where it is asked for, pooling."""
        import openvino

        op = self._op
        ids = op.parameter([-1, -1], np.int32, name="ids")
        mask = op.parameter([-1, -1], np.float32, name="mask")
        state = self._embeddings(ids)
        each_head = op.unsqueeze(mask, self._ints(1, 2))  # (batch, 1, 1, length)
        bias = op.multiply(op.subtract(each_head, self._floats(1.0)), self._floats(_MASKED))
        for layer in range(self._shape.layers):
            state = self._layer(state, bias, f"encoder.layer.{layer}")
        return openvino.Model([self._pooled(state, mask) if pooled else state], [ids, mask], "sentence_encoder")

    def _embeddings(self, ids: Any) -> Any:
        """Add word, position and (always the first) segment embeddings."""
        op, weights = self._op, self._weights
        first_segment = weights["embeddings.token_type_embeddings.weight"][0]
        positions = self._tensor(weights["embeddings.position_embeddings.weight"] + first_segment)
        length = op.gather(op.shape_of(ids, "i64"), self._ints(1), self._ints(0))
        positions = op.slice(positions, self._ints(0), length, self._ints(1), self._ints(0))
        words = op.gather(self._tensor(weights["embeddings.word_embeddings.weight"]), ids, self._ints(0))
        return self._norm(op.add(words, op.unsqueeze(positions, self._ints(0))), "embeddings.LayerNorm")

    def _layer(self, state: Any, bias: Any, name: str) -> Any:
        """Attend, then feed forward, each with its residual and layer norm."""
        op = self._op
        query, key, value = (
            self._split_heads(self._dense(state, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        heads = op.transpose(op.scaled_dot_product_attention(query, key, value, bias), self._ints(0, 2, 1, 3))
        joined = op.reshape(heads, self._ints(0, 0, self._shape.hidden), True)
        attended = op.add(self._dense(joined, f"{name}.attention.output.dense"), state)
        state = self._norm(attended, f"{name}.attention.output.LayerNorm")
        wide = op.gelu(self._dense(state, f"{name}.intermediate.dense"), "erf")
        narrow = op.add(self._dense(wide, f"{name}.output.dense"), state)
        return self._norm(narrow, f"{name}.output.LayerNorm")

    def _pooled(self, state: Any, mask: Any) -> Any:
        """Average the real positions and scale to unit length."""
        op = self._op
        each_value = op.unsqueeze(mask, self._ints(2))
        total = op.reduce_sum(op.multiply(state, each_value), self._ints(1))
        mean = op.divide(total, op.reduce_sum(each_value, self._ints(1)))
        return op.normalize_l2(mean, self._ints(1), 1e-24, "max")

    def _split_heads(self, state: Any) -> Any:
        """Turn (batch, length, hidden) into (batch, heads, length, hidden / heads)."""
        size = self._shape.hidden // self._shape.heads
        split = self._op.reshape(state, self._ints(0, 0, self._shape.heads, size), True)
        return self._op.transpose(split, self._ints(0, 2, 1, 3))

    def _dense(self, state: Any, name: str) -> Any:
        product = self._op.matmul(state, self._tensor(self._weights[f"{name}.weight"]), False, True)
        return self._op.add(product, self._tensor(self._weights[f"{name}.bias"]))

    def _norm(self, state: Any, name: str) -> Any:
        normal = self._op.mvn(state, self._ints(2), True, self._shape.epsilon, "inside_sqrt")
        scaled = self._op.multiply(normal, self._tensor(self._weights[f"{name}.weight"]))
        return self._op.add(scaled, self._tensor(self._weights[f"{name}.bias"]))

    def _tensor(self, values: NDArray[np.float32]) -> Any:
        return self._op.constant(values, shared_memory=True)

    def _floats(self, value: float) -> Any:
        return self._op.constant(np.float32(value))

    def _ints(self, *values: int) -> Any:
        return self._op.constant(np.array(values, np.int64))


def _require_mean_pooling(folder: Path) -> None:
    """Refuse a folder whose sentence-transformers files ask for more than mean pooling."""
    pooling = _optional_json(folder / "1_Pooling" / "config.json")
    modes = sorted(key for key, on in pooling.items() if key.startswith("pooling_mode_") and on is True)
    if modes and modes != ["pooling_mode_mean_tokens"]:
        raise EmbedderError(f"{folder} pools by {', '.join(modes)}, not by the mean alone. {_OTHERWISE}")
    modules = _optional_json(folder / "modules.json", empty=[])
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if extra := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise EmbedderError(f"{folder} has layers that are not built here: {', '.join(extra)}. {_OTHERWISE}")


def _require(folder: Path, key: str, found: object, wanted: str) -> None:
    if found != wanted:
        raise EmbedderError(
            f"{folder} holds an encoder with {key} {found!r}; only {wanted!r} is built here. {_OTHERWISE}"
        )


def _optional_json(path: Path, empty: Any = None) -> Any:
    return _read_json(path) if path.is_file() else ({} if empty is None else empty)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbedderError(f"{path} cannot be read ({error}): run 'make setup'.") from error
