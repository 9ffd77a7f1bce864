"""Train a LoRA adapter on encoded examples: one step after the other, resumable, with the loss on answers alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

from training.encode import Encoded, Pack, pack
from training.errors import RunError

Report = Callable[["Point"], None]
_STATE, _CURVE = "state.json", "curve.jsonl"
# After one epoch of 400 examples, 23 steps, 78 % of the answers ended as the examples do.
_FEWEST_STEPS, _MOST_EPOCHS = 100, 3.0


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Set one training run; the defaults suit a model of 100 M to 500 M parameters."""

    rank: int = 16
    alpha: int = 32
    learning_rate: float = 5e-4
    epochs: float = 1.0
    examples_per_step: int = 16
    pack_tokens: int = 2048
    warmup: float = 0.03  # share of the steps
    validation: float = 0.04  # share of the conversations
    evaluations: int = 4  # of the validation loss, in a run
    patience: int = 2  # evaluations without a lower loss before the run stops
    checkpoint_minutes: float = 10.0
    seed: int = 0


def epochs_for(examples: int, per_step: int) -> float:
    """Return how often to read the examples where nothing is set: once, but few of them up to three times."""
    return min(_MOST_EPOCHS, max(1.0, round(_FEWEST_STEPS * per_step / max(1, examples), 2)))


