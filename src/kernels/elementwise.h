/* The mechanism of the elementwise kernels: for_each_element runs an inner loop over operands of one shape, any strides,
 * some of them numbers, and the macros below it make inner loops and a kernel out of a formula. */
#ifndef FASTGRAD_ELEMENTWISE_H
#define FASTGRAD_ELEMENTWISE_H

#include "array.h"
#include "simd.h"

#define MAX_OPERANDS 5

/* Computes `count` elements. Operand k's first one is at data[k], the next one step[k] elements further. */
typedef void (*element_loop)(char *const *data, const int64_t *step, int64_t count, const fg_params *params);

/* Promises the compiler that no iteration reads what an earlier one wrote: an output is either exactly an input or
 * apart from it. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Writes operand k's number to memory in its own dtype. */
static inline void store_number(void *place, int dtype, const fg_params *params, int k)
{
    switch (dtype) {
    case FG_BOOL:
    case FG_UINT8: *(uint8_t *)place = (uint8_t)params->i[k]; break;
    case FG_INT32: *(int32_t *)place = (int32_t)params->i[k]; break;
    case FG_INT64: *(int64_t *)place = params->i[k]; break;
    case FG_FLOAT32: *(float *)place = (float)params->f[k]; break;
    default: *(double *)place = params->f[k]; break;
    }
}

typedef struct axis {
    int64_t length;
    int64_t step[MAX_OPERANDS];
} axis;

/* Where the innermost axis is not an input's fastest one, the innermost axis is cut into pieces of this length, and the
 * input's fastest axis comes next, so that its cache lines are used whole (a blocked transposition). */
#define TRANSPOSED_PIECE 32

static inline int is_transposed(const axis *other, const axis *inner, int operand_count)
{
    for (int k = 1; k < operand_count; k++)
        if (other->step[k] == 1 && inner->step[k] > 1)
            return 1;
    return 0;
}

/* Orders the axes by the output's strides, leaves out those of length 1 and joins those that are one axis in every
 * operand; returns how many are left. */
static inline int ordered_axes(fg_array *const *operands, int operand_count, axis *axes)
{
    int axis_count = 0, last = 0;
    axes[0] = (axis){.length = 1};
    for (int d = 0; d < operands[0]->ndim; d++) {
        axis one = {.length = operands[0]->shape[d]};
        if (one.length == 1)
            continue;
        for (int k = 0; k < operand_count; k++)
            one.step[k] = operands[k]->data ? operands[k]->strides[d] : 0;
        int place = axis_count++;
        for (; place > 0 && axes[place - 1].step[0] < one.step[0]; place--)
            axes[place] = axes[place - 1];
        axes[place] = one;
    }
    for (int d = 1; d < axis_count; d++) {
        int joined = 1;
        for (int k = 0; k < operand_count; k++)
            joined &= axes[last].step[k] == axes[d].step[k] * axes[d].length;
        const int64_t length = axes[d].length * (joined ? axes[last].length : 1);
        last += !joined;
        axes[last] = axes[d];
        axes[last].length = length;
    }
    return last + 1;
}

/* The general case: calls the loop for the innermost axis, or a piece of it, at every position of the other axes. */
static __attribute__((noinline)) void for_each_row(fg_array *const *operands, int operand_count, char **data,
                                                   const fg_params *params, element_loop loop)
{
    axis axes[FG_MAX_NDIM];
    const int outer_count = ordered_axes(operands, operand_count, axes) - 1;
    const axis *inner = axes + outer_count;
    int64_t size[MAX_OPERANDS], position[FG_MAX_NDIM] = {0}, piece = inner->length;
    for (int k = 0; k < operand_count; k++)
        size[k] = item_size(operands[k]->dtype);
    for (int d = 0; d < outer_count; d++)
        if (is_transposed(axes + d, inner, operand_count)) {
            const axis fastest = axes[d];
            for (; d + 1 < outer_count; d++)
                axes[d] = axes[d + 1];
            axes[d] = fastest;
            piece = TRANSPOSED_PIECE;
        }
    for (int64_t done = 0; done < inner->length; done += piece) {
        int d;
        do {
            loop(data, inner->step, inner->length - done < piece ? inner->length - done : piece, params);
            for (d = outer_count - 1; d >= 0; d--) {
                const int64_t turns = ++position[d] < axes[d].length ? 1 : 1 - axes[d].length;
                for (int k = 0; k < operand_count; k++)
                    data[k] += turns * axes[d].step[k] * size[k];
                if (turns == 1)
                    break;
                position[d] = 0;
            }
        } while (d >= 0);
        for (int k = 0; k < operand_count; k++)
            data[k] += piece * inner->step[k] * size[k];
    }
}

