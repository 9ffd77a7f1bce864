"""Eval cases: questions whose right answers are known."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prompts.messages import Message
from training.errors import CasesError


class Said(BaseModel):
    """Be one message of a case's history."""

    role: Literal["user", "assistant"]
    content: str


class Case(BaseModel):
    """Be one case; `facts` are strings that a right answer holds, alternatives parted by " | "."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    question: str = Field(min_length=1)
    kind: str = ""
    procedure: bool = False  # a right answer is a list of steps
    history: tuple[Said, ...] = ()
    customer: str | None = None
    answerable: bool
    facts: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    reference: str | None = None

    @property
    def messages(self) -> list[Message]:
        """Give the history as the bot takes it."""
        return [Message(said.role, said.content) for said in self.history]


def load_cases(path: Path) -> tuple[list[Case], str]:
    """Read a JSONL file of cases and hash it; raises CasesError that names the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CasesError(f"The cases {path} cannot be read: {error}") from None
    cases: list[Case] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cases.append(Case.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise CasesError(f"{path}, line {number}: {where} {first['msg']}") from None
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        raise CasesError(f"{path}: case ids must be unique.")
    if not cases:
        raise CasesError(f"{path} holds no cases.")
    return cases, hashlib.sha256(text.encode()).hexdigest()[:16]
