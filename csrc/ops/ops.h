/* ops.h: the rows of pgr_ops.h as inline code: enumerators, evaluation and partial derivatives. */
#ifndef PGR_INTERNAL_OPS_H
#define PGR_INTERNAL_OPS_H

#include <float.h>
#include <math.h>

#include "pgr.h"
#include "ops/pgr_ops.h"

enum {
    PGR_OP_BEFORE_FIRST = PGR_OP_FIRST - 1,
#define X(ID, ...) PGR_OP_##ID,
    PGR_OPS(X)
#undef X
    PGR_OP_COUNT
};

/* The share of the gradient that a gets in max(a, b), and b in min(a, b). */
static inline double pgr_wins(double a, double b) { return a > b ? 1.0 : a < b ? 0.0 : 0.5; }

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

/* ---- Derivatives for which a plain formula is not accurate ------------------------------------------
 *
 * Each is within 4 ulp of the exact derivative (docs/accuracy.md). Where an intermediate result would overflow or be
 * subnormal, numbers are scaled by powers of two, which is exact. Programs (derive.c) use the plain formulas. */

static inline int pgr_is_normal(double x) { return fabs(x) >= DBL_MIN && fabs(x) <= DBL_MAX; }

/* -a / b**2, v being a / b. */
static inline double pgr_div_db(double a, double b, double v)
{
    if (fabs(v) < DBL_MIN && fabs(b) < 1.0)
        return -(a * 0x1p200 / b / b * 0x1p-200);
    return -(v / b);
}

/* p / (a*a + b*b) */
static inline double pgr_unit(double p, double a, double b)
{
    const double r = hypot(a, b), q = p / r;
    const int is_middling = r > 0x1p-900 && r < 0x1p1000;
    if (is_middling && fabs(q) >= DBL_MIN)
        return q / r;
    if (r == 0.0)
        return 0.0;
    if (!isfinite(a) || !isfinite(b))
        return q / r;
    const double s = r >= 0x1p1000 ? 0x1p-100 : 0x1p600;
    if (is_middling)
        return p * s / r / r / s;
    const double t = hypot(a * s, b * s);
    return p * s / t / t * s;
}

/* p / hypot(a, b), which is v. */
static inline double pgr_hypot_da(double p, double a, double b, double v)
{
    if (v >= DBL_MIN)
        return p / v;
    return v == 0.0 ? 0.0 : p * 0x1p600 / hypot(a * 0x1p600, b * 0x1p600);
}

/* 1 / (1 + a*a) */
static inline double pgr_atan_da(double a)
{
    return fabs(a) > 0x1p500 ? 1.0 / a / a : 1.0 / (1.0 + a * a);
}

/* 1 - v*v, but where v is near 1, and this cancels, 4 e / (1 + e)**2 with e = exp(-2 |a|). */
static inline double pgr_tanh_da(double a, double v)
{
    const double square = v * v;
    if (square <= 0.5)
        return 1.0 - square;
    const double e = exp(-2.0 * fabs(a));
    return 4.0 * e / ((1.0 + e) * (1.0 + e));
}

/* 2 / sqrt(pi) * exp(-a*a). exp would turn the rounding error of a*a into up to 500 ulp; a split in halves (Dekker
 * 1971) finds the error, and a factor corrects it. */
static inline double pgr_erf_da(double a)
{
    const double square = a * a;
    if (!(square < 1000.0))
        return exp(-square);
    const double high = (double)(float)a, low = a - high;
    const double lost = high * high - square + 2.0 * high * low + low * low;
    const double e = 1.1283791670955126 * exp(-square);
    return e - e * lost;
}

/* s (1 + a (1 - s)) with s = 1 / (1 + exp(-a)), which is e**a (1 + a + e**a) / (1 + e**a)**2. Below 0 the sum cancels;
 * around its zero z, -1.278.., it is a - z + e**z * expm1(a - z), whose terms have one sign. */
static inline double pgr_silu_da(double a)
{
    if (a >= -0.25) {
        const double e = exp(-a), q = 1.0 + e;
        return (1.0 + a * (e / q)) / q;
    }
    const double e = exp(a), d = (a + 1.2784645427610737) + 1.0946994183093437e-16;
    const double sum = a < -2.0 ? 1.0 + a + e : d + 0.2784645427610738 * expm1(d);
    if (a < -700.0)
        return sum * exp(0.5 * a) * exp(0.5 * a);
    return e * sum / (1.0 + e * (2.0 + e));
}

/* v / a + a * p with p = exp(-a*a / 2) / sqrt(2 pi), computed as in pgr_erf_da. Around its zero z, -0.751.., this
 * cancels: there it is p * d times a polynomial in d = a - z, interpolated at Chebyshev points. */
