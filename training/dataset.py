"""The data set of a run: examples of curated conversations, what must not be learned taken out, split, hashed."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prompts.messages import Message
from retrieval.files import write_atomically
from training.conversations import Conversation
from training.counterfactual import counterfactual
from training.curate import Stage
from training.errors import NoExamples
from training.examples import Example, ExampleBuilder
from training.overlap import Questions

_COMPANIES = 10  # from so many on, whole companies are held out


@dataclass(frozen=True, slots=True)
class Dataset:
    """Hold what is trained on, what measures the loss, and a hash of both."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    digest: str
    funnel: tuple[Stage, ...]


def build_dataset(
    conversations: Iterable[Conversation],
    builder: ExampleBuilder,
    *,
    cases: Sequence[str],
    general: Sequence[Example],
    copies: float,
    validation: float,
    seed: int,
) -> Dataset:
    """Make the data set; raises NoExamples where nothing is left.

    `cases` are the questions of the evaluation, whose near-duplicates are left out. `general` joins the training
    part as it is. A conversation's examples are all on one side of the split, and where there are many companies,
    all of a company's: one that is trained on tells nothing of how strangers are answered.
    """
    draw = random.Random(seed)  # reproducible on purpose
    found: list[Example] = []
    outcomes: Counter[str] = Counter()
    group: dict[str, str] = {}
    for conversation in conversations:
        group[conversation.conversation_id] = conversation.company or conversation.conversation_id
        for example, outcome in builder.examples(conversation):
            outcomes[outcome] += 1
            if example is not None:
                found.append(example)
    asked = Questions(cases)
    kept = [e for e in found if asked.like(e.question) is None]
    funnel = [
        Stage("replies to a question", outcomes["kept"] + outcomes["unsupported"], outcomes["no question"]),
        Stage("their facts stand in passages or record", len(found), outcomes["unsupported"]),
        Stage("not asked in the evaluation", len(kept), len(found) - len(kept)),
    ]
    if not kept:
        raise NoExamples(
            f"Nothing is left to train on: of {sum(outcomes.values())} replies {outcomes['unsupported']} state facts "
            "that today's knowledge does not support. Import more conversations, or use --recipe closed-book."
        )
    if len(set(group.values())) < _COMPANIES:
        group = {name: name for name in group}
    held_out = _held_out([group[e.conversation] for e in kept], validation, draw)
    train = [e for e in kept if group[e.conversation] not in held_out]
    searched = [e for e in train if builder.searched(e)]
    copied = [c for e in searched if draw.random() < copies and (c := counterfactual(e, draw)) is not None]
    funnel.append(Stage("with counterfactual copies", len(kept) + len(copied), 0))
    funnel.append(Stage("with general answers", len(kept) + len(copied) + len(general), 0))
    train = [*train, *copied, *general]
    rest = tuple(e for e in kept if group[e.conversation] in held_out)
    return Dataset(tuple(train), rest, _digest([*train, *rest]), tuple(funnel))


def _held_out(groups: Sequence[str], share: float, draw: random.Random) -> set[str]:
    """Draw groups until they hold `share` of the examples; never all of them."""
    counts = Counter(groups)
    names = draw.sample(sorted(counts), len(counts))
    chosen: set[str] = set()
    for name in names[:-1]:
        if sum(counts[n] for n in chosen) >= round(len(groups) * share):
            break
        chosen.add(name)
    return chosen


def save_dataset(path: Path, dataset: Dataset) -> None:
    """Write every example, those for validation marked."""
    rows = [("train", e) for e in dataset.train] + [("validation", e) for e in dataset.validation]
    lines = (json.dumps({"split": split, **asdict(e)}, ensure_ascii=False) for split, e in rows)
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def load_dataset(path: Path) -> Dataset:
    """Read what `save_dataset` wrote; the funnel is not part of it."""
    parts: dict[str, list[Example]] = {"train": [], "validation": []}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line:
            row = json.loads(line)
            row["messages"] = tuple(Message(**m) for m in row["messages"])
            row["documents"] = tuple(row["documents"])
            parts[row.pop("split")].append(Example(**row))
    every = [*parts["train"], *parts["validation"]]
    return Dataset(tuple(parts["train"]), tuple(parts["validation"]), _digest(every), ())


def _digest(examples: Iterable[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(asdict(example), ensure_ascii=False, sort_keys=True).encode())
    return digest.hexdigest()[:24]
