"""A small deployment of finding: a folder of documents, its generations and the search over them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

from retrieval.generations import Generations
from retrieval.reader import KnowledgeReader
from retrieval.records import Records
from retrieval.refresh import Refresher, RefreshReport
from retrieval.search import Found, Searcher
from retrieval.settings import RetrievalSettings, SourceSettings
from tests.stand_ins import HashEmbedder, write_documents

WORDS = (
    "export import invoice refund seat plan password login team role report chart sync calendar webhook key limit "
    "mobile desktop notification archive backup region currency coupon trial upgrade cancel owner guest filter column"
).split()


def sentences(seed: int, count: int) -> str:
    """Write `count` sentences from WORDS, the same for the same seed."""
    chance = random.Random(seed)
    return " ".join(" ".join(chance.choices(WORDS, k=9)).capitalize() + "." for _ in range(count))


class World:
    """Write documents, refresh and search in one temporary folder."""

    def __init__(self, root: Path, documents: Mapping[str, str] | None = None, **settings: object) -> None:
        self.root = root
        self.folder = write_documents(root / "knowledge", documents or {})
        self.folder.mkdir(parents=True, exist_ok=True)
        self.embedder = HashEmbedder()
        self.settings = RetrievalSettings.model_validate(settings)
        self.sources = [SourceSettings(name="help", path="knowledge")]
        self.generations = Generations(root / "home" / "knowledge")
        self.reader = KnowledgeReader(self.generations)

    def write(self, name: str, text: str) -> None:
        write_documents(self.folder, {name: text})

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def refresher(self) -> Refresher:
        return Refresher(self.generations, self.sources, self.root, self.embedder, self.settings)

    def refresh(self, *, dry_run: bool = False, allow_shrink: bool = False) -> RefreshReport:
        return self.refresher().refresh(dry_run=dry_run, allow_shrink=allow_shrink)

    def searcher(self, records: Records | None = None) -> Searcher:
        return Searcher(self.reader, self.embedder, records or Records(None, None, self.root), self.settings)

    def search(self, question: str, **options: object) -> Found:
        return self.searcher().search(question, **options)  # type: ignore[arg-type]

    def texts(self) -> set[str]:
        """Give the texts of all chunks of the current generation."""
        with self.reader.snapshot() as snapshot:
            return {chunk.text for chunk in snapshot.chunks.values()}

    def close(self) -> None:
        self.reader.close()
