/* veclib.c: the vectorised functions that gcc's loops call by name, as jumps to libmvec's.
 *
 * The names are those of the vector ABI: _ZGVdN4v_exp is exp of four numbers, for AVX2. Hidden definitions here keep
 * libmvec out of what the linker needs. */
#include "program/veclib.h"

#if defined(PGR_VECTOR_MATH)

#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* For each function: libm's for each number, the pointer to what was found, and the jump. They are declared without
 * attributes here, so that the loop is not vectorised to a call of the jump. */
#define UNARY(name) \
    TARGET static VECTOR SET(libm_##name)(VECTOR x) \
    { \
        for (int k = 0; k < NUMBERS; k++) \
            x[k] = name(x[k]); \
        return x; \
    } \
    static VECTOR (*SET(found_##name))(VECTOR) = SET(libm_##name); \
    HIDDEN VECTOR UNARY_SYMBOL(name)(VECTOR x); \
    TARGET VECTOR UNARY_SYMBOL(name)(VECTOR x) { return SET(found_##name)(x); }
#define BINARY(name) \
    TARGET static VECTOR SET(libm_##name)(VECTOR x, VECTOR y) \
    { \
        for (int k = 0; k < NUMBERS; k++) \
            x[k] = name(x[k], y[k]); \
        return x; \
    } \
    static VECTOR (*SET(found_##name))(VECTOR, VECTOR) = SET(libm_##name); \
    HIDDEN VECTOR BINARY_SYMBOL(name)(VECTOR x, VECTOR y); \
    TARGET VECTOR BINARY_SYMBOL(name)(VECTOR x, VECTOR y) { return SET(found_##name)(x, y); }

typedef double vector_sse __attribute__((vector_size(16)));
typedef double vector_avx __attribute__((vector_size(32)));
typedef double vector_avx512 __attribute__((vector_size(64)));

#define TARGET
#define VECTOR              vector_sse
#define NUMBERS             2
#define SET(name)           name##_sse
#define UNARY_SYMBOL(name)  _ZGVbN2v_##name
#define BINARY_SYMBOL(name) _ZGVbN2vv_##name
PGR_VECTOR_FUNCTIONS(UNARY, BINARY, BINARY)
#undef TARGET
#undef VECTOR
#undef NUMBERS
#undef SET
#undef UNARY_SYMBOL
#undef BINARY_SYMBOL

#define TARGET              __attribute__((target("avx")))
#define VECTOR              vector_avx
#define NUMBERS             4
#define SET(name)           name##_avx
#define UNARY_SYMBOL(name)  _ZGVcN4v_##name
#define BINARY_SYMBOL(name) _ZGVcN4vv_##name
PGR_VECTOR_FUNCTIONS(UNARY, BINARY, BINARY)
#undef TARGET
#undef SET
#undef UNARY_SYMBOL
#undef BINARY_SYMBOL

#define TARGET              __attribute__((target("avx2")))
#define SET(name)           name##_avx2
#define UNARY_SYMBOL(name)  _ZGVdN4v_##name
#define BINARY_SYMBOL(name) _ZGVdN4vv_##name
PGR_VECTOR_FUNCTIONS(UNARY, BINARY, BINARY)
#undef TARGET
#undef VECTOR
#undef NUMBERS
#undef SET
#undef UNARY_SYMBOL
#undef BINARY_SYMBOL

#define TARGET              __attribute__((target("avx512f")))
#define VECTOR              vector_avx512
#define NUMBERS             8
#define SET(name)           name##_avx512
#define UNARY_SYMBOL(name)  _ZGVeN8v_##name
#define BINARY_SYMBOL(name) _ZGVeN8vv_##name
PGR_VECTOR_FUNCTIONS(UNARY, BINARY, BINARY)

/* Sets a pointer to a function, if the library has it. */
static void find(void *library, const char *symbol, void *pointer)
{
    void *const found = dlsym(library, symbol);
    if (found != NULL)
        memcpy(pointer, &found, sizeof found); /* ISO C has no cast from one to the other */
}

static void find_all(void)
{
    void *const library = dlopen("libmvec.so.1", RTLD_NOW | RTLD_LOCAL); /* stays open */
    if (library == NULL)
        return;
#define FIND_UNARY(name) \
    find(library, "_ZGVbN2v_" #name, &found_##name##_sse); \
    find(library, "_ZGVcN4v_" #name, &found_##name##_avx); \
    find(library, "_ZGVdN4v_" #name, &found_##name##_avx2); \
    find(library, "_ZGVeN8v_" #name, &found_##name##_avx512);
#define FIND_BINARY(name) \
    find(library, "_ZGVbN2vv_" #name, &found_##name##_sse); \
    find(library, "_ZGVcN4vv_" #name, &found_##name##_avx); \
    find(library, "_ZGVdN4vv_" #name, &found_##name##_avx2); \
    find(library, "_ZGVeN8vv_" #name, &found_##name##_avx512);
    PGR_VECTOR_FUNCTIONS(FIND_UNARY, FIND_BINARY, FIND_BINARY)
}

void pgr__find_vector_functions(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_all);
}

#else

void pgr__find_vector_functions(void) {}

#endif
