/* Copies with a cast, fills, and arange. */
#include "elementwise.h"

/* Rows of the general case; a step of 0 is a number or a broadcast axis. */
#define COPY_LOOP(function, R, X, formula) \
    LOOP_HEAD(function) \
    { \
        R *out_data = (R *)data[0]; \
        const X *x_data = (const X *)data[1]; \
        (void)params; \
        if (step[0] == 1 && step[1] == 1) \
            INDEPENDENT UNARY_ROW(X, X, formula, 1, 1) \
        else if (step[0] == 1 && step[1] == 0) \
            INDEPENDENT UNARY_ROW(X, X, formula, 1, 0) \
        else \
            UNARY_ROW(X, X, formula, step[0], step[1]) \
    }

/* What the x86 conversion gives for NaN and for numbers beyond the integers, on every machine: the least integer. C
 * leaves it undefined. A uint8 takes the low bits (PyTorch's c10::convert goes through int64 too). */
#define FLOAT_TO_I32(x) ((x) >= -0x1p31 && (x) < 0x1p31 ? (int32_t)(x) : INT32_MIN)
#define FLOAT_TO_I64(x) ((x) >= -0x1p63f && (x) < 0x1p63f ? (int64_t)(x) : INT64_MIN)

/* From x of type X to every dtype, given how to make an integer of it. */
#define COPIES_FROM(name, X, to_i32, to_i64) \
    COPY_LOOP(name##_to_bool, uint8_t, X, x != 0) \
    COPY_LOOP(name##_to_u8, uint8_t, X, (uint8_t)(to_i64)) \
    COPY_LOOP(name##_to_i32, int32_t, X, to_i32) \
    COPY_LOOP(name##_to_i64, int64_t, X, to_i64) \
    COPY_LOOP(name##_to_f32, float, X, (float)x) \
    COPY_LOOP(name##_to_f64, double, X, x)
COPIES_FROM(u8, uint8_t, x, x)
COPIES_FROM(i32, int32_t, x, x)
COPIES_FROM(i64, int64_t, (int32_t)x, x)
COPIES_FROM(f32, float, FLOAT_TO_I32(x), FLOAT_TO_I64(x))
COPIES_FROM(f64, double, FLOAT_TO_I32(x), FLOAT_TO_I64(x))

#define COPY_ROW(name) {name##_to_bool, name##_to_u8, name##_to_i32, name##_to_i64, name##_to_f32, name##_to_f64}
static const element_loop copy_loops[FG_DTYPE_COUNT][FG_DTYPE_COUNT] = {
    [FG_BOOL] = COPY_ROW(u8),    [FG_UINT8] = COPY_ROW(u8),    [FG_INT32] = COPY_ROW(i32),
    [FG_INT64] = COPY_ROW(i64),  [FG_FLOAT32] = COPY_ROW(f32), [FG_FLOAT64] = COPY_ROW(f64),
};

void FG_NAME(copy)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    for_each_element(operands, 2, params, copy_loops[operands[1]->dtype][operands[0]->dtype]);
}

void FG_NAME(arange)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    const int64_t count = operands[0]->shape[0];
    const double start = params->f[0], step = params->f[1];
    const uint64_t first = (uint64_t)params->i[0], increment = (uint64_t)params->i[1];
    void *out = operands[0]->data;
    (void)operand_count;
#define FILL(T, value) \
    for (int64_t k = 0; k < count; k++) \
        ((T *)out)[k] = (T)(value); \
    break
    switch (operands[0]->dtype) {
    case FG_UINT8: FILL(uint8_t, first + (uint64_t)k * increment);
    case FG_INT32: FILL(int32_t, first + (uint64_t)k * increment);
    case FG_INT64: FILL(int64_t, first + (uint64_t)k * increment);
    case FG_FLOAT32: FILL(float, fma((double)k, step, start));  /* fused, so the same with every instruction set */
    default: FILL(double, fma((double)k, step, start));
    }
#undef FILL
}
