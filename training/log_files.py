"""Files of logs: opened, and line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from training.conversations import Conversation
from training.errors import LogError


@dataclass(frozen=True, slots=True)
class Read:
    """Hold what one line gave: a conversation, or the reason why not with the line as it stands."""

    line: int
    conversation: Conversation | None = None
    reason: str = ""
    text: str = ""


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty, with its number; only a newline ends a line."""
    with opened(path) as file:
        for number, data in enumerate(file, start=1):
            if stripped := data.removeprefix(b"\xef\xbb\xbf").strip():
                yield number, stripped


def opened(path: Path) -> BinaryIO:
    """Open a log that is not empty and not UTF-16, as bytes."""
    try:
        file = path.open("rb")
        head = file.read(2)
        file.seek(0)
    except OSError as error:
        raise LogError(f"The log {path} cannot be read: {error.strerror}.") from None
    if head in (b"\xff\xfe", b"\xfe\xff"):
        file.close()
        raise LogError(f"The log {path} is UTF-16. Save it as UTF-8 and import it again.")
    if not head:
        file.close()
        raise LogError(f"The log {path} is empty.")
    return file
