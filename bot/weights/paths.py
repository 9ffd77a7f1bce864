"""Where the weights lie, shared by all deployments of one user."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of TANDEM_CACHE, else `tandem` in the user's cache folder; it may not exist yet."""
    chosen = os.environ.get("TANDEM_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return _user_cache() / "tandem"


def weights_folder(cache: Path | None = None) -> Path:
    """Return the folder that holds one sub-folder per model, below `cache` or the usual one."""
    return (cache or cache_folder()) / "weights"


def downloads_folder() -> Path:
    """Return the folder for wheels in transit; empty between two set-ups."""
    return cache_folder() / "downloads"


def lock_file() -> Path:
    """Return the file that keeps two set-ups apart."""
    return cache_folder() / "weights.lock"


def _user_cache(platform: str = sys.platform) -> Path:
    if platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The XDG standard tells programs to ignore a relative path here.
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return xdg if xdg.is_absolute() else Path.home() / ".cache"
