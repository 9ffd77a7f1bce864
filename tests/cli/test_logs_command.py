"""`tandem logs`: the shape of its JSON, its exit status, and what stands on which stream."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Tandem, write_rows
from tests.conftest import Deployment

ROOT = Path(__file__).parents[2]


def row(name: str, question: str = "How do I export?") -> dict[str, Any]:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": "Under Settings."}]
    return {"conversation_id": name, "messages": said}


def test_the_report_has_the_shape_of_the_contract(deployment: Deployment, tandem: Tandem) -> None:
    path = write_rows(deployment.root / "log.jsonl", [row("c1"), "{broken", row("c2")])
    ran = tandem("logs", "import", path, "--json")
    report = ran.json
    assert ran.status == 0
    assert list(report) == [
        "file", "format", "conversations", "added", "known", "replaced", "bad", "bad_count", "rejected_file", "seconds",
    ]  # fmt: skip
    assert (report["file"], report["format"], report["conversations"], report["added"]) == ("log.jsonl", "chat", 2, 2)
    assert report["bad"][0]["line"] == 2 and report["bad_count"] == 1
    assert Path(report["rejected_file"]).is_file()
    again = tandem("logs", "import", path, "--json").json
    assert (again["added"], again["known"]) == (0, 2)


def test_stats_as_json_and_for_people(deployment: Deployment, tandem: Tandem) -> None:
    tandem("logs", "import", write_rows(deployment.root / "log.jsonl", [row("c1")]))
    stats = tandem("logs", "stats", "--json").json
    assert {"conversations", "messages", "assistant_turns", "customers", "with_rating", "first", "last", "files",
            "languages", "median", "own"} == set(stats)  # fmt: skip
    assert stats["conversations"] == 1 and stats["files"] == {"log.jsonl": 1}
    spoken = tandem("logs", "stats")
    assert "1 conversations" in spoken.out and "log.jsonl" in spoken.out and spoken.err == ""


def test_people_read_what_is_wrong_on_stderr(deployment: Deployment, tandem: Tandem) -> None:
    ran = tandem("logs", "import", write_rows(deployment.root / "log.jsonl", [row("c1"), "{broken"]))
    assert ran.status == 0 and "1 added" in ran.out
    assert "line 2" in ran.err and "rejected" in ran.err and "line 2" not in ran.out


def test_a_file_of_bad_lines_fails(deployment: Deployment, tandem: Tandem) -> None:
    ran = tandem("logs", "import", write_rows(deployment.root / "log.jsonl", ["{a", "{b"]), "--json")
    assert ran.status == 1 and ran.json["bad_count"] == 2 and ran.json["conversations"] == 0


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (["missing.jsonl"], 1, "missing.jsonl"),
        (["empty.jsonl"], 1, "empty"),
        (["tandem.toml", "--format", "csv"], 1, "columns"),
    ],
)
def test_files_that_cannot_be_imported(
    deployment: Deployment, tandem: Tandem, words: list[str], status: int, named: str
) -> None:
    (deployment.root / "empty.jsonl").touch()
    ran = tandem("logs", "import", *words, "--json")
    assert ran.status == status and named in ran.complaint


def test_wrong_usage(tandem: Tandem) -> None:
    assert tandem("logs", "import").status == 2
    assert tandem("logs", "import", "x.jsonl", "--format", "xml").status == 2


def test_other_formats(deployment: Deployment, tandem: Tandem) -> None:
    path = deployment.root / "faq.csv"
    path.write_text("question,answer\nHow?,So.\n", encoding="utf-8")
    assert tandem("logs", "import", path, "--json").json["format"] == "csv"
    path = write_rows(deployment.root / "tuning.jsonl", [{"messages": row("x")["messages"]}])
    assert tandem("logs", "import", path, "--format", "openai", "--json").json["added"] == 1


@pytest.mark.slow
def test_a_killed_command_imports_all_or_nothing(deployment: Deployment, tandem: Tandem) -> None:
    """Kill the command itself at random moments; whatever it left, the next one completes."""
    size = 4000
    path = write_rows(deployment.root / "log.jsonl", [row(f"c{n}", f"How do I export {n}?") for n in range(size)])
    words = [sys.executable, "-m", "tests.cli.kit", "logs", "import", str(path), "--json"]
    started = time.monotonic()
    subprocess.run([*words[:-1], "--help"], cwd=ROOT, check=True, capture_output=True)
    start = time.monotonic() - started
    chance = random.Random(20261121)
    for _ in range(4):
        child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with child:
            time.sleep(start * chance.uniform(0.5, 2.5))
            child.kill()
            out = child.communicate()[0]
        found = tandem("logs", "stats", "--json").json["conversations"]
        assert found in (0, size) and (not out or found == size)
        if out:
            assert json.loads(out)["conversations"] == size
    report = tandem("logs", "import", path, "--json").json
    assert report["added"] + report["known"] == size
    assert tandem("logs", "stats", "--json").json["conversations"] == size
