"""Merging without torch: what peft computes, in both of the engines' layouts; a clear word where it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bot.weights import gguf_file, llama_layout, merge, safetensors_file
from bot.weights.errors import ConversionFailed
from tests.bot.tiny_model import HEADS, KEY_HEADS, LAYERS, WIDTH, tiny_adapter, tiny_base

Q_PROJ = "model.layers.1.self_attn.q_proj"
PAIR = f"base_model.model.{Q_PROJ}.lora_"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "tiny", as_gguf=True)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return tiny_adapter(tmp_path / "adapter")


def reconfigure(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(adapter: Path, **changes: Any) -> None:
    """Replace, add or (with None) remove what is called `A` or `B` of one layer, or anything else by its name."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    for name, value in changes.items():
        full = f"{PAIR}{name}.weight" if len(name) == 1 else name
        tensors.pop(full, None)
        if value is not None:
            tensors[full] = value
    save_file(tensors, path)


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 4.0)])
def test_scale_times_b_a_is_added(base: Path, adapter: Path, rslora: bool, scale: float) -> None:
    reconfigure(adapter, use_rslora=rslora)
    before, change = load_file(base / "model.safetensors"), load_file(adapter / "adapter_model.safetensors")
    after = dict(merge.merged(base, adapter))
    assert set(after) == set(before)
    a, b = change[f"{PAIR}A.weight"], change[f"{PAIR}B.weight"]
    wanted = before[f"{Q_PROJ}.weight"].astype(np.float32) + scale * (b @ a)
    assert np.abs(after[f"{Q_PROJ}.weight"] - wanted).max() < 1e-6
    assert np.array_equal(after["model.norm.weight"], before["model.norm.weight"].astype(np.float32))
    assert all(tensor.dtype == np.float32 for tensor in after.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers
@pytest.mark.parametrize("kind", ["float32", "bfloat16"], ids=["fp32 adapter", "bf16 adapter"])
@pytest.mark.parametrize("rslora", [False, True])
def test_it_equals_what_peft_merges(tmp_path: Path, kind: str, rslora: bool) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=80, num_hidden_layers=2, **sizes)).save_pretrained(tmp_path / "base")
    start = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    settings = LoraConfig(
        r=6,
        lora_alpha=16,
        target_modules="all-linear",
        use_rslora=rslora,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    get_peft_model(start, settings).save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_torch({k: v.to(getattr(torch, kind)) for k, v in load_torch(path).items()}, path)

    whole = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    theirs = whole.merge_and_unload().state_dict()
    ours = dict(merge.merged(tmp_path / "base", tmp_path / "adapter"))
    assert set(ours) <= set(theirs) and len(ours) >= 2 + 9 * 2
    original = load_torch(tmp_path / "base" / "model.safetensors")
    for name, tensor in ours.items():
        assert np.abs(tensor - theirs[name].float().numpy()).max() < 1e-5, name
    moved = np.abs(ours[f"{Q_PROJ}.weight"] - original[f"{Q_PROJ}.weight"].numpy()).max()
    assert moved > 1e-2, "the adapter does nothing, and the comparison says nothing"


def test_the_gguf_holds_the_merged_model(base: Path, adapter: Path, tmp_path: Path) -> None:
    merge.write_gguf(base, adapter, tmp_path / "merged.gguf")
    reader, before = gguf_file.read(tmp_path / "merged.gguf"), gguf_file.read(base / "model-q8_0.gguf")
    assert [t.name for t in reader.tensors] == [t.name for t in before.tensors]
    assert gguf_file.value(reader, "llama.block_count") == LAYERS
    wanted = dict(merge.merged(base, adapter))
    for tensor in reader.tensors:
        weight = gguf_file.dequantise(tensor)
        rows = llama_layout.heads_of(tensor.name, HEADS, KEY_HEADS)
        weight = llama_layout.to_hugging_face_rows(weight, rows) if rows else weight
        original = wanted[llama_layout.to_hugging_face_name(tensor.name)]
        assert np.abs(weight - original).max() <= np.abs(original).max() / 127, tensor.name


def test_the_folder_holds_the_merged_model(base: Path, adapter: Path, tmp_path: Path) -> None:
    merge.write_safetensors(base, adapter, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors",
    }  # fmt: skip
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, weight in merge.merged(base, adapter):
        assert np.array_equal(found[name], weight.astype(np.float16))


def test_a_base_of_several_files_keeps_them(base: Path, adapter: Path, tmp_path: Path) -> None:
    whole = load_file(base / "model.safetensors")
    (base / "model.safetensors").unlink()
    table: dict[str, str] = {}
    for part, names in enumerate((sorted(whole)[::2], sorted(whole)[1::2]), start=1):
        save_file({name: whole[name] for name in names}, base / f"model-{part}.safetensors")
        table |= dict.fromkeys(names, f"model-{part}.safetensors")
    (base / safetensors_file.INDEX).write_text(json.dumps({"weight_map": table}))
    merge.write_safetensors(base, adapter, tmp_path / "out")
    assert json.loads((tmp_path / "out" / safetensors_file.INDEX).read_text())["weight_map"] == table
    found = {n: w for path in safetensors_file.files_of(tmp_path / "out") for n, w in safetensors_file.tensors(path)}
    assert set(found) == set(whole) and not np.array_equal(found[f"{Q_PROJ}.weight"], whole[f"{Q_PROJ}.weight"])


# ---------------------------------------------------------------- what cannot be merged


def refused(base: Path, adapter: Path) -> str:
    with pytest.raises(ConversionFailed) as caught:
        list(merge.merged(base, adapter))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "bias = lora_only"),
        ({"peft_type": "IA3"}, "peft_type = IA3"),
        ({"peft_type": None}, "peft_type = None"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "init_lora_weights = olora"),
    ],
)
def test_what_changes_more_than_b_a_is_refused(base: Path, adapter: Path, changes: Any, named: str) -> None:
    reconfigure(adapter, **changes)
    assert named in refused(base, adapter)


