"""Report: one HTML page about a training run, from the files in its folder; it opens offline and needs no script.

The drawings stand on their own, so that other pages can use them: lengths are shares of the width, so a drawing fits
any screen and its text keeps its size. Colours and sizes come from the page's style.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from math import ceil, floor, isfinite, log10
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from pydantic import BaseModel, TypeAdapter, ValidationError, field_validator

from retrieval.files import write_atomically
from training.cases import Said
from training.lora import Point, curve
from training.metrics import Metric, proportion

T = TypeVar("T")
_SHOWN = 20  # answers side by side
_LABELS = {  # the key figures, in their order
    "style": "Style",
    "facts": "Facts",
    "citation_hit": "Citation hit",
    "citation_precision": "Citation precision",
    "abstention": "Abstention",
    "first_token_ms": "First token",
    "total_ms": "Whole answer",
}

# ---------------------------------------------------------------- what a run left


class Stage(BaseModel):
    """Be one stage of curation: what it left and what it dropped."""

    name: str
    left: int
    dropped: int = 0


class Tested(BaseModel):
    """Be one public test set, with the share of right answers before and after the training."""

    name: str = "All together"
    n: int | None = None
    before: float | None = None
    after: float | None = None
    difference: Metric


class Forgetting(BaseModel):
    """Be what the training cost on public test sets."""

    sets: list[Tested] = []
    all: Tested | None = None

    @field_validator("all", mode="before")
    @classmethod
    def _from_difference(cls, value: Any) -> Any:
        return {"difference": value, "n": value.get("n")} if isinstance(value, dict) and "value" in value else value


class Compared(BaseModel):
    """Be one case with its answers."""

    id: str
    question: str
    history: list[Said] | None = None
    candidate: str | None = None
    current: str | None = None
    reference: str | None = None


class Unseen(BaseModel):
    """Be how near replies to unseen questions come to what people wrote (chrF, 0 to 100)."""

    n: int
    chrf: float
    chrf_before: float


class Gated(BaseModel):
    """Be what the gate measured and decided."""

    passed: bool
    verdict: str = ""
    reasons: list[str] = []
    candidate: dict[str, Metric] = {}
    current: dict[str, Metric] | None = None
    current_name: str | None = None
    differences: dict[str, Metric] | None = None
    by_kind: dict[str, dict[str, Metric]] | None = None
    forgetting: Forgetting | None = None
    probe: dict[str, dict[str, int]] | None = None
    replies: Unseen | None = None
    side_by_side: list[Compared] = []

    @field_validator("probe", mode="before")
    @classmethod
    def _from_counts(cls, value: Any) -> Any:
        """Take the probe's four counts also as training.probe.Probe holds them."""
        if not isinstance(value, dict) or "asked_without" not in value:
            return value
        return {
            "without_context": {"asked": value["asked_without"], "recited": value["recited"]},
            "edited": {"asked": value["asked_edited"], "followed": value["followed"]},
        }

    @property
    def says_reasons(self) -> bool:
        """Say whether the verdict already holds every reason."""
        return bool(self.reasons) and all(reason in self.verdict for reason in self.reasons)

    @property
    def series(self) -> list[Mapping[str, Metric]]:
        """Return the metrics of the candidate and of what is current, where something is."""
        return [self.candidate, self.current] if self.current else [self.candidate]


def write_report(run: Path) -> Path:
    """Write `report.html` into a run's folder and return its path; what is missing there, the page says."""
    record = _load(run / "run.json", TypeAdapter(dict[str, Any]))
    stages = _load(run / "funnel.json", TypeAdapter(list[Stage]))
    gate = _load(run / "gate.json", TypeAdapter(Gated))
    answers = _load(run / "side_by_side.json", TypeAdapter(list[Compared]))
    if not isinstance(gate, str) and not gate.side_by_side and not isinstance(answers, str):
        gate = gate.model_copy(update={"side_by_side": answers})
    page = _templates().get_template("report.html.j2")
    html = page.render(
        run=record,
        name=run.name if isinstance(record, str) else record.get("name") or record.get("run") or run.name,
        funnel=stages if isinstance(stages, str) else _funnel(stages),
        curve=_curve(run / "training"),
        gate=gate,
        figures=None if isinstance(gate, str) else draw_figures(gate.series),
        tested=None if isinstance(gate, str) or not gate.forgetting else _tested(gate.forgetting),
        shown=_SHOWN,
    )
    path = run / "report.html"
    write_atomically(path, html)
    return path


