/* Matrix products.
 *
 * A tile of the result stays in registers over the whole inner axis: up to 12 rows (6 with 16 registers) of two vectors,
 * or fewer rows of three or four vectors where a column has so many parts. The right operand is read in panels, one
 * tile wide; where it lies otherwise, a panel is packed first. (Goto and van de Geijn, Anatomy of High-Performance
 * Matrix Multiplication, ACM TOMS 34(3), 2008.)
 */
#ifndef REAL_BITS
#include "gemm.h"
#include "simd.h"
#include "threads.h"

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define TILE_VECTORS 2 /* of a product in one part */
#define MOST_VECTORS 4
#define MOST_ROWS 12
#define ROWS_3(X, v) X(1, v) X(2, v) X(3, v)
#define ROWS_4(X, v) ROWS_3(X, v) X(4, v)
#define ROWS_6(X, v) ROWS_4(X, v) X(5, v) X(6, v)
#define ROWS_8(X, v) ROWS_6(X, v) X(7, v) X(8, v)
#define ROWS_12(X, v) ROWS_8(X, v) X(9, v) X(10, v) X(11, v) X(12, v)
#if defined(__AVX512F__) || defined(__aarch64__) /* 32 registers */
#define TILES(X) ROWS_12(X, 1) ROWS_12(X, 2) ROWS_8(X, 3) ROWS_6(X, 4)
static const int tile_rows[MOST_VECTORS + 1] = {0, 12, 12, 8, 6};
#else
#define TILES(X) ROWS_6(X, 1) ROWS_6(X, 2) ROWS_4(X, 3) ROWS_3(X, 4)
static const int tile_rows[MOST_VECTORS + 1] = {0, 6, 6, 4, 3};
#endif

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#define LANES_ARE(n) (VECTOR_BYTES * 8 / REAL_BITS == (n))

#define PANEL (TILE_VECTORS * LANES)

/* A block of the left operand stays in the second-level cache while the panels of the right one pass by. */
#define BLOCK_ROWS 240
#define BLOCK_INNER ((int)(FG_SCRATCH_BYTES / sizeof(real) / PANEL))

/* From here on packing a panel costs less than walking through the right operand by its rows again and again. */
#define MANY_ROWS 96

/* Up to here packing the right operand costs more than it gains. */
#define FEW_ROWS 3

/* From this many multiplications on the BLAS is at least as fast: measured against OpenBLAS 0.3.31 on one thread and on
 * two of a Zen 4. With threads it comes in late, because its own keep spinning for some 25 ms after a product and are in
 * the way of ours. The baseline's narrow vectors lose early. */
#if VECTOR_BYTES > 16
#define BLAS_PAYS 0x1p27
#define BLAS_PAYS_THREADED 0x1p32
#else
#define BLAS_PAYS 0x1p16
#define BLAS_PAYS_THREADED 0x1p16
#endif
/* OpenBLAS takes longer to pack a transposed right operand than pack_panel does. */
#define TRANSPOSED_DISCOUNT 0.125

/* From this many multiplications in float32 on threads gain more than it takes to wake them, or to hand over the work. */
#define THREADS_PAY 0x1p22
#define THREADS_PAY_AWAKE 0x1p18
/* So many rows that their tiles are high enough to sum in one part, as those of all rows do. */
#define SHARED_ROWS 48

#define BODY "gemm.c"
#include "each_real.h"
#else

typedef struct FN(tile) {
    int64_t inner;
    const real *a; /* a[row * a_row + k * a_step] */
    int64_t a_row, a_step;
    const real *b; /* b[k * b_step + column] */
    int64_t b_step;
    int columns;
    real *out;
    const real *add, *y;
    int64_t out_row, add_row, y_row;
    real alpha, beta;
    fg_finish_mode mode;
    int64_t first_row, first_column;
    const fg_finish *finish;
} FN(tile);

INLINE vec FN(finish)(vec sum, vec add, vec y, const FN(tile) * t, fg_finish_mode mode)
{
    const vec zero = {0}, z = t->alpha * sum + t->beta * add;
    switch (mode) {
    case FG_RELU: return vec_max(zero, z); /* NaN stays NaN */
    case FG_TANH: return vec_tanh(z);
    case FG_RELU_GRADIENT: return vec_select(y <= 0, zero, z); /* where y is NaN, z passes, as in PyTorch */
    case FG_TANH_GRADIENT: return z * (1 - y * y);
    default: return z;
    }
}

