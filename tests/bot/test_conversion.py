"""Conversion: once, whole or not at all, and only for the base that a release was trained on."""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from bot import conversion
from bot.conversion import converted
from bot.errors import ReleaseError
from bot.releases import Release, Releases
from bot.weights import merge
from tests.bot.killed import kill_in
from tests.bot.tiny_model import add_release, listed_release, tiny_adapter, tiny_base

ENGINES = ["openvino", "transformers"]
SMALL = {"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "complete"}


class Made:
    """A base with a GGUF, and releases of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = tiny_base(root / "tiny", as_gguf=True)
        self.cache = root / "cache"
        self.releases = Releases(root / "releases", None)
        self.told: list[str] = []

    def release(self, name: str, seed: int = 1, **changes: Any) -> Release:
        adapter = tiny_adapter(self.root / f"adapter-{name}", seed=seed)
        return add_release(self.releases, name, self.base, adapter, **changes)

    def convert(self, release: Release, engine: str = "openvino") -> Path:
        return converted(release, self.base, engine, self.cache, self.told.append)

    def folders(self) -> set[str]:
        return {path.name for path in (self.cache / "merged").iterdir() if path.is_dir()}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("engine", "weights"), [("openvino", "model-q8_0.gguf"), ("transformers", "model.safetensors")]
)
def test_it_is_made_once(made: Made, engine: str, weights: str) -> None:
    release = made.release("one")
    folder = made.convert(release, engine)
    assert names_in(folder) == SMALL | {weights}
    assert made.told == ["merging one into tiny, once"]
    before = (folder / weights).stat().st_mtime_ns
    assert made.convert(release, engine) == folder
    assert len(made.told) == 1 and (folder / weights).stat().st_mtime_ns == before
    assert made.folders() == {folder.name}


def test_a_base_without_gguf_is_merged_for_transformers(made: Made) -> None:
    (made.base / "model-q8_0.gguf").unlink()
    assert "model.safetensors" in names_in(made.convert(made.release("one"), "openvino"))


def test_two_engines_and_two_adapters_do_not_meet(made: Made, tmp_path: Path) -> None:
    one = made.release("one")
    other_deployment = Releases(tmp_path / "other", None)
    namesake = add_release(other_deployment, "one", made.base, tiny_adapter(tmp_path / "namesake", seed=9))
    folders = {made.convert(one, e) for e in ENGINES} | {made.convert(namesake, e) for e in ENGINES}
    assert len(folders) == 4


def test_many_at_once_make_it_once(made: Made) -> None:
    release = made.release("one")
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(made.convert(release))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1 and len(made.told) == 1


def test_what_is_there_needs_no_lock(made: Made) -> None:
    release = made.release("one")
    folder = made.convert(release)
    with conversion.FileLock(made.cache / "merged" / ".lock"):
        assert made.convert(release) == folder


def test_another_base_is_refused(made: Made, tmp_path: Path) -> None:
    release = made.release("one")
    other = tiny_base(tmp_path / "other", seed=5)
    with pytest.raises(ReleaseError, match=r"'one' was trained on another base model \(tiny\)"):
        converted(release, other, "openvino", made.cache)
    assert not (made.cache / "merged").exists()


def test_a_configuration_with_other_line_ends_is_the_same_base(made: Made) -> None:
    """Set-up on Windows writes them."""
    config = made.base / "config.json"
    config.write_text('{\n"num_attention_heads": 4,\n"num_key_value_heads": 2\n}\n')
    release = made.release("one")
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    made.convert(release)


def test_a_base_that_is_no_model(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="holds no model: config.json cannot be read: No such file"):
        converted(made.release("one"), tmp_path, "openvino", made.cache)


def test_a_release_that_names_a_model_is_not_converted(made: Made) -> None:
    release = listed_release(made.releases, "whole", model="org/name")
    with pytest.raises(ReleaseError, match="names the model 'org/name'; it has no adapter"):
        made.convert(release)


def test_an_adapter_that_has_changed_is_refused(made: Made) -> None:
    release = made.release("one")
    path = release.adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ReleaseError, match="is not the one that was added"):
        made.convert(release)


def test_an_adapter_that_is_gone_is_named(made: Made) -> None:
    release = made.release("one")
    shutil.rmtree(release.adapter)
    with pytest.raises(ReleaseError, match="'one' cannot be converted: .*adapter_model.safetensors"):
        made.convert(release)
    assert made.folders() == set()


def test_an_adapter_that_does_not_fit_leaves_nothing(made: Made, tmp_path: Path) -> None:
    wide = tiny_adapter(tmp_path / "wide", width=128)
    release = add_release(made.releases, "wide", made.base, wide)
    with pytest.raises(ReleaseError, match="'wide' cannot be converted: The adapter does not fit this base"):
        made.convert(release)
    assert made.folders() == set()


def test_a_full_disk_leaves_nothing(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    release = made.release("one")
    with monkeypatch.context() as patch:
        patch.setattr(merge, "write_gguf", full)
        with pytest.raises(ReleaseError, match="'one' cannot be converted: .*No space left"):
            made.convert(release)
    assert made.folders() == set()
    made.convert(release)


@pytest.mark.parametrize("damage", ["cut", "missing", "unlisted", "odd list", "empty list"])
def test_what_is_not_whole_is_made_again(made: Made, damage: str) -> None:
    release = made.release("one")
    folder = made.convert(release)
    whole = content(folder)
    weights, listed = folder / "model-q8_0.gguf", folder / "complete"
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "missing":
            weights.unlink()
        case "unlisted":
            listed.unlink()
        case "odd list":
            listed.write_text('["model-q8_0.gguf"]')
        case "empty list":
            listed.write_text("{}")
    assert made.convert(release) == folder and content(folder) == whole
    assert len(made.told) == 2 and made.folders() == {folder.name}


def test_the_longest_unused_goes(made: Made) -> None:
    releases = [made.release(f"r{n}", seed=n) for n in range(conversion._KEPT + 1)]
    folders = [made.convert(release) for release in releases[:-1]]
    for age, folder in enumerate(reversed(folders)):
        os.utime(folder, (1_000_000 - age, 1_000_000 - age))
    made.convert(releases[0])  # the oldest, and used now
    newest = made.convert(releases[-1])
    assert made.folders() == {f.name for f in folders} - {folders[1].name} | {newest.name}


def test_what_kills_left_is_swept_away(made: Made) -> None:
    made.convert(made.release("one"))
    for name in (".gone-1.new", ".gone-2.old"):
        (made.cache / "merged" / name).mkdir()
    newest = made.convert(made.release("two"))
    assert len(made.folders()) == 2 and newest.name in made.folders()


# ---------------------------------------------------------------- kills


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_nothing_that_looks_whole(made: Made, tmp_path: Path) -> None:
    releases = [made.release(f"r{n}", seed=n) for n in range(conversion._KEPT + 4)]
    expected = {}
    for release in releases:
        for engine in ENGINES:
            folder = converted(release, made.base, engine, tmp_path / "apart")
            expected[folder.name] = content(folder)
    chance = random.Random(20260502)
    seen: set[str] = set()
    kills = leftovers = 0
    while kills < 20 or (not leftovers and kills < 80):
        kill_in(chance.uniform(0, 0.25), "conversion", tmp_path)
        kills += 1
        for folder in (made.cache / "merged").iterdir():
            if not folder.is_dir():
                continue
            if folder.name.startswith("."):
                leftovers += 1
            else:
                assert conversion._taken(folder), f"{folder.name} has its name and is not whole"
                assert content(folder) == expected[folder.name]
                seen.add(folder.name)
    assert leftovers, "no kill fell into a conversion"
    assert len(seen) > conversion._KEPT
    for release in releases:  # and the next conversion completes
        assert content(made.convert(release)) == expected[made.convert(release).name]
    assert not any(name.startswith(".") for name in made.folders())


@pytest.mark.slow
@pytest.mark.parametrize("step", ["listed", "moved"])
def test_a_kill_around_the_rename(made: Made, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The list of files is written before the folder takes its name, and the name is all that counts."""

    class Killed(BaseException):
        pass

    release = made.release("one")
    rename = Path.rename

    def dying(self: Path, target: Path) -> Path:
        if step == "moved":
            rename(self, target)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the dead tidy nothing
        with pytest.raises(Killed):
            made.convert(release)
    left = next(iter(made.folders()))
    assert left.endswith(".new") == (step == "listed")
    sizes = json.loads((made.cache / "merged" / left / "complete").read_text())
    assert set(sizes) == (SMALL | {"model-q8_0.gguf"}) - {"complete"}
    made.convert(release)
    assert len(made.folders()) == 1 and len(made.told) == (2 if step == "listed" else 1)
