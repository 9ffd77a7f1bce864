"""Searching: distinct, for one audience, and with a follow-up's context."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.errors import GenerationError, QuestionError
from retrieval.records import Records
from retrieval.search import MAX_QUESTION_CHARACTERS, Found, Searcher, check_question
from retrieval.settings import RecordsSettings, SourceSettings
from tests.retrieval.world import WORDS, World, sentences
from tests.stand_ins import HashEmbedder, ScriptedReranker, write_documents


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give public and internal pages that use the same words; nothing may change it."""
    world = World(tmp_path_factory.mktemp("shared"))
    for number in range(30):
        world.write(
            f"p{number:02}.md", f"# Page {number}\n\n## One\n\n{sentences(number, 3)}\n\n## Two\n\n{WORDS[number]}"
        )
        internal = f"# Staff {number}\n\nINTERNAL {sentences(200 + number, 3)}"
        write_documents(world.root / "staff", {f"s{number:02}.md": internal})
    world.write("refund.md", "# Refund time\n\nA refund takes five working days.")
    world.write("other/refund.md", "# Refund time\n\nA refund takes five working days.")
    world.sources.append(SourceSettings(name="staff", path="staff", audience="internal"))
    world.refresh()
    yield world
    world.close()


def documents(found: Found) -> list[str]:
    return [f"{hit.chunk.source}/{hit.chunk.document}" for hit in found.hits]


# ---------------------------------------------------------------- what is found


def test_the_page_that_answers_comes_first(shared: World) -> None:
    found = shared.search("How many working days does a refund take?", top_k=5)
    first = found.hits[0]
    assert first.chunk.text == "A refund takes five working days."
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4, 5]
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert found.generation == shared.generations.current()


def test_with_words_only_the_closest_sentences_come(shared: World) -> None:
    whole = {hit.chunk.chunk: hit for hit in shared.search("How many days does a refund take?", top_k=8).hits}
    found = shared.search("How many days does a refund take?", top_k=8, words=12)
    assert found.hits[0].chunk.text == "A refund takes five working days."
    assert sum(len(hit.chunk.text.split()) for hit in found.hits) <= 12
    assert [hit.rank for hit in found.hits] == list(range(1, len(found.hits) + 1))
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert found.evidence is None  # nothing has read them
    for hit in found.hits:
        given = whole[hit.chunk.chunk]
        assert all(line in given.chunk.text for line in hit.chunk.text.splitlines())
        assert hit.similarity == given.similarity


def test_documents_can_be_left_out(shared: World) -> None:
    question = "How many days does a refund take?"
    first = documents(shared.search(question, top_k=1))[0]
    others = documents(shared.search(question, top_k=40, without={first}))
    assert first not in others and len(others) == 40


def test_similarity_is_the_cosine_of_question_and_chunk(shared: World) -> None:
    found = shared.search("A refund takes five working days.")
    question, chunk = shared.embedder.embed(["A refund takes five working days.", found.hits[0].chunk.embedded_text])
    assert found.hits[0].similarity == pytest.approx(float(question @ chunk), abs=1e-5)
    assert found.similarity == max(hit.similarity for hit in found.hits)


def test_both_indexes_count(tmp_path: Path) -> None:
    """A rare word is found by the lexical index alone, where the dense one is asked for a single candidate."""
    pages = {f"p{number}.md": sentences(number, 2) for number in range(8)}
    world = World(tmp_path / "world", {**pages, "code.md": "error XK4711 " + sentences(99, 12)}, candidates=1)
    world.refresh()
    question = pages["p3.md"] + " XK4711"
    assert documents(world.search(question, top_k=1)) != []
    assert set(documents(world.search(question, top_k=2))) == {"help/p3.md", "help/code.md"}
    world.close()


def test_duplicates_are_collapsed(shared: World) -> None:
    found = shared.search("refund five working days")
    assert [hit.chunk.text for hit in found.hits].count("A refund takes five working days.") == 1
    assert len({hit.chunk.embedded_text for hit in found.hits}) == len(found.hits) == 10


