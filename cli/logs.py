"""`tandem logs`: import conversation logs, and say what there is to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.output import note, progress_bar, say, table, write_json

if TYPE_CHECKING:
    from training.log_stats import LogStats
    from training.logs import Imported, LogStore

app = typer.Typer(help="Import conversation logs, and count them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
FormatOption = Annotated[
    Literal["chat", "openai", "csv", "zendesk"] | None, typer.Option("--format", help="Default: told from the content.")
]


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSONL or CSV.")], format: FormatOption = None, as_json: Json = False
) -> None:
    """Import a file of conversations; what is known already is left alone, what is wrong is kept aside."""
    store = _store()
    with progress_bar() as progress:
        imported = store.import_file(file, format, progress)
    if as_json:
        write_json(imported)
    else:
        _show_imported(imported)
    if not imported.conversations:
        raise typer.Exit(1)


@app.command()
def stats(as_json: Json = False) -> None:
    """Count the imported conversations, and the bot's own turns that people rated or corrected."""
    found = _store().stats()
    if as_json:
        write_json(found)
    else:
        _show_stats(found)


def _store() -> LogStore:
    from bot.settings import load_settings
    from bot.state import open_state
    from training.logs import LogStore

    settings = load_settings()
    return LogStore(open_state(settings.home / "state.sqlite3"), settings.home)


def _show_imported(imported: Imported) -> None:
    for bad in imported.bad:
        note(f"line {bad.line}: {bad.reason}")
    if imported.bad_count:
        note(f"{imported.bad_count} bad lines are kept in {imported.rejected_file}")
    say(
        f"{imported.file} ({imported.format}): {imported.conversations} conversations, {imported.added} added, "
        f"{imported.replaced} replaced, {imported.known} known already, {imported.seconds:.1f} s."
    )


def _show_stats(found: LogStats) -> None:
    days = f"{found.first} to {found.last}" if found.first else "no dates"
    say(
        f"{found.conversations} conversations, {found.messages} messages, {found.assistant_turns} replies, "
        f"{found.customers} customers, {found.with_rating} with a rating; {days}."
    )
    own = found.own
    say(f"The bot's own turns: {own.turns}, {own.up} rated up, {own.down} rated down, {own.corrected} corrected.")
    if found.conversations:
        middle = found.median
        say(
            f"Medians: {middle.messages:g} messages a conversation, {middle.question_words:g} words a question, "
            f"{middle.reply_words:g} words a reply."
        )
        table(["file", "conversations"], list(found.files.items()))
        table(["language", "conversations"], list(found.languages.items()))
