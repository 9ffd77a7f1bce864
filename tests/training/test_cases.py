"""Files of eval cases, and that of the worked example against the rest of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import frontmatter
import pytest

from training.cases import Case, load_cases
from training.errors import CasesError
from training.metrics import Result, has_facts

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = {"help": EXAMPLES / "knowledge", "internal": EXAMPLES / "internal"}
GOOD = '{"id": "c1", "question": "How?", "answerable": true}'

# Files of cases


def cases_file(folder: Path, *lines: str) -> Path:
    path = folder / "cases.jsonl"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_case_is_read_whole(tmp_path: Path) -> None:
    row = {
        "id": "c1", "question": "And then?", "kind": "multi_turn", "customer": "cus_1", "answerable": True,
        "history": [{"role": "user", "content": "First?"}, {"role": "assistant", "content": "So."}],
        "facts": ["one | two"], "forbidden": ["three"], "documents": ["help/a.md"], "reference": "Hi.",
        "note": "an unknown key is left alone",
    }  # fmt: skip
    (case,), _ = load_cases(cases_file(tmp_path, json.dumps(row), "", "  "))
    assert [(m.role, m.content) for m in case.messages] == [("user", "First?"), ("assistant", "So.")]
    assert (case.facts, case.forbidden, case.documents) == (("one | two",), ("three",), ("help/a.md",))
    assert (case.customer, case.answerable, case.reference) == ("cus_1", True, "Hi.")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{no json", "line 3"),
        ("[]", "line 3"),
        ('{"id": "c2", "answerable": true}', "line 3: question"),
        ('{"id": "c2", "question": "", "answerable": true}', "line 3: question"),
        ('{"id": "c2", "question": "How?"}', "line 3: answerable"),
        ('{"id": "c2", "question": "How?", "answerable": true, "facts": "x"}', "line 3: facts"),
        ('{"id": "c2", "question": "How?", "answerable": true, "history": [{"role": "system", "content": "x"}]}',
         "line 3: history.0.role"),
        (GOOD, "unique"),
    ],
)  # fmt: skip
def test_an_error_names_the_line(tmp_path: Path, line: str, named: str) -> None:
    path = cases_file(tmp_path, GOOD, "", line)
    with pytest.raises(CasesError) as error:
        load_cases(path)
    assert str(path) in str(error.value) and named in str(error.value) and "\n" not in str(error.value)


def test_no_cases_at_all(tmp_path: Path) -> None:
    with pytest.raises(CasesError, match="no cases"):
        load_cases(cases_file(tmp_path))
    with pytest.raises(CasesError, match="cannot be read"):
        load_cases(tmp_path / "missing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(CasesError, match="cannot be read"):
        load_cases(tmp_path / "binary.jsonl")


def test_the_digest_tells_files_apart(tmp_path: Path) -> None:
    first = load_cases(cases_file(tmp_path, GOOD))[1]
    assert load_cases(cases_file(tmp_path, GOOD))[1] == first
    assert load_cases(cases_file(tmp_path, GOOD.replace("How", "Why")))[1] != first


def test_a_case_may_hold_any_character(tmp_path: Path) -> None:
    (case,), _ = load_cases(cases_file(tmp_path, GOOD.replace("How?", "How\u2028then?")))
    assert case.question == "How\u2028then?"


# The worked example


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()]


def documents() -> dict[str, str]:
    """Give each document's text, front matter included, by "source/document"."""
    return {
        f"{source}/{path.relative_to(folder).as_posix()}": path.read_text(encoding="utf-8")
        for source, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*.md"))
    }


CASES = load_cases(EXAMPLES / "eval" / "cases.jsonl")[0]
COMPUTED = {"case_028": "7,660 | 7660", "unseen_049": "15 | 36"}  # of the day's requests: left, or needed


def test_there_are_enough_cases_of_every_kind() -> None:
    parts = {"case": 60, "seen": 80, "unseen": 80}
    assert [case.id for case in CASES] == [f"{p}_{n:03d}" for p, count in parts.items() for n in range(1, count + 1)]
    kinds = {case.kind for case in CASES}
    assert kinds == {"answerable", "customer", "multi_turn", "unanswerable", "ambiguous", "greeting"}
    assert all(case.answerable != (case.kind in ("unanswerable", "ambiguous")) for case in CASES)
    assert all(bool(case.history) for case in CASES if case.kind == "multi_turn")
    assert {case.kind for case in CASES if case.procedure} == {"answerable"}
    assert sum(case.procedure for case in CASES) >= 30


