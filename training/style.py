"""The house style as rules that a program can check."""

from __future__ import annotations

import re
from collections.abc import Mapping

from training.cases import Case

MAX_WORDS = 130

_MARKER = re.compile(r"\[\d{1,2}\]")
_GREETING = r"^(?:hi|hello|hey|dear)"


def style_holds(text: str, action: str, case: Case, closing: str, first_names: Mapping[str, str]) -> bool:
    """Say whether every rule that applies to this reply holds.

    Length applies to all; greeting by first name, citation markers and the closing line apply to answers.
    Small talk has nothing to cite and nothing to close.
    """
    if not text.strip() or len(text.split()) > MAX_WORDS:
        return False
    if action != "answer" or case.kind == "greeting":
        return True
    name = first_names.get(case.customer or "", "")
    greeted = not name or bool(re.match(rf"{_GREETING} {re.escape(name)}\b", text.strip(), re.IGNORECASE))
    marked = not case.documents or bool(_MARKER.search(text))
    return greeted and marked and text.strip().endswith(closing)
