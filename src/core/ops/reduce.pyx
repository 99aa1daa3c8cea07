"""Reductions and running sums.

Every reduction is one kernel over the axes in a mask. Ties: max and min with `dim` give the gradient to the element whose
index they return; without `dim`, and amax and amin, share it evenly among the ties, as PyTorch does.
"""

import math

from libc.stdint cimport int64_t, uint64_t

from fastgrad._core.graph cimport (
    Node, Op, OutputShape, connect, engine_ops, input_shape, record, recording, save, save_output,
)
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_INT64, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.arithmetic cimport tensor_maximum, tensor_minimum
from fastgrad._core.ops.copying cimport cast, contiguous, zeros_of
from fastgrad._core.ops.indexing cimport gathered
from fastgrad._core.ops.shape cimport expand_to, reshape_to
from fastgrad._core.tensor cimport Tensor, dtype_code, is_float, new_tensor, numel, shape_text, wrap_axis


cdef uint64_t axes_of(object dim, int ndim, str op) except? 0:
    """The axes that `dim` (None, an int, a tuple of ints) names, as a bit mask. None and () are all of them."""
    cdef uint64_t mask = 0, bit
    if dim is None or (isinstance(dim, (tuple, list)) and len(dim) == 0):
        return (<uint64_t>1 << (ndim if ndim else 1)) - 1
    for d in (dim if isinstance(dim, (tuple, list)) else (dim,)):
        bit = <uint64_t>1 << wrap_axis(d, ndim, op)
        if mask & bit:
            raise RuntimeError(f"[{op}] a dim must appear once in the list of dims; got {dim}")
        mask |= bit
    return mask


cdef Tensor reduced(int kernel, Tensor x, uint64_t mask, bint keepdim, int code):
    """The kernel's reduction of x over the axes in the mask."""
    cdef int64_t shape[12]
    cdef int axis, ndim = 0
    cdef Tensor out
    cdef fg_array wide
    cdef fg_array* operands[2]
    for axis in range(x.array.ndim):
        if not mask >> axis & 1:
            shape[ndim] = x.array.shape[axis]
            ndim += 1
        elif keepdim:
            shape[ndim] = 1
            ndim += 1
    out = new_tensor(code, ndim, shape)
    wide.data, wide.dtype, wide.ndim = out.array.data, code, x.array.ndim
    ndim = 0
    for axis in range(x.array.ndim):
        if mask >> axis & 1:
            wide.shape[axis], wide.strides[axis] = 1, 0
            ndim += keepdim
        else:
            wide.shape[axis], wide.strides[axis] = x.array.shape[axis], out.array.strides[ndim]
            ndim += 1
    operands[0], operands[1] = &wide, &x.array
    launch(kernel, operands, 2, NULL, numel(&x.array))
    return out


cdef int64_t reduced_count(Tensor x, uint64_t mask) noexcept:
    """How many elements go into one of the result."""
    cdef int64_t count = 1
    cdef int axis
    for axis in range(x.array.ndim):
        if mask >> axis & 1:
            count *= x.array.shape[axis]
    return count


cdef Tensor spread(Node node, Tensor d, uint64_t mask, bint keepdim):
    """The gradient, or another result of a reduction, repeated over the reduced axes."""
    cdef OutputShape shape = input_shape(node, 0)
    cdef int64_t kept[12]
    cdef int axis
    if not keepdim:
        for axis in range(shape.ndim):
            kept[axis] = 1 if mask >> axis & 1 else shape.shape[axis]
        d = reshape_to(d, shape.ndim, kept)
    return expand_to(d, shape.ndim, shape.shape, "expand")


cdef Tensor attached(Op* op, Tensor out, Tensor x, uint64_t mask, bint keepdim, bint keep_input, bint keep_output):
    cdef Node node
    if recording(x):
        node = record(op, out, 1)
        connect(node, 0, x)
        node.integers[0], node.integers[1] = mask, keepdim
        if keep_input:
            save(node, 0, x)
        if keep_output:
            save_output(node, 1, out)
    return out


cdef Op SUM
cdef Op MEAN
cdef Op PROD
cdef Op EXTREMUM
cdef Op NORM
cdef Op CUMSUM
cdef Op VALUES
SUM.name, SUM.rule = b"SumBackward0", sum_rule
MEAN.name, MEAN.rule = b"MeanBackward0", mean_rule
PROD.name, PROD.rule = b"ProdBackward0", prod_rule
EXTREMUM.name, EXTREMUM.rule = b"AmaxBackward0", extremum_rule
NORM.name, NORM.rule = b"LinalgVectorNormBackward0", norm_rule
CUMSUM.name, CUMSUM.rule = b"CumsumBackward0", cumsum_rule
VALUES.name, VALUES.rule = b"MaxBackward0", values_rule


