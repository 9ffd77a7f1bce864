"""What the prompt tests phrase: passages, a customer and a conversation."""

from __future__ import annotations

from prompts.messages import CustomerContext, Message, Slots, TicketLine
from retrieval.documents import Chunk

CHUNKS = (
    Chunk(
        "help/export.md#0", "help", "export.md", 0, "Export data", "CSV", "Open **Menu**.\n\n1. Press Export.", "public"
    ),
    Chunk("help/export.md#1", "help", "export.md", 1, "Export data", "", "An export holds 10,000 rows.", "public"),
    Chunk("help/plans.md#0", "help", "plans.md", 0, "Plans", "Limits", "Pro has 5 exports a day.", "public"),
)
CUSTOMER = CustomerContext(
    "Ada Example",
    {"tier": "Pro", "seats": 3, "usage": {"exports_today": 4, "storage_gb": 1.5}, "regions": ["EU", "US"]},
    (TicketLine("Export stuck", "open", "2026-05-02", "It stands at 99 %."), TicketLine("Invoice", "closed", "")),
)
HISTORY = (Message("user", "Hello"), Message("assistant", "Hello Ada, how can I help?"))
SLOTS = Slots(company="Brightfold", tone="Be calm.", closing="Anything else?")
