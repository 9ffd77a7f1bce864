"""The border to LangChain: any of its embeddings classes, named by its dotted path."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import PurePath
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.embedders import Vectors
from retrieval.errors import EmbedderError

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

_SECRET = re.compile("key|token|secret|password", re.IGNORECASE)
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class LangChainEmbedder:
    """Embed with a LangChain class, scaled to unit length; as safe for threads as that class is.

    Questions and chunks both go through `embed_documents`. That a vector does not depend on its
    batch is up to the model behind the class.
    """

    def __init__(self, name: str, options: Mapping[str, object]) -> None:
        """Import `name` and construct it with `options`; raise EmbedderError saying what to do."""
        self._name = name
        self._fingerprint = _fingerprint(name, options)
        self._embeddings = _construct(name, options)
        self._dimension: int | None = None
        self._lock = Lock()

    @property
    def fingerprint(self) -> str:
        """Name the class and hash its options, secrets left out."""
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """Give the length of a vector; embeds one word when nothing has been embedded yet."""
        if self._dimension is None:
            self.embed(["dimension"])
        assert self._dimension is not None
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, fp32, shape (len(texts), dimension); raise EmbedderError for anything else."""
        if isinstance(texts, str):
            raise TypeError("embed() takes a list of texts, not one text")
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        vectors = self._checked(self._ask(list(texts)), len(texts))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not lengths.all():
            raise EmbedderError(f"{self._name} answered with a zero vector: leave empty texts out.")
        unit: Vectors = (vectors / lengths).astype(np.float32)
        return unit

    def _ask(self, texts: list[str]) -> object:
        try:
            return self._embeddings.embed_documents(texts)
        except Exception as error:  # each provider raises its own kinds
            raise EmbedderError(
                f"{self._name} could not embed {len(texts)} texts ({type(error).__name__}): "
                "check its key, its model name and the network."
            ) from error

    def _checked(self, answer: object, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the answer as fp64 (count, dimension), or raise EmbedderError."""
        try:
            vectors = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EmbedderError(f"{self._name} answered with vectors of different lengths.") from error
        if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] == 0:
            raise EmbedderError(f"{self._name} answered {vectors.shape} for {count} texts.")
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"{self._name} answered with values that are not finite: try another model.")
        with self._lock:
            self._dimension = self._dimension or vectors.shape[1]
        if vectors.shape[1] != self._dimension:
            raise EmbedderError(
                f"{self._name} gave vectors of length {self._dimension} before and {vectors.shape[1]} now: "
                "name one fixed model in its options, then rebuild the knowledge."
            )
        return vectors


def _construct(name: str, options: Mapping[str, object]) -> Embeddings:
    """Build the class; a message from it is shown without the secrets among the options."""
    kind = _find(name)
    try:
        return kind(**options)
    except ImportError as error:
        raise EmbedderError(f"{name} lacks a package: {error}") from error
    except Exception as error:  # pydantic's or the provider's
        # "from None": pydantic's own message repeats what was passed, keys included.
        raise EmbedderError(f"{name} refused its options: {_reason(error, options)}") from None


def _find(name: str) -> type[Embeddings]:
    """Import the class; raise EmbedderError for a missing package or another kind of name."""
    from langchain_core.embeddings import Embeddings

    if not _DOTTED.fullmatch(name):
        raise EmbedderError(f"{name!r} is no dotted name: write it like 'langchain_openai.OpenAIEmbeddings'.")
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if "." in missing:
            raise EmbedderError(f"There is no module {missing}: check the name {name!r}.") from error
        package = missing.replace("_", "-")
        raise EmbedderError(f"{name} needs a package that is missing: pip install {package}") from error
    except ImportError as error:
        raise EmbedderError(f"{module} cannot be imported: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Embeddings)):
        raise EmbedderError(f"{name} is no LangChain embeddings class: check the name in its documentation.")
    return kind


def _fingerprint(name: str, options: Mapping[str, object]) -> str:
    told = json.dumps(_without_secrets(options), sort_keys=True, default=_plain)
    return f"langchain-{name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _without_secrets(value: object) -> object:
    """Leave out every option, nested ones too, whose key sounds like a secret."""
    if isinstance(value, Mapping):
        kept = {str(key): _without_secrets(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if not _SECRET.search(key)}
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    return value


def _plain(value: object) -> str:
    """Write what JSON cannot; an unknown object by its type, as its repr may hold an address."""
    return str(value) if isinstance(value, PurePath | date) else type(value).__qualname__


def _reason(error: Exception, options: Mapping[str, object]) -> str:
    """Say why, in one line, with neither pydantic's echo of the input nor a secret."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)
        text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
    else:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
    for secret in _secrets(options):
        text = text.replace(secret, "***")
    return text


def _secrets(value: object, secret: bool = False) -> list[str]:
    """List the texts that stand under keys that sound like secrets."""
    if isinstance(value, Mapping):
        pairs = ((inner, secret or bool(_SECRET.search(str(key)))) for key, inner in value.items())
        return [found for inner, hidden in pairs for found in _secrets(inner, hidden)]
    if isinstance(value, list | tuple):
        return [found for inner in value for found in _secrets(inner, secret)]
    return [value] if secret and isinstance(value, str) and value else []
