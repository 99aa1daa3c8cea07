/* The loops of reduce.c for elements of type T; N(name) is name with T's suffix. U is T, or its unsigned twin for
 * integers, whose sums and products wrap. */

INLINE T N(load)(T x, reduction op) { return op == SUM_OF_SQUARES ? x * x : x; }

INLINE T N(combine)(T a, T b, reduction op)
{
    const T larger = b > a ? b : a, smaller = b < a ? b : a; /* a where it is NaN */
    switch (op) {
    case PROD: return (T)((U)a * (U)b);
    case MAX: return IS_NAN(b) ? b : larger;
    case MIN: return IS_NAN(b) ? b : smaller;
    default: return (T)((U)a + (U)b);
    }
}

typedef T N(vector) __attribute__((vector_size(VECTOR_BYTES)));
typedef U N(unsigned_vector) __attribute__((vector_size(VECTOR_BYTES)));

INLINE N(vector) N(load_vector)(const T *x, reduction op)
{
    N(vector) v;
    memcpy(&v, x, sizeof v);
    return op == SUM_OF_SQUARES ? v * v : v;
}

INLINE N(vector) N(combine_vectors)(N(vector) a, N(vector) b, reduction op)
{
    switch (op) {
    case PROD: return (N(vector))((N(unsigned_vector))a * (N(unsigned_vector))b);
    case MAX: return OR_NAN(LARGER(b, a), b);
    case MIN: return OR_NAN(SMALLER(b, a), b);
    default: return (N(vector))((N(unsigned_vector))a + (N(unsigned_vector))b);
    }
}

/* The elements of a row, at most BLOCK so that the result has few roundings; n >= 1. */
INLINE T N(block)(const T *x, int64_t n, reduction op)
{
    enum { LANE_COUNT = VECTOR_BYTES / sizeof(T) };
    const int64_t in_vectors = n < 2 * LANE_COUNT ? 0 : n - n % LANE_COUNT;
    T total = 0;
    if (in_vectors) {
        N(vector) v0 = N(load_vector)(x, op), v1 = N(load_vector)(x + LANE_COUNT, op);
        int64_t i = 2 * LANE_COUNT;
        if (i + 2 * LANE_COUNT <= in_vectors) {
            N(vector) v2 = N(load_vector)(x + i, op), v3 = N(load_vector)(x + i + LANE_COUNT, op);
            for (i += 2 * LANE_COUNT; i + 4 * LANE_COUNT <= in_vectors; i += 4 * LANE_COUNT) {
                v0 = N(combine_vectors)(v0, N(load_vector)(x + i, op), op);
                v1 = N(combine_vectors)(v1, N(load_vector)(x + i + LANE_COUNT, op), op);
                v2 = N(combine_vectors)(v2, N(load_vector)(x + i + 2 * LANE_COUNT, op), op);
                v3 = N(combine_vectors)(v3, N(load_vector)(x + i + 3 * LANE_COUNT, op), op);
            }
            v0 = N(combine_vectors)(v0, v2, op);
            v1 = N(combine_vectors)(v1, v3, op);
        }
        for (; i < in_vectors; i += LANE_COUNT)
            v0 = N(combine_vectors)(v0, N(load_vector)(x + i, op), op);
        v0 = N(combine_vectors)(v0, v1, op);
        T lane[LANE_COUNT];
        memcpy(lane, &v0, sizeof lane);
#pragma GCC unroll 4 /* keeps the lanes in registers */
        for (int width = LANE_COUNT / 2; width > 0; width /= 2)
            for (int l = 0; l < width; l++)
                lane[l] = N(combine)(lane[l], lane[l + width], op);
        total = lane[0];
        if (in_vectors == n)
            return total;
    }
    T rest = N(load)(x[in_vectors], op);
    int64_t i = in_vectors + 1;
    for (; i + 4 <= n; i += 4)
        rest = N(combine)(rest, N(combine)(N(combine)(N(load)(x[i], op), N(load)(x[i + 1], op), op),
                                           N(combine)(N(load)(x[i + 2], op), N(load)(x[i + 3], op), op), op), op);
    for (; i < n; i++)
        rest = N(combine)(rest, N(load)(x[i], op), op);
    return in_vectors ? N(combine)(total, rest, op) : rest;
}

