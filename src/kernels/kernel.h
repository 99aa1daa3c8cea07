/* The calling convention of every kernel.
 *
 * A kernel is a function over raw arrays: it allocates nothing, checks nothing and knows no Python. The op that
 * launches it has fixed dtypes, shapes and layouts beforehand; kernels.def says which ones each kernel expects.
 */
#ifndef FASTGRAD_KERNEL_H
#define FASTGRAD_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define FG_MAX_NDIM 12

typedef enum { FG_BOOL, FG_UINT8, FG_INT32, FG_INT64, FG_FLOAT32, FG_FLOAT64, FG_DTYPE_COUNT } fg_dtype;

typedef struct fg_array {
    void *data;                    /* the first element; NULL where the operand is a number, see below */
    int32_t dtype;                 /* fg_dtype; a bool is one byte, 0 or 1 */
    int32_t ndim;
    int64_t shape[FG_MAX_NDIM];
    int64_t strides[FG_MAX_NDIM];  /* in elements; 0 on a broadcast axis, negative never */
} fg_array;

/* The numbers of a launch. Where operand k is a number instead of an array (its data is NULL, its ndim 0), its value
 * is f[k] when its dtype is a float and i[k] otherwise. Other parameters are named in kernels.def. */
typedef struct fg_params {
    int64_t i[8];
    double f[8];
} fg_params;

/* Operands come in the order outputs, saved values and workspace, inputs. */
typedef void (*fg_kernel)(fg_array *const *operands, int operand_count, const fg_params *params);

enum {
#define KERNEL(name, operands, meaning) FG_KERNEL_##name,
#include "kernels.def"
#undef KERNEL
    FG_KERNEL_COUNT
};

/* Every kernel file is compiled once per instruction set; FG_ISA is that set's name (baseline, avx2, avx512). */
#ifdef FG_ISA
#define FG_PASTE3(a, b, c) a##_##b##_##c
#define FG_PASTE(a, b, c) FG_PASTE3(a, b, c)
#define FG_NAME(name) FG_PASTE(fg, name, FG_ISA)
#define KERNEL(name, operands, meaning) \
    void FG_NAME(name)(fg_array *const *operands_, int operand_count, const fg_params *params);
#include "kernels.def"
#undef KERNEL
extern const fg_kernel FG_NAME(kernels)[FG_KERNEL_COUNT];
#endif

/* table.c */
extern const fg_kernel *fg_kernels;                 /* the chosen set's kernels, indexed by FG_KERNEL_name */
extern const char *const fg_kernel_names[FG_KERNEL_COUNT];
extern const char *const fg_kernel_operands[FG_KERNEL_COUNT];
extern const char *const fg_kernel_meanings[FG_KERNEL_COUNT];
const char *fg_choose_isa(const char *wanted);      /* NULL or "" for the best; returns its name, NULL if unknown or unsupported here */
int fg_list_isa(const char **names, int room);      /* the sets this machine can run, worst first */

/* How many operands the recurrent kernels have: fixed ones, and those of each of up to two directions (kernels.def). */
enum {
    FG_FIXED_OPERANDS = 10,
    FG_DIRECTION_OPERANDS = 5,
    FG_MOST_OPERANDS = FG_FIXED_OPERANDS + 2 * FG_DIRECTION_OPERANDS,
    FG_FIXED_GRADIENT_OPERANDS = 14, /* backward */
    FG_DIRECTION_GRADIENT_OPERANDS = 8,
    FG_MOST_GRADIENT_OPERANDS = FG_FIXED_GRADIENT_OPERANDS + 2 * FG_DIRECTION_GRADIENT_OPERANDS,
};
/* table.c: how many elements of workspace a launch of this recurrent kernel needs. */
int64_t fg_recurrent_workspace(int kernel, int64_t steps, int64_t batch, int64_t rows, int64_t inputs, int64_t hidden,
                               int64_t state, int directions);

/* random.c: the size of a generator's state in bytes. */
#define FG_GENERATOR_BYTES 5120

/* blas.c: a BLAS found in the running process. Row-major; a null pointer means that none was found. */
typedef struct fg_blas {
    const char *name;    /* what show_config prints, e.g. "OpenBLAS 0.3.30 (numpy.libs), 64-bit integers" */
    void (*sgemm)(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
    void (*dgemm)(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                  int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
    void (*set_num_threads)(int n);
    int (*get_num_threads)(void);
    int64_t largest;     /* the largest size or stride that its integers carry */
} fg_blas;
extern fg_blas fg_blas_found;
/* path: a shared library to use (FASTGRAD_BLAS); else the candidates are tried in order. Returns 1 if one was taken. */
int fg_load_blas(const char *path, const char *const *candidates, int candidate_count);

#endif
