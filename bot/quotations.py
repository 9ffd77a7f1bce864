"""Which sentences of what was found an answer may quote, and when they answer by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from bot.grounding import strip_markers
from bot.values import BotOptions
from bot.verify import Quotable, Verifier
from prompts.messages import Passage
from retrieval.documents import Sentence
from retrieval.search import Found
from retrieval.sentences import sentences_of

_ALL = 10_000  # words; no passage has so many
# By which a sentence that is quoted may be rated worse than the best one: in log odds for one of the same document,
# which completes it, and for one of another, which may be beside the point; and where no reranker read them.
_SAME, _OTHER, _UNREAD = 5.0, 2.0, 0.3


def is_beside(found: Found | None, options: BotOptions) -> bool:
    """Say whether what was found is about something else than the question, so that no answer can rest on it."""
    return found is not None and found.evidence is not None and found.evidence < options.min_evidence


def to_the_point(passages: Sequence[Passage], found: Found | None, options: BotOptions) -> list[Passage]:
    """Return the passages that an answer may rest on.

    These are all where no reranker has read them, else those that may be quoted, or none where nothing answers.
    """
    if found is None or found.evidence is None:
        return list(passages)
    if found.evidence < options.min_evidence:
        return []
    named = {one.passage for one in quotable(passages, found)}
    return [passage for passage in passages if passage.n in named]


def quotable(passages: Sequence[Passage], found: Found | None) -> list[Quotable]:
    """Return the sentences that answer nearly as well as the best one, the best first.

    Those of passages that are shown whole are rated by how similar their passage is.
    """
    hits = {hit.chunk.chunk: hit for hit in found.hits} if found else {}
    rated = [
        (rating, hit.chunk.document, Quotable(passage.n, place, _plain(sentence)))
        for passage in passages
        if (hit := hits.get(passage.chunk))
        for place, (sentence, rating) in enumerate(
            hit.sentences or [(sentence, hit.similarity) for sentence in sentences_of(hit.chunk.text)]
        )
    ]
    rated.sort(key=lambda one: -one[0])
    same, other = (_SAME, _OTHER) if found and found.evidence is not None else (_UNREAD, _UNREAD)
    return [
        one for rating, document, one in rated if rated[0][0] - rating <= (same if document == rated[0][1] else other)
    ]


def _plain(sentence: Sentence) -> Sentence:
    return Sentence(strip_markers(sentence.text), strip_markers(sentence.lead))


def quoted_instead(passages: Sequence[Passage], found: Found | None, verifier: Verifier, options: BotOptions) -> str:
    """Quote the best passages where one is so close to the question that they answer by themselves, else nothing.

    That the model found no answer counts for more, unless it is one that often misses it.
    """
    if not found or not found.hits or is_beside(found, options):
        return ""
    if (found.similarity if found.evidence is None else found.evidence) < options.quote_threshold:
        return ""
    sentences = quotable(passages, found)
    if options.quote_words:
        return verifier.quote(sentences, options.quote_words)
    return "" if verifier.refused else verifier.quote([q for q in sentences if q.passage == passages[0].n], _ALL)
