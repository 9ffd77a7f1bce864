"""Invented companies to learn manners from: passages, questions and answers with slots for what varies.

Run as: python -m training.companies FILE...   (checks files and prints what is wrong)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrieval.documents import Chunk
from training.errors import CompaniesError

_SLOT = re.compile(r"\{([^{}]*)\}")
_MARKER = re.compile(r"\[([\w-]+)\]")
_VALUE = re.compile(r"\{[^{}]*\}|\$?\d+(?:[.,]\d+)*")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class PassageText(_Part):
    """Be one passage of a company's documentation."""

    id: str
    title: str
    heading: str = ""
    text: str


class TicketText(_Part):
    """Be an earlier ticket that a customer of the company may have."""

    subject: str
    text: str


class Asked(_Part):
    """Be one question in several wordings, with its answer or one answer for each value of a record's field."""

    ask: tuple[str, ...] = Field(min_length=1)
    passages: tuple[str, ...] = ()
    record: bool = False
    by: str | None = None
    answer: str | tuple[str, ...] = ()
    answers: Mapping[str, str] = Field(default_factory=dict)
    then: Asked | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Give the answers that any customer may get."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer


class Company(_Part):
    """Be one company; `slots` hold the values that a fact may take, `record` those of a customer's fields."""

    company: str
    about: str
    closing: str
    tone: str = ""
    record: Mapping[str, tuple[str, ...]]
    tickets: tuple[TicketText, ...]
    slots: Mapping[str, tuple[str, ...]]
    passages: tuple[PassageText, ...]
    questions: tuple[Asked, ...]
    ambiguous: tuple[Asked, ...]
    unanswerable: tuple[Asked, ...]


def load_company(path: Path) -> Company:
    """Read one file; raises CompaniesError that names what is wrong."""
    try:
        return Company.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CompaniesError(f"{path} cannot be read: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        raise CompaniesError(f"{path}: {'; '.join(lines)}") from None


def load_companies(folder: Path) -> list[Company]:
    """Read every company of a folder, in the order of the files' names."""
    companies = [load_company(path) for path in sorted(folder.glob("*.yaml"))]
    if not companies:
        raise CompaniesError(f"There are no company files (*.yaml) in {folder}.")
    return companies


def filled(text: str, values: Mapping[str, object]) -> str:
    """Put values into the slots of a text; KeyError for a slot without one."""
    return _SLOT.sub(lambda m: str(values[m[1]]), text)


def first_values(company: Company) -> dict[str, str]:
    """Return the first value of each slot and of each field of a record."""
    records = {f"record.{field}": values[0] for field, values in company.record.items()}
    return {name: values[0] for name, values in company.slots.items()} | records


def passages_of(company: Company, values: Mapping[str, object]) -> list[Chunk]:
    """Return a company's passages with these values, as a search would find them."""
    return [
        Chunk(
            chunk=f"help/{p.id}#0",
            source="help",
            document=p.id,
            ordinal=0,
            title=filled(p.title, values),
            heading=filled(p.heading, values),
            text=filled(p.text, values).strip(),
            audience="public",
        )
        for p in company.passages
    ]


def problems(company: Company) -> Iterator[str]:
    """Yield what is wrong with a company's texts: unknown slots, markers and fields, values that no passage holds."""
    texts = {p.id: f"{p.title}\n{p.heading}\n{p.text}" for p in company.passages}
    if len(texts) != len(company.passages):
        yield "passage ids must be unique"
    for name, values in company.slots.items():
        if len(set(values)) < 3:
            yield f"slot {name}: three or more different values are needed"
    for passage in company.passages:
        if not 120 <= len(passage.text) <= 800:
            yield f"passage {passage.id}: {len(passage.text)} characters, 200 to 650 are expected"
        slots = _SLOT.findall(texts[passage.id])
        yield from (f"passage {passage.id}: unknown slot {{{n}}}" for n in slots if n not in company.slots)
    for where, asked in _all_asked(company):
        yield from (f"{where}: {line}" for line in _asked_problems(asked, company, texts))
    for asked in company.unanswerable:
        yield from (f"{t!r} must end with a question mark" for t in asked.texts if not t.strip().endswith("?"))


def _asked_problems(asked: Asked, company: Company, texts: Mapping[str, str]) -> Iterator[str]:
    slots = _SLOT.findall("\n".join(asked.ask))
    yield from (f"unknown slot {{{name}}} in a wording" for name in slots if name not in company.slots)
    yield from (f"unknown passage {id}" for id in asked.passages if id not in texts)
    if asked.by is not None:
        values = company.record.get(asked.by)
        if values is None or set(asked.answers) != set(values):
            yield f"`answers` must have one entry for each value of record field {asked.by}"
    elif not asked.texts:
        yield "there is no answer"
    known = set(company.slots)
    if asked.by or asked.record:
        known |= {f"record.{field}" for field in company.record}
    for text in (*asked.texts, *asked.answers.values()):
        yield from _answer_problems(text, asked, texts, known)


def _answer_problems(text: str, asked: Asked, texts: Mapping[str, str], known: set[str]) -> Iterator[str]:
    yield from (f"unknown slot {{{name}}}" for name in _SLOT.findall(text) if name not in known)
    yield from (f"marker [{id}] is not among its passages" for id in _MARKER.findall(text) if id not in asked.passages)
    if asked.passages and not _MARKER.search(text):
        yield f"no marker in {text[:60]!r}"
    evidence = "\n".join(texts.get(id, "") for id in asked.passages)
    plain = re.sub(r"(?m)^\s*\d{1,2}[.)]\s", "", _MARKER.sub("", text))
    for value in _VALUE.findall(plain):
        if asked.passages and not asked.by and not value.startswith("{record.") and value not in evidence:
            yield f"{value} stands in no passage that it rests on ({text[:60]!r})"


def _all_asked(company: Company) -> Iterator[tuple[str, Asked]]:
    for kind in ("questions", "ambiguous", "unanswerable"):
        for number, asked in enumerate(getattr(company, kind), start=1):
            yield f"{kind} {number}", asked
            if asked.then:
                yield f"{kind} {number} then", asked.then


def main(paths: list[str]) -> int:
    """Check files; returns the exit status."""
    wrong = 0
    for path in paths:
        try:
            company = load_company(Path(path))
            found = list(problems(company))
        except CompaniesError as error:
            found = [str(error)]
        wrong += len(found)
        for line in found:
            sys.stdout.write(f"{path}: {line}\n")
        if not found:
            asks = sum(len(a.ask) for _, a in _all_asked(company))
            sys.stdout.write(f"{path}: right, {len(company.passages)} passages, {asks} wordings\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
