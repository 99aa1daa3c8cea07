/* Random numbers: PyTorch's CPU generator, so that the same seed gives PyTorch's numbers.
 *
 * The generator is mt19937 (Matsumoto and Nishimura 1998). What is made of its 32-bit words follows PyTorch's
 * ATen/core/TransformationHelper.h, DistributionsHelper.h and native/cpu/DistributionTemplates.h.
 */
#ifndef REAL_BITS
#include <math.h>
#include <string.h>

#include "array.h"
#include "simd.h"

#define WORDS 624
#define SHIFT 397

typedef struct fg_generator {
    uint32_t words[WORDS];
    int32_t next;               /* the word to use next; WORDS when all are used up */
    int32_t has_cached_normal;
    double cached_normal;       /* the second one of a pair that the scalar path has made */
} fg_generator;

_Static_assert(sizeof(fg_generator) <= FG_GENERATOR_BYTES, "FG_GENERATOR_BYTES must hold an fg_generator");

void FG_NAME(random_seed)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    fg_generator *generator = operands[0]->data;
    (void)operand_count;
    memset(generator, 0, sizeof *generator);
    generator->words[0] = (uint32_t)params->i[0];
    for (uint32_t k = 1; k < WORDS; k++) {
        const uint32_t last = generator->words[k - 1];
        generator->words[k] = 1812433253u * (last ^ (last >> 30)) + k;
    }
    generator->next = WORDS;
}

static inline uint32_t twist(uint32_t word, uint32_t following, uint32_t shifted)
{
    const uint32_t mixed = (word & 0x80000000u) | (following & 0x7fffffffu);
    return shifted ^ (mixed >> 1) ^ (-(following & 1) & 0x9908b0dfu);
}

static __attribute__((noinline)) void refill(fg_generator *generator)
{
    uint32_t *w = generator->words;
    for (int k = 0; k < WORDS - SHIFT; k++)
        w[k] = twist(w[k], w[k + 1], w[k + SHIFT]);
    for (int k = WORDS - SHIFT; k < WORDS - 1; k++)
        w[k] = twist(w[k], w[k + 1], w[k + SHIFT - WORDS]);
    w[WORDS - 1] = twist(w[WORDS - 1], w[0], w[SHIFT - 1]);
    generator->next = 0;
}

static inline uint32_t random_32(fg_generator *generator)
{
    if ((uint32_t)generator->next >= WORDS)     /* also where a state was set by hand */
        refill(generator);
    uint32_t word = generator->words[generator->next++];
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c5680u;
    word ^= (word << 15) & 0xefc60000u;
    return word ^ (word >> 18);
}

static inline uint64_t random_64(fg_generator *generator)
{
    const uint64_t high = random_32(generator);
    return high << 32 | random_32(generator);
}

/* In [0, 1), with as many random bits as the type has mantissa bits. */
static inline float next_uniform_f32(fg_generator *generator) { return (random_32(generator) & 0xffffff) * 0x1p-24f; }
static inline double next_uniform_f64(fg_generator *generator) { return (random_64(generator) & 0x1fffffffffffff) * 0x1p-53; }

/* Box-Muller, one number of the pair at a time; always in double. */
static double scalar_normal(fg_generator *generator)
{
    if (generator->has_cached_normal) {
        generator->has_cached_normal = 0;
        return generator->cached_normal;
    }
    const double u1 = next_uniform_f64(generator), u2 = next_uniform_f64(generator);
    const double radius = sqrt(-2 * log1p(-u2)), theta = 2 * M_PI * u1;
    generator->cached_normal = radius * sin(theta);
    generator->has_cached_normal = 1;
    return radius * cos(theta);
}

#define BODY "random.c"
#include "each_real.h"

#define FOR_DTYPE(name) \
    const int64_t count = element_count(operands[0]); \
    (void)operand_count; \
    if (operands[0]->dtype == FG_FLOAT32) \
        name##_f32(operands[0]->data, count, operands[1]->data, params); \
    else \
        name##_f64(operands[0]->data, count, operands[1]->data, params);

void FG_NAME(uniform)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    FOR_DTYPE(uniform)
}

void FG_NAME(normal)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    FOR_DTYPE(normal)
}

void FG_NAME(exponential)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    FOR_DTYPE(exponential)
}

/* Writes value to out[k], whatever the dtype. */
static inline void store(const fg_array *out, int64_t k, int64_t value)
{
    switch (out->dtype) {
    case FG_BOOL: ((uint8_t *)out->data)[k] = value != 0; break;
    case FG_UINT8: ((uint8_t *)out->data)[k] = (uint8_t)value; break;
    case FG_INT32: ((int32_t *)out->data)[k] = (int32_t)value; break;
    case FG_INT64: ((int64_t *)out->data)[k] = value; break;
    case FG_FLOAT32: ((float *)out->data)[k] = (float)value; break;
    default: ((double *)out->data)[k] = (double)value; break;
    }
}

/* As PyTorch without MKL, and with it on processors that are not Intel's. An array of probabilities is compared in its
 * own type, a number in double. */
