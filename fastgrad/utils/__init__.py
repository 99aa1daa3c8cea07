"""Helpers around training: `fastgrad.utils.data`."""

from fastgrad.utils import data

__all__ = ["data"]
