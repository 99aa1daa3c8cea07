from libc.stdint cimport int64_t

from fastgrad._core.kernels cimport fg_array, fg_params

cdef int launch(int kernel, fg_array** operands, int count, const fg_params* params, int64_t work) except -1
cdef int64_t workspace_elements(int kernel, int64_t steps, int64_t batch, int64_t rows, int64_t inputs, int64_t hidden, int64_t state, int directions) noexcept