/* Operands that all are contiguous, or numbers, are one row. */
static inline __attribute__((always_inline)) void for_each_element(fg_array *const *operands, int operand_count,
                                                                   const fg_params *params, element_loop loop)
{
    char *data[MAX_OPERANDS];
    int64_t step[MAX_OPERANDS], numbers[MAX_OPERANDS], count = 1;
    for (int k = 0; k < operand_count; k++) {
        data[k] = operands[k]->data;
        step[k] = 1;
        if (!data[k] && k > 0) {
            data[k] = (char *)(numbers + k);
            step[k] = 0;
            store_number(data[k], operands[k]->dtype, params, k);
        }
    }
    int contiguous = 1;
    for (int d = operands[0]->ndim - 1; d >= 0; d--) {
        const int64_t length = operands[0]->shape[d];
        if (length == 1)
            continue;
        for (int k = 0; k < operand_count; k++)
            contiguous &= step[k] == 0 || operands[k]->strides[d] == count;
        count *= length;
    }
    if (count == 0)
        return;
    if (contiguous)
        loop(data, step, count, params);
    else
        for_each_row(operands, operand_count, data, params, loop);
}

/* Loops. R is the output's C type, A, B, ... the inputs', U that of an integer input as an unsigned number. Where all
 * steps are 1, or some are those of a number, they are constants to the compiler, and it vectorises the loop. */
#define LOOP_HEAD(function) \
    static void function(char *const *data, const int64_t *step, int64_t count, const fg_params *params)

#define UNARY_ROW(X, U, formula, out_step, x_step) \
    for (int64_t k = 0; k < count; k++) { \
        const X x = x_data[k * (x_step)]; \
        const U ux = (U)x; \
        (void)ux; \
        out_data[k * (out_step)] = (formula); \
    }

#define UNARY_LOOP(function, R, X, U, formula) \
    LOOP_HEAD(function) \
    { \
        R *out_data = (R *)data[0]; \
        const X *x_data = (const X *)data[1]; \
        (void)params; \
        if (step[0] == 1 && step[1] == 1) \
            INDEPENDENT UNARY_ROW(X, U, formula, 1, 1) \
        else \
            UNARY_ROW(X, U, formula, step[0], step[1]) \
    }

#define BINARY_ROW(A, U, formula, out_step, a_step, b_step) \
    for (int64_t k = 0; k < count; k++) { \
        const A a = (a_step) ? a_data[k * (a_step)] : first_a, b = (b_step) ? b_data[k * (b_step)] : first_b; \
        const U ua = (U)a, ub = (U)b; \
        (void)ua, (void)ub; \
        out_data[k * (out_step)] = (formula); \
    }

#define BINARY_LOOP(function, R, A, U, formula) \
    LOOP_HEAD(function) \
    { \
        R *out_data = (R *)data[0]; \
        const A *a_data = (const A *)data[1], *b_data = (const A *)data[2]; \
        const A first_a = *a_data, first_b = *b_data; /* so that tests of a number can leave the loop */ \
        (void)params; \
        if (step[0] == 1 && step[1] == 1 && step[2] == 1) \
            INDEPENDENT BINARY_ROW(A, U, formula, 1, 1, 1) \
        else if (step[0] == 1 && step[1] == 1 && step[2] == 0) \
            INDEPENDENT BINARY_ROW(A, U, formula, 1, 1, 0) \
        else if (step[0] == 1 && step[1] == 0 && step[2] == 1) \
            INDEPENDENT BINARY_ROW(A, U, formula, 1, 0, 1) \
        else \
            BINARY_ROW(A, U, formula, step[0], step[1], step[2]) \
    }

#define TERNARY_ROW(A, B, formula, out_step, a_step, b_step, c_step) \
    for (int64_t k = 0; k < count; k++) { \
        const A a = a_data[k * (a_step)]; \
        const B b = b_data[k * (b_step)], c = c_data[k * (c_step)]; \
        out_data[k * (out_step)] = (formula); \
    }

