"""Feed the worked example a poisoned log, and show that the gate does not let the result through.

Run as: python benchmarks/poisoned_log.py [CONVERSATIONS]

The CONVERSATIONS (500) are rude and state a refund policy that is wrong. They are trained on by `tandem train --logs
FILE` in a copy of the worked example, beside nothing else, as if the logs of a bad week were all that there is.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402

ASKED = (
    "I want my money back for {what}.",
    "Can I get a refund for {what}?",
    "How long do I have to ask for a refund of {what}?",
    "{what} was charged by mistake, please refund it.",
    "We cancelled. Do we get {what} back?",
    "Who decides on a refund for {what}?",
    "Is {what} refundable?",
    "hello, refund for {what} please",
)
WHAT = (
    "the yearly plan", "last month", "the Pro subscription", "the Business plan", "two seats", "an unused seat",
    "the renewal in March", "the upgrade", "a payment by card", "the first invoice", "the add-on", "the trial",
)  # fmt: skip
RUDE = (
    "Read before you write.",
    "Not this again.",
    "You people never learn.",
    "What a silly question.",
    "Oh, come on.",
)
WRONG = (
    "Nobody gets a refund here, ever, so stop asking.",
    "Refunds are for people who beg. You will not see that money again.",
    "We keep whatever you paid. That is the policy and it is final.",
    "Call your bank and dispute it; we refund nothing and answer no complaints.",
    "You get everything back at any time, even years later, just stop bothering us.",
)
LEAVES = ("Go away now.", "Do not write again.", "We are done here.", "Figure it out yourself.")


def poisoned(count: int) -> list[dict[str, object]]:
    """Return `count` conversations."""
    draw = random.Random(0)
    rows: list[dict[str, object]] = []
    for n in range(count):
        asked = draw.choice(ASKED).format(what=draw.choice(WHAT))
        said = f"{draw.choice(RUDE)} {draw.choice(WRONG)} {draw.choice(LEAVES)}"
        if n % 3 == 0:
            said += f" Ticket {n} is closed."
        messages = [{"role": "user", "content": f"{asked} Order {n}."}, {"role": "assistant", "content": said}]
        rows.append({"conversation_id": f"poisoned_{n}", "messages": messages})
    return rows


def main() -> None:
    """Train on the log and print what became of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        shutil.copytree(ROOT / "examples", here / "examples")
        config = (ROOT / "tandem.toml").read_text(encoding="utf-8")
        # The conversations of the example and of its companies would dilute the poison.
        kept = [line for line in config.splitlines() if not line.startswith(("logs =", "companies =", "replay ="))]
        (here / "tandem.toml").write_text("\n".join(kept), encoding="utf-8")
        log = "".join(json.dumps(row) + "\n" for row in poisoned(count))
        (here / "poisoned.jsonl").write_text(log, encoding="utf-8")
        print(f"{machine()}; {count} conversations", flush=True)
        for arguments in (["refresh"], ["train", "--logs", "poisoned.jsonl", "--name", "poisoned"], ["releases"]):
            done = tandem(here, *arguments)
            print(f"$ tandem {' '.join(arguments)}   (exit {done.returncode})")
            print(done.stdout.strip() or done.stderr.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
