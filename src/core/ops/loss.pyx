"""Softmax, its logarithm and cross-entropy along the last axis of a matrix, each one launch forward and backward."""

from libc.stdint cimport int64_t

from fastgrad._core.engine cimport differentiate_composite
from fastgrad._core.graph cimport Node, Op, connect, grad_enabled, record, reserve_saved, recording, save, save_output
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_INT64, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport clone_data, cast, contiguous
from fastgrad._core.tensor cimport Tensor, dtype_code, is_float, new_like, new_tensor, numel, shape_text, wrap_axis


cdef Op SOFTMAX
cdef Op LOG_SOFTMAX
cdef Op CROSS_ENTROPY
SOFTMAX.name, SOFTMAX.rule = b"SoftmaxBackward0", softmax_rule
LOG_SOFTMAX.name, LOG_SOFTMAX.rule = b"LogSoftmaxBackward0", log_softmax_rule
CROSS_ENTROPY.name, CROSS_ENTROPY.rule = b"CrossEntropyBackward0", cross_entropy_rule


cdef int as_rows(fg_array* out, const fg_array* x) noexcept:
    """A contiguous array as a matrix of its last axis."""
    cdef int64_t columns = x.shape[x.ndim - 1] if x.ndim else 1
    out.data, out.dtype, out.ndim = x.data, x.dtype, 2
    out.shape[0] = numel(x) // columns if columns else 0
    out.shape[1], out.strides[0], out.strides[1] = columns, columns, 1
    return 0


cdef Tensor along_last(int kernel, Tensor x):
    cdef Tensor out = new_like(x)
    cdef fg_array rows[2]
    cdef fg_array* operands[2]
    as_rows(&rows[0], &out.array)
    as_rows(&rows[1], &x.array)
    operands[0], operands[1] = &rows[0], &rows[1]
    launch(kernel, operands, 2, NULL, numel(&x.array))
    return out


cdef Tensor along_last_backward(int kernel, Tensor d, Tensor y):
    cdef Tensor dx = new_like(y)
    cdef fg_array rows[3]
    cdef fg_array* operands[3]
    d = contiguous(d)
    as_rows(&rows[0], &dx.array)
    as_rows(&rows[1], &d.array)
    as_rows(&rows[2], &y.array)
    operands[0], operands[1], operands[2] = &rows[0], &rows[1], &rows[2]
    launch(kernel, operands, 3, NULL, numel(&y.array))
    return dx


cdef Tensor normalized(int kernel, Op* op, Tensor x, object dim, object dtype, str name):
    cdef int axis = wrap_axis(dim, x.array.ndim, name), last = x.array.ndim - 1
    cdef Tensor out
    cdef Node node
    x = cast(x, dtype_code(dtype, x.array.dtype))
    if not is_float(x.array.dtype):
        raise RuntimeError(f"[{name}] input must be a float tensor; got {x.dtype}")
    if x.array.ndim and axis != last:
        return normalized(kernel, op, x.transpose(axis, last), last, None, name).transpose(axis, last)
    out = along_last(kernel, contiguous(x))
    if recording(x):
        node = record(op, out, 1)
        connect(node, 0, x)
        save_output(node, 0, out)
    return out


cdef int softmax_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    if grad_enabled():
        return node.give(0, y * (d - (d * y).sum(-1, keepdim=True)))
    return node.give(0, along_last_backward(FG_KERNEL_softmax_backward, d, y))

cdef int log_softmax_rule(Node node, Tensor d) except -1:
    y = node.saved(0)
    if grad_enabled():
        return node.give(0, d - y.exp() * d.sum(-1, keepdim=True))
    return node.give(0, along_last_backward(FG_KERNEL_log_softmax_backward, d, y))


def softmax(Tensor input, dim, dtype=None):
    """exp(x) / sum(exp(x)) along `dim`, without overflow. See torch.softmax.

    >>> import fastgrad
    >>> fastgrad.softmax(fastgrad.tensor([0., 0.]), 0)
    tensor([0.5000, 0.5000])
    """
    return normalized(FG_KERNEL_softmax, &SOFTMAX, input, dim, dtype, "softmax")


