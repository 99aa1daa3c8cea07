/* Matrix products as matmul.c and the recurrent kernels use them; one set of functions per instruction set and dtype. */
#ifndef FASTGRAD_GEMM_H
#define FASTGRAD_GEMM_H

#include "kernel.h"

typedef struct fg_matrix {
    const void *data;
    int64_t row, column; /* strides in elements; one of them is 1 */
} fg_matrix;

typedef enum { FG_PLAIN, FG_RELU, FG_TANH, FG_RELU_GRADIENT, FG_TANH_GRADIENT, FG_CALL } fg_finish_mode;

/* A part of a product, `rows` by `columns` from (first_row, first_column) on, as it leaves the registers: element
 * (r, c) of part p is sums[r * sums_row + p * sums_part + c], with whole vectors to be read at the right edge. */
typedef struct fg_sums {
    int64_t first_row, first_column;
    int rows, columns;
    const void *sums;
    int64_t sums_row, sums_part;
} fg_sums;

/* What happens to a product before it is stored: out = f(alpha*product + beta*add). A gradient's f multiplies by the
 * derivative of relu or tanh, expressed by the activation's result y. FG_CALL stores nothing: `call` takes the sums. */
typedef struct fg_finish {
    void *out;
    int64_t out_row;
    const void *add; /* NULL: nothing is added; may be out; row stride 0 for a bias */
    int64_t add_row;
    const void *y;
    int64_t y_row;
    double alpha, beta;
    fg_finish_mode mode;
    void (*call)(const void *context, const fg_sums *sums);
    const void *context;
} fg_finish;

#ifdef FG_ISA
#define FG_DECLARE_GEMM(dtype)                                                                                        \
    /* (m,k) @ (k,n) */                                                                                               \
    void FG_NAME(gemm_##dtype)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish);   \
    /* b (k, parts*n) as multiply_packed reads it, in parts*fg_packed_size(n)*k elements: a panel holds the same       \
     * columns of each part (of each gate of a recurrent cell) side by side */                                        \
    void FG_NAME(pack_##dtype)(int64_t n, int64_t k, int parts, fg_matrix b, void *packed);                           \
    /* parts > 1 needs a finish of mode FG_CALL, which then gets all parts of a column together */                    \
    void FG_NAME(multiply_packed_##dtype)(int64_t m, int64_t n, int64_t k, int parts, fg_matrix a,                    \
                                          const void *packed, const fg_finish *finish);                               \
    /* out (n,) = column sums of x (m,n) with contiguous rows, added to out if asked for */                           \
    void FG_NAME(column_sums_##dtype)(int64_t m, int64_t n, const void *x, int64_t x_row, int accumulate, void *out);
FG_DECLARE_GEMM(f32)
FG_DECLARE_GEMM(f64)
#endif

/* Where a product packs one panel of its right operand. */
#define FG_SCRATCH_BYTES 65536
extern _Thread_local char fg_scratch[FG_SCRATCH_BYTES];

/* No panel is wider than this many columns in any instruction set and dtype. */
#define FG_WIDEST_PANEL 32
static inline int64_t fg_packed_size(int64_t n)
{
    return (n + FG_WIDEST_PANEL - 1) / FG_WIDEST_PANEL * FG_WIDEST_PANEL;
}

#endif
