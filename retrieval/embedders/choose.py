"""The one place that turns a configured name into an embedder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from retrieval.embedders import Embedder
from retrieval.errors import EmbedderError


def choose_embedder(name: str, options: Mapping[str, object], folder: Path) -> Embedder:
    """Return the embedder called `name`: "local" (weights in `folder`) or a LangChain class.

    Raise EmbedderError for any other name and for options that the embedder does not take.
    """
    match name:
        case "local":
            from retrieval.embedders.minilm import MiniLMEmbedder

            return MiniLMEmbedder(folder, threads=_threads(options))
        case _ if "." in name:
            from retrieval.embedders.langchain import LangChainEmbedder

            return LangChainEmbedder(name, options)
        case _:
            raise EmbedderError(
                f"Unknown embedder {name!r}: write 'local', or the dotted name of a LangChain class "
                "such as 'langchain_openai.OpenAIEmbeddings'."
            )


def _threads(options: Mapping[str, object]) -> int | None:
    """Read the only option of the local embedder."""
    if unknown := sorted(set(options) - {"threads"}):
        raise EmbedderError(f"The local embedder takes only the option 'threads', not {', '.join(unknown)}.")
    threads = options.get("threads")
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise EmbedderError(f"threads must be a whole number of at least 1, not {threads!r}.")
    return threads
