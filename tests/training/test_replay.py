"""Replay: the base model's own answers, asked once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.models import ChatModel, Sampling
from bot.settings import load_settings
from prompts.messages import Message
from prompts.tokenizer import ChatTokenizer
from tests.bot.tiny_model import tiny_base
from tests.conftest import Deployment
from tests.stand_ins import ScriptedModel
from training import replay
from training.encode import encode
from training.errors import RunError
from training.replay import PROMPTS, general_examples, replay_examples, whole_sentences

ASKED = ["What is a comet?", "Why is rain wet?", "Who wrote Emma?"]
LONG = "A comet is ice. " * 30 + "It has a ta"  # more than 96 tokens, as ScriptedModel counts them


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join([ASKED[0], "", *ASKED, ""]))  # one of them twice
    return path


def quiet(name: str, done: int, total: int) -> None:
    pass


def never() -> ChatModel:
    raise AssertionError("the model is not needed")


def answer(messages: Sequence[Message]) -> str:
    return f"You asked: {messages[-1].content}"


def test_the_shipped_prompts() -> None:
    asked = PROMPTS.read_text(encoding="utf-8").splitlines()
    assert len(asked) == 500 == len(set(asked)) and all(line == line.strip() != "" for line in asked)


def test_answers_become_examples_and_are_asked_for_once(base: Path, prompts: Path, tmp_path: Path) -> None:
    model, cache, told = ScriptedModel(answer), tmp_path / "cache" / "replay.jsonl", list[tuple[str, int, int]]()
    found = replay_examples(prompts, base, lambda: model, cache, 500, lambda *step: told.append(step))
    assert [example.answer for example in found] == [f"You asked: {prompt}" for prompt in ASKED]
    assert [example.messages for example in found] == [(Message("user", prompt),) for prompt in ASKED]
    assert [example.question for example in found] == ASKED
    assert len({example.id for example in found}) == len({example.conversation for example in found}) == 3
    assert model.samplings == [Sampling(max_tokens=96)] * 3 and model.samplings[0].temperature == 0
    assert told == [("replay", n, 3) for n in range(4)]
    assert replay_examples(prompts, base, never, cache, 500, quiet) == found
    assert replay_examples(prompts, base, never, cache, 2, quiet) == found[:2]


def test_only_what_is_missing_is_asked(base: Path, prompts: Path, tmp_path: Path) -> None:
    model, cache, told = ScriptedModel(answer), tmp_path / "replay.jsonl", list[tuple[str, int, int]]()
    replay_examples(prompts, base, lambda: model, cache, 1, quiet)
    replay_examples(prompts, base, lambda: model, cache, 3, lambda *step: told.append(step))
    assert [messages[-1].content for messages in model.asked] == ASKED
    assert told == [("replay", 1, 3), ("replay", 2, 3), ("replay", 3, 3)]


def test_another_base_answers_for_itself(base: Path, prompts: Path, tmp_path: Path) -> None:
    other, cache = tiny_base(tmp_path / "other", seed=1), tmp_path / "replay.jsonl"
    replay_examples(prompts, base, lambda: ScriptedModel("One."), cache, 3, quiet)
    replay_examples(prompts, other, lambda: ScriptedModel("Two."), cache, 3, quiet)
    for folder, said in ((base, "One."), (other, "Two.")):
        assert {e.answer for e in replay_examples(prompts, folder, never, cache, 3, quiet)} == {said}


@pytest.mark.parametrize("half", ["", '{"base": "', '{"base": "x"}', "7", "\N{SNOWMAN}"])
def test_a_kill_loses_one_answer_at_most(base: Path, prompts: Path, tmp_path: Path, half: str) -> None:
    def breaks(messages: Sequence[Message]) -> str:
        if messages[-1].content == ASKED[2]:
            raise KeyboardInterrupt
        return answer(messages)

    cache = tmp_path / "replay.jsonl"
    with pytest.raises(KeyboardInterrupt):
        replay_examples(prompts, base, lambda: ScriptedModel(breaks), cache, 3, quiet)
    with cache.open("ab") as file:
        file.write(half.encode()[:-1] if half == "\N{SNOWMAN}" else half.encode())
    model = ScriptedModel(answer)
    found = replay_examples(prompts, base, lambda: model, cache, 3, quiet)
    assert [messages[-1].content for messages in model.asked] == ASKED[2:]
    assert found == replay_examples(prompts, base, never, cache, 3, quiet) and len(found) == 3


def test_an_answer_cut_off_ends_with_its_last_whole_sentence(base: Path, prompts: Path, tmp_path: Path) -> None:
    cache = tmp_path / "replay.jsonl"
    (found,) = replay_examples(prompts, base, lambda: ScriptedModel(LONG), cache, 1, quiet)
    assert found.answer == ("A comet is ice. " * 30).strip()


def test_an_answer_that_ended_stays_as_it_is(base: Path, prompts: Path, tmp_path: Path) -> None:
    said = " Two kinds:\n- ice\n- dust "
    (found,) = replay_examples(prompts, base, lambda: ScriptedModel(said), tmp_path / "r.jsonl", 1, quiet)
    assert found.answer == said.strip()


@pytest.mark.parametrize("said", ["", " \n", "word " * 100])
def test_without_a_whole_sentence_there_is_no_example(base: Path, prompts: Path, tmp_path: Path, said: str) -> None:
    cache = tmp_path / "replay.jsonl"
    assert replay_examples(prompts, base, lambda: ScriptedModel(said), cache, 3, quiet) == []
    assert replay_examples(prompts, base, never, cache, 3, quiet) == []


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One is so. Two is e.g. a thing. Three is", "One is so. Two is e.g. a thing."),
        ("Here:\n1. First is good.\n2. Sec", "Here:\n1. First is good."),
        ("Here:\n1. First is good.\n2.", "Here:\n1. First is good."),
        ("Begins. The steps are:\n\n1. **Cut**: bread and", "Begins."),
        ('It is $3.5, "fine." And', 'It is $3.5, "fine."'),
        ("It is **bold.** And", "It is **bold.**"),
        ("All is whole.", "All is whole."),
        ("Is it? Yes!", "Is it? Yes!"),
        ("- ice\n- dust", ""),
        ("no end", ""),
        ("", ""),
    ],
)
def test_whole_sentences(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


def test_a_file_without_prompts_is_an_error(base: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    for name, reason in {"empty.txt": "holds no prompts; write one", "missing.txt": "cannot be read"}.items():
        with pytest.raises(RunError, match=reason):
            replay_examples(tmp_path / name, base, never, tmp_path / "replay.jsonl", 3, quiet)


def test_an_example_is_what_a_plain_chat_of_the_base_is(
    smollm: ChatTokenizer, base: Path, prompts: Path, tmp_path: Path
) -> None:
    model = ScriptedModel("It is ice.")
    (found,) = replay_examples(prompts, base, lambda: model, tmp_path / "replay.jsonl", 1, quiet)
    encoded = encode(found, smollm)
    assert list(encoded.ids[: encoded.start]) == smollm.encode_messages(model.asked[0])
    assert smollm.decode(encoded.ids[: encoded.start]).startswith("system\nYou are a helpful AI assistant named SmolLM")
    assert smollm.decode(encoded.ids[encoded.start :]) == "It is ice."


def test_a_run_asks_its_own_base_and_deployments_share_the_answers(
    base: Path, deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told:
        def line(self, text: str) -> None:
            raise AssertionError(text)

        def progress(self, name: str, done: int, total: int, detail: str = "") -> None:
            assert (name, total) == ("replay", 2)

    asked: list[str] = []

    def build(settings: object) -> ScriptedModel:
        asked.append(settings.bot.model)  # type: ignore[attr-defined]
        return ScriptedModel(answer)

    monkeypatch.setattr(replay, "build_model", build)
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    settings = load_settings()
    found = general_examples(settings, base, 2, Told())
    assert len(found) == 2 and found == general_examples(settings, base, 2, Told())
    assert asked == [str(base)]
    rows = (tmp_path / "cache" / "replay.jsonl").read_text().splitlines()
    assert [json.loads(row)["prompt"] for row in rows] == [e.question for e in found]
