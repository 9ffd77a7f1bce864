"""The loop on one page: collect, curate, make examples, train, release, gate, promote, report.

Every step leaves its result in the run's folder, and a run that was killed goes on at the step where it stood.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from bot.bootstrap import base_folder, build_records, build_releases, build_searcher, options
from bot.errors import ConfigError, PromotionRefused, ReleaseError
from bot.models.local import TokenCounter
from bot.release_files import make_ready
from bot.releases import Release, base_digest
from bot.settings import Settings
from prompts.fingerprint import fingerprint
from prompts.templates import default_templates
from prompts.tokenizer import ChatTokenizer
from retrieval.files import write_atomically
from retrieval.records import Records
from retrieval.search import Searcher
from training.cases import load_cases
from training.collect import collect
from training.curate import CurateSettings, curate
from training.dataset import Dataset, build_dataset, save_dataset
from training.encode import encode
from training.errors import RunError
from training.evidence import SearchedEvidence
from training.examples import ExampleBuilder, Recipe
from training.gate import Verdict
from training.held_out import held_out
from training.lora import Hyperparameters, LoraTrainer, Point, epochs_for
from training.pii import StandIns
from training.progress import Tell
from training.release_card import write_card
from training.report import write_report
from training.trial import Trial

Promote = Literal["auto", "never"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a run came to, under the names of `tandem train --json`."""

    run: str
    release: str
    base_model: str
    recipe: str
    examples: int
    tokens: int
    seconds: float
    gate: dict[str, Any]
    promoted: bool
    report: str


