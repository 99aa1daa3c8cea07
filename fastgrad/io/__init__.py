"""Saving and loading tensors and plain Python values; a file is data and can run nothing."""

from fastgrad.io.serialization import load, save

__all__ = ["load", "save"]
