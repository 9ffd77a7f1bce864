"""How a run tells what it does; the command line draws it."""

from __future__ import annotations

from typing import Protocol


class Tell(Protocol):
    """Take lines, and the progress of what takes long."""

    def line(self, text: str) -> None:
        """Say one thing."""
        ...

    def progress(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Say how far a step is."""
        ...
