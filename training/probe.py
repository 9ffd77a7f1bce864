"""The memorisation probe: whether facts are recited without their passage, and edited passages followed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.models import ChatModel, Sampling
from prompts.build import build_messages
from prompts.messages import Message, Slots
from prompts.templates import Templates
from training.counterfactual import changed_numbers, counterfactual, numbers_of
from training.examples import Example

Progress = Callable[[str, int, int], None]
_TRIED = 3  # times as many are asked to find enough that are answered rightly


@dataclass(frozen=True, slots=True)
class Probe:
    """Hold how often a number came without its passage, and how often an edited one was given as edited.

    Edited are those questions alone that were answered with the right numbers before: else a model that picks the
    wrong sentence would look like one that does not read.
    """

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
    """Ask up to `count` trained questions with their context taken away, and so many with its numbers edited.

    A copy is followed where every number that was changed stands in the answer as changed.
    """
    draw = random.Random(seed)  # reproducible on purpose
    pairs = [(e, c) for e in examples if not e.id.endswith("~") and (c := counterfactual(e, draw)) is not None]
    chosen = draw.sample(pairs, min(_TRIED * count, len(pairs)))
    without = recited = right = followed = 0

    def said(messages: Sequence[Message]) -> list[str]:
        return numbers_of("".join(model.stream(messages, sampling)))

    for done, (example, edited) in enumerate(chosen, start=1):
        changed = changed_numbers(example, edited)
        if without < count:
            bare = build_messages(example.question, None, None, slots=slots, templates=templates)
            known, asked = said(bare.messages), numbers_of(example.question)  # what the question says is no recital
            without, recited = without + 1, recited + any(old in known and old not in asked for old, _ in changed)
        if right < count:
            before = said(example.messages)
            if all(old in before for old, _ in changed):
                after = said(edited.messages)
                right, followed = right + 1, followed + all(new in after for _, new in changed)
        elif without == count:
            break
        progress("probe", done, len(chosen))
    return Probe(without, recited, right, followed)
