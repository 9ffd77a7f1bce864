"""Where in a text somebody can be recognised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["email", "url", "iban", "card", "ssn", "ip", "birth_date", "address", "phone", "name"]
KINDS: tuple[Kind, ...] = get_args(Kind)  # where two meet, the earlier one wins


@dataclass(frozen=True, slots=True)
class Span:
    """Mark text[start:end]."""

    start: int
    end: int
    kind: Kind


def without_overlaps(spans: Iterable[Span], order: tuple[Kind, ...] = KINDS) -> list[Span]:
    """Keep of spans that meet the one whose kind comes first, then the longest; ordered by place."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (order.index(s.kind), s.start - s.end, s.start)):
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda s: s.start)
