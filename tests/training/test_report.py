"""The report of a run: what it says, what it leaves out, and that nothing in the files can act in the page."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from training.metrics import Metric
from training.report import draw_lines, draw_whiskers, interval, judged, number, scale_over, write_report

VOID = {"meta", "link", "br", "hr", "img", "input"}
SECTIONS = ["figures", "funnel", "curve", "gate", "forgetting", "memorisation", "answers", "settings"]
HOSTILE = "<script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>\"' {{ 7*7 }} \ud800\u202e"


def metric(value: float, half: float = 0.02, n: int = 220) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


METRICS = {
    "facts": metric(0.888),
    "citation_hit": metric(0.926),
    "citation_precision": metric(0.894),
    "abstention": metric(0.912),
    "style": metric(0.968),
    "first_token_ms": metric(412.4, 20),
    "total_ms": metric(1893.2, 90),
    "prompt_tokens": metric(861, 9),
}
RUN = {
    "run": "20261126-140311",
    "created_at": "2026-11-26T14:03:11+00:00",
    "recipe": "hybrid",
    "base_model": "granite-350m",
    "base_digest": "sha256:9f2c",
    "name": "first-light",
    "settings": {"rank": 16, "learning_rate": 5e-4},
    "data_hash": "sha256:51c0",
    "examples": 10184,
    "tokens": 4218337,
    "seconds": 8063.4,
    "machine": {"cpu": "EPYC", "cores": 2},
    "parents": [],
    "release": "first-light",
}
FUNNEL = [
    {"name": "Conversations read", "left": 1412, "dropped": 0},
    {"name": "Rated down", "left": 1347, "dropped": 65},
    {"name": "Examples made", "left": 3420, "dropped": 0},
    {"name": "House style broken", "left": 3063, "dropped": 357},
]
GATE: dict[str, Any] = {
    "passed": True,
    "verdict": "Better in style, worse in nothing.",
    "reasons": ["Style rose.", "Facts did not fall."],
    "candidate": METRICS,
    "current": METRICS | {"style": metric(0.536)},
    "current_name": "rag-baseline",
    "differences": {"style": metric(0.432), "facts": metric(0.0), "total_ms": metric(-650, 100)},
    "by_kind": {
        "multi_turn": {"style": metric(0.9, n=31), "facts": {"value": None, "low": None, "high": None, "n": 0}}
    },
    "forgetting": {
        "sets": [{"name": "ARC-Easy", "n": 300, "before": 0.643, "after": 0.63, "difference": metric(-0.013, n=300)}],
        "all": {"n": 300, "before": 0.643, "after": 0.63, "difference": metric(-0.013, n=300)},
    },
    "probe": {"without_context": {"asked": 60, "recited": 1}, "edited": {"asked": 60, "followed": 57}},
    "side_by_side": [
        {
            "id": "case_001",
            "question": "How do I export?",
            "history": [{"role": "user", "content": "Hello there"}],
            "candidate": "Hi,\n\n1. Open **Settings**.\n2. Choose. [1]",
            "current": "Click it.",
            "reference": "Open it.",
        }
    ],
}


def write(run: Path, name: str, value: Any) -> None:
    path = run / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def point(step: int, loss: float, validation: float | None = None) -> str:
    rest = {"steps": 100, "tokens_per_second": 771.0, "seconds_left": 3.0}
    return json.dumps({"step": step, "loss": loss, "validation": validation} | rest) + "\n"


CURVE = "".join(point(step, 1.5 / step, 0.4 if step == 50 else None) for step in range(1, 91))
FILES = {"run.json": RUN, "funnel.json": FUNNEL, "training/curve.jsonl": CURVE, "gate.json": GATE}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name, value in FILES.items():
        write(tmp_path, name, value)
    return tmp_path


class Page(HTMLParser):
    """Hold a page's tags, attributes and texts; fails where a tag is not closed in its order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, str] = {}  # by the id of the section; "" before the first
        self._open: list[str] = []
        self._section = ""
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts[self._section] = " ".join(f"{self.texts.get(self._section, '')} {data}".split())


