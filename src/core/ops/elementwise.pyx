"""Elementwise ops: casts and copies, unary functions, arithmetic, comparisons, selection.

A unary op is a row: kernel, what its gradient rule wants to see again, the rule. Kinks have PyTorch's values: relu'(0) = 0,
abs'(0) = 0, sqrt'(0) = inf, clamp' = 1 at both ends, maximum/minimum share the gradient evenly at ties, pow'(0 ** 0) = 0.
"""

import math
import numbers

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy, memset

from fastgrad._core.autograd cimport (
    check_in_place, connect, engine_ops, grad_enabled, history_stand_in, rebase, record, recording, recording2, save,
    save_output,
)
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_FLOAT32, FG_FLOAT64, FG_INT32, FG_INT64, FG_MAX_NDIM, FG_UINT8
from fastgrad._core.launch cimport launch
from fastgrad._core.tensor cimport (
    alias, default_dtype, dtype_code, dtype_object, is_contiguous, is_float, new_like, new_like_as, new_tensor, numel,
    operators, same_shape, shape_text, written,
)

from fastgrad._core import tensor as tensor_module


# Broadcasting


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


# Copies and casts


cdef Op CAST
CAST.name = b"ToCopyBackward0"
CAST.rule = identity_rule
cdef Op CLONE
CLONE.name = b"CloneBackward0"
CLONE.rule = identity_rule
cdef Op COPY
COPY.name = b"CopyBackwards"
COPY.rule = copy_rule


cdef int identity_rule(Node node, Tensor d) except -1:
    return node.give(0, d)


cdef int copy_into(Tensor out, Tensor x) except -1:
    """out = x, broadcast and cast; not recorded, not checked."""
    cdef fg_array source
    cdef fg_array* operands[2]
    operands[0], operands[1] = &out.array, &x.array
    if not same_shape(&out.array, &x.array):
        broadcast_into(&source, &x.array, out.array.ndim, out.array.shape)
        operands[1] = &source
    return launch(FG_KERNEL_copy, operands, 2, NULL, numel(&out.array))


cdef int fill_with(Tensor out, double f, int64_t i) except -1:
    """out = f, or i for an integer dtype; not recorded, not checked."""
    cdef fg_array number
    cdef fg_array* operands[2]
    cdef fg_params params
    number.data, number.ndim, number.dtype = NULL, 0, out.array.dtype
    params.f[1], params.i[1] = f, i
    operands[0], operands[1] = &out.array, &number
    return launch(FG_KERNEL_copy, operands, 2, &params, numel(&out.array))


cdef Tensor cast(Tensor x, int code):
    cdef Tensor out
    if x.array.dtype == code:
        return x
    out = new_like_as(x, code)
    copy_into(out, x)
    if is_float(code) and recording(x):
        connect(record(&CAST, out, 1), 0, x)
    return out


cdef Tensor tensor_clone(Tensor x):
    cdef Tensor out = new_like(x)
    copy_into(out, x)
    if recording(x):
        connect(record(&CLONE, out, 1), 0, x)
    return out


cdef Tensor contiguous(Tensor x):
    return x if is_contiguous(&x.array) else tensor_clone(x)


cdef int copy_rule(Node node, Tensor d) except -1:
    if node.needs(1):
        node.give(1, d)
    return 0


def copy_(Tensor input, src, bint non_blocking=False):
    """Write `src`, broadcast and cast, into this tensor. See torch.Tensor.copy_."""
    cdef Tensor source = as_operand(src, input, "copy_")
    cdef int64_t[12] shape
    cdef Tensor result, stand_in
    cdef Node node
    cdef bint recorded
    cdef int ndim = broadcast_shape(&input.array, &source.array, shape, "copy_")
    if ndim != input.array.ndim or any([shape[k] != input.array.shape[k] for k in range(ndim)]):
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


cdef Tensor clone_data(Tensor x):
    cdef Tensor out = new_like(x)
    copy_into(out, x)
    return out


# Operands that are no tensors


cdef Tensor number_tensor(object value, int code):
    cdef Tensor t = new_tensor(code, 0, NULL)
    if is_float(code):
        fill_with(t, value, 0)
    else:
        fill_with(t, 0, value)
    return t


cdef bint is_number(object x):
    return isinstance(x, (float, int)) or (
        isinstance(x, numbers.Number) and not isinstance(x, complex) and not isinstance(x, Tensor)
    )


cdef Tensor as_operand(object x, Tensor other, str op):
    """x as a tensor; a Python number takes other's dtype if its kind allows."""
    if isinstance(x, Tensor):
        return <Tensor>x
    if is_number(x):
        return number_tensor(x, scalar_dtype(x, other.array.dtype))
    raise TypeError(f"[{op}] an operand must be a Tensor or a number; got {type(x).__name__}")


cdef int scalar_dtype(object x, int code) except -1:
    """The dtype of `tensor op x` for a tensor of that dtype."""
    if isinstance(x, bool):
        return code
    if isinstance(x, numbers.Integral):
        return FG_INT64 if code == FG_BOOL else code
    return code if is_float(code) else default_dtype


cdef inline int kind(int code) noexcept:
    """PyTorch's categories: bool < integer < float."""
    return 0 if code == FG_BOOL else 1 if code < FG_FLOAT32 else 2


cdef int promoted(Tensor a, Tensor b) noexcept:
    """The dtype of `a op b`: a 0-d tensor counts only by its kind beside one with axes."""
    cdef int high = a.array.dtype, low = b.array.dtype
    if high == low:
        return high
    if (a.array.ndim == 0) != (b.array.ndim == 0):
        if a.array.ndim == 0:
            high, low = low, high           # high has axes
        return low if kind(low) > kind(high) else high
    return max(high, low)                   # the codes are in the order of promotion


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


# Unary


cdef enum Wants:
    NOTHING
    INPUT
    OUTPUT

cdef struct Unary:
    Op op
    int kernel
    Wants wants
    bint to_float        # an integer input gives a float
    const char* name


cdef Tensor run_unary(int kernel, Tensor x, Tensor out):
    cdef fg_array* operands[2]
    operands[0], operands[1] = &out.array, &x.array
    launch(kernel, operands, 2, NULL, numel(&x.array))
    return out


cdef Tensor unary(Unary* row, Tensor x):
    cdef Tensor out
    cdef Node node
    if not is_float(x.array.dtype):
        if row.to_float:
            x = cast(x, default_dtype)
        elif x.array.dtype == FG_BOOL and row.kernel == FG_KERNEL_neg:
            raise RuntimeError("[neg] negation of a bool tensor is not supported, use ~ or logical_not; got bool")
    out = run_unary(row.kernel, x, new_like(x))
    if recording(x):
        node = record(&row.op, out, 1)
        connect(node, 0, x)
        if row.wants == INPUT:
            save(node, 0, x)
        elif row.wants == OUTPUT:
            save_output(node, 0, out)
    return out


