"""Try a candidate: the cases through the real bot, then what the gate asks beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.answer import SupportBot
from bot.bootstrap import build_model, build_release, options
from bot.models import ChatModel
from bot.releases import Promoted, Release, Releases, base_digest
from bot.settings import Settings
from bot.speakers import Speakers
from bot.state import open_state
from bot.turns import TurnLog
from bot.values import Mode
from prompts.templates import default_templates
from retrieval.records import Records
from retrieval.search import Searcher
from training.cases import Case
from training.dataset import Dataset
from training.evaluate import Evaluator
from training.forgetting import Forgetting
from training.gate import Replies, Side, Verdict, judge
from training.probe import Probe, probe
from training.progress import Tell

_PROBED = 40  # questions of the memorisation probe
_REPLIES = 40  # unseen replies compared where there are no cases
_SHOWN = 20  # answers side by side in the report


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Stand for a pointer that names one release, whatever is promoted."""

    releases: Releases
    promoted_to: Promoted

    def promoted(self) -> Promoted:
        """Name the one release."""
        return self.promoted_to

    def get(self, name: str) -> Release:
        """Return a release of the deployment."""
        return self.releases.get(name)


class Trial:
    """Measure a release of one deployment and let the gate judge it."""

    def __init__(
        self,
        settings: Settings,
        releases: Releases,
        base: Path,
        folder: Path,
        tell: Tell,
        *,
        searcher: Searcher,
        records: Records,
    ) -> None:
        """Take the run's folder; `base` is the base model that the release was trained on."""
        self._settings = settings
        self._releases = releases
        self._base = base
        self._searcher = searcher
        self._records = records
        self._folder = folder
        self._tell = tell
        self._evaluations = settings.home / "evaluations"

    def of(self, release: Release, dataset: Dataset, cases: Sequence[Case]) -> Verdict:
        """Run all trials and judge."""
        parent = self._releases.get(release.parents[0]) if release.parents else None
        mode: Mode = "hybrid" if release.recipe == "hybrid" else "finetuned"
        speakers, before = self._speakers(release), self._speakers(parent)
        candidate = current = None
        names: dict[str, str] = {}
        if cases:
            candidate, names = self._answers(release, speakers, mode, cases)
            current, _ = self._answers(parent, before, mode, cases)
            self._side_by_side(candidate, current)
        model = speakers.speaker(mode).model
        forgetting, forgets = self._forgetting(release)
        return judge(
            candidate,
            current,
            closing=self._settings.bot.closing,
            first_names=names,
            margin=self._settings.training.margin,
            forgetting=forgetting,
            forgets=forgets,
            probe=self._probe(model, dataset) if release.recipe == "hybrid" else None,
            replies=None if cases else self._replies(model, before.speaker(mode).model, dataset),
        )

    def _answers(
        self, release: Release | None, speakers: Speakers, mode: Mode, cases: Sequence[Case]
    ) -> tuple[Side, dict[str, str]]:
        """Let a release, or the base model where it is None, answer the cases; finished answers are kept."""
        name = release.name if release else self._base.name
        state = self._searcher.state()
        key = f"{[c.model_dump_json() for c in cases]} {name} {release and release.adapter_sha256} {mode}"
        key += f" {state and state.generation} {options(self._settings)} {base_digest(self._base)}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = self._evaluations / f"{name}-{digest}"
        turns = TurnLog(open_state(folder / "turns.sqlite3"))
        bot = SupportBot(speakers, self._searcher, self._records, turns, options(self._settings))
        evaluator = Evaluator(bot, folder, closing=self._settings.bot.closing)

        def progress(_: str, done: int, total: int) -> None:
            self._tell.progress(f"cases: {name}", done, total)

        try:
            evaluator.run(cases, digest, [mode], resume=True, progress=progress)
            return Side(name, evaluator.results(cases, mode)), evaluator.first_names(cases)
        finally:
            turns.close()

    def _speakers(self, release: Release | None) -> Speakers:
        if release is None:
            return Speakers(lambda: build_model(self._settings))
        hybrid = release.name if release.recipe == "hybrid" else None
        closed = release.name if release.recipe == "closed-book" else None
        fixed: Any = _Fixed(self._releases, Promoted(hybrid, closed))
        return Speakers(lambda: build_model(self._settings), fixed, lambda r: build_release(self._settings, r))

    def _forgetting(self, release: Release) -> tuple[Forgetting, str | None]:
        from training.forgetting import compare, forgets, items_of, scored

        training = self._settings.training
        paths = [self._settings.root / path for path in training.forgetting]
        items = items_of(paths, training.forgetting_items, training.seed)
        cache = self._evaluations / "forgetting.json"
        before = scored(self._base, None, items, cache, self._tell)
        after = scored(self._base, release.adapter, items, cache, self._tell)
        found = compare(items, before, after)
        return found, forgets(found.all)

    def _probe(self, model: ChatModel, dataset: Dataset) -> Probe:
        bot = options(self._settings)
        own = [e for e in dataset.train if e.documents]
        return probe(
            model,
            own,
            slots=bot.slots,
            templates=default_templates(),
            sampling=bot.sampling,
            count=_PROBED,
            seed=self._settings.training.seed,
            progress=self._tell.progress,
        )

    def _replies(self, model: ChatModel, before: ChatModel, dataset: Dataset) -> Replies | None:
        """Compare replies to unseen questions with what was written in the logs (chrF: Popovic, 2015)."""
        from sacrebleu.metrics import CHRF

        chosen = dataset.validation[:_REPLIES]
        if not chosen:
            return None
        sampling = options(self._settings).sampling
        wanted = [[e.answer for e in chosen]]
        said: list[list[str]] = [[], []]
        for done, example in enumerate(chosen, start=1):
            for side, speaker in enumerate((model, before)):
                said[side].append("".join(speaker.stream(example.messages, sampling)))
            self._tell.progress("unseen replies", done, len(chosen))
        after, was = (CHRF().corpus_score(texts, wanted).score for texts in said)
        rows = [
            {"id": e.id, "question": e.question, "candidate": a, "current": b, "reference": e.answer}
            for e, a, b in zip(chosen, *said, strict=True)
        ]
        self._save_side_by_side(rows)
        return Replies(len(chosen), float(after), float(was))

    def _side_by_side(self, candidate: Side, current: Side) -> None:
        step = max(1, len(candidate.results) // _SHOWN)
        rows = [
            {
                "id": a.case.id,
                "question": a.case.question,
                "history": [said.model_dump() for said in a.case.history],
                "candidate": a.text or a.error,
                "current": b.text or b.error,
                "reference": a.case.reference or "",
            }
            for a, b in list(zip(candidate.results, current.results, strict=True))[::step][:_SHOWN]
        ]
        self._save_side_by_side(rows)

    def _save_side_by_side(self, rows: Sequence[dict[str, Any]]) -> None:
        path = self._folder / "side_by_side.json"
        path.write_text(json.dumps(rows[:_SHOWN], indent=1, ensure_ascii=False), encoding="utf-8")
