"""The store of logs: what an import adds, and that a kill leaves all of it or nothing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.state import open_state
from bot.turns import Caller, Turn, TurnLog
from prompts.messages import Message, Passage
from training.conversations import Conversation
from training.errors import LogError
from training.logs import Imported, LogStore

REPOSITORY = Path(__file__).parents[2]


class World:
    """A deployment's home with its log store."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.root = root
        self.engine = open_state(self.home / "state.sqlite3")
        self.store = LogStore(self.engine, self.home)
        self.turns = TurnLog(self.engine)

    def take(self, *rows: Any, name: str = "log.jsonl") -> Imported:
        path = self.root / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return self.store.import_file(path)

    def stored(self) -> dict[str, Conversation]:
        return {c.conversation_id: c for c in self.store.conversations()}


@pytest.fixture
def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    yield made
    made.engine.dispose()


def row(name: str = "c1", *more: str, first: str = "How?", **fields: Any) -> dict[str, Any]:
    said = [first, "So.", *more]
    roles = ["user", "assistant"] * len(said)
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    return {"conversation_id": name, "messages": messages, **fields}


def counts(imported: Imported) -> tuple[int, int, int, int]:
    return imported.conversations, imported.added, imported.known, imported.replaced


# What an import adds


def test_an_import_twice_adds_nothing(world: World) -> None:
    rows = [row("c1", customer_id="cus_1", rating=4), row("c2"), row("c1", customer_id="cus_1", rating=4)]
    assert counts(world.take(*rows)) == (3, 2, 1, 0)
    before = world.stored()
    assert counts(world.take(*rows, name="other.jsonl")) == (3, 0, 3, 0)
    assert world.stored() == before and before["c1"].rating == 4


def test_the_older_half_of_a_conversation_is_replaced(world: World) -> None:
    assert counts(world.take(row("c1"))) == (1, 1, 0, 0)
    assert counts(world.take(row("c1", "And?", "Thus."))) == (1, 0, 0, 1)
    assert counts(world.take(row("c1"))) == (1, 0, 1, 0), "the older export again"
    assert [len(c.messages) for c in world.store.conversations()] == [4]
    assert counts(world.take(row("c2"), row("c2", "And?", "Thus."), row("c2"))) == (3, 1, 1, 1)


def test_a_rating_that_comes_later_is_taken_over(world: World) -> None:
    world.take(row("c1"))
    assert counts(world.take(row("c1", rating="down"))) == (1, 0, 0, 1)
    assert counts(world.take(row("c1"))) == (1, 0, 1, 0)
    assert world.stored()["c1"].rating == "down"


def test_two_systems_may_number_alike(world: World) -> None:
    assert counts(world.take(row("1", first="How?"))) == (1, 1, 0, 0)
    assert counts(world.take(row("1", first="Why?"), row("1", first="Why?"), name="b.jsonl")) == (2, 1, 1, 0)
    stored = world.stored()
    assert len(stored) == 2 and "1" in stored
    assert {c.messages[0].content for c in stored.values()} == {"How?", "Why?"}
    assert counts(world.take(row("1", "And?", first="Why?"))) == (1, 0, 0, 1)
    assert set(world.stored()) == set(stored), "the id of its own stays"


def test_bad_lines_are_kept_aside(world: World) -> None:
    imported = world.take(row("c1"), "{broken", *(f"bad {n}" for n in range(30)))
    assert counts(imported) == (1, 1, 0, 0)
    assert imported.bad_count == 31 and len(imported.bad) == 20 and imported.bad[0].line == 2
    assert imported.rejected_file == str(world.home / "logs" / "rejected" / "log.jsonl.jsonl")
    kept = [json.loads(line) for line in Path(imported.rejected_file).read_text(encoding="utf-8").splitlines()]
    assert len(kept) == 31 and kept[0]["text"] == "{broken" and kept[0]["reason"].startswith("not JSON")
    mended = world.take(row("c1"))
    assert mended.rejected_file is None and not Path(imported.rejected_file).exists()


def test_a_file_that_is_wrong_changes_nothing(world: World) -> None:
    world.take(row("c1"))
    for content in ("", None):
        path = world.root / "wrong.csv"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        with pytest.raises(LogError):
            world.store.import_file(path)
    assert set(world.stored()) == {"c1"}


def test_more_than_one_chunk(world: World) -> None:
    rows = [row(f"c{n}", first=f"How {n}?") for n in range(1201)]
    seen: list[tuple[str, int, int]] = []
    path = world.root / "log.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    imported = world.store.import_file(path, progress=lambda *step: seen.append(step))
    assert counts(imported) == (1201, 1201, 0, 0) and seen == [("lines", 1000, 1201)]
    longer = [row(f"c{n}", "And?", first=f"How {n}?") for n in range(1201)]
    assert counts(world.take(*longer)) == (1201, 0, 0, 1201)
    names = [c.conversation_id for c in world.store.conversations()]
    assert len(names) == 1201 and names == sorted(names)


# A kill at any moment

_CHILD = """
import sys
from pathlib import Path
from bot.state import open_state
from training.logs import LogStore
home = Path(sys.argv[1])
store = LogStore(open_state(home / "state.sqlite3"), home)
print("ready", flush=True)
sys.stdin.readline()
store.import_file(Path(sys.argv[2]))
print("done", flush=True)
"""


