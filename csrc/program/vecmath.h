/* vecmath.h: declares the C library's vectorised functions to the compiler.
 *
 * glibc's libmvec (x86-64, from 2.35 on) has those that the table of operations needs, each within 4 ulp; gcc then
 * compiles a loop over exp(x[i]) to calls that take two, four or eight numbers at once. Elsewhere the loops call libm.
 * The functions are const, as nobody reads errno: gcc does not vectorise a loop with a ?: and a call that may set
 * it. */
#ifndef PGR_INTERNAL_VECMATH_H
#define PGR_INTERNAL_VECMATH_H

#include <math.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 35)
#define PGR_VECTOR_MATH
#define VECTOR_FUNCTION __attribute__((const, simd("notinbranch"))) extern double
VECTOR_FUNCTION exp(double);
VECTOR_FUNCTION expm1(double);
VECTOR_FUNCTION log(double);
VECTOR_FUNCTION log1p(double);
VECTOR_FUNCTION log10(double);
VECTOR_FUNCTION log2(double);
VECTOR_FUNCTION sin(double);
VECTOR_FUNCTION cos(double);
VECTOR_FUNCTION tan(double);
VECTOR_FUNCTION asin(double);
VECTOR_FUNCTION acos(double);
VECTOR_FUNCTION atan(double);
VECTOR_FUNCTION sinh(double);
VECTOR_FUNCTION cosh(double);
VECTOR_FUNCTION tanh(double);
VECTOR_FUNCTION asinh(double);
VECTOR_FUNCTION acosh(double);
VECTOR_FUNCTION atanh(double);
VECTOR_FUNCTION erf(double);
VECTOR_FUNCTION erfc(double);
VECTOR_FUNCTION atan2(double, double);
VECTOR_FUNCTION hypot(double, double);
#undef VECTOR_FUNCTION
/* Scalar in a ?:, so that whole powers are exact. */
__attribute__((simd("notinbranch"))) extern double pow(double, double);
#endif
#endif

#endif
