/* ops.h: the rows of pgr_ops.h as inline code: enumerators, evaluation and partial derivatives. */
#ifndef PGR_INTERNAL_OPS_H
#define PGR_INTERNAL_OPS_H

#include <math.h>

#include "pgr.h"
#include "pgr_ops.h"

enum {
    PGR_OP_BEFORE_FIRST = PGR_OP_FIRST - 1,
#define X(ID, ...) PGR_OP_##ID,
    PGR_OPS(X)
#undef X
    PGR_OP_COUNT
};

/* The share of the gradient that a gets in max(a, b), and b in min(a, b). */
static inline double pgr_wins(double a, double b) { return a > b ? 1.0 : a < b ? 0.0 : 0.5; }

/* p / (a*a + b*b), scaled against overflow. */
static inline double pgr_unit(double p, double a, double b)
{
    const double r = hypot(a, b);
    return r == 0.0 ? 0.0 : p / r / r;
}

static inline pgr_status pgr_pow_check(double a, double b, double v)
{
    if (isfinite(v) || !isfinite(a) || !isfinite(b))
        return PGR_OK;
    return isnan(v) ? PGR_ERR_DOMAIN : a == 0.0 ? PGR_ERR_DIVZERO : PGR_ERR_RANGE;
}

/* Sum, difference and product, together most of all nodes, worked out without branches: their order may be
 * anybody's, and a branch that is foreseen wrongly costs more than all three. */
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

/* With a constant op, all of the switch but one row folds away: if it is inlined, which compilers weigh by the whole. */
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

static inline double ops_value(int op, double a, double b)
{
    double v = NAN;
    ops_eval(op, a, b, &v);
    return v;
}

static inline double pgr_pow_da(double a, double b) { return b == 0.0 ? 0.0 : b * ops_value(PGR_OP_POW, a, b - 1.0); }

/* 0 ** b is 0 for every positive b near b, so its derivative is 0 where log(0) would make it nan. */
static inline double pgr_pow_db(double a, double b, double v) { return a == 0.0 && b >= 0.0 ? 0.0 : v * log(a); }

/* The words of the table's derivatives, as numbers. */
#define ZERO 0.0
#define ONE  1.0
#define HALF 0.5
#define NUMBER_(x)      (x)
#define ADD_(x, y)      ((x) + (y))
#define SUB_(x, y)      ((x) - (y))
#define MUL_(x, y)      ((x) * (y))
#define DIV_(x, y)      ((x) / (y))
#define NEG_(x)         (-(x))
#define EXP_(x)         exp(x)
#define SQRT_(x)        sqrt(x)
#define SIN_(x)         sin(x)
#define COS_(x)         cos(x)
#define SINH_(x)        sinh(x)
#define COSH_(x)        cosh(x)
#define SIGMOID_(x)     ops_value(PGR_OP_SIGMOID, x, 0.0)
#define SIGN_(x)        ops_value(PGR_OP_SIGN, x, 0.0)
#define LESS_(x, y)     ((x) < (y) ? 1.0 : 0.0)
#define PICK_(c, x)     ((c) != 0.0 ? (x) : 0.0)
#define SLOPE_(a, b)    ((a) > 0.0 ? 1.0 : (b))
#define WINS_(a, b)     pgr_wins(a, b)
#define UNIT_(p, a, b)  pgr_unit(p, a, b)
#define POW_DA_(a, b)   pgr_pow_da(a, b)
#define POW_DB_(a, b, v) pgr_pow_db(a, b, v)

/* The partial derivatives of op(a, b) = v; 0 where there is none. */
typedef struct {
    double da, db;
} ops_pair;

#define PARTIALS_UNARY(da, db)  (ops_pair){(da), 0.0}
#define PARTIALS_BINARY(da, db) (ops_pair){(da), (db)}
#define PARTIALS_PARAM(da, db)  (ops_pair){(da), 0.0}
#define PARTIALS_CUT(da, db)    (ops_pair){0.0, 0.0}

static inline ops_pair ops_partials(int op, double a, double b, double v)
{
    (void)a, (void)b, (void)v;
    switch (op) {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    case PGR_OP_##ID: \
        return PARTIALS_##KIND(da, db);
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
#undef EXP_
#undef SQRT_
#undef SIN_
#undef COS_
#undef SINH_
#undef COSH_
#undef SIGMOID_
#undef SIGN_
#undef LESS_
#undef PICK_
#undef SLOPE_
#undef WINS_
#undef UNIT_
#undef POW_DA_
#undef POW_DB_

#endif
