"""Tensors from shapes, numbers, sequences and arrays of other libraries."""

import copy
import math
import warnings

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES
from libc.stdint cimport int64_t
from libc.string cimport memset

from fastgrad._core.graph cimport recording
from fastgrad._core.views cimport check_in_place
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_FLOAT64, FG_INT64, FG_MAX_NDIM, FG_UINT8, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport cast, tensor_clone
from fastgrad._core.ops.operands cimport check_fits, fill_with, is_number, number_tensor, scalar_dtype
from fastgrad._core.storage cimport Storage, borrow_storage
from fastgrad._core.tensor cimport (
    Tensor, alias, default_dtype, dtype_code, dtype_object, is_float, new_tensor, numel, parse_shape, shape_text,
)

from fastgrad._core.tensor import check_device


cdef extern from "Python.h":
    int Py_EnterRecursiveCall(const char*) except -1
    void Py_LeaveRecursiveCall()


cdef Tensor shaped(str op, tuple size, object dtype, int otherwise, object device, dict named):
    """An uninitialised tensor; the size may come as f(2, 3), f((2, 3)) or f(size=(2, 3))."""
    cdef int64_t shape[12]
    cdef int ndim
    check_device(device)
    if named:
        if size or set(named) != {"size"}:
            raise TypeError(f"[{op}] unexpected arguments; got {', '.join(named)}")
        size = (named["size"],)
    ndim = parse_shape(size[0] if len(size) == 1 and not isinstance(size[0], int) else size, shape, op)
    return new_tensor(dtype_code(dtype, otherwise), ndim, shape)


cdef Tensor finished(Tensor out, bint requires_grad):
    if requires_grad:
        out.requires_grad = True
    return out


def empty(*size, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False, memory_format=None, **named):
    """A tensor whose elements are not initialised. Raises RuntimeError where memory is short or a size negative. See torch.empty."""
    return finished(shaped("empty", size, dtype, default_dtype, device, named), requires_grad)


def zeros(*size, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False, **named):
    """A tensor of zeros. See torch.zeros.

    >>> import fastgrad
    >>> fastgrad.zeros(2)
    tensor([0., 0.])
    """
    cdef Tensor out = shaped("zeros", size, dtype, default_dtype, device, named)
    memset(out.array.data, 0, out.storage.nbytes)
    return finished(out, requires_grad)


def ones(*size, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False, **named):
    """A tensor of ones. See torch.ones.

    >>> import fastgrad
    >>> fastgrad.ones(2)
    tensor([1., 1.])
    """
    cdef Tensor out = shaped("ones", size, dtype, default_dtype, device, named)
    fill_with(out, 1, 1)
    return finished(out, requires_grad)


cdef int fill_number(Tensor out, object value) except -1:
    if is_float(out.array.dtype):
        return fill_with(out, value, 0)
    check_fits(value, out.array.dtype, "fill_")
    return fill_with(out, 0, bool(value) if out.array.dtype == FG_BOOL else int(value))


def full(size, fill_value, *, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False):
    """A tensor of one value, with its type if no dtype is given. See torch.full.

    >>> import fastgrad
    >>> fastgrad.full((2,), 7)
    tensor([7, 7])
    """
    cdef Tensor out
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    out = shaped("full", (size,), dtype, kind_of(fill_value), device, {})
    fill_number(out, fill_value)
    return finished(out, requires_grad)


cdef int kind_of(object value) except -1:
    """The dtype of a Python number."""
    if isinstance(value, bool):
        return FG_BOOL
    return scalar_dtype(value, FG_BOOL)


