/* The walk of a recurrent layer over its sequence; recurrent.h tells how it goes. */
#ifndef REAL_BITS
#include "recurrent.h"
#include "threads.h"

/* A task of fewer multiplications than this ends before another thread has taken it up. */
#define WORTH_SHARING (1 << 19)

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

#define BODY "recurrent.c"
#include "each_real.h"
#else

/* How many rows a step has; none where there is no such step. */
static int64_t FN(rows_at)(const FN(layer) * layer, int64_t step)
{
    if (step < 0 || step >= layer->size.steps)
        return 0;
    return layer->batch_sizes ? layer->batch_sizes[step] : layer->size.batch;
}

void FG_NAME(FN(multiply_state))(int64_t rows, int64_t n, int64_t k, int parts, fg_matrix a, fg_matrix w,
                                 const real *packed, real *product, const fg_finish *finish)
{
    if (!a.data || packed)
        FG_NAME(FN(multiply_packed))(rows, n, a.data ? k : 0, parts, a, packed, finish);
    else if (finish->mode != FG_CALL)
        FG_NAME(FN(gemm))(rows, n, k, a, w, finish);
    else {
        const int64_t width = parts * n;
        FG_NAME(FN(gemm))(rows, width, k, a, w, &(fg_finish){.out = product, .out_row = width, .alpha = 1});
        finish->call(finish->context, &(fg_sums){0, 0, (int)rows, (int)n, product, width, n});
    }
}

fg_matrix FG_NAME(FN(state_gradient))(const FN(layer) * layer, const real *dz)
{
    const int64_t repeated = layer->cell->split ? layer->cell->gates - layer->cell->split : 0;
    return (fg_matrix){FN(moved)(dz, repeated * layer->size.hidden), layer->dz_row, 1};
}

/* The next chunk of a direction, which goes through time upward or downward; 0 when there is none. */
static int FN(next_chunk)(const FN(layer) * layer, FN(direction) * d, int upward)
{
    const int64_t steps = layer->size.steps;
    int64_t rows = 0;
    if (upward) {
        const int64_t first = d->chunks ? d->end_step : 0;
        d->first_row += d->chunks ? d->row_count : 0;
        d->first_step = d->end_step = first;
        while (d->end_step < steps && (!rows || rows + FN(rows_at)(layer, d->end_step) <= layer->chunk_rows))
            rows += FN(rows_at)(layer, d->end_step++);
    } else {
        d->end_step = d->chunks ? d->first_step : steps;
        d->first_step = d->end_step;
        while (d->first_step > 0 && (!rows || rows + FN(rows_at)(layer, d->first_step - 1) <= layer->chunk_rows))
            rows += FN(rows_at)(layer, --d->first_step);
        d->first_row = (d->chunks ? d->first_row : layer->size.rows) - rows;
    }
    d->row_count = rows;
    d->chunks++;
    return d->end_step > d->first_step;
}

/* The rows of a batch are cut into blocks of equal work, one a task; of unequal lengths each stops at its own step. */
static int64_t FN(block_start)(const FN(layer) * layer, const FN(direction) * d, int block, int blocks)
{
    const int64_t batch = layer->size.batch;
    if (block == 0 || block == blocks)
        return block ? batch : 0;
    if (!layer->batch_sizes)
        return batch * block / blocks;
    int64_t first = 0, work = 0;
    for (; first < batch && work * blocks < d->row_count * block; first++)
        for (int64_t t = d->first_step; t < d->end_step && FN(rows_at)(layer, t) > first; t++)
            work++;
    return first;
}

typedef struct FN(shared) {
    const FN(layer) * layer;
    int blocks, backward;
} FN(shared);

static void FN(advance_block)(const FN(layer) * layer, const FN(direction) * d, int64_t first, int64_t end);
static void FN(retreat_block)(const FN(layer) * layer, const FN(direction) * d, int64_t first, int64_t end);

