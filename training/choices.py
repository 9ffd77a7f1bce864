"""Multiple-choice items of general knowledge: our JSONL, and the JSON lists of LLM-Adapters (Hu et al., 2023)."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.errors import CasesError

KNOWLEDGE = Path(__file__).parent / "data" / "general_knowledge.jsonl"
log = logging.getLogger(__name__)
_SPLITS = ("test", "train", "valid", "validation", "dev")  # files named so lie in a folder named after the set


@dataclass(frozen=True, slots=True)
class Item:
    """Hold a question with its choices; `answer` is the index of the right one."""

    question: str
    choices: tuple[str, ...]
    answer: int
    set_name: str


def load_items(path: Path) -> list[Item]:
    """Read a file of items in either form; what is no item is left out and counted in the log. Raises CasesError."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CasesError(f"The items {path} cannot be read: {error}") from None
    set_name = path.resolve().parent.name if path.stem in _SPLITS else path.stem
    read = [_item(row, set_name) for row in _rows(text)]
    items = [item for item in read if item is not None]
    if not items:
        raise CasesError(
            f'{path} holds no items; write lines such as {{"question": "...", "choices": ["...", "..."], "answer": 0}}.'
        )
    if len(items) < len(read):
        log.warning("%s: %d of %d rows are no items and are left out", path, len(read) - len(items), len(read))
    return items


def choose(items: Sequence[Item], limit: int, seed: int) -> list[Item]:
    """Draw at most `limit` items at random, in the order of the file; the same seed draws the same."""
    if limit >= len(items):
        return list(items)
    drawn = random.Random(seed).sample(range(len(items)), limit)  # reproducible on purpose
    return [items[index] for index in sorted(drawn)]


def items_digest(items: Sequence[Item]) -> str:
    """Hash items and their order."""
    return hashlib.sha256(json.dumps([asdict(item) for item in items]).encode()).hexdigest()[:24]


def _rows(text: str) -> Iterator[Any]:
    """Yield the rows of a JSON list or of JSON lines; None for a line that is no JSON."""
    if text.startswith("["):
        try:
            yield from json.loads(text)
        except ValueError:
            yield None
        return
    for line in text.split("\n"):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield None


def _item(row: Any, set_name: str) -> Item | None:
    match row:
        case {"question": str(question), "choices": list(found), "answer": int(index)}:
            choices = [choice.strip() for choice in found if isinstance(choice, str)]
            whole = len(choices) == len(found)
        case {"instruction": str(instruction), "answer": str(answer)}:
            question, choices, index = _instruction(instruction, answer.strip().lower())
            whole = True
        case _:
            return None
    question = question.strip()
    if not (whole and question and len(choices) > 1 and all(choices) and 0 <= index < len(choices)):
        return None
    return Item(question, tuple(choices), index, set_name)


def _instruction(instruction: str, answer: str) -> tuple[str, list[str], int]:
    """Take question, choices and the right one's index out of an instruction; an index of -1 where that fails.

    "Please choose the correct answer to the question: ... Answer1: ... Answer2: ...", where other sets have other
    labels (Solution1, Ending1, Option1), or "Please answer ... with true or false, question: ...".
    """
    body = instruction.rpartition("Answer format:")[0] or instruction
    if answer in ("true", "false"):
        return body.partition(": ")[2], ["true", "false"], ("true", "false").index(answer)
    named = re.fullmatch(r"([a-z]+)(\d{1,2})", answer)
    if not named:
        return "", [], -1
    head, *parts = re.split(rf"\b{named[1]}(\d+):", body, flags=re.IGNORECASE)
    numbers, choices = parts[::2], [choice.strip() for choice in parts[1::2]]
    if numbers != [str(n) for n in range(1, len(choices) + 1)]:
        return "", [], -1
    return head.partition(": ")[2], choices, int(named[2]) - 1
