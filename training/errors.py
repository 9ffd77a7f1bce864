"""Errors of learning.

TrainingError
├── CasesError        a file of eval cases cannot be read
├── CompaniesError    the file of an invented company is wrong
├── LogError          a conversation log cannot be read
├── NoExamples        nothing is left to train on
└── RunError          a run cannot begin or go on
"""


class TrainingError(Exception):
    """Be the root of every error that learning raises on purpose."""


class CasesError(TrainingError):
    """Say which line of a file of cases is wrong."""


class CompaniesError(TrainingError):
    """Say what is wrong with the file of an invented company."""


class LogError(TrainingError):
    """Say why a conversation log cannot be read."""


class NoExamples(TrainingError):
    """Say why nothing is left to train on."""


class RunError(TrainingError):
    """Say why a run cannot begin or go on."""
