"""Personal data in conversations, replaced by stand-ins that are the same for the same within one conversation.

Found by forms with check digits, by words around them, and by lists of names; no model and no network. What the
company says of itself stays: see `company`.
"""

from __future__ import annotations

from training.pii.company import Company, learn_company
from training.pii.find import Finder
from training.pii.replace import NamesOf, Replacer
from training.pii.spans import Kind, Span
from training.pii.stand_ins import StandIns

__all__ = ["Company", "Finder", "Kind", "NamesOf", "Replacer", "Span", "StandIns", "learn_company"]
