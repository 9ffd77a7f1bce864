"""`tandem eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bot.answer import MODES, Mode
from bot.bootstrap import build_bot
from bot.errors import ConfigError
from bot.settings import Settings
from bot.state import open_state
from bot.turns import TurnLog
from cli.init import sample_folder
from cli.output import note, progress_bar, table, write_json
from training.cases import load_cases
from training.evaluate import Evaluation, Evaluator
from training.held_out import held_out

_PERCENT = ("facts", "citation_hit", "citation_precision", "abstention", "style")


def run(settings: Settings, modes: str, cases: Path | None, report: Path | None, resume: bool, as_json: bool) -> None:
    """Measure the named modes and print one table."""
    chosen = _modes(modes)
    loaded, digest = load_cases(cases or sample_folder() / "examples" / "eval" / "cases.jsonl")
    folder = report or settings.home / "eval"
    turns = TurnLog(open_state(folder / "turns.sqlite3"))  # questions of a test are no conversations to learn from
    bot = build_bot(settings, turns)
    evaluator = Evaluator(bot, folder, closing=settings.bot.closing, held_out=held_out(settings))
    with progress_bar() as progress:
        evaluation = evaluator.run(loaded, digest, chosen, resume=resume, progress=progress)
    if as_json:
        write_json(evaluation)
    else:
        _show(evaluation)
    note(f"every answer is in {folder / 'answers.jsonl'}")


def _modes(text: str) -> list[Mode]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    found = [mode for mode in MODES if mode in names]
    if not found or len(found) != len(names):
        raise ConfigError(f"--modes takes some of {','.join(MODES)}, not '{text}'.")
    return found


def _show(evaluation: Evaluation) -> None:
    names = list(next(iter(evaluation.modes.values())))
    rows = [[name, *(_cell(name, metrics[name]) for metrics in evaluation.modes.values())] for name in names]
    for group in ("seen documents", "unseen documents"):
        if all(group in groups for groups in evaluation.groups.values()):
            for name in ("facts", "citation_hit"):
                cells = [_cell(name, groups[group][name]) for groups in evaluation.groups.values()]
                rows.append([f"{name}, {group}", *cells])
    table(["metric (95 % interval)", *evaluation.modes], rows)
    for mode, errors in evaluation.errors.items():
        if errors["count"]:
            note(f"{mode}: {errors['count']} of {evaluation.cases} cases failed; the first: {errors['first']}")
    note(
        f"{evaluation.cases} cases, knowledge {evaluation.generation}, model {evaluation.model}, "
        f"release {evaluation.release}, {evaluation.seconds:.0f} s"
    )


def _cell(name: str, metric: Any) -> str:
    if metric.value is None:
        return "-"
    if name in _PERCENT:
        return f"{metric.value:.0%} ({metric.low:.0%} to {metric.high:.0%}), n={metric.n}"
    return f"{metric.value:,.0f} ({metric.low:,.0f} to {metric.high:,.0f}), n={metric.n}"
