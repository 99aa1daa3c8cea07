"""Views that change the shape, and ops that join and part tensors along an axis."""

from libc.stdlib cimport calloc
from libc.string cimport memcpy

from fastgrad._core.tensor import Size

from fastgrad._core.graph cimport (
    Op, OutputShape, add_outputs, connect, engine_ops, input_shape, new_node, record, recording, set_output,
)
from fastgrad._core.regions cimport embedded, region_between, region_of
from fastgrad._core.views cimport mark_view
from fastgrad._core.kernels cimport FG_MAX_NDIM, FG_UINT8, fg_array
from fastgrad._core.ops.copying cimport cast, copy_into, tensor_clone
from fastgrad._core.tensor cimport (
    VIEW_OF_MANY, alias, check_numel, fill_contiguous_strides, is_contiguous, itemsize_of, new_like, new_tensor, numel, parse_shape,
    same_shape, shape_text, wrap_axis,
)


cdef Op VIEW_OP
cdef Op TRANSPOSE
cdef Op T
cdef Op PERMUTE
cdef Op EXPAND
VIEW_OP.name, VIEW_OP.rule = b"ViewBackward0", reshape_rule
T.name, T.rule = b"TBackward0", transpose_rule
TRANSPOSE.name, TRANSPOSE.rule = b"TransposeBackward0", transpose_rule
PERMUTE.name, PERMUTE.rule = b"PermuteBackward0", permute_rule
EXPAND.name, EXPAND.rule = b"ExpandBackward0", expand_rule


cdef int reshape_rule(Node node, Tensor d) except -1:
    cdef OutputShape shape = input_shape(node, 0)
    return node.give(0, reshape_to(d, shape.ndim, shape.shape))

cdef int transpose_rule(Node node, Tensor d) except -1:
    return node.give(0, swap(d, node.integers[0], node.integers[1]))

cdef int permute_rule(Node node, Tensor d) except -1:
    cdef int inverse[12]
    for position, axis in enumerate(node.context):
        inverse[<int>axis] = position
    return node.give(0, permuted(d, inverse))

cdef int expand_rule(Node node, Tensor d) except -1:
    return node.give(0, d)


cdef Tensor view_of(Tensor x):
    """A view with x's own geometry, to be changed by the caller."""
    return mark_view(alias(x), x)


cdef bint view_strides(const fg_array* x, int ndim, const int64_t* shape, int64_t* strides) noexcept:
    """The strides with which x's elements have that shape without a copy; False if there are none.

    Axes of x that lie in memory like one axis form a chunk; each new axis must be cut out of one chunk.
    """
    cdef int axis = ndim - 1, k
    cdef int64_t chunk = 1, taken = 1, stride
    if numel(x) == 0:
        return False
    if x.ndim == 0:
        for k in range(ndim):
            strides[k] = 1
        return True
    stride = x.strides[x.ndim - 1]
    for k in range(x.ndim - 1, -1, -1):
        chunk *= x.shape[k]
        if k > 0 and (x.shape[k - 1] == 1 or x.strides[k - 1] == chunk * stride):
            continue
        while axis >= 0 and (taken < chunk or shape[axis] == 1):
            strides[axis] = taken * stride
            taken *= shape[axis]
            axis -= 1
        if taken != chunk:
            return False
        if k > 0:
            stride, chunk, taken = x.strides[k - 1], 1, 1
    return axis == -1


cdef Tensor reshape_to(Tensor x, int ndim, const int64_t* shape):
    """x with another shape of as many elements: a view where the strides allow it, else a copy."""
    cdef Tensor out
    cdef int64_t strides[12]
    if not is_contiguous(&x.array) and not view_strides(&x.array, ndim, shape, strides):
        x = tensor_clone(x)
    return viewed(x, ndim, shape)


cdef Tensor viewed(Tensor x, int ndim, const int64_t* shape):
    cdef Tensor out = view_of(x)
    cdef fg_array source = x.array
    out.array.ndim = ndim
    memcpy(out.array.shape, shape, ndim * sizeof(int64_t))
    if is_contiguous(&source):
        fill_contiguous_strides(&out.array)
    elif not view_strides(&source, ndim, shape, out.array.strides):
        raise RuntimeError(
            "[view] view size is not compatible with input tensor's size and stride (at least one dimension spans across "
            f"two contiguous subspaces), use .reshape(...) instead; got {shape_text(&out.array)} for a tensor of shape "
            f"{shape_text(&x.array)} with strides {x.stride()}"
        )
    if recording(x):
        connect(record(&VIEW_OP, out, 1), 0, x)
    return out


