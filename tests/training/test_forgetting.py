"""What a candidate forgot: the items, the scores of real weights, the comparison and the verdict."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prompts.tokenizer import ChatTokenizer
from tests.bot.tiny_model import tiny_adapter, tiny_base
from training import forgetting
from training.choices import KNOWLEDGE, Item, choose, items_digest, load_items
from training.errors import CasesError
from training.forgetting import compare, forgets, items_of, score, scored
from training.metrics import Metric

ROW = {"question": "What is wet?", "choices": ["Fire", "Water"], "answer": 1}
FOUR = {
    "instruction": "Please choose the correct answer to the question: Which is it: this?\n\nAnswer1: One: a. Answer2: "
    "Two\n\nAnswer format: answer1/answer2",
    "input": "",
    "output": "the correct answer is answer2",
    "answer": "answer2",
}
TRUE = {
    "instruction": "Please answer the following question with true or false, question: is it so?\n\nAnswer format: "
    "true/false",
    "answer": "false",
}
SOLUTION = {
    "instruction": "Please choose the correct solution to the question: How?\n\nSolution1: Like this.\n\nSolution2: "
    "Like that.\n\nAnswer format: solution1/solution2",
    "answer": "solution1",
}


# ---------------------------------------------------------------- items


def written(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_the_shipped_items() -> None:
    items = load_items(KNOWLEDGE)
    assert len(items) == 240 == len({item.question for item in items})
    assert {item.set_name for item in items} == {"general_knowledge"}
    assert all(len(set(item.choices)) == 4 for item in items)
    right = [sum(item.answer == n for item in items) for n in range(4)]
    assert min(right) > 40, "always the same choice must not score well"


def test_both_forms_of_a_file(tmp_path: Path) -> None:
    assert load_items(written(tmp_path / "own.jsonl", ROW, "")) == [
        Item("What is wet?", ("Fire", "Water"), 1, "own"),
    ]
    assert load_items(written(tmp_path / "ARC" / "test.json", json.dumps([FOUR, TRUE, SOLUTION]))) == [
        Item("Which is it: this?", ("One: a.", "Two"), 1, "ARC"),
        Item("is it so?", ("true", "false"), 1, "ARC"),
        Item("How?", ("Like this.", "Like that."), 0, "ARC"),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "{no json",
        "7",
        "null",
        {**ROW, "question": " "},
        {**ROW, "choices": ["Fire"]},
        {**ROW, "choices": ["Fire", ""]},
        {**ROW, "choices": ["Fire", "Water", 3]},
        {**ROW, "answer": 2},
        {**ROW, "answer": -1},
        {**ROW, "answer": "B"},
        {**FOUR, "answer": "answer3"},
        {**FOUR, "answer": "the second"},
        {**FOUR, "instruction": "Answer2: Two Answer1: One"},
        {**FOUR, "instruction": "Which is it?"},
        {**TRUE, "instruction": "is it so?"},
    ],
)
def test_what_is_no_item_is_left_out_and_counted(tmp_path: Path, bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "own.jsonl", bad, ROW, bad)
    with caplog.at_level(logging.WARNING):
        assert [item.question for item in load_items(path)] == ["What is wet?"]
    assert f"{path}: 2 of 3 rows are no items" in caplog.text


def test_a_file_without_items_says_what_to_write(tmp_path: Path) -> None:
    for name, text in {"empty.jsonl": "", "bad.json": "[{", "none.json": "[]"}.items():
        with pytest.raises(CasesError, match='holds no items; write lines such as {"question"'):
            load_items(written(tmp_path / name, text))
    with pytest.raises(CasesError, match="cannot be read"):
        load_items(tmp_path / "missing.jsonl")


def numbered(count: int, set_name: str = "s") -> list[Item]:
    return [Item(f"w{n}", ("w1", "w2"), n % 2, set_name) for n in range(count)]


def test_items_are_drawn_in_the_order_of_the_file() -> None:
    items = numbered(50)
    drawn = choose(items, 20, seed=3)
    assert drawn == choose(items, 20, seed=3) != choose(items, 20, seed=4)
    assert [items.index(item) for item in drawn] == sorted(items.index(item) for item in drawn)
    assert len(set(drawn)) == 20
    assert choose(items, 50, seed=3) == choose(items, 999, seed=3) == items


def test_the_shipped_items_stand_in_where_no_file_is_named(tmp_path: Path) -> None:
    assert items_of((), 1500, 0) == load_items(KNOWLEDGE)
    paths = [written(tmp_path / f"{name}.jsonl", ROW) for name in ("a", "b")]
    assert [item.set_name for item in items_of(paths, 1500, 0)] == ["a", "b"]


def test_the_digest_tells_items_and_orders_apart() -> None:
    items = numbered(3)
    assert items_digest(items) == items_digest(list(items))
    assert len({items_digest(i) for i in (items, items[::-1], items[:2], numbered(3, "t"))}) == 4


# ---------------------------------------------------------------- comparison and verdict


def test_the_comparison_is_paired_and_by_set() -> None:
    items = [*numbered(60, "a"), *numbered(40, "b")]
    before = [True] * 50 + [False] * 50
    after = [True] * 40 + [False] * 60
    found = compare(items, before, after)
    assert found == compare(items, before, after)
    assert found.all.n == 100 and found.all.value == pytest.approx(-0.10)
    assert found.all.low is not None and found.all.high is not None
    assert -0.17 < found.all.low < -0.13 and -0.07 < found.all.high < -0.03  # standard error of 10 losses: 0.03
    first, second = found.sets
    assert (first.name, first.n, first.before, first.after) == ("a", 60, 50 / 60, 40 / 60)
    assert first.difference.value == pytest.approx(-10 / 60)
    assert (second.name, second.before, second.difference) == ("b", 0.0, Metric(0.0, 0.0, 0.0, 40))


def test_scores_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError):
        compare(numbered(2), [True, True], [True])


@pytest.mark.parametrize(
    ("value", "low", "high", "n", "reason"),
    [
        (-0.010, -0.029, 0.010, 1000, None),
        (0.020, 0.001, 0.040, 1000, None),
        (-0.010, -0.030, 0.010, 1000, "may have fallen by more than 3 points"),
        (-0.050, -0.070, -0.030, 2876, "fell"),
        (-0.010, -0.080, 0.060, 240, None),
        (-0.029, -0.050, -0.001, 240, None),
        (-0.060, -0.130, 0.010, 240, None),
        (-0.060, -0.130, 0.000, 240, None),
        (-0.060, -0.110, -0.010, 240, "fell"),
        (-0.060, -0.110, -0.010, 999, "fell"),
        (None, None, None, 0, "not measured"),
    ],
)
def test_the_verdict(value: float | None, low: float | None, high: float | None, n: int, reason: str | None) -> None:
    said = forgets(Metric(value, low, high, n))
    assert (said is None) is (reason is None)
    assert reason is None or reason in str(said)


def test_the_verdict_says_what_was_measured_and_what_to_do() -> None:
    assert forgets(Metric(-0.0512, -0.07, -0.033, 2876)) == (
        "general knowledge fell (-5.1 points, 95 % interval -7.0 to -3.3, 2876 items): "
        "train with more replay, a lower learning rate or fewer epochs"
    )


# ---------------------------------------------------------------- scores


class Told:
    """Keep what was told; fulfils training.progress.Tell."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []

    def line(self, text: str) -> None:
        raise AssertionError(text)

    def progress(self, name: str, done: int, total: int, detail: str = "") -> None:
        self.steps.append((name, done, total))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """Replace the models by a fixed score and keep which adapters were asked for it."""
    asked: list[Path | None] = []

    def fixed(base: Path, adapter: Path | None, items: Sequence[Item], progress: Callable[..., None]) -> list[bool]:
        asked.append(adapter)
        return [item.answer == 1 for item in items]

    monkeypatch.setattr(forgetting, "score", fixed)
    monkeypatch.setattr(forgetting, "_precision", lambda: "float32")
    return asked


