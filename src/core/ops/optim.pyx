"""Optimizer steps and operations on all gradients of a model, each one launch whatever the number of parameters."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_FLOAT64, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport tensor_clone
from fastgrad._core.tensor cimport (
    Tensor, alias, is_contiguous, is_float, new_like, new_tensor, numel, same_shape, shape_text, written,
)


# Room for the operands of a launch: on the stack for small models.
cdef enum: ON_STACK = 128

cdef fg_array ABSENT
ABSENT.data, ABSENT.ndim = NULL, 0


cdef Tensor gradient_of(Tensor p, str op):
    """p's gradient, contiguous and of its dtype; None where there is none."""
    cdef Tensor g = p.gradient
    if g is None:
        return None
    if not is_contiguous(&p.array) or not is_float(p.array.dtype) or g.array.dtype != p.array.dtype or (
            not same_shape(&g.array, &p.array)):
        raise RuntimeError(
            f"[{op}] parameters must be contiguous float tensors with gradients of their dtype and shape; got {p.dtype} "
            f"{shape_text(&p.array)}, gradient {g.dtype} {shape_text(&g.array)}"
        )
    return g if is_contiguous(&g.array) else tensor_clone(alias(g))


cdef Tensor state_of(object state, Tensor p, str op):
    """A tensor of the optimizer's state, which `p.data = ...` since the last step may have left behind."""
    cdef Tensor s = <Tensor?>state
    if s.array.dtype != p.array.dtype or not same_shape(&s.array, &p.array) or not is_contiguous(&s.array):
        raise RuntimeError(
            f"[{op}] the state of a parameter must be contiguous and of its dtype and shape; got {s.dtype} "
            f"{shape_text(&s.array)} for {p.dtype} {shape_text(&p.array)}"
        )
    return s


def sgd_step(list params, list momentum_buffers, double lr, double momentum, double dampening, double weight_decay,
             bint nesterov, bint maximize) -> None:
    """One step of SGD on every parameter that has a gradient; see fastgrad.optim.SGD for the formula.

    `momentum_buffers` has an entry per parameter; a missing one (None) is made in the first step, as a copy of the
    gradient.
    """
    cdef fg_array* on_stack[ON_STACK]
    cdef fg_array** operands = on_stack
    cdef fg_array** fresh
    cdef fg_params settings
    cdef Tensor p, g, buffer
    cdef Py_ssize_t k, count = 0, fresh_count = 0, n = len(params)
    cdef int64_t work = 0, fresh_work = 0
    cdef list kept = []
    if 6 * n > ON_STACK:
        operands = <fg_array**>malloc(6 * n * sizeof(fg_array*))
        if operands == NULL:
            raise MemoryError
    fresh = operands + 3 * n
    try:
        for k in range(n):
            p = <Tensor?>params[k]
            g = gradient_of(p, "sgd")
            if g is None:
                continue
            written(p)
            if g is not p.gradient:
                kept.append(g)
            if momentum == 0:
                operands[count], operands[count + 1], operands[count + 2] = &p.array, &g.array, &ABSENT
                count += 3
                work += numel(&p.array)
                continue
            buffer = state_of(momentum_buffers[k], p, "sgd") if momentum_buffers[k] is not None else None
            if buffer is None:
                buffer = momentum_buffers[k] = new_like(p)
                fresh[fresh_count], fresh[fresh_count + 1], fresh[fresh_count + 2] = &p.array, &g.array, &buffer.array
                fresh_count += 3
                fresh_work += numel(&p.array)
            else:
                written(buffer)
                operands[count], operands[count + 1], operands[count + 2] = &p.array, &g.array, &buffer.array
                count += 3
                work += numel(&p.array)
        settings.f[0], settings.f[1], settings.f[2], settings.f[3] = lr, momentum, dampening, weight_decay
        settings.i[0], settings.i[1], settings.i[2] = nesterov, maximize, 0
        if count:
            launch(FG_KERNEL_sgd, operands, count, &settings, work)
        if fresh_count:
            settings.i[2] = 1
            launch(FG_KERNEL_sgd, fresh, fresh_count, &settings, fresh_work)
    finally:
        if operands != on_stack:
            free(operands)