cdef int infer_shape(Tensor x, object size, int64_t* shape, str op) except -1:
    """Parse a shape in which one size may be -1."""
    cdef int ndim = parse_shape(size, shape, op), axis, free = -1
    cdef int64_t known = 1, n = numel(&x.array)
    cdef int64_t magnitude[12]
    for axis in range(ndim):
        magnitude[axis] = 1 if shape[axis] == -1 else shape[axis]
    check_numel(FG_UINT8, ndim, magnitude)
    for axis in range(ndim):
        if shape[axis] == -1:
            if free >= 0:
                raise RuntimeError(f"[{op}] only one dimension can be inferred; got {tuple(size)}")
            free = axis
        elif shape[axis] < 0:
            raise RuntimeError(f"[{op}] a size must be -1 or not negative; got {tuple(size)}")
        else:
            known *= shape[axis]
    if free >= 0:
        if known == 0:
            raise RuntimeError(f"[{op}] cannot reshape into {tuple(size)}: the size of -1 is ambiguous; got an empty tensor")
        shape[free] = n // known
        known *= shape[free]
    if known != n:
        raise RuntimeError(f"[{op}] shape {tuple(size)} is invalid for input of size {n}; got a tensor of shape {shape_text(&x.array)}")
    return ndim


cdef object sizes_of(tuple args):
    """`f(2, 3)` and `f((2, 3))` alike."""
    return args[0] if len(args) == 1 and not isinstance(args[0], int) and hasattr(args[0], "__len__") else args


def view(Tensor input, *shape, dtype=None):
    """The same elements with another shape, sharing memory; one size may be -1. See torch.Tensor.view.

    >>> import fastgrad
    >>> fastgrad.arange(4).view(2, -1)
    tensor([[0, 1],
            [2, 3]])
    """
    cdef int64_t sizes[12]
    cdef int ndim
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list)) and hasattr(shape[0], "is_floating_point"):
        if shape[0] is input.dtype:
            return viewed(input, input.array.ndim, input.array.shape)
        raise RuntimeError(f"[view] the dtype of a view must be the tensor's; got {shape[0]}")
    ndim = infer_shape(input, sizes_of(shape), sizes, "view")
    return viewed(input, ndim, sizes)


def reshape(Tensor input, *shape):
    """The same elements with another shape: a view where possible, else a copy. See torch.reshape.

    >>> import fastgrad
    >>> fastgrad.arange(4).reshape(2, 2).t().reshape(-1)
    tensor([0, 2, 1, 3])
    """
    cdef int64_t sizes[12]
    cdef int ndim = infer_shape(input, sizes_of(shape), sizes, "reshape")
    return reshape_to(input, ndim, sizes)


def view_as(Tensor input, Tensor other):
    """`input.view(other.shape)`."""
    return view(input, other.shape)


def reshape_as(Tensor input, Tensor other):
    """`input.reshape(other.shape)`."""
    return reshape(input, other.shape)


def flatten(Tensor input, start_dim=0, end_dim=-1):
    """The axes from `start_dim` to `end_dim` made one. See torch.flatten.

    >>> import fastgrad
    >>> fastgrad.zeros(2, 3, 4).flatten(1).shape
    fastgrad.Size([2, 12])
    """
    cdef int first = wrap_axis(start_dim, input.array.ndim, "flatten"), last = wrap_axis(end_dim, input.array.ndim, "flatten")
    cdef int64_t sizes[12]
    cdef int axis, ndim = 0
    if first > last:
        raise RuntimeError(f"[flatten] start_dim cannot come after end_dim; got {start_dim} and {end_dim}")
    if input.array.ndim == 0:
        sizes[0] = 1
        return reshape_to(input, 1, sizes)
    for axis in range(input.array.ndim):
        if first < axis <= last:
            sizes[ndim - 1] *= input.array.shape[axis]
        else:
            sizes[ndim] = input.array.shape[axis]
            ndim += 1
    return reshape_to(input, ndim, sizes)


