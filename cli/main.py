"""The `tandem` command: one thin function a command, heavy imports inside.

Exit status: 0 done, 1 failed, 2 wrong usage, configuration or unknown customer, 3 refused by a safety check.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.logs import app as logs_app
from cli.output import note, progress_bar, say, write_json

if TYPE_CHECKING:
    from bot.settings import Settings

app = typer.Typer(
    help="A support bot in two halves: weights hold the manners, retrieval holds the facts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(logs_app, name="logs")

Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Customer = Annotated[str | None, typer.Option(help="Ask as this customer.")]
ModeOption = Annotated[
    Literal["hybrid", "rag", "finetuned", "prompt"], typer.Option(help="Where the answer comes from.")
]


def _settings() -> Settings:
    from bot.settings import load_settings

    return load_settings()


@app.command()
def refresh(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")] = False,
    allow_shrink: Annotated[bool, typer.Option("--allow-shrink", help="Accept that a source shrinks.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the knowledge up to date with its sources."""
    from bot.bootstrap import build_refresher

    with progress_bar() as progress:
        report = build_refresher(_settings()).refresh(dry_run=dry_run, allow_shrink=allow_shrink, progress=progress)
    if as_json:
        write_json(report)
    else:
        _show_refresh(report, dry_run)
    if report.refused:
        raise typer.Exit(3)


def _show_refresh(report: Any, dry_run: bool) -> None:
    for item in report.skipped:
        note(f"skipped {item.document}: {item.reason}")
    if report.refused:
        note(f"Refused, nothing was changed: {report.refused}")
        return
    counts = f"{report.added} added, {report.updated} updated, {report.deleted} deleted, {report.unchanged} unchanged"
    if dry_run:
        say(f"Plan: {counts}; {report.documents} documents, {report.chunks} chunks.")
    elif report.published:
        say(
            f"Published {report.generation}: {counts}; {report.documents} documents, {report.chunks} chunks, "
            f"{report.chunks_embedded} embedded, {report.seconds:.1f} s."
        )
    else:
        say(f"Nothing changed: {report.generation} stays, {report.documents} documents, {report.chunks} chunks.")


@app.command()
def generations(
    action: Annotated[Literal["list", "show", "diff", "rollback"], typer.Argument()] = "list",
    names: Annotated[list[str] | None, typer.Argument(help="show N, diff A B, rollback N")] = None,
    as_json: Json = False,
) -> None:
    """List the kept generations of knowledge, compare two, or roll back to one."""
    from cli.generations import run

    run(_settings(), action, names or [], as_json)


@app.command()
def search(
    question: Annotated[str | None, typer.Argument()] = None,
    customer: Customer = None,
    audience: Annotated[Literal["public", "internal"], typer.Option(help="Who is asking.")] = "public",
    top_k: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    by: Annotated[Literal["chunk", "document"], typer.Option(help="Distinct chunks or documents.")] = "chunk",
    queries: Annotated[Path | None, typer.Option(help="JSONL of questions.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL to write, one line a question.")] = None,
    as_json: Json = False,
) -> None:
    """Search the knowledge, and a customer's own tickets."""
    from cli.search import run

    run(_settings(), question, customer, audience, top_k, by, queries, out, as_json)


@app.command()
def ask(
    question: Annotated[str | None, typer.Argument()] = None,
    customer: Customer = None,
    mode: ModeOption = "hybrid",
    questions: Annotated[Path | None, typer.Option(help="JSONL of questions.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSONL to write, one line a question.")] = None,
    as_json: Json = False,
) -> None:
    """Answer a question."""
    from cli.ask import run

    run(_settings(), question, customer, mode, questions, out, as_json)


@app.command()
def chat(customer: Customer = None, mode: ModeOption = "hybrid") -> None:
    """Hold a conversation in the terminal."""
    from cli.ask import chat as run

    run(_settings(), customer, mode)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes; each loads the model.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Offer sign-in as a sample customer; loopback only.")] = False,
) -> None:
    """Serve the chat page and the OpenAI-compatible API."""
    from cli.serve import run

    run(_settings(), host, port, workers, demo)


@app.command(name="eval")
def evaluate(
    modes: Annotated[str, typer.Option(help="Modes to compare, with commas.")] = "hybrid,rag,finetuned,prompt",
    cases: Annotated[Path | None, typer.Option(help="JSONL of cases; default: those of the worked example.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for every answer and the result.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stood.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the modes side by side on cases with known answers."""
    from cli.evaluate import run

    run(_settings(), modes, cases, report, resume, as_json)


@app.command()
def train(
    logs: Annotated[Path | None, typer.Option(help="Conversations, JSONL; default: all that was imported.")] = None,
    base: Annotated[str | None, typer.Option(help="Another base model than [bot] model.")] = None,
    recipe: Annotated[Literal["hybrid", "closed-book"], typer.Option(help="Facts retrieved, or learned.")] = "hybrid",
    name: Annotated[str | None, typer.Option(help="Of the release.")] = None,
    promote: Annotated[Literal["auto", "never"], typer.Option(help="Promote what passes the gate.")] = "never",
    as_json: Json = False,
) -> None:
    """Learn from conversation logs: a gated release, with a report."""
    from cli.train import run

    run(_settings(), logs, base, recipe, name, promote, as_json)


@app.command()
def releases(
    action: Annotated[
        Literal["list", "show", "diff", "promote", "rollback", "export", "add"], typer.Argument()
    ] = "list",
    names: Annotated[list[str] | None, typer.Argument(help="show N, diff A B, promote N, export N, add N")] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote what the gate has not passed.")] = False,
    to: Annotated[Literal["merged", "gguf", "adapter"] | None, typer.Option(help="Form of the export.")] = None,
    out: Annotated[Path | None, typer.Option(help="New folder of the export; default: NAME-FORM here.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Add this LoRA adapter, a folder as peft writes it.")] = None,
    model: Annotated[str | None, typer.Option(help="Add this whole model, named as [bot] model is.")] = None,
    recipe: Annotated[
        Literal["hybrid", "closed-book"] | None, typer.Option(help="Of what is added; hybrid unless said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List, compare, promote, roll back, export or add what has been trained."""
    from cli.releases import Options, run

    run(_settings(), action, names or [], Options(force, to, out, adapter, model, recipe), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check configuration, weights, knowledge and packages, and say what is missing."""
    from cli.doctor import run

    run(as_json)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write a sample configuration with the worked example into a folder."""
    from cli.init import run

    run(folder)


def main() -> None:
    """Run the command and turn expected errors into one line and an exit status."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=os.environ.get("LOGLEVEL", "WARNING"), format="%(levelname)s %(name)s: %(message)s")
    for noisy in ("alembic", "bm25s", "chromadb", "httpx", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        app()
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        note(f"tandem: {error}")
        sys.exit(status)


def _status(error: Exception) -> int | None:
    """Return the exit status of an expected error, None for a defect."""
    from bot.errors import BotError, ConfigError, NoRelease, PromotionRefused
    from retrieval.errors import QuestionError, RefreshRefused, RetrievalError, UnknownCustomer
    from training.errors import TrainingError

    match error:
        case ConfigError() | UnknownCustomer() | QuestionError() | NoRelease():
            return 2
        case RefreshRefused() | PromotionRefused():
            return 3
        case BotError() | RetrievalError() | TrainingError() | OSError():
            return 1
        case _:
            return None