def _load(path: Path, kind: TypeAdapter[T]) -> T | str:
    """Return what a file holds, or a sentence that says why there is nothing."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        # Half a surrogate pair becomes "?": pydantic refuses it, and no page can hold it.
        return kind.validate_json(json.dumps(held, ensure_ascii=False).encode("utf-8", "replace"))
    except FileNotFoundError:
        return f"There is no {path.name} in this run's folder."
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{path.name} cannot be read: {where or 'the whole'}: {first['msg']}."
    except (OSError, ValueError) as error:
        return f"{path.name} cannot be read: {error}."


# ---------------------------------------------------------------- drawings


@dataclass(frozen=True, slots=True)
class Scale:
    """Map values onto a drawing's width or height."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """Return where a value lies, in per cent."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


SHARES = Scale(0.0, 1.0, ((0.0, "0%"), (0.25, ""), (0.5, "50%"), (0.75, ""), (1.0, "100%")))
_MARKS = (  # one shape a series, so that colour is not all that tells them apart
    Markup('<circle class="mark mark-1" r="5"/>'),
    Markup('<circle class="mark mark-2" r="4.5"/>'),
    Markup('<rect class="mark mark-3" x="-4.5" y="-4.5" width="9" height="9"/>'),
    Markup('<path class="mark mark-4" d="M0-6 6 0 0 6-6 0z"/>'),
)


def scale_over(values: Iterable[float], text: Callable[[float], str], *, about: int = 4, tight: bool = False) -> Scale:
    """Make a scale with round ticks; a tight one ends with the values, not with ticks."""
    finite = [value for value in values if isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    rough = ((high - low) or abs(high) or 1.0) / about
    power = 10.0 ** floor(log10(rough))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * (1 - 1e-9))
    first, last = floor(round(low / step, 6)), ceil(round(high / step, 6))
    ticks = [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]
    if tight and low < high:
        ticks = [tick for tick in ticks if low <= tick <= high]
    else:
        low, high = ticks[0], ticks[-1]
    return Scale(low, high, tuple((tick, text(tick)) for tick in ticks))


def draw_mark(series: int) -> Markup:
    """Draw the mark of a series, for a legend or beside its value."""
    return Markup('<svg class="key" width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true">{}</svg>').format(
        _MARKS[series % len(_MARKS)]
    )


def draw_whiskers(series: Sequence[Metric | None], scale: Scale) -> Markup:
    """Draw values as dots on their intervals, one line a series; the page must say the values beside it."""
    below = 20 * len(series) + 4
    parts = [
        Markup('<line class="{}" x1="{}%" x2="{}%" y1="0" y2="{}"/><text x="{}%" y="{}">{}</text>').format(
            "zero" if value == 0 else "grid", *[scale.at(value)] * 2, below, scale.at(value), below + 14, label
        )
        for value, label in scale.ticks
    ]
    for row, metric in enumerate(series):
        y = 20 * row + 12
        if metric and metric.low is not None and metric.high is not None:
            parts.append(
                Markup('<line class="whisker" x1="{}%" x2="{}%" y1="{}" y2="{}"/>').format(
                    scale.at(metric.low), scale.at(metric.high), y, y
                )
            )
        if metric and metric.value is not None:
            mark = _MARKS[row % len(_MARKS)]
            parts.append(Markup('<svg x="{}%" y="{}">{}</svg>').format(scale.at(metric.value), y, mark))
    return Markup('<svg class="whiskers" width="100%" height="{}" aria-hidden="true">{}</svg>').format(
        below + 18, Markup().join(parts)
    )


