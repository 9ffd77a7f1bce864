"""`tandem eval`: what it reports, and how it goes on after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.errors import ModelUnavailable
from tests.cli.conftest import Tandem, read_rows, write_rows
from tests.cli.kit import REPLY
from tests.conftest import Deployment
from tests.stand_ins import ScriptedModel

ROOT = Path(__file__).parents[2]
METRICS = {
    "facts", "citation_hit", "citation_precision", "abstention", "style", "first_token_ms", "total_ms", "prompt_tokens",
}  # fmt: skip
EXPORT = ["help/export.md"]
CASES = [
    {"id": "c1", "question": "How do I export my data?", "answerable": True, "facts": ["CSV"], "documents": EXPORT},
    {"id": "c2", "question": "Where do I export as CSV?", "answerable": True, "facts": ["Export"], "documents": EXPORT},
    {"id": "c3", "question": "Is there an export as XML?", "answerable": False},
]
ReplyWith = Callable[..., ScriptedModel]


@pytest.fixture
def words(ready: Deployment) -> list[object]:
    """Give the command's words for three cases in one mode."""
    cases = write_rows(ready.root / "cases.jsonl", CASES)
    return ["eval", "--modes", "rag", "--cases", cases, "--report", ready.root / "report", "--json"]


def asked(model: ScriptedModel) -> list[str]:
    """Name the cases that a model was asked, once each."""
    return [case["id"] for messages in model.asked for case in CASES if case["question"] in messages[-1].content]


def test_the_report_has_the_shape_of_the_contract(
    ready: Deployment, tandem: Tandem, words: list[object], reply_with: ReplyWith
) -> None:
    reply_with(REPLY)
    ran = tandem(*words)
    report = ran.json
    assert ran.status == 0 and {"modes", "cases", "release", "generation", "seconds"} <= set(report)
    assert (report["cases"], report["generation"], list(report["modes"])) == (3, "g000001", ["rag"])
    metrics = report["modes"]["rag"]
    assert set(metrics) >= METRICS
    assert all(set(metric) == {"value", "low", "high", "n"} for metric in metrics.values())
    shown = {name: (metrics[name]["value"], metrics[name]["n"]) for name in ("facts", "citation_hit", "abstention")}
    assert shown == {"facts": (1.0, 2), "citation_hit": (1.0, 2), "abstention": (0.5, 3)}
    assert json.loads((ready.root / "report" / "evaluation.json").read_text()) == report
    assert "answers.jsonl" in ran.err


def test_modes_stand_side_by_side(tandem: Tandem, words: list[Any], reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    words[2] = "prompt,hybrid"
    assert set(tandem(*words).json["modes"]) == {"hybrid", "prompt"}
    spoken = tandem(*words[:-1])
    assert "hybrid" in spoken.out and "prompt" in spoken.out and "citation_precision" in spoken.out


def test_questions_of_a_test_are_no_conversations(
    ready: Deployment, tandem: Tandem, words: list[object], reply_with: ReplyWith
) -> None:
    reply_with(REPLY)
    tandem(*words)
    assert not (ready.home / "state.sqlite3").exists()


def test_a_killed_run_goes_on(ready: Deployment, tandem: Tandem, words: list[Any], reply_with: ReplyWith) -> None:
    hanging = [{**case, "question": f"{case['question']} HANG"} if case["id"] == "c3" else case for case in CASES]
    write_rows(words[4], hanging)
    answers = ready.root / "report" / "answers.jsonl"
    killed = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.kit", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with killed:
        while killed.poll() is None and not (answers.is_file() and answers.read_bytes().count(b"\n") == 2):
            time.sleep(0.05)
        assert killed.poll() is None, killed.stderr and killed.stderr.read()
        killed.kill()
    before = answers.read_bytes()
    model = reply_with(REPLY)
    report = tandem(*words, "--resume").json
    assert asked(model) == ["c3"] and answers.read_bytes().startswith(before)
    assert report["cases"] == 3 and report["modes"]["rag"]["facts"]["n"] == 2


def test_half_a_line_is_asked_again(tandem: Tandem, words: list[object], reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    whole = tandem(*words).json
    answers = Path(str(words[6])) / "answers.jsonl"
    data = answers.read_bytes()
    answers.write_bytes(data[: data.index(b"\n") + 40])
    model = reply_with(REPLY)
    resumed = tandem(*words, "--resume").json
    assert asked(model) == ["c2", "c3"]
    assert [row["id"] for row in read_rows(answers)] == ["c1", "c2", "c3"]
    for name in ("facts", "citation_hit", "citation_precision", "abstention", "style", "prompt_tokens"):
        assert resumed["modes"]["rag"][name] == whole["modes"]["rag"][name]


def test_without_resume_everything_is_asked_again(tandem: Tandem, words: list[object], reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    tandem(*words)
    model = reply_with(REPLY)
    tandem(*words)
    assert asked(model) == ["c1", "c2", "c3"]
    assert len(read_rows(Path(str(words[6])) / "answers.jsonl")) == 3


def test_other_cases_in_the_folder_are_an_error(tandem: Tandem, words: list[Any], reply_with: ReplyWith) -> None:
    reply_with(REPLY)
    tandem(*words)
    write_rows(words[4], CASES[:2])
    before = (words[6] / "answers.jsonl").read_bytes()
    ran = tandem(*words, "--resume")
    assert ran.status == 1 and "other cases" in ran.complaint
    assert (words[6] / "answers.jsonl").read_bytes() == before


def test_errors_count_as_wrong(tandem: Tandem, words: list[object], reply_with: ReplyWith) -> None:
    def breaks(messages: Any) -> str:
        if CASES[1]["question"] in messages[-1].content:
            raise ModelUnavailable("openai:x does not answer.")
        return REPLY

    reply_with(breaks)
    report = tandem(*words).json
    metrics = report["modes"]["rag"]
    assert report["errors"]["rag"] == {"count": 1, "first": "openai:x does not answer."}
    assert (metrics["facts"]["value"], metrics["citation_hit"]["value"], metrics["citation_precision"]["value"]) == (
        0.5, 0.5, 0.5,
    )  # fmt: skip
    assert metrics["style"]["value"] == pytest.approx(2 / 3) and metrics["total_ms"]["n"] == 2
    assert "1 of 3 cases failed" in tandem(*words[:-1]).err


def test_an_answer_may_hold_any_character(tandem: Tandem, words: list[object], reply_with: ReplyWith) -> None:
    reply_with(REPLY.replace(" Settings,", "\u2028Settings,"))
    tandem(*words)
    assert tandem(*words, "--resume").status == 0


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({2: "rag,guess"}, 2, "guess"),
        ({2: ""}, 2, "--modes"),
        ({4: "missing.jsonl"}, 1, "missing.jsonl"),
        ({4: "tandem.toml"}, 1, "line 2"),
    ],
)
def test_wrong_usage(
    tandem: Tandem, words: list[Any], reply_with: ReplyWith, change: dict[int, str], status: int, named: str
) -> None:
    model = reply_with(REPLY)
    for place, word in change.items():
        words[place] = word
    ran = tandem(*words)
    assert ran.status == status and named in ran.complaint and model.asked == []
