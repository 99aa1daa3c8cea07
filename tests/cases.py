"""The one table of cases: for each differentiable op its function, its NumPy reference and its sample inputs.

A row's `function` is called with the module under test (fastgrad, or torch in the marked comparison) before the
tensors, so that one table serves both. Its `reference` gets the same arguments as float64 arrays. Its `samples` makes
the arguments from a `Draw`: shapes of 0 to 3 elements an axis, broadcast, in several memory layouts, and far enough
from the op's kinks that central differences are meaningful. `composite` spells a fused op in ordinary ones.
To add an op, add a row; test_cases.py and test_cases_torch.py do the rest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import recurrent
from hypothesis import strategies as st

Array = np.ndarray
LAYOUTS = ("contiguous", "transposed", "strided", "offset")


@dataclass(frozen=True)
class Sample:
    """Arguments of one call: float arrays are differentiated, integer and bool ones are not; options go by name."""

    arrays: tuple[Array, ...]
    options: dict[str, Any] = field(default_factory=dict)
    layouts: tuple[str, ...] = ()

    def placed(self, dtype: type = np.float64) -> list[Array]:
        """Fresh copies of the arrays in their layouts, the float ones as `dtype`."""
        layouts = self.layouts or ("contiguous",) * len(self.arrays)
        return [
            place(np.asarray(a, dtype) if a.dtype.kind == "f" else a, layout)
            for a, layout in zip(self.arrays, layouts, strict=True)
        ]


def place(a: Array, layout: str) -> Array:
    """A copy of `a` with equal elements in the memory layout named."""
    if layout == "transposed" and a.ndim:
        return np.ascontiguousarray(a.T).T
    if layout == "strided" and a.ndim:
        room = np.full((*a.shape[:-1], 2 * a.shape[-1]), 77, a.dtype)
        room[..., ::2] = a
        return room[..., ::2]
    if layout == "offset":
        room = np.full(a.size + 3, 77, a.dtype)
        room[3:] = a.ravel()
        return room[3:].reshape(a.shape)
    return a.copy()


class Draw:
    """Draws structure (shapes, axes, flags) from hypothesis and values from a seeded NumPy generator."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**16)))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.draw(st.integers(0, len(options) - 1))]

    def shape(self, least: int = 0, most: int = 3, side: int = 0) -> tuple[int, ...]:
        return tuple(self.integer(side, 3) for _ in range(self.integer(least, most)))

    def broadcastable(self, count: int, side: int = 0) -> list[tuple[int, ...]]:
        """`count` shapes that broadcast together: axes are left out at the front or have length 1."""
        full = self.shape(side=side)
        return [
            tuple(self.choice((n, n, 1)) for n in full)[
                0 if full == () else self.integer(0, len(full)) % (len(full) + 1) :
            ]
            for _ in range(count)
        ]

    def dim(self, shape: tuple[int, ...]) -> int:
        """An axis of `shape`, counted from either end."""
        return self.integer(-len(shape), len(shape) - 1) if shape else self.choice((0, -1))

    def dims(self, shape: tuple[int, ...]) -> int | tuple[int, ...] | None:
        """No axis, one axis or a tuple of axes."""
        if not shape or self.choice((True, False, False)):
            return None
        if self.choice((True, False)):
            return self.dim(shape)
        chosen = [axis for axis in range(len(shape)) if self.choice((True, False))]
        return tuple(axis - self.choice((0, len(shape))) for axis in chosen) or self.dim(shape)

    # Values, all exact in float32 so that both precisions start from the same numbers.
    def exact(self, values: Any) -> Array:
        return np.asarray(values, np.float32).astype(np.float64)

    def real(self, shape: tuple[int, ...]) -> Array:
        return self.exact(self.random.normal(size=shape))

    def positive(self, shape: tuple[int, ...]) -> Array:
        return self.exact(self.random.uniform(0.3, 2.5, shape))

    def unit(self, shape: tuple[int, ...]) -> Array:
        return self.exact(self.random.uniform(-0.9, 0.9, shape))

    def nonzero(self, shape: tuple[int, ...]) -> Array:
        return self.exact(self.random.choice([-1, 1], shape) * self.random.uniform(0.3, 2.0, shape))

    def fraction(self, shape: tuple[int, ...]) -> Array:
        """At least 0.1 from every integer and every half."""
        return self.exact(self.random.integers(-3, 4, shape) + self.random.uniform(0.1, 0.4, shape))

    def grid(self, shape: tuple[int, ...], offset: float = 0.0) -> Array:
        """Multiples of 0.4 plus `offset`: two grids of different offset are never close."""
        return self.exact(0.4 * self.random.integers(-5, 6, shape) + offset)

    def distinct(self, shape: tuple[int, ...]) -> Array:
        """No two elements within 0.3 of each other in magnitude, none near 0."""
        size = math.prod(shape)
        steps = 0.3 * (1 + self.random.permutation(size)) * self.random.choice([-1, 1], size)
        return self.exact(steps).reshape(shape)

    def mask(self, shape: tuple[int, ...]) -> Array:
        return np.asarray(self.random.integers(0, 2, shape), bool)

    def index_below(self, bound: int, shape: tuple[int, ...]) -> Array:
        return np.asarray(self.random.integers(0, bound, shape), np.int64)

    def index(self, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """An index expression into `shape`: ints, slices, None, ..., integer arrays or one mask, mixed."""
        items: list[Any] = []
        axis = 0
        arrays_shape = self.shape(1, 2, side=1)
        kinds = ["slice", "slice", "int", "none", "ellipsis", self.choice(("array", "mask"))]
        while axis < len(shape) and self.integer(0, 5):
            kind = self.choice(kinds)
            if kind in ("int", "array") and shape[axis] == 0:
                kind = "slice"
            if kind == "none":
                items.append(None)
            elif kind == "ellipsis":
                kinds.remove("ellipsis")
                items.append(...)
                axis += self.integer(0, len(shape) - axis)
            elif kind == "int":
                items.append(self.integer(-shape[axis], shape[axis] - 1))
                axis += 1
            elif kind == "array":
                array = self.index_below(shape[axis], arrays_shape) - self.choice((0, shape[axis]))
                items.append(array[..., :1] if self.choice((True, False)) else array)
                axis += 1
            elif kind == "mask":
                kinds.remove("mask")
                count = self.integer(1, len(shape) - axis)
                items.append(self.mask(shape[axis : axis + count]))
                axis += count
            else:
                ends = [self.choice((None, self.integer(-4, 4))) for _ in range(2)]
                items.append(slice(*ends, self.choice((None, 1, 2, 3))))
                axis += 1
        if ... in [item for item in items if not isinstance(item, Array)]:
            # What follows the ellipsis counts from the last axis; keep only what is valid there for certain.
            place = next(k for k, item in enumerate(items) if item is ...)
            items = items[: place + 1] + [
                item for item in items[place + 1 :] if item is None or isinstance(item, slice)
            ]
            taken = (
                sum(item.ndim if isinstance(item, Array) and item.dtype == bool else item is not None for item in items)
                - 1
            )
            items = items if taken <= len(shape) else items[: place + 1]
        return tuple(items)


def select_first(a: Array, index: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
    """PyTorch applies ints as selections before the rest, where NumPy treats them as index arrays beside others."""
    first: list[Any] = []
    for item in index:
        if isinstance(item, Array) and item.dtype == bool:
            first += [slice(None)] * item.ndim
        elif item is ... or isinstance(item, int):
            first.append(item)
        elif item is not None:
            first.append(slice(None))
    view = a[tuple(first)]
    return view, tuple(item for item in index if not isinstance(item, int))


def numpy_get(a: Array, index: tuple[Any, ...]) -> Array:
    view, rest = select_first(a, index)
    return np.asarray(view[rest])


def numpy_set(a: Array, index: tuple[Any, ...], value: Any) -> Array:
    result = a.copy()
    view, rest = select_first(result, index)
    if isinstance(view, Array):
        view[rest] = value
    else:
        result[index] = value
    return result


@dataclass(frozen=True)
class Case:
    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    samples: st.SearchStrategy[Sample]
    derivatives: int
    composite: Callable[..., Any] | None
    constants: tuple[int, ...] = ()

    def floats(self, sample: Sample) -> list[int]:
        """Positions of the arguments that have a gradient."""
        return [k for k, a in enumerate(sample.arrays) if a.dtype.kind == "f" and k not in self.constants]

    def __repr__(self) -> str:
        return self.name


CASES: list[Case] = []


def row(
    name: str,
    function: Callable[..., Any],
    reference: Callable[..., Any],
    build: Callable[[Draw], Any],
    *,
    derivatives: int = 2,
    composite: Callable[..., Any] | None = None,
    constants: tuple[int, ...] = (),
) -> None:
    """Adds a case. Arguments at the positions `constants` have no gradient. `build` returns
    the arrays, or the arrays and the options by name.
    """

    @st.composite
    def samples(draw: Any) -> Sample:
        d = Draw(draw)
        built = build(d)
        arrays, options = built if isinstance(built, tuple) else (built, {})
        return Sample(tuple(arrays), options, tuple(d.choice(LAYOUTS) for _ in arrays))

    CASES.append(Case(name, function, reference, samples(), derivatives, composite, constants))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array, dim: int) -> Array:
    e = np.exp(x - x.max(axis=dim, keepdims=True, initial=-np.inf)) if x.ndim else np.ones_like(x)
    return e / e.sum(axis=dim, keepdims=True) if x.ndim else e


def log_softmax(x: Array, dim: int) -> Array:
    if not x.ndim:
        return np.zeros_like(x)
    shifted = x - x.max(axis=dim, keepdims=True, initial=-np.inf)
    with np.errstate(divide="ignore"):  # an empty axis
        return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


# Elementwise, one operand. floor and its kin have derivative zero everywhere that they have one.
for _name, _reference, _domain in [
    ("neg", np.negative, Draw.real),
    ("abs", np.abs, Draw.nonzero),
    ("sqrt", np.sqrt, Draw.positive),
    ("rsqrt", lambda x: 1 / np.sqrt(x), Draw.positive),
    ("reciprocal", lambda x: 1 / x, Draw.nonzero),
    ("square", np.square, Draw.real),
    ("exp", np.exp, Draw.real),
    ("expm1", np.expm1, Draw.real),
    ("log", np.log, Draw.positive),
    ("log1p", np.log1p, Draw.positive),
    ("sin", np.sin, Draw.real),
    ("cos", np.cos, Draw.real),
    ("tanh", np.tanh, Draw.real),
    ("sigmoid", sigmoid, Draw.real),
    ("erf", np.vectorize(math.erf, otypes=[float]), Draw.real),
    ("relu", lambda x: np.maximum(x, 0), Draw.nonzero),
    ("sign", np.sign, Draw.nonzero),
    ("floor", np.floor, Draw.fraction),
    ("ceil", np.ceil, Draw.fraction),
    ("round", np.round, Draw.fraction),
    ("trunc", np.trunc, Draw.fraction),
    ("clone", np.copy, Draw.real),
]:
    row(
        _name,
        lambda t, x, name=_name: getattr(t, name)(x),
        _reference,
        lambda d, domain=_domain: [domain(d, d.shape())],
    )

# Elementwise, two operands that broadcast.
for _name, _reference, _left, _right in [
    ("add", np.add, Draw.real, Draw.real),
    ("sub", np.subtract, Draw.real, Draw.real),
    ("mul", np.multiply, Draw.real, Draw.real),
    ("div", np.divide, Draw.real, Draw.nonzero),
    ("pow", np.power, Draw.positive, Draw.real),
    ("maximum", np.maximum, Draw.grid, lambda d, s: d.grid(s, 0.2)),
    ("minimum", np.minimum, Draw.grid, lambda d, s: d.grid(s, 0.2)),
]:
    row(
        _name,
        lambda t, a, b, name=_name: getattr(t, name)(a, b),
        _reference,
        lambda d, left=_left, right=_right: [
            domain(d, s) for domain, s in zip((left, right), d.broadcastable(2), strict=True)
        ],
    )

# Python's operators, a number on either side, the same tensor twice.
for _name, _formula in [
    ("add number", lambda x: x + 1.5),
    ("radd number", lambda x: 2 + x),
    ("sub number", lambda x: x - 1.5),
    ("rsub number", lambda x: 1.5 - x),
    ("mul number", lambda x: x * -2.5),
    ("rmul number", lambda x: 3 * x),
    ("div number", lambda x: x / 4),
    ("rdiv number", lambda x: 1.5 / x),
    ("pow 2", lambda x: x**2),
    ("pow 3", lambda x: x**3),
    ("pow -1", lambda x: x**-1),
    ("pow 0", lambda x: x**0),
    ("rpow", lambda x: 1.7**x),
    ("negative", lambda x: -x),
    ("same twice", lambda x: x * x + x / x - x),
    ("polynomial", lambda x: ((x * 2 - 1) * x + 3) * x - 0.5),
]:
    row(_name, lambda t, x, formula=_formula: formula(x), _formula, lambda d: [d.nonzero(d.shape())])
row("pow half", lambda t, x: x**0.5, lambda x: x**0.5, lambda d: [d.positive(d.shape())])

row(
    "add alpha",
    lambda t, a, b, alpha: t.add(a, b, alpha=alpha),
    lambda a, b, alpha: a + alpha * b,
    lambda d: ([d.real(s) for s in d.broadcastable(2)], {"alpha": d.choice((0.5, -2))}),
)
row(
    "sub alpha",
    lambda t, a, b, alpha: t.sub(a, b, alpha=alpha),
    lambda a, b, alpha: a - alpha * b,
    lambda d: ([d.real(s) for s in d.broadcastable(2)], {"alpha": d.choice((0.5, -2))}),
)
for _name, _reference in [("remainder", np.remainder), ("fmod", np.fmod)]:
    row(
        _name,
        lambda t, x, name=_name: getattr(t, name)(x, 1.0),
        lambda x, reference=_reference: reference(x, 1.0),
        lambda d: [d.fraction(d.shape())],
    )
row(
    "where",
    lambda t, condition, a, b: t.where(condition, a, b),
    np.where,
    lambda d: [draw(d, s) for draw, s in zip((Draw.mask, Draw.real, Draw.real), d.broadcastable(3), strict=True)],
)
row(
    "where number",
    lambda t, condition, a: t.where(condition, a, 2.0),
    lambda condition, a: np.where(condition, a, 2.0),
    lambda d: [draw(d, s) for draw, s in zip((Draw.mask, Draw.real), d.broadcastable(2), strict=True)],
)


def _masked(d: Draw) -> list[Array]:
    shape = d.shape()
    return [d.real(shape), d.mask(tuple(d.choice((n, 1)) for n in shape))]


row(
    "masked_fill",
    lambda t, x, mask: x.masked_fill(mask, -3.5),
    lambda x, mask: np.where(mask, -3.5, x),
    _masked,
)
for _low, _high in [(-0.9, 0.7), (None, 0.7), (-0.9, None)]:
    row(
        f"clamp {_low} {_high}",
        lambda t, x, low=_low, high=_high: t.clamp(x, low, high),
        lambda x, low=_low, high=_high: np.clip(x, low, high),
        lambda d: [d.grid(d.shape())],
    )

# Reductions.
for _name, _reference in [("sum", np.sum), ("mean", np.mean)]:

    def _reduced(d: Draw, least: int = 0 if _name == "sum" else 1) -> Any:
        shape = d.shape(side=least)
        return [d.real(shape)], {"dim": d.dims(shape), "keepdim": d.choice((False, True))}

    row(
        _name,
        lambda t, x, dim, keepdim, name=_name: getattr(t, name)(x, dim=dim, keepdim=keepdim),
        lambda x, dim, keepdim, reference=_reference: reference(x, axis=dim, keepdims=keepdim),
        _reduced,
    )


def _one_dim(d: Draw, domain: Callable[..., Array] = Draw.distinct, least: int = 1) -> Any:
    shape = d.shape(1, side=least)
    return [domain(d, shape)], {"dim": d.dim(shape), "keepdim": d.choice((False, True))}


row(
    "prod",
    lambda t, x, dim, keepdim: t.prod(x, dim, keepdim),
    lambda x, dim, keepdim: np.prod(x, axis=dim, keepdims=keepdim),
    lambda d: _one_dim(d, Draw.nonzero, 0),
)
for _name, _reference in [("max", np.max), ("min", np.min), ("amax", np.max), ("amin", np.min)]:
    row(
        _name + " dim",
        lambda t, x, dim, keepdim, name=_name: (
            getattr(t, name)(x, dim, keepdim) if name in ("amax", "amin") else getattr(t, name)(x, dim, keepdim)[0]
        ),
        lambda x, dim, keepdim, reference=_reference: reference(x, axis=dim, keepdims=keepdim),
        _one_dim,
    )
for _name, _reference in [("max", np.max), ("min", np.min)]:
    row(
        _name + " all",
        lambda t, x, name=_name: getattr(t, name)(x),
        _reference,
        lambda d: [d.distinct(d.shape(side=1))],
    )
    row(
        _name + " indices",
        lambda t, x, dim, keepdim, name=_name: getattr(t, name)(x, dim, keepdim)[1],
        lambda x, dim, keepdim, name=_name: getattr(np, "arg" + name)(x, axis=dim, keepdims=keepdim),
        _one_dim,
        derivatives=0,
    )
    row(
        "arg" + _name,
        lambda t, x, dim, keepdim, name=_name: getattr(t, "arg" + name)(x, dim, keepdim),
        lambda x, dim, keepdim, name=_name: getattr(np, "arg" + name)(x, axis=dim, keepdims=keepdim),
        _one_dim,
        derivatives=0,
    )
for _p in (1, 2, 3, math.inf):

    def _normed(d: Draw, least: int = 0 if _p in (1, 2) else 1) -> Any:
        shape = d.shape(1, side=least)
        return [d.distinct(shape)], {"dim": d.dim(shape), "keepdim": d.choice((False, True))}

    row(
        f"norm {_p}",
        lambda t, x, dim, keepdim, p=_p: t.norm(x, p, dim, keepdim),
        lambda x, dim, keepdim, p=_p: (
            np.abs(x).max(axis=dim, keepdims=keepdim)
            if p == math.inf
            else (np.abs(x) ** p).sum(axis=dim, keepdims=keepdim) ** (1 / p)
        ),
        _normed,
    )
row("norm all", lambda t, x: x.norm(), lambda x: np.sqrt((x * x).sum()), lambda d: [d.nonzero(d.shape(side=1))])
row(
    "cumsum",
    lambda t, x, dim: t.cumsum(x, dim),
    lambda x, dim: np.cumsum(x, axis=dim),
    lambda d: (lambda s: ([d.real(s)], {"dim": d.dim(s)}))(d.shape(1)),
)


# Linear algebra.
def _matmul(d: Draw) -> list[Array]:
    n, k, m = (d.integer(0, 3) for _ in range(3))
    kind = d.choice(("vv", "mv", "vm", "mm", "batch", "batch"))
    if kind == "batch":
        left, right = d.broadcastable(2)
        return [d.real((*left[:2], n, k)), d.real((*right[:2], k, m))] if left[2:] == right[2:] == () else _matmul(d)
    return [d.real((k,) if kind[0] == "v" else (n, k)), d.real((k,) if kind[1] == "v" else (k, m))]


def _sized(d: Draw, *shapes: str) -> list[Array]:
    """Arrays whose axes are letters: equal letters are equal lengths."""
    sizes: dict[str, int] = {}
    return [d.real(tuple(sizes.setdefault(c, d.integer(0, 3)) for c in shape)) for shape in shapes]


row("matmul", lambda t, a, b: t.matmul(a, b), np.matmul, _matmul)
row("matmul operator", lambda t, a, b: a @ b, np.matmul, _matmul)
row("mm", lambda t, a, b: t.mm(a, b), np.matmul, lambda d: _sized(d, "nk", "km"))
row("mm of transposes", lambda t, a, b: t.mm(a.t(), b.t()), lambda a, b: a.T @ b.T, lambda d: _sized(d, "kn", "mk"))
row("bmm", lambda t, a, b: t.bmm(a, b), np.matmul, lambda d: _sized(d, "bnk", "bkm"))
row(
    "addmm",
    lambda t, c, a, b, beta, alpha: t.addmm(c, a, b, beta=beta, alpha=alpha),
    lambda c, a, b, beta, alpha: beta * c + alpha * (a @ b),
    lambda d: (_sized(d, d.choice(("nm", "m")), "nk", "km"), {"beta": d.choice((1, 0.5)), "alpha": d.choice((1, -2))}),
)
for _bias in (True, False):
    row(
        f"linear bias={_bias}",
        lambda t, x, w, *b: t.nn.functional.linear(x, w, *b),
        lambda x, w, *b: x @ w.T + (b[0] if b else 0),
        lambda d, bias=_bias: _sized(d, d.choice(("i", "ni", "tni")), "oi", *["o"] * bias),
        composite=lambda t, x, w, *b: t.matmul(x, w.t()) + b[0] if b else t.matmul(x, w.t()),
    )


# Shape.
def _factored(d: Draw) -> Any:
    """A shape and another one of as many elements, with a -1 in it where that is unambiguous."""
    shape = d.shape(1)
    size = math.prod(shape)
    other = d.choice([(size,), (1, size), tuple(reversed(shape)), (*shape, 1), shape])
    if size and d.choice((True, False)):  # with no elements a -1 would be ambiguous
        axis = d.integer(0, len(other) - 1)
        other = (*other[:axis], -1, *other[axis + 1 :])
    return [d.real(shape)], {"shape": other}


def _two_dims(d: Draw) -> Any:
    shape = d.shape(1)
    return [d.real(shape)], {"dim0": d.dim(shape), "dim1": d.dim(shape)}


def _permuted(d: Draw) -> Any:
    shape = d.shape()
    return [d.real(shape)], {"dims": tuple(int(k) for k in d.random.permutation(len(shape)))}


def _expanded(d: Draw) -> Any:
    full = d.shape()
    small = tuple(d.choice((n, 1)) for n in full)
    return [d.real(small[d.integer(0, len(small)) :] if small else ())], {"shape": full}


def _squeezed(d: Draw) -> Any:
    shape = tuple(d.choice((1, n)) for n in d.shape(1))
    return [d.real(shape)], {"dim": d.dim(shape)}


def numpy_squeeze(x: Array, dim: int) -> Array:
    return np.squeeze(x, dim) if x.shape[dim] == 1 else x


def _several(d: Draw) -> Any:
    """Arrays that differ only along `dim`."""
    shape = d.shape(1)
    dim = d.dim(shape)
    lengths = [d.integer(0, 3) for _ in range(d.integer(1, 3))]
    axis = dim % len(shape)
    return [d.real((*shape[:axis], n, *shape[axis + 1 :])) for n in lengths], {"dim": dim}


def _stacked(d: Draw) -> Any:
    shape = d.shape()
    return [d.real(shape) for _ in range(d.integer(1, 3))], {"dim": d.integer(-len(shape) - 1, len(shape))}


def _cut(d: Draw) -> Any:
    shape = d.shape(1, side=1)
    return [d.real(shape)], {"size": d.integer(1, 3), "dim": d.dim(shape)}


def numpy_split(x: Array, size: int, dim: int) -> list[Array]:
    return np.split(x, range(size, x.shape[dim], size), axis=dim)


row("view", lambda t, x, shape: x.contiguous().view(shape), lambda x, shape: x.reshape(shape), _factored)
row("reshape", lambda t, x, shape: t.reshape(x, shape), lambda x, shape: x.reshape(shape), _factored)
row(
    "transpose",
    lambda t, x, dim0, dim1: t.transpose(x, dim0, dim1),
    lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1),
    _two_dims,
)
row("permute", lambda t, x, dims: x.permute(dims), lambda x, dims: np.transpose(x, dims), _permuted)
row("t", lambda t, x: x.t(), np.transpose, lambda d: [d.real(d.shape(0, 2))])
row("expand", lambda t, x, shape: x.expand(shape), np.broadcast_to, _expanded)
row(
    "expand -1",
    lambda t, x: x.expand(2, -1, 3),
    lambda x: np.broadcast_to(x, (2, *x.shape[:1], 3)),
    lambda d: [d.real((d.integer(0, 3), 1))],
)
row("squeeze", lambda t, x: t.squeeze(x), np.squeeze, lambda d: [d.real(tuple(d.choice((1, n)) for n in d.shape()))])
row("squeeze dim", lambda t, x, dim: t.squeeze(x, dim), numpy_squeeze, _squeezed)
row(
    "unsqueeze",
    lambda t, x, dim: t.unsqueeze(x, dim),
    lambda x, dim: np.expand_dims(x, dim),
    lambda d: (lambda s: ([d.real(s)], {"dim": d.integer(-len(s) - 1, len(s))}))(d.shape()),
)
row("flatten", lambda t, x: t.flatten(x), np.ravel, lambda d: [d.real(d.shape())])
row(
    "flatten from 1",
    lambda t, x: t.flatten(x, 1),
    lambda x: x.reshape(x.shape[0], math.prod(x.shape[1:])),
    lambda d: [d.real(d.shape(2, 3))],
)
row("cat", lambda t, *xs, dim: t.cat(xs, dim), lambda *xs, dim: np.concatenate(xs, dim), _several)
row("stack", lambda t, *xs, dim: t.stack(xs, dim), lambda *xs, dim: np.stack(xs, dim), _stacked)
row("split", lambda t, x, size, dim: t.split(x, size, dim), numpy_split, _cut)
row(
    "chunk",
    lambda t, x, size, dim: t.chunk(x, size, dim),
    lambda x, size, dim: numpy_split(x, -(-x.shape[dim] // size), dim),
    _cut,
)
row("unbind", lambda t, x, size, dim: t.unbind(x, dim), lambda x, size, dim: list(np.moveaxis(x, dim, 0)), _cut)
row(
    "contiguous",
    lambda t, x: x.transpose(0, -1).contiguous(),
    lambda x: np.swapaxes(x, 0, -1),
    lambda d: [d.real(d.shape(1))],
)


# Index.
def _gathered(d: Draw) -> Any:
    shape = d.shape(1, side=1)
    dim = d.dim(shape)
    index_shape = tuple(
        d.integer(0, 4) if axis == dim % len(shape) else d.integer(0, n) for axis, n in enumerate(shape)
    )
    return [d.real(shape), d.index_below(shape[dim], index_shape)], {"dim": dim}


def numpy_gather(x: Array, index: Array, dim: int) -> Array:
    cut = tuple(slice(None) if axis == dim % x.ndim else slice(n) for axis, n in enumerate(index.shape))
    return np.take_along_axis(x[cut], index, dim)


def _scattered(d: Draw) -> Any:
    (x, index), options = _gathered(d)
    return [x, index, d.real(index.shape)], options


def numpy_scatter_add(x: Array, index: Array, source: Array, dim: int) -> Array:
    result = x.copy()
    where = list(np.indices(index.shape))
    where[dim] = index
    np.add.at(result, tuple(where), source)
    return result


def _selected(d: Draw) -> Any:
    shape = d.shape(1, side=1)
    dim = d.dim(shape)
    return [d.real(shape), d.index_below(shape[dim], (d.integer(0, 4),))], {"dim": dim}


def _indexed(d: Draw) -> Any:
    shape = d.shape(1)
    return [d.real(shape)], {"index": d.index(shape)}


def _assigned(d: Draw) -> Any:
    """Values for distinct places: with a repeated index the order of assignment would be open."""
    shape = d.shape(1)
    index = tuple(slice(None) if isinstance(i, Array) and i.dtype != bool else i for i in d.index(shape))
    result = numpy_get(np.empty(shape), index).shape
    return [d.real(shape), d.real(d.choice((result, result[1:], ())))], {"index": index}


def as_index(t: Any, index: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(t.from_numpy(item.copy()) if isinstance(item, Array) else item for item in index)


def _set(t: Any, x: Any, value: Any, index: tuple[Any, ...]) -> Any:
    y = x.clone()
    y[as_index(t, index)] = value
    return y


def _accumulated(d: Draw) -> Any:
    n, k = d.integer(1, 3), d.integer(0, 3)
    return [d.real((n, k)), d.index_below(n, (d.integer(0, 4),))]


row("gather", lambda t, x, index, dim: t.gather(x, dim, index), numpy_gather, _gathered)
row("scatter_add", lambda t, x, index, source, dim: x.scatter_add(dim, index, source), numpy_scatter_add, _scattered)
row(
    "index_select",
    lambda t, x, index, dim: t.index_select(x, dim, index),
    lambda x, index, dim: np.take(x, index, dim),
    _selected,
)
row("getitem", lambda t, x, index: x[as_index(t, index)], numpy_get, _indexed)
row("getitem repeated rows", lambda t, x, index: x[index], lambda x, index: x[index], _accumulated)
row("setitem", _set, lambda x, value, index: numpy_set(x, index, value), _assigned)
row(
    "embedding",
    lambda t, weight, index: t.nn.functional.embedding(index, weight),
    lambda weight, index: weight[index],
    lambda d: (lambda n: [d.real((n, d.integer(1, 3))), d.index_below(n, d.shape(side=1))])(d.integer(1, 3)),
)

# Normalised exponentials and losses.
for _name, _reference in [("softmax", softmax), ("log_softmax", log_softmax)]:
    row(
        _name,
        lambda t, x, dim, name=_name: getattr(t.nn.functional, name)(x, dim=dim),
        _reference,
        lambda d: (lambda s: ([d.real(s)], {"dim": d.dim(s)}))(d.shape()),
        composite=lambda t, x, dim, name=_name: (
            t.exp(x) / t.exp(x).sum(dim, keepdim=True)
            if name == "softmax"
            else x - t.exp(x).sum(dim, keepdim=True).log()
        ),
    )


def _classified(d: Draw) -> Any:
    n, c = d.integer(1, 4), d.integer(1, 4)
    target = d.index_below(c, (n,))
    if n > 1 and d.choice((True, False)):
        target[0] = -100
    arrays = [d.real((n, c)), target]
    if d.choice((True, False)):
        arrays.append(d.positive((c,)))
    return arrays, {"reduction": d.choice(("mean", "sum", "none")), "label_smoothing": d.choice((0.0, 0.2))}


def numpy_cross_entropy(
    x: Array, target: Array, weight: Array | None = None, *, reduction: str, label_smoothing: float
) -> Array:
    w = np.ones(x.shape[1]) if weight is None else weight
    counted = target != -100
    safe = np.where(counted, target, 0)
    logp = log_softmax(x, 1)
    picked = -w[safe] * logp[np.arange(len(x)), safe] * counted
    smooth = -(logp * w).sum(1) * counted / x.shape[1]
    rows = (1 - label_smoothing) * picked + label_smoothing * smooth
    return {"none": rows, "sum": rows.sum(), "mean": rows.sum() / (w[safe] * counted).sum()}[reduction]


def composite_cross_entropy(
    t: Any, x: Any, target: Any, weight: Any = None, *, reduction: str, label_smoothing: float
) -> Any:
    w = t.ones(x.shape[1], dtype=x.dtype) if weight is None else weight
    counted = (target != -100).to(x.dtype)
    safe = target.masked_fill(target == -100, 0)
    logp = x - t.exp(x).sum(1, keepdim=True).log()
    picked = -w[safe] * logp.gather(1, safe.unsqueeze(1)).squeeze(1) * counted
    smooth = -(logp * w).sum(1) * counted / x.shape[1]
    rows = (1 - label_smoothing) * picked + label_smoothing * smooth
    return rows if reduction == "none" else rows.sum() if reduction == "sum" else rows.sum() / (w[safe] * counted).sum()


row(
    "cross_entropy",
    lambda t, x, target, weight=None, **options: t.nn.functional.cross_entropy(x, target, weight, **options),
    numpy_cross_entropy,
    _classified,
    composite=composite_cross_entropy,
    constants=(2,),
)
row(
    "nll_loss",
    lambda t, x, target, reduction: t.nn.functional.nll_loss(x, target, reduction=reduction),
    lambda x, target, reduction: (lambda v: {"none": v, "sum": v.sum(), "mean": v.mean()}[reduction])(
        -x[np.arange(len(x)), target]
    ),
    lambda d: (
        lambda n, c: ([d.real((n, c)), d.index_below(c, (n,))], {"reduction": d.choice(("mean", "sum", "none"))})
    )(d.integer(1, 3), d.integer(1, 3)),
)
row(
    "mse_loss",
    lambda t, x, y, reduction: t.nn.functional.mse_loss(x, y, reduction=reduction),
    lambda x, y, reduction: {"none": (x - y) ** 2, "sum": ((x - y) ** 2).sum(), "mean": ((x - y) ** 2).mean()}[
        reduction
    ],
    lambda d: (lambda s: ([d.real(s), d.real(s)], {"reduction": d.choice(("mean", "sum", "none"))}))(d.shape(side=1)),
)


# Recurrence: the initial states are never zero, T = 1 is as likely as more.
def per_direction(parameters: Sequence[Any], directions: int, bias: bool) -> list[list[Any]]:
    """w_ih, w_hh, b_ih, b_hh and w_hr of each direction, None where there is none."""
    count = len(parameters) // directions
    groups = [list(parameters[k * count : (k + 1) * count]) for k in range(directions)]
    return [[*g[:2], *(g[2:4] if bias else [None, None]), g[-1] if count % 2 else None] for g in groups]


def numpy_layer(
    x: Array, h_0: Array, *rest: Array, cell: str, directions: int = 1, bias: bool = True, batch_sizes: Any = None
) -> recurrent.Layer:
    lstm = cell == "lstm"
    weights = tuple(recurrent.Weights(*w) for w in per_direction(rest[lstm:], directions, bias))
    c_0, batch = rest[0] if lstm else None, h_0.shape[1]
    return recurrent.Layer(cell, x.reshape(-1, x.shape[-1]), h_0, c_0, weights, batch, batch_sizes)


def numpy_recurrent(x: Array, *rest: Array, **options: Any) -> list[Array]:
    y, *last = recurrent.forward(numpy_layer(x, *rest, **options))[:3]
    return [y.reshape(*x.shape[:-1], -1), *[state for state in last if state is not None]]


def composite_step(t: Any, cell: str, x: Any, h: Any, c: Any, weights: Sequence[Any]) -> tuple[Any, Any]:
    w_ih, w_hh, b_ih, b_hh, w_hr = weights
    z_x, z_h = t.matmul(x, w_ih.t()), t.matmul(h, w_hh.t())
    if b_ih is not None:
        z_x, z_h = z_x + b_ih, z_h + b_hh
    if cell == "gru":
        (r_x, u_x, n_x), (r_h, u_h, n_h) = z_x.chunk(3, 1), z_h.chunk(3, 1)
        update = (u_x + u_h).sigmoid()
        return (1 - update) * (n_x + (r_x + r_h).sigmoid() * n_h).tanh() + update * h, None
    if cell == "lstm":
        i, f, g, o = (z_x + z_h).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (h if w_hr is None else t.matmul(h, w_hr.t())), c
    return ((z_x + z_h).tanh() if cell == "rnn_tanh" else (z_x + z_h).relu()), None


def composite_recurrent(
    t: Any, x: Any, h_0: Any, *rest: Any, cell: str, directions: int = 1, bias: bool = True, batch_sizes: Any = None
) -> Any:
    """One sequence after the other, each by itself."""
    lstm, batch, features = cell == "lstm", h_0.shape[1], x.shape[-1]
    sizes = [batch] * x.shape[0] if batch_sizes is None else batch_sizes.tolist()
    starts = [sum(sizes[:step]) for step in range(len(sizes))]
    flat, y, h_n, c_n = x.reshape(-1, features), [], [], []
    for d, weights in enumerate(per_direction(rest[lstm:], directions, bias)):
        rows, last_h, last_c = {}, [], []
        for b in range(batch):
            h, c = h_0[d, b : b + 1], rest[0][d, b : b + 1] if lstm else None
            places = [start + b for start, size in zip(starts, sizes, strict=True) if b < size]
            for place in reversed(places) if d else places:
                h, c = composite_step(t, cell, flat[place : place + 1], h, c, weights)
                rows[place] = h
            last_h.append(h)
            last_c.append(c)
        y.append(t.cat([rows[place] for place in sorted(rows)]))
        h_n.append(t.cat(last_h))
        c_n.append(t.cat(last_c) if lstm else None)
    output = t.cat(y, 1)
    output = output if batch_sizes is not None else output.view(x.shape[0], batch, -1)
    return output, t.stack(h_n), *([t.stack(c_n)] if lstm else [])


def fused_recurrent(
    t: Any, x: Any, h_0: Any, *rest: Any, cell: str, directions: int = 1, bias: bool = True, batch_sizes: Any = None
) -> Any:
    """What nn.RNN, nn.LSTM and nn.GRU call, with the caller's own leaves as parameters."""
    lstm = cell == "lstm"
    sizes = None if batch_sizes is None else t.from_numpy(batch_sizes)
    if t.__name__ == "torch":
        state, options = (h_0, rest[0]) if lstm else h_0, (bias, 1, 0.0, False, directions == 2)
        if sizes is None:
            return getattr(t, cell)(x, state, list(rest[lstm:]), *options, False)
        return getattr(t, cell)(x, sizes, state, list(rest[lstm:]), *options)
    weights = [w for group in per_direction(rest[lstm:], directions, bias) for w in group]
    return t._core.recurrent_layer(cell, x, h_0, rest[0] if lstm else None, weights, sizes)


def _recurrent(d: Draw, cell: str) -> Any:
    """Pre-activations of a relu stay at least 0.02 from the kink."""
    steps, batch, inputs = d.choice((1, 1, 2, 3)), d.integer(1, 3), d.integer(1, 3)
    projection, directions, bias = d.choice((0, 1)) if cell == "lstm" else 0, d.integer(1, 2), d.choice((True, False))
    hidden = d.integer(2, 3) if projection else d.integer(1, 3)
    state, rows, batch_sizes = projection or hidden, recurrent.GATES[cell] * hidden, None
    x_shape = (steps, batch, inputs)
    if d.choice((True, False)):
        batch_sizes = recurrent.packed_sizes(sorted((d.integer(1, steps) for _ in range(batch)), reverse=True))
        x_shape = (int(batch_sizes.sum()), inputs)
    weights = [(rows, inputs), (rows, state), *[(rows,)] * 2 * bias, *[(state, hidden)] * bool(projection)]
    states = [(directions, batch, state), *[(directions, batch, hidden)] * (cell == "lstm")]
    options = {"directions": directions, "bias": bias, "batch_sizes": batch_sizes}
    while True:
        arrays = [d.exact(0.7 * d.real(shape)) for shape in [x_shape, *states, *weights * directions]]
        if cell != "rnn_relu" or recurrent.away_from_kinks(numpy_layer(*arrays, cell=cell, **options)):
            return arrays, options


for _cell in recurrent.CELLS:
    row(
        _cell,
        functools.partial(fused_recurrent, cell=_cell),
        functools.partial(numpy_recurrent, cell=_cell),
        lambda d, cell=_cell: _recurrent(d, cell),
        composite=functools.partial(composite_recurrent, cell=_cell),
    )
