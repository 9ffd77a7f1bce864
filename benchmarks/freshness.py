"""Measure what happens to answers when facts change: retrieval follows, weights do not.

Run as: python benchmarks/freshness.py [FACTS] [--closed-book]

FACTS (50) numbers of the worked example are changed, one eval case each, in a copy of its knowledge that is then
refreshed. Each case is asked before and after in the hybrid mode. With --closed-book a release is first trained on
these cases with their reference answers, as a team does that keeps facts in weights, and asked in the finetuned mode.
Only cases that were right before count: what matters is whether the new value is given. The others are printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from bot.bootstrap import build_bot, build_refresher  # noqa: E402
from bot.settings import Settings, load_settings  # noqa: E402
from bot.state import open_state  # noqa: E402
from bot.turns import TurnLog  # noqa: E402
from bot.values import Mode  # noqa: E402
from training.cases import Case, load_cases  # noqa: E402
from training.metrics import Result, has_facts, proportion  # noqa: E402

EPOCHS = 30  # of the closed-book release
NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w]|[.,]\d)")


def edited(case: Case, knowledge: Path, draw: random.Random, taken: set[tuple[str, str]]) -> Case | None:
    """Change the case's number in its documents; return the case that asks for the new one, None without a number."""
    paths = [knowledge / document.removeprefix("help/") for document in case.documents]
    for number in sorted({n for fact in case.facts for n in NUMBER.findall(fact)} - set(NUMBER.findall(case.question))):
        holding = [p for p in paths if p.is_file() and number in NUMBER.findall(p.read_text())]
        new = "".join(draw.choice("3456789") if c.isdigit() else c for c in number)
        names = {(str(p), n) for p in holding for n in (number, new)}
        if not holding or new == number or names & taken or any(new in p.read_text() for p in holding):
            continue
        exact = re.compile(NUMBER.pattern.replace(r"\d+(?:[.,]\d+)*", re.escape(number)))
        for path in holding:
            path.write_text(exact.sub(new, path.read_text()))
        taken |= names
        return case.model_copy(update={"facts": tuple(_with(fact, number, new) for fact in case.facts)})
    return None


def _with(fact: str, number: str, new: str) -> str:
    """Return a fact with the new number; alternatives that name the old value in words are dropped."""
    alternatives = [a for a in fact.split(" | ") if number in NUMBER.findall(a)]
    return " | ".join(a.replace(number, new) for a in alternatives) or fact


def ask(settings: Settings, home: Path, cases: list[Case], mode: Mode) -> list[Result]:
    """Return what one mode answers."""
    turns = TurnLog(open_state(home / "turns.sqlite3"))
    bot = build_bot(settings, turns)
    results = []
    for case in cases:
        answer = bot.answer(case.question, customer_id=case.customer, mode=mode, history=case.messages)
        results.append(Result(case, text=answer.text, action=answer.action))
    turns.close()
    return results


def learn(root: Path, cases: list[Case]) -> None:
    """Train a closed-book release on the cases with their reference answers, and promote it."""
    config = re.sub(r"(?m)^(companies|cases|grown|replay|logs) = .*$", "", (ROOT / "tandem.toml").read_text())
    # To know facts by heart takes many readings; nothing is kept from them.
    config = config.replace("[training]", f"[training]\nepochs = {EPOCHS}\nvalidation = 0.0")
    (root / "tandem.toml").write_text(config)
    rows = []
    for n, case in enumerate(cases):
        asked = [{"role": m.role, "content": m.content} for m in case.messages]
        reply = re.sub(r" ?\[\d+\]", "", case.reference or "")
        asked += [{"role": "user", "content": case.question}, {"role": "assistant", "content": reply}]
        rows.append(json.dumps({"conversation_id": f"c{n}", "messages": asked}))
    (root / "logs.jsonl").write_text("".join(f"{row}\n" for row in rows))
    given = ("--logs", "logs.jsonl", "--recipe", "closed-book", "--name", "closed", "--json")
    print(f"closed-book release of {json.loads(tandem(root, 'train', *given).stdout)['examples']} examples", flush=True)
    tandem(root, "releases", "promote", "closed", "--force")


def main() -> None:
    """Edit, refresh, ask, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("facts", type=int, nargs="?", default=50)
    parser.add_argument("--closed-book", action="store_true")
    given = parser.parse_args()
    settings = load_settings(ROOT / "tandem.toml")
    cases = [c for c in load_cases(ROOT / "examples" / "eval" / "cases.jsonl")[0] if c.answerable and c.documents]
    with tempfile.TemporaryDirectory() as name:
        home, root = Path(name), Path(name) / "deployment"
        shutil.copytree(ROOT / "examples", root / "examples")
        here = settings.model_copy(update={"root": root, "home": root / ".tandem"})
        if (settings.home / "releases").is_dir():
            shutil.copytree(settings.home / "releases", here.home / "releases")
        build_refresher(here).refresh()
        draw, taken = random.Random(0), set[tuple[str, str]]()
        draw.shuffle(cases)
        # All is edited before it is known which cases are right, so that the choice cannot favour either side.
        knowledge, changed = root / "examples" / "knowledge", home / "changed"
        shutil.copytree(knowledge, changed)
        found = ((case, edited(case, changed, draw, taken)) for case in cases)
        pairs = list(itertools.islice(((case, new) for case, new in found if new), given.facts))
        modes: list[Mode] = ["hybrid"]
        if given.closed_book:
            learn(root, [case for case, _ in pairs])
            modes.append("finetuned")
        before = {mode: ask(here, home, [old for old, _ in pairs], mode) for mode in modes}
        shutil.rmtree(knowledge)
        changed.rename(knowledge)
        report = build_refresher(here).refresh()
        print(f"{machine()}; {len(pairs)} facts edited in {report.updated} documents, refresh {report.seconds:.1f} s")
        for mode in modes:
            after = ask(here, home, [new for _, new in pairs], mode)
            kept = [a for a, b in zip(after, before[mode], strict=True) if has_facts(b)]
            share = proportion([has_facts(result) for result in kept])
            value = f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%})" if share.value is not None else "-"
            print(f"{mode:<10} right before: {len(kept)} of {len(pairs)}; of these, the new value after: {value}")
            for lost in (result for result in kept if not has_facts(result)):
                said = " / ".join(lost.text.split("\n"))
                print(f"    {lost.case.question} ({', '.join(lost.case.facts)}): {lost.action}: {said}")


if __name__ == "__main__":
    main()
