"""Selection of elements by a condition or by bounds: where, masked_fill, clamp."""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t

from fastgrad._core.graph cimport Node, Op, connect, grad_enabled, record, recording, recording2, save
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_INT32, FG_INT64, FG_UINT8, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport cast, contiguous, zeros_of
from fastgrad._core.ops.in_place cimport replace_in_place
from fastgrad._core.ops.operands cimport (
    as_operand, broadcast_into, broadcast_shape, check_fits, describe_number, is_number, kind, promoted, scalar_dtype,
)
from fastgrad._core.tensor cimport is_float, new_like, new_tensor, numel, shape_text

from fastgrad._core.ops.operands import LARGEST


cdef Op WHERE
cdef Op CLAMP
WHERE.name, WHERE.rule = b"WhereBackward0", where_rule
CLAMP.name, CLAMP.rule = b"ClampBackward1", clamp_rule


cdef Tensor select(Tensor condition, Tensor a, Tensor b):
    """condition ? a : b, broadcast."""
    cdef int code = promoted(a, b), ndim
    cdef int64_t[12] shape
    cdef fg_array[3] wide
    cdef fg_array* operands[4]
    cdef Tensor out
    cdef Node node
    a, b = cast(a, code), cast(b, code)
    ndim = broadcast_shape(&a.array, &b.array, shape, "where")
    broadcast_into(&wide[1], &a.array, ndim, shape)
    ndim = broadcast_shape(&wide[1], &condition.array, shape, "where")
    out = new_tensor(code, ndim, shape)
    broadcast_into(&wide[0], &condition.array, ndim, shape)
    broadcast_into(&wide[1], &a.array, ndim, shape)
    broadcast_into(&wide[2], &b.array, ndim, shape)
    operands[0], operands[1], operands[2], operands[3] = &out.array, &wide[0], &wide[1], &wide[2]
    launch(FG_KERNEL_where, operands, 4, NULL, numel(&out.array))
    if recording2(a, b):
        node = record(&WHERE, out, 3)
        connect(node, 1, a)
        connect(node, 2, b)
        save(node, 0, condition)
    return out


cdef int where_rule(Node node, Tensor d) except -1:
    condition = node.saved(0)
    zero = zeros_of(d)
    if node.needs(1): node.give(1, select(condition, d, zero))
    if node.needs(2): node.give(2, select(condition, zero, d))
    return 0


