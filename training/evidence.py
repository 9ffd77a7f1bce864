"""What the bot would show for a question of the past: the same search, the same choice of the record's lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from bot.grounding import content_words
from bot.phrase import record_shown
from prompts.messages import CustomerContext
from retrieval.documents import Chunk
from retrieval.errors import QuestionError
from retrieval.records import Records
from retrieval.search import Searcher
from retrieval.sentences import excerpts, rated, sentences_of


class SearchedEvidence:
    """Search today's knowledge, leaving out the documents that are held out for evaluation."""

    def __init__(
        self, searcher: Searcher, records: Records, *, top_k: int, words: int, held_out: frozenset[str]
    ) -> None:
        """Take what the bot's options say of `top_k` and `words`; `held_out` names documents as "source/document"."""
        self._searcher = searcher
        self._records = records
        self._top_k = top_k
        self._words = words
        self._held_out = held_out

    def show(
        self,
        question: str,
        earlier: Sequence[str],
        reply: str,
        customer_id: str | None,
        documents: Sequence[str],
        answer: str,
    ) -> tuple[list[Chunk], CustomerContext | None]:
        """Return up to top_k passages and the record; raises nothing for a question that cannot be searched.

        Where the log names the `documents` that hold the answer and the search missed one, its best passage takes
        the last place: the reply is right, and the search may be better tomorrow.
        """
        customer = self._records.find_customer(customer_id)
        owner = customer.customer_id if customer else None
        try:
            found = self._searcher.search(
                question,
                customer_id=owner,
                top_k=self._top_k,
                earlier=earlier,
                reply=reply,
                words=self._words,
                without=self._held_out,
            )
        except QuestionError:
            return [], record_shown(customer, (), whole=True)
        chunks = [hit.chunk for hit in found.hits]
        best = [self._best(document, answer) for document in dict.fromkeys(documents)]
        wanted = {chunk.chunk: chunk for chunk in [c for c in best if c is not None][: self._top_k]}
        missing = [chunk for name, chunk in wanted.items() if name not in {c.chunk for c in chunks}]
        if missing:
            kept = [c for c in chunks if c.chunk in wanted] + [c for c in chunks if c.chunk not in wanted]
            chunks = [*kept[: self._top_k - len(missing)], *missing]
        return chunks, record_shown(customer, found.tickets, whole=True)

    def _best(self, document: str, answer: str) -> Chunk | None:
        """Return the passage of a document that holds most of the answer's words, in what is closest to it."""
        words = content_words(answer)
        chunks = self._by_document.get(document, ()) if document not in self._held_out else ()
        best = max(chunks, key=lambda c: len(words & content_words(c.embedded_text)), default=None)
        if best is None or not self._words:
            return best
        # The words that a sentence shares with the answer are all that is asked here.
        alike = np.zeros(len(sentences_of(best.text)), dtype=np.float32)
        return excerpts([best], rated(answer, [best], [alike]), len(answer.split()))[0]

    @cached_property
    def _by_document(self) -> dict[str, list[Chunk]]:
        table: dict[str, list[Chunk]] = {}
        for chunk in self._searcher.everything("public"):
            table.setdefault(_name(chunk), []).append(chunk)
        return table


def _name(chunk: Chunk) -> str:
    return f"{chunk.source}/{chunk.document}"