/* One output from all its elements: block by block, the results of equally many blocks combined pairwise. */
INLINE T N(reduce_row)(const char *x, const reduce_plan *plan, reduction op)
{
    const fg_axis run = plan->reduced[plan->reduced_axes - 1];
    T gathered[BLOCK], partial[64], value;
    int depth = 0;
    uint64_t blocks = 0;
    int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
    do {
        for (int64_t k = 0; k < run.length; k += BLOCK) {
            const int64_t left = run.length - k, n = left < BLOCK ? left : BLOCK;
            const void *elements = x + offset[0] + k * run.step[0];
            if (plan->gather) {
                plan->gather(gathered, elements, n, run.step[0]);
                elements = gathered;
            }
            value = N(block)(elements, n, op);
            if (plan->one_block)
                return value;
            for (uint64_t bits = blocks++; bits & 1; bits >>= 1)
                value = N(combine)(partial[--depth], value, op);
            partial[depth++] = value;
        }
    } while (fg_advance(plan->reduced, plan->reduced_axes - 1, position, offset));
    for (value = partial[--depth]; depth > 0;)
        value = N(combine)(partial[--depth], value, op);
    return value;
}

/* sums[j] = the combination of the elements j of row_count <= ROWS rows. */
INLINE void N(combine_rows)(T *restrict sums, const T *const *rows, int row_count, int64_t width, reduction op)
{
    if (row_count == ROWS) {
        const T *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
        const T *r4 = rows[4], *r5 = rows[5], *r6 = rows[6], *r7 = rows[7];
        for (int64_t j = 0; j < width; j++) {
            T a = N(combine)(N(load)(r0[j], op), N(load)(r1[j], op), op);
            T b = N(combine)(N(load)(r2[j], op), N(load)(r3[j], op), op);
            T c = N(combine)(N(load)(r4[j], op), N(load)(r5[j], op), op);
            T d = N(combine)(N(load)(r6[j], op), N(load)(r7[j], op), op);
            sums[j] = N(combine)(N(combine)(a, b, op), N(combine)(c, d, op), op);
        }
        return;
    }
    for (int64_t j = 0; j < width; j++)
        sums[j] = N(load)(rows[0][j], op);
    for (int r = 1; r < row_count; r++) {
        const T *row = rows[r];
        for (int64_t j = 0; j < width; j++)
            sums[j] = N(combine)(sums[j], N(load)(row[j], op), op);
    }
}

INLINE void N(combine_into)(T *restrict a, const T *restrict b, int64_t n, reduction op)
{
    for (int64_t k = 0; k < n; k++)
        a[k] = N(combine)(a[k], b[k], op);
}

INLINE void N(store)(char *out, T value, const reduce_plan *plan)
{
    switch (plan->out_dtype) {
    case FG_BOOL:
    case FG_UINT8: *(uint8_t *)out = (uint8_t)value; break;
    case FG_INT32: *(int32_t *)out = (int32_t)value; break;
    default: *(T *)out = plan->mean ? (T)((double)value / (double)plan->reduced_size) : value; break;
    }
}

/* Neighbouring outputs side by side: rows are combined element by element, ROWS at a time, and then pairwise. Narrow rows
 * without gaps between them are first taken together, a power of two of them as one wide row. */
