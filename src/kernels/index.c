/* Reading and writing by index: gather and scatter along an axis, index arrays over the leading axes, nonzero.
 *
 * Every kernel but the last two moves elements between an "indexed" array, where index arrays say, and a "dense" one,
 * position by position: gather and index_get read the indexed array, the others write it or add to it. */
#include <string.h>

#include "array.h"
#include "walk.h"

typedef enum { READ, WRITE, ADD } transfer_mode;

/* Integers are added as unsigned ones, whose overflow wraps; bools are or-ed. */
FG_INLINE void transfer(char *indexed, char *dense, int dtype, transfer_mode mode)
{
    if (mode == READ) {
        memcpy(dense, indexed, item_size(dtype));
        return;
    }
    if (mode == WRITE) {
        memcpy(indexed, dense, item_size(dtype));
        return;
    }
    switch (dtype) {
    case FG_BOOL: *(uint8_t *)indexed |= *(const uint8_t *)dense; break;
    case FG_UINT8: *(uint8_t *)indexed += *(const uint8_t *)dense; break;
    case FG_INT32: *(uint32_t *)indexed += *(const uint32_t *)dense; break;
    case FG_INT64: *(uint64_t *)indexed += *(const uint64_t *)dense; break;
    case FG_FLOAT32: *(float *)indexed += *(const float *)dense; break;
    default: *(double *)indexed += *(const double *)dense; break;
    }
}

FG_INLINE void transfer_run(char *restrict indexed, char *restrict dense, fg_axis run, int dtype, transfer_mode mode)
{
    const int64_t size = item_size(dtype);
    if (run.step[0] == size && run.step[1] == size) {
        if (mode == READ)
            memcpy(dense, indexed, run.length * size);
        else if (mode == WRITE)
            memcpy(indexed, dense, run.length * size);
        else
            for (int64_t k = 0; k < run.length; k++)
                transfer(indexed + k * size, dense + k * size, dtype, mode);
        return;
    }
    for (int64_t k = 0; k < run.length; k++)
        transfer(indexed + k * run.step[0], dense + k * run.step[1], dtype, mode);
}

/* LOOP compiled for a constant dtype and mode. Moves depend on the element's size alone. */
#define FOR_DTYPE(LOOP, dtype, mode, ...) \
    switch (mode == ADD ? (int)(dtype) : item_size(dtype) == 1 ? FG_UINT8 : item_size(dtype) == 4 ? FG_INT32 : FG_INT64) { \
    case FG_BOOL: LOOP(__VA_ARGS__, FG_BOOL, mode); break; \
    case FG_UINT8: LOOP(__VA_ARGS__, FG_UINT8, mode); break; \
    case FG_INT32: LOOP(__VA_ARGS__, FG_INT32, mode); break; \
    case FG_INT64: LOOP(__VA_ARGS__, FG_INT64, mode); break; \
    case FG_FLOAT32: LOOP(__VA_ARGS__, FG_FLOAT32, mode); break; \
    default: LOOP(__VA_ARGS__, FG_FLOAT64, mode); break; \
    }

/* The dense operand's elements: operand k itself, or the number that stands for it (params), stored into room. */
typedef union number {
    uint8_t as_uint8;
    int32_t as_int32;
    int64_t as_int64;
    float as_float32;
    double as_float64;
} number;

FG_INLINE char *dense_data(const fg_array *dense, int k, int dtype, const fg_params *params, number *room)
{
    if (dense->data)
        return dense->data;
    switch (dtype) {
    case FG_BOOL: room->as_uint8 = params->i[k] != 0; break;
    case FG_UINT8: room->as_uint8 = (uint8_t)params->i[k]; break;
    case FG_INT32: room->as_int32 = (int32_t)params->i[k]; break;
    case FG_INT64: room->as_int64 = params->i[k]; break;
    case FG_FLOAT32: room->as_float32 = (float)params->f[k]; break;
    default: room->as_float64 = params->f[k]; break;
    }
    return (char *)room;
}

