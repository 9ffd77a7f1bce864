"""Releases: kept whole, one pointer that a kill never tears, promotion only past the gate, and always a way back."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from bot.errors import ConfigError, NoRelease, PromotionRefused, ReleaseError
from bot.releases import Promoted, Release, Releases, base_digest
from prompts.templates import default_templates
from tests.bot.killed import kill_in
from tests.bot.tiny_model import add_release, listed_release, tiny_adapter, tiny_base


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    return Releases(tmp_path / "releases", None)


@pytest.fixture
def with_shipped(tmp_path: Path) -> Releases:
    """Give a deployment's releases beside a shipped one."""
    listed_release(Releases(tmp_path / "package", None), "shipped-1")
    return Releases(tmp_path / "releases", tmp_path / "package" / "shipped-1")


def add(releases: Releases, *names: str, **changes: Any) -> None:
    for name in names:
        listed_release(releases, name, **changes)


# ---------------------------------------------------------------- kept


def test_a_release_comes_back_as_it_was_added(tmp_path: Path, releases: Releases) -> None:
    base, adapter = tiny_base(tmp_path / "tiny"), tiny_adapter(tmp_path / "adapter")
    added = add_release(
        releases, "one", base, adapter, parents=("zero",), metrics={"facts": {"value": 0.5}}, settings={"rank": 4}
    )
    assert releases.get("one") == added and added.folder == releases.folder / "one"
    assert {p.name for p in added.adapter.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert added.templates() == default_templates()
    assert (added.folder / "README.md").read_text() == "# one\n"
    assert "folder" not in json.loads((added.folder / "release.json").read_text())


def test_they_are_listed_the_oldest_first(with_shipped: Releases) -> None:
    add(with_shipped, "b", created_at="2026-05-03")
    add(with_shipped, "a", created_at="2026-05-04")
    add(with_shipped, "c", created_at="2026-05-02")
    assert with_shipped.names() == ["shipped-1", "c", "b", "a"]
    assert Releases(with_shipped.folder, None).names() == ["c", "b", "a"]


def test_without_a_folder_there_are_none(releases: Releases) -> None:
    assert releases.names() == [] and releases.promoted() == Promoted()


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "../x", "a b", "x" * 65, "ü", "-x", "a\n"])
def test_what_is_no_name(releases: Releases, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a release"):
        releases.path_of(name)
    with pytest.raises(NoRelease, match="There is no release"):
        releases.get(name)


def test_a_name_is_given_once(with_shipped: Releases) -> None:
    add(with_shipped, "one")
    for name in ("one", "shipped-1"):
        with pytest.raises(ReleaseError, match=f"There is a release '{name}' already"):
            add(with_shipped, name)


def test_of_many_that_add_one_name_one_does(releases: Releases) -> None:
    outcomes: list[str] = []

    def try_it(number: int) -> None:
        try:
            outcomes.append(str(listed_release(releases, "one", data_hash=str(number)).data_hash))
        except ReleaseError as error:
            assert "already" in str(error)

    threads = [threading.Thread(target=try_it, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [releases.get("one").data_hash] == outcomes


def test_an_adapter_that_is_not_there_adds_nothing(tmp_path: Path, releases: Releases) -> None:
    release = Release("one", "hybrid", "tiny", "0", "0", "2026-05-01", adapter_sha256="0")
    with pytest.raises(ReleaseError, match="'one' cannot be written: .*adapter_config.json"):
        releases.add(release, tmp_path / "nowhere", default_templates(), "")
    assert releases.names() == [] and [p.name for p in releases.folder.iterdir()] == [".lock"]


def test_what_a_kill_left_is_no_release(releases: Releases) -> None:
    add(releases, "one")
    (releases.folder / "one").rename(releases.folder / ".one.new")
    assert releases.names() == []
    add(releases, "one")
    assert releases.names() == ["one"] and not (releases.folder / ".one.new").exists()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"name": "one"}', '{"parents": 3}'],
)
def test_a_damaged_manifest_is_named_and_hides_no_other(releases: Releases, content: str) -> None:
    add(releases, "one", "two")
    (releases.folder / "one" / "release.json").write_text(content)
    with pytest.raises(ReleaseError, match="The release in .*one cannot be read"):
        releases.get("one")
    assert releases.names() == ["one", "two"] and releases.get("two").name == "two"
    add(releases, "three")
    releases.promote("three")


def test_an_unknown_recipe_is_damage(releases: Releases) -> None:
    add(releases, "one", recipe="poems")
    with pytest.raises(ReleaseError, match="there is no recipe 'poems'"):
        releases.get("one")


def test_a_folder_that_was_renamed_is_called_by_its_new_name(releases: Releases) -> None:
    add(releases, "one")
    (releases.folder / "one").rename(releases.folder / "two")
    assert releases.names() == ["two"] and releases.get("two").name == "two"
    assert releases.promote("two").hybrid == "two"


def test_missing_templates_are_named(releases: Releases) -> None:
    add(releases, "one")
    (releases.folder / "one" / "templates" / "system.txt").unlink()
    with pytest.raises(ReleaseError, match="The templates of release 'one' cannot be read"):
        releases.get("one").templates()


def test_the_verdict_is_written_into_the_release(releases: Releases) -> None:
    add(releases, "one", gate={})
    releases.judge("one", {"facts": 1.0}, {"passed": True, "reasons": []}, "# judged\n")
    assert releases.get("one").gate["passed"] and releases.get("one").metrics == {"facts": 1.0}
    assert (releases.folder / "one" / "README.md").read_text() == "# judged\n"


def test_a_digest_tells_bases_apart(tmp_path: Path) -> None:
    one, same, other = tiny_base(tmp_path / "1"), tiny_base(tmp_path / "2"), tiny_base(tmp_path / "3", seed=4)
    assert base_digest(one) == base_digest(same) != base_digest(other)
    (same / "config.json").write_text("{}")
    assert base_digest(one) != base_digest(same)


# ---------------------------------------------------------------- the pointer


def test_the_shipped_release_serves_until_another_is_promoted(with_shipped: Releases) -> None:
    add(with_shipped, "one")
    assert with_shipped.promoted() == Promoted(hybrid="shipped-1")
    assert with_shipped.promote("one").hybrid == "one"
    assert with_shipped.promoted().hybrid == "one"
    assert with_shipped.rollback().hybrid == "shipped-1"
    current = with_shipped.current("hybrid")
    assert current is not None and current.name == "shipped-1"


def test_each_recipe_has_its_own_release(releases: Releases) -> None:
    add(releases, "one", "two")
    add(releases, "book", recipe="closed-book")
    releases.promote("one")
    releases.promote("book")
    releases.promote("two")
    assert (releases.promoted().of("hybrid"), releases.promoted().of("closed-book")) == ("two", "book")
    assert (releases.rollback().hybrid, releases.promoted().closed_book) == ("one", "book")
    assert (releases.rollback().hybrid, releases.promoted().closed_book) == ("one", None)
    assert releases.rollback().hybrid is None
    assert releases.current("hybrid") is None and releases.current("closed-book") is None


def test_rolling_back_to_no_release(releases: Releases) -> None:
    add(releases, "one")
    releases.promote("one")
    assert releases.before() == ("hybrid", None)
    assert releases.rollback() == Promoted() == releases.promoted()
    with pytest.raises(ReleaseError, match="Nothing was promoted here"):
        releases.rollback()
    assert releases.promote("one").hybrid == "one"


def test_promoting_what_is_in_use_changes_nothing(with_shipped: Releases) -> None:
    assert with_shipped.promote("shipped-1") == with_shipped.promoted()
    add(with_shipped, "one")
    before = with_shipped.promote("one")
    assert with_shipped.promote("one") == before and len(before.history) == 1


def test_what_is_not_there_is_not_promoted(releases: Releases) -> None:
    with pytest.raises(NoRelease, match="There is no release 'one'. 'tandem releases list' shows those there are"):
        releases.promote("one", force=True)
    assert not (releases.folder / "promoted.json").exists()


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({}, "'one' was never gated"),
        ({"passed": False, "reasons": ["it recites", "it is slow"]}, "'one' failed the gate: it recites; it is slow"),
        ({"passed": False}, "failed the gate: no reasons are given"),
        ({"reasons": []}, "failed the gate"),
    ],
)
def test_the_gate_is_asked(releases: Releases, gate: Any, reason: str) -> None:
    add(releases, "one", gate=gate)
    with pytest.raises(PromotionRefused, match=reason):
        releases.promote("one")
    assert releases.promoted() == Promoted()
    assert releases.promote("one", force=True).hybrid == "one"


