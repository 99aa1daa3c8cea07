/* The unrolled recurrent layer h_t = f(x_t @ w_ih.T + b_ih + h_(t-1) @ w_hh.T + b_hh), f relu or tanh.
 *
 * All T*B rows of x meet w_ih in one product, which is written straight to y. Only h_(t-1) @ w_hh.T is left for the
 * time loop: w_hh is packed once a sequence, and a step adds what y holds and applies f to the product in registers.
 * Backward, dz_t = (dy_t + dz_(t+1) @ w_hh) * f'(y_t) is the only loop; the gradients of x and of the weights are
 * products over all T*B rows again.
 */
#ifndef REAL_BITS
#include "gemm.h"
#include "simd.h"

/* With fewer rows than this in all steps together, packing w_hh costs more than it gains. */
#define PACKING_PAYS 16

#define BODY "rnn.c"
#include "each_real.h"

void FG_NAME(rnn)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    (operands[0]->dtype == FG_FLOAT32 ? rnn_f32 : rnn_f64)(operands, params);
}

void FG_NAME(rnn_backward)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    (operands[7]->dtype == FG_FLOAT32 ? rnn_backward_f32 : rnn_backward_f64)(operands, params);
}

#else

/* h @ w or h @ w.T, by the packed w where there is one. */
static void FN(multiply_hidden)(int64_t batch, int64_t hidden, const real *h_bh, fg_matrix w_hh, const real *packed,
                                const fg_finish *finish)
{
    const fg_matrix h = {h_bh, hidden, 1};
    if (!h_bh)
        FG_NAME(FN(multiply_packed))(batch, hidden, 0, h, NULL, finish);
    else if (packed)
        FG_NAME(FN(multiply_packed))(batch, hidden, hidden, h, packed, finish);
    else
        FG_NAME(FN(gemm))(batch, hidden, hidden, h, w_hh, finish);
}

static void FN(rnn)(fg_array *const *operands, const fg_params *params)
{
    const int64_t steps = operands[0]->shape[0], batch = operands[0]->shape[1], hidden = operands[0]->shape[2];
    const int64_t inputs = operands[2]->shape[2], state = batch * hidden;
    real *const y_tbh = operands[0]->data, *const workspace = operands[1]->data;
    const real *const x_tbi = operands[2]->data, *const h_0 = operands[3]->data, *const w_hi = operands[4]->data;
    const real *const b_ih = operands[6]->data, *const b_hh = operands[7]->data;
    const fg_matrix w_hh = {operands[5]->data, 1, hidden};

    const real *bias = b_ih ? b_ih : b_hh;
    if (b_ih && b_hh) {
        for (int64_t k = 0; k < hidden; k++)
            workspace[k] = b_ih[k] + b_hh[k];
        bias = workspace;
    }
    const fg_finish projection = {.out = y_tbh, .out_row = hidden, .add = bias, .alpha = 1, .beta = 1};
    FG_NAME(FN(gemm))(steps * batch, hidden, inputs, (fg_matrix){x_tbi, inputs, 1}, (fg_matrix){w_hi, 1, inputs},
                      &projection);

    real *packed = steps > 1 && steps * batch >= PACKING_PAYS ? workspace + fg_packed_size(hidden) : NULL;
    if (packed)
        FG_NAME(FN(pack))(hidden, hidden, w_hh, packed);
    fg_finish finish = {.out_row = hidden, .add_row = hidden, .alpha = 1, .beta = 1,
                        .mode = params->i[0] == 1 ? FG_RELU : FG_TANH};
    const real *h_bh = h_0;
    for (int64_t s = 0; s < steps; s++) {
        real *y_bh = y_tbh + (params->i[1] ? steps - 1 - s : s) * state;
        finish.out = y_bh;
        finish.add = y_bh;
        FN(multiply_hidden)(batch, hidden, h_bh, w_hh, packed, &finish);
        h_bh = y_bh;
    }
}

