/* ops.h: the rows of pgr_ops.h as inline code: enumerators, evaluation and partial derivatives. */
#ifndef PGR_INTERNAL_OPS_H
#define PGR_INTERNAL_OPS_H

#include <float.h>
#include <math.h>

#include "pgr.h"
#include "ops/pgr_ops.h"

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 1 /* 1: of floats only */
#error "pygrad needs double precision in each step; on i386, compile with -msse2 -mfpmath=sse"
#endif

#if defined(__MINGW32__) /* its macros choose by size, and warn of all three choices */
#undef isnan
#undef isinf
#undef isfinite
#undef signbit
#define isnan(x)    __builtin_isnan(x)
#define isinf(x)    __builtin_isinf(x)
#define isfinite(x) __builtin_isfinite(x)
#define signbit(x)  __builtin_signbit(x)
#endif

#define PGR_SPECIAL(name, ...) __VA_ARGS__
#include "ops/special.h"
#undef PGR_SPECIAL

enum {
    PGR_OP_BEFORE_FIRST = PGR_OP_FIRST - 1,
#define X(ID, ...) PGR_OP_##ID,
    PGR_OPS(X)
#undef X
    PGR_OP_COUNT
};

static inline pgr_status pgr_pow_check(double a, double b, double v)
{
    if (isfinite(v) || !isfinite(a) || !isfinite(b))
        return PGR_OK;
    return isnan(v) ? PGR_ERR_DOMAIN : a == 0.0 ? PGR_ERR_DIVZERO : PGR_ERR_RANGE;
}

/* Sums, differences and products are most nodes. They are computed without branches: their order is the user's, and one
 * misprediction costs more than all three. */
static inline int ops_is_linear(int op)
{
    return (unsigned)op - PGR_OP_ADD <= PGR_OP_MUL - PGR_OP_ADD;
}
_Static_assert(PGR_OP_SUB == PGR_OP_ADD + 1 && PGR_OP_MUL == PGR_OP_ADD + 2, "sum, difference, product, in this order");

static inline double ops_linear(int op, double a, double b)
{
    const double all[] = {a + b, a - b, a * b};
    return all[op - PGR_OP_ADD];
}

/* Inlined with a constant op, the switch becomes one row; compilers would not inline it by its size. */
#if defined(__GNUC__)
__attribute__((always_inline))
#endif
static inline pgr_status ops_eval(int op, double a, double b, double *out)
{
    double v;
    (void)b;
    switch (op) {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    case PGR_OP_##ID: \
        v = (value); \
        *out = v; \
        return (check);
        PGR_OPS(X)
#undef X
    default:
        return PGR_ERR_OP;
    }
}

/* One row's value (see ops_partials_##ID). */
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    static inline double ops_value_##ID(double a, double b) \
    { \
        (void)a, (void)b; \
        return (value); \
    }
PGR_OPS(X)
#undef X

/* Derivatives as numbers: see words.h. */
#define ZERO 0.0
#define ONE  1.0
#define HALF 0.5
#define NUMBER_(x)      (x)
#define ADD_(x, y)      ((x) + (y))
#define SUB_(x, y)      ((x) - (y))
#define MUL_(x, y)      ((x) * (y))
#define DIV_(x, y)      ((x) / (y))
#define NEG_(x)         (-(x))
#define OF_(ID, ...)    OPERANDS_(ops_value_##ID, __VA_ARGS__, 0.0, 0)
#define OPERANDS_(f, x, y, ...) f(x, y)
#define WORD_(number, nodes, text) (number)
#define WORDS_NUMBERS
#include "ops/words.h"
#undef WORDS_NUMBERS

/* The local derivatives of op(a, b) = v; 0 for a missing operand. */
typedef struct {
    double da, db;
} ops_pair;

#define PARTIALS_UNARY(da, db)  (ops_pair){(da), 0.0}
#define PARTIALS_BINARY(da, db) (ops_pair){(da), (db)}
#define PARTIALS_PARAM(da, db)  (ops_pair){(da), 0.0}
#define PARTIALS_CUT(da, db)    (ops_pair){0.0, 0.0}

/* One row's derivatives, for hot loops: a switch with a constant op becomes one row, but is too large to be
 * inlined. */
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    static inline ops_pair ops_partials_##ID(double a, double b, double v) \
    { \
        (void)a, (void)b, (void)v; \
        return PARTIALS_##KIND(da, db); \
    }
PGR_OPS(X)
#undef X

static inline ops_pair ops_partials(int op, double a, double b, double v)
{
    switch (op) {
#define X(ID, ...) \
    case PGR_OP_##ID: \
        return ops_partials_##ID(a, b, v);
        PGR_OPS(X)
#undef X
    default:
        return (ops_pair){0.0, 0.0};
    }
}

#define IS_BINARY_UNARY  0
#define IS_BINARY_BINARY 1
#define IS_BINARY_PARAM  0
#define IS_BINARY_CUT    0

/* Whether gradient flows to a second operand. */
static inline int ops_is_binary(int op)
{
    static const unsigned char is_binary[PGR_OP_COUNT] = {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) [PGR_OP_##ID] = IS_BINARY_##KIND,
        PGR_OPS(X)
#undef X
    };
    return is_binary[op];
}

#undef ZERO
#undef ONE
#undef HALF
#undef NUMBER_
#undef ADD_
#undef SUB_
#undef MUL_
#undef DIV_
#undef NEG_
#undef OF_
#undef OPERANDS_
#undef WORD_

#endif
