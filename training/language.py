"""The language of a text."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_MIN_BYTES = 30  # of prose; below it a guess is noise
_SURE = 0.7  # measured on 30,000 messages of English support logs: 8 wrong, all of them taken for Nigerian Pidgin
_NO_PROSE = re.compile(r"`[^`]*`|https?://\S+|\S+@\S+|\[\d{1,2}\]|[\d*_#>|{}()\[\]\\/]+")


def language_of(text: str) -> str | None:
    """Return the ISO 639 code, None where the text is too short to tell or may be one of several."""
    prose = " ".join(_NO_PROSE.sub(" ", text).split())
    if len(prose.encode(errors="replace")) < _MIN_BYTES:
        return None
    code, share = _identifier().classify(prose)
    if code == "pcm":  # Nigerian Pidgin, which terse English is taken for
        return "en"
    return str(code) if share >= _SURE else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