def test_by_document_each_document_is_found_once(shared: World) -> None:
    chunks, pages = (documents(shared.search("refund plan", top_k=30, by=by)) for by in ("chunk", "document"))
    assert len(set(chunks)) < len(chunks) == 30
    assert len(set(pages)) == len(pages) > len(set(chunks))


def test_top_k_bounds_the_hits(shared: World) -> None:
    for top_k in (1, 3, 40):
        assert len(shared.search("export", top_k=top_k).hits) == top_k


def test_many_duplicates_do_not_crowd_the_rest_out(tmp_path: Path) -> None:
    pages = {
        f"footer{number:02}.md": "---\ntitle: Contact\n---\nAsk our support team for help." for number in range(60)
    }
    pages |= {f"p{number}.md": f"Support for plan {number}: {sentences(number, 1)}" for number in range(5)}
    world = World(tmp_path / "world", pages)
    world.refresh()
    assert len(world.search("ask support for help").hits) == 6


def test_one_long_document_does_not_crowd_the_rest_out(tmp_path: Path) -> None:
    long = "\n\n".join(f"## Support {number}\n\nSupport and help. {sentences(number, 1)}" for number in range(80))
    pages = {"long.md": long} | {f"p{number}.md": f"Support. {sentences(number, 9)}" for number in range(9)}
    world = World(tmp_path / "world", pages)
    world.refresh()
    assert len(world.search("support help", by="document").hits) == 10


def titles(found: Found, count: int) -> list[str]:
    return [hit.chunk.title for hit in found.hits[:count]]


def test_a_follow_up_is_searched_with_the_questions_before_it(shared: World) -> None:
    earlier = ["When do I get my refund, after how many working days?"]
    alone, after = (shared.search("And how long?", earlier=said, top_k=40) for said in ([], earlier))
    assert "Refund time" in titles(after, 5) and "Refund time" not in titles(alone, 5)


def test_a_follow_up_is_searched_with_the_answer_before_it(shared: World) -> None:
    reply = "You get your refund after five working days."
    alone, after = (shared.search("And how long?", earlier=["Hm?"], reply=r, top_k=40) for r in ("", reply))
    assert "Refund time" in titles(after, 5) and "Refund time" not in titles(alone, 5)


def test_a_chunk_with_the_very_sentence_rises_among_those_that_repeat_its_words(tmp_path: Path) -> None:
    said = "A refund takes five days."
    pages = {f"p{n}.md": f"Refund refund five takes days days {sentences(n, 1)}" for n in range(6)}
    world = World(tmp_path / "world", pages | {"right.md": f"{sentences(90, 4)} {said} {sentences(91, 4)}"})
    world.refresh()
    found = [hit.chunk.document for hit in world.search(said).hits]
    assert len(found) == 7 and found.index("right.md") < 3  # both indexes alone have it last


def test_a_new_topic_is_not_misled_by_what_was_said_before_it(shared: World) -> None:
    question = "When do I get my refund, after how many working days?"
    said = ["Where is the calendar?", "And the chart?"]
    after = shared.search(question, earlier=said, reply="The chart is under Insights.")
    assert titles(after, 1) == titles(shared.search(question), 1) == ["Refund time"]


def test_only_the_last_two_questions_count(shared: World) -> None:
    old = "When do I get my refund, after how many working days?"
    two = ["Where is the calendar?", "Where is the chart?"]
    assert shared.search("And how?", earlier=[old, *two]).hits == shared.search("And how?", earlier=two).hits


def test_long_earlier_questions_do_not_push_the_question_out(shared: World) -> None:
    found = shared.search("refund takes five working days", earlier=["zebra " * 660] * 2)
    assert "Refund time" in [hit.chunk.title for hit in found.hits[:5]]


def test_hostile_questions_are_only_text(shared: World) -> None:
    for question in ("'; DROP TABLE embeddings; --", '{"$ne": null}', "%", "\0", "🙂" * 500, "\ud800", "(" * 4000):
        assert shared.search(question).generation


# ---------------------------------------------------------------- the reranker