cdef Tensor unary_(Unary* row, Tensor x):
    """In place: recorded on a stand-in for the old x, whose elements are copied only if the rule wants to see them."""
    cdef Tensor result
    cdef Node node
    name = row.name.decode() + "_"
    if row.to_float and not is_float(x.array.dtype):
        raise RuntimeError(f"[{name}] result type {dtype_object(default_dtype)} can't be cast to the tensor's; got {x.dtype}")
    check_in_place(x, name)
    if not recording(x):
        run_unary(row.kernel, x, x)
        return x
    stand_in = history_stand_in(x, row.wants == INPUT)
    run_unary(row.kernel, x, x)
    result = alias(x)
    node = record(&row.op, result, 1)
    connect(node, 0, stand_in)
    if row.wants == INPUT:
        save(node, 0, stand_in)
    elif row.wants == OUTPUT:
        save_output(node, 0, result)
    rebase(x, result)
    return x


cdef Unary unary_row(const char* node_name, const char* name, int kernel, Wants wants, bint to_float,
                     int (*rule)(Node, Tensor) except -1):
    cdef Unary row
    row.op.name, row.op.rule, row.kernel, row.wants, row.to_float, row.name = node_name, rule, kernel, wants, to_float, name
    return row


cdef int neg_rule(Node node, Tensor d) except -1:
    return node.give(0, -d)

cdef int abs_rule(Node node, Tensor d) except -1:
    return node.give(0, d * unary(&SIGN, node.saved(0)))

cdef int zero_rule(Node node, Tensor d) except -1:
    return node.give(0, zeros_of(d))

cdef int sqrt_rule(Node node, Tensor d) except -1:
    return node.give(0, d / (2 * node.saved(0)))

cdef int rsqrt_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    return node.give(0, -0.5 * d * y * y * y)

cdef int reciprocal_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    return node.give(0, -d * y * y)

cdef int square_rule(Node node, Tensor d) except -1:
    return node.give(0, d * (2 * node.saved(0)))

cdef int exp_rule(Node node, Tensor d) except -1:
    return node.give(0, d * node.saved(0))

cdef int expm1_rule(Node node, Tensor d) except -1:
    return node.give(0, d * (node.saved(0) + 1))

cdef int log_rule(Node node, Tensor d) except -1:
    return node.give(0, d / node.saved(0))

cdef int log1p_rule(Node node, Tensor d) except -1:
    return node.give(0, d / (node.saved(0) + 1))

cdef int sin_rule(Node node, Tensor d) except -1:
    return node.give(0, d * unary(&COS, node.saved(0)))

cdef int cos_rule(Node node, Tensor d) except -1:
    return node.give(0, -d * unary(&SIN, node.saved(0)))

cdef int erf_rule(Node node, Tensor d) except -1:
    x = node.saved(0)
    return node.give(0, d * unary(&EXP, -x * x) * (2 / math.sqrt(math.pi)))

# The fused kernels run where nothing is recorded; the composite beside each is what they mean.

cdef int tanh_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    return node.give(0, d * (1 - y * y) if grad_enabled() else fused_backward(FG_KERNEL_tanh_backward, d, y))

cdef int sigmoid_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    return node.give(0, d * (y * (1 - y)) if grad_enabled() else fused_backward(FG_KERNEL_sigmoid_backward, d, y))

cdef int relu_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    return node.give(0, select(y <= 0, zeros_of(d), d) if grad_enabled() else fused_backward(FG_KERNEL_relu_backward, d, y))


cdef Tensor fused_backward(int kernel, Tensor d, Tensor y):
    """dx = kernel(d, y) for the ordinary pass, where nothing is recorded."""
    cdef Tensor dx = new_like(y)
    cdef fg_array* operands[3]
    cdef fg_array wide
    operands[0], operands[1], operands[2] = &dx.array, &d.array, &y.array
    if not same_shape(&d.array, &y.array):
        broadcast_into(&wide, &d.array, y.array.ndim, y.array.shape)
        operands[1] = &wide
    launch(kernel, operands, 3, NULL, numel(&y.array))
    return dx


cdef Unary NEG = unary_row(b"NegBackward0", b"neg", FG_KERNEL_neg, NOTHING, False, neg_rule)
cdef Unary ABS = unary_row(b"AbsBackward0", b"abs", FG_KERNEL_abs, INPUT, False, abs_rule)
cdef Unary SIGN = unary_row(b"SignBackward0", b"sign", FG_KERNEL_sign, NOTHING, False, zero_rule)
cdef Unary SQRT = unary_row(b"SqrtBackward0", b"sqrt", FG_KERNEL_sqrt, OUTPUT, True, sqrt_rule)
cdef Unary RSQRT = unary_row(b"RsqrtBackward0", b"rsqrt", FG_KERNEL_rsqrt, OUTPUT, True, rsqrt_rule)
cdef Unary RECIPROCAL = unary_row(b"ReciprocalBackward0", b"reciprocal", FG_KERNEL_reciprocal, OUTPUT, True, reciprocal_rule)
cdef Unary SQUARE = unary_row(b"PowBackward0", b"square", FG_KERNEL_square, INPUT, False, square_rule)
cdef Unary EXP = unary_row(b"ExpBackward0", b"exp", FG_KERNEL_exp, OUTPUT, True, exp_rule)
cdef Unary EXPM1 = unary_row(b"Expm1Backward0", b"expm1", FG_KERNEL_expm1, OUTPUT, True, expm1_rule)
cdef Unary LOG = unary_row(b"LogBackward0", b"log", FG_KERNEL_log, INPUT, True, log_rule)
cdef Unary LOG1P = unary_row(b"Log1PBackward0", b"log1p", FG_KERNEL_log1p, INPUT, True, log1p_rule)
cdef Unary SIN = unary_row(b"SinBackward0", b"sin", FG_KERNEL_sin, INPUT, True, sin_rule)
cdef Unary COS = unary_row(b"CosBackward0", b"cos", FG_KERNEL_cos, INPUT, True, cos_rule)
cdef Unary TANH = unary_row(b"TanhBackward0", b"tanh", FG_KERNEL_tanh, OUTPUT, True, tanh_rule)
cdef Unary SIGMOID = unary_row(b"SigmoidBackward0", b"sigmoid", FG_KERNEL_sigmoid, OUTPUT, True, sigmoid_rule)
cdef Unary ERF = unary_row(b"ErfBackward0", b"erf", FG_KERNEL_erf, INPUT, True, erf_rule)
cdef Unary RELU = unary_row(b"ReluBackward0", b"relu", FG_KERNEL_relu, OUTPUT, False, relu_rule)
cdef Unary FLOOR = unary_row(b"FloorBackward0", b"floor", FG_KERNEL_floor, NOTHING, False, zero_rule)
cdef Unary CEIL = unary_row(b"CeilBackward0", b"ceil", FG_KERNEL_ceil, NOTHING, False, zero_rule)
cdef Unary ROUND = unary_row(b"RoundBackward0", b"round", FG_KERNEL_round, NOTHING, False, zero_rule)
cdef Unary TRUNC = unary_row(b"TruncBackward0", b"trunc", FG_KERNEL_trunc, NOTHING, False, zero_rule)


