"""Comparisons, logical and bitwise ops, tests of elements and of whole tensors. Nothing here has a gradient."""

from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL
from fastgrad._core.ops.copying cimport cast, data_as
from fastgrad._core.ops.in_place cimport binary_in_place
from fastgrad._core.ops.operands cimport (
    called, coerce, coerced_call, plain_number, promoted, run_binary, run_unary, run_with_number,
)
from fastgrad._core.tensor cimport Tensor, dtype_object, is_float, new_like, new_like_as, operators, same_shape


# Comparisons


cdef object comparison(int kernel, object a, object b, str name):
    """kernel(a, b) for a Tensor a."""
    cdef Tensor left = <Tensor>a, right
    cdef int code
    if plain_number(b) and is_float(left.array.dtype):
        return run_with_number(kernel, left, b, 0, FG_BOOL, False)
    b = coerce(b, left)
    if b is NotImplemented:
        return b
    right = <Tensor>b
    code = promoted(left, right)
    return run_binary(kernel, data_as(left, code), data_as(right, code), FG_BOOL, name)


cdef object eq_operator(object a, object b): return comparison(FG_KERNEL_eq, a, b, "eq")
cdef object ne_operator(object a, object b): return comparison(FG_KERNEL_ne, a, b, "ne")
cdef object lt_operator(object a, object b): return comparison(FG_KERNEL_lt, a, b, "lt")
cdef object le_operator(object a, object b): return comparison(FG_KERNEL_le, a, b, "le")
cdef object gt_operator(object a, object b): return comparison(FG_KERNEL_gt, a, b, "gt")
cdef object ge_operator(object a, object b): return comparison(FG_KERNEL_ge, a, b, "ge")

operators.eq, operators.ne, operators.lt = eq_operator, ne_operator, lt_operator
operators.le, operators.gt, operators.ge = le_operator, gt_operator, ge_operator


def eq(Tensor input, other):
    """input == other elementwise, a bool tensor. See torch.eq."""
    return called(eq_operator, input, other, "eq")


def ne(Tensor input, other):
    """input != other elementwise, a bool tensor. See torch.ne."""
    return called(ne_operator, input, other, "ne")


def lt(Tensor input, other):
    """input < other elementwise, a bool tensor. See torch.lt."""
    return called(lt_operator, input, other, "lt")


def le(Tensor input, other):
    """input <= other elementwise, a bool tensor. See torch.le."""
    return called(le_operator, input, other, "le")


def gt(Tensor input, other):
    """input > other elementwise, a bool tensor. See torch.gt."""
    return called(gt_operator, input, other, "gt")


def ge(Tensor input, other):
    """input >= other elementwise, a bool tensor. See torch.ge."""
    return called(ge_operator, input, other, "ge")


# Logical


def logical_and(Tensor input, Tensor other):
    """Are both nonzero, elementwise? See torch.logical_and."""
    return comparison(FG_KERNEL_logical_and, input, other, "logical_and")


def logical_or(Tensor input, Tensor other):
    """Is one nonzero, elementwise? See torch.logical_or."""
    return comparison(FG_KERNEL_logical_or, input, other, "logical_or")


def logical_xor(Tensor input, Tensor other):
    """Is exactly one nonzero, elementwise? See torch.logical_xor."""
    return comparison(FG_KERNEL_logical_xor, input, other, "logical_xor")


def logical_not(Tensor input):
    """input == 0 elementwise, a bool tensor. See torch.logical_not."""
    return run_unary(FG_KERNEL_logical_not, input, new_like_as(input, FG_BOOL))


# Bitwise


cdef Tensor bitwise(int kernel, Tensor a, Tensor b, str name):
    cdef int code = promoted(a, b)
    if is_float(code):
        raise RuntimeError(f"[{name}] bitwise operations are for integer and bool tensors; got {dtype_object(code)}")
    return run_binary(kernel, cast(a, code), cast(b, code), code, name)


cdef Tensor tensor_and(Tensor a, Tensor b): return bitwise(FG_KERNEL_bitwise_and, a, b, "bitwise_and")
cdef Tensor tensor_or(Tensor a, Tensor b): return bitwise(FG_KERNEL_bitwise_or, a, b, "bitwise_or")
cdef Tensor tensor_xor(Tensor a, Tensor b): return bitwise(FG_KERNEL_bitwise_xor, a, b, "bitwise_xor")

cdef object and_operator(object a, object b): return coerced_call(tensor_and, a, b)
cdef object or_operator(object a, object b): return coerced_call(tensor_or, a, b)
cdef object xor_operator(object a, object b): return coerced_call(tensor_xor, a, b)

cdef object iand(object a, object b): return binary_in_place(tensor_and, -1, a, b, "bitwise_and_")
cdef object ior(object a, object b): return binary_in_place(tensor_or, -1, a, b, "bitwise_or_")
cdef object ixor(object a, object b): return binary_in_place(tensor_xor, -1, a, b, "bitwise_xor_")

cdef object invert_operator(Tensor x):
    if is_float(x.array.dtype):
        raise TypeError(f"[bitwise_not] ~ is for integer and bool tensors; got {x.dtype}")
    return run_unary(FG_KERNEL_bitwise_not, x, new_like(x))

operators.and_, operators.or_, operators.xor, operators.invert = and_operator, or_operator, xor_operator, invert_operator
operators.iand, operators.ior, operators.ixor = iand, ior, ixor


def bitwise_and(input, other):
    """input & other for integer and bool tensors. See torch.bitwise_and."""
    return called(and_operator, input, other, "bitwise_and")


def bitwise_or(input, other):
    """input | other for integer and bool tensors. See torch.bitwise_or."""
    return called(or_operator, input, other, "bitwise_or")


def bitwise_xor(input, other):
    """input ^ other for integer and bool tensors. See torch.bitwise_xor."""
    return called(xor_operator, input, other, "bitwise_xor")


def bitwise_not(Tensor input):
    """~input for integer and bool tensors. See torch.bitwise_not."""
    return invert_operator(input)


# Tests of elements and of whole tensors


def isnan(Tensor input):
    """Which elements are NaN? See torch.isnan."""
    return run_unary(FG_KERNEL_isnan, input, new_like_as(input, FG_BOOL))


def isinf(Tensor input):
    """Which elements are inf or -inf? See torch.isinf."""
    return run_unary(FG_KERNEL_isinf, input, new_like_as(input, FG_BOOL))


def isfinite(Tensor input):
    """Which elements are neither NaN nor infinite? See torch.isfinite."""
    return ~(isnan(input) | isinf(input))


def isclose(Tensor input, Tensor other, double rtol=1e-5, double atol=1e-8, bint equal_nan=False):
    """|input - other| <= atol + rtol * |other| elementwise; equal infinities are close. See torch.isclose."""
    close = (input == other) | (isfinite(input) & isfinite(other) & (abs(input - other) <= abs(other) * rtol + atol))
    return close | (isnan(input) & isnan(other)) if equal_nan else close


def allclose(Tensor input, Tensor other, double rtol=1e-5, double atol=1e-8, bint equal_nan=False) -> bool:
    """Are all elements close? See `isclose` and torch.allclose."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(Tensor input, Tensor other) -> bool:
    """Have both the same shape and equal elements? See torch.equal."""
    return same_shape(&input.array, &other.array) and bool((input == other).all())
