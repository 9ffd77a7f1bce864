"""Put the local weights in place. Run as `python -m bot.weights`; it does nothing when they are there."""

from __future__ import annotations

import sys

from bot.weights.errors import WeightsError
from bot.weights.install import install_all


def main() -> int:
    """Return 0 once the weights are in place, 1 after saying in one line what went wrong."""
    try:
        install_all(_tell)
    except WeightsError as error:
        _tell(str(error))
        return 1
    return 0


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
