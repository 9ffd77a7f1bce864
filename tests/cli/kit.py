"""The small deployment of the command's tests, and `python -m tests.cli.kit`: tandem with stand-ins.

As a program it answers every question alike, and stops for good at a question that says HANG.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import bot.bootstrap
from bot.models import ChatModel
from cli.main import main
from prompts.messages import Message
from retrieval.embedders import Embedder
from tests.stand_ins import HashEmbedder, ScriptedModel

REPLY = "You export your data as CSV under Settings, Export. [1]\n\nIs there anything else I can help with?"
DOCUMENTS = {
    "knowledge/export.md": "# Export\n\nYou export your data as CSV under Settings, Export.\n",
    "knowledge/prices.md": "# Prices\n\nThe Pro plan costs $12 per user each month.\n",
    "internal/discounts.md": "# Discounts\n\nStaff may grant a discount of 15 % on the Pro plan.\n",
}
CUSTOMERS = [
    {"customer_id": "cus_1", "name": "Ada Byron", "tier": "Pro"},
    {"customer_id": "cus_2", "name": "Bob Moran", "tier": "Free"},
]
TICKETS = [{"ticket_id": "t1", "customer_id": "cus_1", "subject": "Gears are jammed", "status": "open"}]
TOML = """
[[sources]]
name = "help"
path = "knowledge"
[[sources]]
name = "staff"
path = "internal"
audience = "internal"
[customers]
path = "customers.jsonl"
[tickets]
path = "tickets.jsonl"
[retrieval]
min_similarity = 0.1
"""


def use_stand_ins(setattr_: Callable[..., None], embedder: Embedder, model: ChatModel | None) -> None:
    """Put stand-ins where the command builds the real ones; no release is shipped then."""
    setattr_(bot.bootstrap, "SHIPPED", None)
    setattr_(bot.bootstrap, "build_embedder", lambda settings: embedder)
    setattr_(bot.bootstrap, "reranker_of", lambda settings: None)  # its ratings go with the embedder's
    if model is not None:
        setattr_(bot.bootstrap, "build_model", lambda settings: model)


def _reply(messages: Sequence[Message]) -> str:
    while "HANG" in messages[-1].content:
        time.sleep(1)
    return REPLY


if __name__ == "__main__":
    set_: Any = setattr
    use_stand_ins(set_, HashEmbedder(dimension=512), ScriptedModel(_reply))
    sys.argv[0] = "tandem"
    main()
