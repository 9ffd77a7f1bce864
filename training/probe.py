"""The memorisation probe: whether facts are recited without their passage, and edited passages followed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.models import ChatModel, Sampling
from prompts.build import build_messages
from prompts.messages import Slots
from prompts.templates import Templates
from training.counterfactual import changed_numbers, counterfactual, numbers_of
from training.examples import Example

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """Hold how often a number came without its passage, and how often an edited one was given as edited."""

    asked_without: int
    recited: int
    asked_edited: int
    followed: int


def probe(
    model: ChatModel,
    examples: Sequence[Example],
    *,
    slots: Slots,
    templates: Templates,
    sampling: Sampling,
    count: int,
    seed: int,
    progress: Progress,
) -> Probe:
    """Ask up to `count` trained questions twice: with their context taken away, and with its numbers edited.

    A copy is followed where every number that was changed stands in the answer as changed.
    """
    draw = random.Random(seed)  # reproducible on purpose
    pairs = [(e, c) for e in examples if not e.id.endswith("~") and (c := counterfactual(e, draw)) is not None]
    chosen = draw.sample(pairs, min(count, len(pairs)))
    recited = followed = 0
    for done, (example, edited) in enumerate(chosen, start=1):
        changed = changed_numbers(example, edited)
        bare = build_messages(example.question, None, None, slots=slots, templates=templates)
        said = numbers_of("".join(model.stream(bare.messages, sampling)))
        asked = numbers_of(example.question)  # what the question itself says is no recital
        recited += any(old in said and old not in asked for old, _ in changed)
        said = numbers_of("".join(model.stream(edited.messages, sampling)))
        followed += all(new in said for _, new in changed)
        progress("probe", done, len(chosen))
    return Probe(len(chosen), recited, len(chosen), followed)
