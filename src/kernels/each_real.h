/* Includes the file BODY twice, so that one text serves float and double:
 *
 *                 real     vec      ivec     uvec     LANES              FN(name)
 *     first       float    vec_f32  ivec_32  uvec_32  VECTOR_BYTES / 4   name_f32
 *     second      double   vec_f64  ivec_64  uvec_64  VECTOR_BYTES / 8   name_f64
 *
 * A file that wants its own text twice names itself in BODY and tests REAL_BITS, which is 32 or 64 inside.
 * PICK(a, b) is a for float and b for double.
 */
#define REAL_BITS 32
#define real float
#define vec vec_f32
#define ivec ivec_32
#define uvec uvec_32
#define ireal int32_t
#define ureal uint32_t
#define LANES (VECTOR_BYTES / 4)
#define FN(name) name##_f32
#define PICK(a, b) a
#include BODY
#undef REAL_BITS
#undef real
#undef vec
#undef ivec
#undef uvec
#undef ireal
#undef ureal
#undef LANES
#undef FN
#undef PICK

#define REAL_BITS 64
#define real double
#define vec vec_f64
#define ivec ivec_64
#define uvec uvec_64
#define ireal int64_t
#define ureal uint64_t
#define LANES (VECTOR_BYTES / 8)
#define FN(name) name##_f64
#define PICK(a, b) b
#include BODY
#undef REAL_BITS
#undef real
#undef vec
#undef ivec
#undef uvec
#undef ireal
#undef ureal
#undef LANES
#undef FN
#undef PICK
#undef BODY