def test_a_release_that_is_gone_is_not_rolled_back_to(with_shipped: Releases) -> None:
    """As when a newer package ships another release."""
    add(with_shipped, "one")
    before = with_shipped.promote("one")
    newer = Releases(with_shipped.folder, None)
    with pytest.raises(NoRelease, match="'shipped-1'"):
        newer.rollback()
    assert newer.promoted() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"hybrid": null, "closed_book": null, "history": [1]}'])
def test_a_damaged_pointer_is_named(releases: Releases, content: str) -> None:
    add(releases, "one")
    (releases.folder / "promoted.json").write_text(content)
    for act in (releases.promoted, releases.rollback, lambda: releases.promote("one"), releases.before):
        with pytest.raises(ReleaseError, match="promoted.json cannot be read: .* Remove it"):
            act()


# ---------------------------------------------------------------- kills


def whole(releases: Releases) -> Promoted:
    """Read the pointer and check that it and its history name releases that exist."""
    promoted = releases.promoted()
    for name in (promoted.hybrid, promoted.closed_book, *(step["release"] for step in promoted.history)):
        assert name is None or releases.get(name).name == name
    return promoted


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_pointer_that_can_be_read(tmp_path: Path, releases: Releases) -> None:
    add(releases, *(f"r{n}" for n in range(5)))
    add(releases, "book", recipe="closed-book")
    chance = random.Random(20260501)
    seen: list[Promoted] = []
    torn = 0
    while len(seen) < 20 or (not torn and len(seen) < 80):
        kill_in(chance.uniform(0, 0.1), "pointer", tmp_path)
        seen.append(whole(releases))
        torn += bool(list(releases.folder.glob(".promoted.json.*")))
        before = releases.promoted()
        other = "r0" if before.hybrid != "r0" else "r1"
        assert releases.promote(other).hybrid == other  # no lock stands, and nothing that was left is in the way
        assert list(releases.folder.glob(".promoted.json.*")) == []
        assert releases.rollback() == before
    assert len({(p.hybrid, p.closed_book, len(p.history)) for p in seen}) > 5
    assert torn, "no kill fell between the new file and its name"


@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_a_kill_before_the_last_step_changes_nothing(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    add(releases, "one", "two")
    before = releases.promote("one")
    with monkeypatch.context() as patch:
        patch.setattr("retrieval.files.os.replace", die)
        with pytest.raises(Killed):
            releases.promote("two") if act == "promote" else releases.rollback()
    assert releases.promoted() == before
    assert releases.promote("two").hybrid == "two"


def test_readers_see_the_old_or_the_new(releases: Releases) -> None:
    add(releases, "one", "two")
    releases.promote("one")
    seen: set[str | None] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(releases.promoted().hybrid)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(50):
        releases.promote("two")
        releases.promote("one")
    stop.set()
    for reader in readers:
        reader.join()
    assert seen == {"one", "two"}


def test_promotions_at_once_lose_no_step(releases: Releases) -> None:
    names = [f"r{n}" for n in range(6)]
    add(releases, *names)
    threads = [threading.Thread(target=releases.promote, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promoted = releases.promoted()
    assert len(promoted.history) == 6
    assert {promoted.hybrid, *(step["release"] for step in promoted.history)} == {None, *names}