INLINE void N(reduce_columns)(const char *x, char *out, fg_axis columns, const reduce_plan *plan, reduction op)
{
    enum { WIDTH = COLUMN_BYTES / sizeof(T) };
    T partial[LEVELS][WIDTH], gathered[ROWS][WIDTH];
    fg_axis run = plan->reduced[0];
    int64_t together = 1, apart = 0;
    if (!plan->gather && plan->reduced_axes == 1 && run.step[0] == columns.length * columns.step[0]) {
        while (2 * together * columns.length <= WIDTH && 2 * together <= run.length)
            together *= 2;
        apart = run.length % together;
        run = (fg_axis){run.length / together, {run.step[0] * together, 0, 0}};
    }
    const fg_axis *reduced = together > 1 ? &run : plan->reduced;
    for (int64_t first = 0; first < columns.length; first += WIDTH, x += WIDTH * columns.step[0]) {
        const int64_t left = columns.length - first, width = left < WIDTH ? left : WIDTH;
        int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
        int depth = 0, more;
        uint64_t blocks = 0;
        do {
            const T *rows[ROWS];
            int row_count = 0;
            do {
                const void *row = x + offset[0];
                if (plan->gather) {
                    plan->gather(gathered[row_count], row, width, columns.step[0]);
                    row = gathered[row_count];
                }
                rows[row_count++] = row;
                more = fg_advance(reduced, plan->reduced_axes, position, offset);
            } while (more && row_count < ROWS);
            N(combine_rows)(partial[depth++], rows, row_count, width * together, op);
            for (uint64_t bits = blocks++; depth > 1 && (bits & 1 || depth == LEVELS || !more); bits >>= 1, depth--)
                N(combine_into)(partial[depth - 2], partial[depth - 1], width * together, op);
        } while (more);
        const T *rest = apart ? (const T *)(x + run.length * run.step[0]) : NULL;
        for (int64_t rows = together / 2; rows > 0; rows /= 2) {
            N(combine_into)(partial[0], partial[0] + rows * width, rows * width, op);
            if (apart & rows) {
                N(combine_rows)(partial[1], &rest, 1, rows * width, op);
                N(combine_into)(partial[0], partial[1], rows * width, op);
                rest += rows * width;
            }
        }
        for (int64_t j = 0; j < width; j++)
            N(store)(out + (first + j) * columns.step[1], partial[0][j], plan);
    }
}

INLINE void N(reduce_by)(const reduce_plan *plan, reduction op)
{
    int outer_axes = plan->kept_axes;
    const fg_axis inner = outer_axes ? plan->kept[--outer_axes] : (fg_axis){1, {0, 0, 0}};
    int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
    do {
        const char *x = plan->x + offset[0];
        char *out = plan->out + offset[1];
        if (plan->reduced_size == 0)
            for (int64_t j = 0; j < inner.length; j++)
                N(store)(out + j * inner.step[1], plan->identity, plan);
        else if (plan->by_columns)
            N(reduce_columns)(x, out, inner, plan, op);
        else
            for (int64_t j = 0; j < inner.length; j++)
                N(store)(out + j * inner.step[1], N(reduce_row)(x + j * inner.step[0], plan, op), plan);
    } while (fg_advance(plan->kept, outer_axes, position, offset));
}

static void N(reduce)(const reduce_plan *plan, reduction op)
{
    switch (op) {
    case SUM: N(reduce_by)(plan, SUM); break;
    case PROD: N(reduce_by)(plan, PROD); break;
    case MAX: N(reduce_by)(plan, MAX); break;
    case MIN: N(reduce_by)(plan, MIN); break;
    default: N(reduce_by)(plan, SUM_OF_SQUARES); break;
    }
}

/* a takes the place of b as the maximum (or minimum): it is larger (smaller), or the first NaN. */
INLINE int N(wins)(T a, T b, reduction op) { return (op == MAX ? a > b : a < b) | (IS_NAN(a) & !IS_NAN(b)); }

/* The place of the first element equal to value, or NaN as it is; there is one. */
INLINE int64_t N(find)(const T *x, int64_t n, T value)
{
    enum { STRIDE = 32 };
    int64_t k = 0;
    for (; k + STRIDE <= n; k += STRIDE) {
        int here = 0;
        for (int l = 0; l < STRIDE; l++)
            here |= (x[k + l] == value) | (IS_NAN(value) & IS_NAN(x[k + l]));
        if (here)
            break;
    }
    while (!(x[k] == value || (IS_NAN(value) && IS_NAN(x[k]))))
        k++;
    return k;
}