def log_softmax(Tensor input, dim, dtype=None):
    """log(softmax(x)) along `dim`, without overflow or cancellation. See torch.log_softmax.

    >>> import fastgrad
    >>> fastgrad.log_softmax(fastgrad.tensor([0., 0.]), 0)
    tensor([-0.6931, -0.6931])
    """
    return normalized(FG_KERNEL_log_softmax, &LOG_SOFTMAX, input, dim, dtype, "log_softmax")


REDUCTIONS = ("none", "mean", "sum")


cdef int reduction_code(object reduction) except -1:
    if reduction not in REDUCTIONS:
        raise ValueError(f"[cross_entropy] reduction must be 'none', 'mean' or 'sum'; got {reduction!r}")
    return REDUCTIONS.index(reduction)


def cross_entropy(Tensor input, Tensor target, Tensor weight=None, size_average=None, int64_t ignore_index=-100, reduce=None,
                  reduction="mean", double label_smoothing=0.0):
    """-log(softmax(input))[target], weighted and reduced, in one launch; its gradient is one launch too.

    input: (N, C), (C,) or (N, C, d1, ...) logits; target: class indices (int64, input's shape without C) or
    probabilities of input's shape; weight: (C,) or None; rows whose target is `ignore_index` count nothing. The mean
    divides by the summed weights of the targets. Raises as torch.nn.functional.cross_entropy, where the rest is explained.

    >>> import fastgrad
    >>> fastgrad.nn.functional.cross_entropy(fastgrad.zeros(1, 2), fastgrad.tensor([1]))
    tensor(0.6931)
    """
    cdef int code, classes_axis = 0 if input.array.ndim == 1 else 1
    cdef int64_t classes
    if size_average is not None or reduce is not None:
        # PyTorch's arguments before 0.4.1.
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    code = reduction_code(reduction)
    if input.array.ndim == 0:
        raise RuntimeError("[cross_entropy] input must have at least one dimension; got shape ()")
    classes = input.array.shape[classes_axis]
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"[cross_entropy] label_smoothing must be between 0.0 and 1.0; got {label_smoothing}")
    if not is_float(input.array.dtype):
        raise RuntimeError(f"[cross_entropy] input must be a float tensor; got {input.dtype}")
    if weight is not None and (weight.array.ndim != 1 or weight.array.shape[0] != classes):
        raise RuntimeError(
            f"[cross_entropy] weight tensor should be defined either for all {classes} classes or no classes; got shape "
            f"{shape_text(&weight.array)}"
        )
    if is_float(target.array.dtype):
        return composite_of_probabilities(input, target, weight, reduction, label_smoothing, classes_axis)
    if input.array.ndim == 1:
        if target.array.ndim != 0:
            raise ValueError(
                f"[cross_entropy] target must have input's shape without the classes; got input {shape_text(&input.array)}, "
                f"target {shape_text(&target.array)}"
            )
        loss = cross_entropy_rows(input.unsqueeze(0), target.reshape(1), weight, ignore_index, code, label_smoothing)
        return loss.reshape(()) if code == 0 else loss
    if input.array.ndim > 2:
        moved = input.movedim(1, -1)
        if target.shape != moved.shape[:moved.ndim - 1]:
            raise ValueError(
                f"[cross_entropy] target must have input's shape without the classes; got input {shape_text(&input.array)}, "
                f"target {shape_text(&target.array)}"
            )
        loss = cross_entropy_rows(moved.reshape(-1, classes) if numel(&input.array) else moved.reshape(numel(&target.array), classes),
                                  target.reshape(-1), weight, ignore_index, code, label_smoothing)
        return loss.reshape(target.shape) if code == 0 else loss
    return cross_entropy_rows(input, target, weight, ignore_index, code, label_smoothing)


