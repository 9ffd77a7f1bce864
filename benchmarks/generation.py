"""Time the default engine beside transformers on this project's median prompt, in one run.

Run as: python benchmarks/generation.py [--json] [--rounds 3] [--repeats 3]
The engines take turns, each round in a process of its own, so that a busy moment of the machine does not fall on one
of them and peak memory is each one's own; figures are medians over the rounds. The prompt is the one of median size
among the eval cases of the worked example, built as it is served.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402
from bot import weights  # noqa: E402
from bot.models import ChatModel, Sampling  # noqa: E402
from prompts.messages import Message  # noqa: E402
from prompts.tokenizer import ChatTokenizer  # noqa: E402

ENGINES = ("openvino-genai, Q8_0 GGUF, f32 hint", "transformers float32", "transformers bfloat16")
TOKENS = 64


def median_prompt() -> list[Message]:
    """Return the served prompt of median size over the worked example's eval cases."""
    from bot.answer import SupportBot
    from bot.bootstrap import build_records, build_refresher, build_searcher, build_turns, options
    from bot.settings import load_settings
    from training.cases import load_cases

    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(ROOT / "tandem.toml").model_copy(update={"home": Path(home)})
        build_refresher(settings).refresh()
        records = build_records(settings)
        model = PromptCatcher(ChatTokenizer(weights.chat_model_folder()))
        bot = SupportBot(model, build_searcher(settings, records), records, build_turns(settings), options(settings))
        cases, _ = load_cases(ROOT / "examples" / "eval" / "cases.jsonl")
        for case in cases:
            bot.answer(case.question, customer_id=case.customer or "cus_42", history=case.messages)
    prompts = sorted(model.prompts, key=model.count_tokens)
    return prompts[len(prompts) // 2]


class PromptCatcher:
    """Stand in for a model: keep each prompt and say nothing."""

    name = "catcher"
    context_tokens = 8192

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.template = tokenizer
        self.prompts: list[list[Message]] = []

    def count_tokens(self, messages: list[Message]) -> int:
        return len(self.template.encode_messages(messages))

    def count_text(self, text: str) -> int:
        return len(self.template.encode(text))

    def stream(self, messages: list[Message], sampling: Sampling) -> Iterator[str]:
        self.prompts.append(list(messages))
        yield ""


def load(engine: str) -> ChatModel:
    """Load one engine on the local weights."""
    from bot.models.local import OpenVinoModel, TransformersModel

    folder = weights.chat_model_folder()
    if engine.startswith("openvino"):
        return OpenVinoModel(folder, next(folder.glob("*.gguf")))
    return TransformersModel(folder, engine.split()[-1])


def measure(engine: str, prompt: list[Message], repeats: int) -> dict[str, float]:
    """Time one engine in this process: load, first token, decode speed, peak memory."""
    began = time.perf_counter()
    model = load(engine)
    loaded = time.perf_counter() - began
    sampling = Sampling(max_tokens=TOKENS)
    firsts, speeds = [], []
    for repeat in range(repeats + 1):  # the first one warms up
        started = time.perf_counter()
        stamps, text = [], ""
        for piece in model.stream(prompt, sampling):
            stamps.append(time.perf_counter())
            text += piece
        if repeat:
            firsts.append(stamps[0] - started)
            speeds.append((model.count_text(text) - 1) / (stamps[-1] - stamps[0]))
    return {
        "load_s": loaded,
        "first_token_s": statistics.median(firsts),
        "decode_tokens_per_s": statistics.median(speeds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Run every engine and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        prompt = [Message(**m) for m in json.load(sys.stdin)]
        print(json.dumps(measure(arguments.engine, prompt, arguments.repeats)))
        return
    prompt = median_prompt()
    shown = json.dumps([{"role": m.role, "content": m.content} for m in prompt])
    tokens = len(ChatTokenizer(weights.chat_model_folder()).encode_messages(prompt))
    rounds: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(arguments.rounds):
        for engine in ENGINES:
            command = [sys.executable, __file__, "--engine", engine, "--repeats", str(arguments.repeats)]
            done = subprocess.run(command, input=shown, capture_output=True, text=True, check=True)
            rounds[engine].append(json.loads(done.stdout.splitlines()[-1]))
    results = {
        engine: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for engine, runs in rounds.items()
    }
    report(results, tokens, arguments.json)


def report(results: dict[str, dict[str, float]], tokens: int, as_json: bool) -> None:
    """Print the figures, and how the default engine compares."""
    if as_json:
        print(json.dumps({"machine": machine(), "prompt_tokens": tokens, "engines": results}))
        return
    print(f"{machine()}; prompt of {tokens} tokens, up to {TOKENS} written, median of the repeats")
    print(f"{'engine':<38}{'load s':>8}{'first token s':>15}{'decode tok/s':>14}{'peak MB':>9}")
    for engine, r in results.items():
        times = f"{r['load_s']:>8.1f}{r['first_token_s']:>15.2f}{r['decode_tokens_per_s']:>14.0f}"
        print(f"{engine:<38}{times}{r['peak_rss_mb']:>9.0f}")
    ours, bf16 = results[ENGINES[0]], results[ENGINES[2]]
    print(
        f"beside transformers bfloat16: first token {bf16['first_token_s'] / ours['first_token_s']:.1f} times as fast, "
        f"decode {ours['decode_tokens_per_s'] / bf16['decode_tokens_per_s']:.1f} times"
    )


if __name__ == "__main__":
    main()
