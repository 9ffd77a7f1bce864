"""Batches: JSONL in, JSONL out in the same order; a row that fails carries its error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bot.errors import BotError, ConfigError
from cli.output import note, plain, progress_bar
from prompts.messages import Message
from retrieval.errors import RetrievalError


class Turn(BaseModel):
    """Be one message of a history."""

    role: str
    content: str


class Row(BaseModel):
    """Be one question of a batch."""

    model_config = ConfigDict(extra="ignore")

    id: str | int
    question: str
    history: list[Turn] = []
    customer: str | None = None
    mode: str | None = None

    @property
    def messages(self) -> list[Message]:
        """Give the history as messages."""
        return [Message("assistant" if t.role == "assistant" else "user", t.content) for t in self.history]


def run_batch(source: Path, out: Path | None, work: Callable[[Row], Any]) -> int:
    """Run `work` on each row and write its result with the row's id; returns how many rows failed."""
    if out is None:
        raise ConfigError("A batch needs --out FILE.")
    try:
        lines = source.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} cannot be read: {error}") from None
    lines = [line for line in lines if line.strip()]
    failed = 0
    try:
        target = out.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}.") from None
    with target as file, progress_bar() as progress:
        for number, result in enumerate(_results(lines, work), start=1):
            failed += "error" in result
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
            file.flush()
            progress("questions", number, len(lines))
    note(f"{len(lines)} questions, {failed} failed; written to {out}")
    return failed


def _results(lines: list[str], work: Callable[[Row], Any]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            yield {"id": _id_of(line), "error": f"line {number}: {where} {first['msg']}".replace("  ", " ")}
            continue
        try:
            yield {"id": row.id, **plain(work(row))}
        except (BotError, RetrievalError) as error:
            yield {"id": row.id, "error": str(error)}


def _id_of(line: str) -> Any:
    try:
        return json.loads(line).get("id")
    except (ValueError, AttributeError):
        return None