def adam_step(list params, list exp_avgs, list exp_avg_sqs, max_exp_avg_sqs, double step, double lr, double beta1,
              double beta2, double eps, double weight_decay, bint amsgrad, bint maximize, bint decoupled) -> None:
    """One step of Adam (AdamW if `decoupled`) on every parameter that has a gradient; see fastgrad.optim.Adam.

    `step` counts from 1. The lists have an entry per parameter; `max_exp_avg_sqs` is None without amsgrad.
    """
    cdef fg_array* on_stack[ON_STACK]
    cdef fg_array** operands = on_stack
    cdef fg_params settings
    cdef Tensor p, g, m, v
    cdef Py_ssize_t k, count = 0, n = len(params)
    cdef int64_t work = 0
    cdef list kept = []
    if 5 * n > ON_STACK:
        operands = <fg_array**>malloc(5 * n * sizeof(fg_array*))
        if operands == NULL:
            raise MemoryError
    try:
        for k in range(n):
            p = <Tensor?>params[k]
            g = gradient_of(p, "adam")
            if g is None:
                continue
            written(p)
            if g is not p.gradient:
                kept.append(g)
            m, v = state_of(exp_avgs[k], p, "adam"), state_of(exp_avg_sqs[k], p, "adam")
            operands[count], operands[count + 1], operands[count + 2], operands[count + 3] = &p.array, &g.array, &m.array, &v.array
            operands[count + 4] = &state_of(max_exp_avg_sqs[k], p, "adam").array if amsgrad else &ABSENT
            count += 5
            work += numel(&p.array)
        settings.f[0], settings.f[1], settings.f[2], settings.f[3], settings.f[4] = lr, beta1, beta2, eps, weight_decay
        settings.f[5], settings.f[6] = 1 - beta1 ** step, 1 - beta2 ** step
        settings.i[0], settings.i[1], settings.i[2] = decoupled, amsgrad, maximize
        if count:
            launch(FG_KERNEL_adam, operands, count, &settings, work)
    finally:
        if operands != on_stack:
            free(operands)


def has_grads(list params) -> bytes:
    """For every parameter 1 if it has a gradient and 0 if not."""
    cdef bytes found = PyBytes_FromStringAndSize(NULL, len(params))
    cdef char* flags = found
    cdef Py_ssize_t k
    for k in range(len(params)):
        flags[k] = (<Tensor?>params[k]).gradient is not None
    return found


def clear_grads(list params) -> None:
    """Set `.grad` of every parameter to None."""
    cdef Tensor p
    for p in params:
        p.gradient = None


cdef int over_gradients(int kernel, list params, Tensor first, fg_params* settings, str op) except -1:
    """Launch a kernel over all gradients, in place unless it writes `first`."""
    cdef fg_array** operands = <fg_array**>malloc((len(params) + 1) * sizeof(fg_array*))
    cdef Tensor p, g
    cdef Py_ssize_t count = 0
    cdef int64_t work = 0
    cdef list kept = []
    if operands == NULL:
        raise MemoryError
    try:
        if first is not None:
            operands[0] = &first.array
            count = 1
        for p in params:
            if p.gradient is not None and first is None and not is_contiguous(&p.gradient.array):
                p.gradient = tensor_clone(alias(p.gradient))
            g = gradient_of(p, op)
            if g is not None:
                if first is None:
                    written(g)
                kept.append(g)
                operands[count] = &g.array
                count += 1
                work += numel(&g.array)
        if count:
            launch(kernel, operands, count, settings, work)
    finally:
        free(operands)
    return 0


def grad_norm(list params, double norm_type):
    """The norm of all gradients together as if they were one vector, a 0-d float64 tensor."""
    cdef Tensor out
    cdef int64_t one = 1
    cdef fg_params settings
    settings.f[0] = norm_type
    out = new_tensor(FG_FLOAT64, 1, &one)
    over_gradients(FG_KERNEL_norm_many, params, out, &settings, "clip_grad_norm_")
    return out.reshape(())


def scale_grads(list params, double factor) -> None:
    """Multiply every gradient by a number, in place."""
    cdef fg_params settings
    settings.f[0] = factor
    over_gradients(FG_KERNEL_scale_many, params, None, &settings, "scale_grads")
