"""Train the reranker that ships, on questions about invented companies whose answering sentences are known.

Run as: python -m training.reranker FILE [--companies FOLDER] [--help-centres FOLDER] [--epochs 1] [--seed 0]
[--measure]

Each question is read with the passages that a search finds; the sentences that answer it are to be rated above all
others, and above nothing. Where the passage that answers, or the sentences of it that do, are taken away, nothing is to
be rated above all. What the search thinks of a sentence is kept from the network, so that the two judge independently:
their sum ranks better on documents of another kind than a network that was trained to add to it. Every tenth company
and every eighth help centre are kept for measuring.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bot import weights
from retrieval.documents import Chunk
from retrieval.embedders import Embedder, Vectors
from retrieval.embedders.bert import read_shape
from retrieval.embedders.minilm import MiniLMEmbedder
from retrieval.reranker import DOWN, UP, PairTokenizer, Reranker, evidence, joined
from retrieval.sentences import rated, sentences_of
from training.companies import Asked, Company, filled, first_values, load_companies, passages_of
from training.helpcentres import HelpCentre, Place, Question, Unanswerable, load_help_centres, places
from training.metrics import auroc
from training.shelf import Shelf, Wanted

_PASSAGES = 5  # read with a question in training, of the closest _CLOSEST
_CLOSEST = 8  # read with a question in measuring, as in serving
_KEPT = 16  # of the closest, beside those that answer
_QUESTIONS = 6  # a step
_ABSENT = 0.10  # share of the questions whose passage is taken away
_CUT = 0.10  # share of which the answering sentences are
_RATES = {"network": 1e-4, "head": 1e-3}
_WARMUP = 100  # steps
_RANK = 64  # of the factors that the change of each weight is kept as
_HELD, _HELD_CENTRES = 10, 8  # every tenth company is measured on, and every eighth help centre


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold a question, the passages of its company, the closest first, and what answers it."""

    company: str
    question: str  # after the question before it, where it goes on
    passages: tuple[Chunk, ...]
    closeness: tuple[Vectors, ...]  # of their sentences
    answers: frozenset[Place]  # none where nothing answers


def samples(companies: Sequence[Company], embedder: Embedder, seed: int) -> Iterator[Sample]:
    """Yield every wording of every question about companies that passages answer or nothing does."""
    draw = random.Random(seed)
    for company in companies:
        values = first_values(company)
        shelf = Shelf(passages_of(company, values), embedder)
        for asked, before in _asked(company):
            texts = (*asked.texts, *asked.answers.values()) if asked.passages else ()
            answers = frozenset(place for text in texts for place in shelf.rests_on(filled(text, values)))
            for wording in asked.ask:
                question, earlier = filled(wording, values), filled(draw.choice(before.ask), values) if before else ""
                yield _sample(company.company, shelf, question, earlier, answers)


def centre_samples(centres: Sequence[HelpCentre], embedder: Embedder, seed: int) -> Iterator[Sample]:
    """Yield every wording of every question about help centres."""
    draw = random.Random(seed)
    for centre in centres:
        chunks = centre.chunks()
        shelf = Shelf([replace(chunk, document=chunk.chunk) for chunk in chunks], embedder)
        for asked, before in centre.asked():
            for wording in asked.ask:
                earlier = draw.choice(before.ask) if before else ""
                yield _sample(centre.company, shelf, wording, earlier, _answers(chunks, asked))


def _answers(chunks: Sequence[Chunk], asked: Question | Unanswerable) -> frozenset[Place]:
    if isinstance(asked, Unanswerable):
        return frozenset()
    found = (places(chunks, document, words) for document, quotes in asked.rests_on.items() for words in quotes)
    return frozenset(place for own in found for place in own)


def _sample(name: str, shelf: Shelf, question: str, earlier: str, answers: frozenset[Place]) -> Sample:
    after = f"{earlier}\n{question}" if earlier else question
    close = shelf.closeness(Wanted((question, after)))
    order = sorted(close, key=lambda passage: -float(close[passage].max()))
    needed = {passage for passage, _ in answers}
    kept = [passage for n, passage in enumerate(order) if n < _KEPT or passage in needed]
    return Sample(
        name,
        after,
        tuple(shelf.passages[passage] for passage in kept),
        tuple(close[passage][1:] for passage in kept),
        answers,
    )


def _asked(company: Company) -> Iterator[tuple[Asked, Asked | None]]:
    for asked in (*company.questions, *company.unanswerable):
        if asked.passages or not asked.record:
            yield asked, None
        if asked.then and (asked.then.passages or not asked.then.record):
            yield asked.then, asked


@dataclass(frozen=True, slots=True)
class _Read:
    """Hold one passage as it is read with a question."""

    pieces: list[int]
    spans: list[tuple[int, int]]
    answers: list[bool]


