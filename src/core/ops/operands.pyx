"""The operands of elementwise ops: a common shape, a common dtype, Python numbers as tensors; and the launch with them."""

import numbers

from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_INT32, FG_INT64, FG_UINT8
from fastgrad._core.launch cimport launch
from fastgrad._core.tensor cimport (
    default_dtype, dtype_code, dtype_object, is_float, new_like_as, new_tensor, numel, same_shape, shape_text,
)


# Shapes


cdef int broadcast_shape(const fg_array* a, const fg_array* b, int64_t* shape, str op) except -1:
    """The common shape of a and b; returns its number of axes."""
    cdef int ndim = max(a.ndim, b.ndim), axis
    cdef int64_t m, n
    for axis in range(1, ndim + 1):
        m = a.shape[a.ndim - axis] if axis <= a.ndim else 1
        n = b.shape[b.ndim - axis] if axis <= b.ndim else 1
        if m != n and m != 1 and n != 1:
            raise RuntimeError(
                f"[{op}] the size of tensor a ({m}) must match the size of tensor b ({n}) at non-singleton dimension "
                f"{ndim - axis}; got {shape_text(a)} and {shape_text(b)}"
            )
        shape[ndim - axis] = n if m == 1 else m
    return ndim


cdef int broadcast_into(fg_array* out, const fg_array* x, int ndim, const int64_t* shape) noexcept nogil:
    """Describe x as if it had that shape, with stride 0 on the axes along which it repeats."""
    cdef int axis, missing = ndim - x.ndim
    out.data, out.dtype, out.ndim = x.data, x.dtype, ndim
    for axis in range(ndim):
        out.shape[axis] = shape[axis]
        out.strides[axis] = 0 if axis < missing or x.shape[axis - missing] == 1 else x.strides[axis - missing]
    return 0


# Dtypes


cdef int scalar_dtype(object x, int code) except -1:
    """The dtype of `tensor op x` for a tensor of that dtype."""
    if isinstance(x, bool):
        return code
    if isinstance(x, numbers.Integral):
        return FG_INT64 if code == FG_BOOL else code
    return code if is_float(code) else default_dtype


def result_type(tensor1, tensor2):
    """The dtype of an arithmetic op on the two, as torch.result_type.

    >>> import fastgrad
    >>> fastgrad.result_type(fastgrad.ones(2, dtype=fastgrad.int64), 1.5)
    fastgrad.float32
    """
    if isinstance(tensor1, Tensor) and isinstance(tensor2, Tensor):
        return dtype_object(promoted(<Tensor>tensor1, <Tensor>tensor2))
    if isinstance(tensor1, Tensor):
        return dtype_object(scalar_dtype(tensor2, (<Tensor>tensor1).array.dtype))
    if isinstance(tensor2, Tensor):
        return dtype_object(scalar_dtype(tensor1, (<Tensor>tensor2).array.dtype))
    return dtype_object(max(scalar_dtype(tensor1, FG_BOOL), scalar_dtype(tensor2, FG_BOOL)))


def promote_types(dtype1, dtype2):
    """The smallest dtype that both can be converted to, as torch.promote_types."""
    return dtype_object(max(dtype_code(dtype1, -2), dtype_code(dtype2, -2)))


# Operands that are no tensors


cdef bint is_number(object x):
    return isinstance(x, (float, int)) or (
        isinstance(x, numbers.Number) and not isinstance(x, complex) and not isinstance(x, Tensor)
    )


cdef int fill_with(Tensor out, double f, int64_t i) except -1:
    """out = f, or i for an integer dtype; not recorded, not checked."""
    cdef fg_array number
    cdef fg_array* operands[2]
    cdef fg_params params
    describe_number(&number, out.array.dtype)
    params.f[1], params.i[1] = f, i
    operands[0], operands[1] = &out.array, &number
    return launch(FG_KERNEL_copy, operands, 2, &params, numel(&out.array))


cdef Tensor number_tensor(object value, int code):
    cdef Tensor t = new_tensor(code, 0, NULL)
    if is_float(code):
        fill_with(t, value, 0)
    else:
        fill_with(t, 0, value)
    return t


LARGEST = {FG_BOOL: 1, FG_UINT8: (1 << 8) - 1, FG_INT32: (1 << 31) - 1, FG_INT64: (1 << 63) - 1}


