/* Sums, products, extremes and their positions over any set of axes, and the running sum.
 *
 * The axes of x are split into kept and reduced ones. Where the elements of one output lie side by side in memory, they
 * are combined in several lanes; where neighbouring outputs do, whole rows are combined. Either way partial results of
 * equally many elements are combined pairwise, so the error of a sum grows with log n (Higham, "The accuracy of
 * floating point summation", SIAM J. Sci. Comput. 14, 1993). */
#include "array.h"
#include "simd.h"
#include "walk.h"

typedef enum { SUM, SUM_OF_SQUARES, PROD, MAX, MIN } reduction;

enum {
    BLOCK = 64 * VECTOR_BYTES, /* elements of a row that are combined lane by lane: 64 floats to a lane */
    ROWS = 8,                  /* rows that are combined in one pass */
    COLUMN_BYTES = 2048,       /* of columns side by side; all their partial results stay in the first-level cache */
    LEVELS = 20,               /* of pairwise combination of columns: 8 million rows, then one after the other */
    SIDE_BY_SIDE = 64,         /* columns whose running extreme or sum is kept at hand */
};

/* Reads n elements, step bytes apart, into an array of the type that they are reduced in. */
typedef void gatherer(void *to, const void *x, int64_t n, int64_t step);

typedef struct reduce_plan {
    const char *x;
    char *out;
    gatherer *gather; /* NULL where x can be read as it lies */
    int out_dtype, mean, identity;
    int by_columns, one_block;
    int kept_axes, reduced_axes; /* at least one reduced axis, maybe of length 1 */
    int64_t reduced_size;
    fg_axis kept[FG_MAX_NDIM], reduced[FG_MAX_NDIM]; /* step[0] in x, step[1] in out, in bytes */
} reduce_plan;

/* Integers and truth values are reduced as int64, so that the loops exist for three types only. */
#define GATHER(name, X, T, EXPRESSION) \
    static void name(void *to_, const void *x_, int64_t n, int64_t step) \
    { \
        T *restrict to = to_; \
        const char *restrict x = x_; \
        if (step == sizeof(X)) \
            for (int64_t k = 0; k < n; k++) \
                to[k] = EXPRESSION(((const X *)x)[k]); \
        else \
            for (int64_t k = 0; k < n; k++) \
                to[k] = EXPRESSION(*(const X *)(x + k * step)); \
    }
#define VALUE(x) (x)
#define IS_NONZERO(x) ((x) != 0)
GATHER(gather_uint8, uint8_t, int64_t, VALUE)
GATHER(gather_int32, int32_t, int64_t, VALUE)
GATHER(gather_int64, int64_t, int64_t, VALUE)
GATHER(gather_float32, float, float, VALUE)
GATHER(gather_float64, double, double, VALUE)
GATHER(nonzero_uint8, uint8_t, int64_t, IS_NONZERO)
GATHER(nonzero_int32, int32_t, int64_t, IS_NONZERO)
GATHER(nonzero_int64, int64_t, int64_t, IS_NONZERO)
GATHER(nonzero_float32, float, int64_t, IS_NONZERO)
GATHER(nonzero_float64, double, int64_t, IS_NONZERO)

static gatherer *const gather_values[FG_DTYPE_COUNT] = {gather_uint8, gather_uint8, gather_int32,
                                                        gather_int64, gather_float32, gather_float64};
static gatherer *const gather_nonzero[FG_DTYPE_COUNT] = {nonzero_uint8, nonzero_uint8, nonzero_int32,
                                                         nonzero_int64, nonzero_float32, nonzero_float64};

#define T int64_t
#define U uint64_t
#define N(name) name##_int64
#define IS_NAN(x) 0
#define LARGER(a, b) ((((a) > (b)) & (a)) | (~((a) > (b)) & (b)))
#define SMALLER(a, b) ((((a) < (b)) & (a)) | (~((a) < (b)) & (b)))
#define OR_NAN(y, x) (y)
#include "reduce_loops.h"
#define T float
#define U float
#define N(name) name##_float32
#define IS_NAN(x) ((x) != (x))
#define LARGER vec_max_f32
#define SMALLER vec_min_f32
#define OR_NAN vec_or_nan_f32
#include "reduce_loops.h"
#define T double
#define U double
#define N(name) name##_float64
#define IS_NAN(x) ((x) != (x))
#define LARGER vec_max_f64
#define SMALLER vec_min_f64
#define OR_NAN vec_or_nan_f64
#include "reduce_loops.h"

/* Outer axes first. A broadcast axis is an outer one: its neighbours are not neighbours in memory. */
INLINE int is_outside(const fg_axis *a, const fg_axis *b)
{
    return b->step[0] != 0 && (a->step[0] == 0 || a->step[0] > b->step[0]);
}

static void sort_axes(fg_axis *axes, int count)
{
    for (int a = 1; a < count; a++)
        for (int b = a; b > 0 && is_outside(&axes[b], &axes[b - 1]); b--) {
            const fg_axis swapped = axes[b];
            axes[b] = axes[b - 1];
            axes[b - 1] = swapped;
        }
}

