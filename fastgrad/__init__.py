"""PyTorch's way of writing models in a package that needs NumPy alone. `import fastgrad as torch` is the manual."""

from math import e, inf, nan, pi

from fastgrad import _core
from fastgrad._core import *  # noqa: F403

__version__ = "0.1.0"

from fastgrad import autograd, cuda, nn, optim, utils
from fastgrad._tensor_format import set_printoptions
from fastgrad._types import (
    BoolTensor,
    ByteTensor,
    DoubleTensor,
    FloatTensor,
    IntTensor,
    LongTensor,
    finfo,
    iinfo,
)
from fastgrad.io import load, save

concat = _core.cat
newaxis = None

__all__ = [
    "BoolTensor", "ByteTensor", "DoubleTensor", "FloatTensor", "IntTensor", "LongTensor", "autograd", "concat", "cuda",
    "e", "finfo", "iinfo", "inf", "load", "nan", "newaxis", "nn", "optim", "pi", "save", "set_printoptions", "utils",
    *_core.__all__,
]  # fmt: skip
