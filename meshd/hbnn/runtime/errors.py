"""What is wrong with a model file, or with what it is asked to do."""

from __future__ import annotations

from meshd.core.errors import UsageError


class ModelError(UsageError, ValueError):
    """A file that is no usable model, or samples that do not fit it: one line."""