DAYS = "How many days does a refund take?"


def reading(world: World, load: Callable[[], ScriptedReranker]) -> Searcher:
    return Searcher(world.reader, world.embedder, Records(None, None, world.root), world.settings, load)  # type: ignore[arg-type]


def test_the_reranker_is_loaded_once_by_however_many_threads(shared: World) -> None:
    loaded: list[ScriptedReranker] = []

    def load() -> ScriptedReranker:
        time.sleep(0.05)
        loaded.append(ScriptedReranker(lambda question, sentence: 0.0))
        return loaded[-1]

    searcher = reading(shared, load)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: searcher.search(DAYS, words=20), range(12)))
    assert len(loaded) == 1 and len(loaded[0].asked) == 12
    assert {hit.evidence for hit in found} == {found[0].evidence}
    searcher.warm_up()
    assert len(loaded) == 1


def test_the_reranker_is_loaded_before_the_first_question_where_it_is_asked_for(shared: World) -> None:
    loaded: list[int] = []
    searcher = reading(shared, lambda: loaded.append(1) or ScriptedReranker(lambda question, sentence: 0.0))  # type: ignore[func-returns-value]
    searcher.warm_up()
    searcher.search(DAYS, words=20)
    assert loaded == [1]


def test_whole_chunks_need_no_reranker(shared: World) -> None:
    def load() -> ScriptedReranker:
        raise AssertionError("nothing is to be read")

    searcher = reading(shared, load)
    found = searcher.search(DAYS)
    assert found.evidence is None and found.hits == shared.search(DAYS).hits
    everything = {f"{chunk.source}/{chunk.document}" for chunk in searcher.everything("internal")}
    nothing = searcher.search(DAYS, words=20, without=everything)
    assert nothing.hits == () and nothing.evidence is None


def test_what_the_reranker_rates_best_comes_first_and_alone_where_there_is_no_room(shared: World) -> None:
    last = shared.search(DAYS, top_k=8).hits[-1]
    best = last.chunk.text.split(". ")[0]
    searcher = reading(shared, lambda: ScriptedReranker(lambda _, sentence: 60.0 if sentence.startswith(best) else 0.0))
    found = searcher.search(DAYS, top_k=8, words=40)
    first, *others = found.hits
    assert first.chunk.chunk == last.chunk.chunk and first.chunk.text.startswith(best)
    assert first.similarity == last.similarity
    assert others and first.score > 60 > max(hit.score for hit in others)
    assert [hit.score for hit in found.hits] == [max(rating for _, rating in hit.sentences) for hit in found.hits]
    (alone,) = searcher.search(DAYS, top_k=8, words=1).hits
    assert (alone.rank, alone.score) == (1, first.score) and alone.chunk.text.startswith(best)


def test_more_passages_are_read_than_are_kept(shared: World) -> None:
    far = shared.search(DAYS, top_k=12).hits[-1].chunk
    best = far.text.split(". ")[0]
    searcher = reading(shared, lambda: ScriptedReranker(lambda _, sentence: 60.0 if sentence.startswith(best) else 0.0))
    found = searcher.search(DAYS, top_k=2, words=400)
    assert len(found.hits) == 2 and found.hits[0].chunk.chunk == far.chunk
    assert far.chunk not in {hit.chunk.chunk for hit in shared.search(DAYS, top_k=2, words=400).hits}


@pytest.mark.parametrize(("odds", "least", "most"), [(-9.0, 0.0, 0.01), (0.0, 0.5, 1.0), (9.0, 0.99, 1.0)])
def test_evidence_is_what_the_reranker_reads(shared: World, odds: float, least: float, most: float) -> None:
    searcher = reading(shared, lambda: ScriptedReranker(lambda question, sentence: odds))
    probable = searcher.search(DAYS, words=20).evidence
    assert probable is not None and least < probable < most


