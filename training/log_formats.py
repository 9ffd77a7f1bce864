"""Formats of conversation logs: each line of a file as a conversation, or with what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from training.conversations import Conversation
from training.log_files import Read, lines_of
from training.log_rows import BadRow, chat, openai, zendesk
from training.log_tables import is_table, read_table

Format = Literal["chat", "openai", "csv", "zendesk"]
FORMATS: tuple[Format, ...] = get_args(Format)
_LOOKED_AT = 100  # lines that a format is guessed from


_CONVERT: dict[Format, Callable[[dict[str, Any]], Conversation]] = {
    "chat": chat, "openai": openai, "zendesk": zendesk,
}  # fmt: skip


def read_log(path: Path, format: Format) -> Iterator[Read]:
    """Read a file line by line; raises LogError where the file as a whole cannot be read."""
    if format == "csv":
        yield from read_table(path)
        return
    convert = _CONVERT[format]
    for number, data in lines_of(path):
        try:
            yield Read(number, convert(_parsed(data)))
        except ValidationError as error:
            yield Read(number, reason=_first(error), text=_text(data))
        except BadRow as error:
            yield Read(number, reason=str(error), text=_text(data))


def guess_format(path: Path) -> Format:
    """Tell the format from the first lines."""
    votes: Counter[Format] = Counter()
    lines = [data for _, data in islice(lines_of(path), _LOOKED_AT)]
    for data in lines:
        try:
            row = _parsed(data)
        except BadRow:
            continue
        if "comments" in row:
            votes["zendesk"] += 1
        elif "messages" in row:
            votes["chat" if "conversation_id" in row else "openai"] += 1
    if votes:
        return votes.most_common(1)[0][0]
    return "csv" if lines and is_table(path) else "chat"


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        row = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise BadRow(_not_json(data, error)) from None
    if not isinstance(row, dict):
        raise BadRow("not a JSON object" + ("; write one object a line" if isinstance(row, list) else ""))
    return row


def _not_json(data: bytes, error: ValueError) -> str:
    try:
        data.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return f"not JSON: {error}"


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
