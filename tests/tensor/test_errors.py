"""Bad input gets a Python exception that names the op, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fastgrad as fg

F = fg.nn.functional
SHAPES: list[tuple[str, Callable[[], Any], type[Exception] | tuple[type[Exception], ...], str]] = [
    ("add", lambda: fg.ones(2, 3) + fg.ones(2), RuntimeError, "add"),
    ("mul", lambda: fg.ones(2, 3) * fg.ones(4, 3), RuntimeError, "mul"),
    ("where", lambda: fg.where(fg.ones(2) > 0, fg.ones(3), fg.ones(2)), RuntimeError, "where"),
    ("matmul", lambda: fg.matmul(fg.ones(2, 3), fg.ones(2, 3)), RuntimeError, "matmul|mm"),
    ("matmul of a number", lambda: fg.matmul(fg.ones(()), fg.ones(2)), RuntimeError, "matmul"),
    ("matmul batches", lambda: fg.matmul(fg.ones(2, 3, 4), fg.ones(3, 4, 5)), RuntimeError, "matmul|size"),
    ("mm", lambda: fg.mm(fg.ones(2, 3, 4), fg.ones(4, 5)), RuntimeError, "mm"),
    ("mm inner", lambda: fg.mm(fg.ones(2, 3), fg.ones(2, 3)), RuntimeError, "mm"),
    ("bmm", lambda: fg.bmm(fg.ones(2, 3, 4), fg.ones(3, 4, 5)), RuntimeError, "bmm"),
    ("addmm", lambda: fg.addmm(fg.ones(3), fg.ones(2, 3), fg.ones(3, 4)), RuntimeError, "addmm|expand"),
    ("dtypes of mm", lambda: fg.mm(fg.ones(2, 2), fg.ones(2, 2, dtype=fg.float64)), RuntimeError, "dtype"),
    ("linear", lambda: F.linear(fg.ones(8, 3), fg.ones(5, 4)), RuntimeError, "linear"),
    ("linear bias", lambda: F.linear(fg.ones(8, 4), fg.ones(5, 4), fg.ones(4)), RuntimeError, "linear"),
    (
        "cross_entropy",
        lambda: F.cross_entropy(fg.ones(3, 4), fg.tensor([0, 1])),
        (ValueError, RuntimeError),
        "cross_entropy",
    ),
    (
        "cross_entropy weight",
        lambda: F.cross_entropy(fg.ones(2, 4), fg.tensor([0, 1]), fg.ones(3)),
        (ValueError, RuntimeError),
        "cross_entropy",
    ),
    (
        "cross_entropy reduction",
        lambda: F.cross_entropy(fg.ones(2, 4), fg.tensor([0, 1]), reduction="avg"),
        ValueError,
        "avg",
    ),
    (
        "cross_entropy smoothing",
        lambda: F.cross_entropy(fg.ones(2, 4), fg.tensor([0, 1]), label_smoothing=1.5),
        RuntimeError,
        "label_smoothing",
    ),
    ("mse_loss", lambda: F.mse_loss(fg.ones(2, 3), fg.ones(4)), RuntimeError, ""),
    ("embedding", lambda: F.embedding(fg.tensor([0.5]), fg.ones(2, 2)), (RuntimeError, TypeError), "embedding"),
    ("masked_fill", lambda: fg.ones(2).masked_fill(fg.ones(2), 0.0), RuntimeError, "mask"),
    ("clamp", lambda: fg.ones(2).clamp(), (RuntimeError, ValueError, TypeError), "clamp"),
    ("pow", lambda: fg.ones(2) ** "a", TypeError, ""),
    ("add a string", lambda: fg.ones(2) + "a", TypeError, ""),
    ("add None", lambda: fg.ones(2) + None, TypeError, ""),
    ("mul with a string", lambda: fg.mul(fg.ones(2), "a"), TypeError, r"\[mul\].*got str"),
    ("eq with a string", lambda: fg.eq(fg.ones(2), "a"), TypeError, r"\[eq\].*got str"),
    ("add of two numbers", lambda: fg.add(1, 2), TypeError, r"\[add\].*got int"),
    ("pow of two numbers", lambda: fg.pow(2, 3), TypeError, r"\[pow\].*got int"),
    ("remainder of two numbers", lambda: fg.remainder(1.0, 2), TypeError, r"\[remainder\].*got float"),
    ("bitwise_and of two numbers", lambda: fg.bitwise_and(1, 2), TypeError, r"\[bitwise_and\].*got int"),
    ("div by a string", lambda: fg.div(fg.ones(2), "a", rounding_mode="trunc"), TypeError, r"\[div\].*got str"),
    ("exp of a list", lambda: fg.exp([1.0]), TypeError, "exp"),
    ("relu of a number", lambda: fg.relu(1.0), TypeError, "Tensor"),
    ("matmul with a list", lambda: fg.ones(2) @ [1, 2], TypeError, ""),
    ("cat of numbers", lambda: fg.cat([1.0, 2.0]), TypeError, "Tensor"),
    ("softmax dim", lambda: F.softmax(fg.ones(2, 3), dim=2), IndexError, "-2, 1"),
    ("sum dim", lambda: fg.ones(2, 3).sum(-3), IndexError, "-2, 1"),
    ("norm of integers", lambda: fg.tensor([1, 2]).norm(), RuntimeError, "norm"),
    ("softmax of integers", lambda: fg.tensor([1, 2]).softmax(0), RuntimeError, "softmax"),
    ("view of a wrong size", lambda: fg.ones(6).view(4), RuntimeError, "view|shape"),
    ("unknown attribute", lambda: fg.ones(1).no_such_thing, AttributeError, "no_such_thing"),
    ("unknown function", lambda: fg.no_such_thing, AttributeError, "no_such_thing"),
    ("unknown device", lambda: fg.ones(1, device="toaster"), RuntimeError, "toaster"),
    ("wrong keyword", lambda: fg.ones(2).sum(axes=1), TypeError, "axes"),
    ("float size", lambda: fg.zeros(2.5), TypeError, ""),
    ("dtype of another kind", lambda: fg.zeros(2, dtype="float"), TypeError, "dtype"),
    ("too few arguments", lambda: fg.where(), TypeError, ""),
    ("negative seed is fine, a string is not", lambda: fg.manual_seed("a"), (TypeError, ValueError, RuntimeError), ""),
]


@pytest.mark.parametrize(("name", "call", "error", "text"), SHAPES, ids=[s[0] for s in SHAPES])
def test_error(name: str, call: Callable[[], Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text or None) as caught:
        call()
    assert str(caught.value)


SIZES: list[Callable[[], Any]] = [
    lambda: fg.randn(10**12),
    lambda: fg.zeros(10**9, 10**9),
    lambda: fg.zeros(2**62, 4),
    lambda: fg.zeros(2**32, 2**32),
    lambda: fg.ones(2**63),
    lambda: fg.empty(2**62 - 1),
    lambda: fg.arange(10**13),
    lambda: fg.eye(10**7),
    lambda: fg.full((10**6, 10**6, 10**6), 1.0),
    lambda: fg.zeros(-1),
    lambda: fg.zeros(2, -3),
    lambda: fg.randn(-(2**62)),
    lambda: fg.ones(1).repeat(10**12),
    lambda: fg.ones(1).expand(10**14).contiguous(),
    lambda: fg.ones(1).expand(-5),
    lambda: fg.zeros(0, 2**62, 2**62).sum(0),
    lambda: fg.randperm(10**13),
    lambda: fg.zeros(10**7, 1) + fg.zeros(1, 10**7),
]


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_huge_and_negative_sizes(number: int) -> None:
    with pytest.raises((RuntimeError, MemoryError, ValueError, OverflowError, TypeError)) as caught:
        SIZES[number]()
    assert str(caught.value)


def test_nothing_is_written_by_a_call_that_fails() -> None:
    x = fg.arange(6.0).view(2, 3)
    before, version = x.tolist(), x._version
    for call in (
        lambda: x.add_(fg.ones(2)),
        lambda: x.copy_(fg.ones(4)),
        lambda: x.scatter_add_(1, fg.tensor([[0, 9]]), fg.ones(1, 2)),
        lambda: x.__setitem__(([0, 1], [0, 3]), 9.0),
        lambda: x.masked_fill_(fg.ones(2, 3), 1.0),
        lambda: x.uniform_(1.0, 0.0),
    ):
        with pytest.raises((RuntimeError, IndexError)):
            call()
    assert x.tolist() == before and x._version == version


def test_tensors_cannot_be_made_around_the_constructor() -> None:
    for kind in {type(fg.ones(1)), fg.Size}:
        made = kind.__new__(kind)
        assert repr(made) is not None
