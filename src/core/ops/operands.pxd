from libc.stdint cimport int64_t

from fastgrad._core.kernels cimport FG_BOOL, FG_FLOAT32, fg_array, fg_params
from fastgrad._core.tensor cimport Tensor, binary_operator

ctypedef Tensor (*binary_function)(Tensor, Tensor)


cdef inline int kind(int code) noexcept:
    """PyTorch's categories: bool < integer < float."""
    return 0 if code == FG_BOOL else 1 if code < FG_FLOAT32 else 2


cdef inline int promoted(Tensor a, Tensor b) noexcept:
    """The dtype of `a op b`: a 0-d tensor counts only by its kind beside one with axes."""
    cdef int high = a.array.dtype, low = b.array.dtype
    if high == low:
        return high
    if (a.array.ndim == 0) != (b.array.ndim == 0):
        if a.array.ndim == 0:
            high, low = low, high           # high has axes
        return low if kind(low) > kind(high) else high
    return max(high, low)                   # the codes are in the order of promotion


cdef inline bint plain_number(object x):
    return type(x) is float or type(x) is int


cdef inline int describe_number(fg_array* number, int code) noexcept nogil:
    """An operand whose value is in the launch's params."""
    number.data, number.ndim, number.dtype = NULL, 0, code
    return 0


cdef int broadcast_shape(const fg_array* a, const fg_array* b, int64_t* shape, str op) except -1
cdef int broadcast_into(fg_array* out, const fg_array* x, int ndim, const int64_t* shape) noexcept nogil
cdef int scalar_dtype(object x, int code) except -1
cdef bint is_number(object x)
cdef Tensor number_tensor(object value, int code)
cdef int fill_with(Tensor out, double f, int64_t i) except -1
cdef int check_fits(object value, int code, str op) except -1
cdef Tensor as_operand(object x, Tensor other, str op)
cdef object coerce(object x, Tensor other)
cdef object coerced_call(binary_function function, object a, object b)
cdef object called(binary_operator operator, object a, object b, str op)
cdef Tensor run_unary(int kernel, Tensor x, Tensor out)
cdef Tensor run_binary(int kernel, Tensor a, Tensor b, int code, str op)
cdef Tensor run_with_number(int kernel, Tensor x, double f, int64_t i, int code, bint number_first)
cdef int run_in_place(int kernel, Tensor a, Tensor b) except -1