def where(Tensor condition, input=None, other=None):
    """input where the condition holds and other elsewhere, broadcast together; with the condition alone, `nonzero` as a tuple.

    See torch.where.

    >>> import fastgrad
    >>> x = fastgrad.tensor([-1., 2.])
    >>> fastgrad.where(x > 0, x, 0.)
    tensor([0., 2.])
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    if condition.array.dtype != FG_BOOL:
        raise RuntimeError(f"[where] condition must be a bool tensor; got {condition.dtype}")
    if not isinstance(input, Tensor):
        input = as_operand(input, other if isinstance(other, Tensor) else condition, "where")
    return select(condition, input, as_operand(other, input, "where"))


def tensor_where(Tensor input, Tensor condition, other):
    """`where(condition, self, other)`."""
    return where(condition, input, other)


def masked_fill(Tensor input, Tensor mask, value):
    """input with `value`, a number or a 0-d tensor, where the mask is True. See torch.masked_fill.

    >>> import fastgrad
    >>> fastgrad.ones(2).masked_fill(fastgrad.tensor([True, False]), 5.)
    tensor([5., 1.])
    """
    cdef Tensor filler
    if mask.array.dtype != FG_BOOL:
        raise RuntimeError(f"[masked_fill] mask must be a bool tensor; got {mask.dtype}")
    if is_number(value):
        check_fits(value, input.array.dtype, "masked_fill")
    filler = as_operand(value, input, "masked_fill")
    if filler.array.ndim != 0:
        raise RuntimeError(f"[masked_fill] value must be a number or a 0-d tensor; got shape {shape_text(&filler.array)}")
    if filler.array.dtype != input.array.dtype:
        if kind(filler.array.dtype) > kind(input.array.dtype):
            raise RuntimeError(f"[masked_fill] value cannot be converted to {input.dtype} without overflow; got {value!r}")
        filler = cast(filler, input.array.dtype)
    return select(mask, filler, input)


def masked_fill_(Tensor input, Tensor mask, value):
    """`masked_fill` in place."""
    return replace_in_place(input, lambda old: masked_fill(old, mask, value), "masked_fill_")


SMALLEST = {FG_BOOL: 0, FG_UINT8: 0, FG_INT32: -(1 << 31), FG_INT64: -(1 << 63)}


cdef Tensor clamp_numbers(Tensor x, object low, object high):
    cdef Tensor out
    cdef fg_array first, second
    cdef fg_array* operands[4]
    cdef fg_params params
    cdef Node node
    cdef int code = x.array.dtype
    for bound in (low, high):
        if bound is not None:
            code = max(code, scalar_dtype(bound, code))
    x = cast(x, code)
    out = new_like(x)
    describe_number(&first, code)
    describe_number(&second, code)
    if is_float(code):
        params.f[2] = -INFINITY if low is None else low
        params.f[3] = INFINITY if high is None else high
    else:
        for bound in (low, high):
            if bound is not None:
                check_fits(bound, code, "clamp")
        params.i[2] = SMALLEST[code] if low is None else low
        params.i[3] = LARGEST[code] if high is None else high
    operands[0], operands[1], operands[2], operands[3] = &out.array, &x.array, &first, &second
    launch(FG_KERNEL_clamp, operands, 4, &params, numel(&x.array))
    if recording(x):
        node = record(&CLAMP, out, 1)
        connect(node, 0, x)
        save(node, 0, x)
        node.numbers[0], node.numbers[1] = params.f[2], params.f[3]
    return out


cdef int clamp_rule(Node node, Tensor d) except -1:
    """Inside and at both ends of [low, high] the derivative is 1."""
    cdef Tensor x = node.saved(0), dx
    cdef fg_array low, high
    cdef fg_array* operands[5]
    cdef fg_params params
    if grad_enabled():
        return node.give(0, select((x >= node.numbers[0]) & (x <= node.numbers[1]), d, zeros_of(d)))
    dx = new_like(x)
    d = contiguous(d)
    describe_number(&low, x.array.dtype)
    describe_number(&high, x.array.dtype)
    params.f[3], params.f[4] = node.numbers[0], node.numbers[1]
    operands[0], operands[1], operands[2], operands[3], operands[4] = &dx.array, &d.array, &x.array, &low, &high
    launch(FG_KERNEL_clamp_backward, operands, 5, &params, numel(&x.array))
    return node.give(0, dx)


def clamp(Tensor input, min=None, max=None):
    """min(max(x, `min`), `max`) elementwise; the bounds are numbers, tensors or None. NaN stays NaN. See torch.clamp.

    >>> import fastgrad
    >>> fastgrad.clamp(fastgrad.tensor([-2., 0.5, 3.]), 0, 1)
    tensor([0.0000, 0.5000, 1.0000])
    """
    if min is None and max is None:
        raise RuntimeError("[clamp] at least one of min or max must not be None; got None and None")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        if min is not None:
            bound = as_operand(min, input, "clamp")
            input = select((input < bound) | (bound != bound), bound, input)
        if max is not None:
            bound = as_operand(max, input, "clamp")
            input = select((input > bound) | (bound != bound), bound, input)
        return input
    return clamp_numbers(input, min, max)


def clamp_(Tensor input, min=None, max=None):
    """`clamp` in place."""
    return replace_in_place(input, lambda old: clamp(old, min, max), "clamp_")


def clamp_min(Tensor input, min):
    """`clamp(input, min=min)`."""
    return clamp(input, min, None)


def clamp_max(Tensor input, max):
    """`clamp(input, max=max)`."""
    return clamp(input, None, max)