def test_documents_and_customers_of_cases_exist() -> None:
    known, customers = documents(), {row["customer_id"] for row in rows("customers.jsonl")}
    for case in CASES:
        assert set(case.documents) <= set(known), case.id
        assert case.customer is None or case.customer in customers, case.id
        if case.kind == "customer":
            assert case.customer, case.id


def test_what_can_be_answered_says_from_where() -> None:
    for case in CASES:
        if case.answerable and case.kind not in ("greeting", "customer"):
            assert case.documents and case.facts, case.id
        if not case.answerable:
            assert not case.facts and not case.documents, case.id


def test_each_fact_stands_in_its_evidence() -> None:
    known = documents()
    records = {row["customer_id"]: str(row) for row in rows("customers.jsonl")}
    tickets: dict[str, str] = {}
    for row in rows("tickets.jsonl"):
        tickets[row["customer_id"]] = f"{tickets.get(row['customer_id'], '')} {row}"
    missing = {}
    for case in CASES:
        evidence = [known[name] for name in case.documents]
        if case.customer and case.kind == "customer":
            evidence += [records[case.customer], tickets.get(case.customer, "")]
        text = re.sub(r"['\"{}]", " ", "\n".join(evidence))
        for fact in case.facts:
            for alternative in fact.split(" | "):
                if not has_facts(Result(Case(id="x", question="x", answerable=True, facts=(alternative,)), text=text)):
                    missing.setdefault(case.id, fact)
    assert missing == COMPUTED


def test_the_computed_facts_are_right() -> None:
    by_id = {case.id: case for case in CASES}
    usages = {row["customer_id"]: row["usage"] for row in rows("customers.jsonl")}
    left = {}
    for name in COMPUTED:
        usage = usages[by_id[name].customer or ""]
        left[name] = usage["api_requests_limit"] - usage["api_requests_today"]
    assert by_id["case_028"].facts == (f"{left['case_028']:,} | {left['case_028']}",)
    assert "3,000 rows therefore needs 15 requests" in documents()[by_id["unseen_049"].documents[0]]
    assert by_id["unseen_049"].facts == (f"15 | {left['unseen_049']}",)


def test_each_reference_passes_its_own_case() -> None:
    for case in CASES:
        assert case.reference is not None, case.id
        if case.answerable:
            assert has_facts(Result(case, text=case.reference, action="answer")), case.id


def test_each_document_has_front_matter() -> None:
    known = documents()
    assert Counter(name.split("/")[0] for name in known) == {"help": 70, "internal": 4}
    for name, text in known.items():
        page = frontmatter.loads(text)
        assert page["title"] and page.content.strip(), name
        assert name.startswith("internal/") or str(page["url"]).startswith("https://help.brightfold.example/"), name
    titles = [frontmatter.loads(text)["title"] for text in known.values()]
    assert len(set(titles)) == len(known)


def test_customers_and_tickets_belong_together() -> None:
    customers, tickets = rows("customers.jsonl"), rows("tickets.jsonl")
    ids = {row["customer_id"] for row in customers}
    assert len(ids) == len(customers) == 40
    assert len({row["ticket_id"] for row in tickets}) == len(tickets) == 160
    assert {row["customer_id"] for row in tickets} <= ids
    assert all(row["messages"] and row["subject"] and row["status"] for row in tickets)


def test_no_question_of_the_eval_is_in_the_conversations() -> None:
    def plain(text: str) -> str:
        return " ".join(re.findall(r"\w+", text.lower()))

    conversations = rows("conversations.jsonl")
    said = {plain(m["content"]) for row in conversations for m in row["messages"] if m["role"] == "user"}
    assert len(conversations) > 0 and said.isdisjoint(plain(case.question) for case in CASES if case.kind != "greeting")
    exemplary = {plain(row["messages"][0]["content"]) for row in conversations}
    assert exemplary.isdisjoint(plain(case.question) for case in CASES)