/* Returns 0 where there is no output. With flat_index the reduced axes stay in row-major order. */
static int plan_reduction(reduce_plan *plan, const fg_array *out, const fg_array *x, int flat_index)
{
    const int64_t x_size = item_size(x->dtype), out_size = item_size(out->dtype);
    int kept = 0, reduced = 0, outputs = 1;
    plan->x = x->data;
    plan->out = out->data;
    plan->out_dtype = out->dtype;
    plan->mean = 0;
    plan->identity = 0;
    plan->reduced_size = 1;
    for (int a = 0; a < x->ndim; a++) {
        const fg_axis axis = {x->shape[a], {x->strides[a] * x_size, out->strides[a] * out_size, 0}};
        if (out->shape[a] != axis.length) {
            plan->reduced_size *= axis.length;
            plan->reduced[reduced++] = axis;
        } else if (axis.length != 1) {
            outputs &= axis.length != 0;
            plan->kept[kept++] = axis;
        }
    }
    if (kept > 1) {
        sort_axes(plan->kept, kept);
        kept = fg_merge_axes(plan->kept, kept);
    }
    if (reduced > 1) {
        if (!flat_index)
            sort_axes(plan->reduced, reduced);
        reduced = fg_merge_axes(plan->reduced, reduced);
    }
    if (reduced == 0)
        plan->reduced[reduced++] = (fg_axis){1, {x_size, 0, 0}};
    plan->kept_axes = kept;
    plan->reduced_axes = reduced;
    const fg_axis *inner = &plan->reduced[reduced - 1];
    plan->one_block = reduced == 1 && inner->length <= BLOCK;
    /* Short rows are worth it side by side even where their elements are neighbours. */
    plan->by_columns = kept > 0 && (is_outside(inner, &plan->kept[kept - 1]) ||
                                    (reduced == 1 && inner->length < ROWS && plan->kept[kept - 1].length > ROWS));
    if (plan->by_columns)
        inner = &plan->kept[kept - 1];
    plan->gather = inner->step[0] == x_size && x->dtype >= FG_INT64 ? NULL : gather_values[x->dtype];
    return outputs;
}

typedef enum { VALUES, MEAN, TRUTH } reduced_quantity;

static void reduce(fg_array *const *operands, reduction op, reduced_quantity quantity, int identity)
{
    const int dtype = operands[1]->dtype;
    reduce_plan plan;
    if (!plan_reduction(&plan, operands[0], operands[1], 0))
        return;
    plan.identity = identity;
    plan.mean = quantity == MEAN;
    if (quantity == TRUTH)
        plan.gather = gather_nonzero[dtype];
    if (quantity == TRUTH || dtype < FG_FLOAT32)
        reduce_int64(&plan, op);
    else if (dtype == FG_FLOAT32)
        reduce_float32(&plan, op);
    else
        reduce_float64(&plan, op);
}

#define REDUCTION(name, op, quantity, identity) \
    void FG_NAME(name)(fg_array *const *operands, int operand_count, const fg_params *params) \
    { \
        (void)operand_count, (void)params; \
        reduce(operands, op, quantity, identity); \
    }

REDUCTION(sum, SUM, VALUES, 0)
REDUCTION(mean, SUM, MEAN, 0)
REDUCTION(sum_of_squares, SUM_OF_SQUARES, VALUES, 0)
REDUCTION(prod, PROD, VALUES, 1)
REDUCTION(max, MAX, VALUES, 0)
REDUCTION(min, MIN, VALUES, 0)
REDUCTION(any, MAX, TRUTH, 0)
REDUCTION(all, MIN, TRUTH, 1)

static void arg_reduce(fg_array *const *operands, reduction op)
{
    const int dtype = operands[1]->dtype;
    reduce_plan plan;
    if (!plan_reduction(&plan, operands[0], operands[1], 1))
        return;
    if (dtype < FG_FLOAT32)
        arg_int64(&plan, op);
    else if (dtype == FG_FLOAT32)
        arg_float32(&plan, op);
    else
        arg_float64(&plan, op);
}

void FG_NAME(argmax)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count, (void)params;
    arg_reduce(operands, MAX);
}

void FG_NAME(argmin)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count, (void)params;
    arg_reduce(operands, MIN);
}

/* The running sum along one axis of axes that were sorted outer first; Sum is wider than T where that costs nothing. */
#define CUMSUM(T, Sum, suffix) \
    static void cumsum_##suffix(T *out, const T *x, fg_axis along, const fg_axis *outer, int outer_count, fg_axis inner) \
    { \
        int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0}; \
        do { \
            for (int64_t first = 0; first < inner.length; first += SIDE_BY_SIDE) { \
                const int64_t left = inner.length - first, width = left < SIDE_BY_SIDE ? left : SIDE_BY_SIDE; \
                Sum sum[SIDE_BY_SIDE] = {0}; \
                for (int64_t k = 0; k < along.length; k++) { \
                    const T *from = x + offset[0] + k * along.step[0] + first * inner.step[0]; \
                    T *to = out + offset[1] + k * along.step[1] + first * inner.step[1]; \
                    for (int64_t j = 0; j < width; j++) \
                        to[j * inner.step[1]] = (T)(sum[j] += (Sum)from[j * inner.step[0]]); \
                } \
            } \
        } while (fg_advance(outer, outer_count, position, offset)); \
    }

CUMSUM(float, double, float32)
CUMSUM(double, double, float64)
CUMSUM(int64_t, uint64_t, int64)

void FG_NAME(cumsum)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    (void)operand_count;
    fg_array *out = operands[0], *x = operands[1];
    fg_axis along = {1, {0, 0, 0}}, outer[FG_MAX_NDIM], inner = along;
    int count = 0;
    for (int a = 0; a < x->ndim; a++) {
        const fg_axis axis = {x->shape[a], {x->strides[a], out->strides[a], 0}};
        if (axis.length == 0)
            return;
        if (a == params->i[0])
            along = axis;
        else
            outer[count++] = axis;
    }
    sort_axes(outer, count);
    count = fg_merge_axes(outer, count);
    if (count)
        inner = outer[--count];
    if (x->dtype == FG_FLOAT32)
        cumsum_float32(out->data, x->data, along, outer, count, inner);
    else if (x->dtype == FG_FLOAT64)
        cumsum_float64(out->data, x->data, along, outer, count, inner);
    else
        cumsum_int64(out->data, x->data, along, outer, count, inner);
}
