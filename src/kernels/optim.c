/* The optimizers' steps, and what gradient clipping needs: one launch over all parameters. */
#ifndef REAL_BITS
#include "array.h"
#include "simd.h"

#define BODY "optim.c"
#include "each_real.h"

/* Calls name_f32 or name_f64 for each group of `size` operands from the first-th on, with its number of elements. */
#define FOR_EACH_GROUP(name, first, size, ...) \
    for (int k_ = first; k_ + size <= operand_count; k_ += size) { \
        fg_array *const *group = operands + k_; \
        const int64_t count = element_count(group[0]); \
        if (group[0]->dtype == FG_FLOAT32) \
            name##_f32(group, count, __VA_ARGS__); \
        else \
            name##_f64(group, count, __VA_ARGS__); \
    }

void FG_NAME(sgd)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    FOR_EACH_GROUP(sgd, 0, 3, params)
}

void FG_NAME(adam)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    FOR_EACH_GROUP(adam, 0, 5, params)
}

/* The p-norm is (sum |x|^p)^(1/p); p = 0 counts the nonzero elements. */
void FG_NAME(norm_many)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    const double p = params->f[0];
    double total = 0;
    FOR_EACH_GROUP(add_powers, 1, 1, p, &total)
    *(double *)operands[0]->data = isinf(p) || p == 0 || p == 1 ? total : p == 2 ? sqrt(total) : pow(total, 1 / p);
}

void FG_NAME(scale_many)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    FOR_EACH_GROUP(scale, 0, 1, params->f[0])
}

#else

/* torch.optim.SGD. The conditions hold for all elements, so the compiler takes them out of the loop. */
static void FN(sgd)(fg_array *const *group, int64_t count, const fg_params *params)
{
    real *restrict p = group[0]->data, *restrict buffer = group[2]->data;
    const real *restrict gradient = group[1]->data;
    const real lr = (real)params->f[0], momentum = (real)params->f[1], undamped = (real)(1 - params->f[2]);
    const real weight_decay = (real)params->f[3];
    const int nesterov = params->i[0] != 0, maximize = params->i[1] != 0, first_step = params->i[2] != 0;
    for (int64_t k = 0; k < count; k++) {
        real g = maximize ? -gradient[k] : gradient[k];
        if (weight_decay != 0)
            g += weight_decay * p[k];
        if (buffer) {
            buffer[k] = first_step ? g : momentum * buffer[k] + undamped * g;
            g = nesterov ? g + momentum * buffer[k] : buffer[k];
        }
        p[k] -= lr * g;
    }
}

/* torch.optim.Adam, and AdamW where the weight decay is decoupled. */
INLINE void FN(adam_loop)(fg_array *const *group, int64_t count, const fg_params *params, int amsgrad)
{
    real *restrict p = group[0]->data, *restrict m = group[2]->data, *restrict v = group[3]->data;
    real *restrict v_max = group[4]->data;
    const real *restrict gradient = group[1]->data;
    const double lr = params->f[0];
    const real beta2 = (real)params->f[2], eps = (real)params->f[3];
    const real towards_g = (real)(1 - params->f[1]), towards_square = (real)(1 - params->f[2]);
    const real step_size = (real)(lr / params->f[5]), correction = (real)sqrt(params->f[6]);
    const int decoupled = params->i[0] != 0, maximize = params->i[2] != 0;
    const real weight_decay = decoupled ? 0 : (real)params->f[4];
    const real shrink = decoupled ? (real)(1 - lr * params->f[4]) : 1;
    for (int64_t k = 0; k < count; k++) {
        const real w = p[k] * shrink;
        real g = maximize ? -gradient[k] : gradient[k];
        g = weight_decay != 0 ? g + weight_decay * w : g;
        m[k] += towards_g * (g - m[k]);
        v[k] = beta2 * v[k] + towards_square * g * g;
        real square = v[k];
        if (amsgrad)
            square = v_max[k] = v_max[k] > square || v_max[k] != v_max[k] ? v_max[k] : square;
        p[k] = w - step_size * m[k] / (PICK(sqrtf, sqrt)(square) / correction + eps);
    }
}

/* A loop for each of the two, because one with a conditional store is not vectorised. */
static void FN(adam)(fg_array *const *group, int64_t count, const fg_params *params)
{
    if (params->i[1])
        FN(adam_loop)(group, count, params, 1);
    else
        FN(adam_loop)(group, count, params, 0);
}

/* Adds |x|^p of all elements to the total, or takes their largest magnitude into it. */
static void FN(add_powers)(fg_array *const *group, int64_t count, double p, double *total)
{
    const real *restrict x = group[0]->data;
    double sum[16] = {0}, largest = *total;  /* 16 partial sums, for accuracy and for vectors */
    if (p == 2) {
        int64_t k = 0;
        for (; k + 16 <= count; k += 16)
            for (int j = 0; j < 16; j++)
                sum[j] += (double)x[k + j] * (double)x[k + j];
        for (; k < count; k++)
            sum[0] += (double)x[k] * (double)x[k];
    } else if (isinf(p)) {
        for (int64_t k = 0; k < count; k++) {
            const double magnitude = fabs((double)x[k]);
            largest = largest >= magnitude || largest != largest ? largest : magnitude;
        }
        *total = largest;
        return;
    } else {
        for (int64_t k = 0; k < count; k++)
            sum[k % 16] += p == 0 ? x[k] != 0 : p == 1 ? fabs((double)x[k]) : pow(fabs((double)x[k]), p);
    }
    for (int j = 0; j < 16; j++)
        *total += sum[j];
}

static void FN(scale)(fg_array *const *group, int64_t count, double factor)
{
    real *x = group[0]->data;
    for (int64_t k = 0; k < count; k++)
        x[k] *= (real)factor;
}

#endif
