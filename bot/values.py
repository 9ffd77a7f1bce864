"""The values that answering works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bot.models import Sampling
from prompts.messages import Message, Slots

MAX_HISTORY = 8  # messages of a conversation that a prompt may carry; the budget may drop more
Mode = Literal["hybrid", "rag", "finetuned", "prompt"]
MODES: tuple[Mode, ...] = ("hybrid", "rag", "finetuned", "prompt")


@dataclass(frozen=True, slots=True)
class Citation:
    """Name a passage that the answer rests on; `n` is its number in the text."""

    n: int
    source: str
    document: str
    chunk: str
    title: str
    url: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold a finished answer."""

    text: str
    action: str  # answer | follow_up | decline | handoff
    citations: tuple[Citation, ...]
    mode: str
    release: str | None
    generation: str | None
    conversation_id: str
    turn_id: str
    usage: dict[str, int]  # prompt_tokens, completion_tokens
    milliseconds: dict[str, float]  # retrieve, first_token, total; from the start of the request


@dataclass(frozen=True, slots=True)
class Begun:
    """Open a stream: the conversation exists and the question has been understood."""

    conversation_id: str
    turn_id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """Hold a piece of the answer; an empty one says that a sentence is still being written and checked."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Close a stream with the whole answer; its text is the pieces joined."""

    answer: Answer


Event = Begun | Delta | Done


@dataclass(frozen=True, slots=True)
class BotOptions:
    """Hold what the bot needs of the settings."""

    slots: Slots = field(default_factory=Slots)
    sampling: Sampling = field(default_factory=Sampling)
    prompt_tokens: int = 900
    top_k: int = 8
    words: int = 150
    min_similarity: float = 0.2
    check_grounding: bool = True
    min_evidence: float = 0.0  # where a reranker has read the passages
    quote_threshold: float = 0.5
    quote_words: int = 0  # that an answer is completed to; 0: passages are quoted only for a lost answer
    has_sources: bool = True  # a deployment without sources answers from its weights
    examples: tuple[Message, ...] = ()  # shown exchanges of prompt mode
