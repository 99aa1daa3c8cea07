/* The vector type that kernels are written in, and the elementary functions on it.
 *
 * vec_f32 and vec_f64 are GCC/Clang vectors of VECTOR_BYTES: + - * / and comparisons work lane by lane, also between a
 * vector and a number; a comparison gives a mask (ivec: each lane 0 or -1). A kernel that serves both types is written
 * once, as the BODY of each_real.h, with real, vec and LANES; there vec_exp(x) is the function of that type. Outside
 * a BODY the functions are called vec_exp_f32 and vec_exp_f64.
 *
 * a * b + c is one fused operation where the instruction set has it and two operations where it has not; nothing here
 * depends on which.
 *
 * Worst error found, in units in the last place, over every 251st float and 1.5 million doubles of all magnitudes (the
 * larger one of all instruction sets; tests/kernels/test_elementwise.py holds them to it):
 *
 *                 exp    expm1   log    log1p   sin, cos   tanh   sigmoid   erf
 *     float       0.96   1.5     0.81   1.5     0.78       2.4    1.9       1.4
 *     double      0.95   1.9     0.80   1.5     0.78       2.5    1.8       1.2
 */
#ifndef REAL_BITS
#ifndef FASTGRAD_SIMD_H
#define FASTGRAD_SIMD_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef float vec_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double vec_f64 __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivec_32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t ivec_64 __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t uvec_32 __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t uvec_64 __attribute__((vector_size(VECTOR_BYTES)));

#define INLINE static inline __attribute__((always_inline, unused))

/* Numbers below the smallest normal one count as zero until fg_restore_subnormals; returns what it takes. On several
 * processors arithmetic with them is a hundred times slower. */
INLINE uint64_t fg_flush_subnormals(void)
{
#if defined(__SSE2__)
    const unsigned was = _mm_getcsr();
    _mm_setcsr(was | 0x8040); /* flush to zero, denormals are zero */
    return was;
#elif defined(__aarch64__)
    uint64_t was;
    __asm__ volatile("mrs %0, fpcr" : "=r"(was));
    __asm__ volatile("msr fpcr, %0" : : "r"(was | (uint64_t)1 << 24));
    return was;
#else
    return 0;
#endif
}

INLINE void fg_restore_subnormals(uint64_t was)
{
#if defined(__SSE2__)
    _mm_setcsr((unsigned)was);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(was));
#else
    (void)was;
#endif
}

#define vec_splat(x) FN(vec_splat)(x)            /* all lanes x */
#define vec_load(p) FN(vec_load)(p)              /* LANES elements from p, any alignment */
#define vec_store(p, x) FN(vec_store)(p, x)
#define vec_load_n(p, n) FN(vec_load_n)(p, n)    /* the first n < LANES elements, the other lanes 0 */
#define vec_store_n(p, n, x) FN(vec_store_n)(p, n, x)
#define vec_select(mask, a, b) FN(vec_select)(mask, a, b)
#define vec_min(a, b) FN(vec_min)(a, b)          /* a < b ? a : b, so b if one is NaN */
#define vec_max(a, b) FN(vec_max)(a, b)          /* a > b ? a : b, so b if one is NaN */
#define vec_or_nan(y, x) FN(vec_or_nan)(y, x)    /* x where it is NaN, else y */
#define vec_abs(x) FN(vec_abs)(x)
#define vec_copysign(x, sign) FN(vec_copysign)(x, sign)
#define vec_fma(a, b, c) FN(vec_fma)(a, b, c)    /* a * b + c */
#define vec_sqrt(x) FN(vec_sqrt)(x)
#define vec_sum(x) FN(vec_sum)(x)                /* over the lanes, pairwise */
#define vec_largest(x) FN(vec_largest)(x)        /* over the lanes; undefined where a lane is NaN */
#define vec_exp(x) FN(vec_exp)(x)
#define vec_expm1(x) FN(vec_expm1)(x)
#define vec_log(x) FN(vec_log)(x)
#define vec_log1p(x) FN(vec_log1p)(x)
#define vec_tanh(x) FN(vec_tanh)(x)
#define vec_sigmoid(x) FN(vec_sigmoid)(x)
#define vec_sin(x) FN(vec_sin)(x)
#define vec_cos(x) FN(vec_cos)(x)
#define vec_erf(x) FN(vec_erf)(x)