cdef Tensor tensor_neg(Tensor x):
    return unary(&NEG, x)


def relu(Tensor input, bint inplace=False):
    """max(x, 0) elementwise; the derivative at 0 is 0. NaN stays NaN. See torch.relu.

    >>> import fastgrad
    >>> fastgrad.relu(fastgrad.tensor([-1., 0., 2.]))
    tensor([0., 0., 2.])
    """
    return unary_(&RELU, input) if inplace else unary(&RELU, input)


def neg(Tensor input):
    """Elementwise -x. See torch.neg.

    >>> import fastgrad
    >>> fastgrad.neg(fastgrad.tensor([-1., 2.]))
    tensor([ 1., -2.])
    """
    return unary(&NEG, input)


def abs(Tensor input):
    """Elementwise |x|; the derivative at 0 is 0. See torch.abs.

    >>> import fastgrad
    >>> fastgrad.abs(fastgrad.tensor([-1., 2.]))
    tensor([1., 2.])
    """
    return unary(&ABS, input)


def sign(Tensor input):
    """Elementwise the sign of x, 0 at 0; its derivative is 0. See torch.sign.

    >>> import fastgrad
    >>> fastgrad.sign(fastgrad.tensor([-3., 0.]))
    tensor([-1.,  0.])
    """
    return unary(&SIGN, input)


def sqrt(Tensor input):
    """Elementwise the square root; the derivative at 0 is inf. See torch.sqrt.

    >>> import fastgrad
    >>> fastgrad.sqrt(fastgrad.tensor([4., 9.]))
    tensor([2., 3.])
    """
    return unary(&SQRT, input)


def rsqrt(Tensor input):
    """Elementwise 1 / sqrt(x). See torch.rsqrt.

    >>> import fastgrad
    >>> fastgrad.rsqrt(fastgrad.tensor([4., 16.]))
    tensor([0.5000, 0.2500])
    """
    return unary(&RSQRT, input)


def reciprocal(Tensor input):
    """Elementwise 1 / x. See torch.reciprocal.

    >>> import fastgrad
    >>> fastgrad.reciprocal(fastgrad.tensor([2., 4.]))
    tensor([0.5000, 0.2500])
    """
    return unary(&RECIPROCAL, input)


def square(Tensor input):
    """Elementwise x * x. See torch.square.

    >>> import fastgrad
    >>> fastgrad.square(fastgrad.tensor([2., 3.]))
    tensor([4., 9.])
    """
    return unary(&SQUARE, input)


def exp(Tensor input):
    """Elementwise e to the power x. See torch.exp.

    >>> import fastgrad
    >>> fastgrad.exp(fastgrad.tensor([0., 1.]))
    tensor([1.0000, 2.7183])
    """
    return unary(&EXP, input)


def expm1(Tensor input):
    """Elementwise exp(x) - 1, exact near 0. See torch.expm1.

    >>> import fastgrad
    >>> fastgrad.expm1(fastgrad.tensor([0.]))
    tensor([0.])
    """
    return unary(&EXPM1, input)


def log(Tensor input):
    """Elementwise the natural logarithm; -inf at 0, NaN below. See torch.log.

    >>> import fastgrad
    >>> fastgrad.log(fastgrad.tensor([1., 0.]))
    tensor([0., -inf])
    """
    return unary(&LOG, input)


def log1p(Tensor input):
    """Elementwise log(1 + x), exact near 0. See torch.log1p.

    >>> import fastgrad
    >>> fastgrad.log1p(fastgrad.tensor([0.]))
    tensor([0.])
    """
    return unary(&LOG1P, input)


def sin(Tensor input):
    """Elementwise the sine of x in radians. See torch.sin.

    >>> import fastgrad
    >>> fastgrad.sin(fastgrad.tensor([0.]))
    tensor([0.])
    """
    return unary(&SIN, input)


def cos(Tensor input):
    """Elementwise the cosine of x in radians. See torch.cos.

    >>> import fastgrad
    >>> fastgrad.cos(fastgrad.tensor([0.]))
    tensor([1.])
    """
    return unary(&COS, input)


def tanh(Tensor input):
    """Elementwise the hyperbolic tangent. See torch.tanh.

    >>> import fastgrad
    >>> fastgrad.tanh(fastgrad.tensor([0., 1.]))
    tensor([0.0000, 0.7616])
    """
    return unary(&TANH, input)


def sigmoid(Tensor input):
    """Elementwise 1 / (1 + exp(-x)). See torch.sigmoid.

    >>> import fastgrad
    >>> fastgrad.sigmoid(fastgrad.tensor([0.]))
    tensor([0.5000])
    """
    return unary(&SIGMOID, input)


def erf(Tensor input):
    """Elementwise the error function. See torch.erf.

    >>> import fastgrad
    >>> fastgrad.erf(fastgrad.tensor([0.]))
    tensor([0.])
    """
    return unary(&ERF, input)


def floor(Tensor input):
    """Elementwise the largest integer <= x; its derivative is 0. See torch.floor.

    >>> import fastgrad
    >>> fastgrad.floor(fastgrad.tensor([-1.5, 1.5]))
    tensor([-2.,  1.])
    """
    return unary(&FLOOR, input)


def ceil(Tensor input):
    """Elementwise the smallest integer >= x; its derivative is 0. See torch.ceil.

    >>> import fastgrad
    >>> fastgrad.ceil(fastgrad.tensor([-1.5, 1.5]))
    tensor([-1.,  2.])
    """
    return unary(&CEIL, input)


def round(Tensor input):
    """Elementwise the nearest integer, ties to even; its derivative is 0. See torch.round.

    >>> import fastgrad
    >>> fastgrad.round(fastgrad.tensor([0.5, 1.5]))
    tensor([0., 2.])
    """
    return unary(&ROUND, input)


def trunc(Tensor input):
    """Elementwise x without its fraction; its derivative is 0. See torch.trunc.

    >>> import fastgrad
    >>> fastgrad.trunc(fastgrad.tensor([-1.5, 1.5]))
    tensor([-1.,  1.])
    """
    return unary(&TRUNC, input)


def neg_(Tensor input):
    """`neg` in place."""
    return unary_(&NEG, input)


def abs_(Tensor input):
    """`abs` in place."""
    return unary_(&ABS, input)


def sign_(Tensor input):
    """`sign` in place."""
    return unary_(&SIGN, input)


def sqrt_(Tensor input):
    """`sqrt` in place."""
    return unary_(&SQRT, input)


def rsqrt_(Tensor input):
    """`rsqrt` in place."""
    return unary_(&RSQRT, input)


def reciprocal_(Tensor input):
    """`reciprocal` in place."""
    return unary_(&RECIPROCAL, input)


def square_(Tensor input):
    """`square` in place."""
    return unary_(&SQUARE, input)


def exp_(Tensor input):
    """`exp` in place."""
    return unary_(&EXP, input)


def expm1_(Tensor input):
    """`expm1` in place."""
    return unary_(&EXPM1, input)


