"""Constructors by type name, and the limits of the dtypes."""

from __future__ import annotations

from typing import Any

import numpy

from fastgrad import _core


class _TypedConstructor(type):
    """`FloatTensor(2, 3)` makes a Tensor of that dtype; `isinstance(t, FloatTensor)` asks for the dtype."""

    dtype: _core.dtype

    def __call__(cls, *args: Any) -> _core.Tensor:
        return _core.Tensor(*args, dtype=cls.dtype)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _core.Tensor) and instance.dtype is cls.dtype


class FloatTensor(metaclass=_TypedConstructor):
    """`FloatTensor(2, 3)` or `FloatTensor([1, 2])`: a float32 tensor of that shape, or of those values."""

    dtype = _core.float32


class DoubleTensor(metaclass=_TypedConstructor):
    """A float64 tensor of a shape or of values."""

    dtype = _core.float64


class LongTensor(metaclass=_TypedConstructor):
    """An int64 tensor of a shape or of values."""

    dtype = _core.int64


class IntTensor(metaclass=_TypedConstructor):
    """An int32 tensor of a shape or of values."""

    dtype = _core.int32


class ByteTensor(metaclass=_TypedConstructor):
    """A uint8 tensor of a shape or of values."""

    dtype = _core.uint8


class BoolTensor(metaclass=_TypedConstructor):
    """A bool tensor of a shape or of values."""

    dtype = _core.bool


class finfo:
    """The limits of a float dtype, as `torch.finfo`.

    >>> import fastgrad
    >>> fastgrad.finfo(fastgrad.float32).bits
    32
    """

    def __init__(self, type: _core.dtype | None = None) -> None:
        self._dtype = type or _core.get_default_dtype()
        if not self._dtype.is_floating_point:
            raise TypeError(f"[finfo] a floating point dtype is needed; got {self._dtype}")
        info = numpy.finfo(self._dtype.name)
        self.bits, self.dtype = int(info.bits), self._dtype.name
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        self.resolution = float(info.resolution)

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution}, min={self.min}, max={self.max}, eps={self.eps}, "
            f"smallest_normal={self.smallest_normal}, tiny={self.tiny}, dtype={self.dtype})"
        )


class iinfo:
    """The limits of an integer dtype, as `torch.iinfo`.

    >>> import fastgrad
    >>> fastgrad.iinfo(fastgrad.uint8).max
    255
    """

    def __init__(self, type: _core.dtype) -> None:
        if type.is_floating_point or type is _core.bool:
            raise TypeError(f"[iinfo] an integer dtype is needed; got {type}")
        info = numpy.iinfo(type.name)
        self.bits, self.max, self.min, self.dtype = int(info.bits), int(info.max), int(info.min), type.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
