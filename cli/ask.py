"""`tandem ask` and `tandem chat`."""

from __future__ import annotations

import sys
from pathlib import Path

from bot.answer import Answer, Delta, Done, Mode, SupportBot
from bot.errors import BotError, ConfigError
from bot.settings import Settings
from cli.jobs import Row, run_batch
from cli.output import note, say, write_json
from retrieval.errors import RetrievalError

_MODES: dict[str, Mode] = {"hybrid": "hybrid", "rag": "rag", "finetuned": "finetuned", "prompt": "prompt"}


def run(
    settings: Settings,
    question: str | None,
    customer: str | None,
    mode: Mode,
    questions: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Ask once, or for each row of a file."""
    if (question is None) == (questions is None):
        raise ConfigError("Give a QUESTION or --questions FILE --out FILE.")
    bot = SupportBot.from_settings(settings)

    def of_row(row: Row) -> Answer:
        if row.mode is not None and row.mode not in _MODES:
            raise ConfigError(f"There is no mode '{row.mode}'; there are {', '.join(_MODES)}.")
        return bot.answer(
            row.question,
            customer_id=row.customer or customer,
            mode=_MODES[row.mode] if row.mode else mode,
            history=row.messages,
        )

    if questions is not None:
        run_batch(questions, out, of_row)
    elif as_json:
        write_json(bot.answer(str(question), customer_id=customer, mode=mode))
    else:
        _show(bot, str(question), customer, mode, None)


def chat(settings: Settings, customer: str | None, mode: Mode) -> None:
    """Read questions until an empty line or the end of the input."""
    bot = SupportBot.from_settings(settings)
    conversation: str | None = None
    note("Ask something; an empty line ends the conversation.")
    while True:
        try:
            question = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            break
        if not question:
            break
        try:
            conversation = _show(bot, question, customer, mode, conversation).conversation_id
        except (BotError, RetrievalError) as error:
            note(str(error))
            if conversation is None and customer is not None:
                raise


def _show(bot: SupportBot, question: str, customer: str | None, mode: Mode, conversation: str | None) -> Answer:
    answer: Answer | None = None
    for event in bot.stream(question, customer_id=customer, mode=mode, conversation_id=conversation):
        if isinstance(event, Delta):
            sys.stdout.write(event.text)
            sys.stdout.flush()
        elif isinstance(event, Done):
            answer = event.answer
    assert answer is not None
    sys.stdout.write("\n")
    for citation in answer.citations:
        say(f"  [{citation.n}] {citation.title}  ({citation.source}/{citation.document})", style="dim")
    times = answer.milliseconds
    first, total = times["first_token"] / 1000, times["total"] / 1000
    note(f"{answer.action}, {answer.generation or 'no knowledge'}, first token {first:.2f} s, {total:.2f} s")
    return answer
