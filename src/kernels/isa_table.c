/* The table of one instruction set's kernels. */
#include "kernel.h"

const fg_kernel FG_NAME(kernels)[FG_KERNEL_COUNT] = {
#define KERNEL(name, operands, meaning) [FG_KERNEL_##name] = FG_NAME(name),
#include "kernels.def"
#undef KERNEL
};