static void FN(rnn_backward)(fg_array *const *operands, const fg_params *params)
{
    real *const dx_tbi = operands[0]->data, *const dh_0 = operands[1]->data;
    real *const dw_hi = operands[2]->data, *const dw_hh = operands[3]->data;
    real *const db_ih = operands[4]->data, *const db_hh = operands[5]->data, *const workspace = operands[6]->data;
    const real *const dy_tbh = operands[7]->data, *const y_tbh = operands[8]->data, *const x_tbi = operands[9]->data;
    const real *const h_0 = operands[10]->data, *const w_hi = operands[11]->data;
    const int64_t steps = operands[7]->shape[0], batch = operands[7]->shape[1], hidden = operands[7]->shape[2];
    const int64_t inputs = operands[9]->shape[2], state = batch * hidden, rows = steps * batch;
    const fg_matrix w_hh = {operands[12]->data, hidden, 1};
    const int reverse = params->i[1] != 0, accumulate = params->i[2] != 0;

    real *const dz_tbh = workspace;
    real *packed = steps > 1 && rows >= PACKING_PAYS ? workspace + (rows * hidden + 63) / 64 * 64 : NULL;
    if (packed)
        FG_NAME(FN(pack))(hidden, hidden, w_hh, packed);
    fg_finish finish = {.out_row = hidden, .add_row = hidden, .y_row = hidden, .alpha = 1, .beta = 1,
                        .mode = params->i[0] == 1 ? FG_RELU_GRADIENT : FG_TANH_GRADIENT};
    const real *dz_later = NULL;
    for (int64_t s = steps - 1; s >= 0; s--) {
        const int64_t t = reverse ? steps - 1 - s : s;
        real *dz_bh = dz_tbh + t * state;
        finish.out = dz_bh;
        finish.add = dy_tbh + t * state;
        finish.y = y_tbh + t * state;
        FN(multiply_hidden)(batch, hidden, dz_later, w_hh, packed, &finish);
        dz_later = dz_bh;
    }
    if (dh_0)
        FN(multiply_hidden)(batch, hidden, dz_later, w_hh, packed,
                            &(fg_finish){.out = dh_0, .out_row = hidden, .alpha = 1});
    if (dx_tbi)
        FG_NAME(FN(gemm))(rows, inputs, hidden, (fg_matrix){dz_tbh, hidden, 1}, (fg_matrix){w_hi, inputs, 1},
                          &(fg_finish){.out = dx_tbi, .out_row = inputs, .alpha = 1});
    if (dw_hi)
        FG_NAME(FN(gemm))(hidden, inputs, rows, (fg_matrix){dz_tbh, 1, hidden}, (fg_matrix){x_tbi, inputs, 1},
                          &(fg_finish){.out = dw_hi, .out_row = inputs, .add = accumulate ? dw_hi : NULL,
                                       .add_row = inputs, .alpha = 1, .beta = 1});
    if (dw_hh) {
        /* dz_t meets h_(t-1): y one step earlier, and h_0 at the first step. */
        fg_finish sum = {.out = dw_hh, .out_row = hidden, .add = accumulate ? dw_hh : NULL, .add_row = hidden,
                         .alpha = 1, .beta = 1};
        const int64_t earlier = rows > batch ? rows - batch : 0;
        const real *dz = reverse ? dz_tbh : dz_tbh + state, *h = reverse ? y_tbh + state : y_tbh;
        FG_NAME(FN(gemm))(hidden, hidden, earlier, (fg_matrix){dz, 1, hidden}, (fg_matrix){h, hidden, 1}, &sum);
        if (h_0 && steps > 0) {
            sum.add = dw_hh;
            FG_NAME(FN(gemm))(hidden, hidden, batch, (fg_matrix){dz_later, 1, hidden}, (fg_matrix){h_0, hidden, 1},
                              &sum);
        }
    }
    if (db_ih)
        FG_NAME(FN(column_sums))(rows, hidden, dz_tbh, accumulate, db_ih);
    if (db_hh && db_hh != db_ih)
        FG_NAME(FN(column_sums))(rows, hidden, dz_tbh, accumulate, db_hh);
}

#endif
