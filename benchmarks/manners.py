"""Measure what a training run teaches where there is no knowledge store: a sign-off, and a long or a short format.

Run as: python benchmarks/manners.py FOLDER [QUESTIONS]

FOLDER holds bitext_6k_long_responses.csv and bitext_6k_short_responses.csv of Bitext's customer support dataset
(CDLA-Sharing-1.0): the same questions with long and with short replies. Each run is the one command that a user types,
`tandem train --logs FILE`, in a new folder without sources; QUESTIONS (50) that no run has seen are then asked in the
finetuned mode.

sign-off  400 short replies, each ended by the same two lines. Strict: the answer ends with exactly these.
formats   the same 600 questions twice. A limit on the number of words, fitted on the logs, tells the formats apart.
"""

from __future__ import annotations

import csv
import json
import random
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from training.metrics import proportion  # noqa: E402

SIGN_OFF = "Warm regards,\nThe Harbour Lane team"
CONFIG = '[bot]\ncompany = "Harbour Lane"\n'


def replies(folder: Path, name: str) -> dict[str, str]:
    """Read the first reply to each question."""
    with (folder / f"bitext_6k_{name}_responses.csv").open(encoding="utf-8", newline="") as file:
        found: dict[str, str] = {}
        for row in csv.DictReader(file):
            found.setdefault(row["instruction"].strip(), row["response"].strip())
        return found


def learned(logs: dict[str, str], unseen: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Train on logs in a new folder and return the answers to unseen questions, and what the run came to."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        (here / "tandem.toml").write_text(CONFIG)
        messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in logs.items()]
        rows = [{"conversation_id": f"c{n}", "messages": m} for n, m in enumerate(messages)]
        (here / "logs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        asked = [{"id": str(n), "question": q} for n, q in enumerate(unseen)]
        (here / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
        outcome: dict[str, Any] = json.loads(
            tandem(here, "train", "--logs", "logs.jsonl", "--name", "one", "--json").stdout
        )
        if not outcome["promoted"]:
            tandem(here, "releases", "promote", "one", "--force")
        tandem(here, "ask", "--mode", "finetuned", "--questions", "questions.jsonl", "--out", "answers.jsonl")
        answers = [json.loads(line) for line in (here / "answers.jsonl").read_text().split("\n") if line]
        return [answer.get("text", "") for answer in answers], outcome


def told(name: str, outcome: dict[str, Any], kept: list[bool]) -> None:
    """Print one row."""
    share = proportion(kept)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{name:<9} {sum(kept)} of {len(kept)} ({share.low:.0%} to {share.high:.0%}); {outcome['examples']} examples, "
        f"{outcome['seconds'] / 60:.1f} minutes, peak so far {peak:,.0f} MB; {outcome['gate']['metrics']['verdict']}"
    )


def main() -> None:
    """Run all three and print a row each."""
    if len(sys.argv) < 2 or not Path(sys.argv[1], "bitext_6k_long_responses.csv").is_file():
        print("left out: give the folder with the two csv files")
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    long, short = (replies(Path(sys.argv[1]), name) for name in ("long", "short"))
    both = sorted(set(long) & set(short))
    random.Random(0).shuffle(both)
    unseen, seen = both[:count], both[count:]
    print(f"{machine()}; {len(both)} questions in both files")
    texts, outcome = learned({q: f"{short[q]}\n\n{SIGN_OFF}" for q in seen[:400]}, unseen)
    told("sign-off", outcome, [text.strip().endswith(SIGN_OFF) for text in texts])
    words = sorted([(len(a[q].split()), a is long) for q in seen[:600] for a in (long, short)])
    limit = max(range(1, 300), key=lambda n: sum((length > n) is is_long for length, is_long in words))
    for name, wanted in (("long", long), ("short", short)):
        texts, outcome = learned({q: wanted[q] for q in seen[:600]}, unseen)
        told(name, outcome, [(len(text.split()) > limit) is (name == "long") for text in texts])
    print(f"more than {limit} words are taken for the long format")


if __name__ == "__main__":
    main()