static void FN(run_block)(void *shared_, int task)
{
    const FN(shared) *shared = shared_;
    const FN(layer) *layer = shared->layer;
    const FN(direction) *d = &layer->direction[task / shared->blocks];
    const int block = task % shared->blocks;
    const int64_t first = FN(block_start)(layer, d, block, shared->blocks);
    const int64_t end = FN(block_start)(layer, d, block + 1, shared->blocks);
    if (first >= end || d->end_step == d->first_step)
        return;
    const uint64_t was = fg_flush_subnormals();
    (shared->backward ? FN(retreat_block) : FN(advance_block))(layer, d, first, end);
    fg_restore_subnormals(was);
}

/* The steps of each direction's chunk. */
static void FN(run_chunks)(const FN(layer) * layer, int backward)
{
    const int directions = layer->direction_count;
    int64_t multiplications = 0;
    for (int k = 0; k < directions; k++)
        multiplications += layer->direction[k].row_count * layer->size.gates * layer->size.hidden * layer->size.state;
    const int64_t worth = multiplications / WORTH_SHARING, tasks = worth < 2 ? 1 : smaller(worth, fg_threads_here());
    int blocks = (int)smaller(larger(tasks / directions, 1), layer->size.batch);
    FN(shared) shared = {layer, blocks, backward};
    if (tasks > 1 && directions * blocks > 1)
        fg_parallel(directions * blocks, FN(run_block), &shared);
    else
        for (int k = 0; k < directions * blocks; k++)
            FN(run_block)(&shared, k);
}

/* Forward */

/* Where the gates of a row are computed: where they are saved, or in the workspace, which holds one chunk or one step. */
static real *FN(gates_of)(const FN(layer) * layer, const FN(direction) * d, int64_t row, int64_t row_in_step)
{
    if (!layer->size.kept)
        return d->y + row * layer->y_row;
    if (d->gates)
        return d->gates + row * layer->z_row;
    return d->z + (d->packed_ih ? row_in_step : row - d->first_row) * layer->z_row;
}

/* z = x @ w_ih.T and the biases that need not wait for the recurrent product. */
static void FN(project_inputs)(const FN(layer) * layer, const FN(direction) * d, int64_t row, int64_t rows, real *z)
{
    const int64_t inputs = layer->size.inputs, width = layer->size.gates * layer->size.hidden;
    const fg_matrix x = {layer->x + row * inputs, inputs, 1};
    const fg_finish finish = {.out = z, .out_row = layer->z_row, .add = d->bias, .alpha = 1, .beta = 1};
    if (d->packed_ih)
        FG_NAME(FN(multiply_packed))(rows, width, inputs, 1, x, d->packed_ih, &finish);
    else
        FG_NAME(FN(gemm))(rows, width, inputs, x, (fg_matrix){d->w_ih, 1, inputs}, &finish);
}

static void FN(advance_block)(const FN(layer) * layer, const FN(direction) * d, int64_t first, int64_t end)
{
    const int64_t hidden = layer->size.hidden, state = layer->size.state, toward = d->reverse ? -1 : 1;
    const int64_t steps = d->end_step - d->first_step;
    int64_t row = d->reverse ? d->first_row + d->row_count : d->first_row;
    for (int64_t k = 0; k < steps; k++) {
        const int64_t t = d->reverse ? d->end_step - 1 - k : d->first_step + k;
        const int64_t rows = FN(rows_at)(layer, t), before = FN(rows_at)(layer, t - toward);
        row -= d->reverse ? rows : 0;
        const int64_t previous = d->reverse ? row + rows : row - before; /* the first row of the step before */
        const int64_t going_on = smaller(rows, before);
        const int64_t bounds[3] = {first, larger(first, smaller(end, going_on)), larger(first, smaller(end, rows))};
        if (d->packed_ih && first < bounds[2])
            FN(project_inputs)(layer, d, row + first, bounds[2] - first, FN(gates_of)(layer, d, row + first, first));
        for (int begins = 0; begins < 2; begins++) {
            const int64_t b = bounds[begins];
            if (b == bounds[begins + 1])
                continue;
            FN(step) step = {
                .rows = bounds[begins + 1] - b,
                .z = FN(gates_of)(layer, d, row + b, b),
                .y = d->y + (row + b) * layer->y_row,
                .c = d->cells ? d->cells + (row + b) * hidden : FN(moved_out)(d->c_n, b * hidden),
                .product = FN(moved_out)(d->product, b * layer->size.gates * hidden),
                .raw = FN(moved_out)(d->raw, b * hidden),
            };
            if (begins) {
                step.h_previous = FN(moved)(d->h_0, b * state);
                step.h_previous_row = state;
                step.c_previous = FN(moved)(d->c_0, b * hidden);
            } else {
                step.h_previous = d->y + (previous + b) * layer->y_row;
                step.h_previous_row = layer->y_row;
                step.c_previous = d->cells ? d->cells + (previous + b) * hidden : step.c;
            }
            layer->cell->advance(layer, d, &step);
        }
        for (int64_t b = larger(first, FN(rows_at)(layer, t + toward)); b < smaller(end, rows); b++) {
            if (d->h_n)
                memcpy(d->h_n + b * state, d->y + (row + b) * layer->y_row, (size_t)state * sizeof(real));
            if (d->cells)
                memcpy(d->c_n + b * hidden, d->cells + (row + b) * hidden, (size_t)hidden * sizeof(real));
        }
        row += d->reverse ? 0 : rows;
    }
}

