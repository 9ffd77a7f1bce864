"""Encode examples to ids and labels, and pack those that share a prefix so that it is computed once.

A pack is a tree of one level: a prefix, and branches that each go on from it and see nothing of each other.
Positions go on from the prefix too, so every token's computation is the same as if its example stood alone
(tests/training/test_encode.py compares losses and gradients). Many customers asking about the same passages cost
little more than one; without a common prefix a pack is ordinary packing with a block-diagonal mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prompts.tokenizer import ChatTokenizer
from training.examples import Example

_WORTH = 48  # tokens that sharing must save before an example joins a prefix


@dataclass(frozen=True, slots=True)
class Encoded:
    """Hold the ids of prompt and answer; `start` is where the supervised part begins: the answer and its end."""

    ids: tuple[int, ...]
    start: int

    @property
    def supervised(self) -> int:
        """Count the tokens that the loss is taken on."""
        return len(self.ids) - self.start


@dataclass(frozen=True, slots=True)
class Pack:
    """Hold one sequence for the model: `prefix` ids, then each branch's own ids with where its answer starts."""

    prefix: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]  # of the answer, within the branch

    @property
    def tokens(self) -> int:
        """Count what is computed."""
        return len(self.prefix) + sum(len(branch) for branch in self.branches)

    @property
    def useful(self) -> int:
        """Count what the examples hold, each with its whole prompt."""
        return sum(len(self.prefix) + len(branch) for branch in self.branches)


def encode(example: Example, tokenizer: ChatTokenizer) -> Encoded:
    """Encode as served: the ids that the model is given, then those that it should write, the end among them."""
    prompt = tokenizer.encode_messages(example.messages)
    answer = [*tokenizer.encode(example.answer), tokenizer.eos_id]
    return Encoded((*prompt, *answer), len(prompt))


def pack(examples: Sequence[Encoded], limit: int) -> list[Pack]:
    """Pack examples into sequences of at most `limit` tokens (a longer example has a pack of its own).

    Neighbours in the order of their ids share the longest prefixes. What shares nothing worth it is packed with
    others of its kind, first fit by falling length.
    """
    groups: list[tuple[int, list[Encoded]]] = []  # prefix length, members
    for example in sorted(examples, key=lambda e: e.ids):
        if groups and (shared := _joined(groups[-1], example, limit)) is not None:
            groups[-1][1].append(example)
            groups[-1] = (shared, groups[-1][1])
        else:
            groups.append((_prompt_only(example), [example]))
    packs = [_tree(shared, members) for shared, members in groups if len(members) > 1]
    return packs + _first_fit([members[0] for _, members in groups if len(members) == 1], limit)


def _prompt_only(example: Encoded) -> int:
    return example.start - 1  # the prompt's last token predicts the answer's first: it belongs to the branch


def common_prefix(first: Sequence[int], second: Sequence[int], bound: int) -> int:
    """Count the ids, up to `bound`, with which both begin."""
    return next((i for i in range(bound) if first[i] != second[i]), bound)


def _joined(group: tuple[int, list[Encoded]], example: Encoded, limit: int) -> int | None:
    """Return the prefix length that the group would have with one more member, None where it does not pay."""
    shared, members = group
    first = members[0].ids
    new = common_prefix(first, example.ids, min(shared, _prompt_only(example), len(first)))
    saved = new - (shared - new) * (len(members) - 1)
    total = new + sum(len(m.ids) - new for m in members) + len(example.ids) - new
    return new if saved >= _WORTH and total <= limit else None


def _tree(shared: int, members: Sequence[Encoded]) -> Pack:
    return Pack(
        members[0].ids[:shared],
        tuple(m.ids[shared:] for m in members),
        tuple(m.start - shared for m in members),
    )


def _first_fit(examples: Sequence[Encoded], limit: int) -> list[Pack]:
    bins: list[tuple[int, list[Encoded]]] = []
    for example in sorted(examples, key=lambda e: -len(e.ids)):
        for index, (used, members) in enumerate(bins):
            if used + len(example.ids) <= limit:
                members.append(example)
                bins[index] = (used + len(example.ids), members)
                break
        else:
            bins.append((len(example.ids), [example]))
    return [_tree(0, members) for _, members in bins]
