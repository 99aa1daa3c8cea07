"""Arithmetic of two tensors, or of a tensor and a number.

maximum and minimum share the gradient evenly at ties, and the derivative of a power at 0 ** 0 is 0, as in PyTorch.
"""

from fastgrad._core.graph cimport Node, Op, connect, engine_ops, record, recording, recording2, save, save_output
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL
from fastgrad._core.ops.copying cimport cast, data_as, identity_rule, zeros_of
from fastgrad._core.ops.in_place cimport binary_in_place, replace_in_place
from fastgrad._core.ops.operands cimport (
    as_operand, called, coerced_call, plain_number, promoted, run_binary, run_in_place, run_with_number,
)
from fastgrad._core.ops.selection cimport select
from fastgrad._core.ops.unary cimport FLOOR, LOG, SQUARE, TRUNC, neg_rule, unary
from fastgrad._core.tensor cimport default_dtype, is_float, operators


# Two tensors


cdef enum Keeps:
    NEITHER
    FOR_THE_OTHER      # an operand is seen again by the other one's gradient
    SECOND_ALWAYS      # likewise, and the second by its own too
    BOTH

cdef struct Binary:
    Op op
    int kernel
    Keeps keeps


cdef Binary binary_row(const char* node_name, int kernel, Keeps keeps, int (*rule)(Node, Tensor) except -1):
    cdef Binary row
    row.op.name, row.op.rule, row.kernel, row.keeps = node_name, rule, kernel, keeps
    return row


cdef Binary ADD = binary_row(b"AddBackward0", FG_KERNEL_add, NEITHER, add_rule)
cdef Binary SUB = binary_row(b"SubBackward0", FG_KERNEL_sub, NEITHER, sub_rule)
cdef Binary MUL = binary_row(b"MulBackward0", FG_KERNEL_mul, FOR_THE_OTHER, mul_rule)
cdef Binary DIV = binary_row(b"DivBackward0", FG_KERNEL_div, SECOND_ALWAYS, div_rule)
cdef Binary POW = binary_row(b"PowBackward1", FG_KERNEL_pow, BOTH, pow_rule)
cdef Binary MAXIMUM = binary_row(b"MaximumBackward0", FG_KERNEL_maximum, BOTH, extremum_rule)
cdef Binary MINIMUM = binary_row(b"MinimumBackward0", FG_KERNEL_minimum, BOTH, extremum_rule)
cdef Binary REMAINDER = binary_row(b"RemainderBackward0", FG_KERNEL_remainder, BOTH, remainder_rule)
cdef Binary FMOD = binary_row(b"FmodBackward0", FG_KERNEL_fmod, BOTH, remainder_rule)


cdef Tensor binary(Binary* row, Tensor a, Tensor b, int code, str name):
    """The op of that row in the dtype `code`."""
    cdef Tensor out
    cdef Node node
    if a.array.dtype != code: a = cast(a, code)
    if b.array.dtype != code: b = cast(b, code)
    out = run_binary(row.kernel, a, b, code, name)
    if recording2(a, b):
        node = record(&row.op, out, 2)
        connect(node, 0, a)
        connect(node, 1, b)
        if row.keeps == BOTH or (row.keeps != NEITHER and node.edges[1].target != NULL):
            save(node, 0, a)
        if row.keeps >= SECOND_ALWAYS or (row.keeps == FOR_THE_OTHER and node.edges[0].target != NULL):
            save(node, 1, b)
    return out


cdef Tensor tensor_add(Tensor a, Tensor b):
    return binary(&ADD, a, b, promoted(a, b), "add")


