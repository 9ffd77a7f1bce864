"""Run the command as scripts do: its words in, exit status, stdout and stderr out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from prompts.messages import Message
from tests.cli.kit import CUSTOMERS, DOCUMENTS, TICKETS, TOML, use_stand_ins
from tests.conftest import Deployment
from tests.stand_ins import HashEmbedder, ScriptedModel, write_documents

SECRETS = {
    "TANDEM_AUTH_JWT_SECRET": "jwt-secret-that-nobody-may-ever-see-printed",
    "TANDEM_AUTH_ADMIN_TOKEN": "admin-token-that-nobody-may-ever-see",
    "TANDEM_BOT_API_KEY": "sk-key-that-nobody-may-ever-see",
}


@dataclass(frozen=True)
class Ran:
    """What one command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Read stdout, which must be one line of JSON and nothing else."""
        assert self.out.count("\n") == 1, f"not one line on stdout: {self.out!r}"
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """Give the one line of a command that failed, empty ones aside; stdout must be empty."""
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if line]
        assert len(lines) == 1, f"not one line on stderr: {self.err!r}"
        return lines[0]


Tandem = Callable[..., Ran]


@pytest.fixture
def tandem(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tandem:
    """Run `tandem ...` in this process, on the deployment of the test."""
    monkeypatch.chdir(deployment.root)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer puts its own in
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # main() sets it, and it goes away with the test

    def run(*words: object) -> Ran:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tandem", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def installed(deployment: Deployment) -> Tandem:
    """Run the installed `tandem` as a process of its own."""
    program = shutil.which("tandem", path=str(Path(sys.executable).parent))
    assert program, "the environment lacks the command: pip install -e ."

    def run(*words: object, env: dict[str, str] | None = None) -> Ran:
        done = subprocess.run(
            [program, *map(str, words)],
            cwd=deployment.root,
            env={**os.environ, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> HashEmbedder:
    """Put a stand-in embedder in, and no chat model."""
    made = HashEmbedder(dimension=512)
    use_stand_ins(monkeypatch.setattr, made, None)
    return made


@pytest.fixture
def reply_with(monkeypatch: pytest.MonkeyPatch, embedder: HashEmbedder) -> Callable[..., ScriptedModel]:
    """Put a stand-in chat model in that replies with a text, or with what a function makes of the messages."""

    def put(reply: str | Callable[[Sequence[Message]], str]) -> ScriptedModel:
        model = ScriptedModel(reply)
        use_stand_ins(monkeypatch.setattr, embedder, model)
        return model

    return put


@pytest.fixture
def shop(deployment: Deployment, embedder: HashEmbedder) -> Deployment:
    """Give a deployment with three documents, one of them internal, two customers and a ticket; not yet refreshed."""
    write_documents(deployment.root, DOCUMENTS)
    for name, rows in (("customers", CUSTOMERS), ("tickets", TICKETS)):
        write_rows(deployment.root / f"{name}.jsonl", rows)
    deployment.configure(TOML)
    return deployment


@pytest.fixture
def ready(shop: Deployment, tandem: Tandem) -> Deployment:
    """Give the shop, refreshed."""
    assert tandem("refresh").status == 0
    return shop


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write JSONL; a string is written as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Any]:
    """Read JSONL."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
