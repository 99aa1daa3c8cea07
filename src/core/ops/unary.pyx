"""Functions of one tensor, element by element.

Each is a row: kernel, what its gradient rule wants to see again, the rule. Kinks have PyTorch's values: relu'(0) = 0,
abs'(0) = 0, sqrt'(0) = inf.
"""

import math

from fastgrad._core.graph cimport connect, grad_enabled, record, recording, save, save_output
from fastgrad._core.views cimport check_in_place, history_stand_in, rebase
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, fg_array
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport cast, zeros_of
from fastgrad._core.ops.operands cimport broadcast_into, run_unary
from fastgrad._core.ops.selection cimport select
from fastgrad._core.tensor cimport alias, default_dtype, dtype_object, is_float, new_like, numel, operators, same_shape


cdef Unary unary_row(const char* node_name, const char* name, int kernel, Wants wants, bint to_float,
                     int (*rule)(Node, Tensor) except -1):
    cdef Unary row
    row.op.name, row.op.rule, row.kernel, row.wants, row.to_float, row.name = node_name, rule, kernel, wants, to_float, name
    return row


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
        raise RuntimeError(
            f"[{name}] result type {dtype_object(default_dtype)} can't be cast to the tensor's; got {x.dtype}"
        )
    if x.array.dtype == FG_BOOL and row.kernel == FG_KERNEL_neg:
        raise RuntimeError("[neg_] negation of a bool tensor is not supported, use ~ or logical_not; got bool")
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


# In place


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


cdef object neg_operator(Tensor x): return unary(&NEG, x)
cdef object abs_operator(Tensor x): return unary(&ABS, x)

operators.neg, operators.abs = neg_operator, abs_operator
