"""Measure what a candidate forgot of the base model's general knowledge, item by item on both.

The choice with the highest mean log-likelihood per token counts as the answer. Nothing is generated, so that neither
the manners that training teaches nor the form of an answer change the score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.releases import base_digest
from bot.weights.folder import sha256_of
from prompts.tokenizer import ChatTokenizer
from retrieval.files import write_atomically
from training.choices import KNOWLEDGE, Item, choose, items_digest, load_items
from training.encode import Pack, common_prefix
from training.lora import computes_bf16, layout_of
from training.metrics import Metric, mean
from training.progress import Tell

Progress = Callable[[str, int, int], None]
_TOLERATED = 0.03  # of all items
_ENOUGH = 1000  # items, with which the interval is narrow enough to show that no more was lost
_FORWARD_TOKENS = 512
_METHOD = 1  # raise it when scores change, so that cached ones are not used


@dataclass(frozen=True, slots=True)
class Tested:
    """Hold the share of right answers in one set before and after, and the paired difference."""

    name: str
    n: int
    before: float
    after: float
    difference: Metric


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Hold the paired difference over all items, negative where something was lost, and that of each set."""

    sets: tuple[Tested, ...]
    all: Metric


def items_of(paths: Sequence[Path], limit: int, seed: int) -> list[Item]:
    """Draw at most `limit` items of some files, of the shipped set where there are none; raises CasesError."""
    items = [item for path in paths or (KNOWLEDGE,) for item in load_items(path)]
    return choose(items, limit, seed)


def compare(items: Sequence[Item], before: Sequence[bool], after: Sequence[bool]) -> Forgetting:
    """Compare two models' scores of the same items."""
    changes = [float(new) - float(old) for old, new in zip(before, after, strict=True)]
    members: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        members.setdefault(item.set_name, []).append(index)
    sets = (
        Tested(
            name,
            len(own),
            sum(before[i] for i in own) / len(own),
            sum(after[i] for i in own) / len(own),
            mean([changes[i] for i in own]),
        )
        for name, own in members.items()
    )
    return Forgetting(tuple(sets), mean(changes))


def forgets(difference: Metric) -> str | None:
    """Say that a candidate forgot too much, None where it did not.

    With many items it must be shown that no more than what is tolerated was lost; with few, where the interval is
    wider than that, only a proven loss counts.
    """
    value, low, high = difference.value, difference.low, difference.high
    if value is None or low is None or high is None:
        return "what it forgot was not measured: there are no items"
    found = f"{100 * value:+.1f} points, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}, {difference.n} items"
    if difference.n >= _ENOUGH:
        lost = low <= -_TOLERATED
    else:
        lost = value < -_TOLERATED and high < 0
    if not lost:
        return None
    what = "fell" if value < -_TOLERATED else f"may have fallen by more than {100 * _TOLERATED:.0f} points"
    return f"general knowledge {what} ({found}): train with more replay, a lower learning rate or fewer epochs"


def scored(base: Path, adapter: Path | None, items: Sequence[Item], cache: Path, tell: Tell) -> list[bool]:
    """Score as `score` does, or take the scores from `cache`, a JSON file by model, items and precision."""
    weights = sha256_of(adapter / "adapter_model.safetensors")[:24] if adapter else "base"
    key = f"{base_digest(base)}-{weights}-{items_digest(items)}-{_precision()}-{_METHOD}"
    found = _read(cache).get(key)
    if found is None:
        found = "".join("1" if right else "0" for right in score(base, adapter, items, tell.progress))
        write_atomically(cache, json.dumps({**_read(cache), key: found}, indent=1))
    return [right == "1" for right in found]


def score(base: Path, adapter: Path | None, items: Sequence[Item], progress: Progress) -> list[bool]:
    """Say for each item whether the model, the base or with an adapter, holds the right choice the likeliest."""
    import torch

    model = _load(base, adapter)
    tokenizer = ChatTokenizer(base)
    name = "general knowledge: candidate" if adapter else "general knowledge: base"
    right: list[bool] = []
    progress(name, 0, len(items))
    with torch.no_grad():
        for packs in _forwards([_encode(item, tokenizer) for item in items]):
            for likelihoods in _likelihoods(model, packs):
                best = max(range(len(likelihoods)), key=likelihoods.__getitem__)
                right.append(best == items[len(right)].answer)
            progress(name, len(right), len(items))
    return right


