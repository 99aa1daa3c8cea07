from fastgrad._core.graph cimport Node
from fastgrad._core.tensor cimport Tensor

cdef int identity_rule(Node node, Tensor d) except -1
cdef int copy_into(Tensor out, Tensor x) except -1
cdef Tensor cast(Tensor x, int code)
cdef Tensor data_as(Tensor x, int code)
cdef Tensor tensor_clone(Tensor x)
cdef Tensor clone_data(Tensor x)
cdef Tensor contiguous(Tensor x)
cdef Tensor zeros_of(Tensor x)
