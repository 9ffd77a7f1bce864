"""What makes a step fast computes what peft and plain attention compute: outputs and gradients, in fp32."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.bot.tiny_model import tiny_base
from training.encode import Encoded, Pack, pack
from training.lora import Hyperparameters, LoraTrainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch, transformers and peft warn at will

WORDS = 64  # of the tiny base
SETTINGS = Hyperparameters(rank=4, alpha=8)


@pytest.fixture(scope="module")
def fast(torch: ModuleType) -> ModuleType:
    from training import fast

    return fast


# Attention


def plain(torch: Any, query: Any, key: Any, value: Any, scale: float) -> Any:
    """Attend causally in one example. Shapes: (heads, tokens, size), with fewer heads of keys and values."""
    repeats = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(repeats, dim=0), value.repeat_interleave(repeats, dim=0)
    scores = query @ key.transpose(1, 2) * scale
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(later, float("-inf")), dim=-1) @ value


def rows_of(prefix: int, branches: Sequence[int]) -> list[list[int]]:
    """Give the rows of each example in a pack: the prefix, and the branch's own."""
    rows, start = [], prefix
    for length in branches:
        rows.append([*range(prefix), *range(start, start + length)])
        start += length
    return rows


LAYOUTS = [
    (0, (1,)), (0, (7,)), (0, (3, 1, 5)), (1, (1,)), (5, (4,)), (5, (4, 1, 9)), (127, (3, 3)), (128, (3, 130)),
    (129, (2, 2)), (300, (5, 40, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("prefix", "branches"), LAYOUTS)
@pytest.mark.parametrize(("heads", "key_heads", "scaling"), [(6, 2, None), (4, 4, 0.2), (3, 1, None)])
def test_branch_attention_equals_plain_attention_of_each_example(
    torch: Any, fast: Any, prefix: int, branches: tuple[int, ...], heads: int, key_heads: int, scaling: float | None
) -> None:
    torch.manual_seed(prefix + heads)
    tokens, size = prefix + sum(branches), 8
    tensors = [torch.randn(1, n, tokens, size, requires_grad=True) for n in (heads, key_heads, key_heads)]
    out, _ = fast._attend(None, *tensors, None, scaling=scaling, layout=(prefix, branches))
    assert out.shape == (1, tokens, heads, size)

    expected = torch.zeros(heads, tokens, size)
    for rows in rows_of(prefix, branches):
        own = plain(torch, *(t[0][:, rows] for t in tensors), size**-0.5 if scaling is None else scaling)
        expected = expected.index_copy(1, torch.tensor(rows), own)  # the prefix is the same from every branch
    torch.testing.assert_close(out[0].transpose(0, 1), expected, atol=1e-5, rtol=1e-5)

    weights = torch.randn_like(expected)
    gradients = torch.autograd.grad((out[0].transpose(0, 1) * weights).sum(), tensors)
    for ours, theirs in zip(gradients, torch.autograd.grad((expected * weights).sum(), tensors), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_branch_sees_nothing_of_another(torch: Any, fast: Any) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, n, 30, 8) for n in (4, 2, 2))
    before, _ = fast._attend(None, query, key, value, None, layout=(10, (8, 12)))
    for table in (query, key, value):
        table[:, :, 10:18] += torch.randn(8, 8)
    after, _ = fast._attend(None, query, key, value, None, layout=(10, (8, 12)))
    assert torch.equal(before[:, :10], after[:, :10]) and torch.equal(before[:, 18:], after[:, 18:])
    assert not torch.allclose(before[:, 10:18], after[:, 10:18])


# LoRA


def with_adapter(torch: Any, base: Path, *, dropout: float = 0.0, bias: bool = False) -> Any:
    """Give the tiny base in fp32 with a random adapter; peft begins with B = 0, which would hide A."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    config.attention_bias = bias
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, config=config, dtype=torch.float32)
    settings = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, settings)
    randomise(torch, adapted)
    return adapted


def randomise(torch: Any, model: Any) -> None:
    torch.manual_seed(2)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / "tiny")


def gradients(model: Any) -> dict[str, Any]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_fast_lora_equals_pefts(torch: Any, fast: Any, base: Path) -> None:
    theirs = with_adapter(torch, base)
    ours = copy.deepcopy(theirs)
    assert fast.speed_up_lora(ours) == 2 * 7
    ids = torch.randint(0, WORDS, (2, 21))
    losses = []
    for model in (theirs, ours):
        out = model(input_ids=ids, labels=ids)
        out.loss.backward()
        losses.append(out)
    torch.testing.assert_close(losses[1].logits, losses[0].logits, atol=1e-5, rtol=1e-5)
    expected, found = gradients(theirs), gradients(ours)
    assert len(found) == 2 * 7 * 2 and found.keys() == expected.keys()
    assert all(float(gradient.abs().max()) > 1e-6 for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    assert all(p.grad is None for p in ours.parameters() if not p.requires_grad)


def test_the_gradient_of_the_input_equals_pefts(torch: Any, fast: Any, base: Path) -> None:
    layer = with_adapter(torch, base).base_model.model.model.layers[0].mlp.down_proj
    x = torch.randn(2, 5, layer.base_layer.in_features, requires_grad=True)
    weights = torch.randn(2, 5, layer.base_layer.out_features)
    (theirs,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    layer.forward = fast._forward(layer, "default")
    (ours,) = torch.autograd.grad((layer(x) * weights).sum(), x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_layers_that_are_not_plain_stay_as_they_are(torch: Any, fast: Any, base: Path) -> None:
    assert fast.speed_up_lora(with_adapter(torch, base, dropout=0.1)) == 0
    assert fast.speed_up_lora(with_adapter(torch, base, bias=True)) == 2 * 3  # attention's four have a bias


# A pack


@pytest.fixture
def trainer(torch: Any, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoraTrainer:
    monkeypatch.setattr("training.lora.computes_bf16", lambda: False)
    made = LoraTrainer(base, tmp_path / "run", SETTINGS, "x")
    torch.manual_seed(3)
    made._prepare()
    if made._device != "cpu":
        pytest.skip("a CPU computes in fp32")
    randomise(torch, made._model)
    return made


def examples(count: int, shared: int, seed: int) -> list[Encoded]:
    draw = random.Random(seed)
    trunk = draw.choices(range(WORDS), k=shared)
    made = []
    for _ in range(count):
        prompt = [*trunk, *draw.choices(range(WORDS), k=draw.randint(1, 12))]
        made.append(Encoded((*prompt, *draw.choices(range(WORDS), k=draw.randint(1, 9))), len(prompt)))
    return made


def expected_of(
    torch: Any, trainer: LoraTrainer, base: Path, singles: Sequence[Encoded]
) -> tuple[float, dict[str, Any]]:
    """Compute loss and gradients one example after the other, with transformers' and peft's own code."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model = with_adapter(torch, base)
    set_peft_model_state_dict(model, get_peft_model_state_dict(trainer._model))
    total = 0.0
    for one in singles:
        ids = torch.tensor([one.ids])
        logits = model(input_ids=ids).logits[0, one.start - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, one.start :], reduction="sum")
        loss.backward()
        total += loss.item()
    return total, gradients(model)