#define TERNARY_LOOP(function, A, B, formula) \
    LOOP_HEAD(function) \
    { \
        B *out_data = (B *)data[0]; \
        const A *a_data = (const A *)data[1]; \
        const B *b_data = (const B *)data[2], *c_data = (const B *)data[3]; \
        (void)params; \
        if (step[0] != 1 || step[1] != 1) \
            TERNARY_ROW(A, B, formula, step[0], step[1], step[2], step[3]) \
        else if (step[2] == 1 && step[3] == 1) \
            INDEPENDENT TERNARY_ROW(A, B, formula, 1, 1, 1, 1) \
        else if (step[2] == 1 && step[3] == 0) \
            INDEPENDENT TERNARY_ROW(A, B, formula, 1, 1, 1, 0) \
        else if (step[2] == 0 && step[3] == 1) \
            INDEPENDENT TERNARY_ROW(A, B, formula, 1, 1, 0, 1) \
        else if (step[2] == 0 && step[3] == 0) \
            INDEPENDENT TERNARY_ROW(A, B, formula, 1, 1, 0, 0) \
        else \
            TERNARY_ROW(A, B, formula, 1, 1, step[2], step[3]) \
    }

#define QUATERNARY_ROW(T, formula, out_step, a_step, b_step, c_step, d_step) \
    for (int64_t k = 0; k < count; k++) { \
        const T a = a_data[k * (a_step)], b = b_data[k * (b_step)]; \
        const T c = c_data[k * (c_step)], d = d_data[k * (d_step)]; \
        out_data[k * (out_step)] = (formula); \
    }

#define QUATERNARY_LOOP(function, R, T, U, formula) \
    LOOP_HEAD(function) \
    { \
        R *out_data = (R *)data[0]; \
        const T *a_data = (const T *)data[1], *b_data = (const T *)data[2]; \
        const T *c_data = (const T *)data[3], *d_data = (const T *)data[4]; \
        (void)params; \
        if (step[0] == 1 && step[1] == 1 && step[2] == 1 && step[3] == 0 && step[4] == 0) \
            INDEPENDENT QUATERNARY_ROW(T, formula, 1, 1, 1, 0, 0) \
        else \
            QUATERNARY_ROW(T, formula, step[0], step[1], step[2], step[3], step[4]) \
    }