def test_the_same_model_and_items_are_scored_once(tmp_path: Path, counted: list[Path | None]) -> None:
    base, other = tiny_base(tmp_path / "base"), tiny_base(tmp_path / "other", seed=9)
    adapters = [tiny_adapter(tmp_path / f"adapter{n}", seed=n) for n in (1, 2)]
    cache = tmp_path / "evaluations" / "forgetting.json"
    for _ in range(2):
        for adapter in (None, *adapters):
            assert scored(base, adapter, numbered(4), cache, Told()) == [False, True, False, True]
    assert counted == [None, *adapters]
    scored(base, None, numbered(3), cache, Told())
    scored(other, None, numbered(4), cache, Told())
    assert counted == [None, *adapters, None, None]


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_broken_cache_is_made_anew(tmp_path: Path, counted: list[Path | None], text: str) -> None:
    base, cache = tiny_base(tmp_path / "base"), tmp_path / "forgetting.json"
    cache.write_text(text)
    for _ in range(2):
        assert scored(base, None, numbered(2), cache, Told()) == [False, True]
    assert counted == [None]


LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ITEMS = [
    Item(" ".join(f"w{n + k}" for k in range(3 + n % 5)), (f"w{n} w{n + 1}", f"w{n + 2}", f"w{n + 3} w3 w4"), 0, "s")
    for n in range(24)
]


