/* Runs the matrix products and the recurrent kernels over a table of odd sizes, each operand in a heap block of exactly
 * its size. test_sanitized.py builds it with a sanitizer: an access beside a block, an uninitialised shift, a data race
 * ends the program. Outputs start as NaN and must end finite. The arguments are an instruction set and the numbers of
 * threads. Compiled with FG_ISA it is that set's table of the kernels that are linked.
 */
#include "kernel.h"

#ifdef FG_ISA

#define TESTED(name) [FG_KERNEL_##name] = FG_NAME(name)
const fg_kernel FG_NAME(kernels)[FG_KERNEL_COUNT] = {
    TESTED(matmul), TESTED(linear), TESTED(linear_backward), TESTED(rnn), TESTED(rnn_backward),
    TESTED(lstm),   TESTED(lstm_backward), TESTED(gru),      TESTED(gru_backward),
};

#else

#include "array.h"
#include "threads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fg_blas fg_blas_found; /* none, so that the own products run */
/* The table that a program for another instruction set has no use for. */
__attribute__((weak)) const fg_kernel fg_kernels_baseline[FG_KERNEL_COUNT] = {0};

#define MOST_OPERANDS 40
enum { HIDDEN_GATES = 4, MOST_STEPS = 64 };

typedef struct launch {
    fg_array arrays[MOST_OPERANDS];
    char written[MOST_OPERANDS]; /* is it an output? */
    int count, dtype;
} launch;

static uint64_t random_state = 1;

/* In [-1, 1); the multiplier is Knuth's of MMIX. */
static double random_number(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)random_state * 0x1p-63;
}

static void *block(size_t bytes)
{
    void *data = malloc(bytes);
    if (!data)
        abort();
    return data;
}

static double element(const fg_array *x, int64_t k)
{
    return x->dtype == FG_FLOAT32 ? (double)((const float *)x->data)[k] : ((const double *)x->data)[k];
}

static void fill(fg_array *x, int with_nan)
{
    const int64_t count = element_count(x);
    for (int64_t k = 0; k < count; k++) {
        const double value = with_nan ? NAN : random_number();
        if (x->dtype == FG_FLOAT32)
            ((float *)x->data)[k] = (float)value;
        else
            ((double *)x->data)[k] = value;
    }
}

static fg_array *absent(launch *l)
{
    fg_array *x = &l->arrays[l->count++];
    *x = (fg_array){.dtype = l->dtype};
    return x;
}

/* A contiguous array; an axis of length -1 is none. */
static fg_array *array(launch *l, int with_nan, int64_t a, int64_t b, int64_t c)
{
    fg_array *x = absent(l);
    const int64_t lengths[] = {a, b, c};
    for (int k = 0; k < 3; k++)
        if (lengths[k] >= 0)
            x->shape[x->ndim++] = lengths[k];
    int64_t stride = 1;
    for (int k = x->ndim - 1; k >= 0; k--) {
        x->strides[k] = stride;
        stride *= x->shape[k];
    }
    x->data = block((size_t)element_count(x) * (size_t)item_size(x->dtype));
    fill(x, with_nan);
    return x;
}

static fg_array *output(launch *l, int64_t a, int64_t b, int64_t c)
{
    l->written[l->count] = 1;
    return array(l, 1, a, b, c);
}

static fg_array *input(launch *l, int64_t a, int64_t b, int64_t c) { return array(l, 0, a, b, c); }

static void run(launch *l, int kernel, const fg_params *params)
{
    fg_array *operands[MOST_OPERANDS];
    for (int k = 0; k < l->count; k++)
        operands[k] = &l->arrays[k];
    fg_kernels[kernel](operands, l->count, params);
    for (int k = 0; k < l->count; k++)
        for (int64_t e = 0; l->written[k] && l->arrays[k].data && e < element_count(&l->arrays[k]); e++)
            if (!isfinite(element(&l->arrays[k], e))) {
                fprintf(stderr, "%s: element %lld of operand %d was not written\n", fg_kernel_names[kernel],
                        (long long)e, k);
                exit(1);
            }
}

static void release(launch *l)
{
    for (int k = 0; k < l->count; k++)
        free(l->arrays[k].data);
}

/* The same memory seen as its transpose. */
static void transpose(fg_array *x)
{
    const int64_t rows = x->shape[0], columns = x->shape[1];
    x->shape[0] = columns, x->shape[1] = rows;
    x->strides[0] = 1, x->strides[1] = columns;
}