@dataclass(frozen=True, slots=True)
class Point:
    """Hold where a run stands after a step; `validation` is a loss where it was just measured."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float  # of whole examples
    seconds_left: float
    validation: float | None = None


@dataclass(slots=True)
class _State:
    step: int = 0
    seconds: float = 0.0
    useful: int = 0
    best: float | None = None
    worse: int = 0
    done: bool = False


class LoraTrainer:
    """Train one adapter in `folder`, where checkpoints lie; call `run` again after a kill and it goes on."""

    def __init__(
        self, base: Path, folder: Path, settings: Hyperparameters, identity: str, start: Path | None = None
    ) -> None:
        """Take the base model's folder; `identity` names data and settings, and only its own checkpoint is resumed.

        `start` is the folder of an adapter to go on from; without it the adapter starts as the base model.
        """
        self._base = base
        self._folder = folder
        self._settings = settings
        self._identity = identity
        self._start = start
        self._world = int(os.environ.get("WORLD_SIZE", "1"))

    def run(self, train: Sequence[Encoded], validation: Sequence[Encoded], report: Report) -> Path:
        """Train, and return the folder of the best adapter; raises RunError where there is nothing to train on."""
        import torch

        if not train:
            raise RunError("There are no examples to train on.")
        torch.manual_seed(self._settings.seed)
        self._prepare()
        steps = self._steps(pack(train, self._settings.pack_tokens))
        held_out = pack(validation, self._settings.pack_tokens)
        state = self._resume()
        every = max(1, len(steps) // self._settings.evaluations)
        saved = time.monotonic()
        while state.step < len(steps) and not state.done:
            began = time.monotonic()
            loss, useful = self._step(steps[state.step], state.step / len(steps))
            state.step += 1
            state.seconds += time.monotonic() - began
            state.useful += useful
            last = state.step == len(steps)
            measured = self._evaluate(held_out) if held_out and (state.step % every == 0 or last) else None
            self._judge(state, measured, last)
            self._tell(report, state, len(steps), loss, measured)
            if last or state.done or time.monotonic() - saved > self._settings.checkpoint_minutes * 60:
                self._checkpoint(state)
                saved = time.monotonic()
        return self._folder / "adapter"

    def _prepare(self) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        from training import fast

        logging.disable_progress_bar()
        fast.register_attention()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = torch.bfloat16 if self._device == "cuda" or computes_bf16() else torch.float32
        model = AutoModelForCausalLM.from_pretrained(self._base, dtype=kind, attn_implementation=fast.NAME)
        model.config.use_cache = False
        settings = LoraConfig(
            r=self._settings.rank,
            lora_alpha=self._settings.alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
            base_model_name_or_path=self._base.name,
        )
        self._model = get_peft_model(model, settings).to(self._device)
        if self._start:
            self._load_adapter(self._start)
        fast.speed_up_lora(self._model)
        self._weights = [p for p in self._model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._weights, lr=self._settings.learning_rate, weight_decay=0.0)

    def _steps(self, packs: list[Pack]) -> list[list[Pack]]:
        """Put packs into steps of about `examples_per_step` examples, each epoch in an order of its own."""
        draw = random.Random(self._settings.seed)  # reproducible on purpose
        steps: list[list[Pack]] = []
        total = sum(len(p.branches) for p in packs) * self._settings.epochs
        taken = 0
        while taken < total:
            for one in draw.sample(packs, len(packs)):
                if not steps or sum(len(p.branches) for p in steps[-1]) >= self._settings.examples_per_step:
                    if taken >= total:
                        break
                    steps.append([])
                steps[-1].append(one)
                taken += len(one.branches)
        return steps

    def _step(self, packs: Sequence[Pack], progress: float) -> tuple[float, int]:
        import torch

        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.learning_rate * _schedule(progress, self._settings.warmup)
        supervised = sum(_supervised(one) for one in packs)
        total = 0.0
        rank = int(os.environ.get("RANK", "0"))
        for one in packs[rank :: self._world]:
            loss = self._loss(one) / supervised
            loss.backward()
            total += loss.item()
        if self._world > 1:
            total = self._share(total)
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return total, sum(one.useful for one in packs)

    def _share(self, total: float) -> float:
        """Sum the adapter's gradients over all processes; it is so small that this needs no wrapping of the model."""
        import torch
        from accelerate import PartialState

        state = PartialState()
        for weight in self._weights:
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            torch.distributed.all_reduce(weight.grad)
        loss = torch.tensor(total, device=state.device)
        torch.distributed.all_reduce(loss)
        return float(loss)

    def _loss(self, one: Pack) -> Any:
        """Return the summed cross-entropy of the answers' tokens. Logits are computed for those alone."""
        import torch

        ids = torch.tensor([[*one.prefix, *(i for branch in one.branches for i in branch)]], device=self._device)
        positions, predicting, wanted = layout_of(one)
        hidden = self._model.base_model.model.model(
            input_ids=ids,
            position_ids=torch.tensor([positions], device=self._device),
            use_cache=False,
            layout=(len(one.prefix), tuple(len(branch) for branch in one.branches)),
        ).last_hidden_state[0]
        logits = self._model.base_model.model.lm_head(hidden[torch.tensor(predicting, device=self._device)])
        target = torch.tensor(wanted, device=self._device)
        return torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum")

    def _evaluate(self, packs: Sequence[Pack]) -> float:
        import torch

        with torch.no_grad():
            total = sum(float(self._loss(one)) for one in packs)
        return total / sum(_supervised(one) for one in packs)

    def _judge(self, state: _State, measured: float | None, last: bool) -> None:
        """Keep the adapter with the lowest validation loss; stop where it has not fallen for a while."""
        if measured is None:
            if last and state.best is None:
                self._save_adapter(self._folder / "adapter")
            return
        if state.best is None or measured < state.best:
            state.best, state.worse = measured, 0
            self._save_adapter(self._folder / "adapter")
        else:
            state.worse += 1
            state.done = state.worse >= self._settings.patience

    def _tell(self, report: Report, state: _State, steps: int, loss: float, measured: float | None) -> None:
        rate = state.seconds / state.step
        point = Point(state.step, steps, loss, state.useful / state.seconds, rate * (steps - state.step), measured)
        with (self._folder / _CURVE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(point)) + "\n")
        report(point)

    def _load_adapter(self, folder: Path) -> None:
        """Take another adapter's weights; raises RunError where they are not for this model and rank."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict
        from safetensors.torch import load_file

        given = load_file(folder / "adapter_model.safetensors")
        own = get_peft_model_state_dict(self._model)
        if {k: v.shape for k, v in given.items()} != {k: v.shape for k, v in own.items()}:
            raise RunError(
                f"The adapter in {folder} is not of this base model and rank {self._settings.rank}: train without "
                "[training] start, or with its rank."
            )
        set_peft_model_state_dict(self._model, given)

    def _save_adapter(self, folder: Path) -> None:
        """Write the adapter in peft's format, bf16, by way of a folder beside it."""
        import torch
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        aside = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = {k: v.to(torch.bfloat16).cpu() for k, v in get_peft_model_state_dict(self._model).items()}
        save_file(tensors, aside / "adapter_model.safetensors", metadata={"format": "pt"})
        (aside / "adapter_model.safetensors").chmod(0o644)
        config = copy(self._model.peft_config["default"])
        config.base_model_name_or_path = self._base.name  # peft would write where it lies on this machine
        config.inference_mode = True
        config.target_modules = sorted(config.target_modules)  # a set, whose order differs between processes
        config.save_pretrained(str(aside))
        _replace(aside, folder)

    def _checkpoint(self, state: _State) -> None:
        import torch

        aside = self._folder / "checkpoint.new"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        torch.save(
            {"weights": [w.detach() for w in self._weights], "optimiser": self._optimiser.state_dict()},
            aside / "checkpoint.pt",
        )
        (aside / _STATE).write_text(json.dumps({"identity": self._identity, **asdict(state)}), encoding="utf-8")
        _replace(aside, self._folder / "checkpoint")

    def _resume(self) -> _State:
        import torch

        self._folder.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder / "checkpoint", self._folder / "checkpoint.old"):
            if (folder / _STATE).is_file():
                stored = json.loads((folder / _STATE).read_text(encoding="utf-8"))
                if stored.pop("identity") == self._identity:
                    saved = torch.load(folder / "checkpoint.pt", weights_only=True, map_location=self._device)
                    for weight, value in zip(self._weights, saved["weights"], strict=True):
                        weight.data.copy_(value)
                    self._optimiser.load_state_dict(saved["optimiser"])
                    self._cut_curve(stored["step"])
                    return _State(**stored)
        self._cut_curve(0)
        return _State()

    def _cut_curve(self, step: int) -> None:
        """Drop what a killed run wrote after its last checkpoint; it is trained again."""
        path = self._folder / _CURVE
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        path.write_text("".join(lines[:step]), encoding="utf-8")


