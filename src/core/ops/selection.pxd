from fastgrad._core.tensor cimport Tensor

cdef Tensor select(Tensor condition, Tensor a, Tensor b)
