/* Sizes of arrays. */
#ifndef FASTGRAD_ARRAY_H
#define FASTGRAD_ARRAY_H

#include "kernel.h"

static inline int64_t item_size(int dtype)
{
    return dtype <= FG_UINT8 ? 1 : dtype == FG_INT32 || dtype == FG_FLOAT32 ? 4 : 8;
}

static inline int64_t element_count(const fg_array *x)
{
    int64_t count = 1;
    for (int d = 0; d < x->ndim; d++)
        count *= x->shape[d];
    return count;
}

#endif