def curve(folder: Path) -> Iterator[Point]:
    """Yield the points that a run has written."""
    for line in (folder / _CURVE).read_text(encoding="utf-8").splitlines():
        yield Point(**json.loads(line))


def layout_of(one: Pack) -> tuple[list[int], list[int], list[int]]:
    """Return each token's position, the rows that predict an answer's token, and these tokens' ids."""
    prefix = len(one.prefix)
    positions = list(range(prefix))
    predicting: list[int] = []
    wanted: list[int] = []
    row = prefix
    for branch, start in zip(one.branches, one.starts, strict=True):
        positions += range(prefix, prefix + len(branch))
        predicting += range(row + start - 1, row + len(branch) - 1)
        wanted += branch[start:]
        row += len(branch)
    return positions, predicting, wanted


def _supervised(one: Pack) -> int:
    return sum(len(branch) - start for branch, start in zip(one.branches, one.starts, strict=True))


def _schedule(progress: float, warmup: float) -> float:
    """Rise over `warmup`, then fall to a twentieth along a cosine."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.05 + 0.95 * (1 + cos(pi * (progress - warmup) / (1 - warmup))) / 2


def computes_bf16() -> bool:
    """Say whether this CPU multiplies bf16 in hardware; elsewhere it is slower than fp32."""
    import torch

    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16"))


def _replace(aside: Path, folder: Path) -> None:
    """Put a folder in another's place; a kill between the two renames leaves the old one as `.old`."""
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
