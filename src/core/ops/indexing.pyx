"""Indexing: basic indices make views, tensors and masks gather; gather, scatter and the embedding's rows."""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy

from fastgrad._core.graph cimport (
    Node, Op, OutputShape, Region, connect, engine_ops, input_shape, record, recording, recording2, save,
)
from fastgrad._core.views cimport check_in_place, history_stand_in, mark_view, rebase
from fastgrad._core.kernel_ids cimport *
from fastgrad._core.kernels cimport FG_BOOL, FG_INT32, FG_INT64, FG_MAX_NDIM, FG_UINT8, fg_array, fg_params
from fastgrad._core.launch cimport launch
from fastgrad._core.ops.copying cimport clone_data, cast, contiguous, tensor_clone
from fastgrad._core.ops.in_place cimport replace_in_place
from fastgrad._core.ops.operands cimport as_operand, broadcast_shape, is_number, number_tensor
from fastgrad._core.ops.shape cimport expand_to, permuted
from fastgrad._core.tensor cimport (
    Tensor, alias, is_float, itemsize_of, new_tensor, numel, operators, shape_text, wrap_axis,
)


# Basic indexing


# A view under construction, in x's own strides and in those of a contiguous tensor of x's shape: the first make the
# view, the second say where its gradient lies in x's.
cdef struct Slicer:
    int ndim
    int64_t shape[12]
    int64_t strides[12]
    int64_t twin[12]
    int64_t offset
    int64_t twin_offset


cdef int start(Slicer* s, Tensor x) noexcept:
    cdef int64_t stride = 1
    cdef int axis
    s.ndim = x.array.ndim
    s.offset = s.twin_offset = 0
    for axis in range(x.array.ndim - 1, -1, -1):
        s.shape[axis], s.strides[axis], s.twin[axis] = x.array.shape[axis], x.array.strides[axis], stride
        stride *= x.array.shape[axis]
    return 0


cdef int drop_axis(Slicer* s, int axis) noexcept:
    cdef int k
    s.ndim -= 1
    for k in range(axis, s.ndim):
        s.shape[k], s.strides[k], s.twin[k] = s.shape[k + 1], s.strides[k + 1], s.twin[k + 1]
    return 0


cdef int take_index(Slicer* s, int axis, int64_t index, str op) except -1:
    """x[..., index, ...]"""
    cdef int64_t size = s.shape[axis]
    if not -size <= index < size:
        raise IndexError(f"[{op}] index {index} is out of bounds for dimension {axis} with size {size}; got {index}")
    if index < 0:
        index += size
    s.offset += index * s.strides[axis]
    s.twin_offset += index * s.twin[axis]
    return drop_axis(s, axis)


cdef int take_slice(Slicer* s, int axis, int64_t first, int64_t step, int64_t length) noexcept:
    if length > 0:
        s.offset += first * s.strides[axis]
        s.twin_offset += first * s.twin[axis]
    s.shape[axis] = length
    s.strides[axis] *= step
    s.twin[axis] *= step
    return 0


