"""The one retrieval path: question in, ranked chunks and the caller's own tickets out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from retrieval.documents import Audience, Chunk, Hit, valid_text
from retrieval.embedders import Embedder, Vectors
from retrieval.errors import GenerationError, NoGeneration, QuestionError
from retrieval.fusion import reciprocal_rank_fusion
from retrieval.generations import Manifest
from retrieval.reader import KnowledgeReader, Snapshot
from retrieval.records import Records, Ticket
from retrieval.reranker import Reranker, evidence, joined
from retrieval.sentences import best_places, excerpt, rated, sentences_of
from retrieval.settings import RetrievalSettings

MAX_QUESTION_CHARACTERS = 4000
_TURNS_OF_CONTEXT = 2  # earlier questions that a follow-up is searched with
_REPLY_CHARACTERS = 400  # of the answer before it
_REORDERED = 20  # candidates that are compared sentence by sentence
_REORDER_K = 5  # steeper than RRF_K: two orders of few candidates, of which the first places matter
_READ = 16  # passages that the reranker reads at least, of which those with the best sentences are kept
_MAX_TICKETS = 50  # the latest of a customer, which bounds the work of one search


@dataclass(frozen=True, slots=True)
class FoundTicket:
    """Hold a ticket of the caller and its cosine similarity to the question."""

    ticket: Ticket
    similarity: float


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what one search found; `generation` is None where no knowledge was asked for."""

    generation: str | None
    hits: tuple[Hit, ...]
    tickets: tuple[FoundTicket, ...]
    milliseconds: float
    evidence: float | None = None  # how probable it is that a sentence answers; None where no reranker read them

    @property
    def similarity(self) -> float:
        """Give the best cosine similarity among the hits, -1.0 without hits."""
        return max((hit.similarity for hit in self.hits), default=-1.0)


def check_question(question: str) -> str:
    """Return the question as valid Unicode without outer white space, or raise QuestionError."""
    text = valid_text(question).strip()
    if not text:
        raise QuestionError("The question is empty. Write what you want to know.")
    if len(text) > MAX_QUESTION_CHARACTERS:
        raise QuestionError(
            f"The question has {len(text):,} characters; at most {MAX_QUESTION_CHARACTERS:,} are taken. Shorten it."
        )
    return text


@dataclass(frozen=True, slots=True)
class _Query:
    """Hold one way to search; `asked` says that it holds the customer's words alone."""

    text: str
    vector: Vectors
    asked: bool


def _joined(texts: Sequence[str]) -> str:
    """Join what a question is searched with; what is too long loses its beginning."""
    return valid_text("\n".join(texts))[-MAX_QUESTION_CHARACTERS:]


def _vectors(queries: Sequence[_Query]) -> Vectors:
    return np.stack([query.vector for query in queries])


def _ratings(snapshot: Snapshot, queries: Sequence[_Query], hits: Sequence[Hit]) -> list[Vectors]:
    """Rate the sentences of each hit by how close they are to the question."""
    closeness = snapshot.closeness([hit.chunk.chunk for hit in hits], _vectors(queries))
    return rated(queries[0].text, [hit.chunk for hit in hits], [own[1:] for own in closeness])


def _excerpts(hits: Sequence[Hit], ratings: Sequence[Vectors], words: int) -> tuple[Hit, ...]:
    """Cut the hits' chunks down to their best sentences; see best_places."""
    cut: list[Hit] = []
    for index, places in best_places([hit.chunk for hit in hits], ratings, words).items():
        hit, own = hits[index], ratings[index]
        sentences = sentences_of(hit.chunk.text)
        kept = tuple((sentences[place], float(own[place])) for place in places)
        score = max(rating for _, rating in kept)
        cut.append(replace(hit, rank=len(cut) + 1, chunk=excerpt(hit.chunk, places), score=score, sentences=kept))
    return tuple(cut)


def _reordered(snapshot: Snapshot, names: Sequence[str], queries: Sequence[_Query]) -> list[tuple[str, float]]:
    """Join the order of the fusion with that of the closest sentences, among the best candidates."""
    head = names[:_REORDERED]
    best = [float(own.max()) for own in snapshot.closeness(head, _vectors(queries))]
    closest = [name for _, name in sorted(zip(best, head, strict=True), key=lambda item: -item[0])]
    return reciprocal_rank_fusion((names, [*closest, *names[_REORDERED:]]), _REORDER_K)


