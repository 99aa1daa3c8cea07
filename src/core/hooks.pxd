from fastgrad._core.tensor cimport Tensor

cdef Tensor run_hooks(object hooks, Tensor gradient)
cdef int keep_grad(object x, Tensor gradient) except -1
