"""Training the reranker: what is read with a question, what the loss wants, and that serving rates as training does."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.documents import Chunk
from retrieval.reranker import PairTokenizer, Reranker
from retrieval.sentences import sentences_of
from tests.stand_ins import HashEmbedder, ScriptedReranker, needs_weights, write_tiny_bert
from training.companies import Company
from training.reranker import _ABSENT, _CUT, _PASSAGES, Sample, _drawn, _loss, _Network, _step, measure, samples, train

torch_needed = pytest.mark.filterwarnings("ignore")  # torch and transformers warn at will
COMPANY = {
    "company": "Smallwick",
    "about": "a shop for lamps",
    "closing": "Anything else?",
    "record": {"tier": ["Basic", "Plus"]},
    "tickets": [],
    "slots": {"days": ["30 days", "45 days"], "price": ["$40", "$50"]},
    "passages": [
        {"id": "returns", "title": "Returns", "text": "It is free. Send the lamp back within {days}. Keep the box."},
        {"id": "prices", "title": "Prices", "text": "A lamp costs {price}. With Plus a lamp is cheaper by 10 %."},
        {"id": "repair", "title": "Repairs", "text": "Repairs take two weeks. Bring the lamp to a shop."},
        {"id": "post", "title": "Parcels", "text": "Parcels go out on Mondays. The carrier rings the bell twice."},
    ],
    "questions": [
        {
            "ask": ["Within how many days can I send the lamp back?", "How long may I return a lamp?"],
            "passages": ["returns"],
            "answer": "Send the lamp back within {days}. [returns] Keep the box. [returns]",
            "then": {
                "ask": ["And what is its price?"],
                "passages": ["prices"],
                "answer": "A lamp costs {price}. [prices]",
            },
        },
        {
            "ask": ["Is a lamp cheaper for me?"],
            "passages": ["prices"],
            "by": "tier",
            "answers": {
                "Basic": "A lamp costs {price}. [prices]",
                "Plus": "With Plus a lamp is cheaper by 10 %. [prices]",
            },
        },
        {"ask": ["Which tier am I on?"], "record": True, "answer": "You are on {record.tier}."},
    ],
    "ambiguous": [{"ask": ["It is broken"], "answer": "Which lamp do you mean?"}],
    "unanswerable": [{"ask": ["Do you sell chairs?"], "answer": "That is not there. Shall I pass you on?"}],
}  # fmt: skip
RETURN, HOW_LONG, PRICE, CHEAPER, CHAIRS = (
    "Within how many days can I send the lamp back?",
    "How long may I return a lamp?",
    "And what is its price?",
    "Is a lamp cheaper for me?",
    "Do you sell chairs?",
)


@pytest.fixture(scope="module")
def found() -> list[Sample]:
    return list(samples([Company.model_validate(COMPANY)], HashEmbedder(), seed=0))


def of(found: list[Sample], question: str) -> Sample:
    (sample,) = [s for s in found if s.question.split("\n")[-1] == question]
    return sample


def answering(sample: Sample) -> set[str]:
    """Give the sentences that answer."""
    texts = {chunk.document: sentences_of(chunk.text) for chunk in sample.passages}
    return {texts[name][place].whole for name, place in sample.answers}


# Samples


def test_every_wording_that_passages_answer_or_nothing_does_is_a_sample(found: list[Sample]) -> None:
    assert [s.question.split("\n")[-1] for s in found] == [RETURN, HOW_LONG, PRICE, CHEAPER, CHAIRS]
    assert {s.company for s in found} == {"Smallwick"}


def test_the_answers_are_the_sentences_that_the_written_answer_rests_on(found: list[Sample]) -> None:
    assert answering(of(found, RETURN)) == {"Send the lamp back within 30 days.", "Keep the box."}
    assert answering(of(found, PRICE)) == {"A lamp costs $40."}
    assert answering(of(found, CHEAPER)) == {"A lamp costs $40.", "With Plus a lamp is cheaper by 10 %."}
    assert of(found, CHAIRS).answers == frozenset()


def test_a_question_that_goes_on_stands_after_a_wording_of_the_one_before(found: list[Sample]) -> None:
    before, _, after = of(found, PRICE).question.partition("\n")
    assert before in (RETURN, HOW_LONG) and after == PRICE
    assert all("\n" not in s.question for s in found if not s.question.endswith(PRICE))
    drawn = [list(samples([Company.model_validate(COMPANY)], HashEmbedder(), seed))[2].question for seed in range(9)]
    assert {question.partition("\n")[0] for question in drawn} == {RETURN, HOW_LONG}


def test_all_passages_come_the_closest_first_with_their_closeness(found: list[Sample]) -> None:
    for sample in found:
        assert sorted(chunk.document for chunk in sample.passages) == ["post", "prices", "repair", "returns"]
        assert not any("{" in chunk.text for chunk in sample.passages)
        for chunk, closeness in zip(sample.passages, sample.closeness, strict=True):
            assert closeness.shape == (len(sentences_of(chunk.text)),)
    assert of(found, RETURN).passages[0].document == "returns"


# What is read with a question


class Chance(random.Random):
    """Decides as the test says, and shuffles by its seed."""

    def __init__(self, chance: float, seed: int = 0) -> None:
        super().__init__(seed)
        self._chance = chance

    def random(self) -> float:
        return self._chance

    def getrandbits(self, k: int) -> int:
        return super().getrandbits(k)


class Texts:
    """Gives the sentences themselves in place of their word pieces."""

    def pieces(self, question: str, head: str, texts: list[str]) -> tuple[list[str], list[tuple[int, int]]]:
        return [head, *texts], [(n, n + 1) for n in range(1, len(texts) + 1)]


def drawn(sample: Sample, draw: random.Random) -> tuple[set[str], dict[str, bool]]:
    """Give the heads that are read, and each sentence with whether it counts as an answer."""
    reads: Any = _drawn(sample, Texts(), draw)  # type: ignore[arg-type]
    assert all(len(r.spans) == len(r.answers) == len(r.pieces) - 1 > 0 for r in reads)
    assert len(reads) <= _PASSAGES
    sentences = {text: answer for r in reads for text, answer in zip(r.pieces[1:], r.answers, strict=True)}
    return {r.pieces[0] for r in reads}, sentences


def page(name: str, text: str) -> Chunk:
    return Chunk(f"help/{name}#0", "help", name, 0, name, "", text, "public")


def wide_sample(*answers: tuple[str, int]) -> Sample:
    """Give a sample of twelve passages; p9 and p10 are not among the closest."""
    passages = tuple(page(f"p{n}", f"First of {n}. Second of {n}.") for n in range(12))
    return Sample("x", "Question?", passages, (np.zeros(2, np.float32),) * 12, frozenset(answers))


GOLD = ("p1", 0), ("p10", 1)
GOLD_TEXTS = {"First of 1.", "Second of 10."}
NEVER, SOMETIMES = [0.0, _ABSENT - 1e-9], [_ABSENT, _ABSENT + _CUT - 1e-9]


@pytest.mark.parametrize("chance", NEVER)
def test_an_absent_passage_is_not_read(chance: float) -> None:
    for seed in range(20):
        heads, sentences = drawn(wide_sample(*GOLD), Chance(chance, seed))
        assert len(heads) == _PASSAGES and not heads & {"p1", "p10"}
        assert not any(sentences.values()) and not GOLD_TEXTS & set(sentences)


@pytest.mark.parametrize("chance", SOMETIMES)
def test_of_a_passage_that_is_cut_the_rest_is_read(chance: float) -> None:
    for seed in range(20):
        heads, sentences = drawn(wide_sample(*GOLD), Chance(chance, seed))
        assert {"p1", "p10"} <= heads and len(heads) == _PASSAGES
        assert not any(sentences.values()) and not GOLD_TEXTS & set(sentences)
        assert {"Second of 1.", "First of 10."} <= set(sentences)


def test_a_passage_that_is_all_answer_is_left_out_where_it_is_cut() -> None:
    heads, sentences = drawn(wide_sample(("p1", 0), ("p1", 1)), Chance(SOMETIMES[0]))
    assert "p1" not in heads and not any(sentences.values())


@pytest.mark.parametrize("chance", [_ABSENT + _CUT, 0.999])
def test_otherwise_what_answers_is_read_among_what_is_close(chance: float) -> None:
    others: set[str] = set()
    for seed in range(40):
        heads, sentences = drawn(wide_sample(*GOLD), Chance(chance, seed))
        assert {text for text, answer in sentences.items() if answer} == GOLD_TEXTS
        assert {"p1", "p10"} <= heads and len(heads) == _PASSAGES
        others |= heads - {"p1", "p10"}
    assert others == {"p0", "p2", "p3", "p4", "p5", "p6", "p7"}


@pytest.mark.parametrize("chance", [NEVER[0], SOMETIMES[0], 0.9])
def test_where_nothing_answers_what_is_close_is_read(chance: float) -> None:
    heads, sentences = drawn(wide_sample(), Chance(chance))
    assert len(heads) == _PASSAGES and len(sentences) == 2 * _PASSAGES and not any(sentences.values())


def test_each_way_is_drawn_as_often_as_it_should() -> None:
    draw, absent, cut = random.Random(1), 0, 0
    for _ in range(2000):
        heads, sentences = drawn(wide_sample(*GOLD), draw)
        absent += "p1" not in heads
        cut += "p1" in heads and not any(sentences.values())
    assert absent / 2000 == pytest.approx(_ABSENT, abs=0.03)
    assert cut / 2000 == pytest.approx(_CUT, abs=0.03)


# The loss


def loss(torch: Any, values: list[float], answers: list[bool]) -> float:
    return float(_loss(torch.tensor(values), torch.tensor(answers)))


def test_the_loss_falls_when_what_answers_rises(torch: Any) -> None:
    for answers in (1, 2):
        falling = [
            loss(torch, [value] * answers + [1.0, -1.0], [True] * answers + [False] * 2)
            for value in (-4.0, -1.0, 0.0, 2.0, 6.0)
        ]
        assert falling == sorted(falling, reverse=True)
    assert loss(torch, [9.0, 3.0], [True, False]) > loss(torch, [9.0, -3.0], [True, False])


def test_where_nothing_answers_the_loss_falls_when_all_sink(torch: Any) -> None:
    losses = [loss(torch, [value] * 3, [False] * 3) for value in (4.0, 0.0, -4.0, -20.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0, abs=1e-6) and losses[1] == pytest.approx(np.log(4))


def test_one_of_several_answers_is_nearly_enough(torch: Any) -> None:
    one, none = (loss(torch, [value, -9.0, -9.0], [True, True, False]) for value in (9.0, -9.0))
    both = loss(torch, [9.0, 9.0, -9.0], [True, True, False])
    assert both < one < none


# The network


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_bert(folder)
    return folder


CHUNKS = [
    page("short", "Yes. A refund takes five days."),
    page("table", "| Plan | Price |\n|---|---|\n| Pro | $12 |\n| Free | $0 |"),
    page("long", " ".join(f"Sentence {n} is about nothing at all." for n in range(20))),
]


def in_torch(torch: Any, network: _Network, folder: Path, question: str) -> list[Any]:
    """Rate CHUNKS, all sentences of each, as in training."""
    pairs = PairTokenizer(folder, 64)
    texts = {chunk.document: [s.whole for s in sentences_of(chunk.text)] for chunk in CHUNKS}
    all_of = Sample("x", question, tuple(CHUNKS), (np.zeros(0, np.float32),) * 3, frozenset())
    reads = sorted(_drawn(all_of, pairs, random.Random(0)), key=lambda read: len(read.spans))
    assert [len(read.spans) for read in reads] == [len(texts[name]) for name in ("short", "table", "long")]
    with torch.no_grad():
        return [values.numpy() for values in network.rate(reads)]


def served(network: _Network, folder: Path, path: Path, question: str) -> list[Any]:
    network.save(path, {"questions": 0})
    return Reranker(folder, path, threads=1).rate(question, CHUNKS)


def apart(one: list[Any], other: list[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@needs_weights
@torch_needed
@pytest.mark.parametrize("changed", ["nothing", "weights", "biases and norms", "all"])
def test_serving_rates_as_training_does(torch: Any, tiny: Path, tmp_path: Path, changed: str) -> None:
    pytest.importorskip("transformers")
    question = "How long does a refund take?"
    network = _Network(tiny, seed=0)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    torch.nn.init.normal_(network.middle.bias, std=0.3)
    torch.nn.init.constant_(network.head.bias, 0.7)
    plain = in_torch(torch, network, tiny, question)
    kinds = {"nothing": (), "weights": (2,), "biases and norms": (1,), "all": (1, 2)}[changed]
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            if parameter.requires_grad and parameter.dim() in kinds:
                parameter += torch.randn_like(parameter)
    expected = in_torch(torch, network, tiny, question)
    assert not kinds or apart(expected, plain) > 0.3
    assert apart(served(network, tiny, tmp_path / "out" / "change.safetensors", question), expected) < 0.05


@needs_weights
@torch_needed
def test_the_embeddings_are_not_trained(torch: Any, tiny: Path) -> None:
    pytest.importorskip("transformers")
    network = _Network(tiny, seed=0)
    trained = [parameter for group in network.groups() for parameter in group["params"]]
    embeddings = {id(parameter) for parameter in network.encoder.embeddings.parameters()}
    assert trained and not any(id(parameter) in embeddings for parameter in trained)
    assert not any(module.p for module in network.encoder.modules() if isinstance(module, torch.nn.Dropout))


@needs_weights
@torch_needed
def test_a_few_steps_lower_the_loss_and_the_same_seed_gives_the_same(
    torch: Any, tiny: Path, found: list[Sample], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("training.reranker._WARMUP", 1)
    monkeypatch.setattr("training.reranker._RATES", {"network": 1e-2, "head": 1e-1})
    many = found * 6
    pairs, draw = PairTokenizer(tiny, 64), random.Random(7)
    kept = [_drawn(sample, pairs, draw) for sample in many]

    def loss_of(network: _Network) -> float:
        with torch.no_grad():
            return float(_step(network, kept))

    network, again = (train(many, tiny, epochs=24, seed=1) for _ in range(2))
    assert loss_of(network) < 0.9 * loss_of(_Network(tiny, seed=1))
    assert "step 120 of 120, loss " in capsys.readouterr().err
    assert loss_of(again) == loss_of(network)


# Measuring


def test_a_reranker_that_knows_the_answers_is_measured_as_perfect_and_one_that_errs_is_not(found: list[Sample]) -> None:
    known = {sample.question: answering(sample) for sample in found}
    right = ScriptedReranker(lambda question, sentence: 60.0 if sentence in known[question] else -60.0)
    wrong = ScriptedReranker(lambda question, sentence: 60.0 if not known[question] else -60.0)
    perfect = {"first": 1.0, "of three": 1.0, "auroc": 1.0}
    assert measure(found, right) == perfect  # type: ignore[arg-type]
    assert measure(found, wrong)["auroc"] == 0.0  # type: ignore[arg-type]
    search = measure(found, None)
    assert set(search) == set(perfect) and all(0 <= value <= 1 for value in search.values())
    assert 0 < search["first"] <= search["of three"]