class Searcher:
    """Search knowledge and one customer's tickets; safe to share between threads."""

    def __init__(
        self,
        reader: KnowledgeReader,
        embedder: Embedder,
        records: Records,
        settings: RetrievalSettings,
        reranker: Callable[[], Reranker] | None = None,
    ) -> None:
        """Search with these parts; `reranker` is loaded when sentences are first chosen."""
        self._reader = reader
        self._embedder = embedder
        self._records = records
        self._settings = settings
        self._load_reranker = reranker
        self._loading = threading.Lock()
        self._reranker: Reranker | None = None
        self._ticket_vectors: dict[str, Vectors] = {}  # by text: content that is equal has equal vectors

    def search(
        self,
        question: str,
        *,
        customer_id: str | None = None,
        audience: Audience = "public",
        top_k: int = 10,
        by: Literal["chunk", "document"] = "chunk",
        earlier: Sequence[str] = (),
        reply: str = "",
        words: int = 0,
        without: Collection[str] = (),
    ) -> Found:
        """Find up to top_k distinct chunks (or documents, by their best chunk) and the customer's tickets.

        `earlier` holds the questions asked before in this conversation, oldest first, and `reply` the answer to the
        last of them. The question is then searched alone, together with those questions, and together with that
        answer: a follow-up needs them, a new topic is misled by them. With `words` the chunks come cut down to the
        sentences that answer best, so many words in all, in the order of these, and their score is the best one's.
        Documents named by `without`, as "source/document", are not found. Raises QuestionError, NoGeneration, and
        GenerationError where the knowledge was built with another embedder.
        """
        started = time.perf_counter()
        text = check_question(question)
        texts = [text]
        if earlier:
            texts.append(_joined([*earlier[-_TURNS_OF_CONTEXT:], text]))
        asked = len(texts)
        if reply:
            texts.append(_joined([reply[:_REPLY_CHARACTERS], text]))
        vectors = self._embedder.embed(texts)
        # Whatever is asked, an answer is like the passage that it came from: it ranks, and says nothing of relevance.
        queries = [_Query(t, v, n < asked) for n, (t, v) in enumerate(zip(texts, vectors, strict=True))]
        with self._reader.snapshot() as snapshot:
            self._check_embedder(snapshot)
            wider = max(top_k, _READ) if words and self._load_reranker else top_k
            hits = self._rank(snapshot, queries, audience, wider, by, without)
            ratings = _ratings(snapshot, queries, hits) if words and hits else []
            generation = snapshot.manifest.generation
        probable = None
        if ratings:
            if read := self._read(queries, hits):
                ratings = joined(ratings, read)
                probable = evidence(read, max(hit.similarity for hit in hits))
            hits = _excerpts(hits, ratings, words)[:top_k]
        tickets = self._tickets(customer_id, vectors[0])
        return Found(generation, hits, tickets, (time.perf_counter() - started) * 1000, probable)

    def warm_up(self) -> None:
        """Load what the first question would wait for."""
        if self._load_reranker and self._reranker is None:
            with self._loading:
                self._reranker = self._reranker or self._load_reranker()

    def state(self) -> Manifest | None:
        """Return the manifest of the current generation, None before the first refresh."""
        try:
            with self._reader.snapshot() as snapshot:
                return snapshot.manifest
        except NoGeneration:
            return None

    def everything(self, audience: Audience) -> list[Chunk]:
        """Return all chunks for this audience, in document order."""
        with self._reader.snapshot() as snapshot:
            return [c for c in snapshot.chunks.values() if audience == "internal" or c.audience == "public"]

    def tickets_only(self, question: str, customer_id: str | None) -> tuple[FoundTicket, ...]:
        """Find the customer's tickets without asking the knowledge."""
        if not self._records.tickets(customer_id):
            return ()
        return self._tickets(customer_id, self._embedder.embed([check_question(question)])[0])

    def _read(self, queries: Sequence[_Query], hits: Sequence[Hit]) -> list[Vectors]:
        """Let the reranker read the hits; nothing where there is none.

        A question that goes on from others is read alone and after them.
        """
        self.warm_up()
        if self._reranker is None:
            return []
        chunks = [hit.chunk for hit in hits]
        read = [self._reranker.rate(query.text, chunks) for query in queries if query.asked]
        return [np.maximum.reduce(own) for own in zip(*read, strict=True)]

    def _rank(
        self,
        snapshot: Snapshot,
        queries: Sequence[_Query],
        audience: Audience,
        top_k: int,
        by: Literal["chunk", "document"],
        without: Collection[str],
    ) -> tuple[Hit, ...]:
        depth = max(self._settings.candidates, top_k)
        while True:
            hits = self._rank_to(snapshot, queries, audience, top_k, by, without, depth)
            if len(hits) == top_k or depth >= len(snapshot.chunks):
                return hits
            depth *= 4  # equal chunks, or those of one document, have used the candidates up

    def _rank_to(
        self,
        snapshot: Snapshot,
        queries: Sequence[_Query],
        audience: Audience,
        top_k: int,
        by: Literal["chunk", "document"],
        without: Collection[str],
        depth: int,
    ) -> tuple[Hit, ...]:
        similarity: dict[str, float] = {}
        rankings = []
        for query in queries:
            dense = snapshot.dense(query.vector, depth, audience)
            for name, value in dense if query.asked else ():
                similarity[name] = max(value, similarity.get(name, -1.0))
            rankings += [[i for i, _ in dense], [i for i, _ in snapshot.lexical(query.text, depth, audience)]]
        hits: list[Hit] = []
        seen: set[str] = set()
        for name, score in _reordered(snapshot, [n for n, _ in reciprocal_rank_fusion(rankings)], queries):
            chunk = snapshot.chunks[name]
            document = f"{chunk.source}/{chunk.document}"
            key = document if by == "document" else chunk.embedded_text
            if key in seen or document in without:
                continue
            seen.add(key)
            hits.append(Hit(len(hits) + 1, chunk, score, similarity.get(name, 0.0)))
            if len(hits) == top_k:
                break
        return tuple(hits)

    def _check_embedder(self, snapshot: Snapshot) -> None:
        if snapshot.manifest.embedder != self._embedder.fingerprint:
            raise GenerationError(
                "The knowledge was built with another embedder than the one configured. Run 'tandem refresh'."
            )

    def _tickets(self, customer_id: str | None, vector: Vectors) -> tuple[FoundTicket, ...]:
        tickets = self._records.tickets(customer_id)[:_MAX_TICKETS]
        texts = [f"{t.subject}\n{t.text}" for t in tickets]
        missing = [text for text in dict.fromkeys(texts) if text not in self._ticket_vectors]
        if missing:
            self._ticket_vectors.update(zip(missing, self._embedder.embed(missing), strict=True))
        return tuple(
            FoundTicket(ticket, float(np.dot(self._ticket_vectors[text], vector)))
            for ticket, text in zip(tickets, texts, strict=True)
        )
