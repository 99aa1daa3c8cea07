/* What rnn.c, lstm.c and gru.c share: the walk over a sequence, and the products that need many of its rows at once.
 *
 * Rows lie step after step: step t has batch_sizes[t] rows, or `batch` where all sequences are equally long. A layer
 * has one or two directions; the second runs from the last step to the first. A walk cuts the sequence into chunks of
 * whole steps. Forward, the rows of a chunk meet w_ih in one product, or those of a step where a batch and a small w_ih
 * make that as fast; then its steps follow one another, each a product of the states with w_hh, which is packed once a
 * sequence, and the cell's formula applied to the sums as they leave the registers. Backward, the steps give dz, the
 * gradients before the nonlinearities; then the gradients of x and of the weights are products over the rows of the
 * chunk. So nothing but what the backward saves grows with the sequence.
 *
 * Directions, and blocks of the rows of a batch, run side by side on several threads: they meet only between chunks.
 */
#ifndef REAL_BITS
#ifndef FASTGRAD_RECURRENT_H
#define FASTGRAD_RECURRENT_H

#include "gemm.h"
#include "simd.h"

#include <string.h>

/* Gates, and how many numbers a unit of a row keeps for the backward. */
enum { FG_RNN_GATES = 1, FG_RNN_KEPT = 0, FG_LSTM_GATES = 4, FG_LSTM_KEPT = 4, FG_GRU_GATES = 3, FG_GRU_KEPT = 4 };

/* Where a direction's parts of the workspace lie, in elements; -1 for a part that is not needed. */
typedef struct fg_recurrent_plan {
    int64_t chunk_rows, bias, packed_ih, packed_hh, packed_hr, z, product, raw, dz, dz_later, carry, dh, previous, total;
} fg_recurrent_plan;

typedef struct fg_recurrent_size {
    int64_t steps, batch, rows, inputs, hidden, state;
    int gates, kept; /* how many blocks of `hidden` z has: of the products, and of what is kept for the backward */
} fg_recurrent_size;

/* A chunk is long enough for its products to run at full speed: w_ih is packed, and the weights' gradients are read and
 * written, once a chunk. That costs little beside the arithmetic of so many rows; more where the weights fill a cache. */
#define FG_CHUNK_ROWS 1024
#define FG_LONG_CHUNK_ROWS 2048
#define FG_LARGE_WEIGHTS (1 << 20)

/* With fewer rows than this in all steps together, packing w_hh costs more than it gains. */
#define FG_PACKING_PAYS 16

/* Inputs are projected step by step, so that what is projected stays in the nearest cache, where the mean step has enough
 * rows and w_ih few enough elements to be read again each time. */
#define FG_STEP_ROWS 8
#define FG_STEP_WEIGHTS (1 << 19)

static inline int64_t fg_place(fg_recurrent_plan *plan, int64_t elements)
{
    const int64_t place = plan->total;
    plan->total += (elements + 15) / 16 * 16;
    return place;
}

/* Rows of dz: a vector longer than need be, so that they do not all fall into one set of a cache. */
static inline int64_t fg_gradient_row(const fg_recurrent_size *size)
{
    return (size->kept ? size->kept : 1) * size->hidden + 16;
}

static inline fg_recurrent_plan fg_plan_recurrent(const fg_recurrent_size *size, int backward)
{
    fg_recurrent_plan plan;
    memset(&plan, -1, sizeof plan);
    plan.total = 0;
    const int64_t hidden = size->hidden, state = size->state, batch = size->batch, z = size->gates * hidden;
    const int projects = state != hidden, packs = size->steps > 1 && size->rows >= FG_PACKING_PAYS;
    const int64_t most = backward && z * (size->inputs + state) > FG_LARGE_WEIGHTS ? FG_LONG_CHUNK_ROWS : FG_CHUNK_ROWS;
    const int64_t chunks = (size->rows + most - 1) / most;
    const int64_t even = chunks ? (size->rows + chunks - 1) / chunks + batch - 1 : 0; /* chunks are of whole steps */
    const int64_t chunk = even < size->rows ? even : size->rows;
    plan.chunk_rows = chunk;
    if (!backward) {
        plan.bias = fg_place(&plan, z);
        if (packs && size->rows >= FG_STEP_ROWS * size->steps && z * size->inputs <= FG_STEP_WEIGHTS) {
            plan.packed_ih = fg_place(&plan, fg_packed_size(z) * size->inputs);
            plan.chunk_rows = size->rows;
        }
        if (packs)
            plan.packed_hh = fg_place(&plan, size->gates * fg_packed_size(hidden) * state);
        else
            plan.product = fg_place(&plan, batch * z);
        if (size->kept)
            plan.z = fg_place(&plan, (plan.packed_ih < 0 ? chunk : batch) * size->kept * hidden);
        if (projects) {
            plan.raw = fg_place(&plan, batch * hidden);
            if (packs)
                plan.packed_hr = fg_place(&plan, fg_packed_size(state) * hidden);
        }
        return plan;
    }
    if (packs)
        plan.packed_hh = fg_place(&plan, fg_packed_size(state) * z);
    else
        plan.product = fg_place(&plan, batch * hidden);
    plan.dz = fg_place(&plan, chunk * fg_gradient_row(size));
    if (chunk < size->rows)
        plan.dz_later = fg_place(&plan, batch * fg_gradient_row(size));
    if (size->kept)
        plan.carry = fg_place(&plan, batch * hidden);
    if (size->rows != size->steps * batch)
        plan.previous = fg_place(&plan, chunk * state);
    if (projects) {
        if (packs)
            plan.packed_hr = fg_place(&plan, fg_packed_size(hidden) * state);
        plan.dh = fg_place(&plan, chunk * state);
        plan.raw = fg_place(&plan, chunk * hidden);
    }
    return plan;
}