def log_(Tensor input):
    """`log` in place."""
    return unary_(&LOG, input)


def log1p_(Tensor input):
    """`log1p` in place."""
    return unary_(&LOG1P, input)


def sin_(Tensor input):
    """`sin` in place."""
    return unary_(&SIN, input)


def cos_(Tensor input):
    """`cos` in place."""
    return unary_(&COS, input)


def tanh_(Tensor input):
    """`tanh` in place."""
    return unary_(&TANH, input)


def sigmoid_(Tensor input):
    """`sigmoid` in place."""
    return unary_(&SIGMOID, input)


def erf_(Tensor input):
    """`erf` in place."""
    return unary_(&ERF, input)


def floor_(Tensor input):
    """`floor` in place."""
    return unary_(&FLOOR, input)


def ceil_(Tensor input):
    """`ceil` in place."""
    return unary_(&CEIL, input)


def round_(Tensor input):
    """`round` in place."""
    return unary_(&ROUND, input)


def trunc_(Tensor input):
    """`trunc` in place."""
    return unary_(&TRUNC, input)


def relu_(Tensor input):
    """`relu` in place."""
    return unary_(&RELU, input)


# Binary


cdef Tensor run_binary(int kernel, Tensor a, Tensor b, int code, str name, fg_params* params):
    """kernel(a, b) for operands of one dtype; the result has dtype `code`."""
    cdef Tensor out
    cdef fg_array wide_a, wide_b
    cdef fg_array* operands[3]
    cdef int64_t[12] shape
    cdef int ndim
    operands[1], operands[2] = &a.array, &b.array
    if same_shape(&a.array, &b.array):
        out = new_like_as(a, code)
    else:
        ndim = broadcast_shape(&a.array, &b.array, shape, name)
        out = new_tensor(code, ndim, shape)
        broadcast_into(&wide_a, &a.array, ndim, shape)
        broadcast_into(&wide_b, &b.array, ndim, shape)
        operands[1], operands[2] = &wide_a, &wide_b
    operands[0] = &out.array
    launch(kernel, operands, 3, params, numel(&out.array))
    return out


cdef Tensor run_with_number(int kernel, Tensor x, double f, int64_t i, int code, bint number_first):
    """kernel(x, number), or kernel(number, x)."""
    cdef Tensor out = new_like_as(x, code)
    cdef fg_array number
    cdef fg_array* operands[3]
    cdef fg_params params
    cdef int position = 1 if number_first else 2
    number.data, number.ndim, number.dtype = NULL, 0, x.array.dtype
    params.f[position], params.i[position] = f, i
    operands[0], operands[3 - position], operands[position] = &out.array, &x.array, &number
    launch(kernel, operands, 3, &params, numel(&x.array))
    return out


cdef Op ADD
cdef Op SUB
cdef Op MUL
cdef Op DIV
cdef Op POW
cdef Op MAXIMUM
cdef Op MINIMUM
cdef Op REMAINDER
cdef Op FMOD
ADD.name, ADD.rule = b"AddBackward0", add_rule
SUB.name, SUB.rule = b"SubBackward0", sub_rule
MUL.name, MUL.rule = b"MulBackward0", mul_rule
DIV.name, DIV.rule = b"DivBackward0", div_rule
POW.name, POW.rule = b"PowBackward1", pow_rule
MAXIMUM.name, MAXIMUM.rule = b"MaximumBackward0", extremum_rule
MINIMUM.name, MINIMUM.rule = b"MinimumBackward0", extremum_rule
REMAINDER.name, REMAINDER.rule = b"RemainderBackward0", remainder_rule
FMOD.name, FMOD.rule = b"FmodBackward0", remainder_rule


cdef int add_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    if node.needs(1): node.give(1, d)
    return 0

cdef int sub_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    if node.needs(1): node.give(1, -d)
    return 0

cdef int mul_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d * node.saved(1))
    if node.needs(1): node.give(1, d * node.saved(0))
    return 0

cdef int div_rule(Node node, Tensor d) except -1:
    b = node.saved(1)
    if node.needs(0): node.give(0, d / b)
    if node.needs(1): node.give(1, -d * (node.saved(0) / b / b))
    return 0

cdef int pow_rule(Node node, Tensor d) except -1:
    a, b = node.saved(0), node.saved(1)
    if node.needs(0): node.give(0, d * select(b == 0, zeros_of(b), b * a ** (b - 1)))
    if node.needs(1): node.give(1, d * select((a == 0) & (b >= 0), zeros_of(a), a ** b * unary(&LOG, a)))
    return 0

cdef int extremum_rule(Node node, Tensor d) except -1:
    a, b = node.saved(0), node.saved(1)
    a_wins = a > b if node.op == &MAXIMUM else a < b
    share = select(a == b, d * 0.5, d)
    zero = zeros_of(d)
    if node.needs(0): node.give(0, select(a_wins | (a == b), share, zero))
    if node.needs(1): node.give(1, select(a_wins, zero, share))
    return 0

cdef int remainder_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    rounding = &FLOOR if node.op == &REMAINDER else &TRUNC
    if node.needs(1): node.give(1, -d * unary(rounding, node.saved(0) / node.saved(1)))
    return 0


cdef enum Keeps:
    NEITHER
    FOR_THE_OTHER      # an operand is seen again by the other one's gradient
    SECOND_ALWAYS      # likewise, and the second by its own too
    BOTH


cdef Tensor attach(Op* op, Tensor out, Tensor a, Tensor b, Keeps keeps):
    """Record out = op(a, b)."""
    cdef Node node = record(op, out, 2)
    connect(node, 0, a)
    connect(node, 1, b)
    if keeps == BOTH or (keeps != NEITHER and node.edges[1].target != NULL):
        save(node, 0, a)
    if keeps == BOTH or keeps == SECOND_ALWAYS or (keeps == FOR_THE_OTHER and node.edges[0].target != NULL):
        save(node, 1, b)
    return out


cdef Tensor tensor_add(Tensor a, Tensor b):
    cdef int code = a.array.dtype
    cdef Tensor out
    if code != b.array.dtype:
        code = promoted(a, b)
        a, b = cast(a, code), cast(b, code)
    out = run_binary(FG_KERNEL_add, a, b, code, "add", NULL)
    if recording2(a, b):
        attach(&ADD, out, a, b, NEITHER)
    return out


