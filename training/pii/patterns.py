"""Personal data that has a form: e-mail addresses, numbers with check digits, phones, IPs, URLs, dates of birth."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from training.pii.spans import Span

EMAIL = re.compile(r"(?<![\w.+%-])\w[\w.+%'’-]{0,63}@(?:[\w-]+\.)+[^\W\d_]{2,24}\b")
URL = re.compile(r"(?:\bhttps?://|\bwww\.)[^\s<>\"'`\])}]+[^\s<>\"'`\])}.,;:!?]", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
_CARD_START = re.compile(r"3[0-9]|4|5[0-8]|6")  # the payment networks' ranges; an order number may begin otherwise
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)", re.IGNORECASE)
_SSN = re.compile(r"(?<![\w-])(?!000|666)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_SSN_BARE = re.compile(r"\b(?:ssn|social security)\D{0,30}(\d{9})\b", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)(?:/\d{1,2}\b)?")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE)
_VERSION = re.compile(r"(?:version|release|build|v)\.?\s*$", re.IGNORECASE)
_SHARED_IPS = frozenset(("1.1.1.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "192.168.0.1", "192.168.1.1"))
_MONTHS = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]{0,6}\.?"
_YEAR = r"(?:19[1-9]\d|20[0-2]\d)"
_DATE = re.compile(
    rf"(?<![\w/.-])(?:\d{{1,2}}([/.-])\d{{1,2}}\1{_YEAR}|{_YEAR}([/.-])\d{{1,2}}\2\d{{1,2}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTHS},? {_YEAR}|{_MONTHS} \d{{1,2}}(?:st|nd|rd|th)?,? {_YEAR})"
    r"(?:[ T]\d{1,2}:\d{2}(?::\d{2})?)?(?![\w/-])",
    re.IGNORECASE,
)
_BORN = re.compile(r"\b(?:born|birth\w*|d\.?o\.?b\.?|b-?day)\b", re.IGNORECASE)
_ADULT = 16  # years; so long ago lies a customer's birth, and hardly anything else that a customer dates to the day


def find_patterns(text: str, asked: str = "", year: int | None = None) -> Iterator[Span]:
    """Yield what has a form, phones excepted.

    `asked` is what was said before. `year` is that in which a customer wrote, so that dates of long ago are births.
    """
    for match in EMAIL.finditer(text):
        yield Span(*match.span(), "email")
    for match in URL.finditer(text):
        yield Span(*match.span(), "url")
    yield from _numbers(text)
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            if _is_ip(match[0]) and not _VERSION.search(text, max(0, match.start() - 12), match.start()):
                yield Span(*match.span(), "ip")
    for match in _DATE.finditer(text):
        if _is_birth(match[0], text[max(0, match.start() - 60) : match.start()], asked, year):
            yield Span(*match.span(), "birth_date")


def _numbers(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        if _CARD_START.match(match[0]) and luhn(match[0]):
            yield Span(*match.span(), "card")
    for match in _IBAN.finditer(text):
        end = next((n for n in _ends(match[0]) if is_iban(match[0][:n])), None)
        if end is not None:
            yield Span(match.start(), match.start() + end, "iban")
    for match in _SSN.finditer(text):
        yield Span(*match.span(), "ssn")
    for match in _SSN_BARE.finditer(text):
        yield Span(*match.span(1), "ssn")


def luhn(number: str) -> bool:
    """Check the last digit (ISO/IEC 7812-1)."""
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    return sum(digits[0::2]) % 10 == -sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) % 10


def is_iban(text: str) -> bool:
    """Check the digits after the country (ISO 13616)."""
    flat = text.replace(" ", "").upper()
    if not 15 <= len(flat) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in flat[4:] + flat[:4])) % 97 == 1


def _ends(text: str) -> Iterator[int]:
    """Yield where an IBAN may end: whole, or before a group that is the next word."""
    yield len(text)
    yield from (n for n in range(len(text) - 1, 0, -1) if text[n] == " ")


def _is_ip(text: str) -> bool:
    """Ask for an address that may be somebody's; loopback and netmasks are nobody's."""
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified or address.is_multicast or str(address) in _SHARED_IPS:
        return False
    return not str(address).startswith(("255.255.", "0.")) and (address.version == 4 or text.count(":") > 2)


def _is_birth(date: str, before: str, asked: str, year: int | None) -> bool:
    found = re.search(_YEAR, date)
    if found is None:
        return False
    if _BORN.search(before) or _BORN.search(asked):
        return int(found[0]) < (year or datetime.now(UTC).year)  # this year's is a party
    return year is not None and int(found[0]) <= year - _ADULT
