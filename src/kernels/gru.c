/* The GRU layer:
 *
 *     r, z = sigmoid(x_t @ w_ih.T + b_ih + h_(t-1) @ w_hh.T + b_hh)      the first two thirds of the weights
 *     n = tanh(x_t @ w_in.T + b_in + r hn),  hn = h_(t-1) @ w_hn.T + b_hn      the last third
 *     h_t = (1 - z) n + z h_(t-1)
 *
 * (Cho et al. 2014, with r after the product as in cuDNN and PyTorch.) The three sums of a unit leave the registers
 * together. What is kept for the backward: r, z, n and hn. dz of a row is [dn, dr, dz, dn r]: w_ih sees the first three,
 * w_hh the last three.
 */
#ifndef REAL_BITS
#include "recurrent.h"

#define BODY "gru.c"
#include "each_real.h"

void FG_NAME(gru)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    if (operands[0]->dtype == FG_FLOAT32)
        FG_NAME(recurrent_f32)(&gru_cell_f32, operands, operand_count, params);
    else
        FG_NAME(recurrent_f64)(&gru_cell_f64, operands, operand_count, params);
}

void FG_NAME(gru_backward)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    if (operands[7]->dtype == FG_FLOAT32)
        FG_NAME(recurrent_backward_f32)(&gru_cell_f32, operands, operand_count, params);
    else
        FG_NAME(recurrent_backward_f64)(&gru_cell_f64, operands, operand_count, params);
}

#else

static void FN(gru_units)(const void *call_, const fg_sums *sums)
{
    const FN(call) *call = call_;
    const FN(step) *step = call->step;
    const int64_t hidden = call->layer->size.hidden, y_row = call->layer->y_row, part = sums->sums_part;
    const real *const b_hn = call->direction->b_hh ? call->direction->b_hh + 2 * hidden : NULL;
    const int keeps = call->direction->gates != NULL;
    for (int c = 0; c < sums->columns; c += LANES) {
        const int count = sums->columns - c < LANES ? sums->columns - c : LANES;
        for (int r = 0; r < sums->rows; r++) {
            const int64_t row = sums->first_row + r, unit = sums->first_column + c;
            const real *sum = (const real *)sums->sums + r * sums->sums_row + c;
            real *kept = step->z + row * 4 * hidden + unit;
            const vec reset = FN(gate)(FN(load)(sum, count) + FN(load)(kept, count));
            const vec z = FN(gate)(FN(load)(sum + part, count) + FN(load)(kept + hidden, count));
            const vec hn = FN(load)(sum + 2 * part, count) + FN(load_or_zero)(b_hn, unit, count);
            const vec n = vec_tanh(FN(load)(kept + 2 * hidden, count) + reset * hn);
            const vec h = FN(load_or_zero)(step->h_previous, row * step->h_previous_row + unit, count);
            FN(store)(step->y + row * y_row + unit, count, n + z * (h - n));
            if (keeps) {
                FN(store)(kept, count, reset);
                FN(store)(kept + hidden, count, z);
                FN(store)(kept + 2 * hidden, count, n);
                FN(store)(kept + 3 * hidden, count, hn);
            }
        }
    }
}

static void FN(gru_advance)(const FN(layer) * layer, const FN(direction) * d, const FN(step) * step)
{
    const int64_t hidden = layer->size.hidden;
    const FN(call) call = {layer, d, step};
    FG_NAME(FN(multiply_state))(step->rows, hidden, hidden, 3, (fg_matrix){step->h_previous, step->h_previous_row, 1},
                                (fg_matrix){d->w_hh, 1, hidden}, d->packed_hh, step->product,
                                &(fg_finish){.mode = FG_CALL, .call = FN(gru_units), .context = &call});
}

static void FN(gru_unit_gradients)(const void *call_, const fg_sums *sums)
{
    const FN(call) *call = call_;
    const FN(step) *step = call->step;
    const int64_t hidden = call->layer->size.hidden, y_row = call->layer->y_row;
    for (int c = 0; c < sums->columns; c += LANES) {
        const int count = sums->columns - c < LANES ? sums->columns - c : LANES;
        for (int k = 0; k < sums->rows; k++) {
            const int64_t row = sums->first_row + k, unit = sums->first_column + c, at = row * hidden + unit;
            const real *kept = step->z + row * 4 * hidden + unit;
            real *out = step->dz + row * call->layer->dz_row + unit;
            const vec dh = FN(load)((const real *)sums->sums + k * sums->sums_row + c, count) +
                           FN(load)(step->carry + at, count) + FN(load_or_zero)(step->dy, row * y_row + unit, count);
            const vec r = FN(load)(kept, count), z = FN(load)(kept + hidden, count);
            const vec n = FN(load)(kept + 2 * hidden, count), hn = FN(load)(kept + 3 * hidden, count);
            const vec h = FN(load_or_zero)(step->h_previous, row * step->h_previous_row + unit, count);
            const vec dn = dh * (1 - z) * (1 - n * n);
            FN(store)(step->carry + at, count, dh * z);
            FN(store)(out, count, dn);
            FN(store)(out + hidden, count, dn * hn * (r * (1 - r)));
            FN(store)(out + 2 * hidden, count, dh * (h - n) * (z * (1 - z)));
            FN(store)(out + 3 * hidden, count, dn * r);
        }
    }
}

static void FN(gru_retreat)(const FN(layer) * layer, const FN(direction) * d, const FN(step) * step)
{
    const int64_t hidden = layer->size.hidden;
    const FN(call) call = {layer, d, step};
    FG_NAME(FN(multiply_state))(step->rows, hidden, 3 * hidden, 1, FG_NAME(FN(state_gradient))(layer, step->dz_later),
                                (fg_matrix){d->w_hh, hidden, 1}, d->packed_hh, step->product,
                                &(fg_finish){.mode = FG_CALL, .call = FN(gru_unit_gradients), .context = &call});
}

static const FN(cell) FN(gru_cell) = {
    .gates = FG_GRU_GATES, .kept = FG_GRU_KEPT, .merged = 2, .split = 2,
    .advance = FN(gru_advance), .retreat = FN(gru_retreat),
};

#endif