/* gather, scatter: the indexed array's own step along the axis is 0 in the walk, the index takes its place. */
FG_INLINE void axis_loop(char *indexed, char *dense, const int64_t *index, int64_t axis_step, const fg_axis *outer,
                         int outer_count, fg_axis inner, int dtype, transfer_mode mode)
{
    int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
    do {
        char *to = indexed + offset[0], *from = dense + offset[1];
        const int64_t *i = index + offset[2];
        for (int64_t k = 0; k < inner.length; k++)
            transfer(to + k * inner.step[0] + i[k * inner.step[2]] * axis_step, from + k * inner.step[1], dtype, mode);
    } while (fg_advance(outer, outer_count, position, offset));
}

FG_INLINE void along_axis(fg_array *indexed, fg_array *index, fg_array *dense, int dense_operand,
                          const fg_params *params, transfer_mode mode)
{
    const int64_t size = item_size(indexed->dtype);
    const int axis = (int)params->i[0];
    fg_axis axes[FG_MAX_NDIM];
    for (int a = 0; a < index->ndim; a++) {
        if (index->shape[a] == 0)
            return;
        axes[a] = (fg_axis){index->shape[a],
                            {a == axis ? 0 : indexed->strides[a] * size,
                             dense->data ? dense->strides[a] * size : 0, index->strides[a]}};
    }
    const int64_t axis_step = index->ndim ? indexed->strides[axis] * size : 0;
    int count = fg_merge_axes(axes, index->ndim);
    fg_axis inner = count ? axes[--count] : (fg_axis){1, {0, 0, 0}};
    number room;
    char *data = dense_data(dense, dense_operand, indexed->dtype, params, &room);
    FOR_DTYPE(axis_loop, indexed->dtype, mode, indexed->data, data, index->data, axis_step, axes, count, inner)
}

void FG_NAME(gather)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    along_axis(operands[1], operands[2], operands[0], 0, params, READ);
}

void FG_NAME(scatter)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    along_axis(operands[0], operands[1], operands[2], 2, params, WRITE);
}

void FG_NAME(scatter_add)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    along_axis(operands[0], operands[1], operands[2], 2, params, ADD);
}

/* The shape of an index_get, index_put or index_add: axes[0 .. places) are the index arrays' S (the dense array's steps
 * in step[1]), the rest is R. */
typedef struct index_plan {
    char *indexed, *dense;
    int index_count, place_axes, rest_axes;
    const int64_t *index[FG_MAX_NDIM];
    int64_t length[FG_MAX_NDIM], step[FG_MAX_NDIM];
    fg_axis places[FG_MAX_NDIM], rest[FG_MAX_NDIM];
} index_plan;

FG_INLINE char *indexed_place(const index_plan *plan, int64_t s)
{
    char *place = plan->indexed;
    for (int a = 0; a < plan->index_count; a++) {
        const int64_t i = plan->index[a][s];
        place += (i < 0 ? i + plan->length[a] : i) * plan->step[a];
    }
    return place;
}

FG_INLINE void places_loop(const index_plan *plan, int dtype, transfer_mode mode)
{
    int place_axes = plan->place_axes, rest_axes = plan->rest_axes;
    const fg_axis places = place_axes ? plan->places[--place_axes] : (fg_axis){1, {0, 0, 0}};
    const fg_axis run = rest_axes ? plan->rest[--rest_axes] : (fg_axis){1, {0, 0, 0}};
    int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0}, s = 0;
    do {
        char *dense = plan->dense + offset[1];
        for (int64_t k = 0; k < places.length; k++, s++, dense += places.step[1]) {
            char *indexed = indexed_place(plan, s);
            if (run.length == 1 && rest_axes == 0) {
                transfer(indexed, dense, dtype, mode);
                continue;
            }
            int64_t rest_position[FG_MAX_NDIM] = {0}, rest_offset[3] = {0};
            do {
                transfer_run(indexed + rest_offset[0], dense + rest_offset[1], run, dtype, mode);
            } while (fg_advance(plan->rest, rest_axes, rest_position, rest_offset));
        }
    } while (fg_advance(plan->places, place_axes, position, offset));
}