#define BODY "simd.h"
#include "each_real.h"

#endif
#else

#define MANTISSA_BITS PICK(23, 52)
#define EXPONENT_BIAS PICK(127, 1023)
#define SIGN_BIT ((ireal)((ureal)1 << (REAL_BITS - 1)))
#define ROUNDER PICK(0x1.8p23f, 0x1.8p52)  /* x + ROUNDER - ROUNDER is x rounded to an integer, for |x| < 2^22 or 2^51 */

/* A pointer moved on; NULL stays NULL. */
INLINE const real *FN(moved)(const real *p, int64_t step) { return p ? p + step : NULL; }
INLINE real *FN(moved_out)(real *p, int64_t step) { return p ? p + step : NULL; }

INLINE vec FN(vec_splat)(real x) { return x - (vec){0}; }

INLINE vec FN(vec_load)(const real *p)
{
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void FN(vec_store)(real *p, vec x) { memcpy(p, &x, sizeof x); }

#if VECTOR_BYTES == 32
/* The mask of the first n lanes. */
INLINE __m256i FN(first_lanes)(int64_t n)
{
    const ivec lane = PICK(((ivec){0, 1, 2, 3, 4, 5, 6, 7}), ((ivec){0, 1, 2, 3}));
    return (__m256i)(lane < (ivec){0} + (ireal)n);
}
#endif

INLINE vec FN(vec_load_n)(const real *p, int64_t n)
{
#if VECTOR_BYTES == 64
    unsigned mask = (1u << n) - 1;
    return PICK(_mm512_maskz_loadu_ps((__mmask16)mask, p), _mm512_maskz_loadu_pd((__mmask8)mask, p));
#elif VECTOR_BYTES == 32
    return PICK(_mm256_maskload_ps, _mm256_maskload_pd)(p, FN(first_lanes)(n));
#else
    vec x = {0};
#pragma GCC unroll 4 /* a lane at a constant place stays in its register */
    for (int k = 0; k < LANES - 1; k++)
        if (k < n)
            x[k] = p[k];
    return x;
#endif
}

INLINE void FN(vec_store_n)(real *p, int64_t n, vec x)
{
#if VECTOR_BYTES == 64
    unsigned mask = (1u << n) - 1;
    PICK(_mm512_mask_storeu_ps(p, (__mmask16)mask, x), _mm512_mask_storeu_pd(p, (__mmask8)mask, x));
#elif VECTOR_BYTES == 32
    PICK(_mm256_maskstore_ps, _mm256_maskstore_pd)(p, FN(first_lanes)(n), x);
#else
#pragma GCC unroll 4
    for (int k = 0; k < LANES - 1; k++)
        if (k < n)
            p[k] = x[k];
#endif
}

INLINE vec FN(vec_select)(ivec mask, vec a, vec b)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), b, a),
                _mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)mask), b, a));
#elif VECTOR_BYTES == 32
    return PICK(_mm256_blendv_ps(b, a, (__m256)mask), _mm256_blendv_pd(b, a, (__m256d)mask));
#else
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
#endif
}

INLINE vec FN(vec_min)(vec a, vec b)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_min_ps, _mm512_min_pd)(a, b);
#elif VECTOR_BYTES == 32
    return PICK(_mm256_min_ps, _mm256_min_pd)(a, b);
#elif defined(__SSE2__)
    return PICK(_mm_min_ps, _mm_min_pd)(a, b);
#else
    return FN(vec_select)(a < b, a, b);
#endif
}

INLINE vec FN(vec_max)(vec a, vec b)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_max_ps, _mm512_max_pd)(a, b);
#elif VECTOR_BYTES == 32
    return PICK(_mm256_max_ps, _mm256_max_pd)(a, b);