def _import_in_a_child(world: World, path: Path, seconds: float | None) -> bool:
    """Import in a process of its own, killed after so many seconds; returns whether it came to its end."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(world.home), str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("\n")
        child.stdin.flush()
        if seconds is not None:
            time.sleep(seconds)
            child.kill()
        return child.communicate()[0] == "done\n"


@pytest.mark.slow
def test_kills_at_random_moments_leave_all_or_nothing(world: World) -> None:
    """The pause is a random share of what a whole import takes here, so that most kills fall inside of one."""
    chance = random.Random(20261121)
    size = 6000

    def write(name: str, more: tuple[str, ...]) -> Path:
        path = world.root / name
        rows = (row(f"c{n}", *more, first=f"How {n}? " + "word " * 40) for n in range(size))
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return path

    first = write("first.jsonl", ())
    started = time.monotonic()
    assert _import_in_a_child(world, first, None)
    whole = (time.monotonic() - started) / 2  # about half of it is the child's start
    lengths, killed = 2, 0
    for version in range(1, 6):
        said = tuple(f"{n}." for n in range(2 * version))
        path = write(f"v{version}.jsonl", said)
        finished = _import_in_a_child(world, path, chance.uniform(0, whole))
        killed += not finished
        found = [len(c.messages) for c in world.store.conversations()]
        assert len(found) == size and set(found) in ({lengths}, {2 + len(said)})
        assert not finished or set(found) == {2 + len(said)}
        lengths = found[0]
    assert killed, "the pauses no longer fall inside an import: choose others"
    imported = world.store.import_file(path)
    assert (imported.known + imported.replaced, imported.added) == (size, 0)
    assert {len(c.messages) for c in world.store.conversations()} == {2 + len(said)}


# The bot's own turns

ANSWER = Turn(
    turn_id="t1", conversation_id="", mode="hybrid", question="How?", text="So. [1]", action="answer", reason="",
    model="m", release=None, generation="g000001", fingerprint="f", raw="So. [1] And more.",
    messages=(Message("system", "Be kind."), Message("user", "Documentation: ... Question: How?")),
    passages=(Passage(1, "help", "a.md", "a.md#0", "A", "", "So it is."),),
    citations=({"n": 1, "source": "help", "document": "a.md"},), usage={}, milliseconds={},
)  # fmt: skip


CUSTOMER = Caller("cus_1")


def _turn(world: World, name: str, rating: str | None, caller: Caller = CUSTOMER, **fields: Any) -> str:
    correction = fields.pop("correction", None)
    conversation = world.turns.begin(caller)
    world.turns.save(replace(ANSWER, turn_id=name, conversation_id=conversation, **fields))
    if rating:
        world.turns.rate(name, caller, rating, None, correction)
    return f"{conversation}/{name}"


def test_own_turns_are_those_that_people_liked_or_corrected(world: World) -> None:
    liked = _turn(world, "liked", "up")
    corrected = _turn(world, "corrected", "down", correction="Thus. [1]")
    _turn(world, "unrated", None)
    _turn(world, "disliked", "down")
    _turn(world, "blank", "down", correction="  ")
    _turn(world, "handed", "up", action="handoff")
    _turn(world, "canned", "up", raw="")
    _turn(world, "closed", "up", mode="finetuned")
    _turn(world, "staff", "up", caller=Caller("agent_1", "internal"))
    first, second = world.store.own_turns()
    assert [first.conversation_id, second.conversation_id] == [liked, corrected]
    question, reply = first.messages
    assert (question.content, reply.content, reply.rating, reply.correction) == ("How?", "So. [1]", "up", None)
    assert reply.prompt == tuple({"role": m.role, "content": m.content} for m in ANSWER.messages)
    assert reply.documents == ("help/a.md",) and reply.passages and reply.passages[0].text == "So it is."
    assert first.customer_id == "cus_1" and first.created_at
    assert (second.messages[1].rating, second.messages[1].correction) == ("down", "Thus. [1]")
    assert [c.conversation_id.split("/")[1] for c in world.store.own_turns(["finetuned"])] == ["closed"]


# Counting


def test_stats_of_nothing(world: World) -> None:
    stats = world.store.stats()
    assert (stats.conversations, stats.first, stats.files, stats.languages) == (0, None, {}, {})
    assert stats.median.reply_words == 0 and stats.own.turns == 0


def test_stats_count_what_there_is(world: World) -> None:
    english = "How do I export all of my projects as a spreadsheet?"
    german = "Wie kann ich alle meine Projekte als Tabelle herunterladen? Ich finde den Knopf nicht."
    world.take(
        row(
            "c1", "And?", "Thus.", first=english, customer_id="cus_1", created_at="2026-11-03T00:30:00+02:00", rating=5
        ),
        row("c2", first=german, customer_id="cus_1", created_at="2026-11-05T10:00:00Z"),
        row("c3", created_at="yesterday"),
    )
    _turn(world, "liked", "up")
    _turn(world, "corrected", "down", correction="Thus.")
    stats = world.store.stats()
    assert (stats.conversations, stats.messages, stats.assistant_turns) == (3, 8, 4)
    assert (stats.customers, stats.with_rating, stats.files) == (1, 1, {"log.jsonl": 3})
    assert (stats.first, stats.last) == ("2026-11-02", "2026-11-05")
    assert stats.languages == {"en": 1, "de": 1, "unknown": 1}
    assert stats.median.messages == 2
    assert (stats.own.turns, stats.own.up, stats.own.down, stats.own.corrected) == (2, 1, 1, 1)
