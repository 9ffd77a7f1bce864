"""Who speaks: the right model in each mode, and the promoted release followed while questions are answered."""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bot import speakers as module
from bot.answer import SupportBot
from bot.errors import ModelError, NoRelease, ReleaseError
from bot.models import Sampling
from bot.releases import Promoted, Release, Releases
from bot.speakers import Speakers, one_model
from bot.turns import Caller
from bot.values import MODES, Mode
from prompts.messages import Message
from prompts.templates import FILES, Templates, default_templates
from tests.bot.conftest import BotWith
from tests.bot.tiny_model import listed_release
from tests.stand_ins import ChatMLTemplate, ScriptedModel

REPLY = "You export your data as CSV under Settings, Export. [1]"
LATE = 60.0  # seconds after which a test gives up; nothing needs so many


def signed(name: str) -> Callable[[Sequence[Message]], str]:
    """Reply so that the raw text, and without passages the answer too, says who wrote it."""
    return lambda _: f"{REPLY}\n\nWritten by {name}."


class Stage:
    """Releases, what loading them does, and which of their models are alive."""

    def __init__(self, folder: Path) -> None:
        self.releases = Releases(folder / "releases", None)
        self.loads: list[str] = []
        self.models: list[tuple[str, weakref.ref[ScriptedModel]]] = []
        self.broken: set[str] = set()
        self.slow: dict[str, threading.Event] = {}
        self.delay = 0.0

    def add(self, *names: str, **changes: Any) -> Stage:
        for name in names:
            listed_release(self.releases, name, **changes)
        return self

    def speakers(self) -> Speakers:
        return Speakers(self.base, self.releases, self.load)

    def base(self) -> ScriptedModel:
        return self.model("base")

    def load(self, release: Release) -> ScriptedModel:
        self.loads.append(release.name)
        if release.name in self.slow:
            assert self.slow[release.name].wait(LATE)
        if release.name in self.broken:
            raise ModelError(f"{release.name} is broken")
        return self.model(release.name)

    def model(self, name: str) -> ScriptedModel:
        made = ScriptedModel(signed(name), name=name, delay=self.delay)
        self.models.append((name, weakref.ref(made)))
        return made

    def alive(self) -> list[str]:
        gc.collect()
        return sorted(name for name, model in self.models if model() is not None)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.02)
    return Stage(tmp_path)


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LATE
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def speaks(speakers: Speakers, mode: Mode) -> str:
    speaker = speakers.speaker(mode)
    assert speakers.release(mode) == speaker.release
    assert speaker.model.name == (speaker.release or "base")
    return speaker.model.name


def wait_for(speakers: Speakers, mode: Mode, name: str | None) -> None:
    eventually(lambda: speakers.release(mode) == name)
    assert speaks(speakers, mode) == (name or "base")


# ---------------------------------------------------------------- who


@pytest.mark.parametrize(
    ("promoted", "who"),
    [
        ([], ("base", "base", "base", "base")),
        (["manners"], ("manners", "base", "manners", "base")),
        (["book"], ("base", "base", "book", "base")),
        (["manners", "book"], ("manners", "base", "book", "base")),
    ],
)
def test_each_mode_has_its_speaker(stage: Stage, promoted: list[str], who: tuple[str, ...]) -> None:
    stage.add("manners").add("book", recipe="closed-book")
    for name in promoted:
        stage.releases.promote(name)
    speakers = stage.speakers()
    assert tuple(speaks(speakers, mode) for mode in MODES) == who
    assert sorted(stage.loads) == sorted(set(stage.loads)), "a model was loaded twice"


def test_a_remote_model_speaks_alone(stage: Stage) -> None:
    speakers = one_model(stage.base())
    assert [speakers.release(mode) for mode in MODES] == [None] * 4
    assert {id(speakers.speaker(mode).model) for mode in MODES} == {id(speakers.speaker("rag").model)}


def test_nothing_is_loaded_to_name_a_release(stage: Stage) -> None:
    stage.add("one").releases.promote("one")
    assert stage.speakers().release("hybrid") == "one" and stage.loads == [] and stage.models == []


