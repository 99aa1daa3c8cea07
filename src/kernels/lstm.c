/* The LSTM layer, with gates i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the quarters of
 * x_t @ w_ih.T + b_ih + h_(t-1) @ w_hh.T + b_hh:
 *
 *     c_t = f c_(t-1) + i g        raw_t = o tanh(c_t)        h_t = raw_t, or raw_t @ w_hr.T with a projection
 *
 * (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000; Sak, Senior and Beaufays 2014.) The four sums of
 * a unit leave the registers together. What is kept for the backward: the gates and c; tanh(c) is computed again.
 */
#ifndef REAL_BITS
#include "recurrent.h"

#define BODY "lstm.c"
#include "each_real.h"

void FG_NAME(lstm)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    if (operands[0]->dtype == FG_FLOAT32)
        FG_NAME(recurrent_f32)(&lstm_cell_f32, operands, operand_count, params);
    else
        FG_NAME(recurrent_f64)(&lstm_cell_f64, operands, operand_count, params);
}

void FG_NAME(lstm_backward)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    if (operands[7]->dtype == FG_FLOAT32)
        FG_NAME(recurrent_backward_f32)(&lstm_cell_f32, operands, operand_count, params);
    else
        FG_NAME(recurrent_backward_f64)(&lstm_cell_f64, operands, operand_count, params);
}

#else

static void FN(lstm_units)(const void *call_, const fg_sums *sums)
{
    const FN(call) *call = call_;
    const FN(step) *step = call->step;
    const int64_t hidden = call->layer->size.hidden, z_row = call->layer->z_row;
    const int projects = call->direction->w_hr != NULL, keeps = call->direction->gates != NULL;
    real *const out = projects ? step->raw : step->y;
    const int64_t out_row = projects ? hidden : call->layer->y_row;
    for (int c = 0; c < sums->columns; c += LANES) {
        const int count = sums->columns - c < LANES ? sums->columns - c : LANES;
        for (int r = 0; r < sums->rows; r++) {
            const int64_t row = sums->first_row + r, unit = sums->first_column + c, at = row * hidden + unit;
            const real *sum = (const real *)sums->sums + r * sums->sums_row + c;
            real *z = step->z + row * z_row + unit;
            const vec i = FN(gate)(FN(load)(sum, count) + FN(load)(z, count));
            const vec f = FN(gate)(FN(load)(sum + sums->sums_part, count) + FN(load)(z + hidden, count));
            const vec g = vec_tanh(FN(load)(sum + 2 * sums->sums_part, count) + FN(load)(z + 2 * hidden, count));
            const vec o = FN(gate)(FN(load)(sum + 3 * sums->sums_part, count) + FN(load)(z + 3 * hidden, count));
            const vec cell = f * FN(load_or_zero)(step->c_previous, at, count) + i * g;
            FN(store)(step->c + at, count, cell);
            FN(store)(out + row * out_row + unit, count, o * vec_tanh(cell));
            if (keeps) {
                FN(store)(z, count, i);
                FN(store)(z + hidden, count, f);
                FN(store)(z + 2 * hidden, count, g);
                FN(store)(z + 3 * hidden, count, o);
            }
        }
    }
}

static void FN(lstm_advance)(const FN(layer) * layer, const FN(direction) * d, const FN(step) * step)
{
    const int64_t hidden = layer->size.hidden, state = layer->size.state;
    const FN(call) call = {layer, d, step};
    FG_NAME(FN(multiply_state))(step->rows, hidden, state, 4, (fg_matrix){step->h_previous, step->h_previous_row, 1},
                                (fg_matrix){d->w_hh, 1, state}, d->packed_hh, step->product,
                                &(fg_finish){.mode = FG_CALL, .call = FN(lstm_units), .context = &call});
    if (d->w_hr)
        FG_NAME(FN(multiply_state))(step->rows, state, hidden, 1, (fg_matrix){step->raw, hidden, 1},
                                    (fg_matrix){d->w_hr, 1, hidden}, d->packed_hr, NULL,
                                    &(fg_finish){.out = step->y, .out_row = layer->y_row, .alpha = 1});
}

static void FN(lstm_unit_gradients)(const void *call_, const fg_sums *sums)
{
    const FN(call) *call = call_;
    const FN(step) *step = call->step;
    const int64_t hidden = call->layer->size.hidden;
    const int projects = call->direction->w_hr != NULL;
    const real *const dy = projects ? NULL : step->dy, *const dh_n = projects ? NULL : step->dh_n;
    for (int column = 0; column < sums->columns; column += LANES) {
        const int count = sums->columns - column < LANES ? sums->columns - column : LANES;
        for (int r = 0; r < sums->rows; r++) {
            const int64_t row = sums->first_row + r, unit = sums->first_column + column, at = row * hidden + unit;
            const real *gates = step->z + row * 4 * hidden + unit;
            real *dz = step->dz + row * call->layer->dz_row + unit;
            vec dh = FN(load)((const real *)sums->sums + r * sums->sums_row + column, count);
            dh += FN(load_or_zero)(dy, row * call->layer->y_row + unit, count) + FN(load_or_zero)(dh_n, at, count);
            const vec i = FN(load)(gates, count), f = FN(load)(gates + hidden, count);
            const vec g = FN(load)(gates + 2 * hidden, count), o = FN(load)(gates + 3 * hidden, count);
            const vec tanh_c = vec_tanh(FN(load)(step->c + at, count));
            const vec dc = FN(load)(step->carry + at, count) + dh * o * (1 - tanh_c * tanh_c);
            FN(store)(step->carry + at, count, dc * f);
            FN(store)(dz, count, dc * g * (i * (1 - i)));
            FN(store)(dz + hidden, count, dc * FN(load_or_zero)(step->c_previous, at, count) * (f * (1 - f)));
            FN(store)(dz + 2 * hidden, count, dc * i * (1 - g * g));
            FN(store)(dz + 3 * hidden, count, dh * tanh_c * (o * (1 - o)));
            if (projects)
                FN(store)(step->raw + at, count, o * tanh_c);
        }
    }
}

static void FN(lstm_retreat)(const FN(layer) * layer, const FN(direction) * d, const FN(step) * step)
{
    const int64_t hidden = layer->size.hidden, state = layer->size.state;
    const FN(call) call = {layer, d, step};
    const fg_finish units = {.mode = FG_CALL, .call = FN(lstm_unit_gradients), .context = &call};
    const fg_matrix dz = FG_NAME(FN(state_gradient))(layer, step->dz_later), w_hh = {d->w_hh, state, 1};
    if (!d->w_hr) {
        FG_NAME(FN(multiply_state))(step->rows, hidden, 4 * hidden, 1, dz, w_hh, d->packed_hh, step->product, &units);
        return;
    }
    fg_finish sum = {.out = step->dh, .out_row = state, .add = step->dy, .add_row = layer->y_row, .alpha = 1, .beta = 1};
    if (step->dh_n)
        FN(add_last_gradient)(layer, step, step->dh, state, &sum);
    FG_NAME(FN(multiply_state))(step->rows, state, 4 * hidden, 1, dz, w_hh, d->packed_hh, step->product, &sum);
    FG_NAME(FN(multiply_state))(step->rows, hidden, state, 1, (fg_matrix){step->dh, state, 1},
                                (fg_matrix){d->w_hr, hidden, 1}, d->packed_hr, step->product, &units);
}

static const FN(cell) FN(lstm_cell) = {
    .gates = FG_LSTM_GATES, .kept = FG_LSTM_KEPT, .merged = 4, .advance = FN(lstm_advance), .retreat = FN(lstm_retreat),
};

#endif