cdef int sum_rule(Node node, Tensor d) except -1:
    return node.give(0, spread(node, d, node.integers[0], node.integers[1]))

cdef int mean_rule(Node node, Tensor d) except -1:
    return node.give(0, spread(node, d / node.integers[2], node.integers[0], node.integers[1]))

cdef int prod_rule(Node node, Tensor d) except -1:
    """The product of all the others: exact beside zeros, and differentiable itself."""
    x = node.saved(0)
    return node.give(0, spread(node, d, node.integers[0], node.integers[1]) * products_of_others(x, node.integers[0]))

cdef int extremum_rule(Node node, Tensor d) except -1:
    """Ties share evenly."""
    x, y = node.saved(0), node.saved(1)
    cdef uint64_t mask = node.integers[0]
    cdef bint keepdim = node.integers[1]
    ties = cast(x == spread(node, y.detach(), mask, keepdim), d.array.dtype)
    count = reduced(FG_KERNEL_sum, ties, mask, True, d.array.dtype)
    return node.give(0, spread(node, d, mask, keepdim) * (ties / count))

cdef int norm_rule(Node node, Tensor d) except -1:
    """The derivative of a norm at 0 is 0."""
    x, y = node.saved(0), node.saved(1)
    cdef uint64_t mask = node.integers[0]
    cdef bint keepdim = node.integers[1]
    p = node.numbers[0]
    d, y = spread(node, d, mask, keepdim), spread(node, y, mask, keepdim)
    if p == 2:
        ratio = x / y
    elif p == 1:
        return node.give(0, d * x.sign())
    elif math.isinf(p):
        ties = cast(x.abs() == y, d.array.dtype)
        return node.give(0, d * x.sign() * (ties / spread(node, reduced(FG_KERNEL_sum, ties, mask, True, d.array.dtype), mask, True)))
    elif p == 0:
        return node.give(0, zeros_of(x))
    elif p < 2:
        ratio = x.sign() * (x.abs() / y) ** (p - 1)
        ratio = ratio.masked_fill(x == 0, 0)
    else:
        ratio = x * x.abs() ** (p - 2) / y ** (p - 1)
    return node.give(0, d * ratio.masked_fill(y == 0, 0))

cdef int cumsum_rule(Node node, Tensor d) except -1:
    axis = node.integers[0]
    total = cumsum(d, axis)
    return node.give(0, d + (d.sum(axis, keepdim=True) - total))

cdef int values_rule(Node node, Tensor d) except -1:
    """The gradient goes to the element whose index was returned."""
    cdef OutputShape shape = input_shape(node, 0)
    index = node.saved(0)
    axis = node.integers[0]
    if not node.integers[1] and shape.ndim:
        d, index = d.unsqueeze(axis), index.unsqueeze(axis)
    zero = engine_ops.zeros(d.array.dtype, shape.ndim, shape.shape)
    return node.give(0, zero.scatter_add(axis, index, d) if shape.ndim else d)


cdef Tensor products_of_others(Tensor x, uint64_t mask):
    """For every element the product of the other elements that are reduced with it."""
    cdef list kept = [axis for axis in range(x.array.ndim) if not mask >> axis & 1]
    cdef list gone = [axis for axis in range(x.array.ndim) if mask >> axis & 1]
    if x.array.ndim == 0:
        return zeros_of(x) + 1
    count = reduced_count(x, mask)
    rows = x.permute(*kept, *gone).reshape(-1, count) if numel(&x.array) else x
    if numel(&x.array) == 0:
        return x
    one = zeros_of(rows.narrow(1, 0, 1)) + 1
    before, after = [one], [one]
    columns = rows.split(1, 1)
    for k in range(count - 1):
        before.append(before[k] * columns[k])
        after.append(after[k] * columns[count - 1 - k])
    from fastgrad._core.ops.shape import cat
    others = cat(before, 1) * cat(after[::-1], 1)
    shape = [x.array.shape[axis] for axis in kept + gone]
    inverse = sorted(range(len(shape)), key=(kept + gone).__getitem__)
    return others.reshape(shape).permute(*inverse)