static inline double pgr_gelu_da(double a, double v)
{
    static const double c[] = {
        6.447711396623815e-12, 6.041752192284606e-11, 3.1886233990033105e-10, 1.4494431843507982e-09,
        6.54255705397324e-09, 2.920173763891472e-08, 1.2678596115008214e-07, 5.337737149833028e-07,
        2.176331621616033e-06, 8.574957954775446e-06, 3.256248531159234e-05, 0.0001188048159694777,
        0.00041494133854331333, 0.0013811927116296567, 0.004357899676719135, 0.01294458102510115,
        0.03587902436626208, 0.09169645155828013, 0.2124527125910172, 1.4348095033989257};
    const double square = a * a;
    if (!(square < 1600.0))
        return v / a + a * exp(-square);
    const double high = (double)(float)a, low = a - high;
    const double lost = high * high - square + 2.0 * high * low + low * low;
    const double d = (a + 0.7517915246935645) - 1.4956759177009883e-17;
    const int is_near = d > -1.25 && d < 0.8;
    double x = 0.3989422804014327 * a;
    if (is_near) {
        double sum = 0.0;
        for (size_t i = 0; i < sizeof c / sizeof *c; i++)
            sum = sum * d + c[i];
        x = 0.3989422804014327 * d * sum;
    }
    const double root = exp(-0.25 * square), y = square < 1400.0 ? x * exp(-0.5 * square) : x * root * root;
    const double slope = y - 0.5 * lost * y;
    return is_near ? slope : v / a + slope;
}

/* b * a ** (b - 1); where b - 1 is inexact, b * a ** b / a. */
static inline double pgr_pow_da(double a, double b)
{
    if (b == 0.0)
        return 0.0;
    const double c = b - 1.0;
    const int is_plain = a == 0.0 || !isfinite(a) || !isfinite(b);
    const int is_exact = is_plain || (c + 1.0 == b && b - c == 1.0);
    const double power = is_exact ? ops_value_POW(a, c) : pow(a, b);
    if (!is_plain && !pgr_is_normal(power) && !isnan(power)) {
        const double root = pow(fabs(a), 0.5 * (is_exact ? c : b));
        return copysign(1.0, power) * (is_exact ? b * root * root : b * root / a * root);
    }
    return is_exact ? b * power : b * power / a;
}

/* a ** b * log(a); 0 where a is 0 and b >= 0, not nan, since 0 ** b is 0 for all positive b. */
static inline double pgr_pow_db(double a, double b, double v)
{
    if (a == 0.0 && b >= 0.0)
        return 0.0;
    if (!pgr_is_normal(v) && a > 0.0 && isfinite(a) && isfinite(b)) {
        const double root = pow(a, 0.5 * b);
        return root * log(a) * root;
    }
    return v * log(a);
}

/* The words of the table's derivatives, as numbers. */
#define ZERO 0.0
#define ONE  1.0
#define HALF 0.5
#define ADD_(x, y)      ((x) + (y))
#define SUB_(x, y)      ((x) - (y))
#define MUL_(x, y)      ((x) * (y))
#define DIV_(x, y)      ((x) / (y))
#define NEG_(x)         (-(x))
#define NUMBER_(x)      (x)
#define EITHER_(number, nodes) (number)
#define OF_(ID, ...)    OPERANDS_(ops_value_##ID, __VA_ARGS__, 0.0, 0)
#define OPERANDS_(f, x, y, ...) f(x, y)
#define LESS_(x, y)     ((x) < (y) ? 1.0 : 0.0)
#define PICK_(c, x)     ((c) != 0.0 ? (x) : 0.0)
#define SLOPE_(a, b)    ((a) > 0.0 ? 1.0 : (b))
#define WINS_(a, b)     pgr_wins(a, b)
#define DIV_DB_(a, b, v)      pgr_div_db(a, b, v)
#define POW_DA_(a, b)         pgr_pow_da(a, b)
#define POW_DB_(a, b, v)      pgr_pow_db(a, b, v)
#define UNIT_(p, a, b)        pgr_unit(p, a, b)
#define HYPOT_DA_(p, a, b, v) pgr_hypot_da(p, a, b, v)
#define ERF_DA_(a)            pgr_erf_da(a)

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
#undef ADD_
#undef SUB_
#undef MUL_
#undef DIV_
#undef NEG_
#undef NUMBER_
#undef EITHER_
#undef OF_
#undef OPERANDS_
#undef LESS_
#undef PICK_
#undef SLOPE_
#undef WINS_
#undef DIV_DB_
#undef POW_DA_
#undef POW_DB_
#undef UNIT_
#undef HYPOT_DA_
#undef ERF_DA_

#endif
