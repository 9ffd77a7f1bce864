"""Our retrieval as LangChain's BaseRetriever."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import Field

from bot.bootstrap import build_searcher
from bot.langchain.messages import UnsupportedInput
from bot.settings import Settings, settings_of
from retrieval.documents import Audience, Hit
from retrieval.search import Found, FoundTicket, Searcher


class TandemRetriever(BaseRetriever):
    """Find documents in the current knowledge and, for a customer, among the customer's own tickets.

    `customer_id` and `audience` belong to the authenticated caller: they are fields, and a call cannot change them.
    """

    searcher: Searcher = Field(exclude=True, repr=False)
    k: int = Field(default=4, ge=1)  # documents returned
    customer_id: str | None = None
    audience: Audience = "public"

    @classmethod
    def from_settings(cls, settings: Settings | Path | None = None, **fields: Any) -> Self:
        """Build the retriever of a deployment, by default that of tandem.toml here; `fields` win over settings."""
        settings = settings_of(settings)
        return cls(searcher=build_searcher(settings), **({"k": settings.retrieval.top_k} | fields))

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        top_k = self.k if k is None else k
        if top_k < 1:
            raise UnsupportedInput(f"k is {top_k}; ask for at least one document.")
        found = self.searcher.search(query, customer_id=self.customer_id, audience=self.audience, top_k=top_k)
        return _documents(found)[:top_k]

    # Without this one `ainvoke` would not take the `k` that `invoke` takes.
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await run_in_executor(None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k)


def _documents(found: Found) -> list[Document]:
    """Put hits and tickets in one order: a ticket stands before the hits that are all less similar than it."""
    tickets = sorted(found.tickets, key=lambda t: -t.similarity)
    documents = []
    for position, hit in enumerate(found.hits):
        best = max(later.similarity for later in found.hits[position:])
        while tickets and tickets[0].similarity > best:
            documents.append(_ticket_document(tickets.pop(0)))
        documents.append(_hit_document(hit, found.generation))
    return documents + [_ticket_document(ticket) for ticket in tickets]


def _hit_document(hit: Hit, generation: str | None) -> Document:
    chunk = hit.chunk
    metadata = {
        "source": chunk.source,
        "document": chunk.document,
        "chunk": chunk.chunk,
        "title": chunk.title,
        "heading": chunk.heading,
        "url": chunk.url,
        "score": hit.score,
        "similarity": hit.similarity,
        "generation": generation,
    }
    return Document(chunk.text, id=chunk.chunk, metadata=metadata)


def _ticket_document(found: FoundTicket) -> Document:
    """Give a ticket the same keys; it has no fused score, and belongs to no generation."""
    ticket = found.ticket
    name = f"tickets/{ticket.ticket_id}"  # no source may be named "tickets"
    metadata = {
        "source": "tickets",
        "document": ticket.ticket_id,
        "chunk": name,
        "title": ticket.subject,
        "heading": "",
        "url": None,
        "score": None,
        "similarity": found.similarity,
        "generation": None,
        "status": ticket.status,
        "updated_at": ticket.updated_at,
    }
    return Document(ticket.text, id=name, metadata=metadata)