def _drawn(sample: Sample, pairs: PairTokenizer, draw: random.Random) -> list[_Read]:
    """Choose what a question is read with in training: what answers it, if that is there, among what is close."""
    chance = draw.random()
    absent, cut = chance < _ABSENT, _ABSENT <= chance < _ABSENT + _CUT
    gold = [n for n, chunk in enumerate(sample.passages) if chunk.document in {name for name, _ in sample.answers}]
    others = [n for n in range(min(_CLOSEST, len(sample.passages))) if n not in gold]
    draw.shuffle(others)
    gold = [] if absent else gold
    found = []
    for n in [*gold, *others[: _PASSAGES - len(gold)]]:
        chunk = sample.passages[n]
        texts = [sentence.whole for sentence in sentences_of(chunk.text)]
        answers = [(chunk.document, place) in sample.answers for place in range(len(texts))]
        kept = [place for place, answer in enumerate(answers) if not (cut and answer)]
        if kept:
            pieces, spans = pairs.pieces(sample.question, chunk.head, [texts[place] for place in kept])
            found.append(_Read(pieces, spans, [answers[place] for place in kept]))
    return found


class _Network:
    """Hold the encoder with its head in torch."""

    def __init__(self, folder: Path, seed: int) -> None:
        import torch
        from transformers import BertModel

        torch.manual_seed(seed)
        self.encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")
        # Without dropout: on a CPU its random numbers take half of the time.
        self.encoder.config.attention_probs_dropout_prob = 0.0
        for module in self.encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        self.encoder.embeddings.requires_grad_(False)
        size = self.encoder.config.hidden_size
        self.middle, self.head = torch.nn.Linear(size, size), torch.nn.Linear(size, 1)
        torch.nn.init.eye_(self.middle.weight)
        torch.nn.init.zeros_(self.middle.bias)
        torch.nn.init.normal_(self.head.weight, std=0.05)
        torch.nn.init.zeros_(self.head.bias)
        self.before = {name: value.detach().clone() for name, value in self.encoder.state_dict().items()}

    def groups(self) -> list[dict[str, Any]]:
        """Return the parameters with their learning rates."""
        network = [p for p in self.encoder.parameters() if p.requires_grad]
        return [
            {"params": network, "lr": _RATES["network"]},
            {"params": [*self.middle.parameters(), *self.head.parameters()], "lr": _RATES["head"]},
        ]

    def rate(self, batch: Sequence[_Read]) -> list[Any]:
        """Return the log odds of the sentences of each passage."""
        import torch

        length, width = max(len(read.pieces) for read in batch), self.encoder.config.hidden_size
        ids, mask = torch.zeros(len(batch), length, dtype=torch.long), torch.zeros(len(batch), length)
        pool = torch.zeros(sum(len(read.spans) for read in batch), len(batch) * length)
        row = 0
        for n, read in enumerate(batch):
            ids[n, : len(read.pieces)] = torch.tensor(read.pieces)
            mask[n, : len(read.pieces)] = 1
            for start, end in read.spans:
                pool[row, n * length + start : n * length + end] = 1 / max(1, end - start)
                row += 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        means = pool @ states.float().reshape(-1, width)
        values = self.head(torch.nn.functional.gelu(self.middle(means), approximate="tanh")).squeeze(-1)
        return list(torch.split(values, [len(read.spans) for read in batch]))

    def save(self, path: Path, notes: dict[str, object]) -> None:
        """Write the head, and the change of each weight as two factors of rank _RANK (truncated singular values)."""
        import torch
        from safetensors.torch import save_file

        tensors = {
            "middle.weight": self.middle.weight,
            "middle.bias": self.middle.bias,
            "head.weight": self.head.weight,
            "head.bias": self.head.bias,
        }
        for name, value in self.encoder.state_dict().items():
            change = value - self.before[name]
            if value.dim() == 2 and change.any():
                left, sizes, right = torch.linalg.svd(change, full_matrices=False)
                root = sizes[:_RANK].sqrt()
                layer = name.removesuffix(".weight")
                tensors[f"{layer}{UP}"] = left[:, :_RANK] * root
                tensors[f"{layer}{DOWN}"] = root[:, None] * right[:_RANK]
            elif change.any():
                tensors[name] = value
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: value.detach().half().contiguous() for name, value in tensors.items()}
        save_file(kept, path, metadata={"notes": json.dumps(notes)})


def _loss(values: Any, answers: Any) -> Any:
    """Return the cross-entropy of the answering sentences beside nothing, whose log odds are 0.

    Any of them will do; beside that each should be rated high, by a third of the weight.
    """
    import torch

    everything = torch.logsumexp(torch.cat([torch.zeros(1), values]), 0)
    if not answers.any():
        return everything
    return everything - torch.logsumexp(values[answers], 0) + 0.3 * (everything - values[answers]).mean()


