"""Customers and tickets: read live, by one customer's id, bad lines left out."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from retrieval.errors import RecordsError, UnknownCustomer
from retrieval.records import Records
from retrieval.settings import CustomersSettings, RecordsSettings


def write_lines(path: Path, *rows: dict[str, Any] | str) -> None:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def customers_of(tmp_path: Path, *rows: dict[str, Any] | str, **options: Any) -> Records:
    write_lines(tmp_path / "customers.jsonl", *rows)
    return Records(CustomersSettings(path="customers.jsonl", **options), None, tmp_path)


def tickets_of(tmp_path: Path, *rows: dict[str, Any] | str) -> Records:
    write_lines(tmp_path / "tickets.jsonl", *rows)
    return Records(None, RecordsSettings(path="tickets.jsonl"), tmp_path)


def ticket(ticket_id: str, customer_id: str = "a", **rest: Any) -> dict[str, Any]:
    return {"ticket_id": ticket_id, "customer_id": customer_id, **rest}


# ---------------------------------------------------------------- customers


def test_a_record_keeps_the_sources_order_and_leaves_empty_values_out(tmp_path: Path) -> None:
    row = {"tier": "Pro", "customer_id": "a", "name": "Ada", "seats": 0, "note": "", "x": None, "usage": {"gb": 3}}
    customer = customers_of(tmp_path, row).customer("a")
    assert (customer.customer_id, customer.name) == ("a", "Ada")
    assert list(customer.fields.items()) == [("tier", "Pro"), ("seats", 0), ("usage", {"gb": 3})]


def test_hidden_fields_are_never_read(tmp_path: Path) -> None:
    row = {"customer_id": "a", "email": "a@b.c", "phone": "1", "address": "2", "tier": "Pro", "vat": "DE1"}
    assert customers_of(tmp_path, row).customer("a").fields == {"tier": "Pro", "vat": "DE1"}
    assert customers_of(tmp_path, row, hide=["vat", "email"]).customer("a").fields == {
        "phone": "1",
        "address": "2",
        "tier": "Pro",
    }


def test_an_unknown_customer_is_an_error_and_a_visitor_is_none(tmp_path: Path) -> None:
    records = customers_of(tmp_path, {"customer_id": "a"})
    for unknown in ("b", "A", "a ", " a", "", "%", "*", "a\0"):
        with pytest.raises(UnknownCustomer):
            records.customer(unknown)
        assert records.find_customer(unknown) is None
    assert records.find_customer(None) is None
    found = records.find_customer("a")
    assert found is not None and found.customer_id == "a"


def test_the_error_does_not_repeat_a_very_long_id(tmp_path: Path) -> None:
    with pytest.raises(UnknownCustomer) as caught:
        customers_of(tmp_path, {"customer_id": "a"}).customer("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_the_last_line_of_a_customer_wins(tmp_path: Path) -> None:
    records = customers_of(
        tmp_path, {"customer_id": "a", "tier": "Free"}, {"customer_id": "b"}, {"customer_id": "a", "tier": "Pro"}
    )
    assert records.customer("a").fields == {"tier": "Pro"}
    assert [customer.customer_id for customer in records.customers()] == ["a", "b"]


def test_an_id_written_as_a_number_is_the_same_id(tmp_path: Path) -> None:
    assert customers_of(tmp_path, {"customer_id": 42, "tier": "Pro"}).customer("42").fields == {"tier": "Pro"}


def test_a_changed_file_is_read_again_at_once(tmp_path: Path) -> None:
    records = customers_of(tmp_path, {"customer_id": "a", "tier": "Free"})
    assert records.customer("a").fields["tier"] == "Free"
    write_lines(tmp_path / "customers.jsonl", {"customer_id": "a", "tier": "Enterprise"})
    assert records.customer("a").fields["tier"] == "Enterprise"
    write_lines(tmp_path / "new.jsonl", {"customer_id": "b", "tier": "Enterprise"})  # of the same size, renamed
    os.replace(tmp_path / "new.jsonl", tmp_path / "customers.jsonl")
    assert records.find_customer("a") is None
    assert records.customer("b").fields["tier"] == "Enterprise"


def test_bad_lines_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ['{"customer_id": "broken', "[1, 2]", '"text"', "", '{"name": "no id"}', '{"customer_id": ""}']
    with caplog.at_level(logging.WARNING):
        records = customers_of(tmp_path, {"customer_id": "a"}, *rows, {"customer_id": "b"})
        assert [customer.customer_id for customer in records.customers()] == ["a", "b"]
    assert "5 bad lines left out, the first is line 2" in caplog.text
    assert "broken" not in caplog.text  # customers' data stays out of the log


def test_bytes_that_are_no_utf8_do_not_hide_the_other_lines(tmp_path: Path) -> None:
    records = customers_of(tmp_path, {"customer_id": "a"})
    (tmp_path / "customers.jsonl").write_bytes(b'{"customer_id": "a", "city": "K\xf6ln"}\n{"customer_id": "b"}\n')
    assert [customer.customer_id for customer in records.customers()] == ["a", "b"]


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    records = Records(CustomersSettings(path="customers.jsonl"), RecordsSettings(path="tickets.jsonl"), tmp_path)
    with pytest.raises(RecordsError, match=r"customers\.jsonl cannot be read"):
        records.find_customer("a")
    with pytest.raises(RecordsError, match=r"tickets\.jsonl cannot be read"):
        records.tickets("a")


def test_without_records_everybody_is_a_visitor(tmp_path: Path) -> None:
    records = Records(None, None, tmp_path)
    assert (records.find_customer("a"), records.tickets("a"), records.customers()) == (None, [], [])


def test_a_byte_order_mark_does_not_hide_the_first_customer(tmp_path: Path) -> None:
    records = customers_of(tmp_path, "\ufeff" + json.dumps({"customer_id": "a"}))
    assert records.customer("a").customer_id == "a"


def test_a_deeply_nested_line_is_a_bad_line(tmp_path: Path) -> None:
    records = customers_of(tmp_path, "[" * 100_000, {"customer_id": "a"})
    assert records.customer("a").customer_id == "a"


def test_a_folder_in_place_of_the_file_is_an_error_of_this_package(tmp_path: Path) -> None:
    (tmp_path / "customers.jsonl").mkdir()
    with pytest.raises(RecordsError):
        Records(CustomersSettings(path="customers.jsonl"), None, tmp_path).find_customer("a")


# ---------------------------------------------------------------- tickets


def test_tickets_are_the_customers_own_with_the_latest_update_first(tmp_path: Path) -> None:
    records = tickets_of(
        tmp_path,
        ticket("t1", created_at="2026-01-01", updated_at="2026-03-01"),
        ticket("t2", created_at="2026-02-01"),
        ticket("t3", customer_id="b", created_at="2026-05-01"),
        ticket("t4", created_at="2026-04-01"),
    )
    assert [one.ticket_id for one in records.tickets("a")] == ["t4", "t1", "t2"]
    assert [one.ticket_id for one in records.tickets("b")] == ["t3"]


def test_nobody_in_particular_has_no_tickets(tmp_path: Path) -> None:
    records = tickets_of(tmp_path, ticket("t1"), ticket("t2", customer_id="None"))
    assert records.tickets(None) == records.tickets("") == records.tickets("c") == []


def test_the_last_line_of_a_ticket_wins(tmp_path: Path) -> None:
    records = tickets_of(tmp_path, ticket("t1", status="open"), ticket("t2"), ticket("t1", status="closed"))
    assert {one.ticket_id: one.status for one in records.tickets("a")} == {"t1": "closed", "t2": ""}


def test_a_ticket_moved_to_another_customer_is_that_customers_alone(tmp_path: Path) -> None:
    records = tickets_of(tmp_path, ticket("t1", customer_id="a"), ticket("t1", customer_id="b"))
    assert [one.ticket_id for one in records.tickets("b")] == ["t1"]
    assert records.tickets("a") == []


def test_a_tickets_text_is_its_messages_else_its_description(tmp_path: Path) -> None:
    messages: list[Any] = [{"content": "First"}, {"content": None}, "odd", {"content": "Last"}]
    records = tickets_of(
        tmp_path,
        ticket("t1", created_at="3", messages=messages, description="unused"),
        ticket("t2", created_at="2", description="Described"),
        ticket("t3", created_at="1", messages="odd"),
    )
    assert [one.text for one in records.tickets("a")] == ["First\n\nLast", "Described", ""]


def test_a_ticket_without_its_ids_is_left_out(tmp_path: Path) -> None:
    records = tickets_of(tmp_path, {"customer_id": "a"}, {"ticket_id": "t1"}, ticket("t2"))
    assert [one.ticket_id for one in records.tickets("a")] == ["t2"]