INLINE void FN(store_whole)(const int rows, const int vectors, vec sum[MOST_ROWS][MOST_VECTORS], const FN(tile) * t,
                            const fg_finish_mode mode)
{
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const vec add = t->add ? vec_load(t->add + r * t->add_row + v * LANES) : (vec){0};
            const vec y = t->y ? vec_load(t->y + r * t->y_row + v * LANES) : (vec){0};
            vec_store(t->out + r * t->out_row + v * LANES, FN(finish)(sum[r][v], add, y, t, mode));
        }
    }
}

/* A tile that is cut off at the right edge, or whose tanh would be too much code to unroll. */
static __attribute__((noinline)) void FN(store_edge)(int rows, int width, const real *sum, const FN(tile) * t)
{
    for (int c = 0; c < t->columns; c += LANES) {
        const int count = t->columns - c;
        for (int r = 0; r < rows; r++) {
            const real *add = FN(moved)(t->add, r * t->add_row + c), *y = FN(moved)(t->y, r * t->y_row + c);
            real *out = t->out + r * t->out_row + c;
            const vec s = vec_load(sum + r * width + c), none = {0};
            if (count >= LANES)
                vec_store(out, FN(finish)(s, add ? vec_load(add) : none, y ? vec_load(y) : none, t, t->mode));
            else
                vec_store_n(out, count, FN(finish)(s, add ? vec_load_n(add, count) : none,
                                                   y ? vec_load_n(y, count) : none, t, t->mode));
        }
    }
}

INLINE void FN(compute_tile)(const int rows, const int vectors, const FN(tile) * t)
{
    /* A small tile runs several sums side by side, so that one addition need not wait for the last. */
    const int parts = rows * vectors <= 2 ? 4 : rows * vectors <= 4 ? 2 : 1;
    vec sum[4][MOST_ROWS][MOST_VECTORS];
    UNROLL
    for (int p = 0; p < parts; p++) {
        UNROLL
        for (int r = 0; r < rows; r++) {
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[p][r][v] = (vec){0};
        }
    }
    const real *a = t->a, *b = t->b;
    const int64_t a_row = t->a_row, a_step = t->a_step, b_step = t->b_step;
    int64_t left = t->inner;
#define STEP(p)                                                                                                       \
    do {                                                                                                              \
        vec column[MOST_VECTORS];                                                                                     \
        UNROLL for (int v = 0; v < vectors; v++) column[v] = vec_load(b + v * LANES);                                 \
        UNROLL for (int r = 0; r < rows; r++)                                                                         \
        {                                                                                                             \
            real x = a[r * a_row];                                                                                    \
            UNROLL for (int v = 0; v < vectors; v++) sum[p][r][v] += x * column[v];                                   \
        }                                                                                                             \
        a += a_step;                                                                                                  \
        b += b_step;                                                                                                  \
    } while (0)
    for (; left >= parts; left -= parts) {
        UNROLL
        for (int p = 0; p < parts; p++)
            STEP(p);
    }
    for (; left > 0; left--)
        STEP(0);
#undef STEP
    UNROLL
    for (int p = 1; p < parts; p++) {
        UNROLL
        for (int r = 0; r < rows; r++) {
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[0][r][v] += sum[p][r][v];
        }
    }
    if (vectors > TILE_VECTORS || t->mode == FG_CALL || t->mode == FG_TANH || t->columns < vectors * LANES) {
        real spilled[MOST_ROWS * MOST_VECTORS * LANES];
        UNROLL
        for (int r = 0; r < rows; r++) {
            UNROLL
            for (int v = 0; v < vectors; v++)
                vec_store(spilled + (r * vectors + v) * LANES, sum[0][r][v]);
        }
        if (t->mode == FG_CALL)
            t->finish->call(t->finish->context,
                            &(fg_sums){t->first_row, t->first_column, rows, t->columns, spilled, vectors * LANES, LANES});
        else
            FN(store_edge)(rows, vectors * LANES, spilled, t);
        return;
    }
    switch (t->mode) {
    case FG_RELU: FN(store_whole)(rows, vectors, sum[0], t, FG_RELU); break;
    case FG_RELU_GRADIENT: FN(store_whole)(rows, vectors, sum[0], t, FG_RELU_GRADIENT); break;
    case FG_TANH_GRADIENT: FN(store_whole)(rows, vectors, sum[0], t, FG_TANH_GRADIENT); break;
    default: FN(store_whole)(rows, vectors, sum[0], t, FG_PLAIN);
    }
}

