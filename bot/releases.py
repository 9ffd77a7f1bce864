"""Releases: what training hands to serving, and the one pointer that says which of them serve.

releases/
promoted.json         the release of each recipe, and what was before; replaced in one step: a reader sees old or new
NAME/                 release.json  README.md  templates/  adapter/ (none where a release names a whole model)
.NAME.new/            one being added, or what a kill left of it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from bot.errors import ConfigError, NoRelease, PromotionRefused, ReleaseError
from prompts.templates import Templates, load_templates
from retrieval.files import sync_folder, write_atomically

RECIPES = ("hybrid", "closed-book")
SHIPPED = Path(__file__).parent / "shipped"
_MANIFEST, _POINTER = "release.json", "promoted.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Release:
    """Hold what a release says of itself; `folder` is where it lies."""

    name: str
    recipe: str
    base_model: str
    base_digest: str
    fingerprint: str  # of prompts made with its templates and the base's chat template
    created_at: str
    adapter_sha256: str | None = None  # None where the release is a whole model
    model: str | None = None  # of a release that names a model instead of carrying an adapter
    data_hash: str | None = None
    parents: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)  # {"passed", "reasons"}; empty: never gated
    verified: bool = True  # False for what came from elsewhere
    folder: Path = Path()

    @property
    def adapter(self) -> Path:
        """Return the folder of the adapter, in peft's format."""
        return self.folder / "adapter"

    def templates(self) -> Templates:
        """Return the templates that it was trained with; raises ReleaseError."""
        try:
            return load_templates(self.folder / "templates")
        except (OSError, UnicodeDecodeError) as error:
            raise ReleaseError(f"The templates of release '{self.name}' cannot be read: {error}") from None

    def as_json(self) -> dict[str, Any]:
        """Return the manifest's content."""
        content = asdict(self)
        del content["folder"]
        return content


@dataclass(frozen=True, slots=True)
class Promoted:
    """Hold the pointer: the name of the release in use by recipe, and those that were before, the latest last."""

    hybrid: str | None = None
    closed_book: str | None = None
    history: tuple[Mapping[str, str | None], ...] = ()

    def of(self, recipe: str) -> str | None:
        """Return the release promoted for a recipe."""
        return self.hybrid if recipe == "hybrid" else self.closed_book


