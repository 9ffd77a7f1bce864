"""Errors of finding.

RetrievalError
├── SourceError            a source cannot be read, is empty or has shrunk beyond its share
├── RefreshRefused         a safety check stopped the refresh; nothing was changed
├── GenerationError        a generation is missing, damaged or cannot be rolled back to
│   └── NoGeneration       nothing has been published yet
├── EmbedderError          the embedding model is missing or answered with something else than vectors
├── RecordsError           the customer or ticket file cannot be read
│   └── UnknownCustomer    no customer has this id
├── RefreshRunning         another refresh holds the lock
└── QuestionError          a question that cannot be searched: empty or too long
"""


class RetrievalError(Exception):
    """Be the root of every error that finding raises on purpose."""


class SourceError(RetrievalError):
    """Say that a source cannot be read."""


class RefreshRefused(RetrievalError):
    """Say that a safety check stopped the refresh before anything was changed."""


class RefreshRunning(RetrievalError):
    """Say that another refresh is under way."""


class GenerationError(RetrievalError):
    """Say that a generation is missing or damaged."""


class NoGeneration(GenerationError):
    """Say that no knowledge has been published yet."""


class EmbedderError(RetrievalError):
    """Say that the embedding model is missing or broken."""


class RecordsError(RetrievalError):
    """Say that customer or ticket records cannot be read."""


class UnknownCustomer(RecordsError):
    """Say that no customer has this id."""


class QuestionError(RetrievalError):
    """Say that a question is empty or too long."""