cdef Tensor tensor_sub(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    cdef Tensor out
    if code == FG_BOOL:
        raise RuntimeError("[sub] subtraction of two bool tensors is not supported, use ^ or logical_xor; got bool")
    a, b = cast(a, code), cast(b, code)
    out = run_binary(FG_KERNEL_sub, a, b, code, "sub", NULL)
    if recording2(a, b):
        attach(&SUB, out, a, b, NEITHER)
    return out


cdef Tensor tensor_mul(Tensor a, Tensor b):
    cdef int code = a.array.dtype
    cdef Tensor out
    if code != b.array.dtype:
        code = promoted(a, b)
        a, b = cast(a, code), cast(b, code)
    out = run_binary(FG_KERNEL_mul, a, b, code, "mul", NULL)
    if recording2(a, b):
        attach(&MUL, out, a, b, FOR_THE_OTHER)
    return out


cdef Tensor tensor_div(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    cdef Tensor out
    if not is_float(code):
        code = default_dtype
    a, b = cast(a, code), cast(b, code)
    out = run_binary(FG_KERNEL_div, a, b, code, "div", NULL)
    if recording2(a, b):
        attach(&DIV, out, a, b, SECOND_ALWAYS)
    return out


cdef Tensor tensor_pow(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    cdef Tensor out
    a, b = cast(a, code), cast(b, code)
    if code == FG_BOOL:
        raise RuntimeError("[pow] a bool tensor has no powers; got bool ** bool")
    out = run_binary(FG_KERNEL_pow, a, b, code, "pow", NULL)
    if recording2(a, b):
        attach(&POW, out, a, b, BOTH)
    return out


cdef Tensor extremum(Op* op, int kernel, Tensor a, Tensor b, str name):
    cdef int code = promoted(a, b)
    cdef Tensor out
    a, b = cast(a, code), cast(b, code)
    out = run_binary(kernel, a, b, code, name, NULL)
    if recording2(a, b):
        attach(op, out, a, b, BOTH)
    return out


cdef Tensor divided_down(int kernel, Tensor a, Tensor b, str name):
    """floor_divide, remainder, fmod."""
    cdef int code = promoted(a, b)
    cdef Tensor out
    a, b = cast(a, code), cast(b, code)
    if code == FG_BOOL:
        raise RuntimeError(f"[{name}] bool tensors cannot be divided; got bool")
    if not is_float(code) and (b == 0).any():
        raise RuntimeError(f"[{name}] an integer tensor cannot be divided by zero; got a zero in the divisor")
    out = run_binary(kernel, a, b, code, name, NULL)
    if kernel != FG_KERNEL_floor_divide and is_float(code) and recording2(a, b):
        attach(&REMAINDER if kernel == FG_KERNEL_remainder else &FMOD, out, a, b, BOTH)
    return out


# A tensor and a Python number


cdef Op SCALE
cdef Op SHIFT
cdef Op REVERSE
cdef Op NUMBER_OVER
cdef Op POWER
SCALE.name, SCALE.rule = b"MulBackward0", scale_rule
SHIFT.name, SHIFT.rule = b"AddBackward0", identity_rule
REVERSE.name, REVERSE.rule = b"RsubBackward1", neg_rule
NUMBER_OVER.name, NUMBER_OVER.rule = b"DivBackward0", number_over_rule
POWER.name, POWER.rule = b"PowBackward0", number_power_rule


cdef int scale_rule(Node node, Tensor d) except -1:
    return node.give(0, d * node.numbers[0])

cdef int number_over_rule(Node node, Tensor d) except -1:
    return node.give(0, -d * (node.saved(0) / node.saved(1)))

cdef int number_power_rule(Node node, Tensor d) except -1:
    p = node.numbers[0]
    return node.give(0, zeros_of(d) if p == 0 else d * (p * node.saved(0) ** (p - 1)))


cdef Tensor scale(Tensor x, double factor):
    """x * factor for a float tensor."""
    cdef Tensor out = run_with_number(FG_KERNEL_mul, x, factor, 0, x.array.dtype, False)
    cdef Node node
    if recording(x):
        node = record(&SCALE, out, 1)
        connect(node, 0, x)
        node.numbers[0] = factor
    return out


cdef Tensor number_power(Tensor x, double p):
    cdef Tensor out
    cdef Node node
    if p == 2:
        return unary(&SQUARE, x)
    out = run_with_number(FG_KERNEL_pow, x, p, 0, x.array.dtype, False)
    if recording(x):
        node = record(&POWER, out, 1)
        connect(node, 0, x)
        node.numbers[0] = p
        save(node, 0, x)
    return out


cdef Tensor number_over(double numerator, Tensor x):
    """numerator / x for a float tensor."""
    cdef Tensor out = run_with_number(FG_KERNEL_div, x, numerator, 0, x.array.dtype, True)
    cdef Node node
    if recording(x):
        node = record(&NUMBER_OVER, out, 1)
        connect(node, 0, x)
        save_output(node, 0, out)
        save(node, 1, x)
    return out


cdef Tensor float_with_number(int kernel, Op* op, Tensor x, double number, bint number_first):
    """x + number, x - number, number - x for a float tensor."""
    cdef Tensor out = run_with_number(kernel, x, number, 0, x.array.dtype, number_first)
    if recording(x):
        connect(record(op, out, 1), 0, x)
    return out


# The operators of Tensor


cdef inline bint plain_number(object x):
    return type(x) is float or type(x) is int


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


cdef object add_operator(object a, object b):
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return tensor_add(<Tensor>a, <Tensor>b)
        if plain_number(b) and is_float((<Tensor>a).array.dtype):
            return float_with_number(FG_KERNEL_add, &SHIFT, <Tensor>a, b, False)
        b = coerce(b, <Tensor>a)
        return b if b is NotImplemented else tensor_add(<Tensor>a, <Tensor>b)
    return add_operator(b, a)


cdef object sub_operator(object a, object b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return tensor_sub(<Tensor>a, <Tensor>b)
    if isinstance(a, Tensor):
        if plain_number(b) and is_float((<Tensor>a).array.dtype):
            return float_with_number(FG_KERNEL_sub, &SHIFT, <Tensor>a, b, False)
        b = coerce(b, <Tensor>a)
        return b if b is NotImplemented else tensor_sub(<Tensor>a, <Tensor>b)
    if plain_number(a) and is_float((<Tensor>b).array.dtype):
        return float_with_number(FG_KERNEL_sub, &REVERSE, <Tensor>b, a, True)
    a = coerce(a, <Tensor>b)
    return a if a is NotImplemented else tensor_sub(<Tensor>a, <Tensor>b)


cdef object mul_operator(object a, object b):
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return tensor_mul(<Tensor>a, <Tensor>b)
        if plain_number(b) and is_float((<Tensor>a).array.dtype):
            return scale(<Tensor>a, b)
        b = coerce(b, <Tensor>a)
        return b if b is NotImplemented else tensor_mul(<Tensor>a, <Tensor>b)
    return mul_operator(b, a)


cdef object truediv_operator(object a, object b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return tensor_div(<Tensor>a, <Tensor>b)
    if isinstance(a, Tensor):
        b = coerce(b, <Tensor>a)
        return b if b is NotImplemented else tensor_div(<Tensor>a, <Tensor>b)
    if plain_number(a) and is_float((<Tensor>b).array.dtype):
        return number_over(a, <Tensor>b)
    a = coerce(a, <Tensor>b)
    return a if a is NotImplemented else tensor_div(<Tensor>a, <Tensor>b)


cdef object pow_operator(object a, object b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return tensor_pow(<Tensor>a, <Tensor>b)
    if isinstance(a, Tensor):
        if plain_number(b):
            if is_float((<Tensor>a).array.dtype):
                return number_power(<Tensor>a, b)
            if type(b) is int and b < 0:
                raise RuntimeError(f"[pow] integers to negative integer powers are not allowed; got exponent {b}")
        b = coerce(b, <Tensor>a)
        return b if b is NotImplemented else tensor_pow(<Tensor>a, <Tensor>b)
    a = coerce(a, <Tensor>b)
    return a if a is NotImplemented else tensor_pow(<Tensor>a, <Tensor>b)


cdef object floordiv_operator(object a, object b):
    a, b = coerced(a, b)
    return NotImplemented if a is None else divided_down(FG_KERNEL_floor_divide, <Tensor>a, <Tensor>b, "floor_divide")


cdef object mod_operator(object a, object b):
    a, b = coerced(a, b)
    return NotImplemented if a is None else divided_down(FG_KERNEL_remainder, <Tensor>a, <Tensor>b, "remainder")


cdef tuple coerced(object a, object b):
    """Both operands as tensors, or (None, None) where one is foreign."""
    if not isinstance(a, Tensor):
        a = coerce(a, <Tensor>b)
    elif not isinstance(b, Tensor):
        b = coerce(b, <Tensor>a)
    return (None, None) if a is NotImplemented or b is NotImplemented else (a, b)


cdef object comparison(int kernel, object a, object b, str name):
    cdef int code
    cdef Tensor left, right
    if type(a) is Tensor and plain_number(b) and is_float((<Tensor>a).array.dtype):
        return run_with_number(kernel, <Tensor>a, b, 0, FG_BOOL, False)
    a, b = coerced(a, b)
    if a is None:
        return NotImplemented
    left, right = <Tensor>a, <Tensor>b
    code = promoted(left, right)
    return run_binary(kernel, data_as(left, code), data_as(right, code), FG_BOOL, name, NULL)


cdef Tensor data_as(Tensor x, int code):
    """x cast, outside the graph."""
    return x if x.array.dtype == code else cast(alias(x), code)


cdef object eq_operator(object a, object b): return comparison(FG_KERNEL_eq, a, b, "eq")
cdef object ne_operator(object a, object b): return comparison(FG_KERNEL_ne, a, b, "ne")
cdef object lt_operator(object a, object b): return comparison(FG_KERNEL_lt, a, b, "lt")
cdef object le_operator(object a, object b): return comparison(FG_KERNEL_le, a, b, "le")
cdef object gt_operator(object a, object b): return comparison(FG_KERNEL_gt, a, b, "gt")
cdef object ge_operator(object a, object b): return comparison(FG_KERNEL_ge, a, b, "ge")


cdef object bitwise(int kernel, object a, object b, str name):
    cdef int code
    a, b = coerced(a, b)
    if a is None:
        return NotImplemented
    code = promoted(<Tensor>a, <Tensor>b)
    if is_float(code):
        raise RuntimeError(f"[{name}] bitwise operations are for integer and bool tensors; got {dtype_object(code)}")
    return run_binary(kernel, cast(<Tensor>a, code), cast(<Tensor>b, code), code, name, NULL)


cdef object and_operator(object a, object b): return bitwise(FG_KERNEL_bitwise_and, a, b, "bitwise_and")
cdef object or_operator(object a, object b): return bitwise(FG_KERNEL_bitwise_or, a, b, "bitwise_or")
cdef object xor_operator(object a, object b): return bitwise(FG_KERNEL_bitwise_xor, a, b, "bitwise_xor")

cdef object neg_operator(Tensor x): return tensor_neg(x)
cdef object abs_operator(Tensor x): return unary(&ABS, x)

cdef object invert_operator(Tensor x):
    if is_float(x.array.dtype):
        raise TypeError(f"[bitwise_not] ~ is for integer and bool tensors; got {x.dtype}")
    return run_unary(FG_KERNEL_bitwise_not, x, new_like(x))


# In-place arithmetic


ctypedef Tensor (*binary_function)(Tensor, Tensor)


cdef object in_place(binary_function function, int kernel, Tensor a, object other, str name):
    """a = function(a, other), written into a's memory."""
    cdef Tensor stand_in, result, b
    cdef int code
    cdef fg_array wide
    cdef fg_array number
    cdef fg_array* operands[3]
    cdef fg_params params
    if not isinstance(other, Tensor) and not is_number(other) and not hasattr(other, "__array_interface__"):
        return NotImplemented
    if kernel >= 0 and plain_number(other) and is_float(a.array.dtype) and not recording(a):
        check_in_place(a, name)
        number.data, number.ndim, number.dtype = NULL, 0, a.array.dtype
        params.f[2] = other
        operands[0], operands[1], operands[2] = &a.array, &a.array, &number
        launch(kernel, operands, 3, &params, numel(&a.array))
        return a
    b = coerce(other, a)
    if kernel >= 0 and b.array.dtype == a.array.dtype and is_float(a.array.dtype) and not recording2(a, b) and (
            same_shape(&a.array, &b.array) or b.array.ndim == 0) and b.storage is not a.storage:
        check_in_place(a, name)
        broadcast_into(&wide, &b.array, a.array.ndim, a.array.shape)
        operands[0], operands[1], operands[2] = &a.array, &a.array, &wide
        launch(kernel, operands, 3, NULL, numel(&a.array))
        return a
    stand_in = history_stand_in(a, recording2(a, b))
    result = function(stand_in, stand_in if b is a else b)
    if not same_shape(&result.array, &a.array):
        raise RuntimeError(
            f"[{name}] output with shape {shape_text(&a.array)} doesn't match the broadcast shape "
            f"{shape_text(&result.array)}; got operand {shape_text(&b.array)}"
        )
    if kind(result.array.dtype) > kind(a.array.dtype):
        raise RuntimeError(f"[{name}] result type {result.dtype} can't be cast to the tensor's; got {a.dtype}")
    check_in_place(a, name)
    copy_into(a, result)
    if result.array.dtype != a.array.dtype:
        result = cast(result, a.array.dtype)
    rebase(a, result)
    return a


cdef Tensor floor_divide_tensors(Tensor a, Tensor b): return divided_down(FG_KERNEL_floor_divide, a, b, "floor_divide")
cdef Tensor remainder_tensors(Tensor a, Tensor b): return divided_down(FG_KERNEL_remainder, a, b, "remainder")
cdef Tensor and_tensors(Tensor a, Tensor b): return bitwise(FG_KERNEL_bitwise_and, a, b, "bitwise_and")
cdef Tensor or_tensors(Tensor a, Tensor b): return bitwise(FG_KERNEL_bitwise_or, a, b, "bitwise_or")
cdef Tensor xor_tensors(Tensor a, Tensor b): return bitwise(FG_KERNEL_bitwise_xor, a, b, "bitwise_xor")

cdef object iadd(object a, object b): return in_place(tensor_add, FG_KERNEL_add, a, b, "add_")
cdef object isub(object a, object b): return in_place(tensor_sub, FG_KERNEL_sub, a, b, "sub_")
cdef object imul(object a, object b): return in_place(tensor_mul, FG_KERNEL_mul, a, b, "mul_")
cdef object itruediv(object a, object b): return in_place(tensor_div, FG_KERNEL_div, a, b, "div_")
cdef object ipow(object a, object b): return in_place(tensor_pow, FG_KERNEL_pow, a, b, "pow_")
cdef object ifloordiv(object a, object b): return in_place(floor_divide_tensors, -1, a, b, "floor_divide_")
cdef object imod(object a, object b): return in_place(remainder_tensors, -1, a, b, "remainder_")
cdef object iand(object a, object b): return in_place(and_tensors, -1, a, b, "bitwise_and_")
cdef object ior(object a, object b): return in_place(or_tensors, -1, a, b, "bitwise_or_")
cdef object ixor(object a, object b): return in_place(xor_tensors, -1, a, b, "bitwise_xor_")


# Selection


cdef Op WHERE
cdef Op CLAMP
WHERE.name, WHERE.rule = b"WhereBackward0", where_rule
CLAMP.name, CLAMP.rule = b"ClampBackward1", clamp_rule


cdef Tensor zeros_of(Tensor x):
    """Zeros of x's shape and dtype, outside the graph."""
    cdef Tensor zero = new_like(x)
    fill_with(zero, 0, 0)
    return zero


cdef int where_rule(Node node, Tensor d) except -1:
    condition = node.saved(0)
    zero = zeros_of(d)
    if node.needs(1): node.give(1, select(condition, d, zero))
    if node.needs(2): node.give(2, select(condition, zero, d))
    return 0


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
    out = new_tensor(code, ndim, shape)
    ndim = broadcast_shape(&out.array, &condition.array, shape, "where")
    if not (ndim == out.array.ndim and all([shape[k] == out.array.shape[k] for k in range(ndim)])):
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


def replace_in_place(Tensor input, function, str name):
    """input = function(input), written into its memory and recorded so."""
    cdef Tensor result
    cdef Tensor stand_in = history_stand_in(input, recording(input))
    result = function(stand_in)
    if not same_shape(&result.array, &input.array):
        raise RuntimeError(
            f"[{name}] output with shape {shape_text(&input.array)} doesn't match the broadcast shape "
            f"{shape_text(&result.array)}; got an in-place operation"
        )
    if kind(result.array.dtype) > kind(input.array.dtype):
        raise RuntimeError(f"[{name}] result type {result.dtype} can't be cast to the tensor's; got {input.dtype}")
    check_in_place(input, name)
    copy_into(input, result)
    rebase(input, cast(result, input.array.dtype))
    return input


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
    low.data, low.ndim, low.dtype = NULL, 0, x.array.dtype
    high.data, high.ndim, high.dtype = NULL, 0, x.array.dtype
    params.f[3], params.f[4] = node.numbers[0], node.numbers[1]
    operands[0], operands[1], operands[2], operands[3], operands[4] = &dx.array, &d.array, &x.array, &low, &high
    launch(FG_KERNEL_clamp_backward, operands, 5, &params, numel(&x.array))
    return node.give(0, dx)


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
    first.data, first.ndim, first.dtype = NULL, 0, code
    second.data, second.ndim, second.dtype = NULL, 0, code
    if is_float(code):
        params.f[2] = -INFINITY if low is None else low
        params.f[3] = INFINITY if high is None else high
    else:
        params.i[2] = -(1 << 63) if low is None else low
        params.i[3] = (1 << 63) - 1 if high is None else high
    operands[0], operands[1], operands[2], operands[3] = &out.array, &x.array, &first, &second
    launch(FG_KERNEL_clamp, operands, 4, &params, numel(&x.array))
    if recording(x):
        node = record(&CLAMP, out, 1)
        connect(node, 0, x)
        save(node, 0, x)
        node.numbers[0], node.numbers[1] = params.f[2], params.f[3]
    return out


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
            input = select(input < min, as_operand(min, input, "clamp"), input)
        if max is not None:
            input = select(input > max, as_operand(max, input, "clamp"), input)
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


# Functions of two tensors, or of a tensor and a number


cdef Tensor scaled(object other, object alpha, Tensor input, str op):
    cdef Tensor b = as_operand(other, input, op)
    if alpha == 1:
        return b
    if isinstance(alpha, float) and not is_float(promoted(input, b)):
        raise RuntimeError(f"[{op}] for integral input tensors, alpha must not be a floating point number; got {alpha}")
    return b * alpha


def add(input, other, *, alpha=1):
    """input + alpha * other, broadcast and promoted. See torch.add.

    >>> import fastgrad
    >>> fastgrad.add(fastgrad.ones(2), fastgrad.ones(2), alpha=2)
    tensor([3., 3.])
    """
    if alpha == 1 or not isinstance(input, Tensor):
        return add_operator(input, other if alpha == 1 else other * alpha)
    return tensor_add(<Tensor>input, scaled(other, alpha, <Tensor>input, "add"))


def sub(input, other, *, alpha=1):
    """input - alpha * other, broadcast and promoted. See torch.sub.

    >>> import fastgrad
    >>> fastgrad.sub(fastgrad.ones(2), 3)
    tensor([-2., -2.])
    """
    if alpha == 1 or not isinstance(input, Tensor):
        return sub_operator(input, other if alpha == 1 else other * alpha)
    return tensor_sub(<Tensor>input, scaled(other, alpha, <Tensor>input, "sub"))


def rsub(Tensor input, other, *, alpha=1):
    """other - alpha * input. See torch.rsub."""
    return sub_operator(other, input if alpha == 1 else input * alpha)


def mul(input, other):
    """input * other, broadcast and promoted. See torch.mul.

    >>> import fastgrad
    >>> fastgrad.mul(fastgrad.tensor([1., 2.]), 3)
    tensor([3., 6.])
    """
    return mul_operator(input, other)


def div(input, other, *, rounding_mode=None):
    """input / other, broadcast, always a float; rounded with `rounding_mode` "floor" or "trunc". See torch.div.

    >>> import fastgrad
    >>> fastgrad.div(fastgrad.tensor([7, -7]), 2, rounding_mode="floor")
    tensor([ 3, -4])
    """
    if rounding_mode is None:
        return truediv_operator(input, other)
    if rounding_mode == "floor":
        return floordiv_operator(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(f"[div] rounding_mode must be None, 'trunc' or 'floor'; got {rounding_mode!r}")
    a, b = coerced(input, other)
    if is_float(promoted(<Tensor>a, <Tensor>b)):
        return unary(&TRUNC, tensor_div(<Tensor>a, <Tensor>b))
    return tensor_div_exactly(<Tensor>a, <Tensor>b)


cdef Tensor tensor_div_exactly(Tensor a, Tensor b):
    """Integer division toward zero: what fmod leaves, divided."""
    return divided_down(FG_KERNEL_floor_divide, a - divided_down(FG_KERNEL_fmod, a, b, "div"), b, "div")


def pow(input, exponent):
    """input ** exponent, broadcast and promoted. The derivative at 0 ** 0 is 0. See torch.pow.

    >>> import fastgrad
    >>> fastgrad.pow(fastgrad.tensor([2., 3.]), 2)
    tensor([4., 9.])
    """
    return pow_operator(input, exponent)


def maximum(Tensor input, Tensor other):
    """The larger of the two, elementwise; NaN if either is. At ties the gradient is shared evenly. See torch.maximum.

    >>> import fastgrad
    >>> fastgrad.maximum(fastgrad.tensor([1., 4.]), fastgrad.tensor([2., 3.]))
    tensor([2., 4.])
    """
    return extremum(&MAXIMUM, FG_KERNEL_maximum, input, other, "maximum")


def minimum(Tensor input, Tensor other):
    """The smaller of the two, elementwise; NaN if either is. At ties the gradient is shared evenly. See torch.minimum.

    >>> import fastgrad
    >>> fastgrad.minimum(fastgrad.tensor([1., 4.]), fastgrad.tensor([2., 3.]))
    tensor([1., 3.])
    """
    return extremum(&MINIMUM, FG_KERNEL_minimum, input, other, "minimum")


def floor_divide(input, other):
    """floor(input / other), broadcast and promoted; not differentiable. See torch.floor_divide."""
    return floordiv_operator(input, other)


def remainder(input, other):
    """input - other * floor(input / other), with the sign of other. See torch.remainder."""
    return mod_operator(input, other)


def fmod(Tensor input, other):
    """C's fmod: the remainder with the sign of input. See torch.fmod."""
    return divided_down(FG_KERNEL_fmod, input, as_operand(other, input, "fmod"), "fmod")


def eq(Tensor input, other):
    """input == other elementwise, a bool tensor. See torch.eq."""
    return eq_operator(input, other)


def ne(Tensor input, other):
    """input != other elementwise, a bool tensor. See torch.ne."""
    return ne_operator(input, other)


def lt(Tensor input, other):
    """input < other elementwise, a bool tensor. See torch.lt."""
    return lt_operator(input, other)


def le(Tensor input, other):
    """input <= other elementwise, a bool tensor. See torch.le."""
    return le_operator(input, other)


def gt(Tensor input, other):
    """input > other elementwise, a bool tensor. See torch.gt."""
    return gt_operator(input, other)


def ge(Tensor input, other):
    """input >= other elementwise, a bool tensor. See torch.ge."""
    return ge_operator(input, other)


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


def bitwise_and(input, other):
    """input & other for integer and bool tensors. See torch.bitwise_and."""
    return and_operator(input, other)


def bitwise_or(input, other):
    """input | other for integer and bool tensors. See torch.bitwise_or."""
    return or_operator(input, other)


def bitwise_xor(input, other):
    """input ^ other for integer and bool tensors. See torch.bitwise_xor."""
    return xor_operator(input, other)


def bitwise_not(Tensor input):
    """~input for integer and bool tensors. See torch.bitwise_not."""
    return invert_operator(input)


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


def add_(Tensor input, other, *, alpha=1):
    """input += alpha * other. See torch.Tensor.add_."""
    return not_foreign(iadd(input, other if alpha == 1 else scaled(other, alpha, input, "add_")), "add_", other)


def sub_(Tensor input, other, *, alpha=1):
    """input -= alpha * other. See torch.Tensor.sub_."""
    return not_foreign(isub(input, other if alpha == 1 else scaled(other, alpha, input, "sub_")), "sub_", other)


def mul_(Tensor input, other):
    """input *= other. See torch.Tensor.mul_."""
    return not_foreign(imul(input, other), "mul_", other)


def div_(Tensor input, other, *, rounding_mode=None):
    """input /= other, rounded as `div`. See torch.Tensor.div_."""
    if rounding_mode is not None:
        return replace_in_place(input, lambda old: div(old, other, rounding_mode=rounding_mode), "div_")
    return not_foreign(itruediv(input, other), "div_", other)


def pow_(Tensor input, exponent):
    """input **= exponent. See torch.Tensor.pow_."""
    return not_foreign(ipow(input, exponent), "pow_", exponent)


cdef object not_foreign(object result, str op, object operand):
    if result is NotImplemented:
        raise TypeError(f"[{op}] an operand must be a Tensor or a number; got {type(operand).__name__}")
    return result


def addcmul_(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input += value * tensor1 * tensor2. See torch.Tensor.addcmul_."""
    return iadd(input, tensor1 * tensor2 * value)


def addcdiv_(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input += value * tensor1 / tensor2. See torch.Tensor.addcdiv_."""
    return iadd(input, tensor1 / tensor2 * value)


def addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input + value * tensor1 * tensor2. See torch.addcmul."""
    return input + tensor1 * tensor2 * value


def addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input + value * tensor1 / tensor2. See torch.addcdiv."""
    return input + tensor1 / tensor2 * value


def lerp(Tensor input, Tensor end, weight):
    """input + weight * (end - input). See torch.lerp."""
    return input + (end - input) * weight


def lerp_(Tensor input, Tensor end, weight):
    """`lerp` in place."""
    return replace_in_place(input, lambda old: lerp(old, end, weight), "lerp_")


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


# Types


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


cdef int accumulate(Tensor into, Tensor x) except -1:
    """into += x, broadcast; not recorded."""
    cdef fg_array wide
    cdef fg_array* operands[3]
    if x.array.dtype != into.array.dtype:
        x = cast(alias(x), into.array.dtype)
    broadcast_into(&wide, &x.array, into.array.ndim, into.array.shape)
    operands[0], operands[1], operands[2] = &into.array, &into.array, &wide
    return launch(FG_KERNEL_add, operands, 3, NULL, numel(&into.array))


cdef Tensor zeros_of_shape(int code, int ndim, const int64_t* shape):
    cdef Tensor zero = new_tensor(code, ndim, shape)
    memset(zero.array.data, 0, zero.storage.nbytes)
    return zero


engine_ops.add = tensor_add
engine_ops.accumulate = accumulate
engine_ops.cast = cast
engine_ops.clone = tensor_clone
engine_ops.zeros = zeros_of_shape
engine_ops.copy = copy_into

operators.add, operators.sub, operators.mul, operators.truediv = add_operator, sub_operator, mul_operator, truediv_operator
operators.floordiv, operators.mod, operators.pow = floordiv_operator, mod_operator, pow_operator
operators.and_, operators.or_, operators.xor = and_operator, or_operator, xor_operator
operators.eq, operators.ne, operators.lt = eq_operator, ne_operator, lt_operator
operators.le, operators.gt, operators.ge = le_operator, gt_operator, ge_operator
operators.neg, operators.abs, operators.invert = neg_operator, abs_operator, invert_operator
operators.iadd, operators.isub, operators.imul, operators.itruediv = iadd, isub, imul, itruediv
operators.ifloordiv, operators.imod, operators.ipow = ifloordiv, imod, ipow
operators.iand, operators.ior, operators.ixor = iand, ior, ixor