def plain_answers(base: Path, adapter: Path | None) -> list[int]:
    """Answer each item with transformers and peft as they are, one choice at a time; fp32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    tokenizer = ChatTokenizer(base)
    answers = []
    for item in ITEMS:
        found = []
        for choice in item.choices:
            own = tokenizer.encode(choice)
            ids = torch.tensor([[*tokenizer.encode(f"Question: {item.question}\nAnswer:"), *own]])
            with torch.no_grad():
                logits = model(ids).logits[0, -len(own) - 1 : -1]
            table = torch.log_softmax(logits, dim=-1)
            found.append(float(table[range(len(own)), own].mean()))
        answers.append(found.index(max(found)))
    return answers


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft uses what transformers will remove
@pytest.mark.parametrize("with_adapter", [False, True])
def test_scores_are_those_of_each_choice_alone(
    tmp_path: Path, with_adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_base(tmp_path / "base")
    adapter = tiny_adapter(tmp_path / "adapter", target_modules=LINEAR, task_type="CAUSAL_LM") if with_adapter else None
    answers = plain_answers(base, adapter)
    assert len(set(answers)) == 3
    assert with_adapter is (answers != plain_answers(base, None))
    items = [Item(i.question, i.choices, answer, "s") for i, answer in zip(ITEMS, answers, strict=True)]
    monkeypatch.setattr(forgetting, "_precision", lambda: "float32")
    monkeypatch.setattr(forgetting, "_FORWARD_TOKENS", 60)
    told = Told()
    assert score(base, adapter, items, told.progress) == [True] * len(items)
    wrong = [Item(i.question, i.choices, (i.answer + 1) % 3, "s") for i in items]
    assert score(base, adapter, wrong, told.progress) == [False] * len(items)
    name = f"general knowledge: {'candidate' if with_adapter else 'base'}"
    assert {step[0] for step in told.steps} == {name} and len(told.steps) > 8
    assert told.steps[0] == (name, 0, 24) and told.steps[-1] == (name, 24, 24)


@pytest.mark.slow
def test_scoring_in_this_machines_precision_does_not_depend_on_the_neighbours(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    answers = score(base, None, ITEMS, Told().progress)
    assert score(base, None, ITEMS, Told().progress) == answers
    assert len(answers) == 24 and 0 < sum(answers) < 24
    assert score(base, None, [ITEMS[0]], Told().progress) == answers[:1]


def test_a_tokenizer_may_join_the_prompts_end_to_the_choice() -> None:
    class Joining:
        """Make one id of all that stands before "Answer", one of it, and one of the colon and what follows."""

        def encode(self, text: str) -> list[int]:
            return [sum(part.encode()) for part in text.partition("Answer")]

    found = forgetting._encode(Item("Why?", ("One", "Two"), 0, "s"), Joining())  # type: ignore[arg-type]
    assert len(found.prefix) == 1 and found.starts == (1, 1)
    assert [len(branch) for branch in found.branches] == [2, 2]
    assert found.branches[0][0] == found.branches[1][0] and found.branches[0][1] != found.branches[1][1]