#elif defined(__SSE2__)
    return PICK(_mm_max_ps, _mm_max_pd)(a, b);
#else
    return FN(vec_select)(a > b, a, b);
#endif
}

INLINE vec FN(vec_or_nan)(vec y, vec x)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x),
                _mm512_mask_mov_pd(y, _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q), x));
#else
    return FN(vec_select)(x != x, x, y);
#endif
}

INLINE vec FN(vec_abs)(vec x) { return (vec)((ivec)x & ~SIGN_BIT); }

INLINE vec FN(vec_copysign)(vec x, vec sign) { return (vec)(((ivec)x & ~SIGN_BIT) | ((ivec)sign & SIGN_BIT)); }

INLINE vec FN(vec_fma)(vec a, vec b, vec c)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_fmadd_ps, _mm512_fmadd_pd)(a, b, c);
#elif defined(__FMA__) && VECTOR_BYTES == 32
    return PICK(_mm256_fmadd_ps, _mm256_fmadd_pd)(a, b, c);
#else
    return a * b + c;
#endif
}

INLINE vec FN(vec_sqrt)(vec x)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_sqrt_ps, _mm512_sqrt_pd)(x);
#elif VECTOR_BYTES == 32
    return PICK(_mm256_sqrt_ps, _mm256_sqrt_pd)(x);
#elif defined(__SSE2__)
    return PICK(_mm_sqrt_ps, _mm_sqrt_pd)(x);
#else
    for (int k = 0; k < LANES; k++)
        x[k] = PICK(sqrtf, sqrt)(x[k]);
    return x;
#endif
}

INLINE real FN(vec_sum)(vec x)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_reduce_add_ps, _mm512_reduce_add_pd)(x);
#else
    real lanes[LANES];
    FN(vec_store)(lanes, x);
#pragma GCC unroll 4 /* keeps the lanes in registers */
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            lanes[k] += lanes[k + half];
    return lanes[0];
#endif
}

INLINE real FN(vec_largest)(vec x)
{
#if VECTOR_BYTES == 64
    return PICK(_mm512_reduce_max_ps, _mm512_reduce_max_pd)(x);
#else
    real lanes[LANES];
    FN(vec_store)(lanes, x);
#pragma GCC unroll 4 /* keeps the lanes in registers */
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            lanes[k] = lanes[k] > lanes[k + half] ? lanes[k] : lanes[k + half];
    return lanes[0];
#endif
}

/* The value of the polynomial c[0] + c[1] x + ... (Horner). */
INLINE vec FN(polynomial)(vec x, const real *c, int count)
{
    vec y = FN(vec_splat)(c[count - 1]);
    for (int k = count - 2; k >= 0; k--)
        y = FN(vec_fma)(y, x, FN(vec_splat)(c[k]));
    return y;
}
#define POLYNOMIAL(x, ...) FN(polynomial)(x, (const real[]){__VA_ARGS__}, sizeof((real[]){__VA_ARGS__}) / sizeof(real))

/* 2^n for the integer n, which is a normal number. */
INLINE vec FN(power_of_two)(uvec n) { return (vec)((n + EXPONENT_BIAS) << MANTISSA_BITS); }

#define LOG2_E PICK(0x1.715476p0f, 0x1.71547652b82fep0)
#define LN2_HI PICK(0x1.62ep-1f, 0x1.62e42fefa2p-1)  /* few bits, so that n * LN2_HI is exact */
#define LN2_LO PICK(0x1.0bfbe8p-15f, 0x1.9ef35793c7673p-41)

