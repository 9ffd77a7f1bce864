"""Generations: immutable folders of knowledge, one of them current.

knowledge/
published.json            {"current": "g000002", "history": ["g000001", "g000002"]}; replaced in one step
embeddings.sqlite3        vectors by content
generations/g000002/      manifest.json  documents.jsonl  chunks.jsonl  chroma/  sentences/  lexical-{public,all}/
generations/.building-*   what a killed refresh left; the next one removes it
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrieval.documents import Chunk, Document
from retrieval.embedders import Vectors
from retrieval.errors import GenerationError, NoGeneration
from retrieval.files import sync_folder, write_atomically
from retrieval.lexical import LexicalIndex
from retrieval.sentences import SentenceTable
from retrieval.store import DenseStore

FORMAT = 3


@dataclass(frozen=True, slots=True)
class Manifest:
    """Describe one generation."""

    generation: str
    parent: str | None
    created_at: str  # ISO 8601, UTC
    embedder: str  # its fingerprint
    chunking: str  # how documents were cut
    documents: int
    chunks: int
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Published:
    """Name the current generation and those that were current before it."""

    current: str | None
    history: tuple[str, ...]


class Generations:
    """Keep the generations of one deployment under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pointer = folder / "published.json"

    def path(self, generation: str) -> Path:
        """Return the folder of a published generation."""
        return self.folder / "generations" / generation

    def published(self) -> Published:
        """Read the pointer; nothing published yet is a Published without a current generation."""
        try:
            state = json.loads(self._pointer.read_text(encoding="utf-8"))
            return Published(state["current"], tuple(state["history"]))
        except FileNotFoundError:
            return Published(None, ())
        except (ValueError, KeyError, TypeError) as error:
            raise GenerationError(f"{self._pointer} is damaged: {error}. Restore it from a backup.") from error

    def current(self) -> str:
        """Return the current generation's name, or raise NoGeneration."""
        name = self.published().current
        if name is None:
            raise NoGeneration("No knowledge has been published yet. Run 'tandem refresh'.")
        return name

    def manifest(self, generation: str) -> Manifest:
        """Read a generation's manifest, or raise GenerationError."""
        try:
            text = (self.path(generation) / "manifest.json").read_text(encoding="utf-8")
            manifest = Manifest(**json.loads(text))
        except FileNotFoundError:
            raise GenerationError(
                f"There is no generation '{generation}'. 'tandem generations list' shows those kept."
            ) from None
        except (ValueError, TypeError) as error:
            raise GenerationError(f"The manifest of generation '{generation}' is damaged: {error}") from error
        if manifest.format != FORMAT:
            raise GenerationError(f"Generation '{generation}' was made by another version. Run 'tandem refresh'.")
        return manifest

    def documents(self, generation: str) -> dict[str, dict[str, str]]:
        """Read the documents of a generation by key: their digest, title and audience."""
        return {row["key"]: row for row in _read_lines(self.path(generation) / "documents.jsonl")}

    def chunks(self, generation: str) -> list[Chunk]:
        """Read the chunks of a generation in the order they were indexed in."""
        path = self.path(generation) / "chunks.jsonl"
        try:
            return [Chunk(**row) for row in _read_lines(path)]
        except TypeError as error:
            raise GenerationError(f"{path} is missing or damaged: {error}") from error

    def build(
        self,
        documents: Sequence[Document],
        chunks: Sequence[Chunk],
        vectors: Vectors,
        *,
        sentences: tuple[Sequence[int], Vectors],
        embedder: str,
        chunking: str,
    ) -> Manifest:
        """Write a new generation beside the others; it is complete on return, and not yet current.

        `sentences` holds how many each chunk has, and the vectors of all.
        """
        state = self.published()
        manifest = Manifest(
            generation=self._next_name(),
            parent=state.current,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            embedder=embedder,
            chunking=chunking,
            documents=len(documents),
            chunks=len(chunks),
        )
        building = self.folder / "generations" / f".building-{manifest.generation}"
        building.mkdir(parents=True)
        _write_lines(building / "documents.jsonl", [_document_row(document) for document in documents])
        _write_lines(building / "chunks.jsonl", [asdict(chunk) for chunk in chunks])
        DenseStore.build(building / "chroma", chunks, vectors)
        SentenceTable.build(building / "sentences", *sentences)
        public = [chunk for chunk in chunks if chunk.audience == "public"]
        _build_lexical(building / "lexical-public", public)
        _build_lexical(building / "lexical-all", chunks)
        write_atomically(building / "manifest.json", json.dumps(asdict(manifest), indent=1))
        os.replace(building, self.path(manifest.generation))
        sync_folder(self.folder / "generations")
        return manifest

    def publish(self, generation: str) -> None:
        """Make a complete generation the current one, in one step."""
        self.manifest(generation)
        history = [name for name in self.published().history if name != generation]
        state = {"current": generation, "history": [*history, generation]}
        write_atomically(self._pointer, json.dumps(state))

    def rollback(self, generation: str) -> None:
        """Make an earlier published generation current again; later ones stay for the way back."""
        state = self.published()
        if generation not in state.history:
            raise GenerationError(
                f"There is no published generation '{generation}'. 'tandem generations list' shows those kept."
            )
        self.manifest(generation)
        write_atomically(self._pointer, json.dumps({"current": generation, "history": list(state.history)}))

    def clean(self, keep: int) -> None:
        """Remove what killed refreshes left and all but the last `keep` generations; never the current one."""
        state = self.published()
        kept = set(state.history[-keep:]) | ({state.current} if state.current else set())
        history = [name for name in state.history if name in kept]
        if history != list(state.history):
            write_atomically(self._pointer, json.dumps({"current": state.current, "history": history}))
        folder = self.folder / "generations"
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _next_name(self) -> str:
        folder = self.folder / "generations"
        names = [path.name.removeprefix(".building-") for path in folder.iterdir()] if folder.is_dir() else []
        numbers = [int(name[1:]) for name in (*names, *self.published().history) if name[1:].isdigit()]
        return f"g{max(numbers, default=0) + 1:06d}"


def _build_lexical(folder: Path, chunks: Sequence[Chunk]) -> None:
    index = LexicalIndex.build([c.chunk for c in chunks], [c.embedded_text for c in chunks])
    index.save(folder)


def _document_row(document: Document) -> dict[str, str]:
    return {
        "key": document.key,
        "digest": document.digest,
        "title": document.title,
        "audience": document.audience,
        "url": document.url or "",
    }


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (FileNotFoundError, ValueError) as error:
        raise GenerationError(f"{path} is missing or damaged: {error}") from error
