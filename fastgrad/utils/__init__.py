"""Helpers around training: `fastgrad.utils.data`, and the hooks of modules."""

from fastgrad.utils import data, hooks

__all__ = ["data", "hooks"]
