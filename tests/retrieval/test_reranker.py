"""The reranker: each sentence read with the question by itself, what fits no encoder refused, and what its odds say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import save_file

from retrieval.documents import Chunk
from retrieval.embedders import Vectors
from retrieval.errors import EmbedderError
from retrieval.reranker import PairTokenizer, Reranker, evidence, joined
from retrieval.sentences import sentences_of
from tests.stand_ins import ENCODER, needs_weights, write_tiny_bert

Tensors = dict[str, NDArray[np.float32]]
QUESTION = "How long does a refund take?"
QUERY, WIDE = "encoder.layer.0.attention.self.query", "encoder.layer.0.intermediate.dense"


def chunk(text: str, name: str = "a.md", title: str = "Refunds") -> Chunk:
    return Chunk(f"help/{name}#0", "help", name, 0, title, "", text, "public")


CHUNKS = [
    chunk("A refund takes five days. Ask for it on the page of the order."),
    chunk("Yes.", "b.md", ""),
    chunk("| Plan | Price |\n|---|---|\n| Pro | $12 |\n| Free | $0 |", "c.md"),
    chunk("To ask for one:\n\n1. Open the order.\n2. Press Refund.\n\nÄnderungen 我的订单 🙂.", "d.md"),
    chunk(" ".join(f"Sentence {n} is about nothing at all." for n in range(30)), "e.md"),
]


def change(**replaced: NDArray[np.float32] | None) -> Tensors:
    """Give a random head and factors of rank 3 for two layers; None takes a tensor away."""
    random = np.random.default_rng(5)
    shapes: dict[str, tuple[int, ...]] = {"middle.weight": (16, 16), "middle.bias": (16,), "head.weight": (1, 16)}
    shapes |= {
        "head.bias": (1,),
        f"{QUERY}.down": (3, 16),
        f"{QUERY}.up": (16, 3),
        f"{WIDE}.down": (3, 16),
        f"{WIDE}.up": (32, 3),
    }
    tensors = {name: np.asarray(random.normal(0, 1, shape), dtype=np.float32) for name, shape in shapes.items()}
    return {name: value for name, value in (tensors | replaced).items() if value is not None}


def without_factors() -> Tensors:
    return {name: value for name, value in change().items() if not name.endswith((".down", ".up"))}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Write a tiny encoder, which reads 64 word pieces."""
    (tmp_path / "tiny").mkdir()
    write_tiny_bert(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def reranker_with(tiny: Path) -> Callable[[Tensors], Reranker]:
    """Load the tiny encoder with what a change file adds."""

    def load(tensors: Tensors) -> Reranker:
        save_file(tensors, tiny / "change.safetensors")
        return Reranker(tiny, tiny / "change.safetensors", threads=1)

    return load


@pytest.fixture
def reranker(reranker_with: Callable[[Tensors], Reranker]) -> Reranker:
    return reranker_with(change())


def rated(reranker: Reranker, chunks: Sequence[Chunk] = CHUNKS, question: str = QUESTION) -> list[Vectors]:
    return reranker.rate(question, chunks)


def apart(one: Sequence[Vectors], other: Sequence[Vectors]) -> float:
    """Say by how much ratings differ at most."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


# Rating


@needs_weights
def test_each_sentence_of_each_chunk_is_rated(reranker: Reranker) -> None:
    found = rated(reranker)
    assert [own.shape for own in found] == [(len(sentences_of(c.text)),) for c in CHUNKS]
    assert all(own.dtype == np.float32 and np.isfinite(own).all() for own in found)
    assert reranker.rate(QUESTION, []) == []


@needs_weights
def test_what_stands_beside_a_chunk_does_not_change_its_ratings(reranker: Reranker) -> None:
    alone = [rated(reranker, [c])[0] for c in CHUNKS]
    assert apart(rated(reranker), alone) < 1e-4
    assert apart(rated(reranker, [*CHUNKS[::-1]] * 3), alone[::-1] * 3) < 1e-4


@needs_weights
def test_threads_get_their_own_ratings(reranker: Reranker) -> None:
    questions = [f"{QUESTION} {'Really? ' * n}" for n in range(12)]
    expected = [rated(reranker, question=question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda question: rated(reranker, question=question), questions)
    assert max(apart(a, b) for a, b in zip(found, expected, strict=True)) < 1e-4


@needs_weights
def test_the_question_the_head_and_the_sentences_beside_are_read(reranker: Reranker) -> None:
    first = rated(reranker, CHUNKS[:1])[0]
    assert apart([first], rated(reranker, CHUNKS[:1], "Where is my order?")) > 1e-3
    assert apart([first], rated(reranker, [chunk(CHUNKS[0].text, title="Invoices")])) > 1e-3
    other = chunk("A refund takes five days. Nothing else is said here.")
    assert abs(first[0] - rated(reranker, [other])[0][0]) > 1e-3


@needs_weights
def test_the_head_is_the_one_of_the_file(reranker_with: Callable[[Tensors], Reranker]) -> None:
    """Without weights of its own, a head gives its bias."""
    flat = {name: np.zeros_like(value) for name, value in without_factors().items()}
    found = rated(reranker_with(flat | {"head.bias": np.array([0.25], np.float32)}))
    assert all((own == 0.25).all() for own in found)


@needs_weights
def test_factors_of_zero_change_nothing_and_others_do(reranker_with: Callable[[Tensors], Reranker]) -> None:
    plain = rated(reranker_with(without_factors()))
    zero = {name: np.zeros_like(value) for name, value in change().items() if name.endswith(".up")}
    assert apart(rated(reranker_with(change(**zero))), plain) == 0
    assert apart(rated(reranker_with(change())), plain) > 0.1


@needs_weights
def test_a_bias_in_the_file_stands_in_for_the_encoders(reranker_with: Callable[[Tensors], Reranker]) -> None:
    bias = {f"{WIDE}.bias": np.linspace(-2, 2, 32, dtype=np.float32)}
    assert apart(rated(reranker_with(change(**bias))), rated(reranker_with(change()))) > 0.1


@needs_weights
def test_what_is_past_the_limit_is_not_read(reranker: Reranker) -> None:
    long = CHUNKS[-1]
    found = rated(reranker, [long])[0]
    other = chunk(long.text.replace("Sentence 29 is about nothing", "Refunds take five days"), "e.md")
    assert apart([found], rated(reranker, [other])) < 1e-6
    unread = [rated(reranker, [long], question)[0][-10:] for question in (QUESTION, "Where is my order?")]
    assert apart(unread[:1], unread[1:]) == 0


@needs_weights
def test_lone_surrogates_are_read_as_question_marks(reranker: Reranker) -> None:
    broken, whole = ([chunk(f"A {c} refund. And {c}.", title=f"T {c}")] for c in ("\ud800", "?"))
    assert apart(rated(reranker, broken, "a \udfff b"), rated(reranker, whole, "a ? b")) == 0


# Word pieces


def pairs(limit: int = 256) -> PairTokenizer:
    return PairTokenizer(ENCODER, limit)


def ids(tokenizer: PairTokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    return found


@needs_weights
def test_each_span_holds_the_pieces_of_its_sentence() -> None:
    tokenizer = pairs()
    cls, sep = (tokenizer.tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    for c in CHUNKS:
        texts = [sentence.whole for sentence in sentences_of(c.text)][:10]
        pieces, spans = tokenizer.pieces(QUESTION, c.head, texts)
        assert [pieces[start:end] for start, end in spans] == [ids(tokenizer, text) for text in texts]
        assert pieces[: spans[0][0]] == [cls, *ids(tokenizer, QUESTION), sep, *ids(tokenizer, c.head)]
        assert pieces[spans[-1][1] :] == [sep]


@needs_weights
@pytest.mark.parametrize("limit", [64, 25, 12])
def test_past_the_limit_spans_are_cut_and_then_empty(limit: int) -> None:
    texts = ["A refund takes five days.", "Ask for it on the page of the order.", *["One more."] * 20]
    whole, whole_spans = pairs().pieces(QUESTION, "Refunds", texts)
    pieces, spans = pairs(limit).pieces(QUESTION, "Refunds", texts)
    assert pieces == [*whole[: limit - 1], whole[-1]]
    assert spans == [(min(start, limit - 1), min(end, limit - 1)) for start, end in whole_spans]
    assert spans[-1] == (limit - 1, limit - 1)


@needs_weights
def test_of_a_long_question_the_end_is_kept() -> None:
    tokenizer = pairs()
    question = " ".join(f"word{n}" for n in range(80)) + " and how long does a refund take?"
    asked, sep = ids(tokenizer, question), tokenizer.tokenizer.token_to_id("[SEP]")
    pieces, spans = tokenizer.pieces(question, "Refunds", ["Five days."])
    assert len(asked) > 64 and pieces[1:65] == asked[-64:] and pieces[65] == sep
    assert pieces[slice(*spans[0])] == ids(tokenizer, "Five days.")


@needs_weights
def test_a_head_longer_than_all_that_is_read_leaves_nothing_of_the_sentences() -> None:
    pieces, spans = pairs().pieces(QUESTION, "word " * 400, ["Five days."])
    assert len(pieces) == 256 and spans == [(255, 255)]


# Files that do not fit


@needs_weights
def test_a_missing_change_is_named(tiny: Path) -> None:
    path = tiny / "nowhere.safetensors"
    with pytest.raises(EmbedderError, match=re.escape(str(path))):
        Reranker(tiny, path)


@needs_weights
@pytest.mark.parametrize("content", [b"", b"{damaged", b"\xff" * 100])
def test_a_damaged_change_is_named(tiny: Path, content: bytes) -> None:
    path = tiny / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(EmbedderError, match=re.escape(str(path))):
        Reranker(tiny, path)


@needs_weights
@pytest.mark.parametrize(
    "wrong",
    [
        *({name: None} for name in ("middle.weight", "middle.bias", "head.weight", "head.bias")),
        {f"{QUERY}.up": None},
        {f"{QUERY}.up": np.zeros((16, 4), np.float32)},
        {f"{WIDE}.down": np.zeros((3, 17), np.float32)},
        {"encoder.layer.7.output.dense.down": np.zeros((3, 16), np.float32)},
        {"head.bias": np.zeros(2, np.float32)},
        {"middle.weight": np.zeros((17, 17), np.float32)},
        {"middle.bias": np.zeros(17, np.float32)},
        {"head.weight": np.zeros((1, 17), np.float32)},
    ],
    ids=lambda wrong: "-".join(f"{name}:{'none' if value is None else value.shape}" for name, value in wrong.items()),
)
def test_a_change_for_another_encoder_is_named(
    reranker_with: Callable[[Tensors], Reranker], tiny: Path, wrong: Tensors
) -> None:
    with pytest.raises(EmbedderError, match=re.escape(str(tiny / "change.safetensors"))):
        reranker_with(change(**wrong))


@needs_weights
def test_the_encoders_own_weights_are_no_change(tiny: Path) -> None:
    with pytest.raises(EmbedderError, match="is no reranker"):
        Reranker(tiny, tiny / "model.safetensors")


# Evidence


def test_the_ratings_of_the_search_count_beside_the_odds() -> None:
    ratings, read = [np.array([0.1, 0.4], np.float32), np.array([0.2], np.float32)], odds([-1, -2], [3])
    both = joined(ratings, read)
    assert [own.shape for own in both] == [(2,), (1,)]
    assert both[0][1] > both[0][0]  # worse by 1 in odds, closer by 0.3
    assert apart(joined(ratings, odds([0, 0], [0])), [a - b for a, b in zip(both, read, strict=True)]) < 1e-5


def odds(*chunks: Sequence[float]) -> list[Vectors]:
    return [np.array(own, dtype=np.float32) for own in chunks]


def test_nothing_found_is_no_evidence() -> None:
    assert evidence([], 1.0) == 0.0


def test_one_sentence_counts_by_its_odds() -> None:
    assert evidence(odds([0]), 0.5) == 0.5
    assert evidence(odds([np.log(3)]), 0.5) == pytest.approx(0.75)


def test_sentences_count_together_however_they_are_cut_into_chunks() -> None:
    assert evidence(odds([0, 0], [0]), 0.5) == evidence(odds([0], [0, 0]), 0.5) == pytest.approx(0.75)


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=8), st.floats(0, 30, width=32))
def test_evidence_rises_with_each_sentence_and_lies_between_0_and_1(values: list[float], more: float) -> None:
    least = evidence(odds(values), 0.5)
    assert 0 <= least <= evidence(odds([values[0] + more, *values[1:]]), 0.5) <= 1
    assert least <= evidence(odds(values, [more]), 0.5) + 1e-12


@pytest.mark.parametrize(("value", "expected"), [(-1000, 0.0), (-1e30, 0.0), (1000, 1.0), (1e30, 1.0)])
def test_extreme_odds_are_certain(value: float, expected: float) -> None:
    assert evidence(odds([value], [-5 if expected == 1 else value]), 0.5) == expected


def test_a_passage_that_is_more_similar_is_more_evidence() -> None:
    assert evidence(odds([0]), 0.4) < 0.5 < evidence(odds([0]), 0.6)
