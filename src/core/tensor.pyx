"""Tensor: dtype, shape, strides and offset on a Storage, with its place in the autograd graph.

The operations on tensors are in ops/; `fastgrad._core` hangs the ones that are methods onto the class.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from fastgrad._core.kernels cimport (
    FG_BOOL, FG_DTYPE_COUNT, FG_FLOAT32, FG_FLOAT64, FG_INT32, FG_INT64, FG_MAX_NDIM, FG_UINT8,
)
from fastgrad._core.storage cimport new_storage

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject*)
    void PyObject_GC_Track(PyObject*)


cdef int[6] ITEMSIZES = [1, 1, 4, 8, 4, 8]
cdef list DTYPES = []


@cython.final
cdef class dtype:
    """The element type of a tensor: `fastgrad.float32`, `fastgrad.int64`, ..."""

    def __cinit__(self):
        if len(DTYPES) == FG_DTYPE_COUNT:
            raise TypeError("[dtype] the dtypes are fastgrad.float32, float64, int64, int32, uint8 and bool; got a call")

    def __repr__(self):
        return f"fastgrad.{self.name}"

    def __reduce__(self):
        return "bool_" if self.code == FG_BOOL else self.name

    @property
    def is_complex(self) -> bool:
        """False: there are no complex dtypes."""
        return False


cdef dtype make_dtype(int code, str name, str typestr, bint floating, bint signed):
    cdef dtype made = dtype.__new__(dtype)
    made.code, made.name, made.typestr = code, name, typestr
    made.itemsize = ITEMSIZES[code]
    made.is_floating_point, made.is_signed = floating, signed
    DTYPES.append(made)
    return made


bool_ = make_dtype(FG_BOOL, "bool", "|b1", False, False)
uint8 = make_dtype(FG_UINT8, "uint8", "|u1", False, False)
int32 = make_dtype(FG_INT32, "int32", "<i4", False, True)
int64 = make_dtype(FG_INT64, "int64", "<i8", False, True)
float32 = make_dtype(FG_FLOAT32, "float32", "<f4", True, True)
float64 = make_dtype(FG_FLOAT64, "float64", "<f8", True, True)

cdef const char* FORMATS[6]
FORMATS[:] = [b"?", b"B", b"i", b"l" if sizeof(long) == 8 else b"q", b"f", b"d"]
cdef dict FROM_PYTHON_TYPE = {float: float32, int: int64, bool: bool_}
cdef dict FROM_TYPESTR = {d.typestr: d for d in DTYPES}

default_dtype = FG_FLOAT32


cdef dtype dtype_object(int code):
    return <dtype>DTYPES[code]


cdef int itemsize_of(int code) noexcept nogil:
    return ITEMSIZES[code]


cdef int dtype_code(object wanted, int otherwise) except -1:
    """The code of a dtype argument; `otherwise` for None."""
    if wanted is None:
        if otherwise < 0:
            raise TypeError("[dtype] a dtype is needed; got None")
        return otherwise
    if type(wanted) is dtype:
        return (<dtype>wanted).code
    if wanted is float:
        return FG_FLOAT64
    if wanted in FROM_PYTHON_TYPE:
        return (<dtype>FROM_PYTHON_TYPE[wanted]).code
    raise TypeError(f"[dtype] a dtype must be a fastgrad.dtype such as fastgrad.float32; got {wanted!r}")


def set_default_dtype(d) -> None:
    """Set the dtype of new floating-point tensors: float32 (at the start) or float64.

    >>> import fastgrad
    >>> fastgrad.set_default_dtype(fastgrad.float64); fastgrad.ones(1).dtype
    fastgrad.float64
    >>> fastgrad.set_default_dtype(fastgrad.float32)
    """
    global default_dtype
    cdef int code = dtype_code(d, FG_BOOL)
    if code != FG_FLOAT32 and code != FG_FLOAT64:
        raise TypeError(f"[set_default_dtype] only floating-point types are supported as the default type; got {d!r}")
    default_dtype = code


def get_default_dtype():
    """The dtype that new floating-point tensors have when none is given."""
    return dtype_object(default_dtype)


@cython.final
cdef class device:
    """Where a tensor lives. `device("cpu")` and `device("cpu:0")` are the only ones without CUDA."""

    cdef readonly str type
    cdef readonly object index

    def __init__(self, type, index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        if not isinstance(type, str):
            raise TypeError(f"[device] type must be a string or a device; got {type!r}")
        name, colon, number = type.partition(":")
        if colon:
            if not number.isdigit() or index is not None:
                raise RuntimeError(f"[device] invalid device string; got {type!r}")
            index = int(number)
        if name not in ("cpu", "cuda"):
            raise RuntimeError(f"[device] expected one of cpu, cuda device type at start of device string; got {type!r}")
        self.type, self.index = name, index

    def __repr__(self):
        return f"device(type='{self.type}')" if self.index is None else f"device(type='{self.type}', index={self.index})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and self.type == other.type and self.index == other.index

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (str(self),)


CPU = device("cpu")


def check_device(wanted) -> None:
    """Raise unless `wanted` is None or the CPU."""
    if wanted is None or wanted is CPU:
        return
    if (wanted if isinstance(wanted, device) else device(wanted)).type != "cpu":
        raise RuntimeError(f"[device] this build of fastgrad has no CUDA kernels: tensors live on the CPU; got {wanted}")


class layout:
    """The memory layout of a tensor; strided is the only one."""

    def __repr__(self):
        return "fastgrad.strided"


strided = layout()


class Size(tuple):
    """The shape of a tensor: a tuple of ints with `numel()`."""

    __slots__ = ()

    def numel(self) -> int:
        """The product of the sizes."""
        product = 1
        for size in self:
            product *= size
        return product

    def __repr__(self):
        return f"fastgrad.Size({list(self)})"

    def __getitem__(self, index):
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other):
        return Size(tuple.__add__(self, tuple(other)))


cdef object shape_tuple(const fg_array* array):
    return Size([array.shape[axis] for axis in range(array.ndim)])


cdef str shape_text(const fg_array* array):
    return str(tuple([array.shape[axis] for axis in range(array.ndim)]))


cdef int parse_shape(object size, int64_t* shape, str op) except -1:
    """Write the sizes of an int or a sequence of ints to `shape`; returns their number."""
    cdef int ndim = 0
    if isinstance(size, int):
        size = (size,)
    elif isinstance(size, Tensor) and (<Tensor>size).array.ndim == 0:
        size = (int(size),)
    try:
        size = tuple(size)
    except TypeError:
        raise TypeError(f"[{op}] size must be a sequence of ints; got {size!r}") from None
    if len(size) > FG_MAX_NDIM:
        raise RuntimeError(f"[{op}] a tensor has at most {FG_MAX_NDIM} dimensions; got {len(size)}")
    for item in size:
        if isinstance(item, float) or not hasattr(item, "__index__"):
            raise TypeError(f"[{op}] size must be a sequence of ints; got {item!r}")
        item = item.__index__()
        if not -(1 << 62) < item < (1 << 62):
            raise RuntimeError(f"[{op}] a size must fit in 62 bits; got {item}")
        shape[ndim] = item
        ndim += 1
    return ndim


cdef int wrap_axis(object dim, int ndim, str op) except -1:
    cdef int room = ndim if ndim > 0 else 1
    if not hasattr(dim, "__index__"):
        raise TypeError(f"[{op}] dim must be an int; got {dim!r}")
    index = dim.__index__()
    if not -room <= index < room:
        raise IndexError(f"[{op}] dim must be in [{-room}, {room - 1}]; got {index}")
    return index + room if index < 0 else index


cdef int fill_contiguous_strides(fg_array* array) noexcept nogil:
    cdef int64_t stride = 1
    cdef int axis
    for axis in range(array.ndim - 1, -1, -1):
        array.strides[axis] = stride
        stride *= array.shape[axis] if array.shape[axis] > 1 else 1
    return 0


cdef int check_numel(int code, int ndim, const int64_t* shape) except -1:
    """Refuse negative sizes and element counts whose bytes do not fit."""
    cdef int axis
    cdef int64_t n = 1, room = (<int64_t>1 << 62) // ITEMSIZES[code]
    cdef bint empty = False
    for axis in range(ndim):
        if shape[axis] < 0:
            raise RuntimeError(
                f"[empty] a size must not be negative; got {tuple([shape[k] for k in range(ndim)])}"
            )
        if shape[axis] == 0:
            empty = True
    for axis in range(ndim):
        if not empty and n > room // shape[axis]:
            raise RuntimeError(
                f"[empty] the number of bytes must fit in 62 bits; got {tuple([shape[k] for k in range(ndim)])}"
            )
        n *= shape[axis]
    return 0


cdef Tensor new_tensor(int code, int ndim, const int64_t* shape):
    """A contiguous tensor whose elements are not initialised."""
    cdef Tensor t = Tensor.__new__(Tensor)
    cdef int axis
    cdef int64_t n = 1
    PyObject_GC_UnTrack(<PyObject*>t)
    for axis in range(ndim - 1, -1, -1):
        if not 0 <= shape[axis] < (1 << 20) or n > (1 << 40):
            check_numel(code, ndim, shape)
        t.array.shape[axis] = shape[axis]
        t.array.strides[axis] = n if n else 1
        n *= shape[axis]
    if n > (1 << 40):
        check_numel(code, ndim, shape)
    t.array.ndim = ndim
    t.array.dtype = code
    t.storage = new_storage(n * ITEMSIZES[code])
    t.array.data = t.storage.data
    return t


cdef Tensor new_like(Tensor x):
    """A contiguous tensor of x's shape and dtype, not initialised."""
    return new_tensor(x.array.dtype, x.array.ndim, x.array.shape)


