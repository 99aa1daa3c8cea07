/* The recurrent layer h_t = f(x_t @ w_ih.T + b_ih + h_(t-1) @ w_hh.T + b_hh), f relu or tanh.
 *
 * The input projections are written to y; a step adds what y holds and applies f to the product in registers.
 * Backward, dz_t = (dy_t + dz_(t+1) @ w_hh) * f'(y_t): the outputs alone are what it needs.
 */
#ifndef REAL_BITS
#include "recurrent.h"

#define BODY "rnn.c"
#include "each_real.h"

void FG_NAME(rnn)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    if (operands[0]->dtype == FG_FLOAT32)
        FG_NAME(recurrent_f32)(&rnn_cell_f32, operands, operand_count, params);
    else
        FG_NAME(recurrent_f64)(&rnn_cell_f64, operands, operand_count, params);
}

void FG_NAME(rnn_backward)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    if (operands[7]->dtype == FG_FLOAT32)
        FG_NAME(recurrent_backward_f32)(&rnn_cell_f32, operands, operand_count, params);
    else
        FG_NAME(recurrent_backward_f64)(&rnn_cell_f64, operands, operand_count, params);
}

#else

static void FN(rnn_advance)(const FN(layer) * layer, const FN(direction) * d, const FN(step) * step)
{
    const int64_t hidden = layer->size.hidden;
    const fg_finish finish = {.out = step->y, .out_row = layer->y_row, .add = step->y, .add_row = layer->y_row,
                              .alpha = 1, .beta = 1, .mode = layer->relu ? FG_RELU : FG_TANH};
    FG_NAME(FN(multiply_state))(step->rows, hidden, hidden, 1, (fg_matrix){step->h_previous, step->h_previous_row, 1},
                                (fg_matrix){d->w_hh, 1, hidden}, d->packed_hh, step->product, &finish);
}

static void FN(rnn_retreat)(const FN(layer) * layer, const FN(direction) * d, const FN(step) * step)
{
    const int64_t hidden = layer->size.hidden;
    fg_finish finish = {.out = step->dz, .out_row = layer->dz_row, .add = step->dy, .add_row = layer->y_row, .y = step->y,
                        .y_row = layer->y_row, .alpha = 1, .beta = 1,
                        .mode = layer->relu ? FG_RELU_GRADIENT : FG_TANH_GRADIENT};
    if (step->dh_n)
        FN(add_last_gradient)(layer, step, step->dz, layer->dz_row, &finish);
    FG_NAME(FN(multiply_state))(step->rows, hidden, hidden, 1, FG_NAME(FN(state_gradient))(layer, step->dz_later),
                                (fg_matrix){d->w_hh, hidden, 1}, d->packed_hh, step->product, &finish);
}

static const FN(cell) FN(rnn_cell) = {
    .gates = FG_RNN_GATES, .kept = FG_RNN_KEPT, .merged = 1, .advance = FN(rnn_advance), .retreat = FN(rnn_retreat),
};

#endif
