/* veclib.h: glibc's vectorised functions (libmvec), looked up at run time.
 *
 * A library linked with libmvec needs the glibc that it was built with, or a newer one. One that looks the functions up
 * runs everywhere, and is as fast where they are. From 2.35 on, libmvec has all of these, each within 4 ulp; before, it
 * has exp, log, pow, sin and cos. */
#ifndef PGR_INTERNAL_VECLIB_H
#define PGR_INTERNAL_VECLIB_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#include <features.h>
#if defined(__GLIBC__)
#define PGR_VECTOR_MATH
#endif
#endif

/* What the table of operations calls. */
#define PGR_VECTOR_FUNCTIONS(UNARY, BINARY, POWER) \
    UNARY(exp) UNARY(expm1) UNARY(log) UNARY(log1p) UNARY(log10) UNARY(log2) UNARY(sin) UNARY(cos) UNARY(tan) \
    UNARY(asin) UNARY(acos) UNARY(atan) UNARY(sinh) UNARY(cosh) UNARY(tanh) UNARY(asinh) UNARY(acosh) UNARY(atanh) \
    UNARY(erf) UNARY(erfc) BINARY(atan2) BINARY(hypot) POWER(pow)

/* Before this, and where a function is not found, its vectorised form calls libm for each number. Any number of calls,
 * from any thread, look up once. */
void pgr__find_vector_functions(void);

#endif
