"""What makes a step fast: LoRA layers without copies in fp32, and attention over a tree of branches.

Both compute what peft and transformers compute; tests/training/test_fast.py compares outputs and gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

NAME = "branches"  # of the attention, as transformers registers it
_ROWS = 128  # of a prefix in one block


class _LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """Compute x W' + s (x A') B' in the base's precision; only A and B, kept in fp32, have gradients."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, a: Any, b: Any, scaling: float) -> Any:
        rows = x.reshape(-1, x.shape[-1])
        a_low, b_low = a.to(x.dtype), (b * scaling).to(x.dtype)
        inner = rows @ a_low.t()
        out = rows @ weight.t()
        out.addmm_(inner, b_low.t())
        ctx.save_for_backward(rows, weight, a_low, b_low, inner)
        ctx.scaling, ctx.shape = scaling, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, a_low, b_low, inner = ctx.saved_tensors
        out = gradients[0].reshape(-1, gradients[0].shape[-1])
        into = out @ b_low
        below = None
        if ctx.needs_input_grad[0]:
            below = out @ weight
            below.addmm_(into, a_low)
            below = below.view(ctx.shape)
        return below, None, (into.t() @ rows).float(), (out.t() @ inner).float() * ctx.scaling, None


def speed_up_lora(model: Any, adapter: str = "default") -> int:
    """Replace the forward of peft's plain linear LoRA layers; returns how many. Others stay as they are."""
    from peft.tuners.lora import Linear

    count = 0
    for module in model.modules():
        if isinstance(module, Linear) and _is_plain(module, adapter):
            module.forward = _forward(module, adapter)
            count += 1
    return count


def _is_plain(module: Any, adapter: str) -> bool:
    dropped = not isinstance(module.lora_dropout[adapter], torch.nn.Identity)
    return module.base_layer.bias is None and not dropped and type(module.base_layer) is torch.nn.Linear


def _forward(module: Any, adapter: str) -> Any:
    def forward(x: Any) -> Any:
        return _LoraLinear.apply(
            x,
            module.base_layer.weight,
            module.lora_A[adapter].weight,
            module.lora_B[adapter].weight,
            module.scaling[adapter],
        )

    return forward


def register_attention() -> None:
    """Teach transformers the attention NAME; a model's forward then takes `layout=(prefix, (branch, ...))`."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)


def _attend(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **options: Any
) -> Any:
    """Attend from each branch to the prefix and to itself. Shapes: (1, heads, tokens, head size)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    blocks = _blocks(*options["layout"])
    out = _BranchAttention.apply(query[0], key[0], value[0], scale, blocks)
    return out.transpose(0, 1).unsqueeze(0).contiguous(), None


_Block = tuple[int, int, int]  # first row, end, and how much of the prefix its rows see before their own


def _blocks(prefix: int, branches: Sequence[int]) -> list[_Block]:
    """Cut the rows so that little above the diagonal is computed: the prefix in blocks, each branch as one."""
    blocks = [(start, min(start + _ROWS, prefix), start) for start in range(0, prefix, _ROWS)]
    start = prefix
    for length in branches:
        blocks.append((start, start + length, prefix))
        start += length
    return blocks


class _BranchAttention(torch.autograd.Function):  # type: ignore[misc]
    """Softmax attention written out: on CPUs its products outrun the fused kernel's backward pass by far.

    query (heads, tokens, size), key and value (key heads, tokens, size); neighbouring heads share a key head.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, scale: float, blocks: list[_Block]) -> Any:
        heads, tokens, size = query.shape
        shared = key.shape[0]
        rows = (query * scale).view(shared, heads // shared, tokens, size)
        out = torch.empty_like(query)
        into = out.view(shared, heads // shared, tokens, size)
        kept = []
        for start, end, seen in blocks:
            keys, values = _seen(key, start, end, seen), _seen(value, start, end, seen)
            own = rows[:, :, start:end].reshape(shared, -1, size)
            scores = torch.bmm(own, keys.transpose(1, 2))
            last = scores.view(shared, heads // shared, end - start, -1)[..., seen:]
            last.masked_fill_(_later(end - start, query.device), float("-inf"))
            weights = torch.softmax(scores, dim=-1)
            into[:, :, start:end] = torch.bmm(weights, values).view(shared, heads // shared, end - start, size)
            kept.append(weights)
        ctx.save_for_backward(rows, key, value, *kept)
        ctx.scale, ctx.blocks = scale, blocks
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, key, value, *kept = ctx.saved_tensors
        shared, repeats, tokens, size = rows.shape
        above = gradients[0].reshape(shared, repeats, tokens, size)
        query_gradient = torch.empty_like(rows)
        key_gradient, value_gradient = torch.zeros_like(key), torch.zeros_like(value)
        for (start, end, seen), weights in zip(ctx.blocks, kept, strict=True):
            keys, values = _seen(key, start, end, seen), _seen(value, start, end, seen)
            own = rows[:, :, start:end].reshape(shared, -1, size)
            out = above[:, :, start:end].reshape(shared, -1, size)
            inner = torch._softmax_backward_data(  # what softmax itself calls
                torch.bmm(out, values.transpose(1, 2)), weights, -1, weights.dtype
            )
            query_gradient[:, :, start:end] = torch.bmm(inner, keys).view(shared, repeats, end - start, size)
            _add(key_gradient, torch.bmm(inner.transpose(1, 2), own), start, end, seen)
            _add(value_gradient, torch.bmm(weights.transpose(1, 2), out), start, end, seen)
        return query_gradient.mul_(ctx.scale).view(-1, tokens, size), key_gradient, value_gradient, None, None


def _seen(table: Any, start: int, end: int, seen: int) -> Any:
    """Return the rows of the prefix's first `seen` tokens and the block's own."""
    if seen == start:
        return table[:, :end]
    return torch.cat((table[:, :seen], table[:, start:end]), dim=1)


def _add(table: Any, rows: Any, start: int, end: int, seen: int) -> None:
    table[:, :seen] += rows[:, :seen]
    table[:, start:end] += rows[:, seen:]


def _later(length: int, device: Any) -> Any:
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
