"""Measure what real service conversations teach: the next reply, and the values of the record that it must state.

Run as: python benchmarks/records.py FILE [CONVERSATIONS] [REPLIES]

FILE is STAR's conversations.jsonl.gz (Rasa, MIT): each reply with the record that the agent looked at. CONVERSATIONS
(400) of the train split are trained on by the one command, `tandem train --logs FILE`, in a new folder without sources;
REPLIES (120) of the dev split, with the record as context, are then written by the base model and by the release. chrF
(Popovic, 2015) compares them with what the human wrote; a value is exact where the human stated it and the model does.
"""

from __future__ import annotations

import gzip
import json
import random
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sacrebleu.metrics import CHRF  # noqa: E402

from benchmarks.command import tandem  # noqa: E402
from benchmarks.machine import machine  # noqa: E402
from bot.bootstrap import base_folder, build_model, build_release, build_releases, options  # noqa: E402
from bot.models import ChatModel  # noqa: E402
from bot.models.local import TokenCounter  # noqa: E402
from bot.settings import Settings, load_settings  # noqa: E402
from prompts.templates import default_templates  # noqa: E402
from training.conversations import Conversation  # noqa: E402
from training.examples import Example, ExampleBuilder  # noqa: E402
from training.metrics import normalise, proportion  # noqa: E402


def asked(settings: Settings, rows: list[Conversation]) -> Iterator[tuple[Example, list[str]]]:
    """Yield the prompts of replies that rest on a record, with the values that the human stated."""
    base = base_folder(settings)
    assert base is not None
    builder = ExampleBuilder(
        options(settings), default_templates(), TokenCounter(base), recipe="hybrid", evidence=None, seed=0
    )
    for row in rows:
        replies = [message for message in row.messages if message.role == "assistant"]
        for (example, _), reply in zip(builder.examples(row), replies, strict=True):
            values = {normalise(str(value)) for value in (reply.record or {}).values()}
            stated = sorted(value for value in values if len(value) > 1 and value in normalise(reply.content))
            if example is not None and stated:
                yield example, stated


def row_of(name: str, model: ChatModel, settings: Settings, chosen: list[tuple[Example, list[str]]]) -> None:
    """Let a model write the replies and print how they compare."""
    sampling = options(settings).sampling
    said = ["".join(model.stream(example.messages, sampling)) for example, _ in chosen]
    chrf = CHRF().corpus_score(said, [[example.answer for example, _ in chosen]]).score
    exact = proportion([v in normalise(text) for text, (_, values) in zip(said, chosen, strict=True) for v in values])
    print(f"{name:<8} chrF {chrf:5.1f}; record values exact {exact.value:.0%} ({exact.low:.0%} to {exact.high:.0%})")


def main() -> None:
    """Train, let both models write, print."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        print("left out: give STAR's conversations.jsonl.gz")
        return
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    replies = int(sys.argv[3]) if len(sys.argv) > 3 else 120
    rows = [json.loads(line) for line in gzip.open(sys.argv[1], "rt", encoding="utf-8")]
    draw = random.Random(0)
    train = draw.sample([row for row in rows if row["split"] == "train"], count)
    held_out = [row for row in rows if row["split"] == "dev"]
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        (here / "tandem.toml").write_text('[bot]\ncompany = "STAR"\n', encoding="utf-8")
        (here / "logs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in train), encoding="utf-8")
        done = tandem(here, "train", "--logs", "logs.jsonl", "--name", "star", "--json")
        outcome = json.loads(done.stdout)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"{machine()}; {count} conversations, {outcome['examples']} examples, "
            f"{outcome['seconds'] / 60:.1f} minutes, peak {peak:,.0f} MB; {outcome['gate']['metrics']['verdict']}",
            flush=True,
        )
        settings = load_settings(here / "tandem.toml")
        found = list(asked(settings, [Conversation.model_validate(row) for row in held_out]))
        chosen = draw.sample(found, min(replies, len(found)))
        print(f"{len(chosen)} replies of {len(held_out)} unseen conversations, {sum(len(v) for _, v in chosen)} values")
        row_of("base", build_model(settings), settings, chosen)
        row_of("release", build_release(settings, build_releases(settings).get("star")), settings, chosen)


if __name__ == "__main__":
    main()
