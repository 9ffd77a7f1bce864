"""Links: which parts of one are somebody's, and what stands in for them."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

_PERSONAL = re.compile(
    r"e?-?mail|user|name|phone|token|key|sess|sid|auth|code|secret|sig|pass|pwd|login|invite|customer|account|uid",
    re.IGNORECASE,
)
_BEFORE_ONE = frozenset(
    "user users u profile profiles customer customers account accounts member members invite invites reset token verify"
    " confirm unsubscribe people".split()
)
_SECRET = re.compile(r"(?=[\w-]*\d)[\w-]{16,}|[\w.+%-]+(?:@|%40)[\w.-]+")


def has_user_data(url: str) -> bool:
    """Say whether a link tells of somebody by its parts, whoever owns the host."""
    return without_user_data(url) != url


def without_user_data(url: str) -> str:
    """Return the link with what is somebody's replaced; the host, the path and all else stay."""
    parts = _split(url)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path.split("/")
    for n, segment in enumerate(path):
        before = path[n - 1].lower() if n else ""
        if segment and (_SECRET.fullmatch(unquote(segment)) or (before in _BEFORE_ONE and segment not in _BEFORE_ONE)):
            path[n] = _invented(segment)
    query = parts.query
    for name, value in parse_qsl(parts.query):
        if _PERSONAL.search(name) or _SECRET.fullmatch(value):
            for written in (value, quote(value, safe=""), quote(value)):
                query = query.replace(f"{name}={written}", f"{name}={_invented(value)}")
    return _joined(parts._replace(netloc=host, path="/".join(path), query=query), url)


def invent_link(url: str, host: str) -> str:
    """Return a link to an invented host; only that of the company keeps its path."""
    return _joined(_split(url)._replace(netloc=host, path="", query="", fragment=""), url)


def _invented(value: str) -> str:
    if "@" in unquote(value):
        return "someone@example.com"
    # Of another length and alphabet than any real one; the digest only keeps two apart.
    return f"x{hashlib.sha256(value.encode()).hexdigest()[:6]}"


def _split(url: str) -> SplitResult:
    return urlsplit(url if "://" in url else f"//{url}")


def _joined(parts: SplitResult, url: str) -> str:
    made = urlunsplit(parts)
    return made if "://" in url else made.removeprefix("//")
