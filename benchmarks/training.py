"""Measure training beside TRL's SFTTrainer: the same examples, model, adapter and number of steps.

Run as: python benchmarks/training.py DATASET [EXAMPLES]

DATASET is the dataset.jsonl of a run (`<home>/runs/<name>/dataset.jsonl`); EXAMPLES (96) of it are trained on once,
neighbours taken together as they came, and 24 more measure the loss. Each side runs in a process of its own. TRL is no
dependency: install it beside (`pip install trl`) or its rows are left out. A token is useful when it belongs to an
example: its whole prompt and its answer, however they were computed.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402

SIDES = ("ours", "trl", "trl packed")
RATE, RANK, PER_STEP = 2e-4, 16, 16


def read(path: Path, count: int) -> tuple[list[Any], list[Any]]:
    """Return examples to train on and to measure the loss on, encoded."""
    from bot import weights
    from prompts.tokenizer import ChatTokenizer
    from training.dataset import load_dataset
    from training.encode import encode

    dataset = load_dataset(path)
    tokenizer = ChatTokenizer(weights.chat_model_folder())
    own = [e for e in dataset.train if len(e.messages) > 1]
    return [encode(e, tokenizer) for e in own[:count]], [encode(e, tokenizer) for e in own[count : count + 24]]


def validation_loss(model: Any, examples: list[Any]) -> float:
    """Return the loss per supervised token, one example at a time and with plain attention, for either side."""
    import torch

    total, tokens = 0.0, 0
    with torch.no_grad():
        for example in examples:
            ids = torch.tensor([example.ids])
            logits = model(input_ids=ids).logits[0, example.start - 1 : -1].float()
            total += float(torch.nn.functional.cross_entropy(logits, ids[0, example.start :], reduction="sum"))
            tokens += example.supervised
    return total / tokens


def ours(train: list[Any], folder: Path) -> Path:
    """Train as `tandem train` does."""
    from bot import weights
    from training.lora import Hyperparameters, LoraTrainer

    settings = Hyperparameters(rank=RANK, alpha=2 * RANK, learning_rate=RATE, examples_per_step=PER_STEP)
    return LoraTrainer(weights.chat_model_folder(), folder, settings, "benchmark").run(train, [], lambda _: None)


def trl(train: list[Any], folder: Path, *, packed: bool) -> Path:
    """Train with SFTTrainer on the same tokens: its defaults, or packing with a bf16 model."""
    import torch
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    from bot import weights

    base = weights.chat_model_folder()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"), eos_token="<|im_end|>")
    tokenizer.pad_token = "<|im_end|>"
    rows = [{"input_ids": list(e.ids), "completion_mask": [0] * e.start + [1] * e.supervised} for e in train]
    examples = Dataset(InMemoryTable.from_pylist(rows), fingerprint="examples")
    options: dict[str, Any] = {"packing": True, "bf16": True} if packed else {}
    config = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=1 if packed else 4,
        gradient_accumulation_steps=PER_STEP // 2 if packed else PER_STEP // 4,
        learning_rate=RATE,
        num_train_epochs=1,
        max_length=2048,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        **options,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if packed else torch.float32)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=model, args=config, train_dataset=examples, processing_class=tokenizer, peft_config=lora)
    trainer.train()
    trainer.model.save_pretrained(folder / "adapter")
    return folder / "adapter"


def side(name: str, dataset: Path, count: int) -> dict[str, float]:
    """Train one side in this process and return what it took."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from bot import weights

    train, held_out = read(dataset, count)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = ours(train, Path(folder)) if name == "ours" else trl(train, Path(folder), packed=name == "trl packed")
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        model = AutoModelForCausalLM.from_pretrained(weights.chat_model_folder(), dtype=torch.float32)
        loss = validation_loss(PeftModel.from_pretrained(model, run), held_out)
    useful = sum(len(e.ids) for e in train)
    return {"seconds": seconds, "tokens_per_second": useful / seconds, "peak_mb": peak, "loss": loss}


def main() -> None:
    """Run each side and print one table."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        print("left out: give the dataset.jsonl of a run of 'tandem train'")
        return
    dataset, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 96
    if len(sys.argv) > 3:
        warnings.simplefilter("ignore")
        print(json.dumps(side(sys.argv[3], dataset, count)))
        return
    print(f"{machine()}; {count} examples of {dataset}, one epoch, rank {RANK}, {PER_STEP} examples a step")
    for name in SIDES:
        command = [sys.executable, __file__, str(dataset), str(count), name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{name:<11} left out: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}")
            continue
        r = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{name:<11} {r['tokens_per_second']:>6.0f} useful tokens/s  {r['seconds']:>5.0f} s  "
            f"peak {r['peak_mb']:>6,.0f} MB  validation loss {r['loss']:.3f}"
        )


if __name__ == "__main__":
    main()