def empty_like(Tensor input, *, dtype=None, layout=None, device=None, bint requires_grad=False, memory_format=None):
    """`empty` of input's shape and dtype."""
    return empty(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def zeros_like(Tensor input, *, dtype=None, layout=None, device=None, bint requires_grad=False, memory_format=None):
    """`zeros` of input's shape and dtype."""
    return zeros(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def ones_like(Tensor input, *, dtype=None, layout=None, device=None, bint requires_grad=False, memory_format=None):
    """`ones` of input's shape and dtype."""
    return ones(input.shape, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def full_like(Tensor input, fill_value, *, dtype=None, layout=None, device=None, bint requires_grad=False, memory_format=None):
    """`full` of input's shape and dtype."""
    return full(input.shape, fill_value, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def new_zeros(Tensor input, *size, dtype=None, device=None, bint requires_grad=False):
    """`zeros` of input's dtype."""
    return zeros(*size, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def new_ones(Tensor input, *size, dtype=None, device=None, bint requires_grad=False):
    """`ones` of input's dtype."""
    return ones(*size, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def new_empty(Tensor input, *size, dtype=None, device=None, bint requires_grad=False):
    """`empty` of input's dtype."""
    return empty(*size, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def new_full(Tensor input, size, fill_value, *, dtype=None, device=None, bint requires_grad=False):
    """`full` of input's dtype."""
    return full(size, fill_value, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def new_tensor_of(Tensor input, data, *, dtype=None, device=None, bint requires_grad=False):
    """`tensor(data)` of input's dtype."""
    return tensor(data, dtype=dtype or input.dtype, device=device, requires_grad=requires_grad)


def arange(start=0, end=None, step=1, *, dtype=None, layout=None, device=None, bint requires_grad=False, pin_memory=False):
    """start, start + step, ... below `end`; `arange(end)` starts at 0. See torch.arange.

    >>> import fastgrad
    >>> fastgrad.arange(1, 2.5, 0.5)
    tensor([1.0000, 1.5000, 2.0000])
    """
    cdef fg_params params
    cdef fg_array* operands[1]
    cdef Tensor out
    cdef int code
    if end is None:
        start, end = 0, start
    start, end, step = [x.item() if isinstance(x, Tensor) else x for x in (start, end, step)]
    if step == 0:
        raise RuntimeError(f"[arange] step must be nonzero; got {step}")
    if not all([math.isfinite(x) for x in (start, end, step)]):
        raise RuntimeError(f"[arange] unsupported range; got {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError(f"[arange] upper bound and lower bound inconsistent with step sign; got {start} -> {end} by {step}")
    code = dtype_code(dtype, FG_INT64 if all([isinstance(x, int) for x in (start, end, step)]) else default_dtype)
    whole = all([isinstance(x, int) for x in (start, end, step)])
    length = -((start - end) // step) if whole else math.ceil((end - start) / step)
    out = shaped("arange", (int(length),), None, FG_INT64 if code == FG_BOOL else code, device, {})
    if is_float(out.array.dtype):
        params.f[0], params.f[1] = start, step
    else:
        params.i[0], params.i[1] = int(start), int(step)
    operands[0] = &out.array
    launch(FG_KERNEL_arange, operands, 1, &params, numel(&out.array))
    return finished(cast(out, code), requires_grad)


def linspace(start, end, steps, *, dtype=None, layout=None, device=None, bint requires_grad=False):
    """`steps` numbers evenly spaced from start to end, both included. See torch.linspace.

    >>> import fastgrad
    >>> fastgrad.linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    import numpy
    cdef int code = dtype_code(dtype, default_dtype)
    check_device(device)
    if steps < 0:
        raise RuntimeError(f"[linspace] number of steps must be non-negative; got {steps}")
    shaped("linspace", (int(steps),), None, FG_FLOAT64, None, {})      # raises where memory is short
    values = numpy.linspace(float(start), float(end), int(steps))
    return finished(cast(from_numpy(values), code), requires_grad)


def eye(n, m=None, *, dtype=None, layout=None, device=None, bint requires_grad=False):
    """The n by m identity matrix. See torch.eye.

    >>> import fastgrad
    >>> fastgrad.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    if n < 0 or (m is not None and m < 0):
        raise RuntimeError(f"[eye] sizes must not be negative; got {n} and {m}")
    out = zeros(n, n if m is None else m, dtype=dtype, device=device)
    out.as_strided((min(out.shape),), (out.shape[1] + 1,)).fill_(1)
    return finished(out, requires_grad)


# From other data


cdef dict CODES = {"b1": FG_BOOL, "u1": FG_UINT8, "i4": 2, "i8": FG_INT64, "f4": 4, "f8": FG_FLOAT64}


def from_numpy(array):
    """A tensor on the memory of a NumPy array, which stays alive as long as the tensor. See torch.from_numpy.

    Raises TypeError for a dtype without a counterpart and ValueError for strides that are negative or no multiple of
    the itemsize. Writing in place to a tensor on a read-only array raises.

    >>> import fastgrad, numpy
    >>> a = numpy.zeros(2); t = fastgrad.from_numpy(a); a[0] = 1; t
    tensor([1., 0.], dtype=fastgrad.float64)
    """
    cdef Tensor out
    cdef Storage storage
    cdef Py_buffer* view
    cdef int axis, code
    import numpy
    if not isinstance(array, numpy.ndarray):
        raise TypeError(f"[from_numpy] expected a numpy.ndarray; got {type(array).__name__}")
    array = numpy.asarray(array)     # a subclass may say what it likes about itself
    code = CODES.get(array.dtype.str[1:], -1) if array.dtype.isnative else -1
    if code < 0:
        raise TypeError(
            "[from_numpy] can't convert an ndarray of this dtype; the supported ones are float64, float32, int64, int32, "
            f"uint8 and bool; got {array.dtype}"
        )
    if code == FG_BOOL and array.size and array.view(numpy.uint8).max() > 1:
        raise ValueError("[from_numpy] the bytes of a bool array must be 0 or 1; got others")
    if array.ndim > FG_MAX_NDIM:
        raise ValueError(f"[from_numpy] a tensor has at most {FG_MAX_NDIM} dimensions; got {array.ndim}")
    if any([stride < 0 or stride % array.itemsize for stride in array.strides]) and array.size:
        raise ValueError(
            "[from_numpy] at least one stride of the array is negative or no multiple of its itemsize, which a tensor can't have; "
            f"copy it first; got strides {array.strides}"
        )
    if not array.flags.writeable:
        warnings.warn("[from_numpy] the array is not writable: in-place operations on this tensor will raise", stacklevel=2)
    storage = borrow_storage(array, PyBUF_STRIDES | PyBUF_FORMAT)
    out = alias(number_tensor(0, FG_BOOL))
    out.storage = storage
    view = storage.lender
    out.array.data, out.array.dtype, out.array.ndim = view.buf, code, view.ndim
    for axis in range(view.ndim):
        out.array.shape[axis] = view.shape[axis]
        out.array.strides[axis] = view.strides[axis] // view.itemsize if view.shape[axis] > 1 and view.strides[axis] > 0 else 1
        if view.shape[axis] > 1 and view.strides[axis] == 0:
            out.array.strides[axis] = 0
    return out


def frombuffer(buffer, *, dtype, count=-1, offset=0, bint requires_grad=False):
    """A 1-d tensor on the memory of any object with the buffer protocol. See torch.frombuffer."""
    import numpy
    array = numpy.frombuffer(buffer, dtype=dtype_object(dtype_code(dtype, -1)).typestr, count=count, offset=offset)
    return finished(from_numpy(array), requires_grad)


def from_dlpack(ext_tensor):
    """A tensor on the memory of any CPU array with the DLPack protocol. See torch.from_dlpack."""
    import numpy
    if isinstance(ext_tensor, Tensor):
        return ext_tensor.detach()
    return from_numpy(numpy.from_dlpack(ext_tensor))


cdef bint holds_floats_of_python(object data):
    """Is the first number in nested sequences a Python float? NumPy's own scalars keep their dtype."""
    import numpy
    while isinstance(data, (list, tuple)):
        for item in data:
            if isinstance(item, (list, tuple)) and len(item) == 0:
                continue
            data = item
            break
        else:
            return True
    return not isinstance(data, (numpy.generic, numpy.ndarray, Tensor))


cdef Tensor converted(object data, int code):
    """data as a new tensor; code < 0 infers the dtype."""
    import numpy
    cdef Tensor source
    if isinstance(data, Tensor):
        source = tensor_clone(alias(<Tensor>data))
        return source if code < 0 else cast(source, code)
    if is_number(data) and not isinstance(data, numpy.generic):
        if code >= 0:
            check_fits(data, code, "tensor")
        return number_tensor(data, kind_of(data)) if code < 0 else cast(number_tensor(data, kind_of(data)), code)
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], Tensor):
        data = [item.tolist() for item in data] if code >= 0 or all([not item.is_floating_point() for item in data]) else [
            item.detach().numpy() for item in data]
    try:
        array = numpy.asarray(data)
        if array.dtype == object:
            raise ValueError("the elements are no numbers of one kind")
    except ValueError as error:
        raise ValueError(f"[tensor] data must be a number or sequences of numbers of equal length; got {data!r:.80}: {error}") from None
    if array.dtype.str[1:] not in CODES or not array.dtype.isnative:
        if array.dtype.kind not in "iufb" or (array.dtype.kind == "u" and array.dtype.itemsize > 4 and array.size and array.max() > 2**63 - 1):
            raise TypeError(f"[tensor] data must be numbers or bools that a dtype can hold; got {array.dtype}")
        array = array.astype(numpy.float32 if array.dtype.kind == "f" and array.dtype.itemsize < 4
                             else numpy.float64 if array.dtype.kind == "f" else numpy.int64)
    if array.size == 0 and not hasattr(data, "dtype"):
        array = array.astype(dtype_object(default_dtype).typestr)
    source = from_numpy(numpy.ascontiguousarray(array).reshape(array.shape))
    if code < 0:
        code = source.array.dtype
        if code == FG_FLOAT64 and holds_floats_of_python(data):
            code = default_dtype
    if array.size and not hasattr(data, "dtype"):
        check_fits(array.min().item(), code, "tensor")
        check_fits(array.max().item(), code, "tensor")
    return tensor_clone(source) if code == source.array.dtype else cast(source, code)


def tensor(data, *, dtype=None, device=None, bint requires_grad=False, pin_memory=False):
    """A new tensor with the values of a number, nested sequences, a NumPy array or a tensor. See torch.tensor.

    Without a dtype, Python floats take the default dtype, ints int64, bools bool; arrays keep theirs. Raises ValueError
    for sequences of unequal length and TypeError for what is no number.

    >>> import fastgrad
    >>> fastgrad.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    check_device(device)
    return finished(converted(data, dtype_code(dtype, -2) if dtype is not None else -1), requires_grad)


def as_tensor(data, dtype=None, device=None):
    """`data` as a tensor, without a copy where that is possible. See torch.as_tensor."""
    import numpy
    check_device(device)
    if isinstance(data, Tensor):
        return cast(data, dtype_code(dtype, (<Tensor>data).array.dtype))
    if isinstance(data, numpy.ndarray) and data.dtype.str[1:] in CODES and data.dtype.isnative and not any([s < 0 for s in data.strides]):
        out = from_numpy(data)
        return cast(out, dtype_code(dtype, (<Tensor>out).array.dtype))
    return tensor(data, dtype=dtype)


def is_tensor(obj) -> bool:
    """Is this a Tensor?"""
    return isinstance(obj, Tensor)


def is_floating_point(Tensor input) -> bool:
    """Is the dtype float32 or float64?"""
    return is_float(input.array.dtype)


def numel_of(Tensor input) -> int:
    """The number of elements. See torch.numel."""
    return numel(&input.array)


# Filling


def fill_(Tensor input, value):
    """Set every element to a number or a 0-d tensor. See torch.Tensor.fill_."""
    if isinstance(value, Tensor):
        if (<Tensor>value).array.ndim != 0:
            raise RuntimeError(f"[fill_] value must be a number or a 0-d tensor; got shape {shape_text(&(<Tensor>value).array)}")
        return input.copy_(value)
    if not is_number(value):
        raise TypeError(f"[fill_] value must be a number or a 0-d tensor; got {type(value).__name__}")
    if recording(input):
        return input.copy_(number_tensor(value, input.array.dtype))
    check_in_place(input, "fill_")
    fill_number(input, value)
    return input


def zero_(Tensor input):
    """Set every element to 0. See torch.Tensor.zero_."""
    return fill_(input, 0)


# Copying


def deepcopy_tensor(Tensor input, dict memo):
    """copy.deepcopy of a leaf: its own memory, its gradient copied too."""
    if id(input) in memo:
        return memo[id(input)]
    if not input.is_leaf:
        raise RuntimeError(
            "[deepcopy] only tensors created explicitly by the user (graph leaves) support the deepcopy protocol; got a tensor with "
            f"grad_fn={input.grad_fn}"
        )
    made = tensor_clone(alias(input))
    if type(input) is not Tensor:
        made = Tensor._make_subclass(type(input), made)
        made.__dict__.update(copy.deepcopy(input.__dict__, memo))
    made.requires_grad = input.requires_grad
    if input.gradient is not None:
        Py_EnterRecursiveCall(" while copying a gradient")
        try:
            made.grad = deepcopy_tensor(input.gradient, memo)
        finally:
            Py_LeaveRecursiveCall()
    memo[id(input)] = made
    return made


def rebuild_tensor(kind, array, requires_grad, attributes):
    """The inverse of `reduce_tensor`."""
    out = converted(array, -1)
    if kind is not Tensor:
        out = Tensor._make_subclass(kind, out)
        out.__dict__.update(attributes)
    out.requires_grad = requires_grad
    return out


def reduce_tensor(Tensor input):
    """How pickle keeps a leaf."""
    if not input.is_leaf:
        raise RuntimeError(f"[pickle] only leaf tensors can be pickled; detach() the tensor first; got grad_fn={input.grad_fn}")
    return rebuild_tensor, (
        type(input), input.detach().numpy(), input.requires_grad, {} if type(input) is Tensor else dict(input.__dict__),
    )
