/* What kernels there are, and which instruction set's copy of them runs. */
#include "recurrent.h"

#include <string.h>

const char *const fg_kernel_names[FG_KERNEL_COUNT] = {
#define KERNEL(name, operands, meaning) #name,
#include "kernels.def"
#undef KERNEL
};

const char *const fg_kernel_operands[FG_KERNEL_COUNT] = {
#define KERNEL(name, operands, meaning) operands,
#include "kernels.def"
#undef KERNEL
};

const char *const fg_kernel_meanings[FG_KERNEL_COUNT] = {
#define KERNEL(name, operands, meaning) meaning,
#include "kernels.def"
#undef KERNEL
};

/* __builtin_cpu_supports also asks the operating system whether it saves the wide registers (xgetbv). */
static int runs_always(void) { return 1; }
extern const fg_kernel fg_kernels_baseline[FG_KERNEL_COUNT];

#if defined(__x86_64__) || defined(__i386__)
#ifdef FG_ISA_AVX2
static int runs_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
extern const fg_kernel fg_kernels_avx2[FG_KERNEL_COUNT];
#endif
#ifdef FG_ISA_AVX512
static int runs_avx512(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}
extern const fg_kernel fg_kernels_avx512[FG_KERNEL_COUNT];
#endif
#endif

static const struct {
    const char *name;
    int (*runs_here)(void);
    const fg_kernel *kernels;
} isas[] = {
    {"baseline", runs_always, fg_kernels_baseline},
#if defined(__x86_64__) || defined(__i386__)
#ifdef FG_ISA_AVX2
    {"avx2", runs_avx2, fg_kernels_avx2},
#endif
#ifdef FG_ISA_AVX512
    {"avx512", runs_avx512, fg_kernels_avx512},
#endif
#endif
};
enum { ISA_COUNT = sizeof isas / sizeof *isas };

const fg_kernel *fg_kernels = fg_kernels_baseline;

const char *fg_choose_isa(const char *wanted)
{
    for (int k = ISA_COUNT - 1; k >= 0; k--)
        if ((!wanted || !*wanted || !strcmp(wanted, isas[k].name)) && isas[k].runs_here()) {
            fg_kernels = isas[k].kernels;
            return isas[k].name;
        }
    return NULL;
}

int fg_list_isa(const char **names, int room)
{
    int count = 0;
    for (int k = 0; k < ISA_COUNT && count < room; k++)
        if (isas[k].runs_here())
            names[count++] = isas[k].name;
    return count;
}

_Thread_local char fg_scratch[FG_SCRATCH_BYTES] __attribute__((aligned(64)));

int64_t fg_recurrent_workspace(int kernel, int64_t steps, int64_t batch, int64_t rows, int64_t inputs, int64_t hidden,
                               int64_t state, int directions)
{
    const int lstm = kernel == FG_KERNEL_lstm || kernel == FG_KERNEL_lstm_backward;
    const int gru = kernel == FG_KERNEL_gru || kernel == FG_KERNEL_gru_backward;
    const fg_recurrent_size size = {
        .steps = steps, .batch = batch, .rows = rows, .inputs = inputs, .hidden = hidden, .state = state,
        .gates = lstm ? FG_LSTM_GATES : gru ? FG_GRU_GATES : FG_RNN_GATES,
        .kept = lstm ? FG_LSTM_KEPT : gru ? FG_GRU_KEPT : FG_RNN_KEPT,
    };
    const int backward = kernel == FG_KERNEL_rnn_backward || kernel == FG_KERNEL_lstm_backward ||
                         kernel == FG_KERNEL_gru_backward;
    return directions * fg_plan_recurrent(&size, backward).total;
}