static void FN(sum_biases)(const FN(layer) * layer, FN(direction) * d, real *room)
{
    const int64_t count = layer->size.gates * layer->size.hidden, merged = layer->cell->merged * layer->size.hidden;
    d->bias = NULL;
    if (!d->b_ih && !d->b_hh)
        return;
    for (int64_t k = 0; k < count; k++)
        room[k] = (d->b_ih ? d->b_ih[k] : 0) + (d->b_hh && k < merged ? d->b_hh[k] : 0);
    d->bias = room;
}

static void FN(start_layer)(FN(layer) * layer, const FN(cell) * cell, const fg_array *x, const fg_array *batch_sizes,
                            const fg_array *w_hh, int directions, const fg_params *params)
{
    fg_recurrent_size *size = &layer->size;
    memset(layer, 0, sizeof *layer);
    layer->cell = cell;
    layer->direction_count = directions;
    layer->relu = params->i[0] != 0;
    size->gates = cell->gates;
    size->kept = cell->kept;
    size->batch = params->i[1];
    size->rows = x->shape[0];
    size->inputs = x->shape[1];
    size->hidden = w_hh->shape[0] / cell->gates;
    size->state = w_hh->shape[1];
    size->steps = batch_sizes->data ? batch_sizes->shape[0] : size->rows / larger(size->batch, 1);
    layer->batch_sizes = size->rows == size->steps * size->batch ? NULL : batch_sizes->data;
    layer->x = x->data;
    layer->y_row = directions * size->state;
    layer->z_row = cell->kept ? cell->kept * size->hidden : layer->y_row;
    layer->dz_row = fg_gradient_row(size);
}

