"""Embedders: the same vectors as torch, the same vector in every batch, errors that say what to do."""

import json
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from retrieval.embedders import Embedder
from retrieval.embedders.choose import choose_embedder
from retrieval.embedders.encoder import _batches
from retrieval.embedders.langchain import LangChainEmbedder
from retrieval.embedders.minilm import MiniLMEmbedder
from retrieval.errors import EmbedderError
from tests.stand_ins import ENCODER as FOLDER
from tests.stand_ins import needs_weights, write_tiny_bert

FAKE = "langchain_core.embeddings.DeterministicFakeEmbedding"
HERE = "tests.retrieval.test_embedders"
REPOSITORY = Path(__file__).parents[2]

SENTENCES = [
    "How do I reset my password?",
    "refund",
    "Where is order #4711-B? It was due on 2026-11-03!",
    "Ändern Sie bitte die Lieferadresse für Bestellung Nº 5.",
    "我的订单什么时候到？",
    "إلغاء الاشتراك",
    "🙂 thanks 🎉👩‍👩‍👧",
    "na\u0308ive cafe\u0301 ﬁle ① Ω",
    "def f(x):\n\treturn {'a': x ** 2}\n",
    "    leading and trailing\t\n\n",
    "The invoice is sent by e-mail within 24 hours; see https://example.com/help?id=1&x=2.",
    "supercalifragilisticexpialidocious" * 4,
]