cdef Tensor sum_to(Tensor x, int ndim, const int64_t* shape):
    """x summed over the axes along which a tensor of that shape would be broadcast; broadcast where x is the smaller."""
    cdef int axis, extra = x.array.ndim - ndim
    cdef uint64_t mask = 0
    cdef Tensor out = x
    for axis in range(x.array.ndim):
        if axis < extra or (axis - extra >= 0 and shape[axis - extra] == 1 and x.array.shape[axis] != 1):
            mask |= <uint64_t>1 << axis
    if mask:
        out = sum_mask(x, mask, True, x.array.dtype)
        if extra > 0:
            out = reshape_to(out, ndim, &out.array.shape[extra])
    return expand_to(out, ndim, shape, "backward")


cdef Tensor sum_mask(Tensor x, uint64_t mask, bint keepdim, int code):
    return attached(&SUM, reduced(FG_KERNEL_sum, x, mask, keepdim, code), x, mask, keepdim, False, False)


engine_ops.sum_to = sum_to


cdef Tensor as_summand(Tensor x, object dtype):
    """Cast to the dtype asked for, if one is."""
    if dtype is not None:
        return cast(x, dtype_code(dtype, -1))
    return x


def sum(Tensor input, dim=None, bint keepdim=False, *, dtype=None):
    """The sum over all axes or those of `dim`; integers and bools sum up in int64. See torch.sum.

    >>> import fastgrad
    >>> fastgrad.tensor([[1., 2.], [3., 4.]]).sum(0)
    tensor([4., 6.])
    """
    cdef Tensor x = as_summand(input, dtype)
    cdef uint64_t mask = axes_of(dim, x.array.ndim, "sum")
    return sum_mask(x, mask, keepdim, x.array.dtype if is_float(x.array.dtype) else FG_INT64)


def mean(Tensor input, dim=None, bint keepdim=False, *, dtype=None):
    """The mean over all axes or those of `dim`; NaN for no elements. See torch.mean.

    >>> import fastgrad
    >>> fastgrad.tensor([1., 2., 6.]).mean()
    tensor(3.)
    """
    cdef Tensor x = as_summand(input, dtype), out
    cdef uint64_t mask = axes_of(dim, x.array.ndim, "mean")
    if not is_float(x.array.dtype):
        raise RuntimeError(f"[mean] input dtype should be a floating point dtype; got {x.dtype}")
    out = attached(&MEAN, reduced(FG_KERNEL_mean, x, mask, keepdim, x.array.dtype), x, mask, keepdim, False, False)
    if out.node is not None:
        (<Node>out.node).integers[2] = reduced_count(x, mask)
    return out


def prod(Tensor input, dim=None, bint keepdim=False, *, dtype=None):
    """The product over all axes or that of `dim`; integers multiply in int64. See torch.prod.

    >>> import fastgrad
    >>> fastgrad.tensor([2., 3.]).prod()
    tensor(6.)
    """
    cdef Tensor x = as_summand(input, dtype)
    cdef uint64_t mask = axes_of(dim, x.array.ndim, "prod")
    out = reduced(FG_KERNEL_prod, x, mask, keepdim, x.array.dtype if is_float(x.array.dtype) else FG_INT64)
    return attached(&PROD, out, x, mask, keepdim, True, False)


def any(Tensor input, dim=None, bint keepdim=False):
    """Is an element nonzero, in all or along `dim`? See torch.any."""
    return reduced(FG_KERNEL_any, input, axes_of(dim, input.array.ndim, "any"), keepdim, FG_BOOL)


def all(Tensor input, dim=None, bint keepdim=False):
    """Are all elements nonzero, in all or along `dim`? See torch.all."""
    return reduced(FG_KERNEL_all, input, axes_of(dim, input.array.ndim, "all"), keepdim, FG_BOOL)


cdef int check_not_empty(Tensor x, uint64_t mask, str op) except -1:
    """PyTorch raises IndexError where single axes of several are reduced, RuntimeError where all are."""
    if reduced_count(x, mask) == 0:
        single = mask != (<uint64_t>1 << x.array.ndim) - 1 or x.array.ndim > 1
        raise (IndexError if single else RuntimeError)(
            f"[{op}] expected the reduced dimensions to have non-zero size, since the reduction has no identity; got shape "
            f"{shape_text(&x.array)}"
        )
    return 0


cdef Tensor extremum(int kernel, Tensor x, object dim, bint keepdim, str op):
    cdef uint64_t mask = axes_of(dim, x.array.ndim, op)
    check_not_empty(x, mask, op)
    return attached(&EXTREMUM, reduced(kernel, x, mask, keepdim, x.array.dtype), x, mask, keepdim, True, True)