def _read(cache: Path) -> dict[str, str]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _precision() -> str:
    import torch

    return "bfloat16" if torch.cuda.is_available() or computes_bf16() else "float32"


def _load(base: Path, adapter: Path | None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from training import fast

    logging.disable_progress_bar()
    # Not the branch attention: several items have several prefixes, and its many small products are slow on busy
    # cores (120 items beside a training: 334 ms an item, 25 with one mask over all).
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=getattr(torch, _precision()), attn_implementation="sdpa"
    ).eval()
    if adapter is not None:
        from peft import PeftModel

        # Not merged: bf16 would round the adapter's small changes away.
        fast.speed_up_lora(PeftModel.from_pretrained(model, adapter).eval())
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _encode(item: Item, tokenizer: ChatTokenizer) -> Pack:
    """Make the question a prefix and each choice a branch, which begins with the token that predicts its first."""
    prompt = f"Question: {item.question}\nAnswer:"
    asked = tokenizer.encode(prompt)
    wholes = [tokenizer.encode(f"{prompt} {choice}") for choice in item.choices]
    # Encoded as one text: a tokenizer may join the prompt's end to what follows, and then less is shared.
    # A choice has a token of its own.
    parting = max(0, min(common_prefix(asked, w, min(len(asked), len(w) - 1)) for w in wholes) - 1)
    return Pack(tuple(asked[:parting]), tuple(tuple(whole[parting:]) for whole in wholes), (1,) * len(wholes))


def _forwards(packs: Sequence[Pack]) -> Iterator[list[Pack]]:
    """Yield neighbours that are computed in one forward."""
    taken: list[Pack] = []
    for pack in packs:
        if taken and sum(one.tokens for one in taken) + pack.tokens > _FORWARD_TOKENS:
            yield taken
            taken = []
        taken.append(pack)
    if taken:
        yield taken


def _likelihoods(model: Any, packs: Sequence[Pack]) -> list[list[float]]:
    """Return the mean log-likelihood per token of each branch, by pack."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    wanted: list[int] = []
    for pack in packs:
        own_positions, own_predicting, own_wanted = layout_of(pack)
        predicting += [len(ids) + row for row in own_predicting]
        positions += own_positions
        wanted += own_wanted
        ids += [*pack.prefix, *(i for branch in pack.branches for i in branch)]
    device = model.device
    hidden = model.model(
        input_ids=torch.tensor([ids], device=device),
        position_ids=torch.tensor([positions], device=device),
        attention_mask=_mask(packs, device),
        use_cache=False,
    ).last_hidden_state[0, torch.tensor(predicting, device=device)]
    # In fp32: among logits near 20, bf16 tells none apart that differ by less than 0.1.
    logits = torch.nn.functional.linear(hidden.float(), model.lm_head.weight.float())
    found = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(wanted, device=device)[:, None])[:, 0]
    parts = iter(torch.split(found, [len(branch) - 1 for pack in packs for branch in pack.branches]))
    return [[float(next(parts).mean()) for _ in pack.branches] for pack in packs]


def _mask(packs: Sequence[Pack], device: Any) -> Any:
    """Return who sees whom, (1, 1, tokens, tokens): each token its item's prefix and its own branch so far."""
    import torch

    owners: list[tuple[int, int]] = []  # item and branch, 0 for the prefix
    for number, pack in enumerate(packs):
        owners += [(number, 0)] * len(pack.prefix)
        for place, branch in enumerate(pack.branches, start=1):
            owners += [(number, place)] * len(branch)
    item, branches = torch.tensor(owners, device=device).unbind(1)
    same = item[:, None] == item
    seen = same & ((branches == 0) | (branches[:, None] == branches))
    return seen.tril()[None, None]