def unflatten(Tensor input, dim, sizes):
    """Axis `dim` cut into axes of these sizes. See torch.unflatten."""
    cdef int axis = wrap_axis(dim, input.array.ndim, "unflatten")
    shape = list(input.shape)
    return view(input, shape[:axis] + list(sizes) + shape[axis + 1:])


def squeeze(Tensor input, dim=None):
    """Without the axes of size 1, or without those of `dim` that have size 1. See torch.squeeze.

    >>> import fastgrad
    >>> fastgrad.zeros(1, 3, 1).squeeze().shape
    fastgrad.Size([3])
    """
    cdef int64_t sizes[12]
    cdef int axis, ndim = 0
    cdef Tensor out = view_of(input)
    chosen = None
    if dim is not None:
        chosen = {wrap_axis(d, input.array.ndim, "squeeze") for d in (dim if isinstance(dim, (tuple, list)) else (dim,))}
    for axis in range(input.array.ndim):
        if input.array.shape[axis] != 1 or (chosen is not None and axis not in chosen):
            out.array.shape[ndim] = input.array.shape[axis]
            out.array.strides[ndim] = input.array.strides[axis]
            ndim += 1
    out.array.ndim = ndim
    if recording(input):
        connect(record(&VIEW_OP, out, 1), 0, input)
    return out


def unsqueeze(Tensor input, dim):
    """With a new axis of size 1 at `dim`. See torch.unsqueeze.

    >>> import fastgrad
    >>> fastgrad.zeros(3).unsqueeze(0).shape
    fastgrad.Size([1, 3])
    """
    cdef int place = wrap_axis(dim, input.array.ndim + 1, "unsqueeze"), axis
    cdef Tensor out = view_of(input)
    if input.array.ndim == FG_MAX_NDIM:
        raise RuntimeError(f"[unsqueeze] a tensor has at most {FG_MAX_NDIM} dimensions; got {FG_MAX_NDIM + 1}")
    out.array.ndim = input.array.ndim + 1
    for axis in range(input.array.ndim, place, -1):
        out.array.shape[axis] = input.array.shape[axis - 1]
        out.array.strides[axis] = input.array.strides[axis - 1]
    out.array.shape[place] = 1
    out.array.strides[place] = out.array.shape[place + 1] * out.array.strides[place + 1] if place < input.array.ndim else 1
    if recording(input):
        connect(record(&VIEW_OP, out, 1), 0, input)
    return out


cdef Tensor swap(Tensor x, int first, int second):
    return swapped(x, first, second, &TRANSPOSE)


cdef Tensor swapped(Tensor x, int first, int second, Op* op):
    cdef Tensor out = view_of(x)
    cdef Node node
    if x.array.ndim:
        out.array.shape[first], out.array.shape[second] = x.array.shape[second], x.array.shape[first]
        out.array.strides[first], out.array.strides[second] = x.array.strides[second], x.array.strides[first]
    if recording(x):
        node = record(op, out, 1)
        connect(node, 0, x)
        node.integers[0], node.integers[1] = first, second
    return out


cdef Tensor permuted(Tensor x, const int* axes):
    """Axis k of the result is axis axes[k] of x."""
    cdef Tensor out = view_of(x)
    cdef Node node
    cdef int k
    for k in range(x.array.ndim):
        out.array.shape[k] = x.array.shape[axes[k]]
        out.array.strides[k] = x.array.strides[axes[k]]
    if recording(x):
        node = record(&PERMUTE, out, 1)
        connect(node, 0, x)
        node.context = tuple([axes[k] for k in range(x.array.ndim)])
    return out


def transpose(Tensor input, dim0, dim1):
    """A view with two axes exchanged. See torch.transpose.

    >>> import fastgrad
    >>> fastgrad.zeros(2, 3).transpose(0, 1).shape
    fastgrad.Size([3, 2])
    """
    return swap(input, wrap_axis(dim0, input.array.ndim, "transpose"), wrap_axis(dim1, input.array.ndim, "transpose"))


def t(Tensor input):
    """The transpose of a tensor of at most two axes. See torch.t."""
    if input.array.ndim > 2:
        raise RuntimeError(f"[t] t() expects a tensor with <= 2 dimensions; got shape {shape_text(&input.array)}")
    return swapped(input, 0, 1, &T) if input.array.ndim == 2 else view_and_record(input)


