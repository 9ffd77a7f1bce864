"""Cut a growing answer into units that can be checked and shown one by one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# A sentence ends at . ! or ? (with closing quotes and citation markers) before white space. Not after a list
# number ("1."), an initial or a common abbreviation.
_END = re.compile(r"[.!?][\"')\]*_]*(?:\s*\[\d{1,2}\])*(?=\s)|\n")
_MARKERS = re.compile(r"(?:\[\d{1,2}\]\s*)+")
_HALF_MARKER = re.compile(r"\[\d{0,2}$")
_NO_END = re.compile(
    r"(?:^|[\s(])(?:\d{1,3}|[A-Za-z]|e\.g|i\.e|etc|vs|no|approx|incl|Mr|Mrs|Ms|Dr|St)\.$", re.IGNORECASE
)


def units(pieces: Iterable[str]) -> Iterator[str]:
    """Yield whole sentences and lines, white space included, as soon as each is complete.

    The units joined are the pieces joined. An empty unit says that a piece came and no unit is complete yet.
    """
    pending = ""
    for piece in pieces:
        pending += piece
        while (end := _first_end(pending)) is not None:
            yield pending[:end]
            pending = pending[end:]
        yield ""
    if pending:
        yield pending


def _first_end(text: str) -> int | None:
    """Return where the first complete unit ends, its trailing blanks included; None if none is complete yet."""
    for found in _END.finditer(text):
        if not text[: found.start()].strip():
            continue  # leading line breaks belong to the unit that follows
        if found.group(0) != "\n" and _NO_END.search(text[: found.start() + 1].splitlines()[-1]):
            continue
        end = found.end()
        while end < len(text) and text[end] in " \t\n":
            end += 1
        # The next piece may bring a marker such as " [1]", or more white space.
        markers = _MARKERS.match(text, end)
        end = markers.end() if markers else end
        if end == len(text) or _HALF_MARKER.match(text, end):
            return None
        if text[: found.start() + 1].endswith("..") and text[end].islower():  # as in "the ... menu"
            continue
        return end
    return None
