"""Measure what a prompt shows of the knowledge: whole passages, or the sentences that are closest or rated best.

Run as: python benchmarks/excerpts.py [CONFIG CASES]

Asks the cases of the worked example, or those in the file CASES in the deployment of CONFIG, which must be refreshed. A
case counts as shown when every fact that its answer must state stands in what is shown, in one of its alternatives.
AUROC says how well the search tells cases that the knowledge answers from cases that it does not.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from bot.bootstrap import build_searcher  # noqa: E402
from bot.phrase import said_before  # noqa: E402
from bot.settings import Settings, load_settings  # noqa: E402
from training.cases import Case, load_cases  # noqa: E402
from training.metrics import auroc, normalise, proportion, states  # noqa: E402

WAYS = (
    ("best 2 passages", 2, 0, False),
    ("best 4 passages", 4, 0, False),
    ("closest 60 words of 8 passages", 8, 60, False),
    ("closest 150 words of 8 passages", 8, 150, False),
    ("best 60 words of 16 passages, reranked", 8, 60, True),
    ("best 150 words of 16 passages, reranked (ours)", 8, 150, True),
)


def show(settings: Settings, cases: list[Case]) -> None:
    """Search in each way and print a row."""
    with_answer = [case for case in cases if case.answerable and case.facts and case.documents]
    without = [case for case in cases if not case.answerable]
    print(f"{machine()}; {len(with_answer)} cases that the knowledge answers, {len(without)} others, 95 % intervals\n")
    print("| shown | words | all facts shown | a right document shown | AUROC | search |")
    print("|---|---|---|---|---|---|")
    searchers = {
        reranker: build_searcher(
            settings.model_copy(update={"retrieval": settings.retrieval.model_copy(update={"reranker": reranker})})
        )
        for reranker in (False, True)
    }
    for way, top_k, words, reranker in WAYS:
        size, facts, right, times = 0, [], [], []
        scores: dict[bool, list[float]] = {True: [], False: []}
        for case in (*with_answer, *without):
            earlier, reply = said_before(case.messages, settings.bot.closing)
            found = searchers[reranker].search(case.question, earlier=earlier, reply=reply, top_k=top_k, words=words)
            scores[case.answerable].append(found.similarity if found.evidence is None else found.evidence)
            times.append(found.milliseconds)
            if case.answerable:
                chunks = [hit.chunk for hit in found.hits]
                size += sum(len(chunk.text.split()) for chunk in chunks)
                facts.append(states(normalise("\n".join(chunk.embedded_text for chunk in chunks)), case.facts))
                right.append(any(f"{chunk.source}/{chunk.document}" in case.documents for chunk in chunks))
        shares = [proportion(facts), proportion(right)]
        cells = [
            "{:.0f} % ({:.0f} to {:.0f})".format(*(100 * (x or 0) for x in (m.value, m.low, m.high))) for m in shares
        ]
        print(
            f"| {way} | {size / len(with_answer):.0f} | {' | '.join(cells)} | {auroc(scores[True], scores[False]):.2f} "
            f"| {statistics.median(times):.0f} ms |",
            flush=True,
        )


def main() -> None:
    """Show a deployment that is there, or a refreshed copy of the worked example."""
    if len(sys.argv) == 3:
        show(load_settings(Path(sys.argv[1])), load_cases(Path(sys.argv[2]))[0])
        return
    cases = [c for c in load_cases(ROOT / "examples" / "eval" / "cases.jsonl")[0] if c.kind != "greeting"]
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        shutil.copytree(ROOT / "examples", here / "examples", ignore=shutil.ignore_patterns("companies"))
        shutil.copyfile(ROOT / "tandem.toml", here / "tandem.toml")
        tandem(here, "refresh")
        show(load_settings(here / "tandem.toml"), cases)


if __name__ == "__main__":
    main()