void FG_NAME(FN(recurrent))(const FN(cell) * cell, fg_array *const *operands, int count, const fg_params *params)
{
    const int directions = (count - FG_FIXED_OPERANDS) / FG_DIRECTION_OPERANDS;
    FN(layer) layer;
    FN(start_layer)(&layer, cell, operands[6], operands[9], operands[FG_FIXED_OPERANDS + 1], directions, params);
    const fg_recurrent_size *size = &layer.size;
    if (size->hidden == 0 && size->state == 0)
        return;
    const fg_recurrent_plan plan = fg_plan_recurrent(size, 0);
    const int64_t hidden = size->hidden, state = size->state;
    layer.chunk_rows = plan.chunk_rows;
    for (int k = 0; k < directions; k++) {
        FN(direction) *d = &layer.direction[k];
        fg_array *const *own = operands + FG_FIXED_OPERANDS + k * FG_DIRECTION_OPERANDS;
        real *room = (real *)operands[5]->data + k * plan.total;
        d->reverse = k;
        d->y = FN(moved_out)(operands[0]->data, k * state);
        d->h_n = FN(moved_out)(operands[1]->data, k * size->batch * state);
        d->c_n = FN(moved_out)(operands[2]->data, k * size->batch * hidden);
        d->gates = FN(moved_out)(operands[3]->data, k * size->rows * layer.z_row);
        d->cells = FN(moved_out)(operands[4]->data, k * size->rows * hidden);
        d->h_0 = FN(moved)(operands[7]->data, k * size->batch * state);
        d->c_0 = FN(moved)(operands[8]->data, k * size->batch * hidden);
        d->w_ih = own[0]->data;
        d->w_hh = own[1]->data;
        d->b_ih = own[2]->data;
        d->b_hh = own[3]->data;
        d->w_hr = own[4]->data;
        FN(sum_biases)(&layer, d, room + plan.bias);
        d->z = plan.z < 0 ? NULL : room + plan.z;
        d->product = plan.product < 0 ? NULL : room + plan.product;
        d->raw = plan.raw < 0 ? NULL : room + plan.raw;
        if (plan.packed_ih >= 0) {
            d->packed_ih = room + plan.packed_ih;
            FG_NAME(FN(pack))(size->gates * hidden, size->inputs, 1, (fg_matrix){d->w_ih, 1, size->inputs},
                              d->packed_ih);
        }
        if (plan.packed_hh >= 0) {
            d->packed_hh = room + plan.packed_hh;
            FG_NAME(FN(pack))(hidden, state, size->gates, (fg_matrix){d->w_hh, 1, state}, d->packed_hh);
        }
        if (plan.packed_hr >= 0) {
            d->packed_hr = room + plan.packed_hr;
            FG_NAME(FN(pack))(state, hidden, 1, (fg_matrix){d->w_hr, 1, hidden}, d->packed_hr);
        }
    }
    for (;;) {
        int left = 0;
        for (int k = 0; k < directions; k++)
            if (FN(next_chunk)(&layer, &layer.direction[k], !layer.direction[k].reverse)) {
                const FN(direction) *d = &layer.direction[k];
                left = 1;
                if (!d->packed_ih)
                    FN(project_inputs)(&layer, d, d->first_row, d->row_count,
                                       FN(gates_of)(&layer, d, d->first_row, 0));
            }
        if (!left)
            break;
        FN(run_chunks)(&layer, 0);
    }
}

/* Backward */

