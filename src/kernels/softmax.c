/* softmax, log_softmax and cross_entropy along the rows of a contiguous matrix.
 *
 * The row's maximum m is subtracted before exp, so no finite logit overflows: with s = sum(exp(x - m)),
 * softmax(x) = exp(x - m)/s and log_softmax(x) = x - m - log(s). The maximum passes NaN over; a NaN, an inf or a row
 * of -inf makes s NaN, and so the whole row NaN, as in PyTorch. */
#ifndef REAL_BITS
#include "kernel.h"
#include "simd.h"

enum { REDUCTION_NONE, REDUCTION_MEAN, REDUCTION_SUM };

#define BODY "softmax.c"
#include "each_real.h"

#define ENTRY(name, ...) \
    void FG_NAME(name)(fg_array *const *operands, int operand_count, const fg_params *params) \
    { \
        (void)operand_count, (void)params; \
        if (operands[0]->dtype == FG_FLOAT32) \
            name##_f32(__VA_ARGS__); \
        else \
            name##_f64(__VA_ARGS__); \
    }

ENTRY(softmax, operands)
ENTRY(softmax_backward, operands)
ENTRY(log_softmax, operands)
ENTRY(log_softmax_backward, operands)
ENTRY(cross_entropy, operands, params)
ENTRY(cross_entropy_backward, operands, params)

#else

/* The last n < LANES elements of a row, followed by -inf, which changes neither a maximum nor a sum of exp. */
INLINE vec FN(load_tail)(const real *x, int64_t n)
{
    ivec lane;
    for (int k = 0; k < LANES; k++)
        lane[k] = k;
    return vec_select(lane < (ivec){0} + (ireal)n, vec_load_n(x, n), vec_splat(-(real)INFINITY));
}

INLINE real FN(row_max)(const real *x, int64_t n)
{
    vec m0 = vec_splat(-(real)INFINITY), m1 = m0, m2 = m0, m3 = m0;
    int64_t k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        m0 = vec_max(vec_load(x + k), m0);
        m1 = vec_max(vec_load(x + k + LANES), m1);
        m2 = vec_max(vec_load(x + k + 2 * LANES), m2);
        m3 = vec_max(vec_load(x + k + 3 * LANES), m3);
    }
    for (; k + LANES <= n; k += LANES)
        m0 = vec_max(vec_load(x + k), m0);
    if (k < n)
        m1 = vec_max(FN(load_tail)(x + k, n - k), m1);
    return vec_largest(vec_max(vec_max(m0, m1), vec_max(m2, m3)));
}

/* y = exp(x - max), unless y is NULL; returns its sum. */
INLINE real FN(exp_row)(real *y, const real *x, int64_t n, real max)
{
    vec s0 = vec_splat(0), s1 = s0;
    int64_t k = 0;
    for (; k + 2 * LANES <= n; k += 2 * LANES) {
        vec e0 = vec_exp(vec_load(x + k) - max), e1 = vec_exp(vec_load(x + k + LANES) - max);
        s0 += e0;
        s1 += e1;
        if (y) {
            vec_store(y + k, e0);
            vec_store(y + k + LANES, e1);
        }
    }
    if (k + LANES <= n) {
        vec e = vec_exp(vec_load(x + k) - max);
        s0 += e;
        if (y)
            vec_store(y + k, e);
        k += LANES;
    }
    if (k < n) {
        vec e = vec_exp(FN(load_tail)(x + k, n - k) - max);
        s1 += e;
        if (y)
            vec_store_n(y + k, n - k, e);
    }
    return vec_sum(s0 + s1);
}

/* As many elements as the row has left, up to LANES. */
INLINE vec FN(load_some)(const real *p, int64_t left) { return left < LANES ? vec_load_n(p, left) : vec_load(p); }

INLINE void FN(store_some)(real *p, int64_t left, vec x)
{
    if (left < LANES)
        vec_store_n(p, left, x);
    else
        vec_store(p, x);
}

INLINE void FN(scale_row)(real *y, const real *x, int64_t n, real factor)
{
    for (int64_t k = 0; k < n; k += LANES)
        FN(store_some)(y + k, n - k, FN(load_some)(x + k, n - k) * factor);
}

/* The logarithms of the first count numbers; a load of one number just stored would wait if it were a whole vector's. */
INLINE vec FN(log_some)(const real *x, int64_t count) { return vec_log(count == 1 ? vec_splat(x[0]) : vec_load(x)); }