@pytest.mark.parametrize(("count", "shared"), [(1, 3), (4, 60), (5, 200), (6, 0)])
def test_a_pack_has_the_loss_and_the_gradients_of_its_examples(
    torch: Any, trainer: LoraTrainer, base: Path, count: int, shared: int
) -> None:
    singles = examples(count, shared, seed=count)
    (tree,) = pack(singles, 2048)
    assert bool(tree.prefix) == (shared >= 60) and len(tree.branches) == count
    loss = trainer._loss(tree)
    loss.backward()
    total, expected = expected_of(torch, trainer, base, singles)
    assert loss.item() == pytest.approx(total, rel=1e-5)
    found = gradients(trainer._model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_the_loss_is_taken_on_the_answers_alone(torch: Any, trainer: LoraTrainer) -> None:
    """Other words in the prompt's place change the loss by what they tell, but are never predicted themselves."""
    predicted: list[Any] = []
    take = torch.nn.functional.cross_entropy

    def recorded(logits: Any, target: Any, **options: Any) -> Any:
        predicted.extend(target.tolist())
        return take(logits, target, **options)

    singles = examples(3, 60, seed=9)
    (tree,) = pack(singles, 2048)
    torch.nn.functional.cross_entropy = recorded
    try:
        trainer._loss(tree)
    finally:
        torch.nn.functional.cross_entropy = take
    assert sorted(predicted) == sorted(i for one in singles for i in one.ids[one.start :])


def test_a_step_weighs_every_token_of_an_answer_alike(torch: Any, trainer: LoraTrainer) -> None:
    packs = pack(examples(4, 60, seed=1), 2048) + pack(examples(3, 0, seed=2), 2048)
    answers = sum(len(b) - s for one in packs for b, s in zip(one.branches, one.starts, strict=True))
    with torch.no_grad():
        expected = sum(float(trainer._loss(one)) for one in packs) / answers
    assert trainer._evaluate(packs) == pytest.approx(expected, rel=1e-6)
    loss, useful = trainer._step(packs, 0.5)
    assert loss == pytest.approx(expected, rel=1e-6) and useful == sum(one.useful for one in packs)


def test_what_is_frozen_has_no_gradient(torch: Any, trainer: LoraTrainer) -> None:
    trainer._loss(Pack((), ((1, 2, 3, 4),), (2,))).backward()
    for name, weight in trainer._model.named_parameters():
        assert (weight.grad is not None) == ("lora_" in name), name
