from fastgrad._core.tensor cimport Tensor

cdef Tensor tensor_maximum(Tensor a, Tensor b)
cdef Tensor tensor_minimum(Tensor a, Tensor b)
