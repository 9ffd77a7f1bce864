"""`tandem ask` and `tandem chat`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Tandem, read_rows, write_rows
from tests.cli.kit import REPLY
from tests.conftest import Deployment
from tests.stand_ins import ScriptedModel

ANSWER = [
    "text", "action", "citations", "mode", "release", "generation",
    "conversation_id", "turn_id", "usage", "milliseconds",
]  # fmt: skip
QUESTION = "How do I export my data as CSV?"
ReplyWith = Callable[..., ScriptedModel]


def test_an_answer_has_the_shape_of_the_contract(ready: Deployment, tandem: Tandem, reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    answer = tandem("ask", QUESTION, "--json").json
    assert list(answer) == ANSWER
    assert (answer["text"], answer["action"], answer["mode"]) == (REPLY, "answer", "hybrid")
    assert (answer["release"], answer["generation"]) == (None, "g000001")
    cited = answer["citations"][0]
    assert {"n", "source", "document", "chunk", "title", "url"} <= set(cited) and len(answer["citations"]) == 1
    assert (cited["n"], cited["source"], cited["document"], cited["title"]) == (1, "help", "export.md", "Export")
    assert answer["conversation_id"] and answer["turn_id"]
    assert answer["usage"]["prompt_tokens"] > 0 and answer["usage"]["completion_tokens"] > 0
    assert set(answer["milliseconds"]) == {"retrieve", "first_token", "total"}


@pytest.mark.parametrize("mode", ["hybrid", "rag", "finetuned", "prompt"])
def test_each_mode_says_what_it_used(ready: Deployment, tandem: Tandem, reply_with: ReplyWith, mode: str) -> None:
    reply_with(REPLY)
    answer = tandem("ask", QUESTION, "--mode", mode, "--json").json
    assert answer["mode"] == mode
    assert answer["generation"] == ("g000001" if mode in ("hybrid", "rag") else None)
    if mode in ("rag", "prompt"):
        assert answer["release"] is None


def test_the_customer_is_known_to_the_model(ready: Deployment, tandem: Tandem, reply_with: ReplyWith) -> None:
    model = reply_with(REPLY)
    assert tandem("ask", QUESTION, "--customer", "cus_1", "--json").status == 0
    assert "Ada" in model.asked[-1][-1].content
    assert tandem("ask", QUESTION, "--json").status == 0
    assert "Ada" not in model.asked[-1][-1].content


def test_for_people(ready: Deployment, tandem: Tandem, reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    ran = tandem("ask", QUESTION)
    assert ran.out.startswith(REPLY) and "[1] Export  (help/export.md)" in ran.out
    assert "answer, g000001" in ran.err


def test_a_batch_keeps_order_and_carries_errors(
    ready: Deployment, tandem: Tandem, reply_with: ReplyWith, tmp_path: Path
) -> None:
    model = reply_with(REPLY)
    earlier = [{"role": "user", "content": "I lost my EARLIER file."}, {"role": "assistant", "content": "I see."}]
    questions = [
        {"id": "b", "question": QUESTION, "mode": "rag"},
        {"id": "mode", "question": QUESTION, "mode": "guess"},
        {"id": "nobody", "question": QUESTION, "customer": "cus_404"},
        {"id": "empty", "question": ""},
        {"id": "a", "question": QUESTION, "customer": "cus_1", "history": earlier},
    ]
    out = tmp_path / "out.jsonl"
    ran = tandem("ask", "--questions", write_rows(tmp_path / "in.jsonl", questions), "--out", out)
    rows = read_rows(out)
    assert (ran.status, ran.out) == (0, "") and "5 questions, 3 failed" in ran.err
    assert [row["id"] for row in rows] == ["b", "mode", "nobody", "empty", "a"]
    assert [row["id"] for row in rows if "error" in row] == ["mode", "nobody", "empty"]
    assert sorted(rows[0]) == sorted(["id", *ANSWER]) and (rows[0]["mode"], rows[4]["mode"]) == ("rag", "hybrid")
    assert "EARLIER" not in str(model.asked[0]) and "EARLIER" in str(model.asked[1])
    assert "Ada" not in str(model.asked[0]) and "Ada" in str(model.asked[1])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((QUESTION, "--customer", "cus_404"), "cus_404"),
        (("",), "empty"),
        (("x" * 100_000,), "100,000"),
        ((), "QUESTION"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    ready: Deployment, tandem: Tandem, reply_with: ReplyWith, words: tuple[str, ...], named: str
) -> None:
    model = reply_with(REPLY)
    ran = tandem("ask", *words, "--json")
    assert ran.status == 2 and named in ran.complaint and model.asked == []


@pytest.mark.parametrize("command", [("ask", QUESTION), ("chat",)])
def test_an_unknown_mode(ready: Deployment, tandem: Tandem, command: tuple[str, ...]) -> None:
    ran = tandem(*command, "--mode", "guess")
    assert (ran.status, ran.out) == (2, "") and "guess" in ran.err and "hybrid" in ran.err


def test_chat_keeps_the_conversation(
    ready: Deployment, tandem: Tandem, reply_with: ReplyWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reply_with(REPLY)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\nAnd may I export it again?\n\nNever read.\n"))
    ran = tandem("chat", "--customer", "cus_1")
    assert ran.status == 0 and ran.out.count(REPLY) == 2
    first, second = model.asked
    assert [m.role for m in second][-3:] == ["user", "assistant", "user"] and len(second) == len(first) + 2
    assert QUESTION in second[-3].content and "again?" in second[-1].content and "Ada" in second[-1].content


def test_chat_goes_on_after_a_question_that_fails(
    ready: Deployment, tandem: Tandem, reply_with: ReplyWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply_with(REPLY)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{'x' * 5000}\n{QUESTION}\n"))  # ends without an empty line
    ran = tandem("chat")
    assert ran.status == 0 and "5,000" in ran.err and ran.out.count(REPLY) == 1


def test_chat_as_an_unknown_customer(
    ready: Deployment, tandem: Tandem, reply_with: ReplyWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reply_with(REPLY)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n"))
    ran = tandem("chat", "--customer", "cus_404")
    assert ran.status == 2 and "cus_404" in ran.err and model.asked == []
