"""Measure what a prompt shows of the knowledge: whole passages beside the closest sentences of more passages.

Run as: python benchmarks/excerpts.py

Asks the worked example's answerable cases. A case counts as shown when every fact that its answer must state stands in
what is shown, in one of its alternatives.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from bot.bootstrap import build_searcher  # noqa: E402
from bot.phrase import said_before  # noqa: E402
from bot.settings import load_settings  # noqa: E402
from training.cases import load_cases  # noqa: E402
from training.metrics import normalise, proportion, states  # noqa: E402

WAYS = (("best 2 passages", 2, 0), ("best 4 passages", 4, 0), ("closest 150 words of 8 passages (ours)", 8, 150))


def main() -> None:
    """Refresh a copy of the worked example, search, print."""
    cases = [
        case
        for case in load_cases(ROOT / "examples" / "eval" / "cases.jsonl")[0]
        if case.answerable and case.facts and case.documents
    ]
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        shutil.copytree(ROOT / "examples", here / "examples", ignore=shutil.ignore_patterns("companies"))
        shutil.copyfile(ROOT / "tandem.toml", here / "tandem.toml")
        tandem(here, "refresh")
        settings = load_settings(here / "tandem.toml")
        searcher = build_searcher(settings)
        print(f"{machine()}; {len(cases)} cases, 95 % intervals\n")
        print("| shown | words | all facts shown | a right document shown |\n|---|---|---|---|")
        for way, top_k, words in WAYS:
            size, facts, right = 0, [], []
            for case in cases:
                earlier, reply = said_before(case.messages, settings.bot.closing)
                found = searcher.search(case.question, earlier=earlier, reply=reply, top_k=top_k, words=words)
                chunks = [hit.chunk for hit in found.hits]
                size += sum(len(chunk.text.split()) for chunk in chunks)
                facts.append(states(normalise("\n".join(chunk.embedded_text for chunk in chunks)), case.facts))
                right.append(any(f"{chunk.source}/{chunk.document}" in case.documents for chunk in chunks))
            shares = [proportion(facts), proportion(right)]
            cells = [f"{100 * m.value:.0f} % ({100 * m.low:.0f} to {100 * m.high:.0f})" for m in shares]
            print(f"| {way} | {size / len(cases):.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
