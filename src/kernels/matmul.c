/* Matrix products and the linear layer. */
#ifndef REAL_BITS
#include "gemm.h"
#include "simd.h"

/* The stride of an axis of length 1 says nothing; it is set to what the other axis calls for. */
static fg_matrix last_two_axes(const fg_array *x)
{
    const int64_t *shape = x->shape + x->ndim - 2, *strides = x->strides + x->ndim - 2;
    const int by_rows = strides[1] == 1 || shape[1] == 1;
    return (fg_matrix){x->data, by_rows ? (shape[0] == 1 ? shape[1] : strides[0]) : 1, by_rows ? 1 : strides[1]};
}

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
    const int row = out->ndim - 2;
    const int64_t batch = row ? out->shape[0] : 1, m = out->shape[row], n = out->shape[row + 1], k = a->shape[row + 1];
    fg_matrix a_mk = last_two_axes(a), b_kn = last_two_axes(b);
    fg_finish finish = {.out = out->data, .out_row = n, .add_row = n, .alpha = params->f[1], .beta = params->f[0]};
    for (int64_t p = 0; p < batch; p++) {
        finish.add = finish.beta != 0 ? finish.out : NULL;
        FG_NAME(FN(gemm))(m, n, k, a_mk, b_kn, &finish);
        if (row) {
            a_mk.data = (const real *)a_mk.data + a->strides[0];
            b_kn.data = (const real *)b_kn.data + b->strides[0];
            finish.out = (real *)finish.out + m * n;
        }
    }
}

static void FN(linear)(const fg_array *y, const fg_array *x, const fg_array *w, const fg_array *b)
{
    const int64_t batch = x->shape[0], inputs = x->shape[1], outputs = w->shape[0];
    const fg_finish finish = {.out = y->data, .out_row = outputs, .add = b->data, .alpha = 1, .beta = 1};
    FG_NAME(FN(gemm))(batch, outputs, inputs, (fg_matrix){x->data, inputs, 1}, (fg_matrix){w->data, 1, inputs},
                      &finish);
}

static void FN(linear_backward)(const fg_array *dx, const fg_array *dw, const fg_array *db, const fg_array *dy,
                                const fg_array *x, const fg_array *w, int accumulate)
{
    const int64_t batch = dy->shape[0], outputs = dy->shape[1];
    if (dx->data) {
        const int64_t inputs = w->shape[1];
        const fg_finish finish = {.out = dx->data, .out_row = inputs, .alpha = 1};
        FG_NAME(FN(gemm))(batch, inputs, outputs, (fg_matrix){dy->data, outputs, 1}, (fg_matrix){w->data, inputs, 1},
                          &finish);
    }
    if (dw->data) {
        const int64_t inputs = x->shape[1];
        const fg_finish finish = {.out = dw->data, .out_row = inputs, .add = accumulate ? dw->data : NULL,
                                  .add_row = inputs, .alpha = 1, .beta = 1};
        FG_NAME(FN(gemm))(outputs, inputs, batch, (fg_matrix){dy->data, 1, outputs}, (fg_matrix){x->data, inputs, 1},
                          &finish);
    }
    if (db->data)
        FG_NAME(FN(column_sums))(batch, outputs, dy->data, outputs, accumulate, db->data);
}

#endif