/* sum(a * b), or sum(a) with b NULL. */
INLINE real FN(row_dot)(const real *a, const real *b, int64_t n)
{
    vec s0 = vec_splat(0), s1 = s0, s2 = s0, s3 = s0;
    int64_t k = 0;
    for (; k + 4 * LANES <= n; k += 4 * LANES) {
        s0 += b ? vec_load(a + k) * vec_load(b + k) : vec_load(a + k);
        s1 += b ? vec_load(a + k + LANES) * vec_load(b + k + LANES) : vec_load(a + k + LANES);
        s2 += b ? vec_load(a + k + 2 * LANES) * vec_load(b + k + 2 * LANES) : vec_load(a + k + 2 * LANES);
        s3 += b ? vec_load(a + k + 3 * LANES) * vec_load(b + k + 3 * LANES) : vec_load(a + k + 3 * LANES);
    }
    for (; k < n; k += LANES)
        s0 += b ? FN(load_some)(a + k, n - k) * FN(load_some)(b + k, n - k) : FN(load_some)(a + k, n - k);
    return vec_sum((s0 + s1) + (s2 + s3));
}

/* softmax of a row of up to two vectors, which stay in registers from the first pass to the last. */
INLINE real FN(short_softmax_row)(real *y, const real *x, int64_t n, int vectors, real *max)
{
    vec e[2];
    for (int k = 0; k < vectors; k++)
        e[k] = n - k * LANES < LANES ? FN(load_tail)(x + k * LANES, n - k * LANES) : vec_load(x + k * LANES);
    const vec ignore_nan = vec_max(e[0], vec_splat(-(real)INFINITY));
    *max = vec_largest(vectors == 1 ? ignore_nan : vec_max(e[1], ignore_nan));
    for (int k = 0; k < vectors; k++)
        e[k] = vec_exp(e[k] - *max);
    const real sum = vec_sum(vectors == 1 ? e[0] : e[0] + e[1]);
    for (int k = 0; k < vectors; k++)
        FN(store_some)(y + k * LANES, n - k * LANES, e[k] * (1 / sum));
    return sum;
}

/* y = softmax(x); returns sum(exp(x - max)). */
INLINE real FN(softmax_row)(real *y, const real *x, int64_t n, real *max)
{
    if (n <= LANES)
        return FN(short_softmax_row)(y, x, n, 1, max);
    if (n <= 2 * LANES)
        return FN(short_softmax_row)(y, x, n, 2, max);
    *max = FN(row_max)(x, n);
    const real sum = FN(exp_row)(y, x, n, *max);
    FN(scale_row)(y, y, n, 1 / sum);
    return sum;
}

static void FN(softmax)(fg_array *const *operands)
{
    const int64_t rows = operands[1]->shape[0], n = operands[1]->shape[1];
    const real *x = operands[1]->data;
    real *y = operands[0]->data;
    real max;
    for (int64_t row = 0; row < rows; row++, x += n, y += n)
        FN(softmax_row)(y, x, n, &max);
}

static void FN(softmax_backward)(fg_array *const *operands)
{
    const int64_t rows = operands[1]->shape[0], n = operands[1]->shape[1];
    const real *dy = operands[1]->data, *y = operands[2]->data;
    real *dx = operands[0]->data;
    for (int64_t row = 0; row < rows; row++, dx += n, dy += n, y += n) {
        const real dot = FN(row_dot)(dy, y, n);
        for (int64_t k = 0; k < n; k += LANES)
            FN(store_some)(dx + k, n - k, FN(load_some)(y + k, n - k) * (FN(load_some)(dy + k, n - k) - dot));
    }
}

static void FN(log_softmax)(fg_array *const *operands)
{
    const int64_t rows = operands[1]->shape[0], n = operands[1]->shape[1];
    const int64_t together = n <= 4 * LANES ? LANES : 1; /* short rows share one vec_log, long ones stay in the cache */
    const real *x = operands[1]->data;
    real *y = operands[0]->data;
    for (int64_t first = 0; first < rows; first += together, x += together * n, y += together * n) {
        const int64_t count = rows - first < together ? rows - first : together;
        real max[LANES], sum[LANES];
        vec_store(sum, vec_splat(1));
        for (int64_t row = 0; row < count; row++) {
            max[row] = FN(row_max)(x + row * n, n);
            sum[row] = FN(exp_row)(NULL, x + row * n, n, max[row]);
        }
        const vec log_sum = FN(log_some)(sum, count);
        for (int64_t row = 0; row < count; row++)
            for (int64_t k = row * n; k < (row + 1) * n; k += LANES) {
                const int64_t left = (row + 1) * n - k;
                FN(store_some)(y + k, left, FN(load_some)(x + k, left) - max[row] - log_sum[row]);
            }
    }
}

static void FN(log_softmax_backward)(fg_array *const *operands)
{
    const int64_t rows = operands[1]->shape[0], n = operands[1]->shape[1];
    const real *dy = operands[1]->data, *y = operands[2]->data;
    real *dx = operands[0]->data;
    for (int64_t row = 0; row < rows; row++, dx += n, dy += n, y += n) {
        const real sum = FN(row_dot)(dy, NULL, n);
        for (int64_t k = 0; k < n; k += LANES)
            FN(store_some)(dx + k, n - k,
                           FN(load_some)(dy + k, n - k) - vec_exp(FN(load_some)(y + k, n - k)) * sum);
    }
}