static void FN(retreat_block)(const FN(layer) * layer, const FN(direction) * d, int64_t first, int64_t end)
{
    const int64_t hidden = layer->size.hidden, state = layer->size.state, toward = d->reverse ? -1 : 1;
    const int64_t steps = d->end_step - d->first_step, z = layer->size.gates * hidden;
    int64_t row = d->reverse ? d->first_row : d->first_row + d->row_count;
    for (int64_t k = 0; k < steps; k++) {
        const int64_t t = d->reverse ? d->first_step + k : d->end_step - 1 - k;
        const int64_t rows = FN(rows_at)(layer, t), after = FN(rows_at)(layer, t + toward);
        const int64_t before = FN(rows_at)(layer, t - toward);
        row -= d->reverse ? 0 : rows;
        const int64_t previous = d->reverse ? row + rows : row - before;
        const int64_t following = d->reverse ? row - after : row + rows;
        const real *dz_later = d->dz_later;
        if (following >= d->first_row && following < d->first_row + d->row_count)
            dz_later = d->dz + (following - d->first_row) * layer->dz_row;
        real *dz = d->dz + (row - d->first_row) * layer->dz_row;
        /* Rows go on after this step or end with it, and came from the step before or begin with it. */
        int64_t bounds[4] = {0, smaller(rows, after), smaller(rows, before), rows};
        if (bounds[1] > bounds[2]) {
            const int64_t swapped = bounds[1];
            bounds[1] = bounds[2];
            bounds[2] = swapped;
        }
        for (int part = 0; part < 3; part++) {
            const int64_t b = larger(first, bounds[part]), count = smaller(end, bounds[part + 1]) - b;
            if (count <= 0)
                continue;
            const int goes_on = b < after, came = b < before;
            const FN(step) step = {
                .rows = count,
                .z = FN(moved_out)(d->gates, (row + b) * layer->z_row),
                .y = d->y + (row + b) * layer->y_row,
                .c = FN(moved_out)(d->cells, (row + b) * hidden),
                .h_previous = came ? d->y + (previous + b) * layer->y_row : FN(moved)(d->h_0, b * state),
                .h_previous_row = came ? layer->y_row : state,
                .c_previous = came ? FN(moved_out)(d->cells, (previous + b) * hidden)
                                   : FN(moved)(d->c_0, b * hidden),
                .product = FN(moved_out)(d->product, b * hidden),
                .raw = FN(moved_out)(d->raw, (row - d->first_row + b) * hidden),
                .dy = FN(moved)(d->dy, (row + b) * layer->y_row),
                .dh_n = goes_on ? NULL : FN(moved)(d->dh_n, b * state),
                .dz_later = goes_on ? dz_later + b * layer->dz_row : NULL,
                .dz = dz + b * layer->dz_row,
                .dh = FN(moved_out)(d->dh, (row - d->first_row + b) * state),
                .carry = FN(moved_out)(d->carry, b * hidden),
            };
            layer->cell->retreat(layer, d, &step);
            if (d->dh_0 && !came) {
                real *dh_0 = d->dh_0 + b * state;
                const fg_finish finish = {.out = dh_0, .out_row = state, .alpha = 1, .beta = 1,
                                          .add = d->dh_0 == d->carry ? dh_0 : NULL, .add_row = state};
                FG_NAME(FN(multiply_state))(count, state, z, 1, FG_NAME(FN(state_gradient))(layer, step.dz),
                                            (fg_matrix){d->w_hh, state, 1}, d->packed_hh, step.product, &finish);
            }
        }
        row += d->reverse ? rows : 0;
    }
}

/* The states before each row of the chunk, gathered where unequal lengths leave no regular distance to them. */
static void FN(gather_previous)(const FN(layer) * layer, const FN(direction) * d)
{
    const int64_t state = layer->size.state;
    int64_t row = d->first_row;
    real *out = d->previous;
    for (int64_t t = d->first_step; t < d->end_step; t++) {
        const int64_t rows = FN(rows_at)(layer, t), before = FN(rows_at)(layer, d->reverse ? t + 1 : t - 1);
        const int64_t previous = d->reverse ? row + rows : row - before;
        for (int64_t b = 0; b < rows; b++, out += state) {
            const real *h = b < before ? d->y + (previous + b) * layer->y_row : FN(moved)(d->h_0, b * state);
            if (h)
                memcpy(out, h, (size_t)state * sizeof(real));
            else
                memset(out, 0, (size_t)state * sizeof(real));
        }
        row += rows;
    }
}

/* out (m, n) (+)= a (rows, m).T @ b (rows, n) */
static void FN(add_outer)(int64_t m, int64_t n, int64_t rows, const real *a, int64_t a_row, const real *b,
                          int64_t b_row, int accumulate, real *out)
{
    FG_NAME(FN(gemm))(m, n, rows, (fg_matrix){a, 1, a_row}, (fg_matrix){b, b_row, 1},
                      &(fg_finish){.out = out, .out_row = n, .add = accumulate ? out : NULL, .add_row = n,
                                   .alpha = 1, .beta = 1});
}

