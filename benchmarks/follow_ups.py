"""Measure what a follow-up is searched with: the last question, with those before it, with the answer before it.

Run as: python benchmarks/follow_ups.py FOLDER
FOLDER holds tasks.jsonl and passages.jsonl in the shape of IBM's MT-RAG benchmark (Apache-2.0): multi-turn questions
with the passages that answer them. Both indexes and the fusion are those of serving; the last row is what serving does.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402
from bot import weights  # noqa: E402
from retrieval.embedders.minilm import MiniLMEmbedder  # noqa: E402
from retrieval.fusion import reciprocal_rank_fusion  # noqa: E402
from retrieval.lexical import LexicalIndex  # noqa: E402

DEPTH, TOP = 50, 10
RESAMPLES = 2000


def gain(found: list[str], gold: set[str]) -> float:
    """Return nDCG@10 with equal gains (Jarvelin and Kekalainen, 2002)."""
    got = sum(1 / math.log2(rank + 2) for rank, name in enumerate(found[:TOP]) if name in gold)
    return got / sum(1 / math.log2(rank + 2) for rank in range(min(TOP, len(gold))))


def main() -> None:
    """Print nDCG@10 of the three ways, with bootstrap intervals."""
    if len(sys.argv) != 2 or not Path(sys.argv[1], "tasks.jsonl").is_file():
        print("left out: give the folder with tasks.jsonl and passages.jsonl")
        return
    folder = Path(sys.argv[1])
    passages = [json.loads(line) for line in (folder / "passages.jsonl").open(encoding="utf-8")]
    tasks = [json.loads(line) for line in (folder / "tasks.jsonl").open(encoding="utf-8")]
    ids, texts = [p["document_id"] for p in passages], [p["text"] for p in passages]
    embedder = MiniLMEmbedder(weights.embedder_folder())
    vectors, index = embedder.embed(texts), LexicalIndex.build(ids, texts)

    def rankings(query: str) -> list[list[str]]:
        scores = vectors @ embedder.embed([query])[0]
        dense = [ids[i] for i in np.argsort(-scores, kind="stable")[:DEPTH]]
        return [dense, [name for name, _ in index.search(query, DEPTH)]]

    names = ("last question", "last three together", "both", "both, and with the answer")
    gains: dict[str, list[float]] = {name: [] for name in names}
    for task in tasks:
        gold = {context["document_id"] for context in task["contexts"]}
        asked = [turn["text"] for turn in task["input"] if turn["speaker"] == "user"]
        if not gold:
            continue
        answers = [turn["text"] for turn in task["input"] if turn["speaker"] != "user"]
        last, together = rankings(asked[-1]), rankings("\n".join(asked[-3:]))
        replied = rankings(f"{answers[-1][:400]}\n{asked[-1]}") if answers else []
        for name, lists in zip(gains, (last, together, last + together, last + together + replied), strict=True):
            gains[name].append(gain([i for i, _ in reciprocal_rank_fusion(lists)], gold))
    digest = hashlib.sha256((folder / "tasks.jsonl").read_bytes()).hexdigest()[:12]
    print(f"{machine()}; {len(gains[names[0]])} questions over {len(passages)} passages, tasks {digest}")
    random = np.random.default_rng(0)
    for name, values in gains.items():
        means = [np.mean(random.choice(values, len(values))) for _ in range(RESAMPLES)]
        low, high = np.percentile(means, [2.5, 97.5])
        print(f"{name:<26} nDCG@10 {np.mean(values):.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