@pytest.mark.parametrize("answered", ["And now?", f"{DAYS}\nAnd now?"])
def test_a_follow_up_is_read_alone_and_after_the_questions_before_it(shared: World, answered: str) -> None:
    said = "A refund takes five working days."
    reranker = ScriptedReranker(lambda question, sentence: 60.0 if (question, sentence) == (answered, said) else -60.0)
    searcher = reading(shared, lambda: reranker)
    found = searcher.search("And now?", earlier=[DAYS], reply="Export it.", top_k=40, words=100)
    assert reranker.asked == ["And now?", f"{DAYS}\nAnd now?"]  # what was replied asks nothing
    assert found.hits[0].chunk.text == said and found.hits[0].score > 0 > found.hits[1].score
    assert found.evidence is not None and found.evidence > 0.99


# ---------------------------------------------------------------- who may see what


def test_internal_documents_never_reach_the_public(shared: World) -> None:
    chance, seen_by_staff = random.Random(3), 0
    for number in range(300):
        question = " ".join(chance.choices([*WORDS, "internal", "staff", "INTERNAL"], k=chance.randint(1, 8)))
        by = chance.choice(["chunk", "document"])
        found = shared.search(question, top_k=chance.choice([1, 10, 100]), by=by)
        assert found.hits, number
        for hit in found.hits:
            assert hit.chunk.audience == "public" and "INTERNAL" not in hit.chunk.text, question
        staff = shared.search(question, audience="internal")
        seen_by_staff += any(hit.chunk.audience == "internal" for hit in staff.hits)
    assert seen_by_staff > 200


def test_everything_is_everything_for_this_audience(shared: World) -> None:
    public, internal = (shared.searcher().everything(audience) for audience in ("public", "internal"))
    assert {chunk.audience for chunk in public} == {"public"}
    assert len(internal) - len(public) == 30


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("question", ["", "   ", "\n\t\u00a0\n"])
def test_an_empty_question_is_an_error(shared: World, question: str) -> None:
    with pytest.raises(QuestionError, match="empty"):
        shared.search(question)


def test_a_question_of_100000_characters_is_an_error_that_names_the_limit(shared: World) -> None:
    with pytest.raises(QuestionError, match=r"100,000 characters; at most 4,000"):
        shared.search("x" * 100_000)


def test_the_longest_question_is_taken(shared: World) -> None:
    longest = ("refund " * 600)[:MAX_QUESTION_CHARACTERS].strip().ljust(MAX_QUESTION_CHARACTERS, "x")
    assert check_question(f"  {longest}\n") == longest
    assert shared.search(longest).hits
    with pytest.raises(QuestionError):
        check_question(longest + "x")


def test_knowledge_of_another_embedder_is_an_error_that_says_what_to_do(shared: World) -> None:
    other = World(shared.root)
    other.embedder = HashEmbedder("another")
    with pytest.raises(GenerationError, match="another embedder.*tandem refresh"):
        other.search("refund")
    other.close()


# ---------------------------------------------------------------- tickets


@pytest.fixture
def records(tmp_path: Path) -> Records:
    rows = [
        {"customer_id": "a", "ticket_id": f"t{number}", "subject": WORDS[number], "updated_at": f"2026-01-{number:02}"}
        for number in range(1, 5)
    ]
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Records(None, RecordsSettings(path="tickets.jsonl"), tmp_path)


def test_the_customers_tickets_come_with_their_similarity(shared: World, records: Records) -> None:
    searcher = shared.searcher(records)
    found = searcher.search(f"my {WORDS[2]}", customer_id="a")
    assert [item.ticket.ticket_id for item in found.tickets] == ["t4", "t3", "t2", "t1"]
    assert max(found.tickets, key=lambda item: item.similarity).ticket.ticket_id == "t2"
    assert searcher.tickets_only(f"my {WORDS[2]}", "a") == found.tickets
    assert searcher.search("refund").tickets == searcher.tickets_only("refund", None) == ()


def test_a_ticket_is_embedded_once(shared: World, records: Records) -> None:
    searcher = shared.searcher(records)
    searcher.search("refund", customer_id="a")
    embedded = shared.embedder.embedded
    searcher.search("refund", customer_id="a")
    assert shared.embedder.embedded - embedded == 1  # the question
