"""The formats of logs: what each row becomes, and what is said of the rows that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.conversations import Conversation
from training.errors import LogError
from training.log_files import Read
from training.log_formats import Format, guess_format, read_log

SAID = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]


def log(folder: Path, *rows: Any, name: str = "log.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def good(path: Path, format: Format) -> list[Conversation]:
    read = list(read_log(path, format))
    assert all(r.conversation for r in read), [r.reason for r in read]
    return [r.conversation for r in read if r.conversation]


def bad(path: Path, format: Format) -> list[Read]:
    return [r for r in read_log(path, format) if r.conversation is None]


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in conversation.messages]


# chat


def test_chat_keeps_what_the_contract_names(tmp_path: Path) -> None:
    row = {
        "conversation_id": "c1", "customer_id": "cus_1", "created_at": "2026-11-03T09:12:00Z", "rating": 5,
        "messages": [SAID[0], {**SAID[1], "record": {"name": "Ada"}}], "unknown": 1,
    }  # fmt: skip
    (found,) = good(log(tmp_path, row, "", "   "), "chat")
    assert (found.conversation_id, found.customer_id, found.created_at) == ("c1", "cus_1", "2026-11-03T09:12:00Z")
    assert found.rating == 5 and found.messages[1].record == {"name": "Ada"}


def test_ids_and_times_may_be_numbers(tmp_path: Path) -> None:
    row = {"conversation_id": 17, "customer_id": 4, "created_at": 1762161120, "messages": SAID}
    (found,) = good(log(tmp_path, row), "chat")
    assert (found.conversation_id, found.customer_id) == ("17", "4")
    assert found.created_at == "2025-11-03T09:12:00+00:00"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{no json", "not JSON"),
        ("[1]", "one object a line"),
        ("7", "not a JSON object"),
        ('{"conversation_id": "c"}', "messages: Field required"),
        ('{"conversation_id": "c", "messages": []}', "messages:"),
        ('{"conversation_id": "", "messages": [{"role": "user", "content": "x"}]}', "conversation_id:"),
        ('{"conversation_id": "c", "messages": [{"role": "bot", "content": "x"}]}', "messages.0.role:"),
        ('{"conversation_id": "c", "messages": [{"role": "user", "content": null}]}', "messages.0.content:"),
        ('{"conversation_id": "c", "rating": NaN, "messages": [{"role": "user", "content": "x"}]}', "not JSON"),
        ('{"conversation_id": "c", "messages": [{"role": "user", "content": "\\ud800"}]}', "not JSON"),
    ],
)
def test_a_bad_line_is_named_and_the_others_stay(tmp_path: Path, line: str, reason: str) -> None:
    path = log(
        tmp_path, {"conversation_id": "a", "messages": SAID}, "", line, {"conversation_id": "b", "messages": SAID}
    )
    read = list(read_log(path, "chat"))
    assert [r.line for r in read] == [1, 3, 4]
    assert read[1].reason.startswith(reason) or reason in read[1].reason
    assert read[1].text == line and read[0].conversation and read[2].conversation


def test_a_line_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"conversation_id": "caf\xe9"}\n')
    (read,) = bad(path, "chat")
    assert read.reason == "not UTF-8"


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    row = {"conversation_id": "c", "messages": [{"role": "user", "content": "a\u2028b"}, SAID[1]]}
    (found,) = good(log(tmp_path, json.dumps(row, ensure_ascii=False)), "chat")
    assert found.messages[0].content == "a\u2028b"


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"conversation_id": "c", "messages": SAID}).encode())
    assert good(path, "chat")


@pytest.mark.parametrize("format", ["chat", "csv"])
def test_files_that_cannot_be_read_at_all(tmp_path: Path, format: Format) -> None:
    with pytest.raises(LogError, match="cannot be read"):
        list(read_log(tmp_path / "missing", format))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(LogError, match="empty"):
        list(read_log(tmp_path / "empty", format))
    (tmp_path / "wide").write_bytes("conversation_id,role,content".encode("utf-16"))
    with pytest.raises(LogError, match="UTF-8"):
        list(read_log(tmp_path / "wide", format))


# openai


def test_openai_names_a_conversation_by_its_content(tmp_path: Path) -> None:
    path = log(tmp_path, {"messages": SAID}, {"messages": SAID}, {"messages": SAID[:1]}, {"id": "x", "messages": SAID})
    first, again, other, named = good(path, "openai")
    assert first.conversation_id == again.conversation_id != other.conversation_id
    assert named.conversation_id == "x" and said(first) == [("user", "How?"), ("assistant", "So.")]


def test_openai_parts_tools_and_developers(tmp_path: Path) -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ]
    (found,) = good(log(tmp_path, {"messages": messages}), "openai")
    assert said(found) == [("system", "Be kind."), ("user", "Look: "), ("assistant", "It is 42.")]


@pytest.mark.parametrize(
    "row", [{"messages": "x"}, {"messages": [1]}, {"messages": [{"role": "judge", "content": "x"}]}]
)
def test_openai_bad_rows(tmp_path: Path, row: Any) -> None:
    assert len(bad(log(tmp_path, row), "openai")) == 1


# zendesk

TICKET = {
    "id": 35436, "subject": "Help", "requester_id": 20978392, "created_at": "2026-07-20T22:55:29Z",
    "satisfaction_rating": {"score": "bad"},
    "comments": [
        {"author_id": 20978392, "author": {"role": "end-user"}, "plain_body": "My printer is on fire!", "public": True},
        {"author_id": 7, "author": {"role": "agent"}, "body": "Check him first.", "public": False},
        {"author_id": 7, "author": {"role": "agent"}, "html_body": "<p>Take &amp; hold</p>it", "public": True},
        {"author_id": 7, "author": {"role": "agent"}, "body": "", "public": True},
    ],
}  # fmt: skip


def test_zendesk_takes_public_comments(tmp_path: Path) -> None:
    (found,) = good(log(tmp_path, TICKET), "zendesk")
    assert said(found) == [("user", "My printer is on fire!"), ("assistant", "Take & hold\nit")]
    assert (found.conversation_id, found.customer_id, found.rating) == ("35436", "20978392", "down")
    assert found.created_at == "2026-07-20T22:55:29Z"


def test_zendesk_without_roles_tells_by_the_requester(tmp_path: Path) -> None:
    comments = [{"author_id": 1, "body": "How?", "public": True}, {"author_id": 2, "body": "So.", "public": True}]
    ticket = {"id": 1, "requester": {"id": 1, "external_id": "cus_9"}, "comments": comments}
    (found,) = good(log(tmp_path, ticket), "zendesk")
    assert said(found) == [("user", "How?"), ("assistant", "So.")] and found.customer_id == "cus_9"
    assert found.rating is None


@pytest.mark.parametrize(
    ("ticket", "reason"),
    [
        ({"id": 1, "comments": [{"author": {"role": "agent"}, "body": "psst", "public": False}]}, "none is public"),
        ({"id": 1, "comments": [{"author_id": 3, "body": "who am I"}]}, "requester_id"),
        ({"id": 1, "comments": "x"}, "not a list"),
    ],
)
def test_zendesk_bad_tickets(tmp_path: Path, ticket: Any, reason: str) -> None:
    (read,) = bad(log(tmp_path, ticket), "zendesk")
    assert reason in read.reason


# csv


def table(folder: Path, text: str) -> Path:
    path = folder / "log.csv"
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_csv_one_message_a_row(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "Conversation_ID,role,content,created_at,customer_id,rating,extra\n"
        'a,Customer,"How?\nReally?",2026-01-02T10:00:00Z,cus_1,,x\n'
        "b,user,And?,2026-01-03T10:00:00Z,,,\n"
        "a,agent,So.,2026-01-02T10:01:00Z,,4,\n"
        "b,bot,Thus.,2026-01-03T10:01:00Z,,down,\n",
    )
    first, second = good(path, "csv")
    assert said(first) == [("user", "How?\nReally?"), ("assistant", "So.")]
    assert (first.conversation_id, first.customer_id, first.rating) == ("a", "cus_1", 4.0)
    assert first.created_at == "2026-01-02T10:00:00Z"
    assert second.rating is None and second.messages[1].rating == "down"


def test_csv_that_begins_with_the_newest(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "conversation_id,role,content,created_at\n"
        "a,assistant,So.,2026-01-02T10:01:00Z\na,user,How?,2026-01-02T10:00:00Z\n",
    )
    (found,) = good(path, "csv")
    assert said(found) == [("user", "How?"), ("assistant", "So.")]


@pytest.mark.parametrize("header", ["question,answer", "Instruction;Response", "instruction\tresponse"])
def test_csv_one_exchange_a_row(tmp_path: Path, header: str) -> None:
    mark = next(c for c in ",;\t" if c in header)
    path = table(tmp_path, f"\ufeff{header}\r\nHow?{mark}So.\r\nAnd?{mark}Thus.\r\nHow?{mark}So.\r\n")
    first, second, again = good(path, "csv")
    assert said(first) == [("user", "How?"), ("assistant", "So.")] and said(second)[1] == ("assistant", "Thus.")
    assert first.conversation_id == again.conversation_id != second.conversation_id


def test_csv_bad_rows_take_their_conversation_along(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "conversation_id,role,content\na,user,How?\nb,user,And?\na,ghost,Boo.\n\n,user,lost\nb,agent,Thus.\nc\n",
    )
    read = list(read_log(path, "csv"))
    assert [(r.line, r.conversation and r.conversation.conversation_id) for r in read] == [
        (4, None), (6, None), (8, None), (3, "b"),
    ]  # fmt: skip
    assert "'ghost'" in read[0].reason and "left out" in read[0].reason
    assert read[1].reason == "conversation_id: empty" and "fewer columns" in read[2].reason


def test_csv_with_a_quotation_mark_that_nothing_closes(tmp_path: Path) -> None:
    path = table(tmp_path, f'question,answer\nHow?,So.\n"And?,{"x" * 1_100_000}\n')
    read = list(read_log(path, "csv"))
    assert [r.line for r in read if r.conversation is None] == [3]
    assert [r.line for r in read if r.conversation] == [2]


def test_csv_with_other_columns(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="question, answer"):
        list(read_log(table(tmp_path, "a,b\n1,2\n"), "csv"))


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("question,answer\nCafé?,Yes.\n".encode("latin-1"))
    with pytest.raises(LogError, match="UTF-8"):
        list(read_log(path, "csv"))


# guessing


@pytest.mark.parametrize(
    ("lines", "format"),
    [
        (["{broken", json.dumps({"conversation_id": "c", "messages": SAID})], "chat"),
        ([json.dumps({"messages": SAID})], "openai"),
        ([json.dumps(TICKET)], "zendesk"),
        (["\ufeffconversation_id,role,content", "a,user,x"], "csv"),
        (["id;Question;Answer", "1;x;y"], "csv"),
        (["nothing", "at all"], "chat"),
    ],
)
def test_the_format_is_told_from_the_content(tmp_path: Path, lines: list[str], format: Format) -> None:
    assert guess_format(log(tmp_path, *lines)) == format