static void products(int dtype, int64_t m, int64_t n, int64_t k)
{
    for (int transposed = 0; transposed < 4; transposed++) {
        launch l = {.dtype = dtype};
        output(&l, m, n, -1);
        fg_array *a = transposed & 1 ? input(&l, k, m, -1) : input(&l, m, k, -1);
        fg_array *b = transposed & 2 ? input(&l, n, k, -1) : input(&l, k, n, -1);
        if (transposed & 1)
            transpose(a);
        if (transposed & 2)
            transpose(b);
        run(&l, FG_KERNEL_matmul, &(fg_params){.f = {0, 1}});
        release(&l);
    }
    launch l = {.dtype = dtype};
    output(&l, m, n, -1), input(&l, m, k, -1), input(&l, n, k, -1), input(&l, n, -1, -1);
    run(&l, FG_KERNEL_linear, &(fg_params){0});
    release(&l);
    l = (launch){.dtype = dtype};
    output(&l, m, k, -1), output(&l, n, k, -1), output(&l, n, -1, -1);
    input(&l, m, n, -1), input(&l, m, k, -1), input(&l, n, k, -1);
    run(&l, FG_KERNEL_linear_backward, &(fg_params){0});
    release(&l);
}

typedef struct layer {
    int forward, backward, nonlinearity, dtype;
    int64_t steps, batch, rows, inputs, hidden, state, directions;
    const int64_t *batch_sizes; /* NULL: equal lengths */
    int given;                  /* bits: initial states, biases, gradients of the last states, dx */
} layer;

enum { STATES = 1, BIASES = 2, LAST_GRADIENTS = 4, INPUT_GRADIENT = 8, EVERYTHING = 15 };

static int is_lstm(const layer *p) { return p->forward == FG_KERNEL_lstm; }
static int is_gated(const layer *p) { return p->forward != FG_KERNEL_rnn; }
static int64_t gate_rows(const layer *p)
{
    return p->hidden * (is_lstm(p) ? 4 : p->forward == FG_KERNEL_gru ? 3 : 1);
}

static void workspace(launch *l, const layer *p, int kernel)
{
    array(l, 1, fg_recurrent_workspace(kernel, p->steps, p->batch, p->rows, p->inputs, p->hidden, p->state,
                                       p->directions), -1, -1);
}

static void lengths(launch *l, const layer *p)
{
    fg_array *x = absent(l);
    x->dtype = FG_INT64;
    if (!p->batch_sizes)
        return;
    x->ndim = 1, x->shape[0] = p->steps, x->strides[0] = 1;
    x->data = block((size_t)p->steps * sizeof(int64_t));
    memcpy(x->data, p->batch_sizes, (size_t)p->steps * sizeof(int64_t));
}

static fg_array *if_given(launch *l, const layer *p, int bit, int64_t a, int64_t b, int64_t c)
{
    return p->given & bit ? input(l, a, b, c) : absent(l);
}

/* The same numbers in a block of their own. */
static void again(launch *l, const fg_array *saved)
{
    fg_array *x = absent(l);
    if (!saved->data)
        return;
    *x = *saved;
    const size_t bytes = (size_t)element_count(x) * (size_t)item_size(x->dtype);
    x->data = block(bytes);
    memcpy(x->data, saved->data, bytes);
}

static void recurrent(const layer *p)
{
    const int64_t d = p->directions, n = p->rows, b = p->batch, h = p->hidden, s = p->state, g = gate_rows(p);
    const fg_params params = {.i = {p->nonlinearity, b}};
    launch f = {.dtype = p->dtype};
    const fg_array *y = output(&f, n, d * s, -1);
    output(&f, d, b, s);
    is_lstm(p) ? output(&f, d, b, h) : absent(&f);
    const fg_array *gates = is_gated(p) ? output(&f, d, n, HIDDEN_GATES * h) : absent(&f);
    const fg_array *cells = is_lstm(p) ? output(&f, d, n, h) : absent(&f);
    workspace(&f, p, p->forward);
    const fg_array *x = input(&f, n, p->inputs, -1);
    const fg_array *h_0 = if_given(&f, p, STATES, d, b, s);
    const fg_array *c_0 = is_lstm(p) ? if_given(&f, p, STATES, d, b, h) : absent(&f);
    lengths(&f, p);
    const fg_array *weights = &f.arrays[f.count];
    for (int64_t k = 0; k < d; k++) {
        input(&f, g, p->inputs, -1), input(&f, g, s, -1);
        if_given(&f, p, BIASES, g, -1, -1), if_given(&f, p, BIASES, g, -1, -1);
        s != h ? input(&f, s, h, -1) : absent(&f);
    }
    run(&f, p->forward, &params);

    launch r = {.dtype = p->dtype};
    p->given & INPUT_GRADIENT ? output(&r, n, p->inputs, -1) : absent(&r);
    output(&r, d, b, s);
    is_lstm(p) ? output(&r, d, b, h) : absent(&r);
    workspace(&r, p, p->backward);
    input(&r, n, d * s, -1);
    if_given(&r, p, LAST_GRADIENTS, d, b, s);
    is_lstm(p) ? if_given(&r, p, LAST_GRADIENTS, d, b, h) : absent(&r);
    again(&r, y), again(&r, gates), again(&r, cells), again(&r, x), again(&r, h_0), again(&r, c_0);
    lengths(&r, p);
    for (int64_t k = 0; k < d; k++, weights += 5) {
        output(&r, g, p->inputs, -1), output(&r, g, s, -1), output(&r, g, -1, -1), output(&r, g, -1, -1);
        s != h ? output(&r, s, h, -1) : absent(&r);
        again(&r, weights), again(&r, weights + 1), again(&r, weights + 4);
    }
    run(&r, p->backward, &params);
    release(&r);

    /* Without what is saved; nothing but the output. */
    for (int k = 3; k < 5; k++) {
        free(f.arrays[k].data);
        f.arrays[k] = (fg_array){.dtype = p->dtype};
    }
    run(&f, p->forward, &params);
    release(&f);
}

