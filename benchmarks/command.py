"""Run Tandem's own commands, as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_REFUSED = 3  # the exit status where a safety check, such as the gate, did not let something through


def tandem(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; ends the benchmark where it fails, a refusal apart."""
    command = [str(Path(sys.executable).with_name("tandem")), *arguments]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    if done.returncode not in (0, _REFUSED):
        raise SystemExit(f"tandem {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    return done
