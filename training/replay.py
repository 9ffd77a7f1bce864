"""Replay: the base model's own answers to general questions, mixed into training so that it forgets less.

They hold the model to what it says anyway (Huang et al., 2024, "Mitigating catastrophic forgetting in large language
models with self-synthesized rehearsal"); answers of people would teach it a third manner of speaking.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bot.bootstrap import build_model
from bot.models import ChatModel, Sampling
from bot.releases import base_digest
from bot.sentences import units
from bot.settings import Settings
from bot.weights.paths import cache_folder
from prompts.messages import Message
from training.errors import RunError
from training.examples import Example
from training.progress import Tell

PROMPTS = Path(__file__).parent / "data" / "general_prompts.txt"
Progress = Callable[[str, int, int], None]
log = logging.getLogger(__name__)
_SAMPLING = Sampling(max_tokens=96)
_SLACK = 4  # an answer encoded anew may have a few tokens fewer than were generated
_ENDS_WHOLE = re.compile(r"[.!?][\"')\]*_”’]*$")
_NEXT = " Next"  # what follows tells a sentence's end from an abbreviation's


def general_examples(settings: Settings, base: Path, count: int, tell: Tell) -> list[Example]:
    """Return replay examples of the shipped prompts; all deployments share the cache of answers."""
    own = settings.with_model(str(base.absolute()))
    cache = (settings.cache or cache_folder()) / "replay.jsonl"
    return replay_examples(PROMPTS, base, lambda: build_model(own), cache, count, tell.progress)


def replay_examples(
    prompts: Path, base: Path, load: Callable[[], ChatModel], cache: Path, count: int, progress: Progress
) -> list[Example]:
    """Return examples of the first `count` prompts of a file; what the base model said before comes from `cache`.

    `load` loads the model in `base` and is only called where an answer is missing. Prompts with no whole sentence in
    their answer are left out. Raises RunError for a file without prompts, ModelError.
    """
    wanted = _prompts(prompts)[:count]
    digest = base_digest(base)
    known = _read(cache, digest)
    missing = [prompt for prompt in wanted if prompt not in known]
    if missing:
        model = load()
        for done, prompt in enumerate(missing, start=len(wanted) - len(missing)):
            progress("replay", done, len(wanted))
            known[prompt] = answer = _ask(model, prompt)
            _append(cache, {"base": digest, "prompt": prompt, "answer": answer})
    progress("replay", len(wanted), len(wanted))
    examples = [_example(n, prompt, known[prompt]) for n, prompt in enumerate(wanted, start=1) if known[prompt]]
    log.info("%d replay examples of %d prompts; the other answers hold no whole sentence", len(examples), len(wanted))
    return examples


def whole_sentences(text: str) -> str:
    """Cut a text back to the end of its last whole sentence; "" where it has none."""
    # The last unit is what follows, and with it whatever it was joined to.
    complete = list(filter(None, units([text.strip() + _NEXT])))[:-1]
    while complete and not _ENDS_WHOLE.search(complete[-1].rstrip()):
        complete.pop()
    return "".join(complete).strip()


def _prompts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"The prompts {path} cannot be read: {error}") from None
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise RunError(f"{path} holds no prompts; write one question a line.")
    return prompts


def _ask(model: ChatModel, prompt: str) -> str:
    """Return the model's answer; one that ran into the token limit is cut back to whole sentences."""
    text = "".join(model.stream([Message("user", prompt)], _SAMPLING)).strip()
    ended = model.count_text(text) < _SAMPLING.max_tokens - _SLACK
    return text if ended else whole_sentences(text)


def _example(n: int, prompt: str, answer: str) -> Example:
    name = f"replay-{n}"
    return Example(f"{name}#1", name, prompt, (Message("user", prompt),), answer)


def _read(cache: Path, digest: str) -> dict[str, str]:
    """Return the answers of one base model by prompt; the half line of a kill is left out."""
    found: dict[str, str] = {}
    for row in _rows(cache.read_bytes().split(b"\n") if cache.is_file() else ()):
        if row.get("base") == digest:
            found[row["prompt"]] = row["answer"]
    return found


def _rows(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"base", "prompt", "answer"} <= row.keys():
            rows.append(row)
    return rows


def _append(cache: Path, row: Mapping[str, str]) -> None:
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) not in (b"", b"\n"):
            line = b"\n" + line  # the half line of a kill stays a line of its own
        file.write(line)
