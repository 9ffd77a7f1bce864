"""Street addresses, as English-speaking customers write them, and in the commonest forms of Europe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from training.pii.spans import Span

_TYPES = (  # the second half are common words too, and take a capital
    "street|st|road|rd|avenue|ave|lane|ln|boulevard|blvd|terrace|crescent|cres|parkway|pkwy|highway|hwy|mews"
    "|(?-i:Drive|Dr|Court|Ct|Way|Square|Sq|Place|Pl|Close|Circle|Cir|Trail|Alley|Row|Gardens|Grove|Hill|Loop)"
)
_FOREIGN = (
    r"rue|(?-i:Via)|viale|calle|c/|rua|(?-i:R)|avenida|avda\.?|av\.|avenue|boulevard|plaza|piazza|ulica|ul\.|camino"
    r"|camiño|allée|chemin|largo|praça|trg|(?-i:Vila)|av"
)
_ENDINGS = (
    r"(?:straße|strasse|stasse|straat|str\.|weg|gasse|platz|plaats|plein|allee|laan|gatan|vägen|vegen|veien|vej|gade"
    r"|katu|tie|utca|lände|dijk|kade|singel|stræti|gata|brunna)"
)
_SUFFIXED = rf"(?:[^\W\d_]+{_ENDINGS}|{_ENDINGS}|utca|ulica|u\.)"
_W = r"[^\W\d_](?:\w?\w?\.|[\w'’-]*)"
_NTH = r"\d{1,3}(?:st|nd|rd|th)"
_HOUSE = r"(?<![\w.,$€£#-])\d{1,5}[a-z]?(?:[-/]\d{1,4}[a-z]?)?"
_UNIT = r"(?:apt|apartment|suite|ste|unit|flat|floor|building|bldg)\b\.?\s*#?\s*[a-z]?\d{1,5}[a-z]?\b"
_BOX = r"p\.?\s?o\.?\s*box\s+\d{1,6}"
_MILITARY = re.compile(
    r"\b(?:PSC|CMR|Unit|US[A-Z]{1,4}) [^\n,]{1,30},?\s(?:[^\n,]{1,20}\s)?[AFD]PO A[AEP] \d{5}", re.IGNORECASE
)
_STREET = re.compile(
    "(?P<place>"
    + "|".join(
        (
            rf"{_HOUSE},?\s+(?:\d{{1,5}}\s+)?(?:(?:{_W}|{_NTH})\s+){{1,4}}?(?:{_TYPES})\b\.?(?!\w)(?:\s+\d{{1,4}}\b)?",
            rf"(?:{_HOUSE},?\s+)?\b(?:{_FOREIGN})\s+(?:{_W}\s+){{1,5}}?\d{{1,5}}[a-z]?\b",
            rf"{_HOUSE},?\s+(?:\d{{1,5}}\s+)?(?:{_FOREIGN})(?:\s+{_W}){{1,4}}",
            rf"(?:{_HOUSE},?\s+)?(?:\b{_W}\s+){{0,2}}?\b{_SUFFIXED}\s+\d{{1,5}}[a-z]?\b",
            rf"(?:{_HOUSE},?\s+)?\b{_BOX}",
            rf"{_HOUSE}\s+(?:\d{{1,5}}\s+)?(?:{_W}\s+){{1,5}}(?:\d{{1,5}}\s+)?(?={_UNIT})",
            r"\b(?:apt|suite)\b\.?\s*#?\s*[a-z]?\d{1,5}[a-z]?\b(?=\s*(?:,|$))",
        )
    )
    + ")",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBERED = re.compile(
    rf"(?P<place>{_HOUSE}\s+(?:\d{{1,5}}\s+)?(?:{_W}\s+){{1,4}}\d{{1,5}}\b|{_HOUSE}\s+{_W}(?:\s+{_W}){{0,4}}(?=\s*(?:,|$)))",
    re.MULTILINE,
)
_GIVEN = re.compile(
    rf"\b(?:address(?:es)?|lives? at|living at|located at|moved to)\b[^.!?\n\d]{{0,25}}\n{{0,2}}"
    rf"(?P<place>{_HOUSE}\s+{_W}(?:\s+{_W}){{0,4}}(?:\s+\d{{1,5}}\b)?)",
    re.IGNORECASE,
)
_CORNER = re.compile(
    rf"\b(?:the )?corner of (?:{_W}|\d+)(?: (?:{_W}|\d+)){{0,4}} and (?:{_W}|\d+)(?: (?:{_W}|\d+)){{0,3}}",
    re.IGNORECASE,
)
_POSTCODE = (
    r"\b(?:\d{5}-\d{4}|(?!(?:19|20)\d\d\b)\d{4,6}|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d"
    r"|\d{4} ?[A-Z]{2})\b"
)
_GAP = r"[,\s?]*"  # "?" stands for line breaks that an export lost
_CAPITAL = r"[^\W\d_a-zß-ÿ](?:\w?\w?\.(?= )|[\w'’-]*)"
_TOWN = re.compile(rf"(?:\s*,\s*|\s*\n\W*){_CAPITAL}(?: {_CAPITAL}| (?:de|la|del|of|upon|am|an der)\b){{0,4}}")
_MORE = re.compile(rf"{_GAP}(?:{_UNIT}|{_BOX})", re.IGNORECASE)
_NO_PLACE = re.compile(
    r"(?<=\w{4})[.!?;]\s+(?-i:[A-Z])|[!;:]|\b(?:i|is|are|was|my|our|your|we|you|it|and|for|with|to|please|can|could|will|that|this|if|or|from"
    r"|because|since|call|order|instead|thanks|in|at|not|have|has|on|the|a|an|any|of|by|am|pm|minutes?|hours?|days?"
    r"|weeks?|months?|years?|blocks?|people|users?|seats?|stars?|bedrooms?|times?|emails?|licen[cs]es?)\b",
    re.IGNORECASE,
)
_HINT = re.compile(
    rf"\b(?:{_TYPES}|{_FOREIGN})(?!\w)|{_ENDINGS}\b|\bu\.|\bbox\b|\b(?:apt|apartment|suite|ste|unit|flat|floor|building|bldg)\b"
    r"|\baddress|\blive|\bliving|\blocated|\bmoved|\d [^\W\d_a-z][\w ]* \d",
    re.IGNORECASE,
)
_FOREIGN_OF = re.compile(r"\b(?:a|an der|am|in der)\b(?= [^\W\d_a-z])")  # part of a street's name abroad
_AROUND = 80  # characters before and behind a hint in which a street is looked for
_WINDOW = 110  # characters after a street in which its town may stand


def find_addresses(text: str) -> Iterator[Span]:
    """Yield a street with its house number, and the unit, town, postcode and country that follow it."""
    if not re.search(r"\d", text):
        return
    for at, stop in _windows(text):
        for pattern in (_STREET, _GIVEN):
            for start, end in _places(pattern, text, at, stop):
                yield _span(text, start, _end(text, end))
        for start, end in _places(_NUMBERED, text, at, stop):
            if (anchor := _anchored(text, end)) is not None:  # no word for a street: the country has to tell
                yield _span(text, start, anchor)
    for match in _MILITARY.finditer(text):
        yield Span(*match.span(), "address")
    for match in _CORNER.finditer(text):
        if re.search(rf"\d|\b(?:{_TYPES})\b|{_ENDINGS}\b", match[0], re.IGNORECASE):
            yield _span(text, *match.span())


def _span(text: str, start: int, end: int) -> Span:
    """Leave the sentence its full stop."""
    return Span(start, start + len(text[start:end].rstrip(" .,")), "address")


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Yield the surroundings of words that an address may have, joined where they meet."""
    at, stop = 0, -1
    for hint in _HINT.finditer(text):
        if stop < 0 or hint.start() - _AROUND > stop:
            if stop >= 0:
                yield at, stop
            at = max(0, hint.start() - _AROUND)
        stop = min(len(text), hint.end() + _AROUND)
    if stop >= 0:
        yield at, stop


