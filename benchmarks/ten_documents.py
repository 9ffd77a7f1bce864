"""Measure the four modes where the whole knowledge fits into a prompt: ten documents of the worked example.

Run as: python benchmarks/ten_documents.py [DOCUMENTS]

The DOCUMENTS (10) that most eval cases rest on are copied beside each other; the cases are those that they answer, and
as many that they cannot: the unanswerable, the ambiguous and the greetings of the worked example.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from training.cases import load_cases  # noqa: E402


def main() -> None:
    """Copy, refresh, ask, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    cases = load_cases(ROOT / "examples" / "eval" / "cases.jsonl")[0]
    rested_on = Counter(document for case in cases for document in case.documents)
    chosen = {document for document, _ in rested_on.most_common(count)}
    answerable = [c for c in cases if c.documents and set(c.documents) <= chosen]
    others = [c for c in cases if not c.documents and not c.customer][: len(answerable)]
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        shutil.copytree(ROOT / "examples", here / "examples", ignore=shutil.ignore_patterns("knowledge", "companies"))
        for document in chosen:
            path = Path("examples") / "knowledge" / document.removeprefix("help/")
            (here / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, here / path)
        shutil.copyfile(ROOT / "tandem.toml", here / "tandem.toml")
        rows = [json.dumps(c.model_dump(exclude_none=True)) for c in (*answerable, *others)]
        (here / "cases.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        print(
            f"{machine()}; {count} documents, {len(answerable)} cases that they answer, {len(others)} others",
            flush=True,
        )
        for arguments in (["refresh"], ["eval", "--cases", "cases.jsonl"]):
            done = tandem(here, *arguments)
            print(done.stdout.strip() or done.stderr.strip()[-500:], flush=True)


if __name__ == "__main__":
    main()
