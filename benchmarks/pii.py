"""Measure how much of what is personal is found, and how much of what is found is personal.

Run as: python benchmarks/pii.py FOLDER
FOLDER holds generated_large.json of microsoft/presidio-research (MIT): sentences made of templates and invented
people, with labelled spans. The rules were tuned on the templates with even numbers; the odd ones are the figure.
The peer is presidio-analyzer with its patterns, since the models that it finds names with are on no package index;
it joins where it is installed.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import machine  # noqa: E402
from training.pii import Finder, Kind, Span  # noqa: E402

FILE = "generated_large.json"
KINDS: dict[str, Kind] = {
    "PERSON": "name", "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card", "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip", "DOMAIN_NAME": "url", "US_SSN": "ssn", "ADDRESS": "address",
}  # fmt: skip
PEER = {
    **{name: kind for name, kind in KINDS.items() if name != "DOMAIN_NAME"},
    "URL": "url",
    "DATE_TIME": "birth_date",
}
TITLE = re.compile(r"(?:mr|mrs|ms|miss|dr)\b\.?\s*", re.IGNORECASE)  # a part of some labelled names, and nobody's own


@dataclass(frozen=True, slots=True)
class Labelled:
    """Hold one sentence; `other` are spans of kinds that are not looked for, such as towns and companies."""

    text: str
    spans: tuple[Span, ...]
    other: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Hold shares: of spans covered to the last letter, of spans touched, of findings on a span of that kind."""

    n: int
    recall: float
    touched: float
    found: int
    precision: float
    on_any: float  # of findings on a labelled span of whatever kind


def load(folder: Path) -> tuple[list[Labelled], list[Labelled]]:
    """Return the half that rules were tuned on, and the half that they never saw."""
    halves: tuple[list[Labelled], list[Labelled]] = ([], [])
    for row in json.loads((folder / FILE).read_text(encoding="utf-8")):
        spans, other = [], []
        for span in row["spans"]:
            start, end = span["start_position"], span["end_position"]
            if span["entity_type"] == "PERSON" and (title := TITLE.match(row["full_text"], start, end)):
                start = title.end()
            kind = KINDS.get(span["entity_type"])
            if kind is None:
                other.append((start, end))
            elif start < end:
                spans.append(Span(start, end, kind))
        halves[row["template_id"] % 2].append(Labelled(row["full_text"], tuple(spans), tuple(other)))
    return halves


def measure(finder: Any, sentences: Sequence[Labelled]) -> dict[str, Score]:
    """Score a finder by kind."""
    gold: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    found: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for sentence in sentences:
        spans = finder.find(sentence.text)
        covered = {n for span in spans for n in range(span.start, span.end)}
        for span in sentence.spans:
            letters = [n for n in range(span.start, span.end) if sentence.text[n].isalnum()]
            gold[span.kind].append((covered.issuperset(letters), not covered.isdisjoint(letters)))
        places = [(s.start, s.end) for s in sentence.spans] + list(sentence.other)
        for span in spans:
            same = any(s.kind == span.kind and s.start < span.end and span.start < s.end for s in sentence.spans)
            found[span.kind].append((same, any(start < span.end and span.start < end for start, end in places)))
    return {kind: _score(gold[kind], found[kind]) for kind in KINDS.values()}


def _score(gold: Sequence[tuple[bool, bool]], found: Sequence[tuple[bool, bool]]) -> Score:
    def share(pairs: Sequence[tuple[bool, bool]], which: int) -> float:
        return sum(pair[which] for pair in pairs) / len(pairs) if pairs else float("nan")

    return Score(len(gold), share(gold, 0), share(gold, 1), len(found), share(found, 0), share(found, 1))


class Presidio:
    """Find with presidio's patterns; a blank pipeline stands in for the model that it would download."""

    def __init__(self) -> None:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine

        engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "blank"}])
        engine.nlp = {"en": spacy.blank("en")}
        registry = RecognizerRegistry(supported_languages=["en"])
        registry.load_predefined_recognizers(languages=["en"])
        registry.recognizers = [r for r in registry.recognizers if "Spacy" not in type(r).__name__]
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])

    def find(self, text: str) -> list[Span]:
        """Return what it is sure of by half."""
        found = self._analyzer.analyze(text, language="en", score_threshold=0.4)
        return [Span(r.start, r.end, PEER[r.entity_type]) for r in found if r.entity_type in PEER]  # type: ignore[arg-type]


def show(name: str, table: dict[str, Score]) -> None:
    """Print one table."""
    print(f"\n{name}\n{'':<9}{'spans':>6}{'whole':>8}{'touched':>9}{'found':>8}{'of kind':>9}{'of any':>8}")
    for kind, s in table.items():
        print(f"{kind:<9}{s.n:>6}{s.recall:>8.3f}{s.touched:>9.3f}{s.found:>8}{s.precision:>9.3f}{s.on_any:>8.3f}")


def main() -> None:
    """Print recall and precision by kind, on both halves."""
    if len(sys.argv) != 2 or not Path(sys.argv[1], FILE).is_file():
        print(f"left out: give the folder with {FILE}")
        return
    folder = Path(sys.argv[1])
    tuned, held_out = load(folder)
    digest = hashlib.sha256((folder / FILE).read_bytes()).hexdigest()[:12]
    print(f"{machine()}; {len(tuned)} sentences of even templates, {len(held_out)} of odd ones, {FILE} {digest}")
    show("even templates, on which the rules were tuned", measure(Finder(), tuned))
    show("odd templates, held out", measure(Finder(), held_out))
    try:
        show("odd templates, presidio-analyzer's patterns", measure(Presidio(), held_out))
    except ImportError:
        print("\nleft out: presidio-analyzer (pip install presidio-analyzer)")


if __name__ == "__main__":
    main()
