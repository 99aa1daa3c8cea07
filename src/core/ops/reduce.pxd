from libc.stdint cimport int64_t

from fastgrad._core.tensor cimport Tensor

cdef Tensor sum_to(Tensor x, int ndim, const int64_t* shape)