cdef Tensor tensor_sub(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    if a.array.dtype == FG_BOOL or b.array.dtype == FG_BOOL:
        raise RuntimeError(
            f"[sub] subtraction with a bool tensor is not supported, use ^ or logical_xor or ~; got {a.dtype} and {b.dtype}"
        )
    return binary(&SUB, a, b, code, "sub")


cdef Tensor tensor_mul(Tensor a, Tensor b):
    return binary(&MUL, a, b, promoted(a, b), "mul")


cdef Tensor tensor_div(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    return binary(&DIV, a, b, code if is_float(code) else default_dtype, "div")


cdef Tensor tensor_pow(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    if code == FG_BOOL:
        raise RuntimeError("[pow] a bool tensor has no powers; got bool ** bool")
    return binary(&POW, a, b, code, "pow")


cdef Tensor tensor_maximum(Tensor a, Tensor b):
    return binary(&MAXIMUM, a, b, promoted(a, b), "maximum")


cdef Tensor tensor_minimum(Tensor a, Tensor b):
    return binary(&MINIMUM, a, b, promoted(a, b), "minimum")


cdef int check_divisible(Tensor b, int code, str name) except -1:
    if code == FG_BOOL:
        raise RuntimeError(f"[{name}] bool tensors cannot be divided; got bool")
    if not is_float(code) and (b == 0).any():
        raise RuntimeError(f"[{name}] an integer tensor cannot be divided by zero; got a zero in the divisor")
    return 0


cdef Tensor tensor_floor_divide(Tensor a, Tensor b):
    cdef int code = promoted(a, b)
    check_divisible(b, code, "floor_divide")
    return run_binary(FG_KERNEL_floor_divide, data_as(a, code), data_as(b, code), code, "floor_divide")


cdef Tensor remaining(Binary* row, Tensor a, Tensor b, str name):
    cdef int code = promoted(a, b)
    check_divisible(b, code, name)
    return binary(row, a, b, code, name)


cdef Tensor tensor_remainder(Tensor a, Tensor b):
    return remaining(&REMAINDER, a, b, "remainder")


cdef Tensor tensor_div_trunc(Tensor a, Tensor b):
    """Division toward zero; of integers it is exact: what fmod leaves, divided."""
    if is_float(promoted(a, b)):
        return unary(&TRUNC, tensor_div(a, b))
    return tensor_floor_divide(a - remaining(&FMOD, a, b, "div"), b)


cdef int add_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    if node.needs(1): node.give(1, d)
    return 0

cdef int sub_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    if node.needs(1): node.give(1, -d)
    return 0

cdef int mul_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, tensor_mul(d, node.saved(1)))
    if node.needs(1): node.give(1, tensor_mul(d, node.saved(0)))
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
    a_wins = a > b if node.op == &MAXIMUM.op else a < b
    share = select(a == b, d * 0.5, d)
    zero = zeros_of(d)
    if node.needs(0): node.give(0, select(a_wins | (a == b), share, zero))
    if node.needs(1): node.give(1, select(a_wins, zero, share))
    return 0

cdef int remainder_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    rounding = &FLOOR if node.op == &REMAINDER.op else &TRUNC
    if node.needs(1): node.give(1, -d * unary(rounding, node.saved(0) / node.saved(1)))
    return 0


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


# Operators


cdef object add_operator(object a, object b):
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return tensor_add(<Tensor>a, <Tensor>b)
        if plain_number(b) and is_float((<Tensor>a).array.dtype):
            return float_with_number(FG_KERNEL_add, &SHIFT, <Tensor>a, b, False)
        return coerced_call(tensor_add, a, b)
    return add_operator(b, a)


cdef object sub_operator(object a, object b):
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return tensor_sub(<Tensor>a, <Tensor>b)
        if plain_number(b) and is_float((<Tensor>a).array.dtype):
            return float_with_number(FG_KERNEL_sub, &SHIFT, <Tensor>a, b, False)
    elif plain_number(a) and is_float((<Tensor>b).array.dtype):
        return float_with_number(FG_KERNEL_sub, &REVERSE, <Tensor>b, a, True)
    if isinstance(a, bool) or isinstance(b, bool):
        raise RuntimeError(f"[sub] subtraction with a bool is not supported; got {b if isinstance(b, bool) else a}")
    return coerced_call(tensor_sub, a, b)


cdef object mul_operator(object a, object b):
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return tensor_mul(<Tensor>a, <Tensor>b)
        if plain_number(b) and is_float((<Tensor>a).array.dtype):
            return scale(<Tensor>a, b)
        return coerced_call(tensor_mul, a, b)
    return mul_operator(b, a)


cdef object truediv_operator(object a, object b):
    # A number is not made an integer tensor first: it would wrap there.
    if plain_number(a):
        return number_over(a, <Tensor>b if is_float((<Tensor>b).array.dtype) else cast(<Tensor>b, default_dtype))
    if plain_number(b) and not is_float((<Tensor>a).array.dtype):
        a = cast(<Tensor>a, default_dtype)
    return coerced_call(tensor_div, a, b)


cdef object pow_operator(object a, object b):
    if isinstance(a, Tensor) and plain_number(b):
        if is_float((<Tensor>a).array.dtype):
            return number_power(<Tensor>a, b)
        if type(b) is int and b < 0:
            raise RuntimeError(f"[pow] integers to negative integer powers are not allowed; got exponent {b}")
    if isinstance(b, bool) and isinstance(a, Tensor) and (<Tensor>a).array.dtype == FG_BOOL:
        return a | (not b)      # True is the first power, False the power 0
    return coerced_call(tensor_pow, a, b)


cdef object floordiv_operator(object a, object b): return coerced_call(tensor_floor_divide, a, b)
cdef object mod_operator(object a, object b): return coerced_call(tensor_remainder, a, b)
cdef object div_trunc_operator(object a, object b): return coerced_call(tensor_div_trunc, a, b)

cdef object iadd(object a, object b): return binary_in_place(tensor_add, FG_KERNEL_add, a, b, "add_")
cdef object isub(object a, object b): return binary_in_place(tensor_sub, FG_KERNEL_sub, a, b, "sub_")
cdef object imul(object a, object b): return binary_in_place(tensor_mul, FG_KERNEL_mul, a, b, "mul_")
cdef object itruediv(object a, object b): return binary_in_place(tensor_div, FG_KERNEL_div, a, b, "div_")
cdef object ipow(object a, object b): return binary_in_place(tensor_pow, FG_KERNEL_pow, a, b, "pow_")
cdef object ifloordiv(object a, object b): return binary_in_place(tensor_floor_divide, -1, a, b, "floor_divide_")
cdef object imod(object a, object b): return binary_in_place(tensor_remainder, -1, a, b, "remainder_")

operators.add, operators.sub, operators.mul, operators.truediv = add_operator, sub_operator, mul_operator, truediv_operator
operators.floordiv, operators.mod, operators.pow = floordiv_operator, mod_operator, pow_operator
operators.iadd, operators.isub, operators.imul, operators.itruediv = iadd, isub, imul, itruediv
operators.ifloordiv, operators.imod, operators.ipow = ifloordiv, imod, ipow


cdef int accumulate(Tensor into, Tensor x) except -1:
    """into += x, broadcast; not recorded."""
    return run_in_place(FG_KERNEL_add, into, data_as(x, into.array.dtype))


engine_ops.add, engine_ops.accumulate = tensor_add, accumulate


# Functions


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
        return called(add_operator, input, other if alpha == 1 else other * alpha, "add")
    return tensor_add(<Tensor>input, scaled(other, alpha, <Tensor>input, "add"))


def sub(input, other, *, alpha=1):
    """input - alpha * other, broadcast and promoted. See torch.sub.

    >>> import fastgrad
    >>> fastgrad.sub(fastgrad.ones(2), 3)
    tensor([-2., -2.])
    """
    if alpha == 1 or not isinstance(input, Tensor):
        return called(sub_operator, input, other if alpha == 1 else other * alpha, "sub")
    return tensor_sub(<Tensor>input, scaled(other, alpha, <Tensor>input, "sub"))


def rsub(Tensor input, other, *, alpha=1):
    """other - alpha * input. See torch.rsub."""
    return called(sub_operator, other, input if alpha == 1 else input * alpha, "rsub")


def mul(input, other):
    """input * other, broadcast and promoted. See torch.mul.

    >>> import fastgrad
    >>> fastgrad.mul(fastgrad.tensor([1., 2.]), 3)
    tensor([3., 6.])
    """
    return called(mul_operator, input, other, "mul")


def div(input, other, *, rounding_mode=None):
    """input / other, broadcast, always a float; rounded with `rounding_mode` "floor" or "trunc". See torch.div.

    >>> import fastgrad
    >>> fastgrad.div(fastgrad.tensor([7, -7]), 2, rounding_mode="floor")
    tensor([ 3, -4])
    """
    if rounding_mode is None:
        return called(truediv_operator, input, other, "div")
    if rounding_mode == "floor":
        return called(floordiv_operator, input, other, "div")
    if rounding_mode != "trunc":
        raise RuntimeError(f"[div] rounding_mode must be None, 'trunc' or 'floor'; got {rounding_mode!r}")
    return called(div_trunc_operator, input, other, "div")


def pow(input, exponent):
    """input ** exponent, broadcast and promoted. The derivative at 0 ** 0 is 0. See torch.pow.

    >>> import fastgrad
    >>> fastgrad.pow(fastgrad.tensor([2., 3.]), 2)
    tensor([4., 9.])
    """
    return called(pow_operator, input, exponent, "pow")


def maximum(Tensor input, Tensor other):
    """The larger of the two, elementwise; NaN if either is. At ties the gradient is shared evenly. See torch.maximum.

    >>> import fastgrad
    >>> fastgrad.maximum(fastgrad.tensor([1., 4.]), fastgrad.tensor([2., 3.]))
    tensor([2., 4.])
    """
    return tensor_maximum(input, other)


def minimum(Tensor input, Tensor other):
    """The smaller of the two, elementwise; NaN if either is. At ties the gradient is shared evenly. See torch.minimum.

    >>> import fastgrad
    >>> fastgrad.minimum(fastgrad.tensor([1., 4.]), fastgrad.tensor([2., 3.]))
    tensor([1., 3.])
    """
    return tensor_minimum(input, other)


def floor_divide(input, other):
    """floor(input / other), broadcast and promoted; not differentiable. See torch.floor_divide."""
    return called(floordiv_operator, input, other, "floor_divide")


def remainder(input, other):
    """input - other * floor(input / other), with the sign of other. See torch.remainder."""
    return called(mod_operator, input, other, "remainder")


def fmod(Tensor input, other):
    """C's fmod: the remainder with the sign of input. See torch.fmod."""
    return remaining(&FMOD, input, as_operand(other, input, "fmod"), "fmod")


def addcmul(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input + value * tensor1 * tensor2. See torch.addcmul."""
    return input + tensor1 * tensor2 * value


def addcdiv(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input + value * tensor1 / tensor2. See torch.addcdiv."""
    return input + tensor1 / tensor2 * value


def lerp(Tensor input, Tensor end, weight):
    """input + weight * (end - input). See torch.lerp."""
    return input + (end - input) * weight


def add_(Tensor input, other, *, alpha=1):
    """input += alpha * other. See torch.Tensor.add_."""
    return called(iadd, input, other if alpha == 1 else scaled(other, alpha, input, "add_"), "add_")


def sub_(Tensor input, other, *, alpha=1):
    """input -= alpha * other. See torch.Tensor.sub_."""
    return called(isub, input, other if alpha == 1 else scaled(other, alpha, input, "sub_"), "sub_")


def mul_(Tensor input, other):
    """input *= other. See torch.Tensor.mul_."""
    return called(imul, input, other, "mul_")


def div_(Tensor input, other, *, rounding_mode=None):
    """input /= other, rounded as `div`. See torch.Tensor.div_."""
    if rounding_mode is not None:
        return replace_in_place(input, lambda old: div(old, other, rounding_mode=rounding_mode), "div_")
    return called(itruediv, input, other, "div_")


def pow_(Tensor input, exponent):
    """input **= exponent. See torch.Tensor.pow_."""
    return called(ipow, input, exponent, "pow_")


def addcmul_(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input += value * tensor1 * tensor2. See torch.Tensor.addcmul_."""
    return iadd(input, tensor1 * tensor2 * value)


def addcdiv_(Tensor input, Tensor tensor1, Tensor tensor2, *, value=1):
    """input += value * tensor1 / tensor2. See torch.Tensor.addcdiv_."""
    return iadd(input, tensor1 / tensor2 * value)


def lerp_(Tensor input, Tensor end, weight):
    """`lerp` in place."""
    return replace_in_place(input, lambda old: lerp(old, end, weight), "lerp_")
