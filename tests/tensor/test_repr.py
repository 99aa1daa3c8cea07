"""repr: the strings PyTorch 2.13 prints, recorded; only the module's name differs."""

from __future__ import annotations

import math
from typing import Any

import pytest

import fastgrad as fg

RECORDED: list[tuple[str, str]] = [
    ("t.tensor(1.0)", "tensor(1.)"),
    ("t.tensor(3)", "tensor(3)"),
    ("t.tensor(True)", "tensor(True)"),
    ("t.tensor(2.5, dtype=t.float64)", "tensor(2.5000, dtype=torch.float64)"),
    ("t.tensor([])", "tensor([])"),
    ("t.tensor([], dtype=t.int64)", "tensor([], dtype=torch.int64)"),
    ("t.zeros(0, 3)", "tensor([], size=(0, 3))"),
    ("t.zeros(2, 0)", "tensor([], size=(2, 0))"),
    ("t.tensor([1.0, 2.0, 3.0])", "tensor([1., 2., 3.])"),
    ("t.tensor([1.5, -2.25, 3.0])", "tensor([ 1.5000, -2.2500,  3.0000])"),
    ("t.tensor([1, 20, -300])", "tensor([   1,   20, -300])"),
    ("t.tensor([True, False])", "tensor([ True, False])"),
    ("t.tensor([1, 2], dtype=t.int32)", "tensor([1, 2], dtype=torch.int32)"),
    ("t.tensor([1, 2], dtype=t.uint8)", "tensor([1, 2], dtype=torch.uint8)"),
    ("t.tensor([1.0, 2.0], dtype=t.float64)", "tensor([1., 2.], dtype=torch.float64)"),
    ("t.tensor([0.1, 1e-5])", "tensor([1.0000e-01, 1.0000e-05])"),
    ("t.tensor([1e10, 1.0])", "tensor([1.0000e+10, 1.0000e+00])"),
    ("t.tensor([1e5, 123456.0])", "tensor([100000., 123456.])"),
    ("t.tensor([1e-3, 1000.0])", "tensor([1.0000e-03, 1.0000e+03])"),
    ("t.tensor([12345678.0, 1.0])", "tensor([1.2346e+07, 1.0000e+00])"),
    ('t.tensor([float("nan"), float("inf"), -float("inf"), 1.0])', "tensor([nan, inf, -inf, 1.])"),
    ('t.tensor([float("nan"), 2.5])', "tensor([   nan, 2.5000])"),
    ('t.tensor([float("inf")])', "tensor([inf])"),
    ("t.tensor([-0.0, 0.0])", "tensor([-0., 0.])"),
    (
        "t.tensor([[1.0, 2.0], [3.0, 4.0]])",
        """\
tensor([[1., 2.],
        [3., 4.]])""",
    ),
    (
        "t.tensor([[1, 2], [3, 4]])",
        """\
tensor([[1, 2],
        [3, 4]])""",
    ),
    (
        "t.tensor([[0.5, -100.25], [3.0, 4.125]])",
        """\
tensor([[   0.5000, -100.2500],
        [   3.0000,    4.1250]])""",
    ),
    (
        "t.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])",
        """\
tensor([[[1., 2.]],

        [[3., 4.]]])""",
    ),
    (
        "t.arange(24).view(2, 3, 4)",
        """\
tensor([[[ 0,  1,  2,  3],
         [ 4,  5,  6,  7],
         [ 8,  9, 10, 11]],

        [[12, 13, 14, 15],
         [16, 17, 18, 19],
         [20, 21, 22, 23]]])""",
    ),
    (
        "t.arange(16).view(2, 2, 2, 2)",
        """\
tensor([[[[ 0,  1],
          [ 2,  3]],

         [[ 4,  5],
          [ 6,  7]]],


        [[[ 8,  9],
          [10, 11]],

         [[12, 13],
          [14, 15]]]])""",
    ),
    (
        "t.arange(40)",
        """\
tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,
        18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35,
        36, 37, 38, 39])""",
    ),
    (
        "t.arange(40.0) / 3",
        """\
tensor([ 0.0000,  0.3333,  0.6667,  1.0000,  1.3333,  1.6667,  2.0000,  2.3333,
         2.6667,  3.0000,  3.3333,  3.6667,  4.0000,  4.3333,  4.6667,  5.0000,
         5.3333,  5.6667,  6.0000,  6.3333,  6.6667,  7.0000,  7.3333,  7.6667,
         8.0000,  8.3333,  8.6667,  9.0000,  9.3333,  9.6667, 10.0000, 10.3333,
        10.6667, 11.0000, 11.3333, 11.6667, 12.0000, 12.3333, 12.6667, 13.0000])""",
    ),
    ("t.arange(1001)", "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (
        "t.zeros(30, 40)",
        """\
tensor([[0., 0., 0.,  ..., 0., 0., 0.],
        [0., 0., 0.,  ..., 0., 0., 0.],
        [0., 0., 0.,  ..., 0., 0., 0.],
        ...,
        [0., 0., 0.,  ..., 0., 0., 0.],
        [0., 0., 0.,  ..., 0., 0., 0.],
        [0., 0., 0.,  ..., 0., 0., 0.]])""",
    ),
    (
        "t.arange(2000).view(40, 50)",
        """\
tensor([[   0,    1,    2,  ...,   47,   48,   49],
        [  50,   51,   52,  ...,   97,   98,   99],
        [ 100,  101,  102,  ...,  147,  148,  149],
        ...,
        [1850, 1851, 1852,  ..., 1897, 1898, 1899],
        [1900, 1901, 1902,  ..., 1947, 1948, 1949],
        [1950, 1951, 1952,  ..., 1997, 1998, 1999]])""",
    ),
    (
        "t.arange(12.0).view(3, 4).t()",
        """\
tensor([[ 0.,  4.,  8.],
        [ 1.,  5.,  9.],
        [ 2.,  6., 10.],
        [ 3.,  7., 11.]])""",
    ),
    ("t.arange(10)[::3]", "tensor([0, 3, 6, 9])"),
    ("t.ones(2, requires_grad=True)", "tensor([1., 1.], requires_grad=True)"),
    ("t.ones((), requires_grad=True)", "tensor(1., requires_grad=True)"),
    ("t.ones(2, requires_grad=True) * 2", "tensor([2., 2.], grad_fn=<MulBackward0>)"),
    ("t.ones(2, requires_grad=True).exp()", "tensor([2.7183, 2.7183], grad_fn=<ExpBackward0>)"),
    ("t.ones(2, requires_grad=True).sum()", "tensor(2., grad_fn=<SumBackward0>)"),
    (
        "t.ones(2, 2, requires_grad=True).t()",
        """\
tensor([[1., 1.],
        [1., 1.]], grad_fn=<TBackward0>)""",
    ),
    ("t.ones(2, 2, requires_grad=True)[0]", "tensor([1., 1.], grad_fn=<SelectBackward0>)"),
    ("t.ones(1, dtype=t.float64, requires_grad=True)", "tensor([1.], dtype=torch.float64, requires_grad=True)"),
    ("t.tensor([1e-8, 1.0, 1e8])", "tensor([1.0000e-08, 1.0000e+00, 1.0000e+08])"),
    ("t.tensor([3.14159265, 2.71828182])", "tensor([3.1416, 2.7183])"),
    ("t.tensor([0.00001])", "tensor([1.0000e-05])"),
    ("t.tensor([99999999])", "tensor([99999999])"),
    ('t.tensor(float("nan"))', "tensor(nan)"),
    ("t.tensor(1e-10)", "tensor(1.0000e-10)"),
    ("t.tensor(123456789.0)", "tensor(1.2346e+08)"),
    (
        "t.tensor([[True, False], [False, True]])",
        """\
tensor([[ True, False],
        [False,  True]])""",
    ),
    ("t.float32", "torch.float32"),
    ("t.int64", "torch.int64"),
    ("t.bool", "torch.bool"),
    ("t.ones(2, 3).shape", "torch.Size([2, 3])"),
    ("t.Size([2, 3])", "torch.Size([2, 3])"),
    ('t.device("cpu")', "device(type='cpu')"),
    ("t.finfo(t.float32).eps", "1.1920928955078125e-07"),
]


def shown(t: Any, expression: str) -> str:
    return repr(eval(expression, {"t": t, "float": float}))


@pytest.mark.parametrize(("expression", "expected"), RECORDED, ids=[recorded[0] for recorded in RECORDED])
def test_repr(expression: str, expected: str) -> None:
    assert shown(fg, expression) == expected.replace("torch.", "fastgrad.")


@pytest.mark.torch
@pytest.mark.parametrize(("expression", "expected"), RECORDED, ids=[recorded[0] for recorded in RECORDED])
def test_the_record_is_torchs(expression: str, expected: str) -> None:
    assert shown(pytest.importorskip("torch"), expression) == expected


def test_str_and_format() -> None:
    t = fg.tensor([1.0, 2.5])
    assert str(t) == repr(t) == f"{t}"
    assert f"{fg.tensor(math.pi):.3f}" == "3.142"
    assert f"{fg.tensor(7):>4d}" == "   7"