@pytest.mark.parametrize("changes", [{"r": 0}, {"r": None}, {"r": "many"}, {"lora_alpha": None}])
def test_a_scale_that_is_none(base: Path, adapter: Path, changes: Any) -> None:
    reconfigure(adapter, **changes)
    assert "lacks a usable r or lora_alpha" in refused(base, adapter)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"LORA"'])
def test_a_configuration_that_is_none(base: Path, adapter: Path, content: str) -> None:
    (adapter / "adapter_config.json").write_text(content)
    assert "holds no adapter: adapter_config.json is not valid" in refused(base, adapter)


def test_a_configuration_that_is_no_text(base: Path, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_bytes(b"\xff\xfe\x00")
    assert "holds no adapter" in refused(base, adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(base: Path, adapter: Path, name: str) -> None:
    (adapter / name).unlink()
    assert f"{name} cannot be read: No such file" in refused(base, adapter)


def test_garbage_for_an_adapter(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(np.random.default_rng(1).bytes(4000))
    assert "is no safetensors file" in refused(base, adapter)


def test_an_adapter_that_was_cut_short(base: Path, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged" in refused(base, adapter)


def test_an_adapter_of_another_width(base: Path, tmp_path: Path) -> None:
    message = refused(base, tiny_adapter(tmp_path / "wide", width=2 * WIDTH))
    assert "does not fit this base: model.layers.0" in message and "96 x 64 here, not 96 x 128" in message


def test_an_adapter_of_a_deeper_model(base: Path, adapter: Path) -> None:
    deeper = {f"base_model.model.model.layers.7.mlp.up_proj.lora_{part}.weight": np.ones((4, 4)) for part in "AB"}
    change_tensors(adapter, **deeper)
    assert "lacks model.layers.7.mlp.up_proj.weight" in refused(base, adapter)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"B": None}, "something else than pairs"),
        ({"A": None}, "something else than pairs"),
        ({"base_model.model.lm_head.weight": np.ones((2, 2))}, "something else than pairs"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 2))}, "something else than pairs"),
        ({"A": np.ones((3, WIDTH), np.float32)}, "do not fit together"),
        ({"A": np.ones(4, np.float32)}, "do not fit together"),
        ({"B": np.full((WIDTH, 4), np.nan, np.float32)}, "numbers"),
        ({"A": np.full((4, WIDTH), np.inf, np.float32)}, "numbers"),
    ],
)
def test_tensors_that_are_no_lora(base: Path, adapter: Path, changes: Any, reason: str) -> None:
    change_tensors(adapter, **changes)
    assert reason in refused(base, adapter)


def test_an_adapter_without_tensors(base: Path, adapter: Path) -> None:
    save_file({}, adapter / "adapter_model.safetensors")
    assert "something else than pairs" in refused(base, adapter)


def test_a_base_without_weights(base: Path, adapter: Path) -> None:
    (base / "model.safetensors").unlink()
    assert "holds no *.safetensors" in refused(base, adapter)


def test_a_gguf_needs_the_bases_own(base: Path, adapter: Path, tmp_path: Path) -> None:
    (base / "model-q8_0.gguf").unlink()
    with pytest.raises(ConversionFailed, match="holds no GGUF file"):
        merge.write_gguf(base, adapter, tmp_path / "x.gguf")


def test_a_gguf_that_is_none(base: Path, adapter: Path, tmp_path: Path) -> None:
    (base / "model-q8_0.gguf").write_bytes(b"no" * 400)
    with pytest.raises(ConversionFailed, match="is no GGUF file"):
        merge.write_gguf(base, adapter, tmp_path / "x.gguf")


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"num_attention_heads": "four"}'])
def test_a_base_that_is_no_llama(base: Path, adapter: Path, tmp_path: Path, content: str) -> None:
    (base / "config.json").write_text(content)
    with pytest.raises(ConversionFailed, match="does not describe a Llama"):
        merge.write_gguf(base, adapter, tmp_path / "x.gguf")


def test_a_tensor_that_no_llama_has(base: Path, adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    save_file(tensors | {f"{Q_PROJ}.bias": np.ones(WIDTH, np.float16)}, base / "model.safetensors")
    with pytest.raises(ConversionFailed, match="Only Llama models can be written as GGUF, and none has .*bias"):
        merge.write_gguf(base, adapter, tmp_path / "x.gguf")


def test_a_base_that_lacks_what_its_gguf_has(base: Path, adapter: Path, tmp_path: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(ConversionFailed, match="lacks output_norm.weight"):
        merge.write_gguf(base, adapter, tmp_path / "x.gguf")


def test_values_beyond_fp16_are_refused(base: Path, adapter: Path, tmp_path: Path) -> None:
    tensors = {k: v.astype(np.float32) for k, v in load_file(base / "model.safetensors").items()}
    tensors["model.norm.weight"][3] = 1e6
    save_file(tensors, base / "model.safetensors")
    with pytest.raises(ConversionFailed, match="model.norm.weight holds values that fp16 cannot"):
        merge.write_safetensors(base, adapter, tmp_path / "out")