def _places(pattern: re.Pattern[str], text: str, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield what a pattern matches without a word that no address has; after one, the search goes on behind it."""
    while match := pattern.search(text, at, end):
        wrong = _NO_PLACE.search(_FOREIGN_OF.sub("_", match["place"]))
        if wrong is None:
            yield match.span("place")
        at = match.end() if wrong is None else match.start("place") + max(wrong.start(), 1)


def _end(text: str, end: int) -> int:
    """Return where an address ends whose street ends at `end`."""
    while more := _MORE.match(text, end):
        end = more.end()
    anchor = _anchored(text, end)
    if anchor is not None:
        return anchor
    for _ in range(2):
        town = _TOWN.match(text, end)
        if town is None or _NO_PLACE.search(town[0]):
            break
        end = town.end()
    return end


def _anchored(text: str, end: int) -> int | None:
    """Return where the last country or postcode nearby ends, if nothing but a town stands before it."""
    last, found = 0, None
    for anchor in _anchors().finditer(text, end, end + _WINDOW):
        if _NO_PLACE.search(text, last or end, anchor.start() + 1):
            break
        last = found = anchor.end()
    return found


@cache
def _anchors() -> re.Pattern[str]:
    from faker.providers.address.en_US import Provider

    countries = "|".join(sorted(map(re.escape, Provider.countries), key=len, reverse=True))
    return re.compile(
        rf"(?i:\b(?:{countries}|united states|usa|uk|england|scotland)\b)(?:\s+{_POSTCODE})?"
        rf"|\b[A-Z]{{2}},? {_POSTCODE}|{_POSTCODE}"
    )