FG_INLINE void over_places(fg_array *indexed, fg_array *dense, int dense_operand, fg_array *const *index,
                           int index_count, const fg_params *params, transfer_mode mode)
{
    const int64_t size = item_size(indexed->dtype);
    const int places = index_count ? index[0]->ndim : 0;
    index_plan plan;
    plan.index_count = index_count;
    for (int a = 0; a < places; a++) {
        if (index[0]->shape[a] == 0)
            return;
        plan.places[a] = (fg_axis){index[0]->shape[a], {0, dense->data ? dense->strides[a] * size : 0, 0}};
    }
    for (int a = index_count; a < indexed->ndim; a++) {
        if (indexed->shape[a] == 0)
            return;
        plan.rest[a - index_count] =
            (fg_axis){indexed->shape[a],
                      {indexed->strides[a] * size, dense->data ? dense->strides[places + a - index_count] * size : 0, 0}};
    }
    for (int a = 0; a < index_count; a++) {
        plan.index[a] = index[a]->data;
        plan.length[a] = indexed->shape[a];
        plan.step[a] = indexed->strides[a] * size;
    }
    plan.place_axes = fg_merge_axes(plan.places, places);
    plan.rest_axes = fg_merge_axes(plan.rest, indexed->ndim - index_count);
    number room;
    plan.indexed = indexed->data;
    plan.dense = dense_data(dense, dense_operand, indexed->dtype, params, &room);
    FOR_DTYPE(places_loop, indexed->dtype, mode, &plan)
}

void FG_NAME(index_get)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    over_places(operands[1], operands[0], 0, operands + 2, operand_count - 2, params, READ);
}

void FG_NAME(index_put)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    over_places(operands[0], operands[1], 1, operands + 2, operand_count - 2, params, WRITE);
}

void FG_NAME(index_add)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    over_places(operands[0], operands[1], 1, operands + 2, operand_count - 2, params, ADD);
}

void FG_NAME(index_range)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count, (void)params;
    const fg_array *x = operands[1];
    int64_t smallest = INT64_MAX, largest = INT64_MIN;
    fg_axis axes[FG_MAX_NDIM];
    int empty = 0;
    for (int a = 0; a < x->ndim; a++) {
        empty |= x->shape[a] == 0;
        axes[a] = (fg_axis){x->shape[a], {x->strides[a], 0, 0}};
    }
    if (!empty) {
        int count = fg_merge_axes(axes, x->ndim);
        const fg_axis inner = count ? axes[--count] : (fg_axis){1, {1, 0, 0}};
        int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
        do {
            const int64_t *row = (const int64_t *)x->data + offset[0];
            if (inner.step[0] == 1) {
                for (int64_t k = 0; k < inner.length; k++) {
                    smallest = row[k] < smallest ? row[k] : smallest;
                    largest = row[k] > largest ? row[k] : largest;
                }
            } else {
                for (int64_t k = 0; k < inner.length; k++) {
                    const int64_t value = row[k * inner.step[0]];
                    smallest = value < smallest ? value : smallest;
                    largest = value > largest ? value : largest;
                }
            }
        } while (fg_advance(axes, count, position, offset));
    }
    int64_t *out = operands[0]->data;
    out[0] = smallest;
    out[operands[0]->strides[0]] = largest;
}

FG_INLINE int is_nonzero(const char *x, int dtype)
{
    switch (dtype) {
    case FG_BOOL:
    case FG_UINT8: return *(const uint8_t *)x != 0;
    case FG_INT32: return *(const int32_t *)x != 0;
    case FG_INT64: return *(const int64_t *)x != 0;
    case FG_FLOAT32: return *(const float *)x != 0;
    default: return *(const double *)x != 0;
    }
}

void FG_NAME(nonzero)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count, (void)params;
    const fg_array *x = operands[1];
    const int64_t size = item_size(x->dtype);
    const int last = x->ndim - 1;
    int64_t *out = operands[0]->data;
    const int64_t *end = out + operands[0]->shape[0] * x->ndim;
    fg_axis axes[FG_MAX_NDIM];
    for (int a = 0; a <= last; a++)
        axes[a] = (fg_axis){x->shape[a], {x->strides[a] * size, 0, 0}};
    int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
    while (out < end) {
        const char *row = (const char *)x->data + offset[0];
        for (int64_t k = 0; k < axes[last].length && out < end; k++, row += axes[last].step[0]) {
            /* Written at any rate and kept if nonzero: a branch on the data would be mispredicted every other time. */
            for (int a = 0; a < last; a++)
                out[a] = position[a];
            out[last] = k;
            out += is_nonzero(row, x->dtype) ? last + 1 : 0;
        }
        fg_advance(axes, last, position, offset);
    }
}