/* x = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1 = r + r^2 Q(r), Q by minimax fit (Remez). */
INLINE vec FN(expm1_reduced)(vec x, vec *n)
{
    vec rounded = FN(vec_fma)(x, FN(vec_splat)(LOG2_E), FN(vec_splat)(ROUNDER));
    *n = rounded - ROUNDER;
    vec r = (x - *n * LN2_HI) - *n * LN2_LO;
#if REAL_BITS == 32
    vec q = POLYNOMIAL(r, 0.500000004216705846f, 0.166666668113957001f, 0.0416663665265804701f, 0.00833327420214908636f,
                       0.00139402843735354694f, 0.00019913604649096484f);
#else
    vec q = POLYNOMIAL(r, 0.5, 0.166666666666666758, 0.0416666666666666985, 0.00833333333332218833,
                       0.00138888888888679276, 0.000198412698848413892, 0.0000248015873587727788,
                       2.75572454086230677e-6, 2.75572440776036786e-7, 2.51086446981266132e-8, 2.0924081327322315e-9);
#endif
    return r + r * r * q;
}

/* The integer that the whole number n is. */
INLINE uvec FN(to_integer)(vec n) { return (uvec)(n + ROUNDER) - (uvec)FN(vec_splat)(ROUNDER); }

INLINE vec FN(vec_exp)(vec x)
{
    vec n;
    x = FN(vec_min)(FN(vec_splat)(PICK(89.0f, 710.0)), FN(vec_max)(FN(vec_splat)(PICK(-104.0f, -746.0)), x));
    vec y = FN(expm1_reduced)(x, &n) + 1;
#if VECTOR_BYTES == 64
    return PICK(_mm512_scalef_ps, _mm512_scalef_pd)(y, n);
#else
    /* In two steps, because 2^n itself overflows or is subnormal at the ends. */
    uvec whole = FN(to_integer)(n), half = FN(to_integer)(n * (real)0.5);
    return y * FN(power_of_two)(half) * FN(power_of_two)(whole - half);
#endif
}

/* exp(x) - 1 for x up to PICK(88, 709), above which 2^n overflows. */
INLINE vec FN(expm1_bounded)(vec x)
{
    vec n, y = FN(expm1_reduced)(x, &n), scale = FN(power_of_two)(FN(to_integer)(n));
    return y * scale + (scale - 1);
}

INLINE vec FN(vec_expm1)(vec x)
{
    vec bound = FN(vec_splat)(PICK(88.0f, 709.0));
    vec y = FN(expm1_bounded)(FN(vec_min)(bound, FN(vec_max)(FN(vec_splat)(PICK(-20.0f, -40.0)), x)));
    y = FN(vec_select)(x > bound, FN(vec_exp)(x), y);
    return FN(vec_select)(FN(vec_abs)(x) < PICK(FLT_MIN, DBL_MIN), x, y);
}

/* tanh(x) = t / (t + 2) with t = exp(2x) - 1, for |x|; it is 1 beyond the bound. */
INLINE vec FN(vec_tanh)(vec x)
{
    vec t = FN(expm1_bounded)(FN(vec_min)(FN(vec_splat)(PICK(20.0f, 40.0)), FN(vec_abs)(x) * 2));
    return FN(vec_copysign)(t / (t + 2), x);
}

/* 1/(1 + e) for x >= 0 and e/(1 + e) for x < 0 with e = exp(-|x|), which never overflows. What the rounding of 1 + e has
 * lost is put right with 1 for 1/(1 + e), near enough to halve the error at worst. */
INLINE vec FN(vec_sigmoid)(vec x)
{
    vec e = FN(vec_exp)(-FN(vec_abs)(x)), sum = e + 1, lost = e - (sum - 1);
    vec q = FN(vec_select)(x < 0, e, FN(vec_splat)(1)) / sum;
    return q - q * lost;
}

/* x = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2); with s = f/(2 + f), log(1 + f) = 2s + s R(s^2), R by minimax fit,
 * summed as fdlibm's e_log.c does. */