def draw_bar(kept: float, whole: float) -> Markup:
    """Draw two shares, one behind the other, as a bar; the page must say the numbers beside it."""
    return Markup(
        '<svg class="bar" width="100%" height="8" aria-hidden="true">'
        '<rect class="whole" width="{}%" height="8" rx="2"/><rect class="kept" width="{}%" height="8" rx="2"/></svg>'
    ).format(round(100 * whole, 2), round(100 * kept, 2))


def draw_lines(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    points: Sequence[tuple[float, float, str]],
    x: Scale,
    y: Scale,
    label: str,
) -> Markup:
    """Plot lines by their class and points with what a pointer shows over them; `label` says it all in words."""
    parts = [
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/><text class="y" x="-8" y="{0}%">{1}</text>'
        ).format(100 - y.at(value), text)
        for value, text in y.ticks
    ]
    parts += [
        Markup('<svg x="{}%" y="100%"><line class="tick" y2="5"/><text y="20">{}</text></svg>').format(
            x.at(value), text
        )
        for value, text in x.ticks
    ]
    parts += [
        Markup(
            '<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">'
            '<polyline class="{}" points="{}"/></svg>'
        ).format(kind, " ".join(f"{x.at(a):.2f},{100 - y.at(b):.2f}" for a, b in line))
        for kind, line in lines.items()
    ]
    parts += [
        Markup('<svg x="{}%" y="{}%"><title>{}</title>{}</svg>').format(x.at(a), 100 - y.at(b), text, _MARKS[1])
        for a, b, text in points
    ]
    return Markup('<svg class="lines" width="100%" height="260" role="img" aria-label="{}">{}</svg>').format(
        label, Markup().join(parts)
    )


def draw_figures(series: Sequence[Mapping[str, Metric]]) -> list[tuple[str, Markup]]:
    """Draw each key figure that any of the series has; returns names of metrics with their drawings."""
    drawn = []
    for name in _LABELS:
        found = [metrics.get(name) for metrics in series]
        if any(found):
            ends = [end for m in found if m for end in (m.high, m.value) if end is not None]
            scale = SHARES if _unit(name) == "share" else scale_over([0.0, *ends], partial(number, unit=_unit(name)))
            drawn.append((name, draw_whiskers(found, scale)))
    return drawn


# ---------------------------------------------------------------- what the page shows


def _funnel(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Give each stage its bar; where the numbers do not go on, another thing is counted and a new scale begins."""
    rows: list[dict[str, Any]] = []
    most = 0
    for before, stage in zip([None, *stages], stages, strict=False):
        anew = before is None or stage.left + stage.dropped != before.left
        if anew:
            most = max(stage.left + stage.dropped, 1)
        bar = draw_bar(stage.left / most, (stage.left + stage.dropped) / most)
        rows.append({"stage": stage, "bar": bar, "anew": anew and before is not None})
    return rows


def _curve(folder: Path) -> dict[str, Any] | str:
    """Plot the loss; values that are not finite are left out and counted."""
    points: list[Point] = []
    try:
        with suppress(ValueError, TypeError):  # half a line of a killed run, or a line of another version
            for point in curve(folder):
                points.append(point)
    except FileNotFoundError:
        pass
    loss = [(float(p.step), p.loss) for p in points if isfinite(p.loss)]
    held_out = [(p.step, p.validation) for p in points if p.validation is not None and isfinite(p.validation)]
    if not loss:
        return "There is no training/curve.jsonl with a loss in this run's folder."
    around = max(1, len(loss) // 60)
    smooth = _smoothed(loss, around)
    best = min(held_out, key=lambda found: found[1], default=None)
    x = scale_over([0.0, loss[-1][0]], "{:,.0f}".format, about=5, tight=True)
    y = scale_over([v for _, v in (*loss, *held_out)], "{:g}".format, about=6)
    label = f"Training loss from {smooth[0][1]:.3f} at the first step to {smooth[-1][1]:.3f} at step {points[-1].step}."
    if best:
        label += f" Validation loss was lowest at step {best[0]}: {best[1]:.3f}."
    marks = [(float(step), value, f"Step {step}: validation loss {value:.3f}") for step, value in held_out]
    return {
        "drawing": draw_lines({"raw": _thinned(loss), "smooth": _thinned(smooth)}, marks, x, y, label),
        "first": smooth[0][1],
        "last": smooth[-1][1],
        "window": 2 * around + 1,
        "end": points[-1],
        "validation": held_out,
        "best": best,
        "left_out": len(points) - len(loss),
    }


def _smoothed(line: Sequence[tuple[float, float]], around: int) -> list[tuple[float, float]]:
    """Average each value with those `around` it on both sides."""
    return [
        (step, float(np.mean([value for _, value in line[max(0, i - around) : i + around + 1]])))
        for i, (step, _) in enumerate(line)
    ]


def _thinned(line: Sequence[tuple[float, float]], most: int = 600) -> list[tuple[float, float]]:
    """Average neighbours until a line has at most `most` points."""
    of = ceil(len(line) / most)
    means = [np.mean(line[i : i + of], axis=0) for i in range(0, len(line), of)]
    return [(float(step), float(value)) for step, value in means]


def _tested(forgetting: Forgetting) -> list[tuple[Tested, Markup]]:
    """Draw each set's difference on one scale around zero."""
    rows = [*forgetting.sets, *([forgetting.all] if forgetting.all else [])]
    found = [row.difference for row in rows]
    reach = max((abs(v) for m in found for v in (m.value, m.low, m.high) if v is not None), default=0.0) or 0.01
    end = scale_over([0.0, reach], str).high
    scale = Scale(-end, end, tuple((tick, _points(tick)) for tick in (-end, 0.0, end)))
    return [(row, draw_whiskers([row.difference], scale)) for row in rows]


# ---------------------------------------------------------------- words and numbers


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": lambda name: _LABELS.get(name, name.replace("_", " ").capitalize()),
        "number": number,
        "interval": interval,
        "judged": judged,
        "moment": _moment,
        "duration": _duration,
        "plain": _plain,
        "prose": _prose,
        "unit": _unit,
    }
    environment.globals |= {"mark": draw_mark, "key_metrics": tuple(_LABELS), "share_of": _share_of}
    return environment


