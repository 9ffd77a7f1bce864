"""Errors of answering.

BotError
├── ConfigError                a setting is wrong, unknown or missing
├── ModelError                 a language model cannot be loaded or failed to answer
│   ├── ModelMissing           a package or the weights that it needs are not installed
│   └── ModelUnavailable       a remote model does not answer; trying later may help
├── KnowledgeTooLarge          prompt mode: the whole knowledge does not fit the model's context
├── ReleaseError               a release cannot be read, added or converted
│   ├── NoRelease              there is no such release
│   └── PromotionRefused       the gate does not allow it
├── UnknownConversation        no conversation of this caller has this id
├── UnknownTurn                no turn of this caller has this id
└── NotAllowed                 the token is invalid, or does not permit this
"""


class BotError(Exception):
    """Be the root of every error that answering raises on purpose."""


class ConfigError(BotError):
    """Say which setting is wrong and what to do."""


class ModelError(BotError):
    """Say that a language model cannot be loaded or failed."""


class ModelMissing(ModelError):
    """Say which package or weights a model lacks, and what brings them."""


class ModelUnavailable(ModelError):
    """Say that a remote model does not answer."""


class KnowledgeTooLarge(BotError):
    """Say by how much the knowledge exceeds the model's context."""


class UnknownConversation(BotError):
    """Say that no conversation of this caller has this id."""


class UnknownTurn(BotError):
    """Say that no turn of this caller has this id."""


class NotAllowed(BotError):
    """Say that a token is invalid or does not permit this."""


class ReleaseError(BotError):
    """Say what is wrong with a release."""


class NoRelease(ReleaseError):
    """Say that there is no such release."""


class PromotionRefused(ReleaseError):
    """Say why a release is not promoted."""
