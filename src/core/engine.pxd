from fastgrad._core.graph cimport Node
from fastgrad._core.tensor cimport Tensor

cdef int differentiate_composite(Node node, object composite, list inputs) except -1
