"""The fingerprint: it changes with whatever shapes a prompt, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prompts import build
from prompts.build import build_messages
from prompts.fingerprint import fingerprint
from prompts.messages import Slots
from prompts.templates import FILES, Templates, load_templates
from tests.stand_ins import CHATML, ChatMLTemplate


def edited(name: str, old: str, new: str) -> Templates:
    texts = dict(load_templates().texts)
    assert old in texts[name]
    texts[name] = texts[name].replace(old, new, 1)
    return Templates(tuple(texts.items()))


def test_it_is_the_same_each_time_and_for_the_same_templates() -> None:
    assert fingerprint(ChatMLTemplate()) == fingerprint(ChatMLTemplate(), load_templates())
    assert len(fingerprint(ChatMLTemplate())) == 16


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("system.txt", "friendly", "formal"),
        ("system_closed.txt", "friendly", "formal"),
        ("record.txt", "Customer record:", "Record:"),
        ("record.txt", "Recent tickets:", "Tickets:"),
        ("question.txt", "[{{ passage.n }}]", "({{ passage.n }})"),
        ("question.txt", "Nothing in the documentation", "Nothing at all"),
        ("question.txt", "Question: ", "Question:\n"),
    ],
)
def test_it_changes_with_the_text_of_each_template(name: str, old: str, new: str) -> None:
    assert name in FILES
    for tokenizer in (ChatMLTemplate(), None):
        assert fingerprint(tokenizer, edited(name, old, new)) != fingerprint(tokenizer)


@pytest.mark.parametrize(("old", "new"), [("'\n'", "'\n\n'"), ("assistant", "model"), ("<|im_end|>", "<|end|>")])
def test_it_changes_with_the_chat_template(old: str, new: str) -> None:
    assert old in CHATML
    assert fingerprint(ChatMLTemplate(CHATML.replace(old, new))) != fingerprint(ChatMLTemplate())


def test_it_changes_with_the_special_tokens_that_a_template_uses() -> None:
    one, other = ChatMLTemplate("{{ bos_token }}" + CHATML), ChatMLTemplate("{{ bos_token }}" + CHATML)
    other.special_tokens = {"bos_token": "<s>"}
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("neutralise", lambda text: text),
        ("passages_of", lambda chunks: ()),
        ("_spoken", lambda messages: ()),
        ("_plain", repr),
        ("_line", str.upper),
    ],
)
def test_it_changes_with_the_builder(monkeypatch: pytest.MonkeyPatch, part: str, changed: object) -> None:
    before = fingerprint(ChatMLTemplate())
    monkeypatch.setattr(build, part, changed)
    assert fingerprint(ChatMLTemplate()) != before


def test_it_does_not_change_with_company_tone_closing_or_handoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment's slots reach the builder, never the fingerprint."""
    before = fingerprint(ChatMLTemplate())
    for name in ("TANDEM_BOT_COMPANY", "TANDEM_BOT_TONE", "TANDEM_BOT_CLOSING"):
        monkeypatch.setenv(name, "Brightfold")
    slots = Slots(company="Brightfold", tone="Loud.", closing="Bye.", handoff="Wait.")
    assert build_messages("Q?", (), None, slots=slots) != build_messages("Q?", (), None)
    assert fingerprint(ChatMLTemplate()) == before
    monkeypatch.setattr("prompts.build.Slots", lambda: replace(Slots(), company="Another"))
    assert fingerprint(ChatMLTemplate()) == before
