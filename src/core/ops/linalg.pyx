"""Matrix products and the affine map of a Linear layer."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from fastgrad._core.graph cimport Node, Op, connect, grad_enabled, record, recording, recording2, save
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport contiguous, tensor_clone
from fastgrad._core.ops.operands cimport broadcast_shape
from fastgrad._core.ops.shape cimport expand_to, reshape_to, swap
from fastgrad._core.tensor cimport (
    Tensor, alias, is_contiguous, is_float, new_tensor, numel, operators, shape_text,
)


cdef Op MATMUL
cdef Op LINEAR
MATMUL.name, MATMUL.rule = b"MmBackward0", matmul_rule
LINEAR.name, LINEAR.rule = b"LinearBackward0", linear_rule


cdef bint has_unit_stride(const fg_array* a) noexcept nogil:
    """Can the product kernel read this matrix, or stack of matrices, as it lies?"""
    cdef int row = a.ndim - 2, column = a.ndim - 1
    if a.strides[column] == 1 and a.strides[row] >= a.shape[column]:
        return True
    return a.strides[row] == 1 and a.strides[column] >= a.shape[row]


cdef Tensor product(Tensor a, Tensor b):
    """a @ b for (n, k) and (k, m), or for stacks of as many of those."""
    cdef int64_t shape[3]
    cdef int ndim = a.array.ndim
    cdef Tensor out, left = a, right = b
    cdef fg_array* operands[3]
    cdef fg_params params
    cdef Node node
    shape[0] = a.array.shape[0]
    shape[ndim - 2], shape[ndim - 1] = a.array.shape[ndim - 2], b.array.shape[ndim - 1]
    out = new_tensor(a.array.dtype, ndim, shape)
    if not has_unit_stride(&a.array):
        left = tensor_clone(alias(a))
    if not has_unit_stride(&b.array):
        right = tensor_clone(alias(b))
    params.f[0], params.f[1] = 0, 1
    operands[0], operands[1], operands[2] = &out.array, &left.array, &right.array
    launch(FG_KERNEL_matmul, operands, 3, &params, numel(&out.array) * a.array.shape[ndim - 1])
    if recording2(a, b):
        node = record(&MATMUL, out, 2)
        connect(node, 0, a)
        connect(node, 1, b)
        save(node, 0, a)
        save(node, 1, b)
    return out

cdef int matmul_rule(Node node, Tensor d) except -1:
    cdef int last = d.array.ndim - 1
    if node.needs(0): node.give(0, product(d, swap(node.saved(1), last - 1, last)))
    if node.needs(1): node.give(1, product(swap(node.saved(0), last - 1, last), d))
    return 0


cdef int check_dtypes(Tensor a, Tensor b, str op) except -1:
    if a.array.dtype != b.array.dtype:
        raise RuntimeError(f"[{op}] both factors must have the same dtype; got {a.dtype} and {b.dtype}")
    return 0


cdef Tensor checked_product(Tensor a, Tensor b, str op):
    """a @ b for two matrices or two stacks."""
    cdef int ndim = a.array.ndim
    check_dtypes(a, b, op)
    if b.array.ndim != ndim or a.array.shape[ndim - 1] != b.array.shape[ndim - 2]:
        raise RuntimeError(
            f"[{op}] the columns of the first factor must equal the rows of the second; got {shape_text(&a.array)} and "
            f"{shape_text(&b.array)}"
        )
    if not is_float(a.array.dtype):
        return integer_product(a, b)
    return product(a, b)


cdef Tensor integer_product(Tensor a, Tensor b):
    import numpy
    from fastgrad._core.ops.creation import from_numpy
    return from_numpy(numpy.ascontiguousarray(numpy.matmul(a.numpy(), b.numpy())))


def mm(Tensor input, Tensor mat2):
    """The product of two matrices, (n, k) @ (k, m). See torch.mm."""
    if input.array.ndim != 2 or mat2.array.ndim != 2:
        raise RuntimeError(f"[mm] both factors must be matrices; got {shape_text(&input.array)} and {shape_text(&mat2.array)}")
    return checked_product(input, mat2, "mm")


def bmm(Tensor input, Tensor mat2):
    """The products of two stacks of matrices, (b, n, k) @ (b, k, m). See torch.bmm."""
    if input.array.ndim != 3 or mat2.array.ndim != 3 or input.array.shape[0] != mat2.array.shape[0]:
        raise RuntimeError(
            f"[bmm] both factors must be stacks of as many matrices; got {shape_text(&input.array)} and {shape_text(&mat2.array)}"
        )
    return checked_product(input, mat2, "bmm")


def mv(Tensor input, Tensor vec):
    """A matrix times a vector. See torch.mv."""
    if input.array.ndim != 2 or vec.array.ndim != 1:
        raise RuntimeError(f"[mv] a matrix and a vector are needed; got {shape_text(&input.array)} and {shape_text(&vec.array)}")
    return matmul(input, vec)


def dot(Tensor input, Tensor other):
    """The sum of products of two vectors. See torch.dot."""
    if input.array.ndim != 1 or other.array.ndim != 1 or input.array.shape[0] != other.array.shape[0]:
        raise RuntimeError(f"[dot] two vectors of one length are needed; got {shape_text(&input.array)} and {shape_text(&other.array)}")
    check_dtypes(input, other, "dot")
    return (input * other).sum()


def outer(Tensor input, Tensor vec2):
    """The products of every element of one vector with every element of the other. See torch.outer."""
    if input.array.ndim != 1 or vec2.array.ndim != 1:
        raise RuntimeError(f"[outer] two vectors are needed; got {shape_text(&input.array)} and {shape_text(&vec2.array)}")
    return input.unsqueeze(1) * vec2.unsqueeze(0)


def matmul(Tensor input, Tensor other):
    """The matrix product `input @ other`: vectors, matrices and broadcast stacks of them. See torch.matmul.

    >>> import fastgrad
    >>> fastgrad.matmul(fastgrad.ones(2, 3), fastgrad.ones(3))
    tensor([3., 3.])
    """
    cdef int64_t shape[12]
    cdef int64_t full[12]
    cdef fg_array left, right
    cdef int m = input.array.ndim, n = other.array.ndim, ndim
    if m == 0 or n == 0:
        raise RuntimeError(
            f"[matmul] both arguments must be at least 1D; got {shape_text(&input.array)} and {shape_text(&other.array)}"
        )
    if m == 1:
        out = matmul(input.unsqueeze(0), other)
        return out.squeeze(-1 if n == 1 else -2)
    if n == 1:
        return matmul(input, other.unsqueeze(1)).squeeze(-1)
    if m == 2 and n == 2:
        return checked_product(input, other, "matmul")
    if n == 2 and is_contiguous(&input.array):
        # One product over all rows.
        memcpy(shape, input.array.shape, sizeof(shape))
        rows = checked_product(input.flatten(0, m - 2), other, "matmul")
        shape[m - 1] = other.array.shape[1]
        return reshape_to(rows, m, shape)
    left, right = input.array, other.array
    left.ndim, right.ndim = m - 2, n - 2
    ndim = broadcast_shape(&left, &right, shape, "matmul")
    memcpy(full, shape, sizeof(full))
    full[ndim], full[ndim + 1] = input.array.shape[m - 2], input.array.shape[m - 1]
    a = expand_to(input, ndim + 2, full, "matmul")
    full[ndim], full[ndim + 1] = other.array.shape[n - 2], other.array.shape[n - 1]
    b = expand_to(other, ndim + 2, full, "matmul")
    if ndim > 1:
        a, b = a.flatten(0, ndim - 1), b.flatten(0, ndim - 1)
    elif ndim == 0:
        return checked_product(a, b, "matmul")
    out = checked_product(a, b, "matmul")
    shape[ndim], shape[ndim + 1] = input.array.shape[m - 2], other.array.shape[n - 1]
    return reshape_to(out, ndim + 2, shape)


def addmm(Tensor input, Tensor mat1, Tensor mat2, *, beta=1, alpha=1):
    """beta * input + alpha * mat1 @ mat2. See torch.addmm."""
    return with_addend(input, mm(mat1, mat2), beta, alpha, "addmm")


def baddbmm(Tensor input, Tensor batch1, Tensor batch2, *, beta=1, alpha=1):
    """beta * input + alpha * bmm(batch1, batch2). See torch.baddbmm."""
    return with_addend(input, bmm(batch1, batch2), beta, alpha, "baddbmm")


def addmv(Tensor input, Tensor mat, Tensor vec, *, beta=1, alpha=1):
    """beta * input + alpha * mat @ vec. See torch.addmv."""
    return with_addend(input, mv(mat, vec), beta, alpha, "addmv")


cdef object with_addend(Tensor addend, Tensor product, object beta, object alpha, str op):
    check_dtypes(addend, product, op)
    addend = expand_to(addend, product.array.ndim, product.array.shape, op)
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product
    return product + (addend if beta == 1 else addend * beta)


# Linear


def linear(Tensor input, Tensor weight, Tensor bias=None):
    """y = input @ weight.T + bias in one launch; its gradient is one launch too.

    input: (..., in_features) or (in_features,); weight: (out_features, in_features); bias: (out_features,) or None; all
    of one float dtype. Raises RuntimeError for other shapes or mixed dtypes. See torch.nn.functional.linear.

    >>> import fastgrad
    >>> fastgrad.nn.functional.linear(fastgrad.ones(1, 2), fastgrad.tensor([[1., 2.]]), fastgrad.tensor([10.]))
    tensor([[13.]])
    """
    cdef int64_t shape[12]
    cdef Tensor x, w, b, out
    cdef fg_array absent, flat_x, flat_y
    cdef fg_array* operands[4]
    cdef Node node
    cdef int ndim = input.array.ndim
    cdef int64_t rows
    if weight.array.ndim != 2:
        if weight.array.ndim == 1 and ndim >= 1:
            out = matmul(input, weight)
            return out if bias is None else out + bias
        raise RuntimeError(f"[linear] weight must have two dimensions; got {shape_text(&weight.array)}")
    if ndim == 0 or input.array.shape[ndim - 1] != weight.array.shape[1]:
        raise RuntimeError(
            f"[linear] input.shape[-1] must equal weight.shape[1]; got input {shape_text(&input.array)}, weight "
            f"{shape_text(&weight.array)}"
        )
    if input.array.dtype != weight.array.dtype or (bias is not None and bias.array.dtype != weight.array.dtype):
        raise RuntimeError(
            f"[linear] input, weight and bias must have the same dtype; got {input.dtype}, {weight.dtype}"
            + ("" if bias is None else f", {bias.dtype}")
        )
    if not is_float(weight.array.dtype):
        raise RuntimeError(f"[linear] input and weight must be float tensors; got {weight.dtype}")
    if bias is not None and (bias.array.ndim != 1 or bias.array.shape[0] != weight.array.shape[0]):
        if bias.array.ndim > 1:
            raise RuntimeError(f"[linear] bias must have at most one dimension; got {shape_text(&bias.array)}")
        if bias.array.ndim == 1 and bias.array.shape[0] != 1:
            raise RuntimeError(
                f"[linear] bias.shape[0] must equal weight.shape[0]; got bias {shape_text(&bias.array)}, weight "
                f"{shape_text(&weight.array)}"
            )
        bias = expand_to(bias, 1, weight.array.shape, "linear")
    x, w = contiguous(input), contiguous(weight)
    memcpy(shape, input.array.shape, ndim * sizeof(int64_t))
    shape[ndim - 1] = weight.array.shape[0]
    out = new_tensor(x.array.dtype, ndim, shape)
    absent.data, absent.ndim, absent.dtype = NULL, 0, x.array.dtype
    rows = leading(&x.array)
    as_matrix(&flat_x, &x.array, rows, w.array.shape[1])
    as_matrix(&flat_y, &out.array, rows, w.array.shape[0])
    operands[0], operands[1], operands[2], operands[3] = &flat_y, &flat_x, &w.array, &absent
    if bias is not None:
        b = contiguous(bias)
        operands[3] = &b.array
    launch(FG_KERNEL_linear, operands, 4, NULL, rows * w.array.shape[0] * w.array.shape[1])
    if recording2(x, w) or (bias is not None and recording(b)):
        node = record(&LINEAR, out, 3)
        connect(node, 0, x)
        connect(node, 1, w)
        if bias is not None:
            connect(node, 2, b)
        save(node, 0, x)
        save(node, 1, w)
    return out


cdef int64_t leading(const fg_array* a) noexcept:
    cdef int64_t n = 1
    cdef int axis
    for axis in range(a.ndim - 1):
        n *= a.shape[axis]
    return n


cdef int linear_rule(Node node, Tensor d) except -1:
    """dx = dy @ w, dw = dy.T @ x, db = dy summed over the rows."""
    cdef Tensor x, w, dx, dw, db
    cdef fg_array absent
    cdef fg_array flat[3]
    cdef fg_array* operands[6]
    cdef fg_params params
    cdef int last = d.array.ndim - 1
    cdef int64_t shape[12]
    cdef int64_t rows = leading(&d.array), columns = 0, outputs = d.array.shape[last]
    if node.needs(0):
        w = node.saved(1)
        columns = w.array.shape[1]
    if node.needs(1):
        x = node.saved(0)
        columns = x.array.shape[last]
    if grad_enabled():
        if node.needs(0): node.give(0, matmul(d, w))
        if node.needs(1): node.give(1, product(swap(d.reshape(rows, outputs), 0, 1), x.reshape(rows, columns)))
        if node.needs(2): node.give(2, d.reshape(rows, outputs).sum(0))
        return 0
    d = contiguous(d)
    absent.data, absent.ndim, absent.dtype = NULL, 0, d.array.dtype
    operands[0] = operands[1] = operands[2] = operands[4] = operands[5] = &absent
    as_matrix(&flat[0], &d.array, rows, outputs)
    operands[3] = &flat[0]
    if node.needs(0):
        memcpy(shape, d.array.shape, sizeof(shape))
        shape[last] = columns
        dx = new_tensor(d.array.dtype, d.array.ndim, shape)
        as_matrix(&flat[2], &dx.array, rows, columns)
        operands[0], operands[5] = &flat[2], &w.array
        node.give(0, dx)
    if node.needs(1):
        as_matrix(&flat[1], &x.array, rows, columns)
        shape[0], shape[1] = outputs, columns
        dw = new_tensor(d.array.dtype, 2, shape)
        operands[1], operands[4] = &dw.array, &flat[1]
        node.give(1, dw)
    if node.needs(2):
        db = new_tensor(d.array.dtype, 1, &outputs)
        operands[2] = &db.array
        node.give(2, db)
    params.i[0] = 0
    return launch(FG_KERNEL_linear_backward, operands, 6, &params, rows * columns * outputs)


cdef int as_matrix(fg_array* out, const fg_array* x, int64_t rows, int64_t columns) noexcept:
    out.data, out.dtype, out.ndim = x.data, x.dtype, 2
    out.shape[0], out.shape[1], out.strides[0], out.strides[1] = rows, columns, columns, 1
    return 0


cdef object matmul_operator(object a, object b):
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return NotImplemented
    return matmul(<Tensor>a, <Tensor>b)


operators.matmul = matmul_operator
