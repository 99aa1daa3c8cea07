"""Ops that write into their first operand: at once where nothing is recorded, else by copying the result there."""

from fastgrad._core.graph cimport recording, recording2
from fastgrad._core.views cimport check_in_place, history_stand_in, rebase
from fastgrad._core.kernels cimport fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport cast, copy_into
from fastgrad._core.ops.operands cimport coerce, describe_number, is_number, kind, plain_number, run_in_place
from fastgrad._core.tensor cimport is_float, numel, same_shape, shape_text


cdef object binary_in_place(binary_function function, int kernel, Tensor a, object other, str name):
    """a = function(a, other); `kernel` computes the same where the operands are floats of one dtype, -1 for none."""
    cdef Tensor stand_in, b
    cdef fg_array number
    cdef fg_array* operands[3]
    cdef fg_params params
    if not isinstance(other, Tensor) and not is_number(other) and not hasattr(other, "__array_interface__"):
        return NotImplemented
    if kernel >= 0 and plain_number(other) and is_float(a.array.dtype) and not recording(a):
        check_in_place(a, name)
        describe_number(&number, a.array.dtype)
        params.f[2] = other
        operands[0], operands[1], operands[2] = &a.array, &a.array, &number
        launch(kernel, operands, 3, &params, numel(&a.array))
        return a
    b = coerce(other, a)
    if kernel >= 0 and b.array.dtype == a.array.dtype and is_float(a.array.dtype) and not recording2(a, b) and (
            same_shape(&a.array, &b.array) or b.array.ndim == 0) and b.storage is not a.storage:
        check_in_place(a, name)
        run_in_place(kernel, a, b)
        return a
    stand_in = history_stand_in(a, recording2(a, b))
    return write_back(a, function(stand_in, stand_in if b is a else b), b, name)


cdef Tensor replace_in_place(Tensor input, object function, str name):
    """input = function(input)."""
    return write_back(input, function(history_stand_in(input, recording(input))), None, name)


cdef Tensor write_back(Tensor input, Tensor result, Tensor operand, str name):
    """Write the result into input's memory, and make its history input's."""
    if not same_shape(&result.array, &input.array):
        got = "an in-place operation" if operand is None else f"operand {shape_text(&operand.array)}"
        raise RuntimeError(
            f"[{name}] output with shape {shape_text(&input.array)} doesn't match the broadcast shape "
            f"{shape_text(&result.array)}; got {got}"
        )
    if kind(result.array.dtype) > kind(input.array.dtype):
        raise RuntimeError(f"[{name}] result type {result.dtype} can't be cast to the tensor's; got {input.dtype}")
    check_in_place(input, name)
    copy_into(input, result)
    rebase(input, cast(result, input.array.dtype))
    return input
