"""Embedders: text in, unit-length fp32 vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Turn texts into vectors of unit length.

    A vector must not depend on the batch it was computed in (beyond 1e-6), so that a refreshed
    store equals one built fresh.
    """

    @property
    def fingerprint(self) -> str:
        """Name model and settings; vectors of different fingerprints are never mixed."""
        ...

    @property
    def dimension(self) -> int:
        """Give the length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return fp32 vectors of shape (len(texts), dimension), each of unit length."""
        ...