/* What the dz of a chunk means for x and the weights. */
static void FN(add_gradients)(const FN(layer) * layer, const FN(direction) * d)
{
    const int64_t hidden = layer->size.hidden, state = layer->size.state, inputs = layer->size.inputs;
    const int64_t rows = d->row_count, batch = layer->size.batch, dz_row = layer->dz_row, y_row = layer->y_row;
    const int gates = layer->size.gates, split = layer->cell->split, accumulate = d->chunks > 1;
    /* Blocks of w_ih's gates and where their gradients stand in dz. */
    const struct {
        int first, end, place;
    } blocks[2] = {{0, split ? split : gates, split ? gates - split : 0}, {split, gates, 0}};
    const real *x = layer->x + d->first_row * inputs;
    for (int k = 0; k < (split ? 2 : 1); k++) {
        const int64_t count = (blocks[k].end - blocks[k].first) * hidden, start = blocks[k].first * hidden;
        const real *dz = d->dz + blocks[k].place * hidden;
        if (layer->dx) {
            real *dx = layer->dx + d->first_row * inputs;
            const int adds = k > 0 || layer->direction_count > 1;
            FG_NAME(FN(gemm))(rows, inputs, count, (fg_matrix){dz, dz_row, 1},
                              (fg_matrix){d->w_ih + start * inputs, inputs, 1},
                              &(fg_finish){.out = dx, .out_row = inputs, .add = adds ? dx : NULL, .add_row = inputs,
                                           .alpha = 1, .beta = 1});
        }
        if (d->dw_ih)
            FN(add_outer)(count, inputs, rows, dz, dz_row, x, inputs, accumulate, d->dw_ih + start * inputs);
        if (d->db_ih)
            FG_NAME(FN(column_sums))(rows, count, dz, dz_row, accumulate, d->db_ih + start);
    }
    const real *dz = FG_NAME(FN(state_gradient))(layer, d->dz).data;
    if (d->db_hh && d->db_ih && !split) {
        if (d->db_hh != d->db_ih) /* both biases enter as a sum */
            memcpy(d->db_hh, d->db_ih, (size_t)(gates * hidden) * sizeof(real));
    } else if (d->db_hh)
        FG_NAME(FN(column_sums))(rows, gates * hidden, dz, dz_row, accumulate, d->db_hh);
    if (d->dw_hr)
        FN(add_outer)(state, hidden, rows, d->dh, state, d->raw, hidden, accumulate, d->dw_hr);
    if (!d->dw_hh)
        return;
    if (layer->batch_sizes) {
        FN(gather_previous)(layer, d);
        FN(add_outer)(gates * hidden, state, rows, dz, dz_row, d->previous, state, accumulate, d->dw_hh);
        return;
    }
    const int begins = d->reverse ? d->end_step == layer->size.steps : d->first_step == 0;
    const int64_t later = rows - (begins ? batch : 0), skipped = begins && !d->reverse ? batch : 0;
    const real *h = d->y + (d->first_row + (d->reverse ? batch : skipped - batch)) * y_row;
    FN(add_outer)(gates * hidden, state, later, dz + skipped * dz_row, dz_row, h, y_row, accumulate, d->dw_hh);
    if (begins && d->h_0)
        FN(add_outer)(gates * hidden, state, batch, d->reverse ? dz + later * dz_row : dz, dz_row, d->h_0, state, 1,
                      d->dw_hh);
}

/* The next chunk overwrites dz: what its first step needs is put aside. */
static void FN(keep_boundary)(const FN(layer) * layer, FN(direction) * d)
{
    const int64_t step = d->reverse ? d->end_step - 1 : d->first_step, rows = FN(rows_at)(layer, step);
    const real *dz = d->dz + (d->reverse ? d->row_count - rows : 0) * layer->dz_row;
    memcpy(d->dz_later, dz, (size_t)(rows * layer->dz_row) * sizeof(real));
}

static void FN(copy_or_clear)(real *out, const real *x, int64_t count)
{
    if (x)
        memcpy(out, x, (size_t)count * sizeof(real));
    else
        memset(out, 0, (size_t)count * sizeof(real));
}

