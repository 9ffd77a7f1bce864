"""Counterfactual copies: a number changed in the evidence and in the answer alike, so that copying is learned."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from prompts.messages import Message
from training.examples import Example

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\b"
)
# What is passed over whole: list numbers, citation markers, addresses, dates and hours.
_KEPT = "|".join(
    (
        r"^[ \t]*\d{1,2}[.)]\s",
        r"\[\d{1,2}(?:,\s*\d{1,2})*\]",
        r"https?://[^\s)>\]]+|[\w.+-]+@[\w-]+\.[\w.-]+",
        rf"\b\d{{1,2}} {_MONTH}(?:,? \d{{4}}\b)?|\b{_MONTH} \d{{1,2}}\b(?:,? \d{{4}}\b)?|\b{_MONTH} \d{{4}}\b",
        r"\b\d{1,2} ?[ap]\.?m\b",
    )
)
# A number that states a fact is no part of a name, code word or date either.
_NUMBER = re.compile(rf"{_KEPT}|(?<![\w.,:/@-])(?P<number>\d+(?:[.,]\d+)*)(?![\w@/-]|[.,:]\d)", re.MULTILINE)
_DRAWS = 100  # of a number until it is taken that none is free


def counterfactual(example: Example, draw: random.Random) -> Example | None:
    """Return a copy in which every number that the answer takes from the prompt is another one; None without any.

    A number that is written in another way too ("24-hour") stays, since the two would no longer agree.
    """
    whole = "\n".join([*(m.content for m in example.messages), example.answer])
    otherwise = set(re.findall(r"\d+(?:[.,]\d+)*", _NUMBER.sub(" ", whole)))
    taken = sorted((set(numbers_of(example.answer)) & set(numbers_of(example.messages[-1].content))) - otherwise)
    others = otherwise.union(numbers_of(whole))
    new = {number: drawn for number in taken if (drawn := _another(number, others, draw)) is not None}
    if not new:
        return None
    messages = tuple(Message(m.role, _change(m.content, new)) for m in example.messages)
    return replace(example, id=f"{example.id}~", messages=messages, answer=_change(example.answer, new))


def changed_numbers(example: Example, edited: Example) -> list[tuple[str, str]]:
    """Return the numbers of the answer that its counterfactual copy has changed, as (old, new)."""
    pairs = zip(numbers_of(example.answer), numbers_of(edited.answer), strict=True)
    return [(old, new) for old, new in dict.fromkeys(pairs) if old != new]


def numbers_of(text: str) -> list[str]:
    """Return the numbers that state facts: none of a list, a marker, an address or a date."""
    return [found["number"] for found in _NUMBER.finditer(text) if found["number"]]


def _change(text: str, new: dict[str, str]) -> str:
    return _NUMBER.sub(lambda m: new.get(m["number"], m[0]), text)


def _another(number: str, taken: set[str], draw: random.Random) -> str | None:
    """Draw a number of the same form that stands nowhere in the example; None where there is none."""
    for _ in range(_DRAWS):
        digits = [draw.choice("123456789") if c.isdigit() and not i else c for i, c in enumerate(number)]
        drawn = "".join(draw.choice("0123456789") if c.isdigit() and i else c for i, c in enumerate(digits))
        if drawn not in taken:
            taken.add(drawn)
            return drawn
    return None
