"""Phone numbers, as far as they can be told from order numbers, versions, prices and dates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from training.pii.spans import Span

_REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "AU", "BR")
_PHONE = re.compile(
    r"\b(?:(?:tele)?phones?|tel|mobile|cell(?:phone)?|fax|call(?:ed|ing)?|ring|dial|sms|text(?: me)?|whats ?app"
    r"|voicemail|hotline|landline)\b",
    re.IGNORECASE,
)
_REACHED = re.compile(r"\b(?:reach(?:ed)?|answer(?:ing)?|contact|number|no\.|line)\b", re.IGNORECASE)
_NOT_A_PHONE = re.compile(
    r"\b(?:order|invoice|ticket|case|reference|ref|purchase|account|customer|id|tracking|serial|product|item|code|error"
    r"|card|version|article|zip|postcode|price|amount|pin|number)\b[^.!?\n]{0,20}$",
    re.IGNORECASE,
)
_DIGITS = r"(?:\(\d{1,5}\)|\d{1,5})"
_LOOKS = re.compile(
    rf"(?<![\w.,/$€£#:-])(?:\+?\d{{6,15}}|\+?{_DIGITS}(?:(?:[ .-]|(?<=\)))?{_DIGITS}){{1,7}})"
    r"(?: ?(?:x|ext\.?|extension) ?\d{1,6})?(?![\w/%€$]|-\d|[.,:]\d)",
    re.IGNORECASE,
)
_FORM = re.compile(r"\(\d{2,4}\)[ -]?\d{3,4}[ .-]\d{3,4}|(?:(?:\+|00)?\d{1,3}[ .-])?\(?\d{3}\)?([ .-])\d{3}\1\d{4}")
_BEHIND = re.compile(r"[ ,-]{0,2}\(?(?:office|fax|mobile|cell|home|work|phone|tel)\b", re.IGNORECASE)
_DATED = re.compile(r"\d{4}[-.]\d{1,2}[-.]\d{1,2}|\d{1,2}[-.]\d{1,2}[-.]\d{2,4}|\d{1,3}(?:\.\d{1,3}){3}")
_DOTTED = re.compile(r"\+?[\d.()]+")
_DOTTED_PHONE = re.compile(r"\+?(?:\d{1,3}\.)?\(?\d{2,4}\)?\.\d{3,4}\.\d{3,4}|\+?\d{1,3}(?:\.\d{2}){4,5}")
_LONG = 10  # digits of a number that nothing calls a phone; shorter ones are ids just as often
_BEFORE = 50  # characters in which a phone may be talked of


def find_phones(text: str, asked: str = "") -> Iterator[Span]:
    """Yield numbers that are valid phones somewhere and written like one, and digits that are talked of as a phone."""
    for match in _LOOKS.finditer(text):
        number = re.split(r"(?i) ?(?:x|ext)", match[0])[0]
        if not 6 <= sum(c.isdigit() for c in number) <= 15 or _DATED.fullmatch(number):
            continue
        if "." in number and _DOTTED.fullmatch(number) and not _DOTTED_PHONE.fullmatch(number):
            continue
        named = _BEHIND.match(text, match.end())
        if named or _is_phone(number, text[max(0, match.start() - _BEFORE) : match.start()], asked):
            yield Span(match.start(), match.end(), "phone")


def _is_phone(number: str, before: str, asked: str) -> bool:
    if number.startswith(("+", "00")) and _valid(number, (None,)):
        return True
    if _PHONE.search(before):
        return True
    other = _NOT_A_PHONE.search(before) or (not _PHONE.search(asked) and _NOT_A_PHONE.search(asked.rstrip(" ?.:!")))
    grouped = bool(re.search(r"[ .()-]", number))
    if _PHONE.search(asked[-120:]):
        return grouped or _valid(number, _REGIONS)
    if other and not (grouped and re.search(r"number\W*$", before, re.IGNORECASE)):
        return False
    if not grouped or _FORM.fullmatch(number) or _REACHED.search(before):
        return grouped
    return sum(c.isdigit() for c in number) >= _LONG and _valid(number, _REGIONS)


def _valid(number: str, regions: tuple[str | None, ...]) -> bool:
    import phonenumbers

    parser: Any = phonenumbers
    number = re.sub(r"^00(?=[1-9])", "+", number)
    for region in regions:
        try:
            if parser.is_possible_number(parsed := parser.parse(number, region)):
                # In the international form a number that is possible is taken: new ranges open every year.
                if region is None or parser.is_valid_number(parsed):
                    return True
        except parser.NumberParseException:
            continue
    return False