/* A function of simd.h; rows that are strided pass through one vector. */
#define VECTOR_LOOP(name, T, suffix) \
    LOOP_HEAD(name##_##suffix) \
    { \
        enum { lanes = VECTOR_BYTES / sizeof(T) }; \
        T *out = (T *)data[0]; \
        const T *x = (const T *)data[1]; \
        (void)params; \
        int64_t k = 0; \
        if (step[0] == 1 && step[1] == 1) { \
            for (; k + lanes <= count; k += lanes) \
                vec_store_##suffix(out + k, vec_##name##_##suffix(vec_load_##suffix(x + k))); \
            if (k < count) \
                vec_store_n_##suffix(out + k, count - k, vec_##name##_##suffix(vec_load_n_##suffix(x + k, count - k))); \
            return; \
        } \
        for (; k < count; k += lanes) { \
            const int64_t length = count - k < lanes ? count - k : lanes; \
            T part[lanes] = {0}; \
            for (int64_t j = 0; j < length; j++) \
                part[j] = x[(k + j) * step[1]]; \
            vec_store_##suffix(part, vec_##name##_##suffix(vec_load_##suffix(part))); \
            for (int64_t j = 0; j < length; j++) \
                out[(k + j) * step[0]] = part[j]; \
        } \
    }

/* A kernel calls the loop of its last operand's dtype. */
#define BOOL_ENTRY(name) [FG_BOOL] = name##_bool
#define INTEGER_ENTRIES(name) [FG_UINT8] = name##_u8, [FG_INT32] = name##_i32, [FG_INT64] = name##_i64
#define FLOAT_ENTRIES(name) [FG_FLOAT32] = name##_f32, [FG_FLOAT64] = name##_f64

#define DEFINE_KERNEL(name, count, ...) \
    void FG_NAME(name)(fg_array *const *operands, int operand_count, const fg_params *params) \
    { \
        static const element_loop loops[FG_DTYPE_COUNT] = {__VA_ARGS__}; \
        (void)operand_count; \
        for_each_element(operands, count, params, loops[operands[count - 1]->dtype]); \
    }

#define BOOL_LOOP(LOOP, name, formula) LOOP(name##_bool, uint8_t, uint8_t, uint8_t, formula)
#define INTEGER_LOOPS(LOOP, name, formula) \
    LOOP(name##_u8, uint8_t, uint8_t, uint8_t, formula) \
    LOOP(name##_i32, int32_t, int32_t, uint32_t, formula) \
    LOOP(name##_i64, int64_t, int64_t, uint64_t, formula)
#define FLOAT_LOOPS(LOOP, name, formula) \
    LOOP(name##_f32, float, float, float, formula) \
    LOOP(name##_f64, double, double, double, formula)
#define LOOPS_TO_BOOL(LOOP, name, exact, floating) \
    LOOP(name##_bool, uint8_t, uint8_t, uint8_t, exact) \
    LOOP(name##_u8, uint8_t, uint8_t, uint8_t, exact) \
    LOOP(name##_i32, uint8_t, int32_t, uint32_t, exact) \
    LOOP(name##_i64, uint8_t, int64_t, uint64_t, exact) \
    LOOP(name##_f32, uint8_t, float, float, floating) \
    LOOP(name##_f64, uint8_t, double, double, floating)

#define ANY_DTYPE(LOOP, count, name, boolean, integer, floating) \
    BOOL_LOOP(LOOP, name, boolean) \
    INTEGER_LOOPS(LOOP, name, integer) \
    FLOAT_LOOPS(LOOP, name, floating) \
    DEFINE_KERNEL(name, count, BOOL_ENTRY(name), INTEGER_ENTRIES(name), FLOAT_ENTRIES(name))
#define NUMBER_DTYPES(LOOP, count, name, integer, floating) \
    INTEGER_LOOPS(LOOP, name, integer) \
    FLOAT_LOOPS(LOOP, name, floating) \
    DEFINE_KERNEL(name, count, INTEGER_ENTRIES(name), FLOAT_ENTRIES(name))
#define EXACT_DTYPES(LOOP, count, name, boolean, integer) \
    BOOL_LOOP(LOOP, name, boolean) \
    INTEGER_LOOPS(LOOP, name, integer) \
    DEFINE_KERNEL(name, count, BOOL_ENTRY(name), INTEGER_ENTRIES(name))
#define FLOAT_DTYPES(LOOP, count, name, floating) \
    FLOAT_LOOPS(LOOP, name, floating) \
    DEFINE_KERNEL(name, count, FLOAT_ENTRIES(name))
#define TO_BOOL(LOOP, count, name, exact, floating) \
    LOOPS_TO_BOOL(LOOP, name, exact, floating) \
    DEFINE_KERNEL(name, count, BOOL_ENTRY(name), INTEGER_ENTRIES(name), FLOAT_ENTRIES(name))

/* The columns of the table: what the kernel is for bool, for integers, for floats. */
#define UNARY(name, boolean, integer, floating) ANY_DTYPE(UNARY_LOOP, 2, name, boolean, integer, floating)
#define UNARY_NUMBER(name, integer, floating) NUMBER_DTYPES(UNARY_LOOP, 2, name, integer, floating)
#define UNARY_EXACT(name, boolean, integer) EXACT_DTYPES(UNARY_LOOP, 2, name, boolean, integer)
#define UNARY_FLOAT(name, floating) FLOAT_DTYPES(UNARY_LOOP, 2, name, floating)
#define UNARY_TO_BOOL(name, exact, floating) TO_BOOL(UNARY_LOOP, 2, name, exact, floating)
#define BINARY(name, boolean, integer, floating) ANY_DTYPE(BINARY_LOOP, 3, name, boolean, integer, floating)
#define BINARY_NUMBER(name, integer, floating) NUMBER_DTYPES(BINARY_LOOP, 3, name, integer, floating)
#define BINARY_EXACT(name, formula) EXACT_DTYPES(BINARY_LOOP, 3, name, formula, formula)
#define BINARY_FLOAT(name, floating) FLOAT_DTYPES(BINARY_LOOP, 3, name, floating)
#define BINARY_TO_BOOL(name, formula) TO_BOOL(BINARY_LOOP, 3, name, formula, formula)
#define VECTOR(name) \
    VECTOR_LOOP(name, float, f32) \
    VECTOR_LOOP(name, double, f64) \
    DEFINE_KERNEL(name, 2, FLOAT_ENTRIES(name))
#define SELECT_LOOP(function, R, T, U, formula) TERNARY_LOOP(function, uint8_t, T, formula)
#define SELECT(name, formula) ANY_DTYPE(SELECT_LOOP, 4, name, formula, formula, formula)
#define SAME_DTYPE_LOOP(function, R, T, U, formula) TERNARY_LOOP(function, T, T, formula)
#define TERNARY(name, exact, floating) ANY_DTYPE(SAME_DTYPE_LOOP, 4, name, exact, exact, floating)
#define QUATERNARY_FLOAT(name, floating) FLOAT_DTYPES(QUATERNARY_LOOP, 5, name, floating)

#endif
