"""`tandem init`."""

from __future__ import annotations

import shutil
from pathlib import Path

from bot.errors import ConfigError
from cli.output import say


def run(folder: Path) -> None:
    """Copy the worked example with its configuration into a new or empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty. Name a new folder.")
    sample = sample_folder()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(sample / "examples", folder / "examples")
    shutil.copy(sample / "tandem.toml", folder / "tandem.toml")
    packed = sample / "env.example"
    shutil.copy(packed if packed.is_file() else sample / ".env.example", folder / ".env.example")
    say(f"Wrote {folder}/tandem.toml and the worked example. Next:")
    say(f"  cd {folder} && tandem refresh && tandem serve --demo")


def sample_folder() -> Path:
    """Return the folder of the worked example: in the package, or the repository of an editable install."""
    packed = Path(__file__).parent / "sample"
    return packed if packed.is_dir() else Path(__file__).parent.parent
