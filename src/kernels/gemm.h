/* Matrix products as matmul.c and rnn.c use them; one set of functions per instruction set and dtype. */
#ifndef FASTGRAD_GEMM_H
#define FASTGRAD_GEMM_H

#include "kernel.h"

typedef struct fg_matrix {
    const void *data;
    int64_t row, column; /* strides in elements; one of them is 1 */
} fg_matrix;

typedef enum { FG_PLAIN, FG_RELU, FG_TANH, FG_RELU_GRADIENT, FG_TANH_GRADIENT } fg_finish_mode;

/* What happens to a product before it is stored: out = f(alpha*product + beta*add). A gradient's f multiplies by the
 * derivative of relu or tanh, expressed by the activation's result y. */
typedef struct fg_finish {
    void *out;
    int64_t out_row;
    const void *add; /* NULL: nothing is added; may be out; row stride 0 for a bias */
    int64_t add_row;
    const void *y;
    int64_t y_row;
    double alpha, beta;
    fg_finish_mode mode;
} fg_finish;

#ifdef FG_ISA
#define FG_DECLARE_GEMM(dtype)                                                                                        \
    /* (m,k) @ (k,n) */                                                                                               \
    void FG_NAME(gemm_##dtype)(int64_t m, int64_t n, int64_t k, fg_matrix a, fg_matrix b, const fg_finish *finish);   \
    /* b (k,n) as multiply_packed reads it, in fg_packed_size(n)*k elements */                                        \
    void FG_NAME(pack_##dtype)(int64_t n, int64_t k, fg_matrix b, void *packed);                                      \
    void FG_NAME(multiply_packed_##dtype)(int64_t m, int64_t n, int64_t k, fg_matrix a, const void *packed,           \
                                          const fg_finish *finish);                                                   \
    /* out (n,) = column sums of a contiguous x (m,n), added to out if asked for */                                   \
    void FG_NAME(column_sums_##dtype)(int64_t m, int64_t n, const void *x, int accumulate, void *out);
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
