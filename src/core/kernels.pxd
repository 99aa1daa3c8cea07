"""kernel.h for Cython. The ids FG_KERNEL_name are in kernel_ids.pxd, which setup.py writes from kernels.def."""

from libc.stdint cimport int32_t, int64_t

cdef extern from "kernel.h":
    enum: FG_FIXED_OPERANDS, FG_DIRECTION_OPERANDS, FG_MOST_OPERANDS
    enum: FG_FIXED_GRADIENT_OPERANDS, FG_DIRECTION_GRADIENT_OPERANDS, FG_MOST_GRADIENT_OPERANDS
    enum: FG_MAX_NDIM, FG_GENERATOR_BYTES, FG_KERNEL_COUNT
    enum: FG_BOOL, FG_UINT8, FG_INT32, FG_INT64, FG_FLOAT32, FG_FLOAT64, FG_DTYPE_COUNT

    ctypedef struct fg_array:
        void* data
        int32_t dtype
        int32_t ndim
        int64_t shape[12]      # FG_MAX_NDIM
        int64_t strides[12]

    ctypedef struct fg_params:
        int64_t i[8]
        double f[8]

    ctypedef void (*fg_kernel)(fg_array** operands, int operand_count, const fg_params* params) noexcept nogil
    int64_t fg_recurrent_workspace(int kernel, int64_t steps, int64_t batch, int64_t rows, int64_t inputs, int64_t hidden,
                                   int64_t state, int directions) nogil
