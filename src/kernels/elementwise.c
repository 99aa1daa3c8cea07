/* The elementwise kernels: a table of formulas.
 *
 * A kernel is a line here and a line in kernels.def. A formula is written in the names of the operands, which have the
 * operands' C type; ux, ua, ub are integer operands as unsigned numbers, whose overflow wraps. The compiler vectorises
 * the loops; the functions that it cannot vectorise come from simd.h (VECTOR).
 */
#include <tgmath.h>

#include "elementwise.h"

static inline uint64_t integer_power(uint64_t a, uint64_t n)
{
    uint64_t result = 1;
    for (; n; n >>= 1, a *= a)
        result *= n & 1 ? a : 1;
    return result;
}

/* The sign of b, as Python's %. */
#define REMAINDER(a, b) \
    ({ __typeof__(a) r_ = fmod(a, b); \
       r_ != 0 && (r_ < 0) != (b < 0) ? r_ + b : r_; })

/* (a - fmod)/b is a whole number but for rounding, where a/b may have been rounded up to the next one. */
#define FLOOR_DIVIDE(a, b) \
    ({ __typeof__(a) r_ = fmod(a, b), q_ = (a - r_) / b - (r_ != 0 && (r_ < 0) != (b < 0)), f_ = floor(q_); \
       b == 0 ? a / b : q_ == 0 ? copysign(0, a / b) : q_ - f_ > (__typeof__(a))0.5 ? f_ + 1 : f_; })

/* pow(a, 1/2), which differs from sqrt(a) at -0 and -inf. */
#define SQUARE_ROOT_POWER(a) (a == -(__typeof__(a))INFINITY ? -a : sqrt(a) + 0)

/* The usual exponents without the C library's slow function; the compiler takes a number's test out of the loop. */
#define POWER(a, b) \
    (b == 2 ? a * a : b == -1 ? 1 / a : b == (__typeof__(a))0.5 ? SQUARE_ROOT_POWER(a) : b == 3 ? a * a * a : pow(a, b))

#define INTEGER_POWER(a, b) \
    (b >= 0 ? integer_power((uint64_t)a, (uint64_t)b) : a == 1 ? 1 : a == -1 ? (uint64_t)(1 - 2 * (b & 1)) : 0)

#define MAXIMUM(a, b) (a > b || a != a ? a : b)  /* NaN if either is */
#define MINIMUM(a, b) (a < b || a != a ? a : b)

/*           name         bool     integer                              float */
UNARY_NUMBER(neg,                  -ux,                                 -x)
UNARY(abs,                x,       x < 0 ? -ux : ux,                    fabs(x))
UNARY(sign,               x,       (x > 0) - (x < 0),                   x != x ? x : (x > 0) - (x < 0))
UNARY(square,             x,       ux * ux,                             x * x)
UNARY(relu,               x,       x < 0 ? 0 : x,                       x < 0 ? 0 : x)
UNARY(floor,              x,       x,                                   floor(x))
UNARY(ceil,               x,       x,                                   ceil(x))
UNARY(round,              x,       x,                                   rint(x))
UNARY(trunc,              x,       x,                                   trunc(x))
UNARY_FLOAT(sqrt,                                                       sqrt(x))
UNARY_FLOAT(rsqrt,                                                      1 / sqrt(x))
UNARY_FLOAT(reciprocal,                                                 1 / x)
UNARY_EXACT(bitwise_not,  !x,      ~x)
VECTOR(exp)
VECTOR(expm1)
VECTOR(log)
VECTOR(log1p)
VECTOR(sin)
VECTOR(cos)
VECTOR(tanh)
VECTOR(sigmoid)
VECTOR(erf)

/* To bool:                        bool and integer                     float */
UNARY_TO_BOOL(isnan,               0,                                   x != x)
UNARY_TO_BOOL(isinf,               0,                                   fabs(x) == (__typeof__(x))INFINITY)
UNARY_TO_BOOL(logical_not,         x == 0,                              x == 0)
BINARY_TO_BOOL(eq,                 a == b)
BINARY_TO_BOOL(ne,                 a != b)
BINARY_TO_BOOL(lt,                 a < b)
BINARY_TO_BOOL(le,                 a <= b)
BINARY_TO_BOOL(gt,                 a > b)
BINARY_TO_BOOL(ge,                 a >= b)
BINARY_TO_BOOL(logical_and,        (a != 0) & (b != 0))
BINARY_TO_BOOL(logical_or,         (a != 0) | (b != 0))
BINARY_TO_BOOL(logical_xor,        (a != 0) ^ (b != 0))

/* Integer division by -1 is negation, which the processor's division instruction does not survive for the least
 * integer.  name         bool     integer                              float */
BINARY(add,               a | b,   ua + ub,                             a + b)
BINARY_NUMBER(sub,                 ua - ub,                             a - b)
BINARY(mul,               a & b,   ua * ub,                             a * b)
BINARY_FLOAT(div,                                                       a / b)
BINARY_NUMBER(floor_divide,        b == -1 ? (__typeof__(a))-ua : a / b - (a % b != 0 && (a < 0) != (b < 0)),      FLOOR_DIVIDE(a, b))
BINARY_NUMBER(remainder,           b == -1 ? 0 : a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0), REMAINDER(a, b))
BINARY_NUMBER(fmod,                b == -1 ? 0 : a % b,                 fmod(a, b))
BINARY(maximum,           a | b,   a > b ? a : b,                       MAXIMUM(a, b))
BINARY(minimum,           a & b,   a < b ? a : b,                       MINIMUM(a, b))
BINARY_EXACT(bitwise_and, a & b)
BINARY_EXACT(bitwise_or,  a | b)
BINARY_EXACT(bitwise_xor, a ^ b)
BINARY_NUMBER(pow,                 INTEGER_POWER(a, b),                POWER(a, b))

/* Of gradients, a is dy and b is y. */
BINARY_FLOAT(relu_backward,        b <= 0 ? 0 : a)
BINARY_FLOAT(tanh_backward,        a * (1 - b * b))
BINARY_FLOAT(sigmoid_backward,     a * (1 - b) * b)

/* a is the condition; a is x, b low, c high; a is dy, b x, c low, d high. */
SELECT(where,                      a ? b : c)
TERNARY(clamp,                     (a < b ? b : a) > c ? c : a < b ? b : a, MINIMUM(MAXIMUM(a, b), c))
QUATERNARY_FLOAT(clamp_backward,   c <= b && b <= d ? a : 0)
