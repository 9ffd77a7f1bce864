"""Refresh: sources in, a new generation published in one step, or nothing changed at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from retrieval.chunking import VERSION, chunk_document
from retrieval.documents import Chunk, Document, Skipped
from retrieval.embedders import Embedder
from retrieval.embedding_cache import EmbeddingCache
from retrieval.errors import GenerationError, RefreshRefused, RefreshRunning, SourceError
from retrieval.generations import Generations
from retrieval.loaders import load_source
from retrieval.reader import Snapshot
from retrieval.sentences import embedded_sentences
from retrieval.settings import RetrievalSettings, SourceSettings

log = logging.getLogger(__name__)

_PROBES = 20

Progress = Callable[[str, int, int], None]  # what is under way, done, of how many


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """Tell what a refresh did; counts are of documents unless named chunks."""

    generation: str | None
    parent: str | None
    published: bool
    refused: str | None
    added: int
    updated: int
    deleted: int
    unchanged: int
    documents: int
    chunks: int
    chunks_embedded: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Change:
    added: tuple[str, ...]
    updated: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: int


class Refresher:
    """Bring the knowledge of one deployment up to date with its sources."""

    def __init__(
        self,
        generations: Generations,
        sources: Sequence[SourceSettings],
        root: Path,
        embedder: Embedder,
        settings: RetrievalSettings,
    ) -> None:
        self._generations = generations
        self._sources = sources
        self._root = root
        self._embedder = embedder
        self._settings = settings

    def refresh(
        self,
        *,
        dry_run: bool = False,
        allow_shrink: bool = False,
        progress: Progress | None = None,
    ) -> RefreshReport:
        """Load, compare, build aside, check and publish; `refused` says why nothing was changed.

        Raises SourceError for a source that cannot be read and RefreshRunning beside another refresh.
        """
        self._generations.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._generations.folder / "refresh.lock", timeout=0)
        try:
            with lock:
                return self._run(dry_run, allow_shrink, progress or _no_progress)
        except Timeout:
            raise RefreshRunning("Another refresh is running here. Wait for it to end.") from None

    def _run(self, dry_run: bool, allow_shrink: bool, progress: Progress) -> RefreshReport:
        started = time.perf_counter()
        state = self._generations.published()
        if not dry_run:
            self._generations.clean(self._settings.keep_generations)
        documents, skipped = self._load(progress)
        before = self._generations.documents(state.current) if state.current else {}
        change = self._compare(documents, before)
        chunks = [
            chunk for document in documents for chunk in chunk_document(document, self._settings.chunk_characters)
        ]
        report = RefreshReport(
            generation=state.current,
            parent=state.current,
            published=False,
            refused=self._refusal(documents, before) if not allow_shrink else None,
            added=len(change.added),
            updated=len(change.updated),
            deleted=len(change.deleted),
            unchanged=change.unchanged,
            documents=len(documents),
            chunks=len(chunks),
            chunks_embedded=0,
            skipped=tuple(skipped),
            seconds=0.0,
        )
        if not (report.refused or dry_run or self._is_current(change, state.current)):
            report = self._publish(report, documents, chunks, progress)
        return replace(report, seconds=round(time.perf_counter() - started, 3))

    def _load(self, progress: Progress) -> tuple[list[Document], list[Skipped]]:
        documents: list[Document] = []
        skipped: list[Skipped] = []
        names = [source.name for source in self._sources]
        if len(set(names)) != len(names):
            raise SourceError(f"Two sources have one name; each needs its own: {', '.join(sorted(names))}.")
        for source in self._sources:
            for item in load_source(source, self._root):
                if isinstance(item, Skipped):
                    skipped.append(item)
                else:
                    documents.append(item)
                progress("documents", len(documents), 0)
        return documents, skipped

    def _compare(self, documents: Sequence[Document], before: Mapping[str, Mapping[str, str]]) -> _Change:
        now = {document.key: document for document in documents}
        same = [
            key
            for key, document in now.items()
            if key in before
            and (document.digest, document.audience) == (before[key]["digest"], before[key]["audience"])
        ]
        return _Change(
            added=tuple(key for key in now if key not in before),
            updated=tuple(sorted(set(now) & set(before) - set(same))),
            deleted=tuple(key for key in before if key not in now),
            unchanged=len(same),
        )

    def _is_current(self, change: _Change, current: str | None) -> bool:
        if current is None or change.added or change.updated or change.deleted:
            return False
        try:
            manifest = self._generations.manifest(current)
        except GenerationError:  # damaged, or of another version: a new one takes its place
            return False
        return (manifest.embedder, manifest.chunking) == (self._embedder.fingerprint, self._chunking())

    def _refusal(self, documents: Sequence[Document], before: Mapping[str, Mapping[str, str]]) -> str | None:
        names = {source.name for source in self._sources}
        gone = sorted({key.partition("/")[0] for key in before} - names)
        if gone:
            return (
                f"Source '{gone[0]}' is no longer configured, and its documents would go. "
                "Pass --allow-shrink if that is meant."
            )
        for source in self._sources:
            prefix = f"{source.name}/"
            old = {key for key in before if key.startswith(prefix)}
            new = {document.key for document in documents if document.source == source.name}
            if not new:
                return (
                    f"Source '{source.name}' holds no documents. Check its path and glob, "
                    "or pass --allow-shrink if that is meant."
                )
            lost = len(old - new)
            if old and lost / len(old) > self._settings.max_shrink and len(new) < len(old):
                return (
                    f"Source '{source.name}' lost {lost} of its {len(old)} documents at once. "
                    "Pass --allow-shrink if that is meant."
                )
        return None

    def _publish(
        self, report: RefreshReport, documents: list[Document], chunks: list[Chunk], progress: Progress
    ) -> RefreshReport:
        cache = EmbeddingCache(self._generations.folder / "embeddings.sqlite3")
        try:
            vectors, embedded = cache.embed(
                self._embedder,
                [chunk.embedded_text for chunk in chunks],
                lambda done, total: progress("chunks", done, total),
            )
            own = [embedded_sentences(chunk) for chunk in chunks]
            sentences, _ = cache.embed(
                self._embedder,
                [sentence for found in own for sentence in found],
                lambda done, total: progress("sentences", done, total),
            )
        finally:
            cache.close()
        manifest = self._generations.build(
            documents,
            chunks,
            vectors,
            sentences=([len(found) for found in own], sentences),
            embedder=self._embedder.fingerprint,
            chunking=self._chunking(),
        )
        self._probe(manifest.generation)
        self._generations.publish(manifest.generation)
        self._generations.clean(self._settings.keep_generations)
        log.info("published %s: %d documents, %d chunks", manifest.generation, len(documents), len(chunks))
        return replace(report, generation=manifest.generation, published=True, chunks_embedded=embedded)

    def _probe(self, generation: str) -> None:
        """Open the new generation as a reader would and look for chunks spread over it."""
        snapshot = Snapshot(self._generations, generation)
        try:
            chunks = list(snapshot.chunks.values())
            for chunk in chunks[:: max(1, len(chunks) // _PROBES)]:
                vector = self._embedder.embed([chunk.embedded_text])[0]
                found = dict(snapshot.dense(vector, 5, chunk.audience))
                if not any(snapshot.chunks[i].embedded_text == chunk.embedded_text for i in found):
                    raise RefreshRefused(f"The new generation does not find its own chunk '{chunk.chunk}'.")
        finally:
            snapshot.close()

    def _chunking(self) -> str:
        return f"v{VERSION}-{self._settings.chunk_characters}"


def _no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""