#define TILE(rows, vectors)                                                                                           \
    static void FN(tile_##rows##_##vectors)(const FN(tile) * t) { FN(compute_tile)(rows, vectors, t); }
#define TILE_ENTRY(rows, vectors) [vectors][rows] = FN(tile_##rows##_##vectors),
TILES(TILE)
static void (*const FN(tiles)[MOST_VECTORS + 1][MOST_ROWS + 1])(const FN(tile) *) = {TILES(TILE_ENTRY)};
#undef TILE
#undef TILE_ENTRY

INLINE int FN(vectors)(int columns) { return columns > LANES ? TILE_VECTORS : 1; }

/* Rows are split evenly, so that no tile is left with a row or two that would wait for its own sums. */
static void FN(multiply_panel)(int64_t m, int columns, int vectors, int64_t k, const real *a, int64_t a_row,
                               int64_t a_step, const real *b, int64_t b_step, int64_t first_column,
                               const fg_finish *finish)
{
    FN(tile) t = {
        .inner = k, .a = a, .a_row = a_row, .a_step = a_step, .b = b, .b_step = b_step, .columns = columns,
        .out = FN(moved_out)(finish->out, first_column), .out_row = finish->out_row,
        .add = FN(moved)(finish->add, first_column), .add_row = finish->add_row,
        .y = FN(moved)(finish->y, first_column), .y_row = finish->y_row,
        .alpha = (real)finish->alpha, .beta = (real)finish->beta, .mode = finish->mode,
        .first_column = first_column, .finish = finish,
    };
    int64_t tiles = (m + tile_rows[vectors] - 1) / tile_rows[vectors];
    for (int64_t done = 0; done < m; tiles--) {
        int rows = (int)((m - done + tiles - 1) / tiles);
        FN(tiles)[vectors][rows](&t);
        done += rows;
        t.first_row = done;
        t.a = FN(moved)(t.a, rows * a_row);
        t.out = FN(moved_out)(t.out, rows * t.out_row);
        t.add = FN(moved)(t.add, rows * t.add_row);
        t.y = FN(moved)(t.y, rows * t.y_row);
    }
}

#if LANES_ARE(16)
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES_ARE(8)
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES_ARE(4)
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#else
#define LOW 0, 2
#define HIGH 1, 3
#endif
/* The first halves of a and b, or their second halves, element by element in turn. */
INLINE vec FN(interleave_low)(vec a, vec b) { return SHUFFLE(a, b, LOW); }
INLINE vec FN(interleave_high)(vec a, vec b) { return SHUFFLE(a, b, HIGH); }
#undef LOW
#undef HIGH

/* Seen as one number of vector index and lane index, each pass rotates the bits of an element's place by one; when all
 * bits of the lane index have passed into the vector index, the square is transposed. */
INLINE void FN(transpose)(vec square[LANES])
{
    UNROLL
    for (int passes = LANES; passes > 1; passes /= 2) {
        vec rotated[LANES];
        UNROLL
        for (int k = 0; k < LANES / 2; k++) {
            rotated[2 * k] = FN(interleave_low)(square[k], square[k + LANES / 2]);
            rotated[2 * k + 1] = FN(interleave_high)(square[k], square[k + LANES / 2]);
        }
        UNROLL
        for (int k = 0; k < LANES; k++)
            square[k] = rotated[k];
    }
}

/* Lane k is the sum over the lanes of square[k]; the passes of transpose, with the sum taken at once. */
INLINE vec FN(sum_each)(vec square[LANES])
{
    UNROLL
    for (int half = LANES / 2; half > 0; half /= 2) {
        UNROLL
        for (int k = 0; k < half; k++)
            square[k] = FN(interleave_low)(square[k], square[k + half]) +
                        FN(interleave_high)(square[k], square[k + half]);
    }
    return square[0];
}

/* Columns of b (k, columns) as rows of a panel `width` wide, padded with zeros to whole vectors. */
static void FN(pack_panel)(int columns, int64_t k, const real *b, int64_t b_row, int64_t b_column, int width,
                           real *packed)
{
    if (b_column == 1) {
        for (int64_t r = 0; r < k; r++)
            for (int c = 0; c < columns; c += LANES)
                vec_store(packed + r * width + c, columns - c >= LANES ? vec_load(b + r * b_row + c)
                                                                       : vec_load_n(b + r * b_row + c, columns - c));
        return;
    }
    for (int c = 0; c < columns; c += LANES) {
        int count = columns - c < LANES ? columns - c : LANES;
        for (int64_t r = 0; r < k; r += LANES) {
            const real *corner = b + r + c * b_column;
            real *target = packed + r * width + c;
            vec square[LANES];
            if (count == LANES && k - r >= LANES) {
                UNROLL
                for (int l = 0; l < LANES; l++)
                    square[l] = vec_load(corner + l * b_column);
                FN(transpose)(square);
                UNROLL
                for (int l = 0; l < LANES; l++)
                    vec_store(target + l * width, square[l]);
            } else {
                int steps = k - r < LANES ? (int)(k - r) : LANES;
                for (int s = 0; s < steps; s++)
                    for (int l = 0; l < LANES; l++)
                        target[s * width + l] = l < count ? corner[l * b_column + s] : 0;
            }
        }
    }
}

/* Lane by lane, the products of x with `rows` rows of w, summed along both; the lanes are left to be summed. */
INLINE void FN(dots)(const int rows, int64_t k, const real *x, const real *w, int64_t w_row, vec *sum)
{
    UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = (vec){0};
    for (; k >= LANES; k -= LANES, x += LANES, w += LANES) {
        const vec part = vec_load(x);
        UNROLL
        for (int r = 0; r < rows; r++)
            sum[r] += part * vec_load(w + r * w_row);
    }
    if (k > 0) {
        const vec part = vec_load_n(x, k);
        UNROLL
        for (int r = 0; r < rows; r++)
            sum[r] += part * vec_load_n(w + r * w_row, k);
    }
}

/* (m,k) @ (k,n) with contiguous rows of a and columns of b: vectors run along the inner axis, nothing is packed. */
static void FN(multiply_dots)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish)
{
    FN(tile) t = {.alpha = (real)finish->alpha, .beta = (real)finish->beta, .mode = finish->mode};
    for (int64_t j = 0; j < n; j += LANES) {
        const real *w = (const real *)b.data + j * b.column;
        t.columns = n - j < LANES ? (int)(n - j) : LANES;
        for (int64_t i = 0; i < m; i++) {
            const real *x = (const real *)a.data + i * a.row;
            vec sum[LANES] = {{0}};
            if (t.columns == LANES)
                FN(dots)(LANES, k, x, w, b.column, sum);
            else
                for (int l = 0; l < t.columns; l++)
                    FN(dots)(1, k, x, w + l * b.column, b.column, sum + l);
            real sums[LANES];
            vec_store(sums, FN(sum_each)(sum));
            t.out = (real *)finish->out + i * finish->out_row + j;
            t.add = FN(moved)(finish->add, i * finish->add_row + j);
            t.y = FN(moved)(finish->y, i * finish->y_row + j);
            FN(store_edge)(1, LANES, sums, &t);
        }
    }
}