class Pipeline:
    """Run the loop for one deployment."""

    def __init__(self, settings: Settings, tell: Tell, *, base: str | None, recipe: Recipe) -> None:
        """Take the deployment's settings; `base` names another base model than [bot] model."""
        self.settings = settings.with_model(base) if base else settings
        self.tell = tell
        self.recipe: Recipe = recipe
        self._deployment = settings
        folder = base_folder(self.settings)
        if folder is None:
            raise ConfigError(
                f"'{self.settings.bot.model}' is a remote model, which cannot be trained here. Give --base a folder "
                "or a Hugging Face id, or 'local'."
            )
        self.base = folder
        named = self.settings.bot.model
        self.base_model = named if "/" in named and not Path(named).expanduser().is_dir() else folder.name
        self.releases = build_releases(settings)

    def run(self, *, logs: Path | None, name: str | None, promote: Promote) -> Outcome:
        """Go from logs to a gated release, and promote it where it passed; raises TrainingError on the way."""
        started = time.monotonic()
        dataset = self.dataset(logs)
        folder = self._folder(dataset, name)
        save_dataset(folder / "dataset.jsonl", dataset)
        write_atomically(folder / "funnel.json", json.dumps([asdict(stage) for stage in dataset.funnel], indent=1))
        adapter, tokens = self._train(dataset, folder)
        release = self._release(folder, adapter, dataset)
        verdict = self._gate(release, dataset, folder)
        promoted = promote == "auto" and verdict.passed and self._promote(release)
        spent = time.monotonic() - started
        self._write_run(folder, state="done", examples=len(dataset.train), tokens=tokens, seconds=round(spent, 1))
        report = write_report(folder)
        return Outcome(
            run=folder.name,
            release=release.name,
            base_model=release.base_model,
            recipe=self.recipe,
            examples=len(dataset.train),
            tokens=tokens,
            seconds=round(spent, 1),
            gate={"passed": verdict.passed, "reasons": list(verdict.reasons), "metrics": verdict.as_json()},
            promoted=promoted,
            report=str(report),
        )

    # collect, curate, make examples

    def dataset(self, logs: Path | None) -> Dataset:
        """Make the examples of all that there is to learn from."""
        training = self.settings.training
        found = list(collect(self.settings, logs, self.tell))
        wanted = CurateSettings(languages=tuple(training.languages), replace_pii=training.redact)

        def name_of(customer_id: str) -> str | None:
            customer = self.records.find_customer(customer_id)
            return customer.name if customer else None

        curated = curate(found, wanted, names_of=name_of, knowledge=self._texts(), progress=self.tell.progress)
        dataset = build_dataset(
            curated.conversations,
            self._builder(curated.stand_ins),
            cases=[case.question for case in self.cases],
            general=list(self._general()),
            copies=training.counterfactual if self.recipe == "hybrid" else 0.0,
            validation=training.validation,
            seed=training.seed,
        )
        funnel = (*curated.funnel, *dataset.funnel)
        for stage in funnel:
            self.tell.line(f"{stage.left:>7} {stage.name}" + (f" ({stage.dropped} dropped)" if stage.dropped else ""))
        return replace(dataset, funnel=funnel)

    def _texts(self) -> list[str]:
        """Return the company's own texts: what stands there is no personal data."""
        if not self.settings.sources or self.searcher.state() is None:
            return []
        return [c.embedded_text for c in self.searcher.everything("public")]

    def _builder(self, stand_ins: Mapping[str, StandIns]) -> ExampleBuilder:
        return ExampleBuilder(
            options(self.settings),
            default_templates(),
            TokenCounter(self.base),
            recipe=self.recipe,
            evidence=self._evidence(),
            stand_ins=stand_ins,
            seed=self.settings.training.seed,
        )

    def _evidence(self) -> SearchedEvidence | None:
        if not self.settings.sources or self.recipe == "closed-book":
            return None
        if self.searcher.state() is None:
            raise RunError("There is no knowledge to build prompts from. Run 'tandem refresh' first.")
        return SearchedEvidence(
            self.searcher,
            self.records,
            top_k=self.settings.retrieval.top_k,
            words=self.settings.retrieval.words,
            held_out=held_out(self.settings),
        )

    def _general(self) -> Iterator[Any]:
        count = self.settings.training.replay
        if count:
            from training.replay import general_examples

            yield from general_examples(self.settings, self.base, count, self.tell)

    @cached_property
    def base_digest(self) -> str:
        """Return the base model's hash."""
        return base_digest(self.base)

    @cached_property
    def records(self) -> Records:
        """Return the deployment's customers and tickets."""
        return build_records(self.settings)

    @cached_property
    def searcher(self) -> Searcher:
        """Return the deployment's retrieval."""
        return build_searcher(self.settings, self.records)

    @cached_property
    def cases(self) -> list[Any]:
        """Read the eval cases that the gate asks, none where none are set."""
        path = self.settings.training.cases
        return load_cases(self.settings.root / path)[0] if path else []

    # train

    @cached_property
    def start(self) -> Release | None:
        """Return the release that training goes on from; raises NoRelease, and RunError where it cannot."""
        name = self.settings.training.start
        if not name:
            return None
        release = self.releases.get(name)
        if release.adapter_sha256 is None or release.base_digest != self.base_digest:
            raise RunError(f"Training cannot go on from '{name}': it is no adapter of {self.base.name}.")
        return release

    def hyperparameters(self, examples: int) -> Hyperparameters:
        """Take from the settings what training on so many examples needs."""
        training = self.settings.training
        given = {k: v for k, v in training.model_dump().items() if k in Hyperparameters.__slots__}
        given["epochs"] = training.epochs or epochs_for(examples, training.examples_per_step)
        return Hyperparameters(**given)

    def _mixed(self) -> dict[str, Any]:
        """Say what, beside the hyperparameters, makes this run again."""
        training = self.settings.training
        return {"grown": training.grown, "replay": training.replay, "start": training.start}

    def _train(self, dataset: Dataset, folder: Path) -> tuple[Path, int]:
        tokenizer = ChatTokenizer(self.base)
        train = [encode(example, tokenizer) for example in dataset.train]
        validation = [encode(example, tokenizer) for example in dataset.validation]
        trainer = LoraTrainer(
            self.base,
            folder / "training",
            self.hyperparameters(len(dataset.train)),
            self._identity(dataset),
            self.start.adapter if self.start else None,
        )
        last = -1.0

        def report(point: Point) -> None:
            nonlocal last
            last = point.validation if point.validation is not None else last
            seen = f", validation {last:.3f}" if last >= 0 else ""
            detail = f"loss {point.loss:.3f}{seen}, {point.tokens_per_second:.0f} tokens/s"
            self.tell.progress("training", point.step, point.steps, detail)

        return trainer.run(train, validation, report), sum(len(e.ids) for e in train)

    def _identity(self, dataset: Dataset) -> str:
        settings = asdict(self.hyperparameters(len(dataset.train)))
        parts: list[object] = [dataset.digest, self.base_digest, self.recipe, settings]
        parts.append(self.start and self.start.adapter_sha256)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def _folder(self, dataset: Dataset, name: str | None) -> Path:
        """Return the folder of this run: that of an unfinished run on the same data with the same settings, or new."""
        runs = self.settings.home / "runs"
        identity = self._identity(dataset)
        for path in sorted(runs.glob("*/run.json")):
            stored = json.loads(path.read_text(encoding="utf-8"))
            same = stored["identity"] == identity and stored["state"] != "done" and name in (None, stored["run"])
            if same:
                self.tell.line(f"going on with run {stored['run']}")
                return path.parent
        chosen = name or f"{self.recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self.releases.path_of(chosen)
        folder = runs / chosen
        folder.mkdir(parents=True, exist_ok=True)
        self._write_run(
            folder,
            run=chosen,
            name=chosen,
            identity=identity,
            state="training",
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe=self.recipe,
            base_model=self.base_model,
            base_digest=self.base_digest,
            settings=asdict(self.hyperparameters(len(dataset.train))),
            data_hash=dataset.digest,
        )
        return folder

    def _write_run(self, folder: Path, **changes: Any) -> None:
        path = folder / "run.json"
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        write_atomically(path, json.dumps({**content, **changes}, indent=1))

    # release, gate, promote

    def _release(self, folder: Path, adapter: Path, dataset: Dataset) -> Release:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        if run.get("release"):
            return self.releases.get(run["release"])
        current = self.releases.current(self.recipe)
        templates = default_templates()
        sha256 = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
        release = Release(
            name=folder.name,
            recipe=self.recipe,
            base_model=self.base_model,
            base_digest=self.base_digest,
            fingerprint=fingerprint(ChatTokenizer(self.base), templates),
            created_at=run["created_at"],
            adapter_sha256=sha256,
            data_hash=dataset.digest,
            parents=(current.name,) if current else (),
            settings={**run["settings"], **self._mixed()},
        )
        if folder.name not in self.releases.names():  # a run may be killed between this and the next line
            self.releases.add(release, adapter, templates, write_card(release, None))
        self._write_run(folder, release=release.name, state="gating", parents=list(release.parents))
        return self.releases.get(release.name)

    def _gate(self, release: Release, dataset: Dataset, folder: Path) -> Verdict:
        trial = Trial(
            self.settings,
            self.releases,
            self.base,
            folder,
            self.tell,
            searcher=self.searcher,
            records=self.records,
        )
        verdict = trial.of(release, dataset, self.cases)
        content = verdict.as_json()
        write_atomically(folder / "gate.json", json.dumps(content, indent=1))
        gate = {"passed": verdict.passed, "reasons": list(verdict.reasons), "verdict": verdict.verdict}
        metrics = {name: asdict(metric) for name, metric in verdict.candidate.items()}
        self.releases.judge(release.name, metrics, gate, write_card(release, verdict))
        self.tell.line(verdict.verdict)
        return verdict

    def _promote(self, release: Release) -> bool:
        """Promote where the deployment can serve it: with --base, its [bot] model may be another."""
        try:
            make_ready(self._deployment, release, self.tell.line)
            self.releases.promote(release.name)
        except (PromotionRefused, ReleaseError, ConfigError) as error:
            self.tell.line(str(error))
            return False
        return True
