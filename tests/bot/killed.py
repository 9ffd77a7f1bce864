"""Children that are killed at a random moment of a loop of promotions, rollbacks or conversions.

Run as `python -m tests.bot.killed pointer|conversion FOLDER`; it says "ready" once the loop has begun and never ends.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from bot.conversion import converted
from bot.errors import ReleaseError
from bot.releases import Releases

REPOSITORY = Path(__file__).parents[2]


def kill_in(seconds: float, what: str, folder: Path) -> None:
    """Start a child, wait until it is at it, and kill it `seconds` later."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bot.killed", what, str(folder)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(seconds)
    child.kill()
    child.communicate()
    assert child.returncode == -9, "the child ended before it was killed"


def move_pointer(folder: Path) -> None:
    """Promote and roll back at random."""
    releases = Releases(folder / "releases", None)
    names = releases.names()
    chance = random.Random(os.getpid())
    for step in itertools.count():
        try:
            if chance.random() < 0.6:
                releases.promote(chance.choice(names))
            else:
                releases.rollback()
        except ReleaseError as error:
            assert "nothing to roll back" in str(error)
        if step == 2:
            print("ready", flush=True)


def convert(folder: Path) -> None:
    """Convert more releases than are kept, so that each conversion removes another one."""
    releases = Releases(folder / "releases", None)
    names = releases.names()
    for step in itertools.count():
        name = names[step % len(names)]
        engine = "openvino" if step % 2 else "transformers"
        converted(releases.get(name), folder / "tiny", engine, folder / "cache")
        if step == len(names):
            print("ready", flush=True)


if __name__ == "__main__":
    {"pointer": move_pointer, "conversion": convert}[sys.argv[1]](Path(sys.argv[2]))
