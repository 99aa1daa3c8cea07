from fastgrad._core.ops.operands cimport binary_function
from fastgrad._core.tensor cimport Tensor

cdef object binary_in_place(binary_function function, int kernel, Tensor a, object other, str name)
cdef Tensor replace_in_place(Tensor input, object function, str name)
