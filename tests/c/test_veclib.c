/* The vectorised functions agree with libm: those that call it number by number, and libmvec's. */
#include "check.h"
#include "program/veclib.h"

#if defined(PGR_VECTOR_MATH)

#include <dlfcn.h>

/* Arguments inside every function's domain, but for acosh, which takes 1 + x. */
static double argument(unsigned k) { return (k % 2 ? -1.0 : 1.0) * (0.01 + 0.98 * (k % 97) / 97.0); }

static unsigned differences;

static bool is_close(double found, double expected, double ulps)
{
    differences += found != expected;
    if (isnan(expected))
        return isnan(found);
    return fabs(found - expected) <= ulps * 0x1p-52 * fabs(expected);
}

typedef double sse __attribute__((vector_size(16)));
typedef double avx __attribute__((vector_size(32)));
typedef double avx512 __attribute__((vector_size(64)));

static double ulps; /* that differences may have */

#define COMPARE(name, call, scalar, n) \
    for (unsigned first = 0; first < 200; first += n) { \
        for (unsigned k = 0; k < n; k++) { \
            x[k] = argument(first + k); \
            y[k] = argument(3 * (first + k) + 1); \
            if (strcmp(#name, "acosh") == 0) \
                x[k] = 1.0 + fabs(x[k]); \
        } \
        out = call; \
        for (unsigned k = 0; k < n; k++) \
            CHECK(is_close(out[k], scalar, ulps)); \
    }
#define DECLARE_sse(name)    sse _ZGVbN2v_##name(sse);
#define DECLARE2_sse(name)   sse _ZGVbN2vv_##name(sse, sse);
#define UNARY_sse(name)      COMPARE(name, _ZGVbN2v_##name(x), name(x[k]), 2)
#define BINARY_sse(name)     COMPARE(name, _ZGVbN2vv_##name(x, y), name(x[k], y[k]), 2)
#define DECLARE_avx(name)    avx _ZGVcN4v_##name(avx);
#define DECLARE2_avx(name)   avx _ZGVcN4vv_##name(avx, avx);
#define UNARY_avx(name)      COMPARE(name, _ZGVcN4v_##name(x), name(x[k]), 4)
#define BINARY_avx(name)     COMPARE(name, _ZGVcN4vv_##name(x, y), name(x[k], y[k]), 4)
#define DECLARE_avx2(name)   avx _ZGVdN4v_##name(avx);
#define DECLARE2_avx2(name)  avx _ZGVdN4vv_##name(avx, avx);
#define UNARY_avx2(name)     COMPARE(name, _ZGVdN4v_##name(x), name(x[k]), 4)
#define BINARY_avx2(name)    COMPARE(name, _ZGVdN4vv_##name(x, y), name(x[k], y[k]), 4)
#define DECLARE_avx512(name)  avx512 _ZGVeN8v_##name(avx512);
#define DECLARE2_avx512(name) avx512 _ZGVeN8vv_##name(avx512, avx512);
#define UNARY_avx512(name)   COMPARE(name, _ZGVeN8v_##name(x), name(x[k]), 8)
#define BINARY_avx512(name)  COMPARE(name, _ZGVeN8vv_##name(x, y), name(x[k], y[k]), 8)

PGR_VECTOR_FUNCTIONS(DECLARE_sse, DECLARE2_sse, DECLARE2_sse)
PGR_VECTOR_FUNCTIONS(DECLARE_avx, DECLARE2_avx, DECLARE2_avx)
PGR_VECTOR_FUNCTIONS(DECLARE_avx2, DECLARE2_avx2, DECLARE2_avx2)
PGR_VECTOR_FUNCTIONS(DECLARE_avx512, DECLARE2_avx512, DECLARE2_avx512)

static void test_two_numbers(void)
{
    sse x, y, out;
    PGR_VECTOR_FUNCTIONS(UNARY_sse, BINARY_sse, BINARY_sse)
}

__attribute__((target("avx"))) static void test_four_numbers(void)
{
    avx x, y, out;
    PGR_VECTOR_FUNCTIONS(UNARY_avx, BINARY_avx, BINARY_avx)
}

__attribute__((target("avx2"))) static void test_four_numbers_of_avx2(void)
{
    avx x, y, out;
    PGR_VECTOR_FUNCTIONS(UNARY_avx2, BINARY_avx2, BINARY_avx2)
}

__attribute__((target("avx512f"))) static void test_eight_numbers(void)
{
    avx512 x, y, out;
    PGR_VECTOR_FUNCTIONS(UNARY_avx512, BINARY_avx512, BINARY_avx512)
}

static void test_all(void)
{
    TEST(test_two_numbers);
    if (__builtin_cpu_supports("avx"))
        TEST(test_four_numbers);
    if (__builtin_cpu_supports("avx2"))
        TEST(test_four_numbers_of_avx2);
    if (__builtin_cpu_supports("avx512f"))
        TEST(test_eight_numbers);
}

/* Some of libmvec's results differ from libm's in the last bit. */
static void test_libmvec_is_found(void) { CHECK(differences > 0 || dlopen("libmvec.so.1", RTLD_NOW) == NULL); }

int main(void)
{
    ulps = 0.0; /* libm itself, before the functions are looked up */
    test_all();
    pgr__find_vector_functions();
    ulps = 4.0;
    test_all();
    TEST(test_libmvec_is_found);
    return check_report();
}

#else

int main(void)
{
    pgr__find_vector_functions(); /* has nothing to find */
    return check_report();
}

#endif