/* Sequences of these lengths, the longest first and -1 last, as batch_sizes. */
static void unequal(layer *p, const int *sequence_lengths, int64_t *batch_sizes)
{
    p->rows = p->batch = 0;
    p->steps = sequence_lengths[0];
    memset(batch_sizes, 0, MOST_STEPS * sizeof *batch_sizes);
    for (; sequence_lengths[p->batch] > 0; p->batch++)
        for (int t = 0; t < sequence_lengths[p->batch]; t++, p->rows++)
            batch_sizes[t]++;
    p->batch_sizes = batch_sizes;
}

static void every_option(layer p)
{
    static const struct {
        int forward, backward, nonlinearity;
    } cells[] = {
        {FG_KERNEL_rnn, FG_KERNEL_rnn_backward, 0},
        {FG_KERNEL_rnn, FG_KERNEL_rnn_backward, 1},
        {FG_KERNEL_gru, FG_KERNEL_gru_backward, 0},
        {FG_KERNEL_lstm, FG_KERNEL_lstm_backward, 0},
    };
    static const int given[] = {EVERYTHING, 0, STATES | LAST_GRADIENTS, BIASES | INPUT_GRADIENT};
    static int turn;
    for (int c = 0; c < 4; c++)
        for (p.dtype = FG_FLOAT32; p.dtype <= FG_FLOAT64; p.dtype++)
            for (p.directions = 1; p.directions <= 2; p.directions++) {
                p.forward = cells[c].forward, p.backward = cells[c].backward, p.nonlinearity = cells[c].nonlinearity;
                p.given = given[turn++ % 4];
                p.state = p.hidden;
                recurrent(&p);
                if (is_lstm(&p) && p.hidden > 1) {
                    p.state = 1 + p.hidden / 3;
                    recurrent(&p);
                }
            }
}

int main(int argc, char **argv)
{
    static const int64_t product_sizes[][3] = {
        {1, 1, 1}, {1, 16, 4}, {1, 50, 7}, {3, 4, 0}, {5, 17, 15}, {6, 8, 7}, {7, 31, 33}, {13, 33, 9}, {25, 65, 3},
        {97, 40, 30}, {125, 70, 530},
    };
    static const int64_t sizes[][4] = {
        {1, 1, 1, 1}, {3, 2, 7, 3}, {2, 1, 3, 5}, {4, 5, 1, 8}, {2, 12, 9, 17}, {1, 20, 33, 31}, {9, 13, 5, 33},
        {2, 33, 10, 65}, {50, 9, 2, 3}, {260, 9, 2, 1},
    };
    static const int sequence_lengths[][16] = {
        {5, 5, 5, -1},
        {7, 6, 5, 4, 3, 2, 1, -1},
        {9, 9, 9, 9, 4, 4, 4, 2, 2, 1, 1, 1, 1, 1, -1},
        {1, 1, 1, -1},
        {30, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1},
        {60, 59, 33, 33, 33, 33, 20, 1, -1},
    };
    if (argc < 3 || !fg_choose_isa(argv[1])) {
        fprintf(stderr, "usage: sanitized INSTRUCTION_SET THREADS...\n");
        return 2;
    }
    for (int a = 2; a < argc; a++) {
        fg_set_threads(atoi(argv[a]));
        for (size_t k = 0; k < sizeof product_sizes / sizeof *product_sizes; k++)
            for (int dtype = FG_FLOAT32; dtype <= FG_FLOAT64; dtype++)
                products(dtype, product_sizes[k][0], product_sizes[k][1], product_sizes[k][2]);
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            every_option((layer){.steps = sizes[k][0], .batch = sizes[k][1], .inputs = sizes[k][2],
                                 .hidden = sizes[k][3], .rows = sizes[k][0] * sizes[k][1]});
        for (size_t k = 0; k < sizeof sequence_lengths / sizeof *sequence_lengths; k++) {
            int64_t room[MOST_STEPS];
            layer p = {.inputs = 3, .hidden = 5 + 7 * (int64_t)k};
            unequal(&p, sequence_lengths[k], room);
            every_option(p);
        }
    }
    printf("%s: nothing found\n", argv[1]);
    return 0;
}
#endif