def render(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def every_text(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [every_text(held, change) for held in value]
        case dict():
            return {key: held if key == "role" else every_text(held, change) for key, held in value.items()}
    return value


def test_every_section_stands_in_its_order(run: Path) -> None:
    assert write_report(run) == run / "report.html"
    page = render(run)
    ids = [value for tag, name, value in page.attributes if tag == "section" and name == "id"]
    assert ids == SECTIONS
    assert "missing" not in {value for _, name, value in page.attributes if name == "class"}
    assert page.tags.count("caption") == page.tags.count("table")
    linked = {value for tag, name, value in page.attributes if (tag, name) == ("a", "href")}
    assert linked == {f"#{section}" for section in SECTIONS}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("", ["first-light", "Passed the gate", "Better in style, worse in nothing.", "Style rose.", "2 h 14 min"]),
        ("", ["26 November 2026, 14:03 UTC", "10,184", "4,218,337"]),
        ("figures", ["96.8% 94.8–98.8% n 220", "53.6%", "412 ms 392–432 ms", "1,893 ms", "rag-baseline"]),
        ("funnel", ["Conversations read 1,412 0", "House style broken 3,063 357", "another count begins"]),
        ("curve", ["90 of 100 planned steps", "771 tokens a second", "lowest at step 50, 0.400", "Step"]),
        ("gate", ["+43.2 points better +41.2 to +45.2", "−650 ms better", "no clear difference", "Multi turn 90.0%"]),
        ("forgetting", ["ARC-Easy", "64.3% 63.0% −1.3 points", "All together"]),
        ("memorisation", ["60 1 1.7%", "60 57 95.0%"]),
        ("answers", ["case_001", "Hello there", "How do I export?", "Open Settings .", "Click it.", "Open it."]),
        ("settings", ["Data hash sha256:51c0", "Parents none", "cpu: EPYC; cores: 2", "Learning rate 0.0005"]),
    ],
)
def test_sections_say_what_the_files_hold(run: Path, section: str, words: list[str]) -> None:
    text = render(run).texts[section].replace("\xa0", " ")
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("run.json", ["settings"]),
        ("funnel.json", ["funnel"]),
        ("training/curve.jsonl", ["curve"]),
        ("gate.json", ["", "figures", "gate", "forgetting", "memorisation", "answers"]),
    ],
)
def test_a_missing_file_is_said_where_it_would_stand(run: Path, name: str, sections: list[str]) -> None:
    (run / name).unlink()
    texts = render(run).texts
    assert [section for section, text in texts.items() if Path(name).name in text] == sections


def test_an_empty_folder_still_makes_a_page(tmp_path: Path) -> None:
    page = render(tmp_path)
    assert list(page.texts) == ["", *SECTIONS]
    assert tmp_path.name in page.texts[""] and "Not gated" in page.texts[""]


@pytest.mark.parametrize("name", ["run.json", "funnel.json", "gate.json"])
@pytest.mark.parametrize("text", ["{", "7", '[{"name": 7}]', ""])
def test_a_broken_file_is_said(run: Path, name: str, text: str) -> None:
    write(run, name, text)
    assert f"{name} cannot be read" in " ".join(render(run).texts.values())


def test_what_the_gate_did_not_measure_is_said(run: Path) -> None:
    nothing = {"current": None, "current_name": None, "differences": {}, "forgetting": None, "probe": None}
    write(run, "gate.json", GATE | nothing | {"passed": False, "by_kind": None, "side_by_side": []})
    texts = render(run).texts
    assert "Failed the gate" in texts[""]
    assert "nothing to compare with" in texts["figures"]
    assert "Difference" not in texts["gate"]
    assert "not measured" in texts["forgetting"]
    assert "not run" in texts["memorisation"]
    assert "kept no answers" in texts["answers"]


