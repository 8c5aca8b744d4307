/* vecmath.h: declares the vectorised functions of veclib.h to the compiler.
 *
 * gcc then compiles a loop over exp(x[i]) to calls that take two, four or eight numbers at once. Elsewhere the loops
 * call libm. The functions are const, as nobody reads errno: gcc does not vectorise a loop with a ?: and a call that
 * may set it. */
#ifndef PGR_INTERNAL_VECMATH_H
#define PGR_INTERNAL_VECMATH_H

#include "program/veclib.h"

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__) /* a pragma for no errno comes too late for gcc's own functions */
__attribute__((const)) extern double sqrt(double);
#endif

#if defined(PGR_VECTOR_MATH)
#define UNARY(name)  __attribute__((const, simd("notinbranch"))) extern double name(double);
#define BINARY(name) __attribute__((const, simd("notinbranch"))) extern double name(double, double);
/* Scalar in a ?:, so that whole powers are exact. */
#define POWER(name)  __attribute__((simd("notinbranch"))) extern double name(double, double);
PGR_VECTOR_FUNCTIONS(UNARY, BINARY, POWER)
#undef UNARY
#undef BINARY
#undef POWER
#endif

#endif
