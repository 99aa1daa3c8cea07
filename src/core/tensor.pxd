from libc.stdint cimport int64_t, uint64_t

from fastgrad._core.kernels cimport fg_array
from fastgrad._core.storage cimport Storage


cdef class dtype:
    cdef readonly int code               # FG_FLOAT32 ...
    cdef readonly str name
    cdef readonly int itemsize
    cdef readonly bint is_floating_point
    cdef readonly bint is_signed
    cdef readonly str typestr            # NumPy's


cdef enum ViewKind:
    NOT_A_VIEW
    VIEW
    VIEW_OF_MANY        # one of several outputs of split, chunk, unbind
    VIEW_WITHOUT_GRAD   # made under no_grad of a tensor that requires grad


cdef class Tensor:
    cdef fg_array array
    cdef Storage storage
    cdef bint requires           # requires_grad
    cdef bint untracked          # a `.data` alias: its writes do not raise the version
    cdef ViewKind view_kind
    cdef int output_number       # which output of `node` this is
    cdef object node             # the Node that made it, or None
    cdef uint64_t node_version   # of a view: the storage version for which `node` holds
    cdef Tensor base             # of a view: the tensor that owns the graph of the storage
    cdef Tensor gradient         # .grad
    cdef object hooks            # of a leaf: autograd.Hooks, or None
    cdef object __weakref__

    cdef object element(self, const char* address)
    cdef object nested(self, int axis, const char* address)


# The operators of Tensor are ops, which live in modules above this one; they enter themselves here at import.
ctypedef object (*unary_operator)(Tensor)
ctypedef object (*binary_operator)(object, object)

cdef struct Operators:
    binary_operator add, sub, mul, truediv, floordiv, mod, pow, matmul, and_, or_, xor, eq, ne, lt, le, gt, ge
    binary_operator iadd, isub, imul, itruediv, ifloordiv, imod, ipow, iand, ior, ixor
    unary_operator neg, abs, invert
    binary_operator getitem
    object (*setitem)(Tensor, object, object)
    object (*node)(Tensor)       # autograd: the up-to-date Node of a view

cdef Operators operators

cdef int default_dtype

cdef dtype dtype_object(int code)
cdef int dtype_code(object wanted, int otherwise) except -1
cdef int itemsize_of(int code) noexcept nogil
cdef inline bint is_float(int code) noexcept nogil:
    return code >= 4         # FG_FLOAT32, FG_FLOAT64


cdef inline int64_t numel(const fg_array* array) noexcept nogil:
    cdef int64_t n = 1
    cdef int axis
    for axis in range(array.ndim):
        n *= array.shape[axis]
    return n


cdef inline bint is_contiguous(const fg_array* array) noexcept nogil:
    cdef int64_t expected = 1
    cdef int axis
    for axis in range(array.ndim - 1, -1, -1):
        if array.shape[axis] != 1:
            if array.strides[axis] != expected and array.shape[axis] != 0:
                return numel(array) == 0
            expected *= array.shape[axis]
    return True


cdef inline int64_t shape_signature(const fg_array* array) noexcept nogil:
    """A number that tells one shape from another."""
    cdef uint64_t signature = array.ndim
    cdef int axis
    for axis in range(array.ndim):
        signature = signature * 1000003 + <uint64_t>array.shape[axis] + 1
    return <int64_t>signature


cdef inline bint repeats_elements(const fg_array* array) noexcept nogil:
    """Does an element stand in more than one place, as in an expanded tensor?"""
    cdef int axis
    for axis in range(array.ndim):
        if array.strides[axis] == 0 and array.shape[axis] > 1:
            return numel(array) > 0
    return False


cdef inline bint same_shape(const fg_array* a, const fg_array* b) noexcept nogil:
    cdef int axis
    if a.ndim != b.ndim:
        return False
    for axis in range(a.ndim):
        if a.shape[axis] != b.shape[axis]:
            return False
    return True


cdef Tensor new_tensor(int code, int ndim, const int64_t* shape)
cdef Tensor new_like(Tensor x)
cdef Tensor new_like_as(Tensor x, int code)
cdef Tensor alias(Tensor x)
cdef int written(Tensor x) except -1
cdef int fill_contiguous_strides(fg_array* array) noexcept nogil
cdef int check_numel(int code, int ndim, const int64_t* shape) except -1
cdef object shape_tuple(const fg_array* array)
cdef str shape_text(const fg_array* array)
cdef int parse_shape(object size, int64_t* shape, str op) except -1
cdef int wrap_axis(object dim, int ndim, str op) except -1