/* Replaces *best if the row has a better element, and returns the place of the first such; -1 if *best stays. */
INLINE int64_t N(arg_row)(const char *x, fg_axis run, const reduce_plan *plan, T *best, reduction op)
{
    T gathered[BLOCK];
    int64_t found = -1;
    for (int64_t k = 0; k < run.length; k += BLOCK) {
        const int64_t left = run.length - k, n = left < BLOCK ? left : BLOCK;
        const T *elements = (const T *)(x + k * run.step[0]);
        if (plan->gather) {
            plan->gather(gathered, elements, n, run.step[0]);
            elements = gathered;
        }
        const T extreme = N(block)(elements, n, op);
        if (N(wins)(extreme, *best, op)) {
            *best = extreme;
            found = k + N(find)(elements, n, extreme);
        }
    }
    return found;
}

INLINE void N(arg_columns)(const char *x, char *out, fg_axis columns, const reduce_plan *plan, reduction op)
{
    const fg_axis run = plan->reduced[0];
    for (int64_t first = 0; first < columns.length; first += SIDE_BY_SIDE, x += SIDE_BY_SIDE * columns.step[0]) {
        const int64_t left = columns.length - first, width = left < SIDE_BY_SIDE ? left : SIDE_BY_SIDE;
        T best[SIDE_BY_SIDE], gathered[SIDE_BY_SIDE];
        int64_t found[SIDE_BY_SIDE] = {0};
        for (int64_t i = 0; i < run.length; i++) {
            const T *row = (const T *)(x + i * run.step[0]);
            if (plan->gather) {
                plan->gather(gathered, row, width, columns.step[0]);
                row = gathered;
            }
            if (i == 0)
                memcpy(best, row, width * sizeof(T));
            for (int64_t j = 0; j < width; j++) {
                const int wins = N(wins)(row[j], best[j], op);
                best[j] = wins ? row[j] : best[j];
                found[j] = wins ? i : found[j];
            }
        }
        for (int64_t j = 0; j < width; j++)
            *(int64_t *)(out + (first + j) * columns.step[1]) = found[j];
    }
}

INLINE void N(arg_by)(const reduce_plan *plan, reduction op)
{
    const fg_axis run = plan->reduced[plan->reduced_axes - 1];
    int outer_axes = plan->kept_axes;
    const fg_axis inner = outer_axes ? plan->kept[--outer_axes] : (fg_axis){1, {0, 0, 0}};
    int64_t position[FG_MAX_NDIM] = {0}, offset[3] = {0};
    do {
        const char *x = plan->x + offset[0];
        char *out = plan->out + offset[1];
        if (plan->by_columns && plan->reduced_axes == 1) {
            N(arg_columns)(x, out, inner, plan, op);
            continue;
        }
        for (int64_t j = 0; j < inner.length; j++, x += inner.step[0], out += inner.step[1]) {
            int64_t reduced_position[FG_MAX_NDIM] = {0}, reduced_offset[3] = {0}, before = 0, found = 0;
            T best;
            if (plan->gather)
                plan->gather(&best, x, 1, 0);
            else
                best = *(const T *)x;
            do {
                const int64_t better = N(arg_row)(x + reduced_offset[0], run, plan, &best, op);
                if (better >= 0)
                    found = before + better;
                before += run.length;
            } while (fg_advance(plan->reduced, plan->reduced_axes - 1, reduced_position, reduced_offset));
            *(int64_t *)out = found;
        }
    } while (fg_advance(plan->kept, outer_axes, position, offset));
}

static void N(arg)(const reduce_plan *plan, reduction op)
{
    if (op == MAX)
        N(arg_by)(plan, MAX);
    else
        N(arg_by)(plan, MIN);
}

#undef T
#undef U
#undef N
#undef IS_NAN
#undef LARGER
#undef SMALLER
#undef OR_NAN
