"""Collect what there is to learn from: a file, the imported logs, the bot's own turns, grown conversations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bot.bootstrap import build_embedder
from bot.settings import Settings
from bot.state import open_state
from training.companies import load_companies
from training.conversations import Conversation
from training.grow import grow
from training.log_formats import guess_format, read_log
from training.logs import LogStore
from training.progress import Tell


def collect(settings: Settings, logs: Path | None, tell: Tell) -> Iterator[Conversation]:
    """Yield the conversations of `logs` alone where it is given, else of all that the deployment has.

    The invented companies join in either case where the settings name them: they teach manners, on any facts.
    """
    training = settings.training
    paths = [logs] if logs else [settings.root / path for path in training.logs]
    for path in paths:
        rows = list(read_log(path, guess_format(path)))
        bad = [row for row in rows if row.conversation is None]
        if bad:
            tell.line(f"{path.name}: {len(bad)} bad lines left out, the first is line {bad[0].line}: {bad[0].reason}")
        yield from (row.conversation for row in rows if row.conversation is not None)
    if logs is None:
        store = LogStore(open_state(settings.home / "state.sqlite3"), settings.home)
        yield from store.conversations()
        yield from store.own_turns()
    if training.companies and training.grown:
        companies = load_companies(settings.root / training.companies)
        yield from grow(companies, training.grown, training.seed, build_embedder(settings))
