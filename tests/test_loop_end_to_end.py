"""From logs to a release that serves: the whole loop on a model of two layers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from bot.bootstrap import build_bot, build_releases
from bot.settings import Settings, load_settings
from tests.bot.tiny_model import tiny_base
from training.pipeline import Outcome, Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # transformers and peft warn at will


class Told:
    """Take what a run tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, name: str, done: int, total: int, detail: str = "") -> None:
        assert 0 <= done <= total


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: on layers this small, several only wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tiny_base(tmp_path / "tiny")
    rows = [
        {
            "conversation_id": f"c{n}",
            "messages": [
                {"role": "user", "content": f"w{n} w{n + 1} w{n + 2}"},
                {"role": "assistant", "content": f"w{n + 3} w{n + 4} w57"},
            ],
        }
        for n in range(20)
    ]
    (tmp_path / "logs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tandem.toml").write_text(
        '[bot]\nmodel = "tiny"\nengine = "transformers"\nmax_tokens = 8\n'
        "[training]\nrank = 4\nlearning_rate = 0.02\nepochs = 2\nexamples_per_step = 8\nvalidation = 0.2\n"
        "redact = false\nlanguages = []\nforgetting_items = 50\n"
    )
    return load_settings(tmp_path / "tandem.toml")


def train(settings: Settings, name: str, **options: str) -> Outcome:
    pipeline = Pipeline(settings, Told(), base=None, recipe="closed-book")
    return pipeline.run(logs=settings.root / "logs.jsonl", name=name, promote=options.get("promote", "auto"))  # type: ignore[arg-type]


def test_from_logs_to_an_answer(settings: Settings) -> None:
    outcome = train(settings, "first")
    releases = build_releases(settings)
    release = releases.get("first")
    folder = settings.home / "runs" / "first"

    assert outcome.release == outcome.run == "first" and outcome.recipe == "closed-book"
    assert outcome.examples > 10 and outcome.tokens > 0
    assert (folder / "report.html").is_file() and json.loads((folder / "gate.json").read_text())["replies"]["n"] > 0
    assert release.data_hash and release.gate["passed"] is outcome.gate["passed"]
    assert release.templates().texts and (release.folder / "README.md").read_text().startswith("# first")
    if not outcome.promoted:
        releases.promote("first", force=True)
    answer = build_bot(settings).answer("w1 w2 w3", mode="finetuned")
    assert answer.release == "first" and answer.text


def test_the_same_data_gives_the_same_adapter(settings: Settings) -> None:
    adapters = []
    for name in ("one", "two"):
        train(settings, name, promote="never")
        adapters.append(build_releases(settings).get(name))
    assert adapters[0].adapter_sha256 == adapters[1].adapter_sha256
    assert adapters[0].data_hash == adapters[1].data_hash
    assert build_releases(settings).promoted().closed_book is None


def test_a_finished_name_is_refused(settings: Settings) -> None:
    train(settings, "first", promote="never")
    with pytest.raises(Exception, match="There is a release 'first' already"):
        train(settings, "first", promote="never")
