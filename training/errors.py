"""Errors of learning.

TrainingError
└── CasesError    a file of eval cases cannot be read
"""


class TrainingError(Exception):
    """Be the root of every error that learning raises on purpose."""


class CasesError(TrainingError):
    """Say which line of a file of cases is wrong."""