class Releases:
    """Keep the releases of one deployment; the shipped one is always among them."""

    def __init__(self, folder: Path, shipped: Path | None = SHIPPED) -> None:
        self.folder = folder
        self._shipped = shipped

    def names(self) -> list[str]:
        """List all names, the shipped release before all, what cannot be read next, then the oldest first."""
        own = [path.parent for path in self.folder.glob(f"*/{_MANIFEST}") if _NAME.fullmatch(path.parent.name)]
        ordered = [folder.name for folder in sorted(own, key=lambda f: (_created_at(f), f.name))]
        shipped = self.shipped()
        return ([shipped.name] if shipped and shipped.name not in ordered else []) + ordered

    def shipped(self) -> Release | None:
        """Return the release that came with the package."""
        if self._shipped is None or not (self._shipped / _MANIFEST).is_file():
            return None
        return _read(self._shipped, None)

    def get(self, name: str) -> Release:
        """Return a release; raises NoRelease, and ReleaseError where it cannot be read."""
        if _NAME.fullmatch(name) and (self.folder / name / _MANIFEST).is_file():
            return _read(self.folder / name, name)
        shipped = self.shipped()
        if shipped and shipped.name == name:
            return shipped
        raise NoRelease(f"There is no release '{name[:80]}'. 'tandem releases list' shows those there are.")

    def path_of(self, name: str) -> Path:
        """Return where a new release of this name would lie; raises ConfigError for no name, ReleaseError if taken."""
        if not _NAME.fullmatch(name):
            raise ConfigError(f"'{name[:80]}' is no name of a release: letters, digits, dot, dash and underscore.")
        if (self.folder / name).exists() or name in self.names():
            raise ReleaseError(f"There is a release '{name}' already. Choose another name.")
        return self.folder / name

    def add(self, release: Release, adapter: Path | None, templates: Templates, card: str) -> Release:
        """Put a release in place whole or not at all; `adapter` is copied. Raises ReleaseError."""
        with self._lock():
            target = self.path_of(release.name)
            aside = self.folder / f".{release.name}.new"
            shutil.rmtree(aside, ignore_errors=True)
            try:
                _fill(aside, release, adapter, templates, card)
                aside.rename(target)
            except OSError as error:
                raise ReleaseError(f"The release '{release.name}' cannot be written: {error}") from None
            finally:
                shutil.rmtree(aside, ignore_errors=True)
            sync_folder(self.folder)
        return replace(release, folder=target)

    def judge(self, name: str, metrics: Mapping[str, Any], gate: Mapping[str, Any], card: str) -> Release:
        """Write the gate's verdict into a release."""
        release = replace(self.get(name), metrics=metrics, gate=gate)
        write_atomically(release.folder / "README.md", card)
        write_atomically(release.folder / _MANIFEST, json.dumps(release.as_json(), indent=1))
        return release

    def promoted(self) -> Promoted:
        """Read the pointer; without one the shipped release serves the hybrid mode. Raises ReleaseError."""
        path = self.folder / _POINTER
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            history = tuple({"recipe": h["recipe"], "release": h["release"], "at": h["at"]} for h in content["history"])
            return Promoted(content["hybrid"], content["closed_book"], history)
        except FileNotFoundError:
            shipped = self.shipped()
            return Promoted(hybrid=shipped.name if shipped and shipped.recipe == "hybrid" else None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReleaseError(f"{path} cannot be read: {error!r}. Remove it and promote the release anew.") from None

    def current(self, recipe: str) -> Release | None:
        """Return the release in use for a recipe."""
        name = self.promoted().of(recipe)
        return self.get(name) if name else None

    def promote(self, name: str, *, force: bool = False) -> Promoted:
        """Move the pointer to a release; PromotionRefused where its gate does not allow it.

        Convert its weights first: a server takes what the pointer names.
        """
        release = self.get(name)
        if not force:
            check_gate(release)
        with self._lock():
            before = self.promoted()
            if before.of(release.recipe) == name:
                return before
            step = {"recipe": release.recipe, "release": before.of(release.recipe), "at": _now()}
            after = self._pointing(before, release.recipe, name, (*before.history, step))
            self._write(after)
        return after

    def before(self) -> tuple[str, Release | None]:
        """Return the recipe that was promoted last and the release before; ReleaseError where nothing was promoted."""
        history = self.promoted().history
        if not history:
            raise ReleaseError("Nothing was promoted here, so there is nothing to roll back.")
        recipe, name = history[-1]["recipe"], history[-1]["release"]
        return str(recipe), self.get(name) if name else None

    def rollback(self) -> Promoted:
        """Move the pointer back over the last promotion; errors as of `before`, NoRelease if that release is gone."""
        with self._lock():
            recipe, release = self.before()
            now = self.promoted()
            after = self._pointing(now, recipe, release.name if release else None, now.history[:-1])
            self._write(after)
        return after

    def _pointing(
        self, before: Promoted, recipe: str, name: str | None, history: tuple[Mapping[str, str | None], ...]
    ) -> Promoted:
        if recipe == "hybrid":
            return Promoted(name, before.closed_book, history)
        return Promoted(before.hybrid, name, history)

    def _lock(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    def _write(self, promoted: Promoted) -> None:
        for leftover in self.folder.glob(f".{_POINTER}.*"):  # of killed promotions; call it under the lock
            leftover.unlink(missing_ok=True)
        write_atomically(self.folder / _POINTER, json.dumps(asdict(promoted), indent=1))


def check_gate(release: Release) -> None:
    """Check that the gate allows a release to be promoted; raises PromotionRefused with its reasons."""
    if not release.gate:
        raise PromotionRefused(f"'{release.name}' was never gated. Add --force to promote it all the same.")
    if not release.gate.get("passed"):
        reasons = "; ".join(map(str, release.gate.get("reasons", ()))) or "no reasons are given"
        raise PromotionRefused(f"'{release.name}' failed the gate: {reasons}. --force promotes it all the same.")


def _fill(folder: Path, release: Release, adapter: Path | None, templates: Templates, card: str) -> None:
    folder.mkdir(parents=True)
    if adapter is not None:
        (folder / "adapter").mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            copy = folder / "adapter" / name
            shutil.copyfile(adapter / name, copy)
            with copy.open("r+b") as file:  # a manifest must not outlive its weights in a power cut
                os.fsync(file.fileno())
    templates.save(folder / "templates")
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_atomically(folder / _MANIFEST, json.dumps(release.as_json(), indent=1))


def _read(folder: Path, name: str | None) -> Release:
    """Read a release; `name` is what its folder is called here, whatever it was when it was made."""
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        content["parents"] = tuple(content["parents"])
        content["name"] = name or content["name"]
        release = Release(**content, folder=folder)
        if release.recipe not in RECIPES:
            raise ValueError(f"there is no recipe '{release.recipe}'")
        return release
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ReleaseError(f"The release in {folder} cannot be read: {error}") from None


def _created_at(folder: Path) -> str:
    try:
        return _read(folder, folder.name).created_at
    except ReleaseError:
        return ""


def base_digest(folder: Path) -> str:
    """Hash a model's configuration and samples of its weights; reading 15 GB whole would take minutes."""
    try:
        # Without carriage returns: set-up writes this file, and a release must fit on Windows too.
        digest = hashlib.sha256((folder / "config.json").read_bytes().replace(b"\r\n", b"\n"))
    except OSError as error:
        raise ReleaseError(f"{folder} holds no model: config.json cannot be read: {error.strerror}.") from None
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            for part in range(64):
                file.seek(size * part // 64)
                digest.update(file.read(16_384))
    return digest.hexdigest()[:24]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