INLINE vec FN(vec_log)(vec x)
{
    const ureal sqrt_half = PICK(0x3f3504f3, 0x3fe6a09e667f3bcd), two_to_mantissa = PICK(0x4b000000, 0x4330000000000000);
    ivec subnormal = (ivec)(x < PICK(FLT_MIN, DBL_MIN));
    uvec bits = (uvec)FN(vec_select)(subnormal, x * PICK(0x1p23f, 0x1p52), x);
    uvec biased = (bits - sqrt_half + ((ureal)EXPONENT_BIAS << MANTISSA_BITS)) >> MANTISSA_BITS;
    vec f = (vec)(bits - ((biased - EXPONENT_BIAS) << MANTISSA_BITS)) - 1;
    vec k = (vec)(biased | two_to_mantissa) - (PICK(0x1p23f, 0x1p52) + EXPONENT_BIAS);
    k = k - (vec)((ivec)FN(vec_splat)(MANTISSA_BITS) & subnormal);
    vec s = f / (f + 2), z = s * s, half_square = f * f * (real)0.5;
#if REAL_BITS == 32
    vec r = z * POLYNOMIAL(z, 0.666666658328779715f, 0.400003020524307388f, 0.28539066535512982f, 0.23553207637019052f);
#else
    vec r = z * POLYNOMIAL(z, 0.666666666666669893, 0.39999999999611894, 0.285714287038641726, 0.222222021397966119,
                           0.181833941443562689, 0.153180973806417565, 0.147579721215479541);
#endif
    vec y = k * LN2_HI - ((half_square - (s * (half_square + r) + k * LN2_LO)) - f);
    y = FN(vec_select)(x == 0, FN(vec_splat)(-(real)INFINITY), y);
    y = FN(vec_select)(x == (real)INFINITY, x, y);
    return FN(vec_select)(x >= 0, y, FN(vec_splat)((real)NAN));
}

/* log(u) + (x - (u - 1))/u with u = 1 + x rounded: the second term is what the rounding lost (Kahan). */
INLINE vec FN(vec_log1p)(vec x)
{
    vec u = x + 1, y = FN(vec_log)(u) + (x - (u - 1)) / u;
    ivec as_it_is = (ivec)(FN(vec_abs)(x) < PICK(0x1p-25f, 0x1p-54)) | (ivec)(x == (real)INFINITY);
    return FN(vec_select)(as_it_is, x, FN(vec_select)(x == -1, FN(vec_splat)(-(real)INFINITY), y));
}

/* x - n pi/2 = r + rest with |r| <= pi/4. pi/2 is cut into parts short enough that n times a part is exact, and what
 * each subtraction rounds off is kept in rest (Knuth's two-sum), so r is right even where x is next to n pi/2. */
INLINE vec FN(reduce_half_pi)(vec x, vec n, vec *rest)
{
#if REAL_BITS == 32
    const real parts[] = {0x1.92p0f, 0x1.fb4p-12f, 0x1.444p-24f, 0x1.68cp-39f, 0x1.1a6264p-54f};
#else
    const real parts[] = {0x1.921fb544p0, 0x1.0b4611a6p-34, 0x1.3198a2ep-69, 0x1.b839a252049c1p-104};
#endif
    vec r = x;
    *rest = FN(vec_splat)(0);
    for (unsigned k = 0; k < sizeof parts / sizeof *parts; k++) {
        vec part = n * -parts[k], sum = r + part, kept = sum - r;
        *rest = *rest + ((r - (sum - kept)) + (part - kept));
        r = sum;
    }
    vec sum = r + *rest;
    *rest = *rest - (sum - r);
    return sum;
}

