from libc.stdint cimport int64_t

from fastgrad._core.autograd cimport Node, Op
from fastgrad._core.kernels cimport fg_array, fg_params
from fastgrad._core.tensor cimport Tensor

cdef int broadcast_shape(const fg_array* a, const fg_array* b, int64_t* shape, str op) except -1
cdef int broadcast_into(fg_array* out, const fg_array* x, int ndim, const int64_t* shape) noexcept nogil
cdef Tensor as_operand(object x, Tensor other, str op)
cdef Tensor cast(Tensor x, int code)
cdef Tensor contiguous(Tensor x)
cdef int copy_into(Tensor out, Tensor x) except -1
cdef int fill_with(Tensor out, double f, int64_t i) except -1
cdef int promoted(Tensor a, Tensor b) noexcept
cdef int scalar_dtype(object x, int code) except -1
cdef bint is_number(object x)
cdef Tensor number_tensor(object value, int code)
cdef Tensor tensor_clone(Tensor x)
cdef Tensor tensor_add(Tensor a, Tensor b)
cdef Tensor tensor_mul(Tensor a, Tensor b)
cdef Tensor scale(Tensor x, double factor)
cdef Tensor zeros_of(Tensor x)
cdef Tensor select(Tensor condition, Tensor a, Tensor b)