/* What the mean divides by: the summed weights of the targets that count. */
static double FN(target_weight)(const int64_t *target, const real *weight, int64_t rows, int64_t ignore_index)
{
    double total = 0;
    for (int64_t row = 0; row < rows; row++)
        if (target[row] != ignore_index)
            total += weight ? weight[target[row]] : 1;
    return total;
}

/* sum_c w_c (-log p_c) */
INLINE real FN(row_surprise)(const real *x, const real *weight, int64_t classes, real max, real log_sum)
{
    vec sums = vec_splat(0);
    int64_t k = 0;
    for (; k + LANES <= classes; k += LANES)
        sums += (log_sum - (vec_load(x + k) - max)) * (weight ? vec_load(weight + k) : vec_splat(1));
    real sum = vec_sum(sums);
    for (; k < classes; k++)
        sum += (log_sum - (x[k] - max)) * (weight ? weight[k] : 1);
    return sum;
}

/* With log p = log_softmax(x), e = label smoothing and t the target:
 * loss = (1 - e) w_t (-log p_t) + e/C sum_c w_c (-log p_c)
 * https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html */
static void FN(cross_entropy)(fg_array *const *operands, const fg_params *params)
{
    const int64_t rows = operands[2]->shape[0], classes = operands[2]->shape[1];
    const int64_t *target = operands[3]->data, ignore_index = params->i[0], reduction = params->i[1];
    const real *x = operands[2]->data, *weight = operands[4]->data;
    const real smoothing = (real)params->f[0];
    real *loss = operands[0]->data, *probability = operands[1]->data;
    double total = 0;
    /* LANES rows at a time, so that one vec_log serves them all. */
    for (int64_t first = 0; first < rows; first += LANES, target += LANES, x += LANES * classes) {
        const int64_t count = rows - first < LANES ? rows - first : LANES;
        real max[LANES], sum[LANES];
        vec_store(sum, vec_splat(1));
        for (int64_t row = 0; row < count; row++) {
            const real *logits = x + row * classes;
            if (probability) {
                sum[row] = FN(softmax_row)(probability + (first + row) * classes, logits, classes, &max[row]);
            } else if (target[row] != ignore_index) {
                max[row] = FN(row_max)(logits, classes);
                sum[row] = FN(exp_row)(NULL, logits, classes, max[row]);
            }
        }
        const vec log_sum = FN(log_some)(sum, count);
        for (int64_t row = 0; row < count; row++) {
            const int64_t t = target[row];
            real row_loss = 0;
            if (t != ignore_index) {
                row_loss = (log_sum[row] - (x[row * classes + t] - max[row])) * (weight ? weight[t] : 1);
                if (smoothing != 0)
                    row_loss = (1 - smoothing) * row_loss +
                               smoothing / classes * FN(row_surprise)(x + row * classes, weight, classes, max[row],
                                                                      log_sum[row]);
            }
            if (reduction == REDUCTION_NONE)
                loss[first + row] = row_loss;
            total += row_loss;
        }
    }
    if (reduction == REDUCTION_MEAN)
        *loss = (real)(total / FN(target_weight)(operands[3]->data, weight, rows, ignore_index));
    else if (reduction == REDUCTION_SUM)
        *loss = (real)total;
}

/* dx_c = dloss ((1 - e) w_t (p_c - [c = t]) + e/C (p_c sum(w) - w_c)) */
static void FN(cross_entropy_backward)(fg_array *const *operands, const fg_params *params)
{
    const int64_t rows = operands[2]->shape[0], classes = operands[2]->shape[1];
    const int64_t *target = operands[3]->data, ignore_index = params->i[0], reduction = params->i[1];
    const real *dloss = operands[1]->data, *probability = operands[2]->data, *weight = operands[4]->data;
    const real smoothing = (real)params->f[0];
    const int64_t dloss_step = reduction == REDUCTION_NONE && operands[1]->ndim ? operands[1]->strides[0] : 0;
    real *dx = operands[0]->data;
    const double counted =
        reduction == REDUCTION_MEAN ? FN(target_weight)(target, weight, rows, ignore_index) : 1;
    const real all_weights = smoothing == 0 ? 0 : weight ? FN(row_dot)(weight, NULL, classes) : classes;
    for (int64_t row = 0; row < rows; row++, dx += classes, probability += classes) {
        const int64_t t = target[row];
        if (t == ignore_index) {
            memset(dx, 0, classes * sizeof *dx);
            continue;
        }
        const real d = (real)(dloss[row * dloss_step] / counted);
        const real at_target = d * (1 - smoothing) * (weight ? weight[t] : 1);
        if (smoothing == 0) {
            FN(scale_row)(dx, probability, classes, at_target);
        } else {
            const real smooth = d * smoothing / classes, factor = at_target + smooth * all_weights;
            for (int64_t k = 0; k < classes; k++)
                dx[k] = factor * probability[k] - smooth * (weight ? weight[k] : 1);
        }
        dx[t] -= at_target;
    }
}

#endif