cdef Tensor new_like_as(Tensor x, int code):
    return new_tensor(code, x.array.ndim, x.array.shape)


cdef Tensor alias(Tensor x):
    """A tensor on the same elements, outside the graph."""
    cdef Tensor t = Tensor.__new__(Tensor)
    PyObject_GC_UnTrack(<PyObject*>t)
    memcpy(&t.array, &x.array, sizeof(fg_array))
    t.storage = x.storage
    t.untracked = x.untracked
    return t


cdef int written(Tensor x) except -1:
    """Every in-place write goes through here, before it happens."""
    if x.storage.lender != NULL and x.storage.lender.readonly:
        raise RuntimeError("[in-place] the memory of this tensor was lent read-only; got an in-place operation")
    if not x.untracked:
        x.storage.version += 1
    return 0


cdef Storage EMPTY = new_storage(0)


@cython.final
cdef class BufferShape:
    """Owns the sizes that a buffer of a tensor points to, and keeps the tensor alive."""

    cdef Py_ssize_t[24] sizes     # shape, then strides
    cdef Tensor tensor


@cython.trashcan(True)
@cython.freelist(512)
cdef class Tensor:
    """A multi-dimensional array with a place in the autograd graph, as `torch.Tensor`.

    `Tensor(2, 3)` makes an uninitialised one of that shape and `Tensor([1, 2])` one of those values, both of the
    default dtype; prefer `fastgrad.tensor`, `zeros`, `randn` and the like.
    """

    # A tensor takes part in garbage collection only once it can be in a cycle: when it has hooks, is an output of a
    # user's Function, or is an instance of a subclass. See new_tensor and PyObject_GC_Track.

    def __cinit__(self):
        self.array.ndim = 1
        self.array.strides[0] = 1
        self.array.dtype = default_dtype
        self.storage = EMPTY
        self.array.data = EMPTY.data

    def __init__(self, *args, dtype=None):
        cdef int64_t[12] shape
        cdef Tensor source
        cdef int ndim, code = dtype_code(dtype, default_dtype)
        if len(args) == 1 and not isinstance(args[0], int):
            if isinstance(args[0], Size):
                ndim = parse_shape(args[0], shape, "Tensor")
                source = new_tensor(code, ndim, shape)
            else:
                from fastgrad._core.ops.creation import tensor as tensor_of
                source = args[0].detach() if isinstance(args[0], Tensor) else tensor_of(args[0], dtype=dtype_object(code))
        else:
            ndim = parse_shape(args, shape, "Tensor") if args else 1
            if not args:
                shape[0] = 0
            source = new_tensor(code, ndim, shape)
        memcpy(&self.array, &source.array, sizeof(fg_array))
        self.storage = source.storage

    @staticmethod
    def _make_subclass(cls, Tensor data, bint require_grad=False):
        """An instance of `cls`, a subclass of Tensor, on the elements of `data`; as in PyTorch."""
        cdef Tensor made = cls.__new__(cls)
        memcpy(&made.array, &data.array, sizeof(fg_array))
        made.storage = data.storage
        if require_grad:
            made.requires_grad = True
        return made

    # shape and type

    @property
    def shape(self):
        """The sizes of the axes."""
        return shape_tuple(&self.array)

    def size(self, dim=None):
        """The shape, or the size of axis `dim`."""
        if dim is None:
            return shape_tuple(&self.array)
        if self.array.ndim == 0:
            raise IndexError(f"[size] a 0-d tensor has no dimensions; got dim {dim}")
        return self.array.shape[wrap_axis(dim, self.array.ndim, "size")]

    @property
    def ndim(self):
        """The number of axes."""
        return self.array.ndim

    def dim(self):
        """The number of axes."""
        return self.array.ndim

    def numel(self):
        """The number of elements."""
        return numel(&self.array)

    nelement = numel

    @property
    def dtype(self):
        """The type of the elements."""
        return dtype_object(self.array.dtype)

    @property
    def device(self):
        """Where the elements lie: the CPU."""
        return CPU

    @property
    def layout(self):
        """How the elements lie: strided."""
        return strided

    @property
    def is_cuda(self):
        """False: the elements lie on the CPU."""
        return False

    def cpu(self):
        """The tensor itself, which lives on the CPU."""
        return self

    @property
    def itemsize(self):
        """The bytes of one element."""
        return ITEMSIZES[self.array.dtype]

    def element_size(self):
        """The bytes of one element."""
        return ITEMSIZES[self.array.dtype]

    @property
    def nbytes(self):
        """The bytes of all elements."""
        return numel(&self.array) * ITEMSIZES[self.array.dtype]

    def stride(self, dim=None):
        """The strides in elements, or that of axis `dim`."""
        if dim is None:
            return tuple([self.array.strides[axis] for axis in range(self.array.ndim)])
        return self.array.strides[wrap_axis(dim, self.array.ndim, "stride")]

    def storage_offset(self):
        """How many elements into its Storage the first element lies."""
        return (<char*>self.array.data - self.storage.data) // ITEMSIZES[self.array.dtype]

    def data_ptr(self):
        """The address of the first element."""
        return <size_t>self.array.data

    def untyped_storage(self):
        """The Storage that the elements lie in."""
        return self.storage

    def is_contiguous(self):
        """Do the elements lie in row-major order without gaps?"""
        return is_contiguous(&self.array)

    def is_floating_point(self):
        """Is the dtype float32 or float64?"""
        return is_float(self.array.dtype)

    def is_complex(self):
        """False: there are no complex dtypes."""
        return False

    @property
    def _version(self):
        """How many in-place writes the Storage has seen."""
        return self.storage.version

    @property
    def _base(self):
        """The tensor that this is a view of, or None."""
        return self.base

    # autograd

    @property
    def requires_grad(self):
        """Are ops on this tensor recorded? Set it on leaves; what recorded ops return has it."""
        return self.requires or (self.base is not None and self.base.requires)

    @requires_grad.setter
    def requires_grad(self, bint value):
        if value and not is_float(self.array.dtype):
            raise RuntimeError(
                f"[requires_grad] only Tensors of floating point dtype can require gradients; got {self.dtype}"
            )
        if not value and not self.is_leaf:
            raise RuntimeError(
                "[requires_grad] you can only change requires_grad flags of leaf variables; if you want to use a "
                "computed variable in a subgraph that doesn't require differentiation use var_no_grad = var.detach()"
                "; got False for a tensor that an operation made"
            )
        self.requires = value

    def requires_grad_(self, bint requires_grad=True):
        """Set `requires_grad` in place and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self):
        """The sum of the gradients that backward has found so far, or None."""
        return self.gradient

    @grad.setter
    def grad(self, Tensor value or None):
        if value is not None:
            if value is self:
                raise RuntimeError("[grad] a tensor can not be its own gradient; got itself")
            if not same_shape(&value.array, &self.array):
                raise RuntimeError(
                    f"[grad] the gradient must have the tensor's shape; got {shape_text(&value.array)} for a tensor of "
                    f"shape {shape_text(&self.array)}"
                )
            if value.array.dtype != self.array.dtype:
                raise RuntimeError(
                    f"[grad] the gradient must have the tensor's dtype; got {value.dtype} for a tensor of {self.dtype}"
                )
        self.gradient = value

    @grad.deleter
    def grad(self):
        self.gradient = None

    @property
    def grad_fn(self):
        """The Node of the op that made this tensor, or None for a leaf."""
        return operators.node(self)

    @property
    def is_leaf(self):
        """Did no recorded op make it? Only leaves get a `.grad` by themselves."""
        return not self.requires_grad or operators.node(self) is None

    @property
    def output_nr(self):
        """Which output of its op this is."""
        return self.output_number

    @property
    def data(self):
        """A tensor on the same elements, outside the graph, whose in-place changes autograd does not see."""
        cdef Tensor t = alias(self)
        t.untracked = True
        return t

    @data.setter
    def data(self, Tensor value):
        if value.array.dtype != self.array.dtype and self.requires:
            raise RuntimeError(f"[data] data must keep the dtype {self.dtype}; got {value.dtype}")
        if operators.node(self) is not None and not same_shape(&self.array, &value.array):
            raise RuntimeError(
                f"[data] what an op made keeps its shape {shape_text(&self.array)}; got data of shape {shape_text(&value.array)}"
            )
        # No version that this tensor was ever saved with comes again: a graph that kept it notices the exchange.
        value.storage.version = max(value.storage.version, self.storage.version) + 1
        memcpy(&self.array, &value.array, sizeof(fg_array))
        self.storage = value.storage

    # Python numbers

    cdef object element(self, const char* address):
        if self.array.dtype == FG_FLOAT32:
            return <double>(<float*>address)[0]
        if self.array.dtype == FG_FLOAT64:
            return (<double*>address)[0]
        if self.array.dtype == FG_INT64:
            return (<int64_t*>address)[0]
        if self.array.dtype == FG_INT32:
            return (<int32_t*>address)[0]
        if self.array.dtype == FG_UINT8:
            return (<uint8_t*>address)[0]
        return (<uint8_t*>address)[0] != 0

    def item(self):
        """The value of a tensor with one element as a Python number.

        >>> import fastgrad
        >>> fastgrad.tensor([2.5]).item()
        2.5
        """
        if numel(&self.array) != 1:
            raise RuntimeError(
                f"[item] a tensor with {numel(&self.array)} elements cannot be converted to a Scalar; got shape "
                f"{shape_text(&self.array)}"
            )
        return self.element(<char*>self.array.data)

    cdef object nested(self, int axis, const char* address):
        cdef int64_t step, k
        if axis == self.array.ndim:
            return self.element(address)
        step = self.array.strides[axis] * ITEMSIZES[self.array.dtype]
        return [self.nested(axis + 1, address + k * step) for k in range(self.array.shape[axis])]

    def tolist(self):
        """The elements as nested lists of Python numbers; a number for a 0-d tensor."""
        return self.nested(0, <char*>self.array.data)

    def __len__(self):
        if self.array.ndim == 0:
            raise TypeError("[len] a 0-d tensor has no length; got shape ()")
        return self.array.shape[0]

    def __iter__(self):
        if self.array.ndim == 0:
            raise TypeError("[iter] iteration over a 0-d tensor is not possible; got shape ()")
        return iter(self.unbind(0))

    def __bool__(self):
        if numel(&self.array) != 1:
            raise RuntimeError(
                f"[bool] Boolean value of Tensor with more than one value is ambiguous, or with no value; got shape {shape_text(&self.array)}"
            )
        return bool(self.element(<char*>self.array.data))

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if is_float(self.array.dtype) or numel(&self.array) != 1:
            raise TypeError(
                "[index] only integer tensors of a single element can be converted to an index; got "
                f"{self.dtype}, shape {shape_text(&self.array)}"
            )
        return int(self.item())

    def __contains__(self, value):
        return bool((self == value).any())

    def __hash__(self):
        return <Py_hash_t>(<size_t><PyObject*>self >> 4)

    def __repr__(self):
        from fastgrad._tensor_format import tensor_repr
        return tensor_repr(self)

    def __format__(self, spec):
        if self.array.ndim == 0 and type(self) is Tensor:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def __dir__(self):
        return sorted(set(object.__dir__(self)))

    # other array libraries

    def numpy(self, *, bint force=False):
        """The elements as a NumPy array on the same memory.

        >>> import fastgrad
        >>> t = fastgrad.zeros(2); t.numpy()[0] = 7; t
        tensor([7., 0.])
        """
        import numpy
        if self.requires_grad and not force:
            raise RuntimeError(
                "[numpy] can't call numpy() on a tensor that requires grad; use tensor.detach().numpy() instead; got "
                "requires_grad=True"
            )
        return numpy.asarray(memoryview(alias(self)))

    def __array__(self, dtype=None, copy=None):
        import numpy
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"[numpy] a cast needs a copy; got dtype {dtype} with copy=False")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options):
        return self.numpy().__dlpack__(**options)

    def __dlpack_device__(self):
        return (1, 0)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef int axis
        cdef Py_ssize_t* sizes
        cdef BufferShape holder
        if self.requires_grad:
            raise BufferError(
                "[buffer] can't lend the memory of a tensor that requires grad; use tensor.detach() instead; got "
                "requires_grad=True"
            )
        if flags & PyBUF_STRIDES != PyBUF_STRIDES and not is_contiguous(&self.array):
            raise BufferError(f"[buffer] the exporter is not contiguous; got strides {self.stride()}")
        # PyBUF_C_CONTIGUOUS, PyBUF_ANY_CONTIGUOUS; PyBUF_F_CONTIGUOUS
        if (flags & 0xA0 and not is_contiguous(&self.array)) or (
                flags & 0x40 and not (is_contiguous(&self.array) and self.array.ndim < 2)):
            raise BufferError(f"[buffer] the elements do not lie in the order that was asked for; got strides {self.stride()}")
        readonly = self.storage.lender != NULL and self.storage.lender.readonly
        if flags & PyBUF_WRITABLE and readonly:
            raise BufferError("[buffer] the memory of this tensor was lent read-only; got a request to write")
        buffer.buf = self.array.data
        buffer.itemsize = ITEMSIZES[self.array.dtype]
        buffer.len = numel(&self.array) * buffer.itemsize
        buffer.readonly = readonly
        buffer.format = <char*>FORMATS[self.array.dtype] if flags & PyBUF_FORMAT else NULL
        buffer.ndim = self.array.ndim
        holder = BufferShape.__new__(BufferShape)
        sizes = holder.sizes
        for axis in range(self.array.ndim):
            sizes[axis] = self.array.shape[axis]
            sizes[12 + axis] = self.array.strides[axis] * buffer.itemsize
        buffer.shape, buffer.strides, buffer.suboffsets = sizes, sizes + 12, NULL
        holder.tensor = alias(self)      # `self.data = other` must not take the memory away
        buffer.obj = holder
        buffer.internal = NULL

    # copies

    def __deepcopy__(self, memo):
        from fastgrad._core.ops.creation import deepcopy_tensor
        return deepcopy_tensor(self, memo)

    def __reduce_ex__(self, protocol):
        from fastgrad._core.ops.creation import reduce_tensor
        return reduce_tensor(self)

    # operators

    def __add__(self, other): return operators.add(self, other)
    def __radd__(self, other): return operators.add(other, self)
    def __sub__(self, other): return operators.sub(self, other)
    def __rsub__(self, other): return operators.sub(other, self)
    def __mul__(self, other): return operators.mul(self, other)
    def __rmul__(self, other): return operators.mul(other, self)
    def __truediv__(self, other): return operators.truediv(self, other)
    def __rtruediv__(self, other): return operators.truediv(other, self)
    def __floordiv__(self, other): return operators.floordiv(self, other)
    def __rfloordiv__(self, other): return operators.floordiv(other, self)
    def __mod__(self, other): return operators.mod(self, other)
    def __rmod__(self, other): return operators.mod(other, self)
    def __pow__(self, other, modulo): return operators.pow(self, other) if modulo is None else NotImplemented
    def __rpow__(self, other, modulo): return operators.pow(other, self) if modulo is None else NotImplemented
    def __matmul__(self, other): return operators.matmul(self, other)
    def __rmatmul__(self, other): return operators.matmul(other, self)
    def __and__(self, other): return operators.and_(self, other)
    def __rand__(self, other): return operators.and_(other, self)
    def __or__(self, other): return operators.or_(self, other)
    def __ror__(self, other): return operators.or_(other, self)
    def __xor__(self, other): return operators.xor(self, other)
    def __rxor__(self, other): return operators.xor(other, self)
    def __iadd__(self, other): return operators.iadd(self, other)
    def __isub__(self, other): return operators.isub(self, other)
    def __imul__(self, other): return operators.imul(self, other)
    def __itruediv__(self, other): return operators.itruediv(self, other)
    def __ifloordiv__(self, other): return operators.ifloordiv(self, other)
    def __imod__(self, other): return operators.imod(self, other)
    def __ipow__(self, other, modulo): return operators.ipow(self, other) if modulo is None else NotImplemented
    def __iand__(self, other): return operators.iand(self, other)
    def __ior__(self, other): return operators.ior(self, other)
    def __ixor__(self, other): return operators.ixor(self, other)
    def __eq__(self, other): return operators.eq(self, other)
    def __ne__(self, other): return operators.ne(self, other)
    def __lt__(self, other): return operators.lt(self, other)
    def __le__(self, other): return operators.le(self, other)
    def __gt__(self, other): return operators.gt(self, other)
    def __ge__(self, other): return operators.ge(self, other)
    def __neg__(self): return operators.neg(self)
    def __pos__(self): return self
    def __abs__(self): return operators.abs(self)
    def __invert__(self): return operators.invert(self)
    def __getitem__(self, index): return operators.getitem(self, index)
    def __setitem__(self, index, value): operators.setitem(self, index, value)


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        PyObject* tp_dict
    void PyType_Modified(PyTypeObject*)


def add_methods(dict methods) -> None:
    """Enter functions and properties into the class; the ops, in modules above this one, become methods so."""
    (<dict>(<PyTypeObject*>Tensor).tp_dict).update(methods)
    PyType_Modified(<PyTypeObject*>Tensor)
