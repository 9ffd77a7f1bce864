"""`tandem search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from bot.bootstrap import build_records, build_searcher
from bot.errors import ConfigError
from bot.phrase import said_before
from bot.settings import Settings
from cli.jobs import Row, run_batch
from cli.output import note, say, write_json
from prompts.messages import Message
from retrieval.documents import Audience
from retrieval.search import Found


def run(
    settings: Settings,
    question: str | None,
    customer: str | None,
    audience: Audience,
    top_k: int,
    by: Literal["chunk", "document"],
    queries: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Search once, or for each row of a file."""
    if (question is None) == (queries is None):
        raise ConfigError("Give a QUESTION or --queries FILE --out FILE.")
    records = build_records(settings)
    searcher = build_searcher(settings, records)

    def one(text: str, who: str | None, history: Sequence[Message]) -> dict[str, Any]:
        if who is not None:
            records.customer(who)  # an unknown customer is an error here, not a visitor
        earlier, reply = said_before(history, settings.bot.closing)
        found = searcher.search(
            text, customer_id=who, audience=audience, top_k=top_k, by=by, earlier=earlier, reply=reply
        )
        return as_object(found)

    def of_row(row: Row) -> dict[str, Any]:
        return one(row.question, row.customer or customer, row.messages)

    if queries is not None:
        run_batch(queries, out, of_row)
        return
    result = one(str(question), customer, [])
    write_json(result) if as_json else _show(result)


def as_object(found: Found) -> dict[str, Any]:
    """Give a search's result the shape that scripts read."""
    hits = [
        {
            "rank": hit.rank,
            "source": hit.chunk.source,
            "document": hit.chunk.document,
            "chunk": hit.chunk.chunk,
            "title": hit.chunk.title,
            "heading": hit.chunk.heading,
            "text": hit.chunk.text,
            "url": hit.chunk.url,
            "score": round(hit.score, 6),
            "similarity": round(hit.similarity, 4),
        }
        for hit in found.hits
    ]
    tickets = [
        {
            "ticket_id": item.ticket.ticket_id,
            "subject": item.ticket.subject,
            "status": item.ticket.status,
            "updated_at": item.ticket.updated_at,
            "similarity": round(item.similarity, 4),
        }
        for item in found.tickets
    ]
    return {
        "generation": found.generation,
        "milliseconds": round(found.milliseconds, 2),
        "hits": hits,
        "tickets": tickets,
    }


def _show(result: dict[str, Any]) -> None:
    for hit in result["hits"]:
        head = " > ".join(part for part in (hit["title"], hit["heading"]) if part)
        say(f"{hit['rank']:>2}  {head}  ({hit['source']}/{hit['document']})", style="bold")
        say(f"    {' '.join(hit['text'].split())[:220]}")
    for ticket in result["tickets"][:3]:
        say(f"    ticket {ticket['ticket_id']}: {ticket['subject']} ({ticket['status']})")
    note(f"{len(result['hits'])} hits in {result['milliseconds']:.1f} ms, {result['generation']}")