cdef Tensor view_and_record(Tensor x):
    return viewed(x, x.array.ndim, x.array.shape)


def permute(Tensor input, *dims):
    """A view whose axis k is axis dims[k]. See torch.permute.

    >>> import fastgrad
    >>> fastgrad.zeros(2, 3, 4).permute(2, 0, 1).shape
    fastgrad.Size([4, 2, 3])
    """
    cdef int axes[12]
    cdef int k
    wanted = sizes_of(dims)
    if len(wanted) != input.array.ndim:
        raise RuntimeError(f"[permute] one dim per axis of shape {shape_text(&input.array)}; got {tuple(wanted)}")
    for k in range(input.array.ndim):
        axes[k] = wrap_axis(wanted[k], input.array.ndim, "permute")
    if len({axes[k] for k in range(input.array.ndim)}) != input.array.ndim:
        raise RuntimeError(f"[permute] duplicate dims are not allowed; got {tuple(wanted)}")
    return permuted(input, axes)


def movedim(Tensor input, source, destination):
    """A view with the axes `source` at the places `destination`. See torch.movedim."""
    sources = [wrap_axis(d, input.array.ndim, "movedim") for d in (source if isinstance(source, (tuple, list)) else (source,))]
    places = [wrap_axis(d, input.array.ndim, "movedim") for d in (destination if isinstance(destination, (tuple, list)) else (destination,))]
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise RuntimeError(f"[movedim] as many distinct destinations as distinct sources; got {source} and {destination}")
    rest = [axis for axis in range(input.array.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources)):
        rest.insert(place, axis)
    return permute(input, rest)


def adjoint_view(Tensor input):
    """All axes reversed: `.T`."""
    return permute(input, *range(input.array.ndim - 1, -1, -1))


def matrix_transpose(Tensor input):
    """The last two axes exchanged: `.mT`."""
    if input.array.ndim < 2:
        raise RuntimeError(f"[mT] at least two dimensions are needed; got shape {shape_text(&input.array)}")
    return swap(input, input.array.ndim - 2, input.array.ndim - 1)


cdef Tensor expand_to(Tensor x, int ndim, const int64_t* shape, str op):
    """A view in which axes of size 1, and new ones in front, repeat with stride 0."""
    cdef Tensor out
    cdef int axis, missing = ndim - x.array.ndim
    cdef bint same = missing == 0
    for axis in range(ndim):
        if axis >= missing and x.array.shape[axis - missing] != shape[axis]:
            same = False
            if x.array.shape[axis - missing] != 1:
                raise RuntimeError(
                    f"[{op}] the expanded size of the tensor ({shape[axis]}) must match the existing size "
                    f"({x.array.shape[axis - missing]}) at non-singleton dimension {axis}; got a tensor of shape {shape_text(&x.array)}"
                )
    check_numel(x.array.dtype, ndim, shape)
    out = view_of(x)
    out.array.ndim = ndim
    for axis in range(ndim):
        out.array.shape[axis] = shape[axis]
        if axis < missing or (x.array.shape[axis - missing] == 1 and shape[axis] != 1):
            out.array.strides[axis] = 0
        else:
            out.array.strides[axis] = x.array.strides[axis - missing]
    if recording(x):
        connect(record(&EXPAND, out, 1), 0, x)
    return out


def expand(Tensor input, *sizes):
    """A view in which axes of size 1 repeat; -1 keeps a size, new axes come in front. See torch.Tensor.expand.

    >>> import fastgrad
    >>> fastgrad.tensor([[1.], [2.]]).expand(2, 3)
    tensor([[1., 1., 1.],
            [2., 2., 2.]])
    """
    cdef int64_t shape[12]
    cdef int axis, ndim = parse_shape(sizes_of(sizes), shape, "expand"), missing = ndim - input.array.ndim
    if missing < 0:
        raise RuntimeError(
            f"[expand] the number of sizes must be greater or equal to the number of dimensions; got {ndim} sizes for shape "
            f"{shape_text(&input.array)}"
        )
    for axis in range(ndim):
        if shape[axis] == -1 and axis >= missing:
            shape[axis] = input.array.shape[axis - missing]
        elif shape[axis] < 0:
            raise RuntimeError(f"[expand] a size must not be negative, but for -1 at an existing dimension; got {tuple(sizes_of(sizes))}")
    return expand_to(input, ndim, shape, "expand")