def test_a_gate_without_cases_says_what_replies_showed(run: Path) -> None:
    reason = "replies are further from the logs"
    verdict = {"passed": False, "verdict": f"The candidate does not pass: {reason}.", "reasons": [reason]}
    nothing = {"candidate": {}, "current": None, "current_name": None, "differences": {}, "side_by_side": []}
    probe = {"asked_without": 40, "recited": 1, "asked_edited": 40, "followed": 39}
    replies = {"n": 40, "chrf": 41.26, "chrf_before": 38.0, "loss": None, "loss_before": None}
    write(run, "gate.json", GATE | nothing | verdict | {"probe": probe, "replies": replies})
    write(run, "side_by_side.json", [{"id": "log_7", "question": "Where?", "candidate": "Here.", "reference": ""}])
    texts = render(run).texts
    assert texts[""].count(reason) == 1
    assert "no key figure" in texts["figures"]
    assert "40 unseen questions reach chrF 41.3 against what people wrote, before 38.0" in texts["gate"]
    assert "40 1 2.5%" in texts["memorisation"] and "40 39 97.5%" in texts["memorisation"]
    assert "log_7 Where? Candidate Here." in texts["answers"]


def test_all_of_forgetting_may_be_a_bare_difference(run: Path) -> None:
    gate = copy.deepcopy(GATE)
    gate["forgetting"]["all"] = metric(0.5, n=300)
    write(run, "gate.json", gate)
    assert "All together" in (text := render(run).texts["forgetting"]) and "+50.0 points better" in text


def test_hostile_text_stays_text(run: Path) -> None:
    plain = render(run)
    write(run, "run.json", every_text(RUN, lambda _: HOSTILE) | {HOSTILE: HOSTILE})
    write(run, "funnel.json", every_text(FUNNEL, lambda _: HOSTILE))
    gate = every_text(GATE, lambda text: f"{text}\n\n{HOSTILE}\n![x](https://evil.example/y) <https://evil.example/z>")
    for key in ("candidate", "current", "differences"):
        gate[key][HOSTILE] = metric(0.5)
    gate["by_kind"][HOSTILE] = {}
    write(run, "gate.json", gate)
    page = render(run)
    assert set(page.tags) <= {*plain.tags, "p", "br"}
    assert {(tag, name) for tag, name, _ in page.attributes} == {(tag, name) for tag, name, _ in plain.attributes}
    shown = [
        section for section, text in page.texts.items() if "<script>alert(1)</script>" in text and "{{ 7*7 }}" in text
    ]
    assert shown == ["", "figures", "funnel", "gate", "forgetting", "answers", "settings"]


def test_the_page_asks_for_nothing(run: Path) -> None:
    page = render(run)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert not {"script", "img", "iframe", "object", "embed", "form", "base", "use", "image"} & set(page.tags)
    loading = {"src", "href", "srcset", "data", "action", "xlink:href", "background", "poster", "style"}
    values = [value for _, name, value in page.attributes if name in loading]
    assert all(value.startswith(("#", "data:")) for value in values)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    "left", ['{"step": 91, "st', "\n", '{"step": 91, "steps": 100, "loss": NaN, "tokens_per_second": 1.0,']
)
def test_half_a_line_of_a_killed_run_is_left_out(run: Path, left: str) -> None:
    write(run, "training/curve.jsonl", CURVE + left)
    assert "90 of 100 planned steps" in render(run).texts["curve"]


def test_losses_that_are_no_numbers_are_left_out_and_counted(run: Path) -> None:
    write(run, "training/curve.jsonl", CURVE + point(91, float("nan")) + point(92, float("inf"), float("nan")))
    html = write_report(run).read_text(encoding="utf-8")
    assert "2 steps had a loss that is no finite number" in html
    assert not re.search(r'points="[^"]*(nan|inf)', html)


@pytest.mark.parametrize("curve", ["", point(1, 0.7), point(1, float("nan"))])
def test_a_curve_of_one_point_or_none(run: Path, curve: str) -> None:
    write(run, "training/curve.jsonl", curve)
    assert ("from 0.700 to 0.700" in render(run).texts["curve"]) == ("0.7" in curve)


