/* Matrix products and the linear layer. */
#ifndef REAL_BITS
#include "gemm.h"
#include "simd.h"

#define BODY "matmul.c"
#include "each_real.h"

#define BY_DTYPE(array, name, ...)                                                                                    \
    ((array)->dtype == FG_FLOAT32 ? name##_f32(__VA_ARGS__) : name##_f64(__VA_ARGS__))

void FG_NAME(matmul)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    BY_DTYPE(operands[0], matmul, operands[0], operands[1], operands[2], params);
}

void FG_NAME(linear)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count, (void)params;
    BY_DTYPE(operands[0], linear, operands[0], operands[1], operands[2], operands[3]);
}

void FG_NAME(linear_backward)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    BY_DTYPE(operands[3], linear_backward, operands[0], operands[1], operands[2], operands[3], operands[4], operands[5],
             params->i[0] != 0);
}

#else

static void FN(matmul)(const fg_array *out, const fg_array *a, const fg_array *b, const fg_params *params)
{
    const int batched = out->ndim == 3;
    const int64_t batch = batched ? out->shape[0] : 1;
    const int64_t m = out->shape[batched], n = out->shape[batched + 1], k = a->shape[batched + 1];
    const fg_matrix a_matrix = {a->data, a->strides[batched], a->strides[batched + 1]};
    const fg_matrix b_matrix = {b->data, b->strides[batched], b->strides[batched + 1]};
    fg_finish finish = {.out_row = n, .add_row = n, .alpha = params->f[1], .beta = params->f[0]};
    for (int64_t p = 0; p < batch; p++) {
        finish.out = (real *)out->data + p * m * n;
        finish.add = finish.beta != 0 ? finish.out : NULL;
        fg_matrix a_p = a_matrix, b_p = b_matrix;
        if (batched) {
            a_p.data = (const real *)a->data + p * a->strides[0];
            b_p.data = (const real *)b->data + p * b->strides[0];
        }
        FG_NAME(FN(gemm))(m, n, k, a_p, b_p, &finish);
    }
}

static void FN(linear)(const fg_array *y, const fg_array *x, const fg_array *w, const fg_array *b)
{
    const int64_t batch = x->shape[0], inputs = x->shape[1], outputs = w->shape[0];
    const fg_finish finish = {.out = y->data, .out_row = outputs, .add = b->data, .alpha = 1, .beta = 1};
    FG_NAME(FN(gemm))(batch, outputs, inputs, (fg_matrix){x->data, inputs, 1}, (fg_matrix){w->data, 1, inputs}, &finish);
}

static void FN(linear_backward)(const fg_array *dx, const fg_array *dw, const fg_array *db, const fg_array *dy,
                                const fg_array *x, const fg_array *w, int accumulate)
{
    const int64_t batch = dy->shape[0], outputs = dy->shape[1];
    if (dx->data) {
        const int64_t inputs = w->shape[1];
        const fg_finish finish = {.out = dx->data, .out_row = inputs, .alpha = 1};
        FG_NAME(FN(gemm))(batch, inputs, outputs, (fg_matrix){dy->data, outputs, 1}, (fg_matrix){w->data, inputs, 1}, &finish);
    }
    if (dw->data) {
        const int64_t inputs = x->shape[1];
        const fg_finish finish = {.out = dw->data, .out_row = inputs, .add = accumulate ? dw->data : NULL,
                                  .add_row = inputs, .alpha = 1, .beta = 1};
        FG_NAME(FN(gemm))(outputs, inputs, batch, (fg_matrix){dy->data, 1, outputs}, (fg_matrix){x->data, inputs, 1}, &finish);
    }
    if (db->data)
        FG_NAME(FN(column_sums))(batch, outputs, dy->data, accumulate, db->data);
}

#endif