void FG_NAME(FN(pack))(int64_t n, int64_t k, int parts, fg_matrix b, void *packed_)
{
    real *packed = packed_;
    const int panel = parts > 1 ? LANES : PANEL;
    for (int64_t j = 0; j < n; j += panel, packed += parts * panel * k) {
        const int columns = n - j < panel ? (int)(n - j) : panel;
        const int width = parts > 1 ? parts * LANES : FN(vectors)(columns) * LANES;
        for (int p = 0; p < parts; p++)
            FN(pack_panel)(columns, k, (const real *)b.data + (p * n + j) * b.column, b.row, b.column, width,
                           packed + p * LANES);
    }
}

void FG_NAME(FN(multiply_packed))(int64_t m, int64_t n, int64_t k, int parts, fg_matrix a, const void *packed_,
                                  const fg_finish *finish)
{
    const real *packed = packed_;
    const int panel = parts > 1 ? LANES : PANEL;
    for (int64_t j = 0; j < n; j += panel, packed = FN(moved)(packed, parts * panel * k)) {
        const int columns = n - j < panel ? (int)(n - j) : panel;
        const int vectors = parts > 1 ? parts : FN(vectors)(columns);
        FN(multiply_panel)(m, columns, vectors, k, a.data, a.row, a.column, packed, vectors * LANES, j, finish);
    }
}

