/* Finds a BLAS that the process has already loaded (NumPy's as a rule) and wraps its two matrix products. */
#include "kernel.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

fg_blas fg_blas_found;

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 }; /* CBLAS */

static void *sgemm_symbol, *dgemm_symbol;

#define WRAP(name, symbol, real, integer)                                                                             \
    static void name(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, real alpha, const real *a,    \
                     int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc)                        \
    {                                                                                                                 \
        typedef void cblas_gemm(int, int, int, integer, integer, integer, real, const real *, integer, const real *,  \
                                integer, real, real *, integer);                                                      \
        ((cblas_gemm *)symbol)(ROW_MAJOR, transpose_a ? TRANSPOSE : NO_TRANSPOSE,                                     \
                               transpose_b ? TRANSPOSE : NO_TRANSPOSE, (integer)m, (integer)n, (integer)k, alpha, a,  \
                               (integer)lda, b, (integer)ldb, beta, c, (integer)ldc);                                 \
    }
WRAP(sgemm_lp64, sgemm_symbol, float, int32_t)
WRAP(dgemm_lp64, dgemm_symbol, double, int32_t)
WRAP(sgemm_ilp64, sgemm_symbol, float, int64_t)
WRAP(dgemm_ilp64, dgemm_symbol, double, int64_t)

static void *find(void *library, const char *prefix, const char *stem, const char *suffix)
{
    char symbol[64];
    snprintf(symbol, sizeof symbol, "%s%s%s", prefix, stem, suffix);
    return dlsym(library, symbol);
}

/* The spellings of OpenBLAS in NumPy's and SciPy's wheels (scipy-openblas64, scipy-openblas32, and cblas_sgemm64_
 * before NumPy 2), of MKL (cblas_sgemm_64) and of everything else. */
static const struct {
    const char *prefix, *suffix;
} spellings[] = {{"scipy_", "64_"}, {"", "64_"}, {"", "_64"}, {"scipy_", ""}, {"", ""}};

static const char *last_part(const char *path, const char *end)
{
    while (end > path && end[-1] != '/')
        end--;
    return end;
}

static void describe(const char *path, const char *config, int wide)
{
    static char text[256];
    const char *file = last_part(path, path + strlen(path));
    const char *folder = file > path ? last_part(path, file - 1) : file;
    int shown = file > path ? (int)(file - 1 - folder) : (int)strlen(file);
    /* OpenBLAS describes itself as "OpenBLAS 0.3.30 DYNAMIC_ARCH ...": the first two words are its name. */
    int words = 0, length = 0;
    for (; config && config[length] && (words += config[length] == ' ') < 2; length++) {}
    if (length)
        snprintf(text, sizeof text, "%.*s (%.*s), %d-bit integers", length, config, shown, folder, wide ? 64 : 32);
    else
        snprintf(text, sizeof text, "%s, %d-bit integers", file, wide ? 64 : 32);
    fg_blas_found.name = text;
}

static int take(void *library, const char *path)
{
    for (size_t k = 0; k < sizeof spellings / sizeof *spellings; k++) {
        const char *prefix = spellings[k].prefix, *suffix = spellings[k].suffix;
        void *sgemm = find(library, prefix, "cblas_sgemm", suffix);
        void *dgemm = find(library, prefix, "cblas_dgemm", suffix);
        if (!sgemm || !dgemm)
            continue;
        void *config_symbol = find(library, prefix, "openblas_get_config", suffix);
        const char *config = config_symbol ? ((char *(*)(void))config_symbol)() : NULL;
        int wide = *suffix || (config && strstr(config, "USE64BITINT"));
        void *set = find(library, prefix, "openblas_set_num_threads", suffix);
        void *get = find(library, prefix, "openblas_get_num_threads", suffix);
        if (!set || !get) {
            set = dlsym(library, "MKL_Set_Num_Threads");
            get = dlsym(library, "MKL_Get_Max_Threads");
        }
        sgemm_symbol = sgemm;
        dgemm_symbol = dgemm;
        fg_blas_found = (fg_blas){
            .sgemm = wide ? sgemm_ilp64 : sgemm_lp64,
            .dgemm = wide ? dgemm_ilp64 : dgemm_lp64,
            .largest = wide ? INT64_MAX : INT32_MAX,
            .set_num_threads = set && get ? (void (*)(int))set : NULL,
            .get_num_threads = set && get ? (int (*)(void))get : NULL,
        };
        describe(path, config, wide);
        return 1;
    }
    return 0;
}

#ifdef __APPLE__
#define ACCELERATE "/System/Library/Frameworks/Accelerate.framework/Accelerate"
static const char *const usual_names[] = {"libopenblas.dylib", "libopenblas.0.dylib", "libcblas.3.dylib",
                                          "libmkl_rt.2.dylib", ACCELERATE};
#else
static const char *const usual_names[] = {"libcblas.so.3",   "libopenblas.so.0", "libopenblas.so", "libopenblasp.so.0",
                                          "libmkl_rt.so.2",  "libmkl_rt.so.1",   "libmkl_rt.so",   "libblis.so.4",
                                          "libflexiblas.so.3", "libblas.so.3"};
#endif

static int try_all(const char *const *paths, int count, int mode)
{
    for (int k = 0; k < count; k++) {
        void *library = dlopen(paths[k], mode | RTLD_NOW | RTLD_LOCAL);
        if (library && take(library, paths[k]))
            return 1;
        if (library)
            dlclose(library);
    }
    return 0;
}

int fg_load_blas(const char *path, const char *const *candidates, int candidate_count)
{
    if (path && *path)
        return try_all(&path, 1, 0);
    if (try_all(candidates, candidate_count, RTLD_NOLOAD) ||
        try_all(usual_names, sizeof usual_names / sizeof *usual_names, RTLD_NOLOAD) ||
        try_all(candidates, candidate_count, 0))
        return 1;
#ifdef __APPLE__
    return try_all((const char *const[]){ACCELERATE}, 1, 0);
#else
    return 0;
#endif
}
