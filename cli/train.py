"""`tandem train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bot.errors import ConfigError, PromotionRefused
from bot.settings import Settings
from cli.output import note, say, write_json


class _Tell:
    """Draw a run on stderr: bars on a terminal, a line now and then elsewhere."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._last: dict[str, int] = {}

    def line(self, text: str) -> None:
        if self._progress.console.is_terminal:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            note(text)

    def progress(self, name: str, done: int, total: int, detail: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, detail="")
        self._progress.update(self._tasks[name], completed=done, total=total, detail=detail)
        tenth = done * 10 // max(1, total)
        if not self._progress.console.is_terminal and tenth != self._last.get(name):
            self._last[name] = tenth
            note(f"{name}: {done} of {total}" + (f", {detail}" if detail else ""))


def run(
    settings: Settings,
    logs: Path | None,
    base: str | None,
    recipe: Literal["hybrid", "closed-book"],
    name: str | None,
    promote: Literal["auto", "never"],
    as_json: bool,
) -> None:
    """Run the loop and print what it came to."""
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        raise ConfigError("Training needs torch and peft. Run 'make setup'.") from None
    from training.pipeline import Pipeline

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(file=sys.stderr)) as progress:
        pipeline = Pipeline(settings, _Tell(progress), base=base, recipe=recipe)
        outcome = pipeline.run(logs=logs, name=name, promote=promote)
    if as_json:
        write_json(outcome)
    else:
        say(outcome.gate["metrics"]["verdict"])
        state = "promoted and serving" if outcome.promoted else "kept, not promoted"
        say(f"Release {outcome.release}: {state}. {outcome.examples:,} examples, {outcome.seconds:,.0f} s.")
        say(f"Report: {outcome.report}")
    if promote == "auto" and not outcome.promoted:
        reasons = "; ".join(outcome.gate["reasons"]) or "see above"
        raise PromotionRefused(f"'{outcome.release}' was not promoted: {reasons}")
