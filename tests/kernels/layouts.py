"""Arrays of every memory layout that a kernel may meet, for hypothesis."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]
LAYOUTS = ["contiguous", "transposed", "sliced", "broadcast"]


def sample(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    """Small numbers of both signs where the dtype has them."""
    if dtype.startswith("float"):
        return np.asarray(3 * rng.standard_normal(shape)).astype(dtype)
    low, high = {"bool": (0, 2), "uint8": (0, 5)}.get(dtype, (-4, 5))
    return np.asarray(rng.integers(low, high, shape)).astype(dtype)


def laid_out(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, layout: str) -> np.ndarray[Any, Any]:
    """A sample of this shape; sliced ones skip every second element of each axis, broadcast ones repeat along one."""
    if layout == "transposed":
        order = rng.permutation(len(shape))
        return sample(rng, tuple(shape[axis] for axis in order), dtype).transpose(np.argsort(order))
    if layout == "sliced":
        base = sample(rng, tuple(2 * length for length in shape), dtype)
        return base[(..., *[slice(None, None, 2)] * len(shape))]
    if layout == "broadcast" and shape:
        repeated = int(rng.integers(len(shape)))
        base = sample(rng, tuple(1 if axis == repeated else length for axis, length in enumerate(shape)), dtype)
        return np.broadcast_to(base, shape)
    return sample(rng, shape, dtype)


@st.composite
def arrays(
    draw: st.DrawFn, dtype: str, min_ndim: int = 0, max_ndim: int = 4, min_side: int = 0, max_side: int = 6
) -> np.ndarray[Any, Any]:
    shape = draw(st.lists(st.integers(min_side, max_side), min_size=min_ndim, max_size=max_ndim))
    return laid_out(draw(generators()), tuple(shape), dtype, draw(st.sampled_from(LAYOUTS)))


def generators() -> st.SearchStrategy[np.random.Generator]:
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)