cdef int check_fits(object value, int code, str op) except -1:
    """A number written into an integer tensor must fit; as in PyTorch, a negative one may wrap in an unsigned dtype."""
    if is_float(code) or code == FG_BOOL:
        return 0
    largest = LARGEST[code]
    if not -largest - (code != FG_UINT8) <= value <= largest:
        raise RuntimeError(f"[{op}] value cannot be converted to {dtype_object(code)} without overflow; got {value}")
    return 0


cdef Tensor as_operand(object x, Tensor other, str op):
    """x as a tensor; a Python number takes other's dtype if its kind allows."""
    if isinstance(x, Tensor):
        return <Tensor>x
    if is_number(x):
        return number_tensor(x, scalar_dtype(x, other.array.dtype))
    raise TypeError(f"[{op}] an operand must be a Tensor or a number; got {type(x).__name__}")


cdef object coerce(object x, Tensor other):
    """Any operand as a Tensor, or NotImplemented."""
    if isinstance(x, Tensor):
        return x
    if is_number(x):
        return number_tensor(x, scalar_dtype(x, other.array.dtype))
    if hasattr(x, "__array_interface__") or type(x).__module__ == "numpy":
        from fastgrad._core.ops.creation import tensor
        return tensor(x)
    return NotImplemented


cdef object coerced_call(binary_function function, object a, object b):
    """function(a, b), where one at least is a Tensor; NotImplemented where the other is foreign."""
    if not isinstance(a, Tensor):
        a = coerce(a, <Tensor>b)
    elif not isinstance(b, Tensor):
        b = coerce(b, <Tensor>a)
    return NotImplemented if a is NotImplemented or b is NotImplemented else function(<Tensor>a, <Tensor>b)


cdef object called(binary_operator operator, object a, object b, str op):
    """An operator called by its name: TypeError where `a + b` gives NotImplemented to Python."""
    cdef bint first = isinstance(a, Tensor)
    result = operator(a, b) if first or isinstance(b, Tensor) else NotImplemented
    if result is NotImplemented:
        raise TypeError(f"[{op}] an operand must be a Tensor or a number; got {type(b if first else a).__name__}")
    return result


# Launches


cdef Tensor run_unary(int kernel, Tensor x, Tensor out):
    cdef fg_array* operands[2]
    operands[0], operands[1] = &out.array, &x.array
    launch(kernel, operands, 2, NULL, numel(&x.array))
    return out


cdef Tensor run_binary(int kernel, Tensor a, Tensor b, int code, str op):
    """kernel(a, b) for operands of one dtype, broadcast; the result has dtype `code`."""
    cdef Tensor out
    cdef fg_array wide_a, wide_b
    cdef fg_array* operands[3]
    cdef int64_t[12] shape
    cdef int ndim
    operands[1], operands[2] = &a.array, &b.array
    if same_shape(&a.array, &b.array):
        out = new_like_as(a, code)
    else:
        ndim = broadcast_shape(&a.array, &b.array, shape, op)
        out = new_tensor(code, ndim, shape)
        broadcast_into(&wide_a, &a.array, ndim, shape)
        broadcast_into(&wide_b, &b.array, ndim, shape)
        operands[1], operands[2] = &wide_a, &wide_b
    operands[0] = &out.array
    launch(kernel, operands, 3, NULL, numel(&out.array))
    return out


cdef Tensor run_with_number(int kernel, Tensor x, double f, int64_t i, int code, bint number_first):
    """kernel(x, number), or kernel(number, x)."""
    cdef Tensor out = new_like_as(x, code)
    cdef fg_array number
    cdef fg_array* operands[3]
    cdef fg_params params
    cdef int position = 1 if number_first else 2
    describe_number(&number, x.array.dtype)
    params.f[position], params.i[position] = f, i
    operands[0], operands[3 - position], operands[position] = &out.array, &x.array, &number
    launch(kernel, operands, 3, &params, numel(&x.array))
    return out


cdef int run_in_place(int kernel, Tensor a, Tensor b) except -1:
    """a = kernel(a, b), b of a's dtype and broadcast."""
    cdef fg_array wide
    cdef fg_array* operands[3]
    operands[0], operands[1], operands[2] = &a.array, &a.array, &b.array
    if not same_shape(&a.array, &b.array):
        broadcast_into(&wide, &b.array, a.array.ndim, a.array.shape)
        operands[2] = &wide
    return launch(kernel, operands, 3, NULL, numel(&a.array))