def amax(Tensor input, dim=(), bint keepdim=False):
    """The maximum over all axes or those of `dim`; ties share the gradient. See torch.amax."""
    return extremum(FG_KERNEL_max, input, dim, keepdim, "amax")


def amin(Tensor input, dim=(), bint keepdim=False):
    """The minimum over all axes or those of `dim`; ties share the gradient. See torch.amin."""
    return extremum(FG_KERNEL_min, input, dim, keepdim, "amin")


class ValuesAndIndices(tuple):
    """What `max(dim)` and its kin return: a pair with the names `values` and `indices`."""

    __slots__ = ()

    def __new__(cls, values, indices):
        return tuple.__new__(cls, (values, indices))

    @property
    def values(self):
        return self[0]

    @property
    def indices(self):
        return self[1]

    def __repr__(self):
        return f"fastgrad.return_types(\nvalues={self[0]!r},\nindices={self[1]!r})"

    def __reduce__(self):
        return ValuesAndIndices, tuple(self)


cdef object with_indices(int kernel, Tensor x, object dim, bint keepdim, str op):
    cdef int axis = wrap_axis(dim, x.array.ndim, op)
    cdef Tensor index = indices_of(kernel, x, axis, True, op), values
    cdef Node node
    cdef Tensor source = x.detach()
    values = gathered(source, axis, index) if x.array.ndim else source.clone()
    if not keepdim and x.array.ndim:
        values, index = values.squeeze(axis), index.squeeze(axis)
        values, index = values.detach(), index.detach()
    if recording(x):
        node = record(&VALUES, values, 1)
        connect(node, 0, x)
        save(node, 0, index)
        node.integers[0], node.integers[1] = axis, keepdim
    return ValuesAndIndices(values, index)


cdef Tensor indices_of(int kernel, Tensor x, int axis, bint keepdim, str op):
    check_not_empty(x, <uint64_t>1 << axis, op)
    return reduced(kernel, x, <uint64_t>1 << axis, keepdim, FG_INT64)


cdef object extremum_or_pair(bint largest, Tensor input, object dim, object keepdim, str op):
    if isinstance(dim, Tensor):
        return tensor_maximum(input, dim) if largest else tensor_minimum(input, dim)
    if dim is None:
        return extremum(FG_KERNEL_max if largest else FG_KERNEL_min, input, None, False, op)
    return with_indices(FG_KERNEL_argmax if largest else FG_KERNEL_argmin, input, dim, keepdim, op)


def max(Tensor input, dim=None, keepdim=False):
    """The maximum of all elements; with `dim`, (values, indices) along it; with another tensor, `maximum`. See torch.max.

    >>> import fastgrad
    >>> values, indices = fastgrad.tensor([[1., 5.], [4., 2.]]).max(1)
    >>> indices
    tensor([1, 0])
    """
    return extremum_or_pair(True, input, dim, keepdim, "max")


def min(Tensor input, dim=None, keepdim=False):
    """The minimum of all elements; with `dim`, (values, indices) along it; with another tensor, `minimum`. See torch.min.

    >>> import fastgrad
    >>> fastgrad.tensor([[1., 5.], [4., 2.]]).min()
    tensor(1.)
    """
    return extremum_or_pair(False, input, dim, keepdim, "min")


cdef Tensor arg_extremum(int kernel, Tensor x, object dim, bint keepdim, str op):
    cdef uint64_t mask = axes_of(dim, x.array.ndim, op)
    if dim is None and x.array.ndim > 1:
        out = arg_extremum(kernel, contiguous(x).reshape(-1), 0, False, op)
        return out.reshape([1] * x.array.ndim) if keepdim else out
    if dim is None and numel(&x.array) == 0:
        raise IndexError(f"[{op}] expected reduction dim to be specified for input.numel() == 0; got shape {shape_text(&x.array)}")
    check_not_empty(x, mask, op)
    return reduced(kernel, x, mask, keepdim, FG_INT64)


def argmax(Tensor input, dim=None, bint keepdim=False):
    """The index of the first maximum along `dim`, of the flattened tensor without it. See torch.argmax.

    >>> import fastgrad
    >>> fastgrad.tensor([1., 5., 5.]).argmax()
    tensor(1)
    """
    return arg_extremum(FG_KERNEL_argmax, input, dim, keepdim, "argmax")


def argmin(Tensor input, dim=None, bint keepdim=False):
    """The index of the first minimum along `dim`, of the flattened tensor without it. See torch.argmin."""
    return arg_extremum(FG_KERNEL_argmin, input, dim, keepdim, "argmin")


