"""`tandem releases`: what it lists, compares, promotes, exports and adds, and one clear line for what goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import bot.bootstrap
from bot.releases import Promoted, Releases
from bot.weights import merge
from tests.bot.tiny_model import PLAIN, add_release, listed_release, tiny_adapter, tiny_base
from tests.cli.conftest import Tandem
from tests.cli.kit import REPLY, TOML, use_stand_ins
from tests.conftest import Deployment
from tests.stand_ins import HashEmbedder, ScriptedModel

SMALL = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
MERGING = "merging {} into tiny, once"


class Shelf:
    """A deployment on a tiny base model, with its releases."""

    def __init__(self, root: Path, home: Path, cache: Path) -> None:
        self.root = root
        self.cache = cache
        self.base = tiny_base(root / "tiny", as_gguf=True)
        self.releases = Releases(home / "releases", None)

    def add(self, name: str, **changes: Any) -> None:
        seed = 1 + len(list(self.root.glob("adapter-*")))
        add_release(self.releases, name, self.base, tiny_adapter(self.root / f"adapter-{name}", seed=seed), **changes)

    def merged(self) -> list[str]:
        """Name the releases that are converted."""
        return sorted(p.name.rpartition("-")[0] for p in (self.cache / "merged").glob("*") if p.is_dir())


@pytest.fixture
def shelf(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    deployment.configure('[bot]\nmodel = "tiny"\n')
    monkeypatch.setenv("TANDEM_CACHE", str(tmp_path / "cache"))
    return Shelf(deployment.root, deployment.home, tmp_path / "cache")


@pytest.fixture
def two(shelf: Shelf) -> Shelf:
    shelf.add("one", data_hash="d1", settings={"rank": 4, "epochs": 1.0}, metrics={"facts": _metric(0.5)})
    shelf.add(
        "two",
        data_hash="d2",
        settings={"rank": 4, "alpha": 8},
        metrics={"facts": _metric(0.625), "style": _metric(1.0)},
        created_at="2026-05-02T00:00:00+00:00",
        parents=("one",),
    )
    return shelf


def _metric(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 40}


def complaint(tandem: Tandem, *words: object, status: int, progress: int = 0) -> str:
    """Run what must fail; gives its one line after the lines of progress."""
    ran = tandem("releases", *words)
    lines = ran.err.splitlines()
    assert (ran.status, ran.out, len(lines)) == (status, "", 1 + progress), ran
    assert lines[-1].startswith("tandem: ")
    return lines[-1]


# ---------------------------------------------------------------- list and show


def test_an_empty_shelf(shelf: Shelf, tandem: Tandem) -> None:
    assert tandem("releases", "--json").json == {"promoted": {"hybrid": None, "closed-book": None}, "releases": []}
    assert tandem("releases").status == 0


def test_they_are_listed_with_what_is_promoted(two: Shelf, tandem: Tandem) -> None:
    two.releases.promote("two")
    listed = tandem("releases", "list", "--json").json
    assert listed["promoted"] == {"hybrid": "two", "closed-book": None}
    assert [(r["name"], r["promoted"], r["shipped"], r["recipe"]) for r in listed["releases"]] == [
        ("one", False, False, "hybrid"),
        ("two", True, False, "hybrid"),
    ]
    assert tandem("releases", "--json").json == listed
    lines = tandem("releases").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["one", "hybrid"], ["*", "two"]]
    assert "passed" in lines[1]


def test_a_shipped_release_is_listed_as_such(
    deployment: Deployment, tandem: Tandem, tmp_path: Path, monkeypatch: Any
) -> None:
    listed_release(Releases(tmp_path / "package", None), "shipped-1")
    monkeypatch.setattr(bot.bootstrap, "SHIPPED", tmp_path / "package" / "shipped-1")
    listed = tandem("releases", "--json").json
    assert [(r["name"], r["promoted"], r["shipped"]) for r in listed["releases"]] == [("shipped-1", True, True)]


def test_a_damaged_one_hides_no_other(two: Shelf, tandem: Tandem) -> None:
    (two.releases.folder / "one" / "release.json").write_text("{")
    ran = tandem("releases", "--json")
    assert [r["name"] for r in ran.json["releases"]] == ["two"] and ran.status == 0
    assert "one cannot be read" in ran.err and ran.err.count("\n") == 1
    assert "one cannot be read" in complaint(tandem, "show", "one", status=1)


def test_one_is_shown_whole(two: Shelf, tandem: Tandem) -> None:
    shown = tandem("releases", "show", "two", "--json").json
    assert (shown["name"], shown["parents"], shown["data_hash"], shown["promoted"]) == ("two", ["one"], "d2", False)
    assert shown["metrics"]["facts"] == _metric(0.625) and shown["folder"] == str(two.releases.folder / "two")
    text = tandem("releases", "show", "two").out
    assert "facts: 0.625 (0.525 to 0.725)" in text and "parents: one" in text and "passed: yes" in text


def test_a_damaged_pointer_is_one_line(two: Shelf, tandem: Tandem) -> None:
    (two.releases.folder / "promoted.json").write_text("")
    for words in (["list"], ["show", "one"], ["promote", "one"], ["rollback"]):
        assert "promoted.json cannot be read" in complaint(tandem, *words, status=1, progress=words[0] == "promote")


# ---------------------------------------------------------------- diff


def test_two_are_compared(two: Shelf, tandem: Tandem) -> None:
    (two.releases.folder / "two" / "templates" / "record.txt").write_text("Changed.\n")
    found = tandem("releases", "diff", "one", "two", "--json").json
    assert (found["from"], found["to"], found["templates"]) == ("one", "two", ["record.txt"])
    assert found["data_hash"] == {"from": "d1", "to": "d2"}
    assert found["base_model"] == {"from": "tiny", "to": "tiny"} and found["recipe"]["to"] == "hybrid"
    assert found["settings"] == {
        "rank": {"from": 4, "to": 4},
        "epochs": {"from": 1.0, "to": None},
        "alpha": {"from": None, "to": 8},
    }
    assert found["metrics"] == {"facts": {"from": 0.5, "to": 0.625}, "style": {"from": None, "to": 1.0}}
    rows = {tuple(line.split()) for line in tandem("releases", "diff", "one", "two").out.splitlines()}
    assert {("one", "two"), ("*", "data_hash", "d1", "d2"), ("*", "metrics.facts", "0.5", "0.625")} <= rows
    assert ("settings.rank", "4", "4") in rows and ("templates", "that", "differ:", "record.txt") in rows


def test_one_compared_with_itself(two: Shelf, tandem: Tandem) -> None:
    found = tandem("releases", "diff", "one", "one", "--json").json
    assert found["templates"] == [] and all(item["from"] == item["to"] for item in found["metrics"].values())
    assert "*" not in tandem("releases", "diff", "one", "one").out


# ---------------------------------------------------------------- promote and roll back


def test_promoting_converts_first(two: Shelf, tandem: Tandem) -> None:
    ran = tandem("releases", "promote", "one", "--json")
    assert (ran.status, ran.err) == (0, MERGING.format("one") + "\n")
    assert ran.json == {"release": "one", "recipe": "hybrid", "promoted": {"hybrid": "one", "closed-book": None}}
    assert two.merged() == ["one"] and two.releases.promoted().hybrid == "one"
    spoken = tandem("releases", "promote", "two")
    assert "two is now the hybrid release" in spoken.out and two.merged() == ["one", "two"]
    again = tandem("releases", "promote", "one", "--json")
    assert again.err == "" and again.json["promoted"]["hybrid"] == "one", "it was converted already"


@pytest.mark.parametrize(
    ("gate", "reason"),
    [({}, "was never gated"), ({"passed": False, "reasons": ["style fell from 90% to 10%"]}, "style fell from 90%")],
)
def test_the_gate_refuses_before_anything_is_done(shelf: Shelf, tandem: Tandem, gate: Any, reason: str) -> None:
    shelf.add("weak", gate=gate)
    assert reason in complaint(tandem, "promote", "weak", "--json", status=3)
    assert shelf.merged() == [] and shelf.releases.promoted() == Promoted()
    assert tandem("releases", "promote", "weak", "--force", "--json").json["release"] == "weak"


def test_what_cannot_be_converted_is_not_promoted(shelf: Shelf, tandem: Tandem) -> None:
    wide = tiny_adapter(shelf.root / "wide", width=128)
    add_release(shelf.releases, "wide", shelf.base, wide)
    reason = complaint(tandem, "promote", "wide", status=1, progress=1)
    assert "'wide' cannot be converted: The adapter does not fit this base" in reason
    assert shelf.releases.promoted() == Promoted()


def test_a_release_for_another_base_is_not_promoted(two: Shelf, tandem: Tandem) -> None:
    shutil.rmtree(two.base)
    tiny_base(two.base, seed=7)
    assert "trained on another base model (tiny)" in complaint(tandem, "promote", "one", status=1)
    assert two.releases.promoted() == Promoted()


def test_rolling_back(two: Shelf, tandem: Tandem) -> None:
    tandem("releases", "promote", "one")
    tandem("releases", "promote", "two")
    shutil.rmtree(two.cache)  # as when it was not used for long
    ran = tandem("releases", "rollback", "--json")
    assert ran.json == {"release": "one", "recipe": "hybrid", "promoted": {"hybrid": "one", "closed-book": None}}
    assert ran.err == MERGING.format("one") + "\n" and two.merged() == ["one"]
    spoken = tandem("releases", "rollback")
    assert "No hybrid release is in use now" in spoken.out and two.releases.promoted() == Promoted()
    assert "nothing to roll back" in complaint(tandem, "rollback", status=1)


def test_the_promoted_release_answers(
    two: Shelf, deployment: Deployment, tandem: Tandem, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deployment.root / "knowledge" / "export.md").write_text(
        "# Export\n\nYou export your data as CSV under Settings, Export.\n"
    )
    sources = TOML.partition("[customers]")[0].partition('[[sources]]\nname = "staff"')[0]
    deployment.configure(f'{sources}[bot]\nmodel = "tiny"\n[retrieval]\nmin_similarity = 0.1\n')
    use_stand_ins(monkeypatch.setattr, HashEmbedder(dimension=512), ScriptedModel("Base."))
    monkeypatch.setattr(bot.bootstrap, "build_release", lambda settings, release: ScriptedModel(REPLY))
    assert tandem("refresh").status == 0
    assert tandem("ask", "How do I export my data?", "--json").json["release"] is None
    tandem("releases", "promote", "two")
    answer = tandem("ask", "How do I export my data?", "--json").json
    assert (answer["release"], answer["action"]) == ("two", "answer")
    assert tandem("ask", "How do I export my data?", "--mode", "rag", "--json").json["release"] is None


# ---------------------------------------------------------------- export


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("merged", {*SMALL, "model.safetensors"}),
        ("gguf", {*SMALL, "two-q8_0.gguf"}),
        ("adapter", {"adapter_config.json", "adapter_model.safetensors", "release.json"}),
    ],
)
def test_a_release_is_written_out(two: Shelf, tandem: Tandem, form: str, files: set[str]) -> None:
    ran = tandem("releases", "export", "two", "--to", form, "--json")
    folder = two.root / f"two-{form}"
    assert ran.json == {"release": "two", "to": form, "folder": str(folder)}
    assert {p.name for p in folder.iterdir()} == files | {"README.md", "templates"}
    assert (folder / "templates" / "system.txt").is_file()
    assert sorted(p.name for p in two.root.glob(".*")) == []


def test_the_merged_export_is_the_merged_model(two: Shelf, tandem: Tandem) -> None:
    tandem("releases", "export", "one", "--to", "merged", "--out", "here/out")
    found = load_file(two.root / "here" / "out" / "model.safetensors")
    for name, weight in merge.merged(two.base, two.releases.get("one").adapter):
        assert np.array_equal(found[name], weight.astype(np.float16))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers
def test_transformers_and_peft_read_the_exports(two: Shelf, tandem: Tandem) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    for form in ("merged", "adapter"):
        assert tandem("releases", "export", "one", "--to", form).status == 0
    whole = AutoModelForCausalLM.from_pretrained(two.root / "one-merged", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(two.base, dtype=torch.float32)
    ids = torch.tensor([[1, 9, 20, 33, 2, 40]])
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, two.root / "one-adapter")(ids).logits
        merged = whole(ids).logits
    apart = float((merged - adapted).abs().max()), float((plain - adapted).abs().max())
    assert apart[0] < 5e-3 < 0.1 < apart[1]


@pytest.mark.parametrize("there", ["a file", "a full folder"])
def test_nothing_is_overwritten(two: Shelf, tandem: Tandem, there: str) -> None:
    out = two.root / "out"
    if there == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    ran = tandem("releases", "export", "one", "--to", "adapter", "--out", out)
    assert ran.status == 2 and "is not empty, and nothing is overwritten" in ran.err and ran.out == ""
    assert (out if there == "a file" else out / "mine.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(two: Shelf, tandem: Tandem) -> None:
    (two.root / "out").mkdir()
    assert tandem("releases", "export", "one", "--to", "adapter", "--out", "out").out == f"Wrote {two.root / 'out'}.\n"


def test_an_export_that_fails_leaves_nothing(two: Shelf, tandem: Tandem) -> None:
    (two.base / "model-q8_0.gguf").unlink()
    reason = complaint(tandem, "export", "one", "--to", "gguf", status=1, progress=1)
    assert "'one' cannot be exported" in reason and "holds no GGUF file" in reason
    assert [p.name for p in two.root.iterdir() if "gguf" in p.name] == []


def test_a_model_that_is_only_named_is_not_exported(shelf: Shelf, tandem: Tandem) -> None:
    listed_release(shelf.releases, "whole", model="openai:some")
    reason = complaint(tandem, "export", "whole", "--to", "merged", status=1, progress=1)
    assert "names the model 'openai:some'; there is no adapter to export" in reason


# ---------------------------------------------------------------- add


def test_an_adapter_from_elsewhere(shelf: Shelf, tandem: Tandem) -> None:
    adapter = tiny_adapter(shelf.root / "found")
    ran = tandem("releases", "add", "found", "--adapter", adapter, "--recipe", "closed-book", "--json")
    added = ran.json
    assert ran.err == "" and (added["name"], added["recipe"], added["base_model"]) == ("found", "closed-book", "tiny")
    assert (added["verified"], added["gate"], added["model"], added["promoted"]) == (False, {}, None, False)
    assert added["settings"] == {"rank": 4, "alpha": 8, "trained_on": "tiny"}
    assert "from elsewhere" in tandem("releases").out
    assert "was never gated" in complaint(tandem, "promote", "found", status=3)
    promoted = tandem("releases", "promote", "found", "--force", "--json").json["promoted"]
    assert promoted == {"hybrid": None, "closed-book": "found"} and shelf.merged() == ["found"]


def test_an_adapter_is_told_to_come_from_another_base(shelf: Shelf, tandem: Tandem) -> None:
    adapter = tiny_adapter(shelf.root / "found", base_model_name_or_path="org/larger")
    ran = tandem("releases", "add", "found", "--adapter", adapter)
    assert ran.status == 0 and "trained on org/larger; here it is merged into tiny" in ran.err
    assert ran.out == "Added found. Nobody has gated it: 'tandem releases promote found --force' puts it to use.\n"


def test_an_export_can_be_added_again(two: Shelf, tandem: Tandem) -> None:
    tandem("releases", "export", "one", "--to", "adapter")
    assert tandem("releases", "add", "again", "--adapter", "one-adapter").status == 0
    assert two.releases.get("again").adapter_sha256 == two.releases.get("one").adapter_sha256


def _wrong_adapters(root: Path) -> Iterator[tuple[Path, str]]:
    yield tiny_adapter(root / "dora", use_dora=True), "An adapter with use_dora cannot be merged here"
    yield tiny_adapter(root / "wide", width=128), "The adapter does not fit this base"
    yield tiny_adapter(root / "prompt", peft_type="PROMPT_TUNING"), "peft_type = PROMPT_TUNING"
    garbage = tiny_adapter(root / "garbage")
    (garbage / "adapter_model.safetensors").write_bytes(b"PK\x03\x04" * 50)
    yield garbage, "is no safetensors file"
    pickled = tiny_adapter(root / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    yield pickled, "adapter_model.safetensors cannot be read: No such file"
    (root / "empty").mkdir()
    yield root / "empty", "holds no adapter: adapter_config.json cannot be read"
    odd = tiny_adapter(root / "odd")
    (odd / "adapter_config.json").write_text(json.dumps(PLAIN)[:-3])
    yield odd, "adapter_config.json is not valid"


def test_adapters_that_are_not_taken(shelf: Shelf, tandem: Tandem) -> None:
    for adapter, reason in _wrong_adapters(shelf.root / "wrong"):
        line = complaint(tandem, "add", "x", "--adapter", adapter, status=1)
        assert f"{adapter} cannot be added: " in line and reason in line
    assert shelf.releases.names() == [] and shelf.merged() == []


def test_a_folder_that_is_not_there(shelf: Shelf, tandem: Tandem) -> None:
    assert "There is no folder nowhere" in complaint(tandem, "add", "x", "--adapter", "nowhere", status=2)


def test_a_whole_model_in_a_folder(shelf: Shelf, tandem: Tandem) -> None:
    other = tiny_base(shelf.root / "sub" / "other", seed=3)
    added = tandem("releases", "add", "whole", "--model", "sub/other", "--json").json
    assert (added["model"], added["base_model"], added["adapter_sha256"]) == (str(other), str(other), None)
    assert (added["verified"], added["gate"], added["recipe"]) == (False, {}, "hybrid")
    assert tandem("releases", "promote", "whole", "--force").status == 0 and shelf.merged() == []
    shutil.rmtree(other)
    assert "is no folder here" in complaint(tandem, "promote", "whole", "--force", status=2)


def test_a_whole_model_elsewhere(shelf: Shelf, tandem: Tandem) -> None:
    added = tandem("releases", "add", "remote", "--model", "openai:some-model", "--json").json
    assert (added["model"], added["base_digest"]) == ("openai:some-model", "")
    assert tandem("releases", "promote", "remote", "--force", "--json").json["release"] == "remote"


@pytest.mark.parametrize("model", ["nonsense", "openai:", "C:", "./nowhere", ""])
def test_what_is_no_model(shelf: Shelf, tandem: Tandem, model: str) -> None:
    line = complaint(tandem, "add", "x", "--model", model, status=2)
    assert "is no folder here" in line or "Use: tandem releases" in line
    assert shelf.releases.names() == []


@pytest.mark.parametrize("lacking", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_is_no_model(shelf: Shelf, tandem: Tandem, lacking: str) -> None:
    other = tiny_base(shelf.root / "other")
    (other / lacking).unlink()
    assert str(other) in complaint(tandem, "add", "x", "--model", other, status=1)
    assert shelf.releases.names() == []


def test_a_chat_template_that_does_not_fit(shelf: Shelf, tandem: Tandem) -> None:
    other = tiny_base(shelf.root / "other")
    (other / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    line = complaint(tandem, "add", "x", "--model", other, status=1)
    assert "has no chat template that fits our prompts: no system role" in line


@pytest.mark.parametrize(("name", "status"), [("one", 1), ("a/b", 2), ("..", 2), ("", 2)])
def test_a_name_that_cannot_be_given(two: Shelf, tandem: Tandem, name: str, status: int) -> None:
    adapter = two.releases.get("two").adapter
    line = complaint(tandem, "add", name, "--adapter", adapter, status=status)
    assert "already" in line if status == 1 else "is no name of a release" in line


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    "words",
    [
        ("show", "x"), ("diff", "one", "x"), ("diff", "x", "one"), ("promote", "x"), ("promote", "x", "--force"),
        ("export", "x", "--to", "merged"), ("show", "../two"),
    ],
)  # fmt: skip
def test_an_unknown_name(two: Shelf, tandem: Tandem, words: tuple[str, ...]) -> None:
    assert "There is no release '" in complaint(tandem, *words, status=2)


@pytest.mark.parametrize(
    "words",
    [
        ("list", "one"), ("show",), ("show", "one", "two"), ("diff", "one"), ("promote",), ("rollback", "one"),
        ("export", "one"), ("export", "--to", "gguf"), ("add", "x"), ("add", "--model", "openai:x"),
        ("add", "x", "--model", "openai:x", "--adapter", "one"), ("list", "--force"), ("rollback", "--force"),
        ("show", "one", "--to", "gguf"), ("promote", "one", "--out", "x"), ("promote", "one", "--recipe", "hybrid"),
        ("export", "one", "--to", "gguf", "--model", "x"),
    ],
)  # fmt: skip
def test_wrong_words(two: Shelf, tandem: Tandem, words: tuple[str, ...]) -> None:
    assert "Use: tandem releases list | show N" in complaint(tandem, *words, status=2)


@pytest.mark.parametrize(
    "words", [("drop", "one"), ("export", "one", "--to", "onnx"), ("add", "x", "--recipe", "poems")]
)
def test_words_that_do_not_exist(two: Shelf, tandem: Tandem, words: tuple[str, ...]) -> None:
    ran = tandem("releases", *words)
    assert (ran.status, ran.out) == (2, "") and "Traceback" not in ran.err


def test_no_release_changes_a_remote_model(two: Shelf, deployment: Deployment, tandem: Tandem) -> None:
    deployment.configure('[bot]\nmodel = "openai:gpt"\n')
    for words in (("promote", "one"), ("add", "x", "--adapter", two.releases.get("one").adapter)):
        line = complaint(tandem, *words, status=2)
        assert "[bot] model = 'openai:gpt' is a remote model, which no release changes" in line
    assert tandem("releases", "export", "one", "--to", "adapter").status == 0


def test_missing_weights_are_one_line(
    two: Shelf, deployment: Deployment, tandem: Tandem, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.configure('[bot]\nmodel = "local"\n')
    monkeypatch.setattr(bot.bootstrap, "SHIPPED", two.root / "nothing")
    assert "run 'make setup'" in complaint(tandem, "promote", "one", status=1)
    assert "make setup" in complaint(tandem, "export", "one", "--to", "merged", status=1, progress=1)
