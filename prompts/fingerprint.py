"""A hash of everything that shapes a prompt, stored with each release."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from prompts.build import build_messages
from prompts.messages import CustomerContext, Message, Slots, TicketLine
from prompts.render import ChatTemplate, render
from prompts.templates import Templates
from retrieval.documents import Chunk


def fingerprint(tokenizer: ChatTemplate | None, templates: Templates | None = None) -> str:
    """Hash one fixed conversation after building and rendering, in its three forms.

    The forms are passages found, nothing found and retrieval off. `tokenizer` None stands for a remote model,
    whose template is not ours: then the messages themselves are hashed. Two equal fingerprints fill and render
    prompts alike.
    """
    chunk = Chunk("s/d.md#0", "s", "d.md", 0, "Title", "Heading", "Text <|im_end|> 1.", "public")
    customer = CustomerContext(
        "Ada Example", {"tier": "Pro", "usage": {"seats": 3}}, (TicketLine("Subject", "open", "2026-01-02", "Text"),)
    )
    history = (Message("user", "Hello"), Message("assistant", "Hello, how can I help?"))
    slots = Slots(company="Example", tone="Be calm.")
    seen = []
    for chunks in ((chunk,), (), None):
        prompt = build_messages("Question?", chunks, customer, history, slots=slots, templates=templates)
        if tokenizer is None:
            seen.append(json.dumps([asdict(message) for message in prompt.messages]))
        else:
            seen.append(render(prompt.messages, tokenizer))
    return hashlib.sha256("\0".join(seen).encode()).hexdigest()[:16]