void FG_NAME(FN(recurrent_backward))(const FN(cell) * cell, fg_array *const *operands, int count,
                                     const fg_params *params)
{
    const int directions = (count - FG_FIXED_GRADIENT_OPERANDS) / FG_DIRECTION_GRADIENT_OPERANDS;
    FN(layer) layer;
    FN(start_layer)(&layer, cell, operands[10], operands[13], operands[FG_FIXED_GRADIENT_OPERANDS + 6], directions,
                    params);
    const fg_recurrent_size *size = &layer.size;
    const fg_recurrent_plan plan = fg_plan_recurrent(size, 1);
    const int64_t hidden = size->hidden, state = size->state, batch = size->batch;
    layer.chunk_rows = plan.chunk_rows;
    layer.dx = operands[0]->data;
    if (layer.dx && directions > 1)
        memset(layer.dx, 0, (size_t)(size->rows * size->inputs) * sizeof(real));
    for (int k = 0; k < directions; k++) {
        FN(direction) *d = &layer.direction[k];
        fg_array *const *own = operands + FG_FIXED_GRADIENT_OPERANDS + k * FG_DIRECTION_GRADIENT_OPERANDS;
        real *room = (real *)operands[3]->data + k * plan.total;
        d->reverse = k;
        d->dh_0 = FN(moved_out)(operands[1]->data, k * batch * state);
        d->dc_0 = FN(moved_out)(operands[2]->data, k * batch * hidden);
        d->dy = FN(moved)(operands[4]->data, k * state);
        d->dh_n = FN(moved)(operands[5]->data, k * batch * state);
        d->dc_n = FN(moved)(operands[6]->data, k * batch * hidden);
        d->y = FN(moved_out)(operands[7]->data, k * state);
        d->gates = FN(moved_out)(operands[8]->data, k * size->rows * layer.z_row);
        d->cells = FN(moved_out)(operands[9]->data, k * size->rows * hidden);
        d->h_0 = FN(moved)(operands[11]->data, k * batch * state);
        d->c_0 = FN(moved)(operands[12]->data, k * batch * hidden);
        d->dw_ih = own[0]->data;
        d->dw_hh = own[1]->data;
        d->db_ih = own[2]->data;
        d->db_hh = own[3]->data;
        d->dw_hr = own[4]->data;
        d->w_ih = own[5]->data;
        d->w_hh = own[6]->data;
        d->w_hr = own[7]->data;
        d->product = plan.product < 0 ? NULL : room + plan.product;
        d->dz = room + plan.dz;
        d->dz_later = plan.dz_later < 0 ? NULL : room + plan.dz_later;
        d->previous = plan.previous < 0 ? NULL : room + plan.previous;
        d->dh = plan.dh < 0 ? NULL : room + plan.dh;
        d->raw = plan.raw < 0 ? NULL : room + plan.raw;
        if (plan.packed_hh >= 0) {
            d->packed_hh = room + plan.packed_hh;
            FG_NAME(FN(pack))(state, size->gates * hidden, 1, (fg_matrix){d->w_hh, state, 1}, d->packed_hh);
        }
        if (plan.packed_hr >= 0) {
            d->packed_hr = room + plan.packed_hr;
            FG_NAME(FN(pack))(hidden, state, 1, (fg_matrix){d->w_hr, hidden, 1}, d->packed_hr);
        }
        /* What a cell carries from step to step beside dz: the LSTM its cell's gradient, the GRU its state's. */
        real *const final = cell->split ? d->dh_0 : d->dc_0;
        d->carry = final || plan.carry < 0 ? final : room + plan.carry;
        if (cell->kept)
            FN(copy_or_clear)(d->carry, cell->split ? d->dh_n : d->dc_n, batch * hidden);
    }
    if (size->rows == 0 || (size->hidden == 0 && size->state == 0)) { /* sums of nothing */
        layer.batch_sizes = NULL;
        for (int k = 0; k < directions; k++) {
            layer.direction[k].row_count = size->rows;
            FN(add_gradients)(&layer, &layer.direction[k]);
        }
        return;
    }
    for (;;) {
        int left = 0;
        for (int k = 0; k < directions; k++)
            left |= FN(next_chunk)(&layer, &layer.direction[k], layer.direction[k].reverse);
        if (!left)
            break;
        FN(run_chunks)(&layer, 1);
        for (int k = 0; k < directions; k++)
            if (layer.direction[k].end_step > layer.direction[k].first_step) {
                FN(add_gradients)(&layer, &layer.direction[k]);
                if (plan.dz_later >= 0)
                    FN(keep_boundary)(&layer, &layer.direction[k]);
            }
    }
}

#endif
