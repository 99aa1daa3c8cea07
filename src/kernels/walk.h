/* Walks over axes that up to three arrays share, with the arrays' steps side by side. */
#ifndef FASTGRAD_WALK_H
#define FASTGRAD_WALK_H

#include "kernel.h"

#define FG_INLINE static inline __attribute__((always_inline))

typedef struct fg_axis {
    int64_t length;
    int64_t step[3];  /* in elements or in bytes, as the user of the walk likes */
} fg_axis;

/* Drops axes of length 1 and joins neighbours that are one axis in every array; returns how many are left. */
static inline int fg_merge_axes(fg_axis *axes, int count)
{
    int kept = 0;
    for (int a = 0; a < count; a++) {
        if (axes[a].length == 1)
            continue;
        fg_axis *outer = axes + (kept ? kept - 1 : 0);
        if (kept && outer->step[0] == axes[a].step[0] * axes[a].length &&
            outer->step[1] == axes[a].step[1] * axes[a].length && outer->step[2] == axes[a].step[2] * axes[a].length) {
            int64_t length = outer->length * axes[a].length;
            *outer = axes[a];
            outer->length = length;
        } else {
            axes[kept++] = axes[a];
        }
    }
    return kept;
}

/* Moves offset to the next row-major position; returns 0, with everything back at the start, after the last one. */
FG_INLINE int fg_advance(const fg_axis *axes, int count, int64_t *position, int64_t *offset)
{
    for (int a = count - 1; a >= 0; a--) {
        for (int k = 0; k < 3; k++)
            offset[k] += axes[a].step[k];
        if (++position[a] < axes[a].length)
            return 1;
        for (int k = 0; k < 3; k++)
            offset[k] -= axes[a].step[k] * axes[a].length;
        position[a] = 0;
    }
    return 0;
}

#endif
