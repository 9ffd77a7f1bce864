"""The gate: a candidate against what serves now, on the same cases, and what it must not have lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from training.forgetting import Forgetting
from training.metrics import COMPARED, Metric, Result, difference, in_common, measure, scores
from training.probe import Probe
from training.style import Reply, broken_rules

MAX_RECITED = 0.10  # share of facts that may come without their passage
MIN_FOLLOWED = 0.80  # share of edited facts that must be followed
MAX_SLOWDOWN = 1.5  # of the median answer
CHRF_TOLERATED = 1.0  # what chance moves among a few dozen replies
_NAMES = {
    "style": "style",
    "facts": "right facts",
    "citation_hit": "citing the right document",
    "citation_precision": "citation precision",
    "abstention": "abstention",
}


@dataclass(frozen=True, slots=True)
class Side:
    """Hold one side of the comparison: who answered, and what."""

    name: str
    results: Sequence[Result]


@dataclass(frozen=True, slots=True)
class Replies:
    """Hold how replies to unseen questions of the logs compare with what people wrote there (chrF, 0 to 100).

    The losses are those on the held-out replies, in nats a token.
    """

    n: int
    chrf: float
    chrf_before: float
    loss: float | None = None
    loss_before: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold what the gate found, `reasons` naming all that speaks against the candidate."""

    passed: bool
    verdict: str
    reasons: tuple[str, ...]
    candidate: Mapping[str, Metric] = field(default_factory=dict)
    current: Mapping[str, Metric] | None = None
    current_name: str | None = None
    differences: Mapping[str, Metric] = field(default_factory=dict)
    forgetting: Forgetting | None = None
    probe: Probe | None = None
    replies: Replies | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain values."""
        return asdict(self)


def judge(
    candidate: Side | None,
    current: Side | None,
    *,
    closing: str,
    first_names: Mapping[str, str],
    margin: float,
    forgetting: Forgetting | None = None,
    forgets: str | None = None,
    probe: Probe | None = None,
    replies: Replies | None = None,
) -> Verdict:
    """Compare and decide; pure. `margin` is in points. Sides are None in a deployment without eval cases."""
    reasons: list[str] = []
    measured: Mapping[str, Metric] = {}
    before: Mapping[str, Metric] | None = None
    differences: dict[str, Metric] = {}
    if candidate is not None and current is not None:
        measured = measure(candidate.results, closing=closing, first_names=first_names)
        before = measure(current.results, closing=closing, first_names=first_names)
        answerable = {r.case.id: r.case.answerable for r in candidate.results}
        after = scores(candidate.results, closing=closing, first_names=first_names)
        then = scores(current.results, closing=closing, first_names=first_names)
        reasons += _errors(candidate.results)
        for metric in COMPARED:
            differences[metric] = difference(metric, after, then, answerable)
            shares = [in_common(metric, *sides, answerable) for sides in ((then, after), (after, then))]
            reasons += _loss(metric, differences[metric], shares, margin)
        broken = _broken(candidate.results, closing, first_names)
        if broken and any(reason.startswith("style") for reason in reasons):
            reasons.append(f"rules most often broken: {broken}")
        reasons += _speed(measured, before)
    reasons += _of_replies(replies)
    reasons += [forgets] if forgets else []
    reasons += _of_probe(probe)
    passed = not reasons
    return Verdict(
        passed,
        _in_words(passed, reasons, differences, current.name if current else None),
        tuple(reasons),
        measured,
        before,
        current.name if current else None,
        differences,
        forgetting,
        probe,
        replies,
    )


def _errors(results: Sequence[Result]) -> list[str]:
    failed = [r.error for r in results if r.error]
    return [f"{len(failed)} of {len(results)} answers failed, the first with: {failed[0]}"] if failed else []


def _loss(metric: str, change: Metric, shares: Sequence[float | None], margin: float) -> list[str]:
    """Say that a metric fell: by more than the margin, or by a little that chance does not explain."""
    before, after = shares
    if change.value is None or change.high is None or before is None or after is None:
        return []
    if round(change.value * 100, 6) >= -margin and not (change.value < 0 and change.high < 0):
        return []
    return [f"{_NAMES[metric]} fell from {before:.1%} to {after:.1%} on the same cases"]


def _speed(after: Mapping[str, Metric], before: Mapping[str, Metric]) -> list[str]:
    now, then = after["total_ms"].value, before["total_ms"].value
    if now is None or then is None or now <= then * MAX_SLOWDOWN:
        return []
    return [f"an answer takes {now:.0f} ms instead of {then:.0f}"]


def _of_replies(replies: Replies | None) -> list[str]:
    if replies is None:
        return []
    reasons = []
    if replies.chrf < replies.chrf_before - CHRF_TOLERATED:
        reasons.append(
            f"replies to unseen questions are further from the logs than before (chrF {replies.chrf:.1f}, "
            f"before {replies.chrf_before:.1f})"
        )
    return reasons


def _of_probe(probe: Probe | None) -> list[str]:
    if probe is None:
        return []
    reasons = []
    if probe.recited > MAX_RECITED * probe.asked_without:
        reasons.append(
            f"it recites facts without their passage ({probe.recited} of {probe.asked_without}): "
            "it has memorised what retrieval should hold"
        )
    if probe.followed < MIN_FOLLOWED * probe.asked_edited:
        reasons.append(f"it does not follow edited passages ({probe.followed} of {probe.asked_edited})")
    return reasons


def _broken(results: Sequence[Result], closing: str, first_names: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for r in (r for r in results if not r.error):
        name = first_names.get(r.case.customer or "")
        for rule in broken_rules(Reply(r.text, r.action, r.case, closing, name)):
            counts[rule] = counts.get(rule, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{rule} ({n} of {len(results)})" for rule, n in ordered[:3])


def _in_words(passed: bool, reasons: Sequence[str], differences: Mapping[str, Metric], current: str | None) -> str:
    if not passed:
        return f"The candidate does not pass: {'; '.join(reasons)}."
    better = [_NAMES[m] for m, d in differences.items() if d.low is not None and d.low > 0]
    against = f" against {current}" if current else ""
    gained = f" It is better in {', '.join(better)}." if better else ""
    return f"The candidate passes{against}: nothing that was measured has been lost.{gained}"