def expand_as(Tensor input, Tensor other):
    """`input.expand(other.shape)`."""
    return expand_to(input, other.array.ndim, other.array.shape, "expand_as") if other.array.ndim >= input.array.ndim else expand(input, other.shape)


def broadcast_to(Tensor input, size):
    """`input.expand(size)`. See torch.broadcast_to."""
    return expand(input, *size)


def broadcast_tensors(*tensors):
    """The tensors expanded to their common shape. See torch.broadcast_tensors."""
    if not tensors:
        return ()
    shape = broadcast_shapes(*[x.shape for x in tensors])
    return tuple([expand(x, *shape) for x in tensors])


def broadcast_shapes(*shapes):
    """The common shape of tensors of these shapes. See torch.broadcast_shapes."""
    common = []
    for shape in shapes:
        sizes = list(shape) if isinstance(shape, (tuple, list)) else [shape]
        common = [1] * (len(sizes) - len(common)) + common
        for place, size in enumerate(sizes, len(common) - len(sizes)):
            if common[place] == 1:
                common[place] = size
            elif size not in (1, common[place]):
                raise RuntimeError(f"[broadcast_shapes] the shapes must agree or be 1 along each axis; got {', '.join(map(str, map(tuple, shapes)))}")
    return Size(common)


def flip(Tensor input, *dims):
    """A copy with the order along the axes `dims` reversed. See torch.flip.

    >>> import fastgrad
    >>> fastgrad.tensor([1, 2, 3]).flip(0)
    tensor([3, 2, 1])
    """
    from fastgrad._core.ops.creation import arange
    axes = [wrap_axis(dim, input.array.ndim, "flip") for dim in sizes_of(dims)]
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"[flip] a dim must appear once in the list of dims; got {tuple(sizes_of(dims))}")
    out = input
    for axis in axes if input.array.ndim else []:
        length = input.array.shape[axis]
        out = out.index_select(axis, arange(length - 1, -1, -1) if length else arange(0))
    return out.clone() if out is input else out


def detach(Tensor input):
    """A tensor on the same elements outside the graph. See torch.Tensor.detach."""
    return alias(input)


def detach_(Tensor input):
    """Take this tensor out of the graph."""
    if input.base is not None:
        raise RuntimeError("[detach_] can't detach views in-place, use detach() instead; got a view")
    input.node, input.requires, input.output_number = None, False, 0
    return input


# Regions: the gradient of a view that is a part of its base


cdef Op VIEW_REGION
cdef Op EMBED_REGION
cdef Op PUT_REGION
VIEW_REGION.name, VIEW_REGION.rule = b"AsStridedBackward0", view_region_rule
EMBED_REGION.name, EMBED_REGION.rule = b"AsStridedScatterBackward0", embed_region_rule
PUT_REGION.name, PUT_REGION.rule = b"AsStridedScatterBackward0", put_region_rule


cdef Region* copy_region(Region* region) except NULL:
    cdef Region* copied = <Region*>calloc(1, sizeof(Region))
    if copied == NULL:
        raise MemoryError
    copied[0] = region[0]
    return copied


cdef Tensor laid_out(Tensor x, Region* region):
    """A copy of x, of the base's shape, whose elements lie as the base's do."""
    cdef Tensor whole = engine_ops.zeros(x.array.dtype, 1, &region.span)
    memcpy(whole.array.shape, region.base.shape, sizeof(region.base.shape))
    memcpy(whole.array.strides, region.base.strides, sizeof(region.base.strides))
    whole.array.ndim = region.base.ndim
    whole.array.data = whole.storage.data + region.base_offset * itemsize_of(x.array.dtype)
    copy_into(whole, x)
    return whole


cdef Tensor view_region(Tensor x, Region* region):
    """The elements of x inside the region, as a tensor of its own."""
    cdef Tensor part = region_of(laid_out(x, region), region)
    cdef Tensor out = new_like(part)
    cdef Node node
    copy_into(out, part)
    if recording(x):
        node = record(&VIEW_REGION, out, 1)
        connect(node, 0, x)
        node.region = copy_region(region)
    return out

