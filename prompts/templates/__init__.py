"""The templates as text files, and their loader.

A release carries the templates it was trained with; serving loads them from its folder by the same function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FILES = ("system.txt", "system_closed.txt", "record.txt", "question.txt")
FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Templates:
    """Hold the text of each template by file name."""

    texts: tuple[tuple[str, str], ...]

    def fill(self, name: str, values: Mapping[str, object]) -> str:
        """Fill the template `name`; a slot without a value is an error, never an empty string."""
        return str(_compile(dict(self.texts)[name]).render(**values)).strip()

    def save(self, folder: Path) -> None:
        """Write the templates into `folder`, for a release to carry."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.texts:
            (folder / name).write_text(text, encoding="utf-8")


def load_templates(folder: Path = FOLDER) -> Templates:
    """Read the templates of a folder; by default those that come with the package."""
    return Templates(tuple((name, (folder / name).read_text(encoding="utf-8")) for name in FILES))


@lru_cache(maxsize=1)
def default_templates() -> Templates:
    """Return those that come with the package, read once: a prompt is built several times until it fits."""
    return load_templates()


@lru_cache(maxsize=64)
def _compile(text: str):  # type: ignore[no-untyped-def]  # jinja2.Template, imported only here
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(text)