def train(found: Sequence[Sample], folder: Path, epochs: float, seed: int) -> _Network:
    """Train on the samples; progress goes to stderr."""
    import torch

    network, pairs, draw = (
        _Network(folder, seed),
        PairTokenizer(folder, read_shape(folder).max_length),
        random.Random(seed),
    )
    steps = max(1, int(epochs * len(found)) // _QUESTIONS)
    optimizer = torch.optim.AdamW(network.groups(), weight_decay=0.01)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / _WARMUP) * max(0.02, 1 - step / steps)
    )
    queue: list[Sample] = []
    started, smooth = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        if len(queue) < _QUESTIONS:
            queue = draw.sample(list(found), len(found))
        drawn, queue = [_drawn(sample, pairs, draw) for sample in queue[:_QUESTIONS]], queue[_QUESTIONS:]
        loss = _step(network, drawn)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        decay.step()
        smooth = loss.item() if step == 1 else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0 or step == steps:
            left = (time.monotonic() - started) / step * (steps - step)
            sys.stderr.write(f"step {step} of {steps}, loss {smooth:.3f}, {left / 60:.0f} min left\n")
    return network


def _step(network: _Network, drawn: Sequence[Sequence[_Read]]) -> Any:
    """Return the mean loss of some questions, their passages read in two batches of like length."""
    import torch

    order = sorted((len(read.pieces), q, n) for q, reads in enumerate(drawn) for n, read in enumerate(reads))
    values: dict[tuple[int, int], Any] = {}
    for part in (order[: len(order) // 2], order[len(order) // 2 :]):
        if part:
            places = [(q, n) for _, q, n in part]
            values.update(zip(places, network.rate([drawn[q][n] for q, n in places]), strict=True))
    losses = [
        _loss(torch.cat([values[q, n] for n in range(len(reads))]), torch.tensor(sum((r.answers for r in reads), [])))
        for q, reads in enumerate(drawn)
        if reads
    ]
    return sum(losses) / len(losses)


def measure(found: Sequence[Sample], reranker: Reranker | None) -> dict[str, float]:
    """Return how often the sentence rated best answers, or one of the best three, and AUROC of answerable questions.

    Without a reranker the ratings are those of the search, and a question's is the best of them.
    """
    first, third, scores = [], [], []
    for sample in found:
        chunks = sample.passages[:_CLOSEST]
        ratings = rated(sample.question.rsplit("\n", 1)[-1], chunks, sample.closeness[:_CLOSEST])
        score = max(float(own.max()) for own in ratings)
        if reranker:
            read = reranker.rate(sample.question, chunks)
            ratings, score = joined(ratings, read), evidence(read, 0.5)
        names = [
            (chunk.document, place) for chunk, own in zip(chunks, ratings, strict=True) for place in range(len(own))
        ]
        best = [names[n] in sample.answers for n in np.argsort(-np.concatenate(ratings))[:3]]
        scores.append((bool(sample.answers), score))
        if sample.answers:
            first.append(best[0])
            third.append(any(best))
    yes, no = ([score for known, score in scores if known is wanted] for wanted in (True, False))
    return {"first": float(np.mean(first)), "of three": float(np.mean(third)), "auroc": auroc(yes, no)}


def main() -> int:
    """Train, write and measure; returns the exit status."""
    parser = argparse.ArgumentParser(description="Train the reranker on invented companies and their help centres.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--companies", type=Path, default=Path("examples/companies"))
    parser.add_argument("--help-centres", type=Path, default=Path("examples/helpcentres"))
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--measure", action="store_true", help="measure the reranker in OUT, and train none")
    given = parser.parse_args()
    folder = weights.embedder_folder()
    embedder = MiniLMEmbedder(folder)
    companies, centres = load_companies(given.companies), load_help_centres(given.help_centres)
    held, held_centres = companies[3::_HELD], centres[3::_HELD_CENTRES]
    kept = {
        f"{len(held)} companies": list(samples(held, embedder, given.seed)),
        f"{len(held_centres)} help centres": list(centre_samples(held_centres, embedder, given.seed)),
    }
    if not given.measure:
        learned = list(samples([c for c in companies if c not in held], embedder, given.seed))
        learned += centre_samples([c for c in centres if c not in held_centres], embedder, given.seed)
        sys.stderr.write(f"{len(learned)} questions to learn from, {sum(map(len, kept.values()))} kept\n")
        notes: dict[str, object] = {"questions": len(learned), "epochs": given.epochs, "seed": given.seed}
        train(learned, folder, given.epochs, given.seed).save(given.out, notes)
    reranker = Reranker(folder, given.out)
    for name, found in kept.items():
        for judge, own in (("search", None), ("reranker", reranker)):
            figures = ", ".join(f"{key} {value:.3f}" for key, value in measure(found, own).items())
            sys.stdout.write(f"{len(found)} questions about {name}, {judge}: {figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