def norm(Tensor input, p="fro", dim=None, bint keepdim=False, dtype=None):
    """The p-norm (sum |x|^p)^(1/p) over all axes or those of `dim`; p may be inf, -inf, 0 or "fro" (2). See torch.norm.

    The derivative at 0 is 0.

    >>> import fastgrad
    >>> fastgrad.tensor([3., 4.]).norm()
    tensor(5.)
    """
    cdef Tensor x = as_summand(input, dtype), out
    cdef uint64_t mask = axes_of(dim, x.array.ndim, "norm")
    cdef double order = 2 if p == "fro" or p is None else p
    cdef int code = x.array.dtype
    if not is_float(code):
        raise RuntimeError(f"[norm] expected a floating point tensor as input; got {x.dtype}")
    base = x.detach()
    if order == 2:
        out = reduced(FG_KERNEL_sum_of_squares, x, mask, keepdim, code).sqrt_()
    elif math.isinf(order):
        check_not_empty(x, mask, "norm")
        out = reduced(FG_KERNEL_max if order > 0 else FG_KERNEL_min, base.abs(), mask, keepdim, code)
    elif order == 0:
        out = reduced(FG_KERNEL_sum, (base != 0).to(x.dtype), mask, keepdim, code)
    elif order == 1:
        out = reduced(FG_KERNEL_sum, base.abs(), mask, keepdim, code)
    else:
        out = reduced(FG_KERNEL_sum, base.abs() ** order, mask, keepdim, code) ** (1 / order)
    out = attached(&NORM, out, x, mask, keepdim, True, True)
    if out.node is not None:
        (<Node>out.node).numbers[0] = order
    return out


cdef object deviation(Tensor x, object dim, object unbiased, object correction, bint keepdim, str op):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if not is_float(x.array.dtype):
        raise RuntimeError(f"[{op}] input dtype should be a floating point dtype; got {x.dtype}")
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    count = reduced_count(x, axes_of(dim, x.array.ndim, op))
    centered = x - mean(x, dim, True)
    divisor = count - correction if count > correction else 0
    total = sum(centered * centered, dim, keepdim)
    return total / float(divisor) if divisor else total * math.inf


def var(Tensor input, dim=None, unbiased=None, bint keepdim=False, *, correction=None):
    """The variance: squared deviations from the mean, summed and divided by n - `correction` (1). See torch.var.

    >>> import fastgrad
    >>> fastgrad.tensor([1., 3.]).var()
    tensor(2.)
    """
    return deviation(input, dim, unbiased, correction, keepdim, "var")


def std(Tensor input, dim=None, unbiased=None, bint keepdim=False, *, correction=None):
    """The standard deviation, the square root of `var`. See torch.std.

    >>> import fastgrad
    >>> fastgrad.tensor([1., 3.]).std()
    tensor(1.4142)
    """
    return deviation(input, dim, unbiased, correction, keepdim, "std").sqrt()


def logsumexp(Tensor input, dim, bint keepdim=False):
    """log(sum(exp(x))) along `dim`, without overflow. See torch.logsumexp."""
    top = amax(input.detach(), dim, True)
    top = top.masked_fill(top.isinf(), 0)
    out = sum((input - top).exp(), dim, True).log() + top
    return out if keepdim else out.squeeze(dim)


def cumsum(Tensor input, dim, *, dtype=None):
    """Running sums along `dim`; integers sum up in int64. See torch.cumsum.

    >>> import fastgrad
    >>> fastgrad.tensor([1., 2., 3.]).cumsum(0)
    tensor([1., 3., 6.])
    """
    cdef Tensor x = as_summand(input, dtype), out
    cdef fg_array* operands[2]
    cdef fg_params params
    cdef Node node
    cdef int axis = wrap_axis(dim, x.array.ndim, "cumsum")
    if not is_float(x.array.dtype):
        x = cast(x, FG_INT64)
    if x.array.ndim == 0:
        return x.clone()
    out = new_tensor(x.array.dtype, x.array.ndim, x.array.shape)
    params.i[0] = axis
    operands[0], operands[1] = &out.array, &x.array
    launch(FG_KERNEL_cumsum, operands, 2, &params, numel(&x.array))
    if recording(x):
        node = record(&CUMSUM, out, 1)
        connect(node, 0, x)
        node.integers[0] = axis
    return out


def count_nonzero(Tensor input, dim=None):
    """How many elements are not zero, in all or along `dim`. See torch.count_nonzero."""
    return sum(input != 0, dim)
