"""The files of help centres: those that are shipped, what the check finds in bad ones, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retrieval.sentences import sentences_of
from tests.stand_ins import HashEmbedder
from tests.training.conftest import EXAMPLES
from tests.training.test_leakage import near_duplicates
from training.errors import CompaniesError
from training.helpcentres import HelpCentre, Unanswerable, load_help_centre, load_help_centres, main, places, problems
from training.reranker import centre_samples

FILES = sorted((EXAMPLES / "helpcentres").glob("*.yaml"))
RETURNS = """\
You can return a lamp within 30 days. The post is paid by you.

## How to return

1. Open **My orders**.
2. Choose Return.

| Lamp | Price |
|---|---|
| Small | 12 |
| Large | 30 |
"""


def small() -> dict[str, Any]:
    """Give a help centre of which nothing is wrong."""
    return {
        "company": "Smallwick",
        "about": "a shop for lamps",
        "documents": [
            {"id": "returns", "title": "Returns", "text": RETURNS},
            {"id": "repair", "title": "Repair", "text": "We mend lamps at home, for free within two years."},
        ],
        "questions": [
            {
                "ask": ["How long can I return a lamp?", "return window"],
                "rests_on": {"returns": ["within 30 days"]},
                "then": {"ask": ["And how do I do it?"], "rests_on": {"returns": ["open my orders"]}},
            },
            {"ask": ["What is the dearest?"], "rests_on": {"returns": ["Large | 30"]}},
        ],
        "unanswerable": [{"ask": ["Do you send a label?"], "near": ["returns"]}],
    }


def found(content: dict[str, Any]) -> list[str]:
    return list(problems(HelpCentre.model_validate(content)))


def test_a_right_one_has_no_problems() -> None:
    assert found(small()) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda c: c["documents"].append(c["documents"][0]), "ids of documents must be unique"),
        (lambda c: c["questions"][1].update(ask=["Return window"]), "'Return window' is asked twice"),
        (lambda c: c["unanswerable"][0].update(near=["lamps"]), "unknown document lamps"),
        (lambda c: c["questions"][0].update(rests_on={"lamps": ["x"]}), "unknown document lamps"),
        (lambda c: c["questions"][0].update(rests_on={"returns": ["90 days"]}), "'90 days' stands in no single"),
        (lambda c: c["questions"][0].update(rests_on={"returns": ["a"]}), "'a' stands in "),
    ],
)
def test_what_is_wrong_is_named(change: Any, wrong: str) -> None:
    content = small()
    change(content)
    assert any(wrong in line for line in found(content))


def test_places_are_those_of_the_sentences_that_hold_the_words() -> None:
    chunks = HelpCentre.model_validate(small()).chunks()
    texts = {c.chunk: [s.text for s in sentences_of(c.text)] for c in chunks}
    for words, text in (
        ("WITHIN 30  days", "You can return a lamp within 30 days."),
        ("Choose Return", "1. Open **My orders**.\n2. Choose Return."),
        ("Large | 30", "| Large | 30 |"),
    ):
        [(chunk, place)] = places(chunks, "returns", words)
        assert texts[chunk][place] == text
        assert places(chunks, "repair", words) == []


def test_samples_say_what_answers_and_what_was_asked_before() -> None:
    samples = list(centre_samples([HelpCentre.model_validate(small())], HashEmbedder(), seed=0))
    assert [(s.question.rsplit("\n", 1)[-1], len(s.answers)) for s in samples] == [
        ("How long can I return a lamp?", 1),
        ("return window", 1),
        ("And how do I do it?", 1),
        ("What is the dearest?", 1),
        ("Do you send a label?", 0),
    ]
    assert samples[2].question.split("\n")[0] in {"How long can I return a lamp?", "return window"}
    for sample in samples:
        names = [passage.document for passage in sample.passages]
        assert {name for name, _ in sample.answers} <= set(names)
        assert [len(own) for own in sample.closeness] == [len(sentences_of(p.text)) for p in sample.passages]


def test_files_are_read_and_what_is_wrong_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, bad, torn = (tmp_path / f"{name}.yaml" for name in ("right", "bad", "torn"))
    right.write_text(yaml.safe_dump(small()))
    bad.write_text(yaml.safe_dump(small() | {"colour": "blue"}))
    torn.write_text("company: [")
    assert main([str(right)]) == 0
    assert "right, 2 documents, 3 passages, 5 wordings" in capsys.readouterr().out
    assert main([str(right), str(bad), str(torn)]) == 1
    out = capsys.readouterr().out
    assert "colour: Extra inputs" in out and "torn.yaml cannot be read" in out
    with pytest.raises(CompaniesError, match="colour"):
        load_help_centre(bad)
    with pytest.raises(CompaniesError):
        load_help_centres(tmp_path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_right_and_asks_nothing_of_the_evaluation(path: Path) -> None:
    centre = load_help_centre(path)
    assert list(problems(centre)) == []
    asked = [wording for one, _ in centre.asked() for wording in one.ask]
    unanswerable = [one for one, _ in centre.asked() if isinstance(one, Unanswerable)]
    assert len(centre.documents) >= 20 and len(asked) > 350 and len(unanswerable) >= 75
    assert near_duplicates(asked) == []
    assert "brightfold" not in path.read_text(encoding="utf-8").lower()


def test_there_are_help_centres() -> None:
    assert len(FILES) >= 20