/* sin(x + quarter_turns pi/2); above the limit the C library's slow range reduction takes over. */
INLINE vec FN(sin_turned)(vec x, int quarter_turns, real (*libm)(real))
{
    vec n = (x * PICK(0x1.45f306p-1f, 0x1.45f306dc9c883p-1) + ROUNDER) - ROUNDER, rest;
    vec r = FN(reduce_half_pi)(x, n, &rest), z = r * r;
#if REAL_BITS == 32
    vec s = POLYNOMIAL(z, -0.166666554888523747f, 0.00833220292025150337f, -0.000195199161712123794f);
    vec c = POLYNOMIAL(z, 0.0416666481796955075f, -0.00138874208498699112f, 0.0000244436923598918266f);
#else
    vec s = POLYNOMIAL(z, -0.166666666666666666, 0.0083333333333333246, -0.000198412698412567482,
                       2.75573192149265644e-6, -2.50521050783555756e-8, 1.60583854975450018e-10,
                       -7.57954177605025076e-13);
    vec c = POLYNOMIAL(z, 0.0416666666666666501, -0.00138888888888819328, 0.0000248015872939008415,
                       -2.75573155239346027e-7, 2.08758708997691112e-9, -1.13667893077005518e-11);
#endif
    vec half = z * (real)0.5, one = 1 - half;
    vec sine = r + (r * z * s + rest * one);
    vec cosine = one + (((1 - one) - half) + (z * z * c - r * rest));
    uvec quadrant = FN(to_integer)(n) + (ureal)quarter_turns;
    vec y = FN(vec_select)((ivec)-(quadrant & 1), cosine, sine);
    y = (vec)((uvec)y ^ ((quadrant & 2) << (REAL_BITS - 2)));
    ivec large = ~(ivec)(FN(vec_abs)(x) < PICK(0x1p13f, 0x1p20));
    for (int k = 0; k < LANES; k++)
        if (large[k])
            y[k] = libm(x[k]);
    return y;
}

INLINE vec FN(vec_sin)(vec x) { return FN(vec_select)(x == 0, x, FN(sin_turned)(x, 0, PICK(sinf, sin))); }
INLINE vec FN(vec_cos)(vec x) { return FN(sin_turned)(x, 1, PICK(cosf, cos)); }

/* |x| < 1: x (1 + P(x^2)). From there on, where 1 - erf is small, erf(x) = 1 - exp(-Q(|x| - 1)), and it is 1 beyond the
 * bound. P and Q by minimax fit. */
INLINE vec FN(vec_erf)(vec x)
{
    vec square = x * x, beyond = FN(vec_min)(FN(vec_splat)(PICK(3.0f, 5.0)), FN(vec_abs)(x) - 1);
#if REAL_BITS == 32
    vec p = POLYNOMIAL(square, 0.128379165913831154f, -0.376126271360235841f, 0.112836001758102173f,
                       -0.0268544445625443232f, 0.00518953527780545583f, -0.000802084071354890531f,
                       0.0000788911757925598953f);
    vec q = POLYNOMIAL(beyond, 1.84960551006671934f, 2.63896751452502114f, 0.843107081791751095f,
                       0.0415634805011400203f, -0.0100464516023105779f, 0.0020119657459987954f,
                       -0.000289527582021875666f, 0.0000216866917864342885f);
#else
    vec p = POLYNOMIAL(square, 0.128379167095512574, -0.376126389031837482, 0.112837916709548844,
                       -0.0268661706450778595, 0.00522397762482830986, -0.000854832698142007008,
                       0.000120553311328000847, -0.0000149255957693157883, 1.64610084437428998e-6,
                       -1.63503959698341996e-7, 1.4660327649466445e-8, -1.13749537056788528e-9,
                       5.9606850462205043e-11);
    vec q = POLYNOMIAL(beyond, 1.84960550993324829, 2.63896751423477536, 0.843107256359432779, 0.0415610980247260521,
                       -0.0100338251758877124, 0.00197790119801998483, -0.000237316370870789415,
                       -0.0000262964848982610842, 0.0000271992504680744448, -9.67173177061648787e-6,
                       2.13227272322086359e-6, -2.0504212052516099e-7, -5.78948844091098054e-8,
                       3.33485221097292269e-8, -8.50780142712801249e-9, 1.3172342732086193e-9,
                       -1.19136591826706923e-10, 4.8564055364860834e-12);
#endif
    vec outer = FN(vec_copysign)(1 - FN(vec_exp)(-q), x);
    return FN(vec_select)(FN(vec_abs)(x) < 1, x + x * p, outer);
}

#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef SIGN_BIT
#undef ROUNDER
#undef LOG2_E
#undef LN2_HI
#undef LN2_LO
#undef POLYNOMIAL
#endif
