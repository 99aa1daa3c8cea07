"""Helpers around training: `fastgrad.utils.data`, `fastgrad.utils.checkpoint`, the hooks of modules."""

from fastgrad.utils import checkpoint, data, hooks

__all__ = ["checkpoint", "data", "hooks"]