cdef int view_region_rule(Node node, Tensor d) except -1:
    return node.give_region(d)


cdef Tensor embed_region(Tensor d, Region* region):
    """Zeros of the base's shape, d added inside the region."""
    cdef Tensor out = embedded(d, region)
    cdef Node node
    if recording(d):
        node = record(&EMBED_REGION, out, 1)
        connect(node, 0, d)
        node.region = copy_region(region)
    return out

cdef int embed_region_rule(Node node, Tensor d) except -1:
    return node.give(0, view_region(d, node.region))


cdef Tensor put_region(Tensor whole, Tensor part, Region* region):
    """`whole` with `part` (zeros if None) inside the region."""
    cdef Tensor out = laid_out(whole, region), inside = region_of(out, region)
    cdef Node node
    cdef bint both = part is not None and recording(part)
    if part is None:
        part = engine_ops.zeros(whole.array.dtype, inside.array.ndim, inside.array.shape)
    copy_into(inside, part)
    if both or recording(whole):
        node = record(&PUT_REGION, out, 2)
        connect(node, 0, whole)
        connect(node, 1, part)
        node.region = copy_region(region)
    return out

cdef int put_region_rule(Node node, Tensor d) except -1:
    if node.needs(0): node.give(0, put_region(d, None, node.region))
    if node.needs(1): node.give(1, view_region(d, node.region))
    return 0


engine_ops.view_region = view_region
engine_ops.embed_region = embed_region
engine_ops.put_region = put_region


cdef Op AS_STRIDED
AS_STRIDED.name, AS_STRIDED.rule = b"AsStridedBackward0", view_region_rule


