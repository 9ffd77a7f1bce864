"""Measure the local embedder beside torch and onnxruntime: one query, many chunks, memory.

Run as: python benchmarks/embedding.py [--rounds 3] [--chunks 192] [--json FILE]

All engines run the same weights in fp32 on the same texts, each in its own process, in turns. "torch"
does what sentence-transformers does (transformers' BertModel, batches of 32 sorted by length, mean
pooling, unit length), without that package. "onnxruntime" runs the same model exported from torch; it
is left out when the `onnx` package, which the export needs, is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402

CHUNK_TOKENS = 200
MAX_LENGTH = 256
QUERIES = 300  # timed one by one, after 30 that are not
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def main() -> None:
    """Prepare the texts, run every engine in turns and print the table."""
    options = parse_options()
    if options.engine:
        run_engine(options.engine, options.folder, options.work)
        return
    folder = options.folder or default_folder()
    with tempfile.TemporaryDirectory() as work:
        texts = {"queries": make_queries(), "chunks": make_chunks(folder, options.chunks)}
        (Path(work) / "texts.json").write_text(json.dumps(texts))
        engines = ["tandem", "torch"]
        if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
            spawn("export", folder, Path(work))
            engines.append("onnxruntime")
        rounds = [{engine: spawn(engine, folder, Path(work)) for engine in engines} for _ in range(options.rounds)]
        report = summarise(rounds, Path(work))
    print_table(report)
    if options.json:
        options.json.write_text(json.dumps(report | {"rounds": rounds}, indent=2) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line; --engine and --work are for the script's own child processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="of the weights (default: where 'make setup' puts them)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=192)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every number here")
    parser.add_argument("--engine", choices=[*ENGINES, "export"], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def default_folder() -> Path:
    """Ask the bot where the weights lie."""
    from bot.weights import embedder_folder

    return embedder_folder()


def make_queries() -> list[str]:
    """Take the customers' messages of the worked example, repeated up to 330."""
    lines = (ROOT / "examples" / "conversations.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [turn for line in lines for turn in json.loads(line)["messages"]]
    found = [turn["content"] for turn in turns if turn["role"] == "user"]
    return [found[number % len(found)] for number in range(QUERIES + 30)]


def make_chunks(folder: Path, count: int) -> list[str]:
    """Cut the worked example's knowledge into windows of about 200 word pieces, moving on by a third."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    files = sorted((ROOT / "examples" / "knowledge").rglob("*.md"))
    text = "\n\n".join(file.read_text(encoding="utf-8") for file in files)
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    size = CHUNK_TOKENS - 2
    starts = [step * (size // 3) % (len(offsets) - size) for step in range(count)]
    # Lengths of 150 to 250, as a splitter leaves them, on average 200.
    ends = [start + size - 50 + (37 * step) % 101 for step, start in enumerate(starts)]
    last = len(offsets) - 1
    return [text[offsets[start][0] : offsets[min(end, last)][0]] for start, end in zip(starts, ends, strict=True)]


def spawn(engine: str, folder: Path, work: Path) -> dict[str, float]:
    """Run one engine in its own process and read what it measured."""
    command = [sys.executable, __file__, "--engine", engine, "--folder", str(folder), "--work", str(work)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{engine} failed:\n{result.stderr}")
    measured: dict[str, float] = json.loads((work / f"{engine}.json").read_text())
    return measured


def run_engine(engine: str, folder: Path, work: Path) -> None:
    """Load the engine, time it, and write numbers and vectors into `work`."""
    if engine == "export":
        export_onnx(folder, work)
        (work / "export.json").write_text("{}")
        return
    texts = json.loads((work / "texts.json").read_text())
    started = time.perf_counter()
    embed = ENGINES[engine](folder, work)
    embed(["ready"])
    ready = time.perf_counter() - started
    times = []
    for query in texts["queries"]:
        began = time.perf_counter()
        embed([query])
        times.append((time.perf_counter() - began) * 1e3)
    embed(texts["chunks"][:32])
    began = time.perf_counter()
    vectors = embed(texts["chunks"])
    rate = len(vectors) / (time.perf_counter() - began)
    np.save(work / f"{engine}.npy", vectors)
    timed = np.array(times[-QUERIES:])
    measured = {
        "ready_s": ready,
        "query_p50_ms": float(np.percentile(timed, 50)),
        "query_p95_ms": float(np.percentile(timed, 95)),
        "chunks_per_s": rate,
        "peak_rss_mb": peak_rss_mb(),
    }
    (work / f"{engine}.json").write_text(json.dumps(measured))


def tandem_engine(folder: Path, work: Path) -> Embed:
    """Load ours."""
    from retrieval.embedders.minilm import MiniLMEmbedder

    return MiniLMEmbedder(folder).embed


def torch_engine(folder: Path, work: Path) -> Embed:
    """Load transformers' BertModel in fp32 and pool as sentence-transformers does."""
    warnings.simplefilter("ignore")
    import torch

    module = pooled_bert(folder, "sdpa")

    def forward(batch: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors = module(torch.from_numpy(batch["ids"]), torch.from_numpy(batch["mask"])).numpy()
        return np.asarray(vectors, dtype=np.float32)

    return in_batches(folder, forward)


def onnxruntime_engine(folder: Path, work: Path) -> Embed:
    """Load the exported model."""
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(work / "model.onnx"), providers=["CPUExecutionProvider"])
    return in_batches(folder, lambda batch: np.asarray(session.run(None, batch)[0], dtype=np.float32))


ENGINES: dict[str, Callable[[Path, Path], Embed]] = {
    "tandem": tandem_engine,
    "torch": torch_engine,
    "onnxruntime": onnxruntime_engine,
}


def in_batches(folder: Path, forward: Callable[[dict[str, NDArray[np.int64]]], NDArray[np.float32]]) -> Embed:
    """Tokenize, sort by length, run 32 at a time padded to the longest, and restore the order."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.no_padding()

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        pieces = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(pieces)), key=lambda row: -len(pieces[row]))
        vectors = np.empty((len(pieces), 384), dtype=np.float32)
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            width = len(pieces[rows[0]])
            ids = np.array([pieces[row] + [0] * (width - len(pieces[row])) for row in rows], dtype=np.int64)
            mask = np.array([[int(at < len(pieces[row])) for at in range(width)] for row in rows])
            vectors[rows] = forward({"ids": ids, "mask": mask})
        return vectors

    return embed


def pooled_bert(folder: Path, attention: str) -> Any:
    """Build BertModel with mean pooling and unit length as one torch module in fp32."""
    import torch
    from transformers import BertModel

    class Pooled(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=attention, add_pooling_layer=False
            )

        def forward(self, ids: Any, mask: Any) -> Any:
            hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask.unsqueeze(-1).float()
            return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=1)

    return Pooled().eval()


def export_onnx(folder: Path, work: Path) -> None:
    """Export with the TorchScript exporter and eager attention, which traces cleanly."""
    warnings.simplefilter("ignore")
    import torch

    ids = torch.ones(2, 8, dtype=torch.long)
    torch.onnx.export(
        pooled_bert(folder, "eager"),
        (ids, ids),
        str(work / "model.onnx"),
        dynamo=False,
        input_names=["ids", "mask"],
        output_names=["vectors"],
        dynamic_axes={name: {0: "batch", 1: "length"} for name in ("ids", "mask")} | {"vectors": {0: "batch"}},
        opset_version=17,
    )


def summarise(rounds: list[dict[str, dict[str, float]]], work: Path) -> dict[str, Any]:
    """Take the median of the rounds and compare each engine's vectors with torch's."""
    reference = np.load(work / "torch.npy")
    engines: dict[str, dict[str, float]] = {}
    for engine in rounds[0]:
        keys = rounds[0][engine]
        engines[engine] = {key: statistics.median(one[engine][key] for one in rounds) for key in keys}
        engines[engine]["max_diff"] = float(np.abs(np.load(work / f"{engine}.npy") - reference).max())
    return {"machine": machine(), "engines": engines}


def print_table(report: dict[str, Any]) -> None:
    """Print one line an engine."""
    print(report["machine"])
    print("all-MiniLM-L6-v2, fp32, the same texts; medians of the rounds\n")
    head = ["engine", "ready s", "query p50 ms", "p95 ms", "chunks/s", "peak RSS MB", "max diff to torch"]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for engine, row in report["engines"].items():
        print(
            f"| {engine} | {row['ready_s']:.2f} | {row['query_p50_ms']:.2f} | {row['query_p95_ms']:.2f} "
            f"| {row['chunks_per_s']:.1f} | {row['peak_rss_mb']:.0f} | {row['max_diff']:.1e} |"
        )
    if "onnxruntime" not in report["engines"]:
        print("\nonnxruntime left out: pip install onnx onnxruntime")


def peak_rss_mb() -> float:
    """Read this process's own peak; getrusage would count the parent's before exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