def varied_texts() -> list[str]:
    """Make 60 texts of 0 to several thousand word pieces."""
    texts = ["", " ", "a", "?", "word " * 5000, "x" * 3000, "\x00\x07 control", "ﷺ" * 300]
    texts += SENTENCES
    for number in range(40):
        parts = [SENTENCES[(number * 7 + step * 5) % len(SENTENCES)] for step in range(1 + number // 2)]
        texts.append(f"{number}. " + " ".join(parts))
    assert len(texts) == 60
    return texts


@pytest.fixture(scope="module")
def minilm() -> MiniLMEmbedder:
    return MiniLMEmbedder(FOLDER)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy the small files of the model and link its weights."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(FOLDER / name, tmp_path / name)
    (tmp_path / "model.safetensors").symlink_to(FOLDER / "model.safetensors")
    return tmp_path


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def torch_vectors(texts: list[str]) -> np.ndarray:
    """Embed one by one with transformers' BertModel in fp32: mean pooling, then unit length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's and transformers' own, at import
        import torch
        from transformers import BertModel, PreTrainedTokenizerFast
    model = BertModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "tokenizer.json"))
    rows = []
    with torch.inference_mode():
        for text in texts:
            batch = tokenizer([text], truncation=True, max_length=256, padding=False, return_tensors="pt")
            hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = (hidden.last_hidden_state * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=1)[0].numpy())
    return np.stack(rows)


@pytest.mark.slow
@needs_weights
def test_same_vectors_as_torch(minilm: MiniLMEmbedder) -> None:
    texts = varied_texts()
    expected, found = torch_vectors(texts), minilm.embed(texts)
    assert np.abs(found - expected).max() < 1e-5
    assert (found * expected).sum(axis=1).min() > 0.99999


@needs_weights
def test_shape_type_and_unit_length(minilm: MiniLMEmbedder) -> None:
    vectors = minilm.embed(varied_texts())
    assert vectors.shape == (60, 384) and vectors.dtype == np.float32 and vectors.flags.owndata
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert minilm.embed([]).shape == (0, 384)
    assert minilm.dimension == 384


@needs_weights
def test_a_vector_does_not_depend_on_its_batch_and_order_is_kept(minilm: MiniLMEmbedder) -> None:
    texts = varied_texts()
    alone = np.concatenate([minilm.embed([text]) for text in texts])
    order = np.random.default_rng(5).permutation(np.tile(np.arange(len(texts)), 4))
    for rows in (np.arange(60), np.arange(60)[::-1], order, order[:37], np.repeat(7, 33)):
        together = minilm.embed([texts[row] for row in rows])
        assert np.abs(together - alone[rows]).max() < 1e-6


@needs_weights
def test_padding_adds_nothing(minilm: MiniLMEmbedder) -> None:
    pieces = [minilm._tokenizer.encode("How do I get a refund for a broken lamp?").ids]
    plain = minilm._encoder._infer(pieces, len(pieces[0]))
    assert np.abs(minilm._encoder._infer(pieces, 256) - plain).max() < 1e-6


@needs_weights
def test_text_past_256_word_pieces_is_not_read(minilm: MiniLMEmbedder) -> None:
    full = "word " * 254
    one, two, three = minilm.embed([full, full + "another thing", "word " * 253 + "thing"])
    assert np.array_equal(one, two)
    assert not np.allclose(one, three, atol=1e-4)


@needs_weights
def test_threads_get_the_vectors_of_their_own_texts(minilm: MiniLMEmbedder) -> None:
    texts = varied_texts()
    groups = [texts[start::12] for start in range(12)] * 3
    expected = [minilm.embed(group) for group in groups]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(minilm.embed, groups))
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() < 1e-6


@needs_weights
def test_lone_surrogates_are_embedded(minilm: MiniLMEmbedder) -> None:
    assert np.array_equal(minilm.embed(["a \ud800 b"]), minilm.embed(["a ? b"]))


@needs_weights
def test_one_text_instead_of_a_list_is_refused(minilm: MiniLMEmbedder) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        minilm.embed("text")


def test_batches_cover_every_row_once() -> None:
    lengths = [int(length) for length in np.random.default_rng(1).integers(2, 257, 500)]
    seen: list[int] = []
    for length, rows in _batches(lengths, 256):
        assert max(lengths[row] for row in rows) <= length <= 256
        assert length - min(lengths[row] for row in rows) < 8
        assert len(rows) & (len(rows) - 1) == 0 and (len(rows) == 1 or len(rows) * length <= 1024)
        seen += rows
    assert sorted(seen) == list(range(500))


@needs_weights
def test_fingerprint_follows_content_and_settings(minilm: MiniLMEmbedder, copied: Path) -> None:
    assert MiniLMEmbedder(copied).fingerprint == minilm.fingerprint  # the folder's name plays no part
    assert "mean-256-384" in minilm.fingerprint
    (copied / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    assert "mean-128-384" in MiniLMEmbedder(copied).fingerprint
    (copied / "sentence_bert_config.json").unlink()
    edit_config(copied, layer_norm_eps=1e-6)
    assert MiniLMEmbedder(copied).fingerprint != minilm.fingerprint


@needs_weights
def test_serving_imports_no_torch() -> None:
    code = (
        "import sys, pathlib\n"
        "from retrieval.embedders.choose import choose_embedder\n"
        "embedder = choose_embedder('local', {'threads': 1}, pathlib.Path(sys.argv[1]))\n"
        "assert embedder.embed(['a', 'b c']).shape == (2, 384)\n"
        "found = {'torch', 'transformers', 'langchain_core'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    command = [sys.executable, "-c", code, str(FOLDER)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_missing_folder_says_make_setup(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"model\.safetensors: run 'make setup'"):
        MiniLMEmbedder(tmp_path / "nowhere")


@needs_weights
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_or_damaged_file_says_make_setup(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(EmbedderError, match=f"{name}: run 'make setup'"):
        MiniLMEmbedder(copied)
    (copied / name).write_text("{damaged")
    with pytest.raises(EmbedderError, match="run 'make setup'"):
        MiniLMEmbedder(copied)


@needs_weights
@pytest.mark.parametrize("change", [{"num_hidden_layers": 7}, {"intermediate_size": 9, "hidden_size": 380}])
def test_weights_that_do_not_fit_the_configuration(copied: Path, change: dict[str, int]) -> None:
    edit_config(copied, **change)
    with pytest.raises(EmbedderError, match="does not fit"):
        MiniLMEmbedder(copied)


@needs_weights
@pytest.mark.parametrize(
    "change", [{"model_type": "mpnet"}, {"hidden_act": "relu"}, {"position_embedding_type": "relative_key"}]
)
def test_another_kind_of_encoder_names_the_way_out(copied: Path, change: dict[str, str]) -> None:
    edit_config(copied, **change)
    with pytest.raises(EmbedderError, match="LangChain embeddings class"):
        MiniLMEmbedder(copied)


@needs_weights
def test_another_pooling_or_extra_layers_name_the_way_out(copied: Path) -> None:
    (copied / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    with pytest.raises(EmbedderError, match=r"Dense\. Name a LangChain"):
        MiniLMEmbedder(copied)
    (copied / "modules.json").unlink()
    (copied / "1_Pooling").mkdir()
    (copied / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(EmbedderError, match=r"cls_token.*LangChain"):
        MiniLMEmbedder(copied)


@needs_weights
def test_any_bert_with_mean_pooling_works(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path, "", np.float32)
    plain = MiniLMEmbedder(tmp_path, threads=1)
    assert plain.dimension == 16
    assert "mean-64-16" in plain.fingerprint  # the positions end before 256
    expected = plain.embed(["one text", "word " * 400])
    write_tiny_bert(tmp_path, "bert.", np.float16)
    half = MiniLMEmbedder(tmp_path)
    assert half.fingerprint != plain.fingerprint
    assert np.abs(half.embed(["one text", "word " * 400]) - expected).max() < 0.01


class Scripted(Embeddings):
    """Answer with what the test puts in `answer`."""

    def __init__(self, answer: object = None, api_key: str = "", fail: bool = False) -> None:
        if fail:
            raise ValueError(f"wrong key {api_key}")
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.answer is None:
            raise ConnectionError("customer text")
        return self.answer  # type: ignore[return-value]

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


def scripted(answer: object) -> LangChainEmbedder:
    return LangChainEmbedder(f"{HERE}.Scripted", {"answer": answer})


def test_langchain_vectors_have_unit_length() -> None:
    embedder: Embedder = LangChainEmbedder(FAKE, {"size": 12})
    assert embedder.dimension == 12
    vectors = embedder.embed(["a", "b", "a"])
    assert vectors.shape == (3, 12) and vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
    assert np.array_equal(vectors[0], vectors[2]) and not np.array_equal(vectors[0], vectors[1])
    assert embedder.embed([]).shape == (0, 12)
    with pytest.raises(TypeError, match="list of texts"):
        embedder.embed("text")


def test_langchain_fingerprint_leaves_secrets_out() -> None:
    def fingerprint(**options: object) -> str:
        return LangChainEmbedder(f"{HERE}.Scripted", options).fingerprint

    assert fingerprint(api_key="sk-1") == fingerprint(api_key="sk-2") == fingerprint()
    assert fingerprint(answer={"Auth_Token": "a", "model": "m"}) == fingerprint(answer={"model": "m"})
    assert fingerprint(answer={"model": "m"}) != fingerprint(answer={"model": "n"})
    assert fingerprint(answer=Path("m")) != fingerprint(answer=Path("n"))
    assert fingerprint(answer=object()) == fingerprint(answer=object())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("langchain_nowhere.Embeddings", "pip install langchain-nowhere"),
        ("langchain_core.nowhere.Embeddings", "no module langchain_core.nowhere"),
        ("langchain_core.embeddings.Nothing", "no LangChain embeddings class"),
        ("pathlib.Path", "no LangChain embeddings class"),
        (".relative", "no dotted name"),
    ],
)
def test_langchain_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(EmbedderError, match=message):
        LangChainEmbedder(name, {})


def test_langchain_options_that_are_refused_show_no_secret() -> None:
    with pytest.raises(EmbedderError, match="size: ") as refused:
        LangChainEmbedder(FAKE, {"size": "sk-secret"})
    assert "sk-secret" not in str(refused.value)
    with pytest.raises(EmbedderError, match=r"wrong key \*\*\*") as refused:
        LangChainEmbedder(f"{HERE}.Scripted", {"api_key": "sk-secret", "fail": True})
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[1.0, float("nan")]], "not finite"),
        ([[1.0, float("inf")]], "not finite"),
        ([[0.0, 0.0]], "zero vector"),
        ([[1.0, 2.0], [1.0, 2.0]], "for 1 texts"),
        ([[1.0, 2.0], [1.0]], "different lengths"),
        ([[]], "for 1 texts"),
        ("words", "different lengths|for 1 texts"),
        (None, "check its key"),
    ],
)
def test_langchain_answers_that_are_no_vectors(answer: object, message: str) -> None:
    with pytest.raises(EmbedderError, match=message) as refused:
        scripted(answer).embed(["text"])
    assert "customer text" not in str(refused.value)


def test_langchain_vectors_that_change_length() -> None:
    answer = [[1.0, 2.0]]
    embedder = scripted(answer)
    embedder.embed(["text"])
    answer[0] = [1.0, 2.0, 3.0]
    with pytest.raises(EmbedderError, match="length 2 before and 3 now"):
        embedder.embed(["text"])


@needs_weights
def test_choose_local() -> None:
    embedder = choose_embedder("local", {"threads": 1}, FOLDER)
    assert isinstance(embedder, MiniLMEmbedder)


def test_choose_langchain(tmp_path: Path) -> None:
    assert isinstance(choose_embedder(FAKE, {"size": 3}, tmp_path), LangChainEmbedder)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("openai", {}, "Unknown embedder 'openai'"),
        ("local", {"model": "x"}, "takes only the option 'threads'"),
        ("local", {"threads": 0}, "at least 1"),
        ("local", {"threads": True}, "at least 1"),
        ("local", {}, "run 'make setup'"),
    ],
)
def test_choose_refuses(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(EmbedderError, match=message):
        choose_embedder(name, options, tmp_path)
