from libc.stdint cimport int64_t

from fastgrad._core.graph cimport Node, Region
from fastgrad._core.tensor cimport Tensor

cdef Tensor reshape_to(Tensor x, int ndim, const int64_t* shape)
cdef Tensor permuted(Tensor x, const int* axes)
cdef Tensor swap(Tensor x, int first, int second)
cdef Tensor expand_to(Tensor x, int ndim, const int64_t* shape, str op)
