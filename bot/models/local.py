"""Local weights: openvino-genai reading our GGUF as the default, plain transformers as the reference."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bot.errors import ModelError, ModelMissing
from bot.models import Sampling
from prompts.messages import Message
from prompts.tokenizer import ChatTokenizer

_END = object()


class TokenCounter:
    """Count tokens as the model in a folder does, without loading its weights."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = ChatTokenizer(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._context = int(config.get("max_position_embeddings", 2048))

    @property
    def name(self) -> str:
        """Name the model after its folder."""
        return self._folder.name

    @property
    def context_tokens(self) -> int:
        """Return how many tokens prompt and answer may have together."""
        return self._context

    @property
    def template(self) -> ChatTokenizer:
        """Return the tokenizer with the model's chat template."""
        return self._tokenizer

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt."""
        return len(self._tokenizer.encode_messages(messages))

    def count_text(self, text: str) -> int:
        """Count the tokens of a text."""
        return len(self._tokenizer.encode(text))


class _LocalModel(TokenCounter):
    """Share between the engines: one generation at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._lock = threading.Lock()

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield text; generation runs in its own thread, and stops when the iterator is closed."""
        ids = self._tokenizer.encode_messages(messages)
        if len(ids) + sampling.max_tokens > self._context:
            raise ModelError(f"The prompt has {len(ids)} tokens; {self.name} takes {self._context} with the answer.")
        stop = threading.Event()
        tokens: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                with self._lock:
                    if not stop.is_set():
                        self._generate(ids, sampling, tokens, stop)
            except Exception as error:  # handed to the reader, who raises it in its own thread
                tokens.put(error)
            finally:
                tokens.put(_END)

        # Not a daemon: at exit the interpreter waits for the engine, which stops at its next token.
        threading.Thread(target=work, name="generate").start()
        try:
            yield from self._tokenizer.decode_stream(_drain(tokens))
        finally:
            stop.set()

    def _generate(
        self, ids: Sequence[int], sampling: Sampling, tokens: queue.SimpleQueue[Any], stop: threading.Event
    ) -> None:
        raise NotImplementedError


def _drain(tokens: queue.SimpleQueue[Any]) -> Iterator[int]:
    while (item := tokens.get()) is not _END:
        if isinstance(item, Exception):
            raise ModelError(f"The local model failed: {item}") from item
        yield item


class OpenVinoModel(_LocalModel):
    """Generate with openvino-genai from a GGUF or an OpenVINO folder; torch is not needed."""

    def __init__(self, folder: Path, weights: Path) -> None:
        super().__init__(folder)
        try:
            import openvino_genai
        except ImportError as error:
            raise ModelMissing("openvino-genai is not installed. Run 'make setup'.") from error
        self._genai = openvino_genai
        scheduler = openvino_genai.SchedulerConfig()
        # A cached prefix answers ten times sooner, which would tell one customer what another was shown.
        scheduler.enable_prefix_caching = False
        # f32: half precision reads a prompt faster and writes slower; for short answers the sum is the same.
        # Unpinned: threads tied to cores lose to whatever else runs on those (70 against 77 tokens/s on two cores).
        self._pipeline = openvino_genai.LLMPipeline(
            str(weights),
            "CPU",
            scheduler_config=scheduler,
            INFERENCE_PRECISION_HINT="f32",
            ENABLE_CPU_PINNING=False,
        )

    def _generate(
        self, ids: Sequence[int], sampling: Sampling, tokens: queue.SimpleQueue[Any], stop: threading.Event
    ) -> None:
        import numpy as np
        import openvino

        config = self._genai.GenerationConfig()
        config.max_new_tokens = sampling.max_tokens
        config.eos_token_id = self._tokenizer.eos_id
        config.stop_token_ids = {self._tokenizer.eos_id}
        config.repetition_penalty = sampling.repetition_penalty
        if sampling.temperature > 0:
            config.do_sample, config.temperature = True, sampling.temperature
        table = np.asarray([ids], dtype=np.int64)
        inputs = self._genai.TokenizedInputs(openvino.Tensor(table), openvino.Tensor(np.ones_like(table)))
        self._pipeline.generate(inputs, config, _streamer(self._genai, tokens, stop))


def _streamer(genai: Any, tokens: queue.SimpleQueue[Any], stop: threading.Event) -> Any:
    class Streamer(genai.StreamerBase):  # type: ignore[misc]
        def write(self, token: Any) -> Any:
            for one in token if isinstance(token, list) else [token]:
                tokens.put(int(one))
            return genai.StreamingStatus.CANCEL if stop.is_set() else genai.StreamingStatus.RUNNING

        def end(self) -> None:
            """Have nothing to flush."""

    return Streamer()


class TransformersModel(_LocalModel):
    """Generate with transformers; the reference that the default engine is measured against."""

    def __init__(self, folder: Path, dtype: str = "float32") -> None:
        super().__init__(folder)
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise ModelMissing("This model needs torch and transformers. Run 'make setup'.") from error
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._model.eval()

    def _generate(
        self, ids: Sequence[int], sampling: Sampling, tokens: queue.SimpleQueue[Any], stop: threading.Event
    ) -> None:
        import torch
        from transformers import StoppingCriteria
        from transformers.generation.streamers import BaseStreamer

        class Put(BaseStreamer):  # type: ignore[misc]
            def __init__(self) -> None:
                self.prompt = True

            def put(self, value: Any) -> None:
                if not self.prompt:
                    for token in value.flatten().tolist():
                        tokens.put(token)
                self.prompt = False

            def end(self) -> None:
                pass

        class Stopped(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
                return torch.full((input_ids.shape[0],), stop.is_set(), dtype=torch.bool)

        table = torch.tensor([list(ids)])
        options: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            options["temperature"] = sampling.temperature
        with torch.inference_mode(), suppress(StopIteration):
            self._model.generate(
                table,
                attention_mask=torch.ones_like(table),
                max_new_tokens=sampling.max_tokens,
                repetition_penalty=sampling.repetition_penalty,
                eos_token_id=self._tokenizer.eos_id,
                pad_token_id=self._tokenizer.eos_id,
                streamer=Put(),
                stopping_criteria=[Stopped()],
                **options,
            )