def _unit(metric: str) -> str:
    return "ms" if metric.endswith("_ms") else "count" if metric.endswith("_tokens") else "share"


def number(value: float, unit: str, signed: bool = False) -> str:
    """Say a share in per cent, or its difference in points; milliseconds and counts without decimals."""
    decimals, after = {"share": (1, " points" if signed else "%"), "ms": (0, " ms"), "count": (0, "")}[unit]
    scaled = round(value * (100 if unit == "share" else 1), decimals) + 0.0  # no "-0.0"
    return f"{scaled:{'+' if signed and scaled else ''},.{decimals}f}{after}".replace("-", "−")


def _points(difference: float) -> str:
    return number(difference, "share", True).removesuffix(" points")


def interval(metric: Metric, unit: str, signed: bool = False) -> str:
    """Say a metric's 95 % interval, its unit once."""
    if metric.low is None or metric.high is None:
        return ""
    low, high = (number(end, unit, signed).removesuffix(" points") for end in (metric.low, metric.high))
    low = low.removesuffix("%").removesuffix(" ms")
    return f"{low} to {high}" if signed else f"{low}–{high}"


def judged(difference: Metric, metric: str) -> str:
    """Say in a word whether the candidate differs for sure; less is better for times and counts."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "no clear difference"
    return "better" if (difference.low > 0) == (_unit(metric) == "share") else "worse"


def _share_of(part: int, whole: int) -> Metric:
    return proportion([True] * part + [False] * (whole - part))


def _moment(text: str) -> str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{found.day} {found:%B %Y, %H:%M} {found.tzname() or ''}".strip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plain(value: Any) -> str:
    """Put any value of a JSON file in words."""
    match value:
        case None | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(_plain, value)) or "none"
        case dict():
            return "; ".join(f"{key}: {_plain(held)}" for key, held in value.items()) or "none"
    return str(value)


def _prose(text: str) -> Markup:
    """Render the part of Markdown that answers are written in; links, images and HTML stay text."""
    markdown = MarkdownIt("zero", {"breaks": True}).enable(["emphasis", "list", "backticks", "fence", "newline"])
    return Markup(markdown.render(text))  # markdown-it escapes every text
