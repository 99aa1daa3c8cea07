"""Type promotion: PyTorch's rules written out.

Kinds are ordered bool < integer < float. Among operands with axes the wider dtype wins; a 0-d tensor or a Python number
decides only where its kind is above theirs, a number then with the default dtype of its kind.
(PyTorch, "Tensor attributes", section torch.dtype.)
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import pytest

import fastgrad as fg

NAMES = ("bool", "uint8", "int32", "int64", "float32", "float64")
TABLE = {
    # with   bool       uint8      int32      int64      float32    float64
    "bool": ("bool", "uint8", "int32", "int64", "float32", "float64"),
    "uint8": ("uint8", "uint8", "int32", "int64", "float32", "float64"),
    "int32": ("int32", "int32", "int32", "int64", "float32", "float64"),
    "int64": ("int64", "int64", "int64", "int64", "float32", "float64"),
    "float32": ("float32", "float32", "float32", "float32", "float32", "float64"),
    "float64": ("float64", "float64", "float64", "float64", "float64", "float64"),
}
KIND = {"bool": 0, "uint8": 1, "int32": 1, "int64": 1, "float32": 2, "float64": 2}
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "mul": operator.mul,
    "sub": operator.sub,
    "div": operator.truediv,
    "pow": operator.pow,
    "floordiv": operator.floordiv,
    "remainder": operator.mod,
    "lt": operator.lt,
    "eq": operator.eq,
    "and": operator.and_,
    "where": lambda a, b: module_of(a, b).where(module_of(a, b).tensor([True]), a, b),
    "maximum": lambda a, b: module_of(a, b).maximum(a, b),
}


def module_of(*operands: Any) -> Any:
    tensor = next(o for o in operands if not isinstance(o, (bool, int, float)))
    return fg if isinstance(tensor, fg.Tensor) else pytest.importorskip("torch")


def name_of(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def wider(a: str, b: str) -> str:
    return TABLE[a][NAMES.index(b)]


def expected_with_zero_dim(a: str, zero_dim: str) -> str:
    return wider(a, zero_dim) if KIND[zero_dim] > KIND[a] else a


@pytest.mark.parametrize("a", NAMES)
@pytest.mark.parametrize("b", NAMES)
class TestTensors:
    def test_two_with_axes(self, a: str, b: str) -> None:
        x, y = fg.ones(2, dtype=getattr(fg, a)), fg.ones(2, dtype=getattr(fg, b))
        assert name_of((x * y).dtype) == wider(a, b)
        assert name_of(fg.promote_types(x.dtype, y.dtype)) == wider(a, b)
        assert name_of(fg.result_type(x, y)) == wider(a, b)
        assert (x == y).dtype == fg.bool
        assert name_of((x / y).dtype) == (wider(a, b) if KIND[wider(a, b)] == 2 else "float32")

    def test_one_without_axes(self, a: str, b: str) -> None:
        x, y = fg.ones(2, dtype=getattr(fg, a)), fg.ones((), dtype=getattr(fg, b))
        assert name_of((x * y).dtype) == name_of((y * x).dtype) == expected_with_zero_dim(a, b)

    def test_cat_and_stack(self, a: str, b: str) -> None:
        x, y = fg.ones(2, dtype=getattr(fg, a)), fg.ones(2, dtype=getattr(fg, b))
        assert name_of(fg.cat([x, y]).dtype) == wider(a, b)

    def test_conversion(self, a: str, b: str) -> None:
        x = fg.tensor([0, 1, 3]).to(getattr(fg, a)).to(getattr(fg, b))
        assert name_of(x.dtype) == b
        assert x.tolist() == ([False, True, True] if b == "bool" else [0, 1, 1] if a == "bool" else [0, 1, 3])

    def test_in_place_keeps_the_dtype_or_refuses(self, a: str, b: str) -> None:
        x, y = fg.ones(2, dtype=getattr(fg, a)), fg.ones(2, dtype=getattr(fg, b))
        if KIND[b] > KIND[a]:
            with pytest.raises(RuntimeError, match="can't be cast"):
                x.mul_(y)
        else:
            assert name_of(x.mul_(y).dtype) == a


@pytest.mark.parametrize("a", NAMES)
@pytest.mark.parametrize(("number", "kind", "default"), [(True, 0, "bool"), (2, 1, "int64"), (2.5, 2, "float32")])
def test_python_numbers(a: str, number: Any, kind: int, default: str) -> None:
    for shape in ((2,), ()):
        x = fg.ones(shape, dtype=getattr(fg, a))
        expected = default if kind > KIND[a] else a
        assert name_of((x * number).dtype) == name_of((number * x).dtype) == expected


@pytest.mark.parametrize("a", NAMES)
def test_functions_of_one_tensor(a: str) -> None:
    x = fg.ones(2, dtype=getattr(fg, a))
    real = a if KIND[a] == 2 else "float32"
    for f in ("exp", "log", "sqrt", "tanh", "sigmoid", "sin", "reciprocal"):
        assert name_of(getattr(x, f)().dtype) == real, f
    assert name_of(x.sum().dtype) == (a if KIND[a] == 2 else "int64")
    assert name_of(x.prod().dtype) == (a if KIND[a] == 2 else "int64")
    assert name_of(x.max().dtype) == a
    assert a == "bool" or x.argmax().dtype == fg.int64
    assert x.any().dtype == fg.bool or a == "uint8"
    if KIND[a] < 2:
        with pytest.raises(RuntimeError, match="mean"):
            x.mean()
    assert name_of(x.sum(dtype=fg.float64).dtype) == "float64"


def test_default_dtype() -> None:
    assert fg.get_default_dtype() == fg.float32
    try:
        fg.set_default_dtype(fg.float64)
        assert fg.tensor(1.0).dtype == fg.ones(2).dtype == (fg.tensor([1]) * 0.5).dtype == fg.float64
    finally:
        fg.set_default_dtype(fg.float32)


@pytest.mark.torch
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_pair_as_torch(name: str) -> None:
    """Value, dtype and refusal for tensors of 1 axis, of none, and Python numbers."""
    torch = pytest.importorskip("torch")
    operation = OPERATIONS[name]

    def operands(t: Any) -> list[Any]:
        made = [t.tensor(v).to(getattr(t, n)) for n in NAMES for v in ([1, 0, 3], 2)]
        return [*made, True, 2, 2.5]

    def outcome(a: Any, b: Any) -> Any:
        try:
            result = operation(a, b)
        except (RuntimeError, TypeError, NotImplementedError, ZeroDivisionError):
            return "refused"
        return name_of(result.dtype), [f"{v:.6g}" for v in result.to(module_of(result).float64).flatten().tolist()]

    ours, theirs = operands(fg), operands(torch)
    differ = []
    for (k, a), (n, b) in itertools.product(enumerate(ours), enumerate(ours)):
        if isinstance(a, (bool, int, float)) and isinstance(b, (bool, int, float)):
            continue
        expected = outcome(theirs[k], theirs[n])
        if outcome(a, b) != expected:
            differ.append((theirs[k], theirs[n], outcome(a, b), expected))
    assert not differ
