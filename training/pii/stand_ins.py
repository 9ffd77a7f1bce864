"""Invented values in place of personal ones: the same for the same within one conversation."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from training.pii.company import key
from training.pii.links import invent_link
from training.pii.patterns import luhn
from training.pii.spans import Kind

_FIRST = (
    "Alma Anders Aylin Basil Bea Bruno Carla Cyrus Dalia Dario Edda Emil Enya Fabio Farah Felix Freya Gita Goran Greta"
    " Hana Henrik Ilse Imran Ingrid Ismael Jana Jonas Kalle Katya Kenji Leila Lev Lina Lorenz Magda Malik Marisol Mateo"
    " Mina Nadia Nils Noor Odette Omar Oskar Petra Priya Quentin Rafa Renata Rhea Rolf Runa Samir Selma Sofia Stellan"
    " Sunita Tariq Tessa Tobias Ulla Viggo Vera Wanda Xenia Yara Yusuf Zita"
).split()
_LAST = (
    "Adeyemi Almeida Anand Ashdown Bakshi Bergqvist Brandt Calloway Castellan Dekker Demir Draper Eklund Farrow Fenwick"
    " Galvez Gupta Haddad Hallam Harrow Holloway Ibarra Iversen Jansen Kapoor Keating Kovac Laurent Lindgren Lowell"
    " Maddox Marchetti Mbeki Moreau Nakata Norwood Novak Okafor Oyelaran Paredes Petrov Quill Radley Rahman Renner"
    " Romero Sandoval Sato Selwyn Sorensen Tamura Thorne Ueda Vance Varga Weller Wexford Yilmaz Zeller Zimmer"
).split()
_STREETS = "Alder Birch Cedar Elder Fern Hazel Juniper Larch Maple Rowan Sorrel Willow".split()
_WAYS = "Lane Road Street Avenue Close Walk".split()
_TOWNS = "Ashcombe Brookhaven Dunmere Eastvale Fairholt Glenwick Larkfield Millbrook Northam Oakhurst".split()
_DOMAINS = ("example.com", "example.org", "example.net")
_MONTHS = "January February March April May June July August September October November December".split()
_LONG = 6  # characters; shorter values are replaced only where they were found


class StandIns:
    """Invent for one conversation; what was invented is asked for with `of` and put in elsewhere with `apply`."""

    def __init__(self, conversation_id: str, said: str) -> None:
        """`said` is all that is said, so that nothing is invented that stands there already."""
        self._draw = random.Random(conversation_id)  # the same at each run; not from the value itself
        self._said = said.casefold()
        self._values: dict[tuple[Kind, str], str] = {}
        self._spelled: dict[str, str] = {}  # as it stood in the text, to what stands there now
        self._names: dict[str, str] = {}  # one word of a name, in lower case, to its stand-in
        self._first, self._last = self._shuffled(_FIRST), self._shuffled(_LAST)

    def of(self, value: str, kind: Kind) -> str:
        """Return the stand-in of a value."""
        if kind == "name":
            made = self._name(value)
        else:
            known = (kind, key(value, kind))
            if known not in self._values:
                self._values[known] = self._fresh(value, kind)
            made = self._values[known]
        if len(value) >= _LONG and (kind != "name" or " " in value):
            self._spelled[value] = made
        return made

    def spelled(self, text: str) -> str:
        """Put stand-ins where a value stands as it was spelled before, whatever stands around it."""
        if not self._spelled:
            return text
        longest = sorted(self._spelled, key=len, reverse=True)
        pattern = "|".join(rf"(?<!\w){re.escape(spelled)}(?!\w)" for spelled in longest)
        return re.sub(pattern, lambda found: self._spelled[found[0]], text)

    def apply(self, value: Any) -> Any:
        """Put stand-ins into a string, or into all strings of a nested value; names by whole words with a capital."""
        if isinstance(value, dict):
            return {name: self.apply(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.apply(item) for item in value)
        if not isinstance(value, str):
            return value
        text = self.spelled(value)
        return re.sub(r"[^\W\d_]+", self._word, text) if self._names else text

    def __len__(self) -> int:
        return len(self._values) + len(self._names)

    def _word(self, found: re.Match[str]) -> str:
        made = self._names.get(found[0].casefold())
        return found[0] if made is None or not found[0][0].isupper() else _cased(made, found[0])

    def _shuffled(self, names: list[str]) -> Iterator[str]:
        names = [name for name in names if name.casefold() not in self._said]
        self._draw.shuffle(names)
        yield from names
        while True:
            yield f"{self._draw.choice(_FIRST)}-{self._draw.choice(_FIRST)}"

    def _fresh(self, value: str, kind: Kind) -> str:
        for _ in range(100):
            made = self._makers()[kind](value)
            if made not in self._values.values() and made.casefold() not in self._said:
                break
        return made

    def _makers(self) -> dict[Kind, Callable[[str], str]]:
        return {
            "email": self._email, "url": self._url, "iban": self._iban, "card": self._card, "ssn": self._ssn,
            "ip": self._ip, "phone": self._phone, "birth_date": self._date, "address": self._address,
        }  # fmt: skip

    def _name(self, value: str) -> str:
        """Invent first and last name apart, so that each alone stays recognisable."""
        words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", value)
        made = [self._part(words[0], last=False)]
        if len(words) > 1:
            made.append(self._part(words[-1], last=True))
        return _cased(" ".join(made), value)

    def _part(self, word: str, *, last: bool) -> str:
        known = word.casefold()
        if known not in self._names:
            self._names[known] = next(self._last if last else self._first)
        made = self._names[known]
        return f"{made[0]}." if len(word) == 1 else made

    def _digits(self, count: int) -> str:
        return "".join(self._draw.choice("0123456789") for _ in range(count))

    def _email(self, value: str) -> str:
        local, _, host = value.partition("@")
        parts = [self._names[p] for p in re.split(r"[._+-]", local.casefold()) if p in self._names]
        if not parts:
            parts = [self._draw.choice(_FIRST), self._draw.choice(_LAST)]
        taken = self._values.get(("url", f"@{host.lower()}"))
        if taken is None:  # one domain stays one domain
            used = set(self._values.values())
            free = [d for d in _DOMAINS if d not in used and d not in self._said]
            taken = free[0] if free else f"{self._draw.choice(_LAST).lower()}{self._digits(2)}.example"
            self._values["url", f"@{host.lower()}"] = taken
        made = f"{'.'.join(parts).lower()}@{taken}"
        return made if made not in self._values.values() else f"{'.'.join(parts).lower()}{self._digits(2)}@{taken}"

    def _url(self, value: str) -> str:
        return invent_link(value, f"{self._draw.choice(_LAST).lower()}-{self._draw.choice(_STREETS).lower()}.example")

    def _phone(self, value: str) -> str:
        area, line = f"{self._draw.choice('23456789')}{self._digits(2)}", f"01{self._digits(2)}"  # 555-01xx is nobody's
        if value.startswith(("+", "00")):
            return f"+1 {area} 555 {line}"
        return f"({area}) 555-{line}" if "(" in value else f"{area}-555-{line}"

    def _card(self, value: str) -> str:
        body = f"400000{self._digits(9)}"
        number = next(f"{body}{d}" for d in range(10) if luhn(f"{body}{d}"))
        between = re.search(r"\d([ -])\d", value)
        return between[1].join(number[n : n + 4] for n in range(0, 16, 4)) if between else number

    def _iban(self, value: str) -> str:
        flat = value.replace(" ", "").upper()
        body = f"TEST{self._digits(max(7, len(flat) - 8))}"
        number = int("".join(str(int(c, 36)) for c in f"{body}{flat[:2]}00"))
        made = f"{flat[:2]}{98 - number % 97:02}{body}"
        return " ".join(made[n : n + 4] for n in range(0, len(made), 4)) if " " in value else made

    def _ssn(self, value: str) -> str:
        parts = (f"9{self._digits(2)}", f"0{self._draw.choice('123456789')}", f"{self._draw.randint(1, 9999):04}")
        return (re.search(r"[ -]", value) or [""])[0].join(parts)  # no number begins with 9

    def _ip(self, value: str) -> str:
        if ":" in value:
            return f"2001:db8::{self._draw.randint(1, 65535):x}"  # RFC 3849
        mask = f"/{value.partition('/')[2]}" if "/" in value else ""
        net = self._draw.choice(("192.0.2", "198.51.100", "203.0.113"))  # RFC 5737
        return f"{net}.{self._draw.randint(1, 254)}{mask}"

    def _date(self, value: str) -> str:
        year, month, day = self._draw.randint(1950, 1999), self._draw.randint(1, 12), self._draw.randint(1, 12)
        if named := re.search(r"[^\W\d_]{3,}", re.sub(r"\d(?:st|nd|rd|th)", "", value)):
            name = _MONTHS[month - 1] if len(named[0]) > 3 else _MONTHS[month - 1][:3]
            return f"{name} {day}, {year}" if value[0].isalpha() else f"{day} {name} {year}"
        sign = (re.search(r"[/.-]", value) or ["-"])[0]
        parts = (f"{year}", f"{month:02}", f"{day:02}")
        return sign.join(parts if re.match(r"\d{4}", value) else parts[::-1])

    def _address(self, value: str) -> str:
        street = f"{self._draw.randint(2, 98)} {self._draw.choice(_STREETS)} {self._draw.choice(_WAYS)}"
        return f"{street}, {self._draw.choice(_TOWNS)}" if re.search(r"[,\n]", value) else street


def _cased(made: str, like: str) -> str:
    """Write a stand-in in small or in capital letters where the original was."""
    if like.islower():
        return made.lower()
    return made.upper() if like.isupper() and len(like) > 1 else made
