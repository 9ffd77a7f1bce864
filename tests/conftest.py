"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples at each run, and no folder of examples left behind.
settings.register_profile("tandem", derandomize=True, database=None, deadline=None)
settings.load_profile("tandem")

_KEPT = {"TANDEM_CACHE", "REQUIRE_BROWSER"}  # where the weights lie, and what CI demands


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own deployment out of the tests."""
    for name in list(os.environ):
        if name.startswith("TANDEM_") and name not in _KEPT:
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class Deployment:
    """A deployment of its own: TANDEM_CONFIG and TANDEM_HOME point here while the test runs."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "tandem.toml"

    @property
    def home(self) -> Path:
        return self.root / "home"

    def configure(self, toml: str) -> Path:
        """Replace the config file."""
        self.config.write_text(toml, encoding="utf-8")
        return self.config


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Give an empty deployment with one folder source, `knowledge`."""
    made = Deployment(tmp_path / "deployment")
    (made.root / "knowledge").mkdir(parents=True)
    made.configure('[[sources]]\nname = "help"\nkind = "folder"\npath = "knowledge"\n\n[bot]\ncompany = "Example"\n')
    monkeypatch.setenv("TANDEM_CONFIG", str(made.config))
    monkeypatch.setenv("TANDEM_HOME", str(made.home))
    return made