#define BODY "recurrent.h"
#include "each_real.h"

#endif
#else

typedef struct FN(direction) {
    int reverse;
    const real *w_ih, *w_hh, *b_ih, *b_hh, *w_hr, *h_0, *c_0;
    real *y, *h_n, *c_n, *gates, *cells; /* y: this direction's columns */
    const real *dy, *dh_n, *dc_n;
    real *dw_ih, *dw_hh, *db_ih, *db_hh, *dw_hr, *dh_0, *dc_0;
    real *bias, *packed_ih, *packed_hh, *packed_hr, *z, *product, *raw, *dz, *dz_later, *carry, *dh, *previous; /* workspace */
    int64_t first_step, end_step, first_row, row_count; /* the chunk under way, in the order of time */
    int64_t chunks;                                     /* how many chunks have been begun */
} FN(direction);

/* A range of rows at one step. What is absent is NULL; a state that is absent is zero. */
typedef struct FN(step) {
    int64_t rows;
    real *z;                      /* input projections, then gates; backward the saved gates */
    real *y, *c;
    const real *h_previous, *c_previous;
    int64_t h_previous_row;
    real *product, *raw;
    const real *dy, *dh_n;        /* what arrives at y; and at the last state, of rows that end here */
    const real *dz_later;         /* dz of the following step, of rows that go on */
    real *dz, *dh, *carry;
} FN(step);

typedef struct FN(layer) FN(layer);

/* A cell: its formula for a range of rows forward, and the gradient of that. */
typedef struct FN(cell) {
    int gates, kept;
    int merged;    /* how many gates take the sum of both biases; the others take b_hh inside their formula */
    int split;     /* dz has the gradients of gates [split, gates) before those of [0, split), and repeats the former,
                      as w_hh sees them, after these; 0: dz has one gradient for each gate, in order */
    void (*advance)(const FN(layer) *layer, const FN(direction) *d, const FN(step) *step);
    void (*retreat)(const FN(layer) *layer, const FN(direction) *d, const FN(step) *step);
} FN(cell);

struct FN(layer) {
    const FN(cell) *cell;
    fg_recurrent_size size;
    int64_t chunk_rows, z_row, y_row, dz_row;
    int direction_count, relu;
    const int64_t *batch_sizes; /* NULL: all steps have `batch` rows */
    const real *x;
    real *dx;
    FN(direction) direction[2];
};

/* What a cell's function of sums gets to know. */
typedef struct FN(call) {
    const FN(layer) *layer;
    const FN(direction) *direction;
    const FN(step) *step;
} FN(call);

#ifdef FG_ISA
INLINE vec FN(load)(const real *p, int count) { return count == LANES ? vec_load(p) : vec_load_n(p, count); }
INLINE vec FN(load_or_zero)(const real *p, int64_t at, int count) { return p ? FN(load)(p + at, count) : (vec){0}; }
INLINE void FN(store)(real *p, int count, vec x)
{
    if (count == LANES)
        vec_store(p, x);
    else
        vec_store_n(p, count, x);
}

/* Rows that end here get the gradient of the last state beside dy: what is added to their product is the sum of both. */
INLINE void FN(add_last_gradient)(const FN(layer) * layer, const FN(step) * step, real *sum, int64_t sum_row,
                                  fg_finish *finish)
{
    const int64_t state = layer->size.state;
    for (int64_t r = 0; r < step->rows; r++)
        for (int64_t k = 0; k < state; k++)
            sum[r * sum_row + k] = step->dh_n[r * state + k] + (step->dy ? step->dy[r * layer->y_row + k] : 0);
    finish->add = sum;
    finish->add_row = sum_row;
}

/* The sigmoid where subnormal numbers count as zero: 1/(1 + exp(-x)), 0 where exp(-x) overflows. */
INLINE vec FN(gate)(vec x) { return 1 / (1 + vec_exp(-x)); }

/* The kernels: see kernels.def for the operands. */
void FG_NAME(FN(recurrent))(const FN(cell) *cell, fg_array *const *operands, int count, const fg_params *params);
void FG_NAME(FN(recurrent_backward))(const FN(cell) *cell, fg_array *const *operands, int count,
                                     const fg_params *params);

/* a (rows, k) @ w (k, n), finished; by the packed w where there is one. An `a` without data is zero. */
void FG_NAME(FN(multiply_state))(int64_t rows, int64_t n, int64_t k, int parts, fg_matrix a, fg_matrix w,
                                 const real *packed, real *product, const fg_finish *finish);

/* dz of the following step as w_hh sees it. */
fg_matrix FG_NAME(FN(state_gradient))(const FN(layer) *layer, const real *dz);
#endif

#endif
