"""Tune the embedder to the way customers ask: a LoRA adapter on the sentence encoder.

Run as: python -m training.retriever examples/companies FOLDER [--epochs 3] [--seed 0]

Customers seldom use the documentation's words. The invented companies pair some 4,400 wordings with the passages that
answer them; each question learns to find its passage among all others of its company, and those of other companies in
the batch (multiple negatives ranking: Henderson et al., 2017). A few companies are held out, and the epoch that finds
most of their passages is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot import weights
from training.companies import Company, load_companies

_SCALE = 20.0  # of the cosine, as sentence-transformers trains with
_MAX_TOKENS = 256
_SLOT = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Pair:
    """Hold a question as it is searched, and the passages that answer it, by number among the company's."""

    question: str
    gold: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Hold one company with one draw of its facts: passages as they are embedded, and the questions."""

    passages: tuple[str, ...]
    pairs: tuple[Pair, ...]


def task_of(company: Company, draw: random.Random) -> Task:
    """Draw a company's facts; a follow-up is searched with the question before it, as the bot does."""
    values = {name: draw.choice(options) for name, options in company.slots.items()}
    values |= {f"record.{name}": draw.choice(options) for name, options in company.record.items()}

    def fill(text: str) -> str:
        return _SLOT.sub(lambda m: str(values[m[1]]), text)

    number = {p.id: n for n, p in enumerate(company.passages)}
    passages = []
    for p in company.passages:
        head = " > ".join(part for part in (fill(p.title), fill(p.heading)) if part)
        passages.append(f"{head}\n{fill(p.text).strip()}")
    pairs = []
    for asked in company.questions:
        pairs += [Pair(fill(text), tuple(number[i] for i in asked.passages)) for text in asked.ask if asked.passages]
        if asked.then and asked.then.passages:
            gold = tuple(number[i] for i in asked.then.passages)
            pairs += [Pair(f"{fill(draw.choice(asked.ask))}\n{fill(text)}", gold) for text in asked.then.ask]
    return Task(tuple(passages), tuple(pairs))


class RetrieverTrainer:
    """Train the adapter of one sentence encoder."""

    def __init__(self, base: Path, *, rank: int, learning_rate: float, seed: int) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from tokenizers import Tokenizer
        from transformers import AutoModel

        torch.manual_seed(seed)
        self._draw = random.Random(seed)
        self._base = base
        self._tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._tokenizer.enable_padding()
        model = AutoModel.from_pretrained(base, dtype=torch.float32, add_pooling_layer=False)
        targets = ["query", "key", "value", "dense"]
        self._model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))
        weights_ = [p for p in self._model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(weights_, lr=learning_rate, weight_decay=0.01)
        self._rate = learning_rate

    def train(self, companies: Sequence[Company], held_out: Sequence[Company], epochs: int, folder: Path) -> float:
        """Train, and save the best epoch's adapter in `folder`; returns its hit@1 on the held-out companies."""
        best = before = self.evaluate(held_out)
        sys.stderr.write(f"before: hit@1 {before:.3f} on {len(held_out)} held-out companies\n")
        steps = [step for epoch in range(epochs) for step in self._epoch(companies, epoch)]
        started = time.monotonic()
        for number, (epoch, tasks) in enumerate(steps, start=1):
            progress = number / len(steps)
            for group in self._optimiser.param_groups:
                group["lr"] = self._rate * min(1.0, progress / 0.1) * (1.05 - progress)
            loss = self._step(tasks)
            if number == len(steps) or steps[number][0] != epoch:
                hit = self.evaluate(held_out)
                spent = time.monotonic() - started
                sys.stderr.write(f"epoch {epoch + 1}: loss {loss:.3f}, hit@1 {hit:.3f}, {spent:.0f} s\n")
                if hit > best:
                    best = hit
                    self._save(folder)
        return best

    def evaluate(self, companies: Sequence[Company]) -> float:
        """Return the share of questions whose best passage within the company is a right one."""
        import torch

        right = asked = 0
        with torch.no_grad():
            for company in companies:
                task = task_of(company, random.Random(0))
                passages = self._embed(task.passages)
                best = (self._embed([p.question for p in task.pairs]) @ passages.t()).argmax(dim=1).tolist()
                right += sum(int(b) in p.gold for b, p in zip(best, task.pairs, strict=True))
                asked += len(task.pairs)
        return right / asked

    def _epoch(self, companies: Sequence[Company], epoch: int) -> Iterator[tuple[int, list[tuple[Task, list[Pair]]]]]:
        """Yield steps of three companies with 24 questions each, until every question had its turn."""
        waiting = []
        for company in companies:
            task = task_of(company, self._draw)
            pairs = self._draw.sample(task.pairs, len(task.pairs))
            waiting += [(task, list(pairs[i : i + 24])) for i in range(0, len(pairs), 24)]
        self._draw.shuffle(waiting)
        for i in range(0, len(waiting), 3):
            yield epoch, waiting[i : i + 3]

    def _step(self, tasks: Sequence[tuple[Task, list[Pair]]]) -> float:
        import torch

        passages = [p for task, _ in tasks for p in task.passages]
        questions = [pair.question for _, pairs in tasks for pair in pairs]
        scores = _SCALE * self._embed(questions) @ self._embed(passages).t()
        wanted = torch.zeros_like(scores)
        row = start = 0
        for task, pairs in tasks:
            for pair in pairs:
                wanted[row, [start + n for n in pair.gold]] = 1.0 / len(pair.gold)
                row += 1
            start += len(task.passages)
        loss = torch.nn.functional.cross_entropy(scores, wanted)
        loss.backward()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(loss)

    def _embed(self, texts: Sequence[str]) -> Any:
        """Return unit vectors: the mean of the tokens' states, as the serving graph computes them."""
        import torch

        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).float()
        return torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=-1)

    def _save(self, folder: Path) -> None:
        import torch
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        aside = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = {k: v.to(torch.bfloat16) for k, v in get_peft_model_state_dict(self._model).items()}
        save_file(tensors, aside / "adapter_model.safetensors")
        config = self._model.peft_config["default"]
        content = {"peft_type": "LORA", "r": config.r, "lora_alpha": config.lora_alpha, "base": self._base.name}
        (aside / "adapter_config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


def main() -> int:
    """Tune and save; returns the exit status."""
    parser = argparse.ArgumentParser(description="Tune the embedder on the invented companies.")
    parser.add_argument("companies", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--held-out", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    companies = load_companies(given.companies)
    random.Random(given.seed).shuffle(companies)
    held_out, rest = companies[: given.held_out], companies[given.held_out :]
    trainer = RetrieverTrainer(
        weights.embedder_folder(), rank=given.rank, learning_rate=given.learning_rate, seed=given.seed
    )
    trainer.train(rest, held_out, given.epochs, given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