static void FN(multiply)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish)
{
    real *const packed = (real *)fg_scratch;
    const int64_t row_blocks = (m + BLOCK_ROWS - 1) / BLOCK_ROWS, block_rows = (m + row_blocks - 1) / row_blocks;
    for (int64_t first = 0; first == 0 || first < k; first += BLOCK_INNER) {
        const int64_t inner = k - first < BLOCK_INNER ? k - first : BLOCK_INNER;
        for (int64_t i = 0; i < m; i += block_rows) {
            const int64_t rows = m - i < block_rows ? m - i : block_rows;
            fg_finish f = *finish;
            f.out = (real *)f.out + i * f.out_row;
            f.y = FN(moved)(f.y, i * f.y_row);
            f.add = FN(moved)(f.add, i * f.add_row);
            if (first > 0) {
                f.add = f.out;
                f.add_row = f.out_row;
                f.beta = 1;
            }
            if (first + inner < k)
                f.mode = FG_PLAIN;
            const real *block = (const real *)a.data + i * a.row + first * a.column;
            for (int64_t j = 0; j < n; j += PANEL) {
                const int columns = n - j < PANEL ? (int)(n - j) : PANEL;
                const real *panel = (const real *)b.data + first * b.row + j * b.column;
                const int vectors = FN(vectors)(columns);
                int64_t step = b.row;
                if (b.column != 1 || columns % LANES != 0 || rows >= MANY_ROWS) {
                    FN(pack_panel)(columns, inner, panel, b.row, b.column, vectors * LANES, packed);
                    panel = packed;
                    step = vectors * LANES;
                }
                FN(multiply_panel)(rows, columns, vectors, inner, block, a.row, a.column, panel, step, j, &f);
            }
        }
    }
}

/* Four rows at a time: a quarter of the traffic through out, and a quarter of its rounding errors. */
void FG_NAME(FN(column_sums))(int64_t m, int64_t n, const void *x_, int64_t x_row, int accumulate, void *out_)
{
    const real *x = x_;
    real *restrict out = out_;
    if (!accumulate)
        memset(out, 0, (size_t)n * sizeof(real));
    for (; m >= 4; m -= 4, x += 4 * x_row)
        for (int64_t c = 0; c < n; c++)
            out[c] += (x[c] + x[c + x_row]) + (x[c + 2 * x_row] + x[c + 3 * x_row]);
    for (; m > 0; m--, x += x_row)
        for (int64_t c = 0; c < n; c++)
            out[c] += x[c];
}

/* The leading dimension, which a BLAS wants to cover the other axis even where there is one row. */
static int64_t FN(leading)(fg_matrix x, int64_t rows, int64_t columns)
{
    return x.column == 1 ? (x.row > columns ? x.row : columns) : (x.column > rows ? x.column : rows);
}

/* Returns 0 where the BLAS is not there or not worth the call. */
static int FN(multiply_blas)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish)
{
    const double multiplications = (double)m * (double)n * (double)k * (b.column == 1 ? 1 : TRANSPOSED_DISCOUNT);
    if (multiplications < BLAS_PAYS || finish->mode != FG_PLAIN || !fg_blas_found.PICK(sgemm, dgemm))
        return 0;
    const int threads = fg_threads_here();
    const int64_t lda = FN(leading)(a, m, k), ldb = FN(leading)(b, k, n), largest = fg_blas_found.largest;
    if (threads < fg_get_threads() || (threads > 1 && multiplications < BLAS_PAYS_THREADED) || m > largest ||
        n > largest || k > largest || lda > largest || ldb > largest || finish->out_row > largest)
        return 0;
    if (finish->add && finish->add != finish->out)
        for (int64_t r = 0; r < m; r++)
            memcpy((real *)finish->out + r * finish->out_row, (const real *)finish->add + r * finish->add_row,
                   (size_t)n * sizeof(real));
    fg_blas_found.PICK(sgemm, dgemm)(a.column != 1, b.column != 1, m, n, k, (real)finish->alpha, a.data, lda, b.data,
                                     ldb, finish->add ? (real)finish->beta : 0, finish->out, finish->out_row);
    return 1;
}