cdef int take_python_slice(Slicer* s, int axis, object index) except -1:
    if index.step is not None and index.step <= 0:
        raise ValueError(f"[getitem] step must be greater than zero; got {index.step}")
    first, last, step = index.indices(s.shape[axis])
    return take_slice(s, axis, first, step, max(0, -((first - last) // step)))


cdef int new_axis(Slicer* s, int axis) except -1:
    cdef int k
    if s.ndim == FG_MAX_NDIM:
        raise RuntimeError(f"[getitem] a tensor has at most {FG_MAX_NDIM} dimensions; got {FG_MAX_NDIM + 1}")
    for k in range(s.ndim, axis, -1):
        s.shape[k], s.strides[k], s.twin[k] = s.shape[k - 1], s.strides[k - 1], s.twin[k - 1]
    s.shape[axis], s.strides[axis], s.twin[axis] = 1, 1, 1
    s.ndim += 1
    return 0


cdef Op SLICE
SLICE.name, SLICE.rule = b"SliceBackward0", slice_rule
cdef Op SELECT
SELECT.name, SELECT.rule = b"SelectBackward0", slice_rule


cdef int slice_rule(Node node, Tensor d) except -1:
    return node.give_region(d)


cdef Tensor sliced(Tensor x, Slicer* s, Op* op):
    """The view that was built."""
    cdef Tensor out = mark_view(alias(x), x)
    cdef Node node
    cdef Region* region
    out.array.ndim = s.ndim
    memcpy(out.array.shape, s.shape, s.ndim * sizeof(int64_t))
    memcpy(out.array.strides, s.strides, s.ndim * sizeof(int64_t))
    out.array.data = <char*>x.array.data + s.offset * itemsize_of(x.array.dtype)
    if recording(x):
        region = <Region*>calloc(1, sizeof(Region))
        if region == NULL:
            raise MemoryError
        node = record(op, out, 1)
        node.region = region
        connect(node, 0, x)
        memcpy(&region.base, &x.array, sizeof(fg_array))
        region.span = 1
        for axis in range(x.array.ndim - 1, -1, -1):
            region.base.strides[axis] = region.span
            region.span *= x.array.shape[axis]
        memcpy(&region.view, &out.array, sizeof(fg_array))
        memcpy(region.view.strides, s.twin, s.ndim * sizeof(int64_t))
        region.view_offset = s.twin_offset
    return out


def select(Tensor input, dim, index):
    """The slice at `index` along `dim`, a view. See torch.select."""
    cdef Slicer s
    cdef int axis
    if input.array.ndim == 0:
        raise IndexError("[select] select() cannot be applied to a 0-dim tensor; got shape ()")
    axis = wrap_axis(dim, input.array.ndim, "select")
    start(&s, input)
    take_index(&s, axis, index, "select")
    return sliced(input, &s, &SELECT)


def narrow(Tensor input, dim, start_index, int64_t length):
    """`length` slices along `dim` from `start_index` on, a view. See torch.narrow.

    >>> import fastgrad
    >>> fastgrad.arange(5).narrow(0, 1, 3)
    tensor([1, 2, 3])
    """
    cdef Slicer s
    cdef int axis
    cdef int64_t first, size
    if input.array.ndim == 0:
        raise RuntimeError("[narrow] narrow() cannot be applied to a 0-dim tensor; got shape ()")
    axis = wrap_axis(dim, input.array.ndim, "narrow")
    first, size = int(start_index), input.array.shape[axis]
    if not -size <= first <= size:
        raise IndexError(f"[narrow] start must be in [{-size}, {size}]; got {first}")
    if first < 0:
        first += size
    if length < 0 or length > size - first:
        raise RuntimeError(f"[narrow] start + length must be at most the dimension's size {size}; got {first} + {length}")
    start(&s, input)
    take_slice(&s, axis, first, 1, length)
    return sliced(input, &s, &SLICE)


# Any index


cdef tuple normalized(Tensor x, object index):
    """The index as a tuple without an ellipsis, and whether it has tensors in it."""
    cdef list items = list(index) if type(index) is tuple else [index]
    cdef list found = []
    cdef bint advanced = False
    cdef int taken = 0, ellipsis = -1
    for item in items:
        if item is None:
            pass
        elif item is Ellipsis:
            if ellipsis >= 0:
                raise IndexError(f"[getitem] an index can only have a single ellipsis ('...'); got {index!r}")
            ellipsis = len(found)
        elif isinstance(item, bool):
            item = number_tensor(item, FG_BOOL)
            advanced = True
        elif isinstance(item, int) or isinstance(item, slice):
            taken += 1
        elif isinstance(item, Tensor):
            if (<Tensor>item).array.dtype in (FG_BOOL, FG_UINT8):
                taken += (<Tensor>item).array.ndim
            elif is_float((<Tensor>item).array.dtype):
                raise IndexError(f"[getitem] tensors used as indices must be long, int, byte or bool tensors; got {item.dtype}")
            else:
                taken += 1
            advanced = True
        elif isinstance(item, (list, tuple, range)) or getattr(item, "ndim", 0) > 0:
            from fastgrad._core.ops.creation import tensor
            item = tensor(item) if len(item) else new_tensor_of_indices()
            taken += (<Tensor>item).array.ndim if (<Tensor>item).array.dtype in (FG_BOOL, FG_UINT8) else 1
            if is_float((<Tensor>item).array.dtype):
                raise IndexError(f"[getitem] tensors used as indices must be long, int, byte or bool tensors; got {item.dtype}")
            advanced = True
        elif hasattr(item, "__index__"):
            item = item.__index__()
            taken += 1
        else:
            raise TypeError(
                "[getitem] only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices; "
                f"got {type(item).__name__}"
            )
        found.append(item)
    if taken > x.array.ndim:
        raise IndexError(f"[getitem] too many indices for tensor of dimension {x.array.ndim}; got {taken}")
    if ellipsis >= 0:
        found[ellipsis:ellipsis + 1] = [slice(None)] * (x.array.ndim - taken)
    return found, advanced


cdef Tensor new_tensor_of_indices():
    cdef int64_t zero = 0
    return new_tensor(FG_INT64, 1, &zero)


cdef tuple indexed_view(Tensor x, list items):
    """The view that the basic part of an index makes, and [(axis of it, index tensor)] for the rest."""
    cdef Slicer s
    cdef int axis = 0
    cdef list tensors = []
    start(&s, x)
    for item in items:
        if item is None:
            new_axis(&s, axis)
            axis += 1
        elif isinstance(item, slice):
            take_python_slice(&s, axis, item)
            axis += 1
        elif isinstance(item, Tensor):
            if (<Tensor>item).array.dtype in (FG_BOOL, FG_UINT8):
                axis = spread_mask(&s, axis, <Tensor>item, tensors)
            else:
                tensors.append((axis, cast(<Tensor>item, FG_INT64)))
                axis += 1
        else:
            take_index(&s, axis, item, "getitem")
    return sliced(x, &s, &SLICE), tensors


cdef int spread_mask(Slicer* s, int axis, Tensor mask, list tensors) except -1:
    """A mask of k axes stands for k index tensors, the coordinates of its True elements."""
    cdef int k
    if mask.array.ndim == 0:
        new_axis(s, axis)
        where = new_tensor_of_indices() if not mask.item() else number_tensor(0, FG_INT64).reshape(1)
        tensors.append((axis, where))
        return axis + 1
    for k in range(mask.array.ndim):
        if mask.array.shape[k] != s.shape[axis + k]:
            raise IndexError(
                f"[getitem] the shape of the mask {shape_text(&mask.array)} at index {k} must match that of the indexed tensor "
                f"at dimension {axis + k}; got {mask.array.shape[k]} and {s.shape[axis + k]}"
            )
    coordinates = nonzero(mask)
    for k in range(mask.array.ndim):
        tensors.append((axis + k, coordinates.select(1, k).contiguous()))
    return axis + mask.array.ndim


cdef tuple with_indexed_axes_first(Tensor view, list tensors):
    """The view permuted, the index tensors broadcast and checked, and where their axes go in the result."""
    cdef int axes[12]
    cdef int k, ndim, place = 0
    cdef int64_t shape[12]
    cdef fg_array common
    cdef list indices = []
    cdef list taken = [axis for axis, _ in tensors]
    cdef Tensor index
    if taken == list(range(taken[0], taken[0] + len(taken))):
        place = taken[0]
    for k, axis in enumerate(taken + [axis for axis in range(view.array.ndim) if axis not in taken]):
        axes[k] = axis
    common = (<Tensor>tensors[0][1]).array
    for _, index in tensors[1:]:
        ndim = index_shape(&common, &index.array, shape)
        common.ndim = ndim
        memcpy(common.shape, shape, sizeof(shape))
    for axis, index in tensors:
        check_range(index, view.array.shape[<int>axis], axis, "getitem")
        indices.append(contiguous(expand_to(index, common.ndim, common.shape, "getitem")))
    if common.ndim + view.array.ndim - len(taken) > FG_MAX_NDIM:
        raise RuntimeError(f"[getitem] a tensor has at most {FG_MAX_NDIM} dimensions; got more in the result")
    return permuted(view, axes), indices, place


cdef int index_shape(const fg_array* a, const fg_array* b, int64_t* shape) except -1:
    try:
        return broadcast_shape(a, b, shape, "getitem")
    except RuntimeError:
        raise IndexError(
            "[getitem] shape mismatch: indexing tensors could not be broadcast together; got shapes "
            f"{shape_text(a)} and {shape_text(b)}"
        ) from None


cdef int check_range(Tensor index, int64_t size, int axis, str op) except -1:
    """Every index must be in [-size, size)."""
    cdef int64_t two = 2
    cdef Tensor limits = new_tensor(FG_INT64, 1, &two)
    cdef int64_t* ends = <int64_t*>limits.array.data
    cdef fg_array* operands[2]
    operands[0], operands[1] = &limits.array, &index.array
    launch(FG_KERNEL_index_range, operands, 2, NULL, numel(&index.array))
    if ends[0] <= ends[1] and not (-size <= ends[0] and ends[1] < size):
        bad = ends[0] if ends[0] < -size else ends[1]
        raise IndexError(f"[{op}] index {bad} is out of bounds for dimension {axis} with size {size}; got {bad}")
    return 0


cdef object getitem(object x_, object index):
    cdef Tensor x = <Tensor>x_, view, out
    cdef Slicer s
    cdef int k, place, common
    cdef int axes[12]
    if type(index) is int:
        if x.array.ndim == 0:
            raise IndexError("[getitem] invalid index of a 0-dim tensor, use tensor.item() for its number; got an index")
        start(&s, x)
        take_index(&s, 0, index, "getitem")
        return sliced(x, &s, &SELECT)
    items, advanced = normalized(x, index)
    if not advanced:
        return indexed_view(x, items)[0]
    view, tensors = indexed_view(x, items)
    view, indices, place = with_indexed_axes_first(view, tensors)
    out = take(view, indices)
    if place:
        common = (<Tensor>indices[0]).array.ndim
        for k in range(out.array.ndim):
            axes[k] = common + k if k < place else k - place if k < place + common else k
        out = permuted(out, axes)
    return out


cdef object setitem(Tensor x, object index, object value):
    cdef Tensor view
    cdef int place, common, k
    cdef int axes[12]
    items, advanced = normalized(x, index)
    if not advanced:
        fill_view(indexed_view(x, items)[0], value)
        return None
    view, tensors = indexed_view(x, items)
    view, indices, place = with_indexed_axes_first(view, tensors)
    source = as_operand_of(value, x)
    if place:
        source = aligned(source, view, <Tensor>indices[0], len(indices), place)
    put(view, indices, source, False, "setitem")
    return None


cdef Tensor as_operand_of(object value, Tensor x):
    if not isinstance(value, Tensor) and not is_number(value):
        from fastgrad._core.ops.creation import tensor
        value = tensor(value, dtype=x.dtype)
    return cast(as_operand(value, x, "setitem"), x.array.dtype)


cdef Tensor aligned(Tensor source, Tensor view, Tensor index, int count, int place):
    """The value of `x[:, i] = value` with the axes of the index first, as `put` wants it."""
    cdef int64_t shape[12]
    cdef int axes[12]
    cdef int k, common = index.array.ndim, ndim = view.array.ndim - count + common
    for k in range(ndim):
        shape[k] = (
            view.array.shape[count + k] if k < place else index.array.shape[k - place] if k < place + common
            else view.array.shape[count + k - common]
        )
    source = expand_to(drop_leading(source, ndim), ndim, shape, "setitem")
    for k in range(ndim):
        axes[k] = place + k if k < common else k - common if k < place + common else k
    return permuted(source, axes)


cdef Tensor drop_leading(Tensor source, int ndim):
    """Without leading axes of size 1 that are too many."""
    while source.array.ndim > ndim and source.array.shape[0] == 1:
        source = source.select(0, 0)
    return source


cdef int fill_view(Tensor view, object value) except -1:
    if isinstance(value, Tensor):
        view.copy_(drop_leading(<Tensor>value, view.array.ndim))
    elif is_number(value):
        view.fill_(value)
    else:
        view.copy_(drop_leading(as_operand_of(value, view), view.array.ndim))
    return 0


operators.getitem = getitem
operators.setitem = setitem


# Rows by index tensors


cdef Op TAKE
cdef Op TAKE_BACKWARD
cdef Op PUT
cdef Op PUT_ADD
TAKE.name, TAKE.rule = b"IndexBackward0", take_rule
TAKE_BACKWARD.name, TAKE_BACKWARD.rule = b"IndexBackwardBackward0", take_backward_rule
PUT.name, PUT.rule = b"IndexPutBackward0", put_rule
PUT_ADD.name, PUT_ADD.rule = b"IndexPutBackward0", put_add_rule


cdef int launch_indexed(int kernel, Tensor first, Tensor second, list indices) except -1:
    cdef fg_array* operands[14]
    cdef int k
    operands[0], operands[1] = &first.array, &second.array
    for k in range(len(indices)):
        operands[2 + k] = &(<Tensor>indices[k]).array
    return launch(kernel, operands, 2 + len(indices), NULL, numel(&first.array if kernel == FG_KERNEL_index_get else &second.array))


cdef int indexed_shape(Tensor x, list indices, int64_t* shape) except -1:
    """Shape of x[indices]: that of the index tensors, then x's remaining axes."""
    cdef Tensor index = <Tensor>indices[0]
    cdef int rest = x.array.ndim - len(indices)
    if index.array.ndim + rest > FG_MAX_NDIM:
        raise RuntimeError(f"[index] a tensor has at most {FG_MAX_NDIM} dimensions; got {index.array.ndim + rest} in the result")
    memcpy(shape, index.array.shape, index.array.ndim * sizeof(int64_t))
    memcpy(shape + index.array.ndim, &x.array.shape[x.array.ndim - rest], rest * sizeof(int64_t))
    return index.array.ndim + rest


cdef Tensor take(Tensor x, list indices):
    """x[indices] for int64 tensors of one shape along x's first axes, checked and contiguous."""
    cdef int64_t shape[12]
    cdef int ndim = indexed_shape(x, indices, shape)
    cdef Tensor out = new_tensor(x.array.dtype, ndim, shape)
    cdef Node node
    launch_indexed(FG_KERNEL_index_get, out, x, indices)
    if recording(x):
        node = record(&TAKE, out, 1)
        connect(node, 0, x)
        node.context = own_copies(indices)
    return out


cdef list own_copies(list indices):
    """Index tensors for the backward, which does not check them again: nobody else can write to these."""
    return [clone_data(<Tensor>index) for index in indices]


cdef int take_rule(Node node, Tensor d) except -1:
    cdef OutputShape shape = input_shape(node, 0)
    return node.give(0, take_backward(d, node.context, &shape))


cdef Tensor take_backward(Tensor d, list indices, OutputShape* shape):
    """Zeros of that shape, d added at the indices."""
    cdef Tensor out = engine_ops.zeros(d.array.dtype, shape.ndim, shape.shape)
    cdef Node node
    launch_indexed(FG_KERNEL_index_add, out, d, indices)
    if recording(d):
        node = record(&TAKE_BACKWARD, out, 1)
        connect(node, 0, d)
        node.context = own_copies(indices)
    return out


cdef int take_backward_rule(Node node, Tensor d) except -1:
    return node.give(0, take(d, node.context))


cdef int put(Tensor x, list indices, Tensor value, bint accumulate, str op) except -1:
    """x[indices] = value, or += value, in place."""
    cdef int64_t shape[12]
    cdef int ndim = indexed_shape(x, indices, shape)
    cdef Tensor source = expand_to(drop_leading(value, ndim), ndim, shape, op), stand_in = None, result
    cdef Node node
    cdef bint recorded = is_float(x.array.dtype) and recording2(x, source)
    if recorded:
        stand_in = history_stand_in(x, False)
    check_in_place(x, op)
    # An index that is part of x would change under the kernel's feet.
    indices = [clone_data(<Tensor>index) if (<Tensor>index).storage is x.storage else index for index in indices]
    launch_indexed(FG_KERNEL_index_add if accumulate else FG_KERNEL_index_put, x,
                   tensor_clone(source) if source.storage is x.storage else source, indices)
    if recorded:
        result = alias(x)
        node = record(&PUT_ADD if accumulate else &PUT, result, 2)
        connect(node, 0, stand_in)
        connect(node, 1, source)
        node.context = own_copies(indices)
        rebase(x, result)
    return 0


cdef int put_rule(Node node, Tensor d) except -1:
    indices = node.context
    if node.needs(0):
        kept = tensor_clone(d)
        put(kept, indices, number_tensor(0, d.array.dtype), False, "index_put")
        node.give(0, kept)
    if node.needs(1): node.give(1, take(d, indices))
    return 0


cdef int put_add_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    if node.needs(1): node.give(1, take(d, node.context))
    return 0


def index_put_(Tensor input, indices, values, bint accumulate=False):
    """input[indices] = values, or += with `accumulate` (repeated indices add up). See torch.Tensor.index_put_."""
    items, _ = normalized(input, tuple(indices))
    view, tensors = indexed_view(input, items)
    if not tensors:
        raise RuntimeError(f"[index_put_] at least one index tensor is needed; got {indices!r}")
    first, found, place = with_indexed_axes_first(view, tensors)
    source = as_operand_of(values, input)
    if place:
        source = aligned(source, first, <Tensor>found[0], len(found), place)
    put(first, found, source, accumulate, "index_put_")
    return input


def index_select(Tensor input, dim, Tensor index):
    """The slices along `dim` at the places of a 1-d index tensor, a copy. See torch.index_select.

    >>> import fastgrad
    >>> fastgrad.tensor([10., 20., 30.]).index_select(0, fastgrad.tensor([2, 0]))
    tensor([30., 10.])
    """
    cdef int axis = wrap_axis(dim, input.array.ndim, "index_select")
    if index.array.ndim > 1:
        raise IndexError(f"[index_select] index is supposed to be a vector; got shape {shape_text(&index.array)}")
    if index.array.dtype < 2 or is_float(index.array.dtype):
        raise RuntimeError(f"[index_select] index must be an int32 or int64 tensor; got {index.dtype}")
    if input.array.ndim == 0:
        return input.reshape(1).index_select(0, index).reshape(())
    index = contiguous(cast(index.reshape(-1), FG_INT64))
    check_nonnegative_range(index, input.array.shape[axis], axis, "index_select")
    if axis == 0:
        return take(input, [index])
    return take(input.movedim(axis, 0), [index]).movedim(0, axis)


cdef int check_nonnegative_range(Tensor index, int64_t size, int axis, str op) except -1:
    check_range(index, size, axis, op)
    if (index < 0).any():
        raise IndexError(f"[{op}] an index must not be negative; got {index.min().item()} for dimension {axis} with size {size}")
    return 0


def embedding(Tensor input, Tensor weight):
    """Rows of a table: out[..., :] = weight[input[...], :].

    input: int64 or int32 of any shape; weight: (rows, columns). The gradient of the table is dense. Raises IndexError
    for an index outside the table. See torch.nn.functional.embedding.

    >>> import fastgrad
    >>> fastgrad.nn.functional.embedding(fastgrad.tensor([1]), fastgrad.tensor([[1.], [2.]]))
    tensor([[2.]])
    """
    if weight.array.ndim != 2:
        raise RuntimeError(f"[embedding] weight must be 2-D; got shape {shape_text(&weight.array)}")
    if input.array.dtype < 2 or is_float(input.array.dtype):
        raise RuntimeError(f"[embedding] input must be an int32 or int64 tensor; got {input.dtype}")
    index = contiguous(cast(input, FG_INT64))
    check_nonnegative_range(index, weight.array.shape[0], 0, "embedding")
    return take(weight, [index])


# Along one axis


cdef Op GATHER
cdef Op SCATTER
cdef Op SCATTER_ADD
GATHER.name, GATHER.rule = b"GatherBackward0", gather_rule
SCATTER.name, SCATTER.rule = b"ScatterBackward0", scatter_rule
SCATTER_ADD.name, SCATTER_ADD.rule = b"ScatterAddBackward0", scatter_add_rule


cdef Tensor checked_index(Tensor input, int axis, Tensor index, Tensor source, str op):
    """The index as int64, inside the bounds of input along the axis and of both tensors along the others."""
    cdef int k
    if index.array.dtype != FG_INT64:
        raise RuntimeError(f"[{op}] index must be an int64 tensor; got {index.dtype}")
    if max(index.array.ndim, 1) != max(input.array.ndim, 1) or (source is not None and max(source.array.ndim, 1) != max(input.array.ndim, 1)):
        raise RuntimeError(
            f"[{op}] index must have the same number of dimensions as the input; got index {shape_text(&index.array)} for input "
            f"{shape_text(&input.array)}"
        )
    for k in range(index.array.ndim):
        if (k != axis and k < input.array.ndim and index.array.shape[k] > input.array.shape[k]) or (
                source is not None and k < source.array.ndim and index.array.shape[k] > source.array.shape[k]):
            raise RuntimeError(
                f"[{op}] index must not be larger than the input apart from dimension {axis}, nor than src anywhere; got index "
                f"{shape_text(&index.array)}, input {shape_text(&input.array)}"
                + ("" if source is None else f", src {shape_text(&source.array)}")
            )
    if input.array.ndim:
        if (index < 0).any():
            raise RuntimeError(f"[{op}] index {index.min().item()} is out of bounds for dimension {axis} with size {input.array.shape[axis]}; got a negative index")
        try:
            check_range(index, input.array.shape[axis], axis, op)
        except IndexError as error:
            raise RuntimeError(str(error)) from None
    return index


cdef Tensor cut_to(Tensor x, Tensor index):
    """The part of x that an index of its number of axes reaches."""
    cdef int k
    cdef Tensor out = x
    for k in range(index.array.ndim):
        if out.array.shape[k] != index.array.shape[k]:
            out = out.narrow(k, 0, index.array.shape[k])
    return out


cdef int launch_along(int kernel, Tensor first, Tensor second, Tensor third, int axis) except -1:
    cdef fg_array* operands[3]
    cdef fg_params params
    params.i[0] = axis
    operands[0], operands[1], operands[2] = &first.array, &second.array, &third.array
    return launch(kernel, operands, 3, &params, numel(&third.array))


def gather(Tensor input, dim, Tensor index):
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim = 1. See torch.gather.

    >>> import fastgrad
    >>> fastgrad.tensor([[1., 2.], [3., 4.]]).gather(1, fastgrad.tensor([[1], [0]]))
    tensor([[2.],
            [3.]])
    """
    cdef int axis = wrap_axis(dim, input.array.ndim, "gather")
    if input.array.ndim == 0 or index.array.ndim == 0:
        return gather(input.reshape(-1), 0, index.reshape(-1)).reshape(index.shape)
    return gathered(input, axis, checked_index(input, axis, index, None, "gather"))


cdef Tensor gathered(Tensor input, int axis, Tensor index):
    cdef Tensor out = new_tensor(input.array.dtype, index.array.ndim, index.array.shape)
    cdef Node node
    launch_along(FG_KERNEL_gather, out, input, index, axis)
    if recording(input):
        node = record(&GATHER, out, 1)
        connect(node, 0, input)
        save(node, 0, clone_data(index))
        node.integers[0] = axis
    return out

cdef int gather_rule(Node node, Tensor d) except -1:
    cdef OutputShape shape = input_shape(node, 0)
    zero = engine_ops.zeros(d.array.dtype, shape.ndim, shape.shape)
    return node.give(0, scattered(&SCATTER_ADD, FG_KERNEL_scatter_add, zero, node.integers[0], node.saved(0), d))


cdef Tensor scattered(Op* op, int kernel, Tensor input, int axis, Tensor index, Tensor source):
    cdef Tensor out = tensor_clone(alias(input))
    cdef Tensor part = cut_to(source, index)
    cdef Node node
    launch_along(kernel, out, index, part, axis)
    if recording2(input, source):
        node = record(op, out, 2)
        connect(node, 0, input)
        connect(node, 1, part)
        save(node, 0, clone_data(index))
        node.integers[0] = axis
    return out

cdef int scatter_rule(Node node, Tensor d) except -1:
    index, axis = node.saved(0), node.integers[0]
    if node.needs(0): node.give(0, scattered(&SCATTER, FG_KERNEL_scatter, d, axis, index, zeros_of_index(index, d.array.dtype)))
    if node.needs(1): node.give(1, gathered(d, axis, index))
    return 0

cdef int scatter_add_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, d)
    if node.needs(1): node.give(1, gathered(d, node.integers[0], node.saved(0)))
    return 0

cdef Tensor zeros_of_index(Tensor index, int code):
    return engine_ops.zeros(code, index.array.ndim, index.array.shape)


cdef Tensor scatter_source(Tensor input, Tensor index, object src, str op):
    if isinstance(src, Tensor):
        if (<Tensor>src).array.dtype != input.array.dtype:
            raise RuntimeError(f"[{op}] expected self.dtype to be equal to src.dtype; got {input.dtype} and {src.dtype}")
        return <Tensor>src
    return expand_to(cast(as_operand(src, input, op), input.array.dtype), index.array.ndim, index.array.shape, op)


def scatter(Tensor input, dim, Tensor index, src=None, *, value=None):
    """A copy of input with out[i][index[i][j][k]][k] = src[i][j][k] for dim = 1; src is a tensor or a number. See torch.scatter.

    >>> import fastgrad
    >>> fastgrad.zeros(3).scatter(0, fastgrad.tensor([2, 0]), fastgrad.tensor([5., 6.]))
    tensor([6., 0., 5.])
    """
    cdef int axis = wrap_axis(dim, input.array.ndim, "scatter")
    if input.array.ndim == 0:
        source = src.reshape(-1) if isinstance(src, Tensor) else src
        return scatter(input.reshape(1), 0, index.reshape(-1), source, value=value).reshape(())
    source = scatter_source(input, index, value if src is None else src, "scatter")
    return scattered(&SCATTER, FG_KERNEL_scatter, input, axis, checked_index(input, axis, index, source, "scatter"), source)


def scatter_add(Tensor input, dim, Tensor index, Tensor src):
    """A copy of input with out[i][index[i][j][k]][k] += src[i][j][k] for dim = 1. See torch.scatter_add.

    >>> import fastgrad
    >>> fastgrad.zeros(2).scatter_add(0, fastgrad.tensor([1, 1]), fastgrad.tensor([5., 6.]))
    tensor([ 0., 11.])
    """
    cdef int axis = wrap_axis(dim, input.array.ndim, "scatter_add")
    if input.array.ndim == 0:
        return scatter_add(input.reshape(1), 0, index.reshape(-1), src.reshape(-1)).reshape(())
    source = scatter_source(input, index, src, "scatter_add")
    return scattered(&SCATTER_ADD, FG_KERNEL_scatter_add, input, axis, checked_index(input, axis, index, source, "scatter_add"), source)


def scatter_(Tensor input, dim, Tensor index, src=None, *, value=None):
    """`scatter` in place."""
    return replace_in_place(input, lambda old: scatter(old, dim, index, src, value=value), "scatter_")


def scatter_add_(Tensor input, dim, Tensor index, Tensor src):
    """`scatter_add` in place."""
    return replace_in_place(input, lambda old: scatter_add(old, dim, index, src), "scatter_add_")


def index_add(Tensor input, dim, Tensor index, Tensor source, *, alpha=1):
    """A copy of input with the slices of `alpha * source` added at the places of a 1-d index along dim. See torch.index_add."""
    cdef int axis = wrap_axis(dim, input.array.ndim, "index_add")
    cdef Tensor out = tensor_clone(input), view
    if index.array.ndim > 1 or source.array.ndim != input.array.ndim or numel(&index.array) != source.array.shape[axis]:
        raise RuntimeError(
            f"[index_add] index must be a vector of the length of source's dimension {axis}; got index {shape_text(&index.array)}, "
            f"source {shape_text(&source.array)}"
        )
    if source.array.dtype != input.array.dtype:
        raise RuntimeError(f"[index_add] source must have input's dtype {input.dtype}; got {source.dtype}")
    if index.array.dtype < FG_INT32 or is_float(index.array.dtype):
        raise RuntimeError(f"[index_add] index must be an int32 or int64 tensor; got {index.dtype}")
    index = contiguous(cast(index.reshape(-1), FG_INT64))
    check_nonnegative_range(index, input.array.shape[axis], axis, "index_add")
    view = out.movedim(axis, 0)
    put(view, [index], (source if alpha == 1 else source * alpha).movedim(axis, 0), True, "index_add")
    return out


def index_add_(Tensor input, dim, Tensor index, Tensor source, *, alpha=1):
    """`index_add` in place."""
    return replace_in_place(input, lambda old: index_add(old, dim, index, source, alpha=alpha), "index_add_")


def masked_select(Tensor input, Tensor mask):
    """The elements where the mask, broadcast, is True, as a vector. See torch.masked_select."""
    cdef int64_t shape[12]
    cdef int ndim = broadcast_shape(&input.array, &mask.array, shape, "masked_select")
    if mask.array.dtype != FG_BOOL:
        raise RuntimeError(f"[masked_select] mask must be a bool tensor; got {mask.dtype}")
    return expand_to(input, ndim, shape, "masked_select")[expand_to(mask, ndim, shape, "masked_select")]


def nonzero(Tensor input, *, bint as_tuple=False):
    """The coordinates of the elements that are not zero, (count, ndim) int64; with `as_tuple` a vector per axis. See torch.nonzero.

    >>> import fastgrad
    >>> fastgrad.tensor([0., 3., 0., 5.]).nonzero()
    tensor([[1],
            [3]])
    """
    cdef int64_t shape[2]
    cdef Tensor out
    cdef fg_array* operands[2]
    if as_tuple:
        return tuple([column.contiguous() for column in nonzero(input if input.array.ndim else input.reshape(1)).unbind(1)])
    shape[0], shape[1] = (input != 0).sum().item(), input.array.ndim
    out = new_tensor(FG_INT64, 2, shape)
    operands[0], operands[1] = &out.array, &input.array
    launch(FG_KERNEL_nonzero, operands, 2, NULL, numel(&input.array))
    return out