def as_strided(Tensor input, size, stride, storage_offset=None):
    """A view with any sizes and strides, in elements of the storage. See torch.as_strided.

    Raises RuntimeError for a negative stride and for a view that would leave the storage.

    >>> import fastgrad
    >>> fastgrad.arange(4).as_strided((3, 2), (1, 1))
    tensor([[0, 1],
            [1, 2],
            [2, 3]])
    """
    cdef Tensor out = view_of(input)
    cdef int64_t shape[12]
    cdef int axis, ndim = parse_shape(size, shape, "as_strided")
    cdef Node node
    last = offset = input.storage_offset() if storage_offset is None else storage_offset
    strides = [<int64_t>step for step in stride]
    check_numel(input.array.dtype, ndim, shape)
    if len(strides) != ndim:
        raise RuntimeError(f"[as_strided] mismatch in length of strides and shape; got {tuple(strides)} and {tuple(size)}")
    empty = any([shape[axis] == 0 for axis in range(ndim)])
    for axis in range(ndim):
        if shape[axis] < 0 or strides[axis] < 0:
            raise RuntimeError(f"[as_strided] sizes and strides must not be negative; got {tuple(size)} and {tuple(strides)}")
        last += (shape[axis] - 1) * strides[axis]
    if offset < 0 or (not empty and last >= input.storage.nbytes // itemsize_of(input.array.dtype)):
        raise RuntimeError(
            f"[as_strided] sizes {tuple(size)}, strides {tuple(strides)}, storage offset {offset} must stay inside the "
            f"storage; got a storage of {input.storage.nbytes // itemsize_of(input.array.dtype)} elements"
        )
    out.array.ndim = ndim
    for axis in range(ndim):
        out.array.shape[axis], out.array.strides[axis] = shape[axis], strides[axis]
    out.array.data = input.storage.data + <int64_t>(0 if empty else offset) * itemsize_of(input.array.dtype)
    if recording(input):
        node = record(&AS_STRIDED, out, 1)
        connect(node, 0, input)
        node.region = region_between(out, input)
    return out


# Joining and parting


cdef Op CAT
cdef Op SPLIT
cdef Op UNBIND
CAT.name, CAT.rule = b"CatBackward0", cat_rule
SPLIT.name, SPLIT.rule = b"SplitBackward0", split_rule
UNBIND.name, UNBIND.rule = b"UnbindBackward0", split_rule


cdef Tensor part_along(Tensor x, int axis, int64_t first, int64_t length):
    """x[first : first + length] along an axis, outside the graph."""
    cdef Tensor part = alias(x)
    part.array.shape[axis] = length
    part.array.data = <char*>x.array.data + first * x.array.strides[axis] * itemsize_of(x.array.dtype)
    return part


def cat(tensors, dim=0):
    """The tensors one after another along `dim`; their other sizes agree. See torch.cat.

    >>> import fastgrad
    >>> fastgrad.cat([fastgrad.zeros(1, 2), fastgrad.ones(1, 2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    cdef list parts = list(tensors)
    cdef Tensor x, out, model = None
    cdef int axis, k, code = -1
    cdef int64_t total = 0, first = 0
    cdef int64_t shape[12]
    cdef bint recorded = False
    cdef Node node
    for x in parts:
        if not isinstance(x, Tensor):
            raise TypeError(f"[cat] expected Tensors; got {type(x).__name__}")
        if x.array.ndim == 0:
            raise RuntimeError("[cat] zero-dimensional tensors cannot be concatenated; got shape ()")
        if model is None or (model.array.ndim == 1 and model.array.shape[0] == 0):
            model = x
    if model is None:
        raise ValueError("[cat] expected a non-empty list of Tensors; got an empty one")
    axis = wrap_axis(dim, model.array.ndim, "cat")
    # PyTorch lets tensors of shape (0,) pass beside tensors of any shape.
    if model.array.ndim != 1:
        parts = [x for x in parts if (<Tensor>x).array.ndim != 1 or (<Tensor>x).array.shape[0] != 0]
    for x in parts:
        if x.array.ndim != model.array.ndim or any([
            x.array.shape[k] != model.array.shape[k] for k in range(x.array.ndim) if k != axis
        ]):
            raise RuntimeError(
                f"[cat] sizes of tensors must match except in dimension {axis}; got {shape_text(&model.array)} and {shape_text(&x.array)}"
            )
        total += x.array.shape[axis]
        code = x.array.dtype if code < 0 else max(code, x.array.dtype)
        recorded = recorded or recording(x)
    parts = [cast(x, code) for x in parts]
    memcpy(shape, model.array.shape, sizeof(shape))
    shape[axis] = total
    out = new_tensor(code, model.array.ndim, shape)
    for x in parts:
        copy_into(part_along(out, axis, first, x.array.shape[axis]), x)
        first += x.array.shape[axis]
    if recorded:
        node = record(&CAT, out, len(parts))
        node.integers[0] = axis
        for k in range(len(parts)):
            connect(node, k, <Tensor>parts[k])
        node.context = [(<Tensor>x).array.shape[axis] for x in parts]
    return out

cdef int cat_rule(Node node, Tensor d) except -1:
    cdef int k
    cdef int64_t first = 0
    for k, length in enumerate(node.context):
        if node.needs(k):
            node.give(k, d.narrow(node.integers[0], first, length))
        first += length
    return 0


def stack(tensors, dim=0):
    """The tensors, all of one shape, along a new axis at `dim`. See torch.stack.

    >>> import fastgrad
    >>> fastgrad.stack([fastgrad.zeros(2), fastgrad.ones(2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    cdef list parts = list(tensors)
    if not parts:
        raise RuntimeError("[stack] expected a non-empty list of Tensors; got an empty one")
    for x in parts:
        if not isinstance(x, Tensor):
            raise TypeError(f"[stack] expected Tensors; got {type(x).__name__}")
        if not same_shape(&(<Tensor>x).array, &(<Tensor>parts[0]).array):
            raise RuntimeError(
                f"[stack] each tensor must have the same shape; got {shape_text(&(<Tensor>parts[0]).array)} and "
                f"{shape_text(&(<Tensor>x).array)}"
            )
    axis = wrap_axis(dim, (<Tensor>parts[0]).array.ndim + 1, "stack")
    return cat([unsqueeze(x, axis) for x in parts], axis)


cdef tuple parts_of(Tensor x, int axis, list lengths, bint keep_axis):
    """Consecutive views along an axis, as outputs of one node."""
    cdef int k, j
    cdef int64_t first = 0
    cdef Tensor part
    cdef Node node = None
    cdef list parts = []
    if recording(x):
        node = new_node(&SPLIT if keep_axis else &UNBIND, 1)
        add_outputs(node, len(lengths))
        connect(node, 0, x)
        node.integers[0], node.integers[1] = axis, keep_axis
        node.context = lengths
    for k, length in enumerate(lengths):
        part = mark_view(part_along(x, axis, first, length), x)
        if part.base is not None:
            part.view_kind = VIEW_OF_MANY
        if not keep_axis:
            for j in range(axis, part.array.ndim - 1):
                part.array.shape[j], part.array.strides[j] = part.array.shape[j + 1], part.array.strides[j + 1]
            part.array.ndim -= 1
        if node is not None:
            set_output(node, k, part)
        parts.append(part)
        first += length
    return tuple(parts)

cdef int split_rule(Node node, Tensor d) except -1:
    """The parts' gradients side by side, zeros for a part that has none."""
    cdef int k
    cdef Tensor part
    gradients = []
    for k in range(node.output_count):
        part = node.incoming(k)
        if part is None:
            part = engine_ops.zeros(node.outputs[k].dtype, node.outputs[k].ndim, node.outputs[k].shape)
        gradients.append(part)
    return node.give(0, cat(gradients, node.integers[0]) if node.integers[1] else stack(gradients, node.integers[0]))


def split(Tensor tensor, split_size_or_sections, dim=0):
    """Views of `split_size` along `dim` (the last may be smaller), or of the given sizes. See torch.split.

    >>> import fastgrad
    >>> fastgrad.arange(5).split(2)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    cdef int axis
    cdef int64_t n, size
    if tensor.array.ndim == 0:
        raise RuntimeError("[split] split expects at least a 1-dimensional tensor; got shape ()")
    axis = wrap_axis(dim, tensor.array.ndim, "split")
    n = tensor.array.shape[axis]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0 or (size == 0 and n > 0):
            raise RuntimeError(f"[split] split_size must be positive; got {size} for a dimension of size {n}")
        lengths = [min(size, n - first) for first in range(0, n, size)] if n else [0]
    else:
        lengths = [int(length) for length in split_size_or_sections]
        if sum(lengths) != n or any([length < 0 for length in lengths]):
            raise RuntimeError(f"[split] split sizes must not be negative and sum to {n}, the size of dimension {axis}; got {lengths}")
    return parts_of(tensor, axis, lengths, True)


def chunk(Tensor input, int chunks, dim=0):
    """At most `chunks` views of one size along `dim`, the last possibly smaller. See torch.chunk."""
    cdef int axis
    if chunks <= 0:
        raise RuntimeError(f"[chunk] chunks must be greater than 0; got {chunks}")
    if input.array.ndim == 0:
        raise RuntimeError("[chunk] chunk expects at least a 1-dimensional tensor; got shape ()")
    axis = wrap_axis(dim, input.array.ndim, "chunk")
    if input.array.shape[axis] == 0:
        return parts_of(input, axis, [0] * chunks, True)
    return split(input, (input.array.shape[axis] + chunks - 1) // chunks, axis)


def unbind(Tensor input, dim=0):
    """The slices along `dim`, as views. See torch.unbind.

    >>> import fastgrad
    >>> fastgrad.arange(2).unbind()
    (tensor(0), tensor(1))
    """
    cdef int axis
    if input.array.ndim == 0:
        raise RuntimeError("[unbind] at least one dimension is needed; got shape ()")
    axis = wrap_axis(dim, input.array.ndim, "unbind")
    return parts_of(input, axis, [1] * input.array.shape[axis], False)


def repeat(Tensor input, *sizes):
    """The tensor `sizes[k]` times along axis k, new axes in front; a copy. See torch.Tensor.repeat.

    >>> import fastgrad
    >>> fastgrad.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    times = list(sizes_of(sizes))
    if len(times) < input.array.ndim:
        raise RuntimeError(f"[repeat] at least one number per dimension of shape {shape_text(&input.array)}; got {times}")
    if any([n < 0 for n in times]):
        raise RuntimeError(f"[repeat] the numbers of repetitions must not be negative; got {times}")
    shape = [1] * (len(times) - input.array.ndim) + list(input.shape)
    split_shape = [size for pair in zip([1] * len(shape), shape) for size in pair]
    wide_shape = [size for pair in zip(times, shape) for size in pair]
    return reshape(expand(reshape(input, split_shape), wide_shape).contiguous(), [n * size for n, size in zip(times, shape)])
