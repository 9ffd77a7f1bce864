"""Training an adapter: it learns, the same seed gives the same, and a killed run goes on as if nothing had been."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.bot.tiny_model import tiny_base
from training.encode import Encoded, Pack, pack
from training.errors import RunError
from training.lora import Hyperparameters, LoraTrainer, Point, _schedule, curve, layout_of

REPOSITORY = Path(__file__).parents[2]
SETTINGS = Hyperparameters(
    rank=4, alpha=8, learning_rate=0.02, epochs=12, examples_per_step=2, pack_tokens=30, evaluations=6, patience=99
)  # two examples a pack, so two steps an epoch
MANY = replace(SETTINGS, checkpoint_minutes=0.0)  # a checkpoint after every step
torch_needed = pytest.mark.filterwarnings("ignore")  # torch, transformers and peft warn at will


def encoded(prompt: Sequence[int], answer: Sequence[int]) -> Encoded:
    return Encoded((*prompt, *answer), len(prompt))


def examples(count: int, seed: int = 0) -> list[Encoded]:
    """Give examples on words of the tiny base, each with a prompt of its own and the end token (2)."""
    draw = random.Random(seed)
    return [encoded([1, *draw.sample(range(6, 64), 6), 4], [*draw.sample(range(6, 64), 4), 2]) for _ in range(count)]


TRAIN, VALIDATION = examples(4), examples(2, seed=7)


@pytest.fixture(scope="module")
def base(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("models") / "tiny")


def run(
    base: Path,
    folder: Path,
    settings: Hyperparameters = SETTINGS,
    *,
    train: Sequence[Encoded] = TRAIN,
    validation: Sequence[Encoded] = VALIDATION,
    identity: str = "x",
    report: Callable[[Point], None] = lambda point: None,
) -> Path:
    return LoraTrainer(base, folder, settings, identity).run(train, validation, report)


def weights_of(adapter: Path) -> str:
    return hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def losses(folder: Path) -> list[tuple[int, float, float | None]]:
    return [(point.step, point.loss, point.validation) for point in curve(folder)]


# What needs no model


@pytest.mark.parametrize(("epochs", "per_step"), [(1, 1), (1, 16), (2, 5), (3, 100), (0.5, 4)])
def test_steps_take_every_pack_once_an_epoch(epochs: float, per_step: int) -> None:
    packs = [Pack((), ((n, 1),) * (1 + n % 3), (1,) * (1 + n % 3)) for n in range(20)]
    settings = Hyperparameters(epochs=epochs, examples_per_step=per_step)
    steps = LoraTrainer(Path(), Path(), settings, "x")._steps(packs)
    taken = Counter(one for step in steps for one in step)
    sizes = [sum(len(one.branches) for one in step) for step in steps]
    total = sum(len(one.branches) for one in packs) * epochs
    assert total <= sum(sizes) < total + per_step + 3
    assert all(per_step <= size < per_step + 3 for size in sizes[:-1])
    assert set(taken.values()) <= {int(epochs), int(epochs) + 1}
    if epochs >= 1:
        assert len(taken) == 20
    again = LoraTrainer(Path(), Path(), settings, "x")._steps(packs)
    other = LoraTrainer(Path(), Path(), replace(settings, seed=1), "x")._steps(packs)
    assert steps == again and (steps != other or len(steps) == 1)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [_schedule(step / 200, 0.1) for step in range(200)]
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == pytest.approx(1, abs=0.01)
    top = rates.index(max(rates))
    assert 18 <= top <= 21
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.001)
    assert _schedule(0.0, 0.0) == 1.0


def test_each_branch_goes_on_from_the_prefix_and_predicts_its_answer() -> None:
    one = Pack((10, 11, 12), ((20, 21, 22), (30, 31, 32, 33)), (2, 1))
    positions, predicting, wanted = layout_of(one)
    assert positions == [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]
    assert wanted == [22, 31, 32, 33]
    ids = [*one.prefix, *one.branches[0], *one.branches[1]]
    assert [ids[row] for row in predicting] == [21, 30, 31, 32]


def test_without_examples_there_is_no_run(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(RunError, match="no examples"):
        run(tmp_path, tmp_path / "run", train=[])
    assert not (tmp_path / "run").exists()


# One run


@pytest.fixture(scope="module")
def finished(torch: Any, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    run(base, folder, MANY)
    return folder


@pytest.mark.slow
@torch_needed
def test_four_examples_are_learned_by_heart(torch: Any, base: Path, tmp_path: Path) -> None:
    before = contents(base)
    points: list[Point] = []
    settings = replace(SETTINGS, epochs=40, examples_per_step=4)
    adapter = run(base, tmp_path / "run", settings, validation=[], report=points.append)
    assert points[0].loss > 3 and points[-1].loss < 0.3  # its small embeddings allow no less than 0.15
    assert contents(base) == before, "the base model's folder is only read"
    assert [point.step for point in points] == list(range(1, points[0].steps + 1))
    assert points[-1].seconds_left == 0 and all(point.tokens_per_second > 0 for point in points)
    assert list(curve(tmp_path / "run")) == points

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    frozen = {name: weight.clone() for name, weight in plain.state_dict().items()}
    model = PeftModel.from_pretrained(plain, adapter)
    for one in TRAIN:
        predicted = model(input_ids=torch.tensor([one.ids])).logits[0].argmax(-1).tolist()
        assert tuple(predicted[one.start - 1 : -1]) == one.ids[one.start :]
    unloaded = model.unload().state_dict()
    assert all(torch.equal(unloaded[name], weight) for name, weight in frozen.items())


@pytest.mark.slow
@torch_needed
def test_the_base_is_not_trained(torch: Any, base: Path, tmp_path: Path) -> None:
    trainer = LoraTrainer(base, tmp_path / "run", SETTINGS, "x")
    trainer.run(TRAIN, [], lambda point: None)
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(base, dtype=next(trainer._model.parameters()).dtype)
    trained = trainer._model.unload().state_dict()
    for name, weight in original.state_dict().items():
        assert torch.equal(trained[name].cpu(), weight), name


@pytest.mark.slow
@torch_needed
def test_an_adapter_is_plain_peft_and_names_no_machine(finished: Path, base: Path) -> None:
    adapter = finished / "adapter"
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    text = (adapter / "adapter_config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8)
    assert config["base_model_name_or_path"] == "tiny"
    assert str(base.parent) not in text and str(Path.home()) not in text

    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        assert len(list(file.keys())) == 2 * 7 * 2
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}


@pytest.mark.slow
@torch_needed
def test_the_same_seed_gives_the_same_adapter(finished: Path, base: Path, tmp_path: Path) -> None:
    again = run(base, tmp_path / "again", SETTINGS)
    assert weights_of(again) == weights_of(finished / "adapter")
    assert losses(tmp_path / "again") == losses(finished)
    other = run(base, tmp_path / "other", replace(SETTINGS, seed=1))
    assert weights_of(other) != weights_of(again)


@pytest.mark.slow
@torch_needed
def test_a_config_is_the_same_in_every_process(base: Path, tmp_path: Path) -> None:
    """A set's order differs from process to process."""
    configs = set()
    for seed in ("1", "2"):
        child = start(base, tmp_path / seed, replace(SETTINGS, epochs=1), PYTHONHASHSEED=seed)
        assert finish(child)[-1] == "done"
        configs.add((tmp_path / seed / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert len(configs) == 1


@pytest.mark.slow
@torch_needed
def test_the_order_of_examples_is_of_no_account_beside_the_seed(finished: Path, base: Path, tmp_path: Path) -> None:
    """Packs are made of sorted examples, so that a log exported in another order trains alike."""
    mixed = run(base, tmp_path / "mixed", SETTINGS, train=TRAIN[::-1])
    assert weights_of(mixed) == weights_of(finished / "adapter")


# Stopping early


@pytest.mark.slow
@torch_needed
def test_a_run_stops_where_validation_gets_worse_and_keeps_the_best(torch: Any, base: Path, tmp_path: Path) -> None:
    """The same prompts with other answers: what is learned is wrong there, once more than the common is learned."""
    draw = random.Random(5)
    contrary = [encoded(one.ids[: one.start], [*draw.sample(range(6, 64), 4), 2]) for one in TRAIN]
    settings = replace(SETTINGS, epochs=60, examples_per_step=4, evaluations=30, patience=3)
    points: list[Point] = []
    adapter = run(base, tmp_path / "run", settings, validation=contrary, report=points.append)
    measured = [point.validation for point in points if point.validation is not None]
    assert points[-1].step < points[-1].steps, "it ran to its end"
    best = measured.index(min(measured))
    assert len(measured) == best + 1 + 3, "it stops after as many evaluations as it is patient"

    trainer = LoraTrainer(base, tmp_path / "other", settings, "x")
    trainer._prepare()
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(trainer._model, load_file(adapter / "adapter_model.safetensors"))
    kept = trainer._evaluate(pack(contrary, settings.pack_tokens))
    assert kept == pytest.approx(measured[best], rel=0.01), "saved in bf16"
    assert abs(kept - measured[-1]) > 0.02 * kept

    before = contents(tmp_path / "run")
    run(base, tmp_path / "run", settings, validation=contrary, report=points.append)
    assert contents(tmp_path / "run") == before, "a run that has stopped is not trained on"


@pytest.mark.slow
@torch_needed
def test_training_goes_on_from_another_adapter(finished: Path, base: Path, tmp_path: Path) -> None:
    held_out = pack(TRAIN, SETTINGS.pack_tokens)
    trainers = [
        LoraTrainer(base, tmp_path / str(n), SETTINGS, "x", start=s) for n, s in enumerate((None, finished / "adapter"))
    ]
    for trainer in trainers:
        trainer._prepare()
    anew, on = (trainer._evaluate(held_out) for trainer in trainers)
    assert on < anew * 0.95


@torch_needed
def test_an_adapter_of_another_rank_is_no_start(finished: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="rank 3"):
        LoraTrainer(base, tmp_path / "run", replace(SETTINGS, rank=3), "x", start=finished / "adapter")._prepare()


@pytest.mark.slow
@torch_needed
def test_a_finished_run_is_not_trained_again(finished: Path, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    told: list[Point] = []
    assert run(base, folder, MANY, report=told.append) == folder / "adapter"
    assert told == [] and contents(folder) == contents(finished)


@pytest.mark.slow
@torch_needed
def test_other_data_or_settings_start_anew(finished: Path, base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    settings = replace(MANY, learning_rate=0.01)
    run(base, folder, settings, identity="y")
    run(base, tmp_path / "fresh", settings, identity="y")
    assert weights_of(folder / "adapter") == weights_of(tmp_path / "fresh" / "adapter")
    assert losses(folder) == losses(tmp_path / "fresh")


# Kills


class Killed(BaseException):
    """Stand for SIGKILL: nothing in the code catches it."""


def killing(patch: pytest.MonkeyPatch, at: int) -> list[str]:
    """Die before the `at`-th step that changes folders; returns the steps, for counting them."""
    seen: list[str] = []
    rename, rmtree, mkdir = Path.rename, shutil.rmtree, Path.mkdir

    def dying(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def step(*given: Any, **options: Any) -> Any:
            seen.append(f"{name} {given[0]}")
            if len(seen) == at:
                raise Killed
            return act(*given, **options)

        return step

    patch.setattr(Path, "rename", dying("rename", rename))
    patch.setattr(Path, "mkdir", dying("mkdir", mkdir))
    patch.setattr(shutil, "rmtree", dying("rmtree", rmtree))
    return seen


SHORT = replace(MANY, epochs=2, evaluations=2)  # four steps, two evaluations
LEFT_OVER = {f"{name}.{end}" for name in ("adapter", "checkpoint") for end in ("old", "new")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@torch_needed
def test_a_run_killed_at_any_change_of_its_folder_goes_on(torch: Any, base: Path, tmp_path: Path) -> None:
    """It is killed twice, at every step and again soon after it went on."""
    short = replace(SHORT, epochs=1)
    run(base, tmp_path / "whole", short)
    with pytest.MonkeyPatch.context() as patch:
        seen = killing(patch, at=-1)
        run(base, tmp_path / "counted", short)
    expected, wanted = weights_of(tmp_path / "whole" / "adapter"), losses(tmp_path / "whole")
    assert len(seen) > 20
    for at in range(1, len(seen) + 1):
        folder = tmp_path / f"killed-{at}"
        for moment in (at, 2 + at % 7):
            with pytest.MonkeyPatch.context() as patch:
                killing(patch, moment)
                try:
                    run(base, folder, short)
                except Killed:
                    pass
        adapter = run(base, folder, short)
        assert weights_of(adapter) == expected, f"killed before: {seen[at - 1]}"
        assert losses(folder) == wanted
        assert {path.name for path in folder.iterdir()} - LEFT_OVER == {"adapter", "checkpoint", "curve.jsonl"}
        shutil.rmtree(folder)


@pytest.mark.slow
@torch_needed
def test_a_run_goes_on_at_its_checkpoint(base: Path, tmp_path: Path) -> None:
    """Steps before the checkpoint are not computed again."""
    told: list[int] = []

    def dying(point: Point) -> None:
        told.append(point.step)
        if point.step == 3:
            raise Killed

    with pytest.raises(Killed):
        run(base, tmp_path / "run", SHORT, report=dying)
    assert told == [1, 2, 3]
    run(base, tmp_path / "run", SHORT, report=lambda point: told.append(point.step))
    assert told == [1, 2, 3, 3, 4]
    run(base, tmp_path / "whole", SHORT)
    assert weights_of(tmp_path / "run" / "adapter") == weights_of(tmp_path / "whole" / "adapter")


_CHILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch, transformers, peft
from training.encode import Encoded
from training.lora import Hyperparameters, LoraTrainer

given = json.loads(sys.argv[1])
train, validation = ([Encoded(tuple(ids), start) for ids, start in given[part]] for part in ("train", "validation"))
trainer = LoraTrainer(Path(given["base"]), Path(given["folder"]), Hyperparameters(**given["settings"]), "x")
print("ready", flush=True)
sys.stdin.readline()
trainer.run(train, validation, lambda point: print(point.step, flush=True))
print("done", flush=True)
"""


def start(base: Path, folder: Path, settings: Hyperparameters, **variables: str) -> subprocess.Popen[str]:
    given = {
        "base": str(base),
        "folder": str(folder),
        "settings": asdict(settings),
        "train": [[one.ids, one.start] for one in TRAIN],
        "validation": [[one.ids, one.start] for one in VALIDATION],
    }
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, json.dumps(given)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def finish(child: subprocess.Popen[str]) -> list[str]:
    printed, _ = child.communicate("\n", timeout=120)
    return printed.split()


@pytest.mark.slow
@torch_needed
def test_kills_at_random_moments(finished: Path, base: Path, tmp_path: Path) -> None:
    """A real SIGKILL some steps after a run went on, again and again, until it comes to its end."""
    chance = random.Random(20261121)
    folder = tmp_path / "run"
    killed = 0
    for _ in range(3):
        child = start(base, folder, MANY)
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        for _ in range(chance.randint(1, 4)):
            child.stdout.readline()
        time.sleep(chance.uniform(0, 0.03))
        child.kill()
        printed, _ = child.communicate()
        killed += "done" not in printed
    assert killed >= 2, "the run is over before it is killed: choose more steps"
    adapter = run(base, folder, MANY)
    assert weights_of(adapter) == weights_of(finished / "adapter")
    assert losses(folder) == losses(finished)


@pytest.mark.slow
@torch_needed
def test_a_curve_that_was_cut_in_a_line_is_mended(finished: Path, base: Path, tmp_path: Path) -> None:
    told: list[int] = []

    def dying(point: Point) -> None:
        if point.step == 3:
            raise Killed

    with pytest.raises(Killed):
        run(base, tmp_path / "run", MANY, report=dying)
    path = tmp_path / "run" / "curve.jsonl"
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    run(base, tmp_path / "run", MANY, report=lambda point: told.append(point.step))
    assert told[0] == 3 and losses(tmp_path / "run") == losses(finished)


@pytest.mark.slow
@torch_needed
@pytest.mark.xfail(strict=True, reason="every process writes curve, checkpoint and adapter into the same folder")
def test_two_processes_train_as_one(finished: Path, base: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [start(base, tmp_path / "run", MANY, RANK=rank, LOCAL_RANK=rank, **group) for rank in ("0", "1")]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    try:
        printed = [child.communicate(timeout=120)[0] for child in children]
    finally:
        for child in children:
            child.kill()
    assert ["done" in text for text in printed] == [True, True]
    steps = [point.step for point in curve(tmp_path / "run")]
    assert steps == [point.step for point in curve(finished)]
