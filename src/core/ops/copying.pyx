"""Copies, casts and zeros."""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastgrad._core.graph cimport Op, connect, engine_ops, record, recording, recording2
from fastgrad._core.views cimport check_in_place, history_stand_in, rebase
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_FLOAT32, FG_FLOAT64, FG_INT32, FG_INT64, FG_UINT8, fg_array
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.operands cimport as_operand, broadcast_into, broadcast_shape, fill_with
from fastgrad._core.tensor cimport (
    alias, dtype_code, is_contiguous, is_float, new_like, new_like_as, new_tensor, numel, same_shape, shape_text,
)

from fastgrad._core import tensor as tensor_module


cdef Op CAST
cdef Op CLONE
cdef Op COPY
CAST.name, CAST.rule = b"ToCopyBackward0", identity_rule
CLONE.name, CLONE.rule = b"CloneBackward0", identity_rule
COPY.name, COPY.rule = b"CopyBackwards", copy_rule


cdef int identity_rule(Node node, Tensor d) except -1:
    return node.give(0, d)

cdef int copy_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, zeros_of(d))
    if node.needs(1): node.give(1, d)
    return 0


cdef int copy_into(Tensor out, Tensor x) except -1:
    """out = x, broadcast and cast; not recorded, not checked."""
    cdef fg_array source
    cdef fg_array* operands[2]
    operands[0], operands[1] = &out.array, &x.array
    if not same_shape(&out.array, &x.array):
        broadcast_into(&source, &x.array, out.array.ndim, out.array.shape)
        operands[1] = &source
    return launch(FG_KERNEL_copy, operands, 2, NULL, numel(&out.array))


cdef Tensor cast(Tensor x, int code):
    cdef Tensor out
    if x.array.dtype == code:
        return x
    out = new_like_as(x, code)
    copy_into(out, x)
    if is_float(code) and recording(x):
        connect(record(&CAST, out, 1), 0, x)
    return out


cdef Tensor data_as(Tensor x, int code):
    """x cast, outside the graph."""
    return x if x.array.dtype == code else cast(alias(x), code)


cdef Tensor clone_data(Tensor x):
    """x's elements copied, outside the graph."""
    cdef Tensor out = new_like(x)
    copy_into(out, x)
    return out


cdef Tensor tensor_clone(Tensor x):
    cdef Tensor out = clone_data(x)
    if recording(x):
        connect(record(&CLONE, out, 1), 0, x)
    return out


cdef Tensor contiguous(Tensor x):
    return x if is_contiguous(&x.array) else tensor_clone(x)


cdef Tensor zeros_of(Tensor x):
    """Zeros of x's shape and dtype, outside the graph."""
    cdef Tensor zero = new_like(x)
    fill_with(zero, 0, 0)
    return zero


cdef Tensor zeros_of_shape(int code, int ndim, const int64_t* shape):
    cdef Tensor zero = new_tensor(code, ndim, shape)
    memset(zero.array.data, 0, zero.storage.nbytes)
    return zero


def clone(Tensor input, *, memory_format=None):
    """A contiguous copy, recorded. See torch.clone.

    >>> import fastgrad
    >>> x = fastgrad.ones(2); y = x.clone(); y[0] = 5.; x
    tensor([1., 1.])
    """
    return tensor_clone(input)


def contiguous_tensor(Tensor input, *, memory_format=None):
    """This tensor if its elements lie in row-major order without gaps, else a copy that does."""
    return contiguous(input)


def copy_(Tensor input, src, bint non_blocking=False):
    """Write `src`, broadcast and cast, into this tensor. See torch.Tensor.copy_."""
    cdef Tensor source = as_operand(src, input, "copy_")
    cdef int64_t[12] shape
    cdef fg_array wide
    cdef Tensor result, stand_in
    cdef Node node
    cdef bint recorded
    broadcast_into(&wide, &source.array, broadcast_shape(&input.array, &source.array, shape, "copy_"), shape)
    if not same_shape(&wide, &input.array):
        raise RuntimeError(
            f"[copy_] src must broadcast to the tensor's shape {shape_text(&input.array)}; got {shape_text(&source.array)}"
        )
    recorded = is_float(input.array.dtype) and recording2(input, source)
    stand_in = history_stand_in(input, False) if recorded else None
    check_in_place(input, "copy_")
    copy_into(input, clone_data(source) if source.storage is input.storage else source)
    if recorded:
        result = alias(input)
        node = record(&COPY, result, 2)
        connect(node, 0, stand_in)
        connect(node, 1, source)
        rebase(input, result)
    return input


# Conversions


def to(Tensor input, *args, device=None, dtype=None, bint non_blocking=False, bint copy=False, memory_format=None):
    """The tensor with another dtype; itself if nothing changes. `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`.

    >>> import fastgrad
    >>> fastgrad.ones(2).to(fastgrad.int64)
    tensor([1, 1])
    """
    cdef int code
    for argument in args:
        if isinstance(argument, Tensor):
            dtype = argument.dtype
        elif isinstance(argument, (str, tensor_module.device)):
            device = argument
        elif isinstance(argument, bool):
            non_blocking = argument
        elif argument is not None:
            dtype = argument
    tensor_module.check_device(device)
    code = dtype_code(dtype, input.array.dtype)
    if code == input.array.dtype:
        return tensor_clone(input) if copy else input
    return cast(input, code)


def type_as(Tensor input, Tensor other):
    """The tensor cast to other's dtype."""
    return cast(input, other.array.dtype)


TYPE_NAMES = {
    "FloatTensor": FG_FLOAT32, "DoubleTensor": FG_FLOAT64, "LongTensor": FG_INT64, "IntTensor": FG_INT32,
    "ByteTensor": FG_UINT8, "BoolTensor": FG_BOOL,
}


def type_(Tensor input, dtype=None, bint non_blocking=False):
    """The type's name, `fastgrad.FloatTensor` for instance; or the tensor cast to a dtype or such a name."""
    if dtype is None:
        return "fastgrad." + next(name for name, code in TYPE_NAMES.items() if code == input.array.dtype)
    if isinstance(dtype, str):
        name = dtype.rpartition(".")[2]
        if name not in TYPE_NAMES:
            raise ValueError(f"[type] a type's name must be one of {', '.join(TYPE_NAMES)}; got {dtype!r}")
        return cast(input, TYPE_NAMES[name])
    return cast(input, dtype_code(dtype, -1))


def to_float(Tensor input):
    """The tensor as float32."""
    return cast(input, FG_FLOAT32)


def to_double(Tensor input):
    """The tensor as float64."""
    return cast(input, FG_FLOAT64)


def to_long(Tensor input):
    """The tensor as int64."""
    return cast(input, FG_INT64)


def to_int(Tensor input):
    """The tensor as int32."""
    return cast(input, FG_INT32)


def to_bool(Tensor input):
    """The tensor as bool: which elements are not zero."""
    return cast(input, FG_BOOL)


def to_byte(Tensor input):
    """The tensor as uint8."""
    return cast(input, FG_UINT8)


engine_ops.cast, engine_ops.clone, engine_ops.zeros = cast, tensor_clone, zeros_of_shape
