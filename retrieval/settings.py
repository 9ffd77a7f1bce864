"""Settings of finding: sources, records and search."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Table(BaseModel):
    """Be one table of the config file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class SourceSettings(Table):
    """Describe one source of knowledge."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
    kind: Literal["folder", "langchain"] = "folder"
    path: str | None = None  # folder: relative to the config file
    glob: str = "**/*.md"
    audience: Literal["public", "internal"] = "public"
    loader: str | None = None  # langchain: dotted name of a loader class
    options: dict[str, Any] = Field(default_factory=dict)  # langchain: its arguments

    @model_validator(mode="after")
    def _needs_its_own_keys(self) -> SourceSettings:
        if self.kind == "folder" and not self.path:
            raise ValueError("a source of kind 'folder' needs 'path'")
        if self.kind == "langchain" and not self.loader:
            raise ValueError("a source of kind 'langchain' needs 'loader', the dotted name of a loader class")
        if self.name == "tickets":
            raise ValueError("'tickets' is the name of the customers' own records; choose another")
        return self


class RecordsSettings(Table):
    """Describe where records are read from."""

    kind: Literal["jsonl"] = "jsonl"
    path: str  # relative to the config file


class CustomersSettings(RecordsSettings):
    """Describe where customers are read from, and what of them stays out of prompts."""

    hide: list[str] = Field(default_factory=lambda: ["email", "phone", "address"])  # never in a prompt


class RetrievalSettings(Table):
    """Set how documents are cut, embedded and searched."""

    embedder: str = "local"  # or a LangChain embeddings class by dotted name
    embedder_options: dict[str, Any] = Field(default_factory=dict)
    reranker: bool = True  # reads the question with each passage; with the local embedder only
    chunk_characters: int = Field(default=700, ge=100, le=8000)
    top_k: int = Field(default=8, ge=1, le=50)  # passages that a prompt may show
    words: int = Field(default=150, ge=0, le=10_000)  # of them together, in the closest sentences; 0 shows them whole
    candidates: int = Field(default=50, ge=1, le=1000)  # taken from each index before fusion
    min_similarity: float = Field(default=0.20, ge=-1, le=1)  # below it nothing relevant was found
    max_shrink: float = Field(default=0.3, ge=0, le=1)  # share of a source that may vanish at once
    keep_generations: int = Field(default=5, ge=2, le=1000)
