"""Convert a release for the engine: merged with its base, once, in the cache that all deployments share.

merged/
NAME-DIGEST/          a whole model; `complete` lists its files with their sizes
.NAME-DIGEST.new/     one in the making, or what a kill left of it
.NAME-DIGEST.old/     one on its way out
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from bot.errors import ReleaseError
from bot.releases import Release, base_digest
from bot.weights.errors import ConversionFailed
from bot.weights.folder import sha256_of
from bot.weights.paths import cache_folder
from retrieval.files import sync_folder

_KEPT = 6  # merged models, of about the base's size each
_COMPLETE = "complete"
_LAYOUT = 1  # of what is written; another number makes all anew


def converted(
    release: Release,
    base: Path,
    engine: str,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Return the folder of the merged model, made if it is not there; raises ReleaseError where they do not fit.

    A kill leaves nothing that the next call takes for whole. `tell` hears when something is made.
    """
    check_base(release, base)
    as_gguf = engine == "openvino" and any(base.glob("*.gguf"))
    parts = f"{release.base_digest} {release.adapter_sha256} {'gguf' if as_gguf else 'safetensors'} {_LAYOUT}"
    root = (cache or cache_folder()) / "merged"
    target = root / f"{release.name}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"
    if _taken(target):  # without the lock: another conversion may hold it for minutes
        return target
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        if not _taken(target):
            tell(f"merging {release.name} into {release.base_model}, once")
            _build(release, base, target, as_gguf)
            _prune(root)
    return target


def check_base(release: Release, base: Path) -> None:
    """Check that a release is an adapter, unharmed, and for this base; raises ReleaseError."""
    if release.adapter_sha256 is None:
        raise ReleaseError(f"'{release.name}' names the model '{release.model}'; it has no adapter to merge.")
    if release.base_digest != base_digest(base):
        raise ReleaseError(
            f"'{release.name}' was trained on another base model ({release.base_model}) than [bot] model gives. "
            "Set [bot] model to that base, or promote another release."
        )


def _taken(target: Path) -> bool:
    """Tell whether the model is there and whole; its folder is then marked as used."""
    try:
        sizes = json.loads((target / _COMPLETE).read_text(encoding="utf-8"))
        whole = bool(sizes) and all((target / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False
    with suppress(OSError):  # a cache that others own
        os.utime(target)
    return whole


def _build(release: Release, base: Path, target: Path, as_gguf: bool) -> None:
    from bot.weights import merge

    aside = target.with_name(f".{target.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if sha256_of(release.adapter / "adapter_model.safetensors") != release.adapter_sha256:
            raise ReleaseError(f"The adapter of '{release.name}' in {release.adapter} is not the one that was added.")
        aside.mkdir()
        if as_gguf:
            merge.copy_tokenizer(base, aside)
            merge.write_gguf(base, release.adapter, aside / merge.GGUF_NAME)
        else:
            merge.write_safetensors(base, release.adapter, aside)
        _seal(aside)
        _remove(target)
        aside.rename(target)
        sync_folder(target.parent)
    except (ConversionFailed, OSError) as error:
        raise ReleaseError(f"'{release.name}' cannot be converted: {error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _seal(folder: Path) -> None:
    """Bring the files to disk and list them; the list is written last."""
    files = sorted(folder.iterdir())
    for path in files:
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    with (folder / _COMPLETE).open("w", encoding="utf-8") as list_:
        json.dump({path.name: path.stat().st_size for path in files}, list_, indent=1)
        list_.flush()
        os.fsync(list_.fileno())


def _prune(root: Path) -> None:
    """Remove what kills left and the models not used for longest; what a server has open stays readable to it."""
    folders = [path for path in root.iterdir() if path.is_dir()]
    for leftover in (path for path in folders if path.name.startswith(".")):
        shutil.rmtree(leftover, ignore_errors=True)
    whole = [path for path in folders if not path.name.startswith(".")]
    for folder in sorted(whole, key=lambda path: -path.stat().st_mtime)[_KEPT:]:
        with suppress(OSError):  # Windows keeps what is open
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder so that a kill on the way leaves none that looks whole."""
    if folder.is_dir():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
