"""What is wrong with a person's data, or with fetching it: one line each."""

from __future__ import annotations

from meshd.core.errors import FailureError, UsageError


class DataError(UsageError):
    """A file or folder that is no data set: names it, says what is wrong and what to do."""


class DownloadError(FailureError):
    """A known data set that no mirror gave: says why for each, and what to do by hand."""
