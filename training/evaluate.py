"""Evaluate: the modes of one bot side by side on the same cases, resumable after a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bot.answer import Answer, Mode, SupportBot
from bot.errors import BotError
from retrieval.errors import RetrievalError
from retrieval.files import write_atomically
from training.cases import Case
from training.errors import CasesError
from training.metrics import Metric, Result, measure

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Hold the metrics of each mode; `errors` counts what failed and shows the first message."""

    modes: Mapping[str, Mapping[str, Metric]]
    groups: Mapping[str, Mapping[str, Mapping[str, Metric]]]  # the same by mode, for a part of the cases
    errors: Mapping[str, Mapping[str, Any]]
    cases: int
    release: str | None
    generation: str | None
    model: str
    seconds: float


class Evaluator:
    """Run cases through a bot and keep every answer under `folder`, so that a killed run can go on."""

    def __init__(self, bot: SupportBot, folder: Path, *, closing: str, held_out: frozenset[str] = frozenset()) -> None:
        """Take a bot; cases that rest on a document in `held_out`, which no training prompt showed, are told apart."""
        self._bot = bot
        self._folder = folder
        self._closing = closing
        self._held_out = held_out

    def run(
        self, cases: Sequence[Case], digest: str, modes: Sequence[Mode], *, resume: bool, progress: Progress
    ) -> Evaluation:
        """Answer each case in each mode and measure; raises CasesError when another run stands in the folder."""
        started = time.perf_counter()
        state = self._bot.readiness()
        self._begin({"cases": digest, **{k: state[k] for k in ("generation", "release", "model")}}, resume)
        done = self._done()
        total = len(cases) * len(modes)
        with (self._folder / "answers.jsonl").open("a", encoding="utf-8") as file:
            for mode in modes:
                for case in cases:
                    if (mode, case.id) not in done:
                        done[mode, case.id] = row = self._ask(mode, case)
                        file.write(json.dumps(row, ensure_ascii=False) + "\n")
                        file.flush()
                    progress("cases", len(done), total)
        results = {mode: [_result(case, done[mode, case.id]) for case in cases] for mode in modes}
        names = self.first_names(cases)

        def measured(part: Sequence[Result]) -> Mapping[str, Metric]:
            return measure(part, closing=self._closing, first_names=names)

        evaluation = Evaluation(
            modes={m: measured(r) for m, r in results.items()},
            groups={m: {name: measured(part) for name, part in self._groups(r)} for m, r in results.items()},
            errors={m: _errors(r) for m, r in results.items()},
            cases=len(cases),
            release=state["release"],
            generation=state["generation"],
            model=state["model"],
            seconds=round(time.perf_counter() - started, 1),
        )
        write_atomically(self._folder / "evaluation.json", json.dumps(asdict(evaluation), indent=1))
        return evaluation

    def _groups(self, results: Sequence[Result]) -> Iterator[tuple[str, list[Result]]]:
        """Yield the cases by what they rest on, then by kind."""
        if self._held_out:
            resting = [r for r in results if r.case.documents]
            yield "seen documents", [r for r in resting if not self._held_out & set(r.case.documents)]
            yield "unseen documents", [r for r in resting if self._held_out & set(r.case.documents)]
        for kind in dict.fromkeys(r.case.kind for r in results if r.case.kind):
            yield kind, [r for r in results if r.case.kind == kind]

    def results(self, cases: Sequence[Case], mode: Mode) -> list[Result]:
        """Return what a finished run answered in one mode."""
        done = self._done()
        return [_result(case, done[mode, case.id]) for case in cases]

    def first_names(self, cases: Sequence[Case]) -> dict[str, str]:
        """Return the first names of the cases' customers, by id."""
        found = {}
        for customer_id in {case.customer for case in cases if case.customer}:
            customer = self._bot.records.find_customer(customer_id)
            if customer and customer.first_name:
                found[customer_id] = customer.first_name
        return found

    def _begin(self, identity: Mapping[str, Any], resume: bool) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "run.json"
        if resume and path.is_file():
            if json.loads(path.read_text(encoding="utf-8")) != identity:
                raise CasesError(
                    f"The run in {self._folder} had other cases, knowledge or model. Start anew without --resume."
                )
            return
        (self._folder / "answers.jsonl").unlink(missing_ok=True)
        write_atomically(path, json.dumps(identity))

    def _done(self) -> dict[tuple[str, str], dict[str, Any]]:
        path = self._folder / "answers.jsonl"
        rows = {}
        for line in _whole_lines(path) if path.is_file() else ():
            row = json.loads(line)
            rows[row["mode"], row["id"]] = row
        return rows

    def _ask(self, mode: Mode, case: Case) -> dict[str, Any]:
        try:
            answer = self._bot.answer(case.question, customer_id=case.customer, mode=mode, history=case.messages)
        except (BotError, RetrievalError) as error:
            return {"mode": mode, "id": case.id, "error": str(error)}
        return {"mode": mode, "id": case.id, **_row(answer)}


def _whole_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, cutting off what a kill left unfinished."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        path.write_bytes(whole)
    yield from (line for line in whole.decode("utf-8").split("\n") if line)


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "action": answer.action,
        "documents": [f"{c.source}/{c.document}" for c in answer.citations],
        "first_token_ms": answer.milliseconds["first_token"],
        "total_ms": answer.milliseconds["total"],
        "prompt_tokens": answer.usage["prompt_tokens"] or None,  # None where a rule answered, without the model
    }


def _result(case: Case, row: Mapping[str, Any]) -> Result:
    if "error" in row:
        return Result(case, error=row["error"])
    return Result(
        case,
        text=row["text"],
        action=row["action"],
        documents=tuple(row["documents"]),
        first_token_ms=row["first_token_ms"],
        total_ms=row["total_ms"],
        prompt_tokens=row["prompt_tokens"],
    )


def _errors(results: Sequence[Result]) -> dict[str, Any]:
    messages = [r.error for r in results if r.error]
    return {"count": len(messages), "first": messages[0] if messages else None}