def test_many_first_questions_load_once(stage: Stage) -> None:
    stage.add("one").releases.promote("one")
    stage.slow["one"] = threading.Event()
    speakers, said = stage.speakers(), list[str]()
    threads = [threading.Thread(target=lambda: said.append(speaks(speakers, "hybrid"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    stage.slow["one"].set()
    for thread in threads:
        thread.join()
    assert said == ["one"] * 6 and stage.loads == ["one"]


def test_a_release_speaks_with_its_own_templates(stage: Stage, bot_with: BotWith) -> None:
    texts = dict(default_templates().texts)
    texts["system.txt"] = "Templates of old. " + texts["system.txt"]
    stage.add("one").releases.promote("one")
    Templates(tuple((name, texts[name]) for name in FILES)).save(stage.releases.folder / "one" / "templates")
    speakers = stage.speakers()
    bot = bot_with(speakers)
    for mode in ("hybrid", "rag"):
        bot.answer("How do I export my data?", mode=mode)
    asked = [speakers.speaker(mode).model.asked[-1][0].content for mode in ("hybrid", "rag")]  # type: ignore[attr-defined]
    assert [text.startswith("Templates of old. ") for text in asked] == [True, False]


def test_prompts_that_are_filled_differently_are_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.add("one", fingerprint="another").releases.promote("one")
    assert speaks(stage.speakers(), "hybrid") == "one"
    assert "retrain it" in caplog.text


def test_the_fingerprint_is_that_of_the_models_own_template(stage: Stage) -> None:
    plain = stage.speakers().speaker("rag").fingerprint
    own = Speakers(lambda: ScriptedModel(template=ChatMLTemplate())).speaker("rag").fingerprint
    assert plain != own


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("mode", "release"), [("hybrid", "manners"), ("finetuned", "book"), ("rag", None), ("prompt", None)]
)
def test_an_answer_names_its_release(stage: Stage, bot_with: BotWith, mode: Mode, release: str | None) -> None:
    stage.add("manners").add("book", recipe="closed-book")
    stage.releases.promote("manners")
    stage.releases.promote("book")
    bot = bot_with(stage.speakers())
    answer = bot.answer("How do I export my data?", mode=mode)
    turn = bot.turns.turn(answer.turn_id, Caller())
    assert answer.release == turn.release == release
    assert turn.raw.endswith(f"Written by {release or 'base'}.")
    assert (answer.generation is None) == (mode in ("finetuned", "prompt"))


def test_a_server_without_any_release_answers_from_the_base(stage: Stage, bot_with: BotWith) -> None:
    """As one that ran before there were releases: no folder, no pointer, nothing shipped."""
    bot = bot_with(stage.speakers())
    for mode in MODES:
        answer = bot.answer("How do I export my data?", mode=mode)
        assert answer.release is None and bot.turns.turn(answer.turn_id, Caller()).model == "base"
    assert bot.readiness()["release"] is None and not stage.releases.folder.exists()
    stage.add("one").releases.promote("one")
    eventually(lambda: bot.answer("How do I export my data?").release == "one")
    stage.releases.rollback()
    eventually(lambda: bot.answer("How do I export my data?").release is None)
    assert bot.readiness()["model"] == "base"


def test_a_turn_keeps_its_model_to_the_end(stage: Stage, bot_with: BotWith) -> None:
    stage.add("one", "two").releases.promote("one")
    speakers = stage.speakers()
    bot = bot_with(speakers)
    stream = bot.stream("How do I export my data?")
    next(stream)
    stage.releases.promote("two")
    wait_for(speakers, "hybrid", "two")
    answer = list(stream)[-1].answer  # type: ignore[union-attr]
    assert answer.release == "one" and bot.turns.turn(answer.turn_id, Caller()).raw.endswith("Written by one.")


# ---------------------------------------------------------------- following


def test_the_pointer_is_followed_without_a_question(stage: Stage) -> None:
    stage.add("one", "two").releases.promote("one")
    speakers = stage.speakers()
    assert speaks(speakers, "hybrid") == "one"
    stage.releases.promote("two")
    eventually(lambda: stage.loads == ["one", "two"])
    wait_for(speakers, "hybrid", "two")
    stage.releases.rollback()
    wait_for(speakers, "hybrid", "one")


def test_the_old_one_answers_while_the_new_one_loads(stage: Stage, bot_with: BotWith) -> None:
    stage.add("one", "two").releases.promote("one")
    stage.slow["two"] = threading.Event()
    speakers = stage.speakers()
    bot = bot_with(speakers)
    assert bot.answer("How do I export my data?").release == "one"
    stage.releases.promote("two")
    eventually(lambda: "two" in stage.loads)
    assert bot.answer("How do I export my data?").release == "one"
    stage.slow["two"].set()
    wait_for(speakers, "hybrid", "two")


def test_the_last_move_wins_however_long_the_one_before_loads(stage: Stage) -> None:
    stage.add("one", "two").releases.promote("one")
    stage.slow["two"] = threading.Event()
    speakers = stage.speakers()
    assert speaks(speakers, "hybrid") == "one"
    stage.releases.promote("two")
    eventually(lambda: "two" in stage.loads)
    stage.releases.rollback()
    time.sleep(0.1)  # for a look at the pointer, would it not wait for the load
    stage.slow["two"].set()
    eventually(lambda: speakers._seen == stage.releases.promoted() and speakers.release("hybrid") == "one")
    time.sleep(0.1)
    assert speaks(speakers, "hybrid") == "one"
    eventually(lambda: stage.alive() == ["one"])


def test_a_release_that_a_question_began_to_load_is_not_kept_once_it_is_replaced(stage: Stage) -> None:
    stage.add("one", "two").releases.promote("one")
    stage.slow["one"] = threading.Event()
    speakers, said = stage.speakers(), list[str]()
    thread = threading.Thread(target=lambda: said.append(speakers.speaker("hybrid").model.name))
    thread.start()
    eventually(lambda: stage.loads == ["one"])
    stage.releases.promote("two")
    time.sleep(0.1)
    stage.slow["one"].set()
    thread.join()
    wait_for(speakers, "hybrid", "two")
    assert said == ["one"]
    eventually(lambda: stage.alive() == ["two"])
    assert speakers._first("one").model.name == "one"  # a question that read the pointer before it moved
    eventually(lambda: stage.alive() == ["two"])


def test_old_models_are_let_go(stage: Stage) -> None:
    names = [f"r{n}" for n in range(6)]
    stage.add(*names).add("book", recipe="closed-book").releases.promote("book")
    speakers = stage.speakers()
    assert speaks(speakers, "finetuned") == "book"
    for name in names:
        stage.releases.promote(name)
        wait_for(speakers, "hybrid", name)
        eventually(lambda name=name: stage.alive() == sorted(["base", "book", name]) or stage.alive() == ["book", name])


def test_a_release_that_cannot_be_loaded_leaves_the_old_one_serving(
    stage: Stage, bot_with: BotWith, caplog: pytest.LogCaptureFixture
) -> None:
    stage.add("one", "bad", "three").releases.promote("one")
    stage.broken.add("bad")
    speakers = stage.speakers()
    bot = bot_with(speakers)
    assert bot.answer("How do I export my data?").release == "one"
    stage.releases.promote("bad")
    eventually(lambda: "release bad cannot be loaded; one goes on serving" in caplog.text)
    assert [r.levelno for r in caplog.records if "cannot be loaded" in r.message] == [logging.ERROR]
    time.sleep(0.1)
    assert bot.answer("How do I export my data?").release == "one" and stage.loads.count("bad") == 1
    stage.releases.promote("three")
    wait_for(speakers, "hybrid", "three")


@pytest.mark.parametrize("harm", ["no templates", "no such release", "no name"])
def test_a_damaged_release_leaves_the_old_one_serving(
    stage: Stage, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    stage.add("one", "bad").releases.promote("one")
    speakers = stage.speakers()
    assert speaks(speakers, "hybrid") == "one"
    match harm:
        case "no templates":
            (stage.releases.folder / "bad" / "templates" / "question.txt").unlink()
            stage.releases.promote("bad")
        case "no such release":
            stage.releases._write(Promoted(hybrid="nobody"))
        case "no name":
            stage.releases._write(Promoted(hybrid="../one"))
    eventually(lambda: "cannot be loaded; one goes on serving" in caplog.text)
    assert speaks(speakers, "hybrid") == "one"


def test_a_broken_recipe_does_not_hold_up_the_other(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.add("one", "two").add("bad", recipe="closed-book")
    stage.broken.add("bad")
    stage.releases.promote("one")
    speakers = stage.speakers()
    assert speaks(speakers, "finetuned") == "one"
    stage.releases.promote("bad")
    eventually(lambda: "release bad cannot be loaded; the base model goes on serving" in caplog.text)
    stage.releases.promote("two")
    wait_for(speakers, "hybrid", "two")
    assert speaks(speakers, "finetuned") == "two"


def test_what_cannot_be_loaded_at_first_is_raised_and_tried_again(stage: Stage) -> None:
    stage.add("one").releases.promote("one")
    stage.broken.add("one")
    speakers = stage.speakers()
    with pytest.raises(ModelError, match="one is broken"):
        speakers.speaker("hybrid")
    assert speaks(speakers, "rag") == "base"
    stage.broken.clear()
    assert speaks(speakers, "hybrid") == "one"


def test_a_promoted_release_that_is_gone_is_named(stage: Stage) -> None:
    stage.add("one").releases.promote("one")
    (stage.releases.folder / "one").rename(stage.releases.folder / "two")
    with pytest.raises(NoRelease, match="'one'"):
        stage.speakers().speaker("hybrid")


def test_a_damaged_pointer_changes_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.add("one", "two").releases.promote("one")
    speakers = stage.speakers()
    assert speaks(speakers, "hybrid") == "one"
    pointer = stage.releases.folder / "promoted.json"
    whole = pointer.read_text()
    pointer.write_text("{")
    eventually(lambda: "what is promoted cannot be read" in caplog.text)
    time.sleep(0.1)
    assert speaks(speakers, "hybrid") == "one" and caplog.text.count("cannot be read, and nothing changes") == 1
    with pytest.raises(ReleaseError, match="promoted.json cannot be read"):
        stage.speakers().speaker("hybrid")
    pointer.write_text(whole)
    stage.releases.promote("two")
    wait_for(speakers, "hybrid", "two")


def test_nobody_watches_for_speakers_that_are_gone(stage: Stage) -> None:
    def watching() -> int:
        return sum(thread.name == "pointer" for thread in threading.enumerate())

    before = watching()
    several = [stage.speakers() for _ in range(3)]
    for speakers in several:
        speakers.release("hybrid")
    assert watching() == before + 3
    speakers = several.pop()
    del several
    eventually(lambda: watching() <= before + 1)
    del speakers
    eventually(lambda: watching() <= before)


# ---------------------------------------------------------------- all of it at once


class Askers:
    """Threads that ask one bot until they are told to stop; `wrong` gathers whatever should not be."""

    def __init__(self, bot: SupportBot) -> None:
        self.answered: dict[str | None, int] = {}
        self.wrong: list[object] = []
        self._bot = bot
        self._stop = threading.Event()
        modes: tuple[Mode, ...] = ("hybrid", "hybrid", "finetuned", "rag")
        self._threads = [threading.Thread(target=self._ask, args=(mode,)) for mode in modes]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, mode: Mode) -> None:
        while not self._stop.is_set():
            try:
                answer = self._bot.answer("How do I export my data?", mode=mode)
                turn = self._bot.turns.turn(answer.turn_id, Caller())
                wrote = turn.raw.rpartition("Written by ")[2].rstrip(".")
                right = wrote == (answer.release or "base") == turn.model and turn.release == answer.release
                if not right or answer.action != "answer" or (mode == "rag" and answer.release):
                    self.wrong.append((mode, answer, turn.raw))
                self.answered[answer.release] = self.answered.get(answer.release, 0) + 1
            except Exception as error:  # whatever it is, the test names it
                self.wrong.append(error)


@pytest.mark.slow
def test_forty_moves_of_the_pointer_under_questions(
    tmp_path: Path, bot_with: BotWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty promotions and twenty rollbacks: no failed answer, none under another's name, no model kept."""
    stage = Stage(tmp_path)
    stage.delay = 0.001
    names, books = [f"r{n}" for n in range(4)], ["book0", "book1"]
    stage.add(*names).add(*books, recipe="closed-book")
    speakers = stage.speakers()
    askers = Askers(bot_with(speakers))
    chance = random.Random(20260503)
    moves = ["promote"] * 20 + ["rollback"] * 20
    waited: list[float] = []

    def move(kind: str) -> None:
        now = stage.releases.promoted()
        if kind == "promote":
            stage.releases.promote(
                chance.choice([n for n in [*names, *books] if n not in (now.hybrid, now.closed_book)])
            )
        else:
            stage.releases.rollback()

    def followed() -> bool:
        pointer = stage.releases.promoted()
        return (speakers.release("hybrid"), speakers.release("finetuned")) == (
            pointer.hybrid,
            pointer.closed_book or pointer.hybrid,
        )

    try:
        eventually(lambda: askers.answered)
        while moves:
            depth = len(stage.releases.promoted().history)
            kind = "promote" if depth == 0 else chance.choice(moves)
            kind = kind if kind in moves else moves[0]
            moves.remove(kind)
            move(kind)
            started = time.monotonic()
            eventually(followed)
            waited.append(time.monotonic() - started)
    finally:
        askers.stop()
    assert askers.wrong == []
    assert {None, *names, *books} == set(askers.answered), "some release never spoke"
    assert len(waited) == 40 and min(waited) < 2.0 and module._LOOK_EVERY < 1.0  # a busy machine may take longer
    pointer = stage.releases.promoted()
    expected = {"base", *(name for name in (pointer.hybrid, pointer.closed_book) if name)}
    eventually(lambda: set(stage.alive()) <= expected and len(stage.alive()) <= 3)


def test_the_stand_in_says_who_it_is() -> None:
    """The tests above rest on it."""
    model = ScriptedModel(signed("one"))
    assert "".join(model.stream([], Sampling())).endswith("Written by one.")
