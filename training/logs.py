"""The store of imported conversation logs, in the deployment's state database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.orm import Session

from bot.state import LogRow, utc_now
from retrieval.files import write_atomically
from training.conversations import Conversation
from training.log_files import Read, opened
from training.log_formats import Format, guess_format, read_log
from training.log_merge import Merge, Stored
from training.log_rows import time_of

if TYPE_CHECKING:
    from training.log_stats import LogStats

_CHUNK = 500  # conversations looked up at once
_BAD_SHOWN = 20
_REPORTED = 1000  # lines between two reports of progress
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class BadLine:
    """Name a line that was not imported."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Report one import; `bad` holds the first of the bad lines."""

    file: str
    format: Format
    conversations: int
    added: int
    known: int
    replaced: int
    bad: tuple[BadLine, ...]
    bad_count: int
    rejected_file: str | None
    seconds: float


class LogStore:
    """Keep the logs of one deployment."""

    def __init__(self, engine: Engine, home: Path) -> None:
        """`home` takes the lines that could not be imported."""
        self._engine = engine
        self._rejected = home / "logs" / "rejected"

    def import_file(self, path: Path, format: Format | None = None, progress: Progress | None = None) -> Imported:
        """Import a file in one transaction; the format is guessed where it is not given.

        Everything is read before the database is locked, so that a long file does not hold up the bot. Raises
        LogError where the file cannot be read.
        """
        started = time.perf_counter()
        chosen = format or guess_format(path)
        good, bad = _read(path, chosen, progress or (lambda *_: None))
        rejected = self._set_aside(path.name, bad)
        counts = self._store(good, path.name[:255])
        return Imported(
            file=path.name,
            format=chosen,
            conversations=len(good),
            **counts,
            bad=tuple(BadLine(b.line, b.reason) for b in bad[:_BAD_SHOWN]),
            bad_count=len(bad),
            rejected_file=None if rejected is None else str(rejected),
            seconds=round(time.perf_counter() - started, 3),
        )

    def conversations(self) -> Iterator[Conversation]:
        """Yield all of them, ordered by their ids."""
        query = select(LogRow.conversation).order_by(LogRow.conversation_id, LogRow.digest)
        with self._engine.connect() as connection:
            for value in connection.execution_options(yield_per=_CHUNK).scalars(query):
                yield Conversation.model_validate(value)

    def own_turns(self, modes: Sequence[str] = ("hybrid", "rag")) -> Iterator[Conversation]:
        """Yield the bot's own turns that were rated up or corrected, as `training.own_turns` says."""
        from training.own_turns import own_turns

        with Session(self._engine) as session:
            yield from own_turns(session, modes)

    def stats(self) -> LogStats:
        """Count what there is to learn from."""
        from training.log_stats import log_stats

        with Session(self._engine) as session:
            return log_stats(session, self.conversations())

    def _set_aside(self, name: str, bad: Sequence[Read]) -> Path | None:
        """Keep the bad lines of this file, in place of those of an earlier import."""
        path = self._rejected / f"{name}.jsonl"
        if not bad:
            path.unlink(missing_ok=True)
            return None
        rows = (json.dumps({"line": b.line, "reason": b.reason, "text": b.text}, ensure_ascii=False) for b in bad)
        write_atomically(path, "".join(f"{row}\n" for row in rows))
        return path

    def _store(self, conversations: Sequence[Conversation], file: str) -> dict[str, int]:
        merge = Merge()
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # what is read here stays so until it is written
            for start in range(0, len(conversations), _CHUNK):
                chunk = conversations[start : start + _CHUNK]
                _look_up(connection, merge, {c.conversation_id for c in chunk})
                for conversation in chunk:
                    merge.take(conversation)
            _write(connection, merge, file)
            connection.commit()
        return {str(fate): count for fate, count in merge.counts.items()}


def _read(path: Path, format: Format, progress: Progress) -> tuple[list[Conversation], list[Read]]:
    good: list[Conversation] = []
    bad: list[Read] = []
    with opened(path) as file:
        total = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    for count, read in enumerate(read_log(path, format), start=1):
        if read.conversation is not None:
            good.append(read.conversation)
        else:
            bad.append(read)
        if count % _REPORTED == 0:
            progress("lines", read.line, total)
    return good, bad


def _look_up(connection: Connection, merge: Merge, ids: set[str]) -> None:
    wanted = sorted(ids - merge.rows.keys())
    query = select(LogRow.digest, LogRow.conversation_id, LogRow.conversation)
    for name in wanted:
        merge.rows[name] = []
    for digest, name, value in connection.execute(query.where(LogRow.conversation_id.in_(wanted))):
        merge.rows[name].append(Stored(digest, name, value))


def _write(connection: Connection, merge: Merge, file: str) -> None:
    now = utc_now()
    gone = sorted(merge.gone)
    for start in range(0, len(gone), _CHUNK):
        connection.execute(delete(LogRow).where(LogRow.digest.in_(gone[start : start + _CHUNK])))
    changed = [row for rows in merge.rows.values() for row in rows if row.changed]
    for start in range(0, len(changed), _CHUNK):
        connection.execute(
            insert(LogRow),
            [
                {
                    "digest": row.digest,
                    "conversation_id": row.conversation_id,
                    "customer_id": row.value.get("customer_id"),
                    "created_at": time_of(row.value.get("created_at")),
                    "imported_at": now,
                    "file": file,
                    "conversation": row.value,
                }
                for row in changed[start : start + _CHUNK]
            ],
        )
