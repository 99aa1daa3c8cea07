from fastgrad._core.tensor cimport Tensor

cdef Tensor gathered(Tensor input, int axis, Tensor index)