void FG_NAME(bernoulli)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    const fg_array *out = operands[0], *p = operands[2];
    fg_generator *generator = operands[1]->data;
    const int64_t count = element_count(out);
    (void)operand_count;
    if (!p->data)
        for (int64_t k = 0; k < count; k++)
            store(out, k, next_uniform_f64(generator) < params->f[2]);
    else if (p->dtype == FG_FLOAT32)
        for (int64_t k = 0; k < count; k++)
            store(out, k, next_uniform_f32(generator) < ((const float *)p->data)[k]);
    else
        for (int64_t k = 0; k < count; k++)
            store(out, k, next_uniform_f64(generator) < ((const double *)p->data)[k]);
}

void FG_NAME(random_integers)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    const fg_array *out = operands[0];
    fg_generator *generator = operands[1]->data;
    const int64_t count = element_count(out);
    const uint64_t low = (uint64_t)params->i[0], range = (uint64_t)params->i[1] - low;
    (void)operand_count;
    for (int64_t k = 0; k < count; k++) {
        const uint64_t offset = range == 0   ? random_64(generator) /* all 2^64 integers, whose number wraps */
                              : range >> 28 ? random_64(generator) % range
                                            : random_32(generator) % (uint32_t)range;
        store(out, k, (int64_t)(low + offset));
    }
}

/* Fisher and Yates' shuffle from the front. */
void FG_NAME(randperm)(fg_array *const *operands, int operand_count, const fg_params *params)
{
    int64_t *out = operands[0]->data;
    fg_generator *generator = operands[1]->data;
    const int64_t count = operands[0]->shape[0];
    (void)operand_count, (void)params;
    for (int64_t k = 0; k < count; k++)
        out[k] = k;
    for (int64_t k = 0; k < count - 1; k++) {
        const int64_t other = k + (int64_t)(random_32(generator) % (uint64_t)(count - k)), kept = out[k];
        out[k] = out[other];
        out[other] = kept;
    }
}

#else

static void FN(uniform)(real *out, int64_t count, fg_generator *generator, const fg_params *params)
{
    const real low = (real)params->f[0], width = (real)params->f[1] - low;
    for (int64_t k = 0; k < count; k++)
        out[k] = PICK(fmaf, fma)(FN(next_uniform)(generator), width, low);  /* fused everywhere, as PyTorch's is */
}

#define BLOCK 16
#define PAIRS_AT_ONCE 256

/* Turns uniform numbers into normal ones, in place: in each block of 16, the first half gives the radius and the second
 * the angle of Box and Muller's pairs. */
static void FN(normal_blocks)(real *x, int64_t block_count, real mean, real deviation)
{
    real radius[PAIRS_AT_ONCE], angle[PAIRS_AT_ONCE], cosine[PAIRS_AT_ONCE], sine[PAIRS_AT_ONCE];
    const int half = BLOCK / 2, blocks_at_once = PAIRS_AT_ONCE / half;
    memset(radius, 0, sizeof radius);
    memset(angle, 0, sizeof angle);
    for (; block_count > 0; block_count -= blocks_at_once, x += BLOCK * blocks_at_once) {
        const int blocks = block_count < blocks_at_once ? (int)block_count : blocks_at_once;
        for (int b = 0; b < blocks; b++) {
            memcpy(radius + b * half, x + b * BLOCK, half * sizeof(real));
            memcpy(angle + b * half, x + b * BLOCK + half, half * sizeof(real));
        }
        for (int k = 0; k < blocks * half; k += LANES) {
            const vec r = deviation * vec_sqrt(-2 * vec_log(1 - vec_load(radius + k)));
            const vec theta = (real)(2 * M_PI) * vec_load(angle + k);
            vec_store(cosine + k, r * vec_cos(theta) + mean);
            vec_store(sine + k, r * vec_sin(theta) + mean);
        }
        for (int b = 0; b < blocks; b++) {
            memcpy(x + b * BLOCK, cosine + b * half, half * sizeof(real));
            memcpy(x + b * BLOCK + half, sine + b * half, half * sizeof(real));
        }
    }
}

static void FN(normal)(real *out, int64_t count, fg_generator *generator, const fg_params *params)
{
    if (count < BLOCK) {
        for (int64_t k = 0; k < count; k++)
            out[k] = (real)(scalar_normal(generator) * params->f[1] + params->f[0]);
        return;
    }
    for (int64_t k = 0; k < count; k++)
        out[k] = FN(next_uniform)(generator);
    FN(normal_blocks)(out, count / BLOCK, (real)params->f[0], (real)params->f[1]);
    if (count % BLOCK) {  /* the last 16 are drawn once more */
        real *last = out + count - BLOCK;
        for (int k = 0; k < BLOCK; k++)
            last[k] = FN(next_uniform)(generator);
        FN(normal_blocks)(last, 1, (real)params->f[0], (real)params->f[1]);
    }
}

/* By inversion, in double: u in [0, 1) makes 1 - u positive. */
static void FN(exponential)(real *out, int64_t count, fg_generator *generator, const fg_params *params)
{
    for (int64_t k = 0; k < count; k++) {
        out[k] = (real)(-1 / params->f[0] * log1p(-next_uniform_f64(generator)));
    }
}

#endif
