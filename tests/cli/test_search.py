"""`tandem search`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Tandem, read_rows, write_rows
from tests.conftest import Deployment
from tests.stand_ins import write_documents

HIT = {"rank", "source", "document", "chunk", "title", "text", "url", "score"}
QUESTION = "How do I export my data as CSV?"


def test_a_search_answers_as_the_contract_says(ready: Deployment, tandem: Tandem) -> None:
    found = tandem("search", QUESTION, "--json").json
    assert {"generation", "milliseconds", "hits"} <= set(found)
    assert found["generation"] == "g000001" and found["milliseconds"] > 0
    first = found["hits"][0]
    assert set(first) >= HIT
    assert (first["rank"], first["source"], first["document"], first["title"]) == (1, "help", "export.md", "Export")
    assert "as CSV under Settings" in first["text"]
    assert [hit["rank"] for hit in found["hits"]] == list(range(1, len(found["hits"]) + 1))


def test_internal_documents_are_for_the_internal_audience(ready: Deployment, tandem: Tandem) -> None:
    question = "Which discount may staff grant?"
    assert "staff" not in {hit["source"] for hit in tandem("search", question, "--json").json["hits"]}
    inside = tandem("search", question, "--audience", "internal", "--json").json["hits"]
    assert inside[0]["source"] == "staff"


def test_by_document_gives_each_document_once(shop: Deployment, tandem: Tandem) -> None:
    sections = "".join(f"## Part {n}\n\nExport number {n} of your data. {'More words. ' * 60}\n\n" for n in range(6))
    write_documents(shop.root / "knowledge", {"long.md": f"# Long\n\n{sections}"})
    tandem("refresh")
    chunks = tandem("search", QUESTION, "--top-k", "6", "--json").json["hits"]
    documents = tandem("search", QUESTION, "--top-k", "6", "--by", "document", "--json").json["hits"]
    assert len({hit["chunk"] for hit in chunks}) == len(chunks) == 6
    assert sorted(hit["document"] for hit in documents) == ["export.md", "long.md", "prices.md"]


def test_a_batch_keeps_order_and_carries_errors(ready: Deployment, tandem: Tandem, tmp_path: Path) -> None:
    queries = [
        {"id": "z", "question": QUESTION},
        {"id": "empty", "question": "  "},
        {"id": "nobody", "question": QUESTION, "customer": "cus_404"},
        {"id": 7, "customer": "cus_1"},
        "{not json",
        {"id": "a", "question": "And how much?", "history": [{"role": "user", "content": "The Pro plan?"}]},
        {"id": "gears", "question": "My gears", "customer": "cus_1"},
    ]
    out = tmp_path / "out.jsonl"
    ran = tandem("search", "--queries", write_rows(tmp_path / "in.jsonl", queries), "--out", out, "--top-k", "1")
    rows = read_rows(out)
    assert (ran.status, ran.out) == (0, "") and "7 questions, 4 failed" in ran.err
    assert [row["id"] for row in rows] == ["z", "empty", "nobody", 7, None, "a", "gears"]
    assert [row["id"] for row in rows if "error" in row] == ["empty", "nobody", 7, None]
    assert "cus_404" in rows[2]["error"] and "question" in rows[3]["error"] and "line 5" in rows[4]["error"]
    assert set(rows[0]["hits"][0]) >= HIT and rows[0]["generation"] == "g000001"
    assert rows[0]["hits"][0]["document"] == "export.md" and rows[5]["hits"][0]["document"] == "prices.md"
    assert [ticket["ticket_id"] for ticket in rows[6]["tickets"]] == ["t1"] and rows[0]["tickets"] == []


def test_a_batch_takes_every_character_that_json_allows(ready: Deployment, tandem: Tandem, tmp_path: Path) -> None:
    row = json.dumps({"id": 1, "question": "How do I\u2028export?"}, ensure_ascii=False)
    tandem("search", "--queries", write_rows(tmp_path / "in.jsonl", [row]), "--out", tmp_path / "out.jsonl")
    rows = read_rows(tmp_path / "out.jsonl")
    assert len(rows) == 1 and rows[0]["hits"]


def test_a_batch_may_begin_with_a_byte_order_mark(ready: Deployment, tandem: Tandem, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"id": 1, "question": "How do I export?"}\n')
    tandem("search", "--queries", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    assert "error" not in read_rows(tmp_path / "out.jsonl")[0]


def test_a_batch_that_cannot_be_written(ready: Deployment, tandem: Tandem, tmp_path: Path) -> None:
    queries = write_rows(tmp_path / "in.jsonl", [{"id": 1, "question": QUESTION}])
    ran = tandem("search", "--queries", queries, "--out", tmp_path / "nowhere" / "out.jsonl")
    assert ran.status == 2 and "nowhere" in ran.complaint


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((QUESTION, "--customer", "cus_404"), "cus_404"),
        (("",), "empty"),
        ((" \n ",), "empty"),
        (("x" * 100_000,), "100,000"),
        ((), "QUESTION"),
        ((QUESTION, "--queries", "in.jsonl"), "--queries"),
        (("--queries", "tandem.toml"), "--out"),
        (("--queries", "missing.jsonl", "--out", "out.jsonl"), "missing.jsonl"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    ready: Deployment, tandem: Tandem, words: tuple[str, ...], named: str
) -> None:
    ran = tandem("search", *words, "--json")
    assert ran.status == 2 and named in ran.complaint
    assert len(ran.complaint) < 300


@pytest.mark.parametrize("words", [("--top-k", "0"), ("--by", "page"), ("--audience", "everyone")])
def test_a_value_out_of_range_is_wrong_usage(ready: Deployment, tandem: Tandem, words: tuple[str, ...]) -> None:
    ran = tandem("search", QUESTION, *words)
    assert (ran.status, ran.out) == (2, "") and words[0] in ran.err


def test_before_the_first_refresh(shop: Deployment, tandem: Tandem) -> None:
    ran = tandem("search", QUESTION, "--json")
    assert ran.status == 1 and "tandem refresh" in ran.complaint


def test_for_people(ready: Deployment, tandem: Tandem) -> None:
    ran = tandem("search", QUESTION, "--customer", "cus_1")
    assert ran.status == 0 and "help/export.md" in ran.out and "Gears are jammed" in ran.out
    assert "g000001" in ran.err
