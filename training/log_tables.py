"""Logs as tables: one message a row, or one question with its answer."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.conversations import Conversation, Logged
from training.errors import LogError
from training.log_files import Read, opened
from training.log_rows import BadRow, as_id, content_id, role_of, time_of

_PAIRS = (("question", "answer"), ("instruction", "response"), ("prompt", "completion"))
_MESSAGE = ("conversation_id", "role", "content")
_FIELD_LIMIT = 1_000_000  # characters; more is a quotation mark that nothing closes


@dataclass(slots=True)
class _Growing:
    """Gather the rows of one conversation."""

    line: int
    messages: list[tuple[str | None, Logged]] = field(default_factory=list)  # with the time of the row
    customer_id: str | None = None
    created_at: str | None = None
    rating: str | None = None
    broken: bool = False


def is_table(path: Path) -> bool:
    """Say whether the first line is a header that is known."""
    with opened(path) as file:
        head = file.readline().removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    return _known(name.strip().lower() for name in next(csv.reader([head], delimiter=_delimiter(head)), []))


def read_table(path: Path) -> Iterator[Read]:
    """Yield bad rows by their lines, then the conversations in the order of their first rows.

    A conversation with a bad row is left out as a whole: what is missing may be the answer.
    """
    grown: dict[tuple[str, int], _Growing] = {}  # the number tells rows without an id apart
    for line, row in _rows(path):
        try:
            _take(grown, line, row)
        except BadRow as error:
            name = as_id(row.get("conversation_id"))
            if name is not None:
                grown.setdefault((name, 0), _Growing(line)).broken = True
            reason = f"{error}; its conversation is left out" if name else str(error)
            yield Read(line, reason=reason, text=_as_text(row))
    for (name, _), one in grown.items():
        if not one.broken:
            yield Read(one.line, _conversation(name, one))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row with the line that it begins on; one that cannot be read is empty."""
    with opened(path) as file:
        head = file.readline().decode(errors="replace")
        file.seek(0)
        csv.field_size_limit(_FIELD_LIMIT)
        rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=_delimiter(head))
        header: list[str] | None = None
        while True:
            line = rows.line_num + 1
            try:
                values = next(rows)
            except StopIteration:
                return
            except csv.Error:
                yield line, {}
                continue
            except UnicodeDecodeError:
                raise LogError(f"The log {path} is not UTF-8. Save it as UTF-8 and import it again.") from None
            if header is None:
                header = _header(path, values)
            elif any(value.strip() for value in values):
                yield line, dict(zip(header, values, strict=False))


def _header(path: Path, values: list[str]) -> list[str]:
    header = [name.strip().lower() for name in values]
    if not _known(header):
        raise LogError(
            f"{path} has no columns that are known. Name them conversation_id, role, content (one message a row) "
            "or question, answer (one exchange a row)."
        )
    return header


def _known(columns: Iterable[str]) -> bool:
    found = set(columns)
    return set(_MESSAGE) <= found or any(set(pair) <= found for pair in _PAIRS)


def _delimiter(head: str) -> str:
    return max(",;\t", key=head.count)


def _take(grown: dict[tuple[str, int], _Growing], line: int, row: Mapping[str, str]) -> None:
    said = _messages(row)
    rating, time = _rating(row.get("rating")), as_id(row.get("created_at"))
    own = rating if rating in ("up", "down") else None
    messages = [
        Logged.model_validate({"role": role, "content": content, "rating": own if role == "assistant" else None})
        for role, content in said
    ]
    name = as_id(row.get("conversation_id"))
    if name is None and "role" in row:
        raise BadRow("conversation_id: empty")
    key = (name, 0) if name else (content_id("row", [m.content for m in messages]), line)
    one = grown.setdefault(key, _Growing(line))
    one.messages.extend((time, message) for message in messages)
    one.customer_id = one.customer_id or as_id(row.get("customer_id"))
    one.created_at = one.created_at or time
    one.rating = rating or one.rating


def _messages(row: Mapping[str, str]) -> list[tuple[str, str]]:
    if not row:
        raise BadRow("not CSV: a quotation mark that nothing closes?")
    if "role" in row and "content" in row:
        return [(role_of(row["role"]), row["content"])]
    for question, answer in _PAIRS:
        if question in row and answer in row:
            return [("user", row[question]), ("assistant", row[answer])]
    raise BadRow("the row has fewer columns than the header")


def _rating(value: str | None) -> str | None:
    text = (value or "").strip().lower()
    return {"good": "up", "bad": "down"}.get(text, text) or None


def _conversation(name: str, one: _Growing) -> Conversation:
    messages = tuple(message for _, message in _in_order(one.messages))
    rating: float | str | None = one.rating
    if any(message.rating == rating for message in messages):
        rating = None  # a thumb stays with its reply
    elif one.rating and one.rating.replace(".", "", 1).isdigit():
        rating = float(one.rating)
    return Conversation(
        conversation_id=name,
        messages=messages,
        customer_id=one.customer_id,
        created_at=one.created_at,
        rating=rating,
    )


def _in_order(messages: list[tuple[str | None, Logged]]) -> list[tuple[str | None, Logged]]:
    """Sort by time where every row has one; some exports begin with the newest."""
    times = [moment for time, _ in messages if (moment := time_of(time)) is not None]
    if len(times) < len(messages):
        return messages
    return [messages[n] for n in sorted(range(len(messages)), key=lambda n: times[n])]


def _as_text(row: Mapping[str, str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(row.values())
    return out.getvalue().strip()