def test_a_long_curve_stays_a_small_page(run: Path) -> None:
    write(run, "training/curve.jsonl", "".join(point(step, 1.0 + step % 7) for step in range(1, 5001)))
    html = write_report(run).read_text(encoding="utf-8")
    lines = re.findall(r'points="([^"]*)"', html)
    assert len(lines) == 2 and all(300 <= len(line.split()) <= 600 for line in lines)


@pytest.mark.parametrize(
    ("low", "high", "tight", "ticks"),
    [
        (0.0, 636.0, True, [0, 200, 400, 600]),
        (0.31, 1.6, False, [0, 0.5, 1, 1.5, 2]),
        (-3.0, 3.0, False, [-4, -2, 0, 2, 4]),
        (0.7, 0.7, False, [0.6, 0.8]),
        (0.0, 0.0, False, [0, 0.25]),
        (0.1, 0.3, False, [0.1, 0.15, 0.2, 0.25, 0.3]),
    ],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, tight: bool, ticks: list[float]) -> None:
    scale = scale_over([low, high], str, tight=tight)
    assert [tick for tick, _ in scale.ticks] == ticks
    assert scale.low <= low and high <= scale.high
    assert 0 <= scale.at(low) <= scale.at(high) <= 100


def test_whiskers_lie_where_their_values_lie() -> None:
    drawn = draw_whiskers([Metric(0.5, 0.25, 0.75, 9), None], scale_over([0.0, 1.0], str))
    assert '<line class="whisker" x1="25.0%" x2="75.0%" y1="12" y2="12"/>' in drawn
    assert '<svg x="50.0%" y="12"><circle class="mark mark-1" r="5"/></svg>' in drawn
    assert drawn.count("mark-") == 1
    Page(drawn)


def test_a_plot_turns_upwards_and_says_itself_in_words() -> None:
    scale = scale_over([0.0, 10.0], "{:g}".format)
    drawn = draw_lines({"raw": [(0, 0), (10, 10)]}, [(5, 5, "<b>")], scale, scale, 'from "0" to 10')
    assert 'points="0.00,100.00 100.00,0.00"' in drawn
    assert "<title>&lt;b&gt;</title>" in drawn
    assert 'role="img" aria-label="from &#34;0&#34; to 10"' in drawn
    Page(drawn)


@pytest.mark.parametrize(
    ("value", "unit", "signed", "said"),
    [
        (0.9684, "share", False, "96.8%"),
        (1.0, "share", False, "100.0%"),
        (0.087, "share", True, "+8.7 points"),
        (-0.0001, "share", True, "0.0 points"),
        (-0.013, "share", True, "−1.3 points"),
        (1893.6, "ms", False, "1,894 ms"),
        (-651.7, "ms", True, "−652 ms"),
        (3.0, "count", True, "+3"),
    ],
)
def test_numbers_in_words(value: float, unit: str, signed: bool, said: str) -> None:
    assert number(value, unit, signed) == said


def test_intervals_say_their_unit_once() -> None:
    assert interval(Metric(0.5, 0.25, 0.75, 9), "share") == "25.0–75.0%"
    assert interval(Metric(0.0, -0.01, 0.02, 9), "share", True) == "−1.0 to +2.0"
    assert interval(Metric(2.0, 1.0, 1800.0, 9), "ms") == "1–1,800 ms"
    assert interval(Metric(None, None, None, 0), "ms") == ""


@pytest.mark.parametrize(
    ("low", "high", "name", "word"),
    [
        (0.01, 0.02, "facts", "better"),
        (-0.02, -0.01, "facts", "worse"),
        (-0.01, 0.01, "facts", "no clear difference"),
        (-20.0, -10.0, "total_ms", "better"),
        (10.0, 20.0, "total_ms", "worse"),
        (10.0, 20.0, "prompt_tokens", "worse"),
    ],
)
def test_a_difference_in_a_word(low: float, high: float, name: str, word: str) -> None:
    assert judged(Metric((low + high) / 2, low, high, 9), name) == word
