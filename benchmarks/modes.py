"""Compare the four modes on the worked example's 220 cases, as `tandem eval` does.

Run as: python benchmarks/modes.py

In a new home, with the release that ships: `tandem refresh`, then `tandem eval`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402


def main() -> None:
    """Refresh, ask, print."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["TANDEM_HOME"] = home
        tandem(ROOT, "refresh")
        print(machine(), flush=True)
        print(tandem(ROOT, "eval", "--report", f"{home}/eval").stdout)


if __name__ == "__main__":
    main()
