"""The house: what may import what, and what is not loaded before it is used."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ["retrieval", "prompts", "bot", "training", "cli"]  # nothing imports to its right
HEAVY = {"torch", "transformers", "chromadb", "openai", "langchain", "openvino"}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module that a file imports, lazily or for types included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(REPOSITORY).parent.parts)
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


def modules(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def test_relative_imports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "REPOSITORY", tmp_path)
    path = tmp_path / "bot" / "models" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text("from ..settings import a\nfrom . import b\ndef f():\n    import cli.main, torch\n")
    assert list(imports_of(path)) == ["bot.settings", "bot.models", "cli.main", "torch"]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_to_the_left(package: str) -> None:
    right = {*PACKAGES[PACKAGES.index(package) + 1 :], "tests", "benchmarks", "scripts", "examples"}
    found = modules(package)
    assert found
    wrong = [
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in found
        for name in imports_of(path)
        if name.split(".")[0] in right
    ]
    assert wrong == []


def test_the_walk_sees_folders_inside_of_packages() -> None:
    seen = {path.relative_to(REPOSITORY).parent.as_posix() for path in modules("bot")}
    assert {"bot", "bot/models", "bot/weights"} <= seen


def test_no_chroma_outside_of_retrieval() -> None:
    users = {
        path.relative_to(REPOSITORY).as_posix()
        for package in PACKAGES
        for path in modules(package)
        if any(name.split(".")[0] == "chromadb" for name in imports_of(path))
    }
    assert users == {"retrieval/store.py"}


# ---------------------------------------------------------------- lazy weight


def loaded_by(code: str) -> set[str]:
    """Run code in a fresh Python; returns the top-level packages that it has loaded."""
    report = "\nimport json, sys\nsys.stdout.write('\\n' + json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def run_command(*arguments: str) -> str:
    return f"""
import sys
from cli.main import main
sys.argv = ["tandem", *{list(arguments)!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


@pytest.mark.parametrize(
    "code",
    ["import cli.main", run_command("--help"), run_command("refresh", "--help"), "import retrieval, prompts, bot"],
    ids=["import cli.main", "tandem --help", "tandem refresh --help", "import the packages"],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str) -> None:
    heavy = {name for name in loaded_by(code) if name in HEAVY or name.startswith(("langchain", "openvino"))}
    assert heavy == set()


def test_serving_and_finding_do_not_load_torch() -> None:
    finding = [".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in modules("retrieval")]
    loaded = loaded_by("".join(f"import {name}\n" for name in ["bot.api", "bot.bootstrap", *finding]))
    assert {"retrieval", "bot", "fastapi"} <= loaded
    assert not {"torch", "transformers", "sentence_transformers"} & loaded


@pytest.mark.slow
def test_refreshing_and_searching_do_not_load_torch(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.retrieval.world import World
world = World(Path({str(tmp_path)!r}), {{"a.md": "Refunds take five days."}})
world.refresh()
assert world.search("refunds").hits
"""
    loaded = loaded_by(code)
    assert {"chromadb", "bm25s"} <= loaded
    assert not {"torch", "transformers", "sentence_transformers"} & loaded