static void FN(multiply_here)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish)
{
    if (m <= FEW_ROWS && a.column == 1 && b.row == 1)
        FN(multiply_dots)(m, n, k, a, b, finish);
    else
        FN(multiply)(m, n, k, a, b, finish);
}

typedef struct FN(product) {
    int64_t m, n, k, panels;
    fg_matrix a, b;
    const fg_finish *finish;
    int row_parts, column_parts;
} FN(product);

static void FN(multiply_part)(void *product, int part)
{
    const FN(product) *p = product;
    const int row_part = part % p->row_parts, column_part = part / p->row_parts;
    const int64_t i = p->m * row_part / p->row_parts, i_end = p->m * (row_part + 1) / p->row_parts;
    const int64_t j = p->panels * column_part / p->column_parts * PANEL;
    const int64_t j_end = p->panels * (column_part + 1) / p->column_parts * PANEL;
    fg_finish f = *p->finish;
    f.out = (real *)f.out + i * f.out_row + j;
    f.add = FN(moved)(f.add, i * f.add_row + j);
    f.y = FN(moved)(f.y, i * f.y_row + j);
    const fg_matrix a = {(const real *)p->a.data + i * p->a.row, p->a.row, p->a.column};
    const fg_matrix b = {(const real *)p->b.data + j * p->b.column, p->b.row, p->b.column};
    FN(multiply_here)(i_end - i, (j_end < p->n ? j_end : p->n) - j, p->k, a, b, &f);
}

/* Threads share the blocks of rows, the panels, or fewer rows where there are few of both; no sum is cut. More parts
 * than threads, for a thread that comes late. */
static void FN(multiply_shared)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish)
{
    const double work = (double)m * (double)n * (double)k * (REAL_BITS / 32);
    const int threads = work >= THREADS_PAY ? fg_threads_here() : work >= THREADS_PAY_AWAKE ? fg_threads_awake() : 1;
    FN(product) p = {m, n, k, (n + PANEL - 1) / PANEL, a, b, finish, 1, 1};
    if (threads > 1 && m >= BLOCK_ROWS * threads)
        p.row_parts = (int)(m < 4 * threads * BLOCK_ROWS ? m / BLOCK_ROWS : 4 * threads);
    else if (threads > 1 && (p.panels >= 4 * threads || p.panels % threads == 0 || m < SHARED_ROWS * threads))
        p.column_parts = (int)(p.panels < 4 * threads ? p.panels : 4 * threads);
    else if (threads > 1)
        p.row_parts = threads;
    if (p.row_parts * p.column_parts > 1)
        fg_parallel(p.row_parts * p.column_parts, FN(multiply_part), &p);
    else
        FN(multiply_here)(m, n, k, a, b, finish);
}

void FG_NAME(FN(gemm))(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish)
{
    if (m == 0 || n == 0)
        return;
    if (FN(multiply_blas)(m, n, k, a, b, finish))
        return;
    fg_finish as_row = *finish;
    if (n == 1 && m > 1 && finish->out_row == 1 && finish->mode == FG_PLAIN) {
        /* A column of results is the row of results of the transposed product. */
        if (finish->add && finish->add_row != 1) {
            for (int64_t r = 0; r < m; r++)
                ((real *)finish->out)[r] = ((const real *)finish->add)[r * finish->add_row];
            as_row.add = finish->out;
        }
        const fg_matrix transposed = {a.data, a.column, a.row};
        a = (fg_matrix){b.data, b.column, b.row};
        b = transposed;
        n = m;
        m = 1;
        finish = &as_row;
    }
    FN(multiply_shared)(m, n, k, a, b, finish);
}

#endif
