"""The customers' own records, read live; every access goes through one customer's id."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import RecordsError, UnknownCustomer
from retrieval.settings import CustomersSettings, RecordsSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticket:
    """Hold one ticket of one customer."""

    ticket_id: str
    customer_id: str
    subject: str
    status: str
    created_at: str  # ISO 8601
    updated_at: str
    text: str  # the messages, oldest first


@dataclass(frozen=True, slots=True)
class Customer:
    """Hold the record of one customer as the source states it."""

    customer_id: str
    name: str
    fields: Mapping[str, Any]  # what may be shown to the model, in the source's order

    @property
    def first_name(self) -> str:
        """Give the name to greet with, "" where there is none."""
        return next(iter(self.name.split()), "")


class Records:
    """Read customers and tickets from JSONL files, again whenever a file has changed."""

    def __init__(self, customers: CustomersSettings | None, tickets: RecordsSettings | None, root: Path) -> None:
        self._hide = frozenset(customers.hide) if customers else frozenset()
        self._customers = _Rows(root / customers.path, "customer_id") if customers else None
        self._tickets = _Rows(root / tickets.path, "ticket_id") if tickets else None

    def customer(self, customer_id: str) -> Customer:
        """Return the record of this customer, or raise UnknownCustomer."""
        rows = self._customers.of(customer_id) if self._customers else []
        if not rows:
            raise UnknownCustomer(f"There is no customer '{customer_id[:80]}'.")
        row = rows[0]
        hidden = self._hide | {"customer_id", "name"}
        fields = {key: value for key, value in row.items() if key not in hidden and value not in (None, "", {})}
        return Customer(customer_id, str(row.get("name") or ""), fields)

    def find_customer(self, customer_id: str | None) -> Customer | None:
        """Return the record of this customer, None for a visitor or somebody without a record."""
        try:
            return self.customer(customer_id) if customer_id else None
        except UnknownCustomer:
            return None

    def tickets(self, customer_id: str | None) -> list[Ticket]:
        """Return this customer's tickets, the latest update first. The one place where tickets are chosen."""
        if not customer_id or self._tickets is None:
            return []
        tickets = [_ticket(row) for row in self._tickets.of(customer_id)]
        return sorted(tickets, key=lambda t: (t.updated_at, t.ticket_id), reverse=True)

    def customers(self) -> list[Customer]:
        """List all customers; for the demo's picker only."""
        ids = self._customers.ids() if self._customers else []
        return [self.customer(customer_id) for customer_id in ids]


def _ticket(row: Mapping[str, Any]) -> Ticket:
    created = str(row.get("created_at") or "")
    messages = row.get("messages") or []
    lines = [str(m.get("content") or "") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    return Ticket(
        ticket_id=str(row["ticket_id"]),
        customer_id=str(row["customer_id"]),
        subject=str(row.get("subject") or ""),
        status=str(row.get("status") or ""),
        created_at=created,
        updated_at=str(row.get("updated_at") or created),
        text="\n".join(lines) or str(row.get("description") or ""),
    )


class _Rows:
    """Keep the rows of one JSONL file by customer; of an id the last line wins, as in any log."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._by_customer: dict[str, list[dict[str, Any]]] = {}

    def of(self, customer_id: str) -> list[dict[str, Any]]:
        return self._current().get(customer_id, [])

    def ids(self) -> list[str]:
        return list(self._current())

    def _current(self) -> dict[str, list[dict[str, Any]]]:
        try:
            stat = self._path.stat()
            version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            with self._lock:
                if version != self._seen:
                    self._by_customer = self._read()
                    self._seen = version
                return self._by_customer
        except OSError as error:
            raise RecordsError(f"The records {self._path} cannot be read: {error.strerror}.") from error

    def _read(self) -> dict[str, list[dict[str, Any]]]:
        latest: dict[str, dict[str, Any]] = {}
        bad = []
        with self._path.open(encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                row = self._parse(line)
                if row is not None:
                    latest[str(row[self._key])] = row
                elif line.strip():
                    bad.append(number)
        table: dict[str, list[dict[str, Any]]] = {}
        for row in latest.values():
            table.setdefault(str(row["customer_id"]), []).append(row)
        if bad:
            log.warning("%s: %d bad lines left out, the first is line %d", self._path, len(bad), bad[0])
        return table

    def _parse(self, line: str) -> dict[str, Any] | None:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, dict) or any(row.get(key) in (None, "") for key in ("customer_id", self._key)):
            return None
        return row
