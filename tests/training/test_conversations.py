"""Conversation logs as files: what is written is read again, and a bad line is named and left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.messages import Message, Slots
from training.conversations import Conversation, Logged, Shown, read_conversations, write_conversations
from training.errors import LogError

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)  # JSON itself has no lone surrogates
SHOWN = st.builds(Shown, source=TEXTS, document=TEXTS, title=TEXTS, heading=TEXTS, text=TEXTS)
VALUES = st.one_of(st.integers(-(2**53), 2**53), st.booleans(), TEXTS, st.lists(TEXTS, max_size=2))
LOGGED = st.builds(
    Logged,
    role=st.sampled_from(["user", "assistant", "system"]),
    content=TEXTS,
    record=st.none() | st.dictionaries(TEXTS, VALUES, max_size=3),
    passages=st.none() | st.lists(SHOWN, max_size=3).map(tuple),
    documents=st.lists(TEXTS, max_size=2).map(tuple),
    prompt=st.none() | st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS}), max_size=2).map(tuple),
    rating=st.none() | st.sampled_from(["up", "down"]),
    correction=st.none() | TEXTS,
)
CONVERSATIONS = st.builds(
    Conversation,
    conversation_id=TEXTS.filter(bool),
    messages=st.lists(LOGGED, min_size=1, max_size=4).map(tuple),
    customer_id=st.none() | TEXTS,
    created_at=st.none() | TEXTS,
    rating=st.none() | st.floats(0, 5) | TEXTS,
    company=st.none() | TEXTS,
    closing=st.none() | TEXTS,
    tone=st.none() | TEXTS,
    knowledge=st.none() | st.sampled_from(["search", "none"]),
)


def conversation(*said: tuple[str, str], **fields: Any) -> Conversation:
    messages = tuple(Logged(role=role, content=content) for role, content in said)  # type: ignore[arg-type]
    return Conversation(**{"conversation_id": "c1", "messages": messages} | fields)


def log(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return path


GOOD = conversation(("user", "How?"), ("assistant", "So.")).model_dump_json()


@given(st.lists(CONVERSATIONS, max_size=4))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, made: list[Conversation]) -> None:
    path = tmp_path_factory.mktemp("logs") / "deep" / "log.jsonl"
    write_conversations(path, made)
    assert read_conversations(path) == (made, [])


def test_what_was_shown_nothing_and_what_is_unknown_stay_apart(tmp_path: Path) -> None:
    """Passages () say that the search found nothing, None says that nobody knows."""
    asked = Logged(role="user", content="How?")
    replies = [Logged(role="assistant", content="So.", passages=passages) for passages in ((), None)]
    made = [Conversation(conversation_id=f"c{n}", messages=(asked, reply)) for n, reply in enumerate(replies)]
    write_conversations(tmp_path / "log.jsonl", made)
    read, _ = read_conversations(tmp_path / "log.jsonl")
    assert [one.messages[1].passages for one in read] == [(), None]


def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        GOOD,
        "{no json",
        "",
        "   ",
        '{"conversation_id": "c2"}',
        '{"conversation_id": "", "messages": [{"role": "user", "content": "x"}]}',
        '{"conversation_id": "c3", "messages": []}',
        '{"conversation_id": "c4", "messages": [{"role": "user", "content": "x"}, {"role": "boss", "content": "x"}]}',
        '{"conversation_id": "c5", "messages": [{"role": "user", "content": null}]}',
        "[" * 5000,
        '{"conversation_id": "c6", "messages": [{"role": "user", "content": "\\ud83d"}]}',
        '"text"',
        GOOD.replace("c1", "c7"),
    )
    good, bad = read_conversations(path)
    assert [one.conversation_id for one in good] == ["c1", "c7"]
    wrong = dict(bad)
    assert list(wrong) == [2, 5, 6, 7, 8, 9, 10, 11, 12]
    assert wrong[5].startswith("messages: ") and wrong[6].startswith("conversation_id: ")
    assert wrong[7].startswith("messages: ") and wrong[8].startswith("messages.1.role: ")
    assert wrong[9].startswith("messages.0.content: ")


def test_lines_end_where_json_lines_end(tmp_path: Path) -> None:
    said = GOOD.replace("How?", "one\u2028two\u0085three\u000bfour".replace("\u000b", "\\u000b"))
    good, bad = read_conversations(log(tmp_path, said))
    assert bad == [] and good[0].messages[0].content == "one\u2028two\u0085three\u000bfour"


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n" + GOOD.replace("c1", "c2").encode())
    assert [one.conversation_id for one in read_conversations(path)[0]] == ["c1", "c2"]


def test_bytes_that_are_no_utf_8_spoil_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(GOOD.replace("How?", "How\udcff?").encode("utf-8", "surrogateescape") + b"\n" + GOOD.encode())
    good, bad = read_conversations(path)
    assert [one.messages[0].content for one in good] == ["How\ufffd?", "How?"] and bad == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.jsonl", tmp_path):
        with pytest.raises(LogError, match="cannot be read") as error:
            read_conversations(path)
        assert str(path) in str(error.value)


def test_unknown_keys_are_left_alone(tmp_path: Path) -> None:
    row = json.loads(GOOD) | {"note": 1}
    row["messages"][0]["sentiment"] = "sad"
    assert len(read_conversations(log(tmp_path, json.dumps(row)))[0]) == 1


def test_what_was_said_before_leaves_system_messages_out() -> None:
    talk = conversation(("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("system", "x"), ("user", "c"))
    assert talk.before(4) == [Message("user", "a"), Message("assistant", "b")]
    assert talk.before(0) == []


def test_the_words_of_the_company_replace_only_what_is_given() -> None:
    default = Slots(company="Example", tone="Be calm.", closing="More?", handoff="Bye.")
    assert conversation(("user", "a")).slots(default) == default
    other = conversation(("user", "a"), company="Other", tone="").slots(default)
    assert (other.company, other.tone, other.closing, other.handoff) == ("Other", "", "More?", "Bye.")


def test_the_digest_is_of_what_was_said() -> None:
    talk = conversation(("user", "a"), ("assistant", "b"))
    assert talk.digest() == conversation(("user", "a"), ("assistant", "b"), rating=5, customer_id="x").digest()
    others = [
        conversation(("user", "a"), ("assistant", "c")),
        conversation(("user", "a"), ("user", "b")),
        conversation(("user", "ab")),
        conversation(("user", "a"), ("assistant", "b"), conversation_id="c2"),
    ]
    assert len({talk.digest(), *(other.digest() for other in others)}) == 5
