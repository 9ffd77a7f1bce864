"""The files of invented companies: those that are shipped, and what the check finds in bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.conftest import EXAMPLES
from training.companies import Company, load_companies, load_company, main, problems
from training.errors import CompaniesError

FILES = sorted((EXAMPLES / "companies").glob("*.yaml"))


def passage(name: str, text: str) -> dict[str, str]:
    return {"id": name, "title": f"About {name}", "text": text + " Nothing else is said about it." * 5}


def small() -> dict[str, Any]:
    """Give a company of which nothing is wrong."""
    return {
        "company": "Smallwick",
        "about": "a shop for lamps",
        "closing": "Anything else?",
        "record": {"tier": ["Basic", "Plus", "Max"]},
        "tickets": [
            {"subject": "Lamp is dark", "text": "No light."},
            {"subject": "Bill", "text": "Too high."},
        ],
        "slots": {"days": ["3 days", "5 days", "8 days"], "price": ["$4", "$6", "$9"]},
        "passages": [
            passage("returns", "Lamps come back within {days}."),
            passage("prices", "A lamp costs {price} and 2 bulbs come with it. Plus has 10 % off, Max has 20 % off."),
            passage("shipping", "Lamps are sent by post."),
            passage("repair", "We mend lamps at home."),
        ],
        "questions": [
            {
                "ask": ["How long can I return a lamp?", "return window"],
                "passages": ["returns"],
                "answer": "Within {days}. [returns]",
                "then": {"ask": ["And its price?"], "passages": ["prices"], "answer": "It costs {price}. [prices]"},
            },
            {
                "ask": ["What is my discount?"],
                "passages": ["prices"],
                "by": "tier",
                "answers": {"Basic": "None. [prices]", "Plus": "10 %. [prices]", "Max": "20 %. [prices]"},
            },
            {"ask": ["Which tier am I on?"], "record": True, "answer": "You are on {record.tier}."},
        ],
        "ambiguous": [{"ask": ["It is broken"], "answer": "Which lamp do you mean?"}],
        "unanswerable": [{"ask": ["Do you sell chairs?"], "answer": ["That is not there. Shall I pass you on?"]}],
    }


def found(content: dict[str, Any]) -> list[str]:
    return list(problems(Company.model_validate(content)))


def test_all_shipped_files_are_there(companies: list[Company]) -> None:
    assert len(FILES) == len(companies) == 68
    assert len({company.company for company in companies}) == 68
    assert len({company.closing for company in companies}) >= 20, "one closing line would be learned by heart"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_has_no_problems(path: Path, companies: list[Company]) -> None:
    company = companies[FILES.index(path)]
    assert list(problems(company)) == []
    assert len(company.passages) >= 8 and company.ambiguous and company.unanswerable and len(company.tickets) >= 2
    assert any(q.by for q in company.questions) and any(q.record for q in company.questions)


def test_a_good_company_has_no_problems() -> None:
    assert found(small()) == []


BROKEN = {
    "unknown passage": (("questions", 0, "passages"), ["returns", "nowhere"], "questions 1: unknown passage nowhere"),
    "unknown slot": (("questions", 0, "answer"), "Within {dayz}. [returns]", "questions 1: unknown slot {dayz}"),
    "slot of another passage": (("questions", 0, "answer"), "It costs {price}. [returns]", "{price} stands in no"),
    "number of no passage": (("questions", 0, "answer"), "It costs $7. [returns]", "$7 stands in no passage"),
    "number in steps": (("questions", 0, "answer"), "1. Wait 4 days.\n2. Go. [returns]", "4 stands in no passage"),
    "foreign marker": (("questions", 0, "answer"), "Within {days}. [prices]", "marker [prices] is not among"),
    "no marker": (("questions", 0, "answer"), "Within {days}.", "questions 1: no marker"),
    "no answer": (("questions", 2, "answer"), [], "questions 3: there is no answer"),
    "a follow-up": (("questions", 0, "then", "answer"), "{days} [prices]", "questions 1 then: {days} stands in no"),
    "a value left out": (("questions", 1, "answers"), {"Basic": "None. [prices]"}, "questions 2: `answers` must have"),
    "no such field": (("questions", 1, "by"), "colour", "one entry for each value of record field colour"),
    "field of nobody": (("questions", 0, "answer"), "{record.tier}. [returns]", "unknown slot {record.tier}"),
    "field of a passage": (("passages", 2, "text"), "{record.tier} " * 10, "passage shipping: unknown slot"),
    "slot of a title": (("passages", 2, "title"), "About {lamps}", "passage shipping: unknown slot {lamps}"),
    "slot of a wording": (("questions", 0, "ask"), ["On {record.tier}?"], "questions 1: unknown slot {record.tier}"),
    "ids twice": (("passages", 1, "id"), "returns", "passage ids must be unique"),
    "one value": (("slots", "price"), ["$4", "$4", "$4"], "slot price: three or more"),
    "too short": (("passages", 2, "text"), "By post.", "passage shipping: 8 characters"),
    "no offer": (("unanswerable", 0, "answer"), "That is not there.", "must end with a question mark"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_said(name: str) -> None:
    (*way, last), value, expected = BROKEN[name]
    content = small()
    part: Any = content
    for step in way:
        part = part[step]
    part[last] = value
    assert any(expected in line for line in found(content)), found(content)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("company: [", "cannot be read"),
        ("", "valid dictionary"),
        ("just words", "valid dictionary"),
        (yaml.safe_dump({k: v for k, v in small().items() if k != "closing"}), "closing: Field required"),
        (yaml.safe_dump(small() | {"colour": "red"}), "colour: Extra inputs"),
        (yaml.safe_dump(small() | {"ambiguous": [{"ask": [], "answer": "?"}]}), "ambiguous.0.ask"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CompaniesError) as error:
        load_companies(tmp_path)
    assert str(path) in str(error.value) and expected in str(error.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(CompaniesError, match="missing.yaml cannot be read"):
        load_company(tmp_path / "missing.yaml")
    with pytest.raises(CompaniesError, match=r"no company files \(\*\.yaml\)"):
        load_companies(tmp_path)


def test_numbers_in_a_file_are_texts(tmp_path: Path) -> None:
    content = small() | {"record": {"tier": ["Basic", "Plus", "Max"], "seats": [1, 2.5, 30]}}
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_company(path).record["seats"] == ("1", "2.5", "30")


def test_the_command_names_each_problem_and_counts_what_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump(small()), encoding="utf-8")
    bad.write_text(yaml.safe_dump(small() | {"slots": {"days": ["1", "2", "3"]}}), encoding="utf-8")
    assert main([str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: right, 4 passages, 7 wordings\n"
    assert main([str(good), str(bad), str(tmp_path / "none.yaml")]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith(f"{bad}: ")] and printed[-1].startswith(f"{tmp_path}/none.yaml")
