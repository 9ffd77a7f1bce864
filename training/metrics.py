"""Metrics over eval results: pure functions, with 95 % intervals; an error counts as wrong."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from training.cases import Case
from training.style import Reply, broken_rules

_Z = 1.959964  # 97.5 % quantile of the normal distribution
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Result:
    """Hold what one mode answered to one case; `error` is set where it failed."""

    case: Case
    text: str = ""
    action: str = ""
    documents: tuple[str, ...] = ()  # "source/document" of each citation
    first_token_ms: float | None = None
    total_ms: float | None = None
    prompt_tokens: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """Hold a value with its 95 % interval over n cases; all None where no case applies."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def measure(results: Sequence[Result], *, closing: str, first_names: Mapping[str, str]) -> dict[str, Metric]:
    """Compute every metric of one mode; `first_names` by customer id."""
    by_case = scores(results, closing=closing, first_names=first_names)
    answerable = {r.case.id: r.case.answerable for r in results}
    rights = [[bool(v) for i, v in by_case["abstention"].items() if answerable[i] is kind] for kind in (True, False)]
    return {
        "facts": proportion([bool(v) for v in by_case["facts"].values()]),
        "citation_hit": proportion([bool(v) for v in by_case["citation_hit"].values()]),
        "citation_precision": mean(list(by_case["citation_precision"].values())),
        "abstention": balanced_accuracy(*rights),
        "style": proportion([bool(v) for v in by_case["style"].values()]),
        "first_token_ms": median([r.first_token_ms for r in results]),
        "total_ms": median([r.total_ms for r in results]),
        "prompt_tokens": median([r.prompt_tokens for r in results]),
    }


def keeps_style(result: Result, closing: str, first_names: Mapping[str, str]) -> bool:
    """Say whether every rule of the house style holds that applies."""
    name = first_names.get(result.case.customer or "")
    return result.error is None and not broken_rules(Reply(result.text, result.action, result.case, closing, name))


def has_facts(result: Result) -> bool:
    """Say whether every listed fact stands in the text, in one of its alternatives, and nothing forbidden does."""
    if result.error:
        return False
    text = normalise(result.text)
    return states(text, result.case.facts) and not any(_stands_in(word, text) for word in result.case.forbidden)


def states(text: str, facts: Sequence[str]) -> bool:
    """Say whether a normalised text holds every fact in one of its alternatives."""
    return all(any(_stands_in(alternative, text) for alternative in fact.split(" | ")) for fact in facts)


def normalise(text: str) -> str:
    """Lower the case, drop markers, Markdown signs and thousands' separators, and join white space."""
    text = unicodedata.normalize("NFKC", text).lower()
    text = re.sub(r"\s*\[\d{1,2}\]", "", text)
    text = re.sub(r"[*_`]", "", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    return " ".join(text.replace("’", "'").split())


def _stands_in(wanted: str, text: str) -> bool:
    """Say whether `wanted` stands in normalised text, not as a part of a longer word or number."""
    return bool(re.search(rf"(?<![\w$])(?<!\d[.,]){re.escape(normalise(wanted))}(?!\w|[.,]\d)", text))


def citation_precision(result: Result) -> float:
    """Return the share of citations that name a right document; none at all counts as 0."""
    if result.error or not result.documents:
        return 0.0
    return sum(document in result.case.documents for document in result.documents) / len(result.documents)


def _answered(result: Result) -> bool:
    return result.error is None and result.action == "answer"


def _abstained(result: Result) -> bool:
    return result.error is None and result.action != "answer"


def proportion(outcomes: Sequence[bool]) -> Metric:
    """Return a share with its Wilson score interval (Wilson, 1927)."""
    n = len(outcomes)
    if not n:
        return Metric(None, None, None, 0)
    p = sum(outcomes) / n
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n)
    return Metric(p, max(0.0, centre - half), min(1.0, centre + half), n)


def mean(values: Sequence[float]) -> Metric:
    """Return a mean with its bootstrap interval."""
    return _bootstrapped([values], lambda parts: float(np.mean(parts[0])))


def median(values: Sequence[float | None]) -> Metric:
    """Return a median with its bootstrap interval; missing values are left out, and n says so."""
    return _bootstrapped([[v for v in values if v is not None]], lambda parts: float(np.median(parts[0])))


def balanced_accuracy(first: Sequence[bool], second: Sequence[bool]) -> Metric:
    """Return the mean of both classes' accuracy with its bootstrap interval, each class resampled by itself."""
    return _bootstrapped(
        [[float(v) for v in first], [float(v) for v in second]],
        lambda parts: float(np.mean([np.mean(part) for part in parts])),
    )


def auroc(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """Return the share of pairs whose positive has the higher score, ties by half: the area under the ROC curve."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in positives for b in negatives]))


def _bootstrapped(parts: Sequence[Sequence[float]], statistic: Callable[[Sequence[np.ndarray]], float]) -> Metric:
    """Return a statistic with its percentile bootstrap interval (Efron, 1979)."""
    n = sum(len(part) for part in parts)
    if not all(parts):
        return Metric(None, None, None, n)
    arrays = [np.asarray(part, dtype=float) for part in parts]
    random = np.random.default_rng(0)  # fixed, so that the same results give the same interval
    samples = [statistic([random.choice(a, len(a)) for a in arrays]) for _ in range(_RESAMPLES)]
    low, high = np.percentile(samples, [2.5, 97.5])
    return Metric(statistic(arrays), float(low), float(high), n)


Scores = Mapping[str, Mapping[str, float]]  # by metric and case id
COMPARED = ("style", "facts", "citation_hit", "citation_precision", "abstention")


def scores(results: Sequence[Result], *, closing: str, first_names: Mapping[str, str]) -> Scores:
    """Score each case by each metric that applies to it.

    Citation precision applies to answers alone: a decline cites nothing, and counts in `citation_hit`.
    """
    cited = [r for r in results if r.case.answerable and r.case.documents]
    return {
        "style": {r.case.id: float(keeps_style(r, closing, first_names)) for r in results},
        "facts": {r.case.id: float(has_facts(r)) for r in results if r.case.answerable and r.case.facts},
        "citation_hit": {r.case.id: float(bool(set(r.documents) & set(r.case.documents))) for r in cited},
        "citation_precision": {r.case.id: citation_precision(r) for r in cited if r.error or r.action == "answer"},
        "abstention": {r.case.id: float(_answered(r) if r.case.answerable else _abstained(r)) for r in results},
    }


def in_common(metric: str, one: Scores, other: Scores, answerable: Mapping[str, bool]) -> float | None:
    """Return the first side's value over the cases that both sides have for a metric; None without any."""
    parts = _parts(metric, {i: value for i, value in one[metric].items() if i in other[metric]}, answerable)
    return float(np.mean([np.mean(part) for part in parts])) if all(parts) else None


def difference(metric: str, after: Scores, before: Scores, answerable: Mapping[str, bool]) -> Metric:
    """Return by how much `after` is better, paired by case; abstention is balanced over both kinds of case."""
    ids = sorted(set(after[metric]) & set(before[metric]))
    parts = _parts(metric, {i: after[metric][i] - before[metric][i] for i in ids}, answerable)
    return _bootstrapped(parts, lambda parts: float(np.mean([np.mean(part) for part in parts])))


def _parts(metric: str, values: Mapping[str, float], answerable: Mapping[str, bool]) -> list[list[float]]:
    """Return the values whose means count alike: of all cases, for abstention of those to answer and of the others."""
    if metric != "abstention":
        return [list(values.values())]
    return [[value for i, value in values.items() if answerable[i] is kind] for kind in (True, False)]