cdef Tensor cross_entropy_rows(Tensor x, Tensor target, Tensor weight, int64_t ignore_index, int code, double smoothing):
    """input (N, C), target (N,)."""
    cdef Tensor loss, probability = None, w = None
    cdef int64_t rows = x.array.shape[0], classes = x.array.shape[1], row, label
    cdef int64_t* labels
    cdef fg_array number, absent
    cdef fg_array* operands[5]
    cdef fg_params params
    cdef Node node
    if target.array.ndim != 1 or target.array.shape[0] != rows:
        raise ValueError(
            f"[cross_entropy] expected input batch_size ({rows}) to match target batch_size; got input {shape_text(&x.array)}, target "
            f"{shape_text(&target.array)}"
        )
    if target.array.dtype != FG_INT64:
        raise RuntimeError(f"[cross_entropy] class indices must be int64; got {target.dtype}")
    target = contiguous(target)
    labels = <int64_t*>target.array.data
    for row in range(rows):
        label = labels[row]
        if not 0 <= label < classes and label != ignore_index:
            raise IndexError(f"[cross_entropy] target {label} is out of bounds for {classes} classes; got {label} in row {row}")
    x = contiguous(x)
    recorded = recording(x)
    loss = new_tensor(x.array.dtype, 0 if code else 1, &rows)
    absent.data, absent.ndim, absent.dtype = NULL, 0, x.array.dtype
    number.data, number.ndim, number.dtype = NULL, 0, x.array.dtype
    params.f[0], params.f[4], params.i[0], params.i[1] = smoothing, 1, ignore_index, code
    operands[0], operands[1], operands[2], operands[3], operands[4] = &loss.array, &absent, &x.array, &target.array, &number
    if recorded:
        probability = new_like(x)
        operands[1] = &probability.array
    if weight is not None:
        w = contiguous(cast(weight.detach(), x.array.dtype))
        operands[4] = &w.array
    launch(FG_KERNEL_cross_entropy, operands, 5, &params, numel(&x.array))
    if recorded:
        node = record(&CROSS_ENTROPY, loss, 1)
        connect(node, 0, x)
        reserve_saved(node, 4)
        save(node, 0, probability)
        save(node, 1, clone_data(target))
        save(node, 2, x)
        if w is not None:
            save(node, 3, w)
        node.integers[0], node.integers[1], node.numbers[0] = ignore_index, code, smoothing
    return loss


cdef int cross_entropy_rule(Node node, Tensor d) except -1:
    cdef Tensor probability = node.saved(0), target = node.saved(1), w = None, dx
    cdef fg_array number
    cdef fg_array* operands[5]
    cdef fg_params params
    if node.saved_count > 3:
        w = node.saved(3)
    if grad_enabled():
        ignored, reduction, smoothing = node.integers[0], REDUCTIONS[node.integers[1]], node.numbers[0]
        return differentiate_composite(
            node, lambda x: cross_entropy_composite(x, target, w, ignored, reduction, smoothing), [node.saved(2)])
    dx = new_like(probability)
    d = contiguous(d)
    number.data, number.ndim, number.dtype = NULL, 0, d.array.dtype
    params.f[0], params.f[4], params.i[0], params.i[1] = node.numbers[0], 1, node.integers[0], node.integers[1]
    operands[0], operands[1], operands[2], operands[3], operands[4] = (
        &dx.array, &d.array, &probability.array, &target.array, &number)
    if w is not None:
        operands[4] = &w.array
    launch(FG_KERNEL_cross_entropy_backward, operands, 5, &params, numel(&dx.array))
    return node.give(0, dx)


def cross_entropy_composite(Tensor x, Tensor target, Tensor weight or None, ignore_index, reduction, label_smoothing):
    """What cross_entropy of (N, C) logits and (N,) class indices means, in ordinary ops."""
    logarithm = log_softmax(x, 1)
    counted = target != ignore_index
    index = target.masked_fill(~counted, 0)
    w = x.new_ones(x.shape[1]) if weight is None else weight
    w_target = w.index_select(0, index) * counted
    loss = -logarithm.gather(1, index.unsqueeze(1)).squeeze(1) * w_target
    if label_smoothing:
        smooth = -(logarithm * w).sum(1) * counted / x.shape[1]
        loss = loss * (1 - label_smoothing) + smooth * label_smoothing
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / w_target.sum()


cdef object composite_of_probabilities(Tensor x, Tensor target, Tensor weight, object reduction, double smoothing, int axis):
    """Targets that are probabilities of the classes."""
    if target.shape != x.shape:
        raise RuntimeError(
            f"[cross_entropy] target probabilities must have input's shape; got input {shape_text(&x.array)}, target "
            f"{shape_text(&target.array)}"
        )
    if smoothing:
        target = target * (1 - smoothing) + smoothing / x.array.shape[axis]
    terms = log_softmax(x, axis) * target
    if weight is not None:
        shape = [1] * x.array.ndim
        shape[axis] = -1
        terms = terms * weight.reshape(shape)
    loss = -terms.sum(axis)
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / float(numel(&x.array) // x.array.shape[axis] if numel(&x.array) else 0)
