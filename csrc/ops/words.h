/* words.h: the words of derivatives that are more than arithmetic. Each is here, and nowhere else.
 *
 * A derivative in pgr_ops.h serves three times: ops.h computes it as a number, derive.c records it as nodes, and
 * chain_rule.py shows it as text. All three know the arithmetic,
 *
 *   ZERO, ONE, HALF, NUMBER_(0.25), ADD_(x, y), SUB_(x, y), MUL_(x, y), DIV_(x, y), NEG_(x)
 *   OF_(EXP, x)                  another row's function
 *   WORD_(number, nodes, text)   the number in C, nodes and text in words
 *   TEXT_("{} if {}", x, y)      text that arithmetic does not give: {} are the other words, in order
 *
 * and a word is a macro of these. If its number or its nodes take more than an expression, they are functions below:
 * this file is included with WORDS_NUMBERS or WORDS_NODES for one sort of them. */
#ifndef PGR_INTERNAL_WORDS_H
#define PGR_INTERNAL_WORDS_H

/* x in numbers, where y would lose digits; y in nodes and text. */
#define EITHER_(x, y) WORD_(x, y, y)

#define LESS_(x, y)  WORD_((x) < (y) ? 1.0 : 0.0, OF_(LESS, x, y), TEXT_("[1 if {} < {} else 0]", x, y))
#define EQUAL_(x, y) WORD_((x) == (y) ? 1.0 : 0.0, OF_(EQUAL, x, y), TEXT_("[1 if {} = {} else 0]", x, y))
#define PICK_(c, x)  WORD_((c) != 0.0 ? (x) : 0.0, OF_(PICK, c, x), TEXT_("[{} if {} != 0 else 0]", x, c))

/* 1 where a > 0, else b. */
#define SLOPE_(a, b) WORD_((a) > 0.0 ? 1.0 : (b), slope(e, a, b), TEXT_("[1 if {} > 0 else {}]", a, b))

/* The share of the gradient that a gets in max(a, b), and b in min(a, b). */
#define WINS_(a, b) \
    WORD_(pgr_wins(a, b), MUL_(HALF, ADD_(ONE, SUB_(LESS_(b, a), LESS_(a, b)))), \
          TEXT_("[1 if {} > {}, {} if equal, else 0]", a, b, HALF))

/* -a / b**2, v being a / b. */
#define DIV_DB_(a, b, v) WORD_(pgr_div_db(a, b, v), NEG_(DIV_(v, b)), NEG_(DIV_(a, MUL_(b, b))))

/* By the base and the exponent of a ** b, which is v. */
#define POW_DA_(a, b)    WORD_(pgr_pow_da(a, b), pow_da(e, a, b), MUL_(b, OF_(POW, a, SUB_(b, ONE))))
#define POW_DB_(a, b, v) WORD_(pgr_pow_db(a, b, v), pow_db(e, a, b, v), MUL_(v, OF_(LOG, a)))

/* p / (a*a + b*b) */
#define UNIT_(p, a, b) WORD_(pgr_unit(p, a, b), unit(e, p, a, b), DIV_(p, ADD_(MUL_(a, a), MUL_(b, b))))

/* p / hypot(a, b), which is v. */
#define HYPOT_DA_(p, a, b, v) WORD_(pgr_hypot_da(p, a, b, v), PICK_(v, DIV_(p, nonzero(e, v))), DIV_(p, v))

/* 2 / sqrt(pi) * exp(-a*a) */
#define ERF_DA_(a) \
    WORD_(pgr_erf_da(a), MUL_(NUMBER_(1.1283791670955126), OF_(EXP, NEG_(MUL_(a, a)))), \
          MUL_(DIV_(NUMBER_(2.0), TEXT_("sqrt(pi)")), OF_(EXP, NEG_(MUL_(a, a)))))

#endif

#ifdef WORDS_NUMBERS

/* ---- Numbers ----------------------------------------------------------------------------------------
 *
 * Functions for which a plain formula is not accurate. Each is within 4 ulp of the exact derivative (docs/accuracy.md).
 * Where an intermediate result would overflow or be subnormal, numbers are scaled by powers of two, which is exact.
 * Programs, which are made of nodes, use the plain formulas. */

static inline double pgr_wins(double a, double b) { return a > b ? 1.0 : a < b ? 0.0 : 0.5; }

static inline int pgr_is_normal(double x) { return fabs(x) >= DBL_MIN && fabs(x) <= DBL_MAX; }

static inline double pgr_div_db(double a, double b, double v)
{
    if (fabs(v) < DBL_MIN && fabs(b) < 1.0)
        return -(a * 0x1p200 / b / b * 0x1p-200);
    return -(v / b);
}

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

/* exp(-a*a / 2) / sqrt(2 pi), as in pgr_erf_da. */
static inline double pgr_ndtr_da(double a)
{
    const double square = a * a;
    if (!(square < 1600.0))
        return exp(-square);
    const double high = (double)(float)a, low = a - high;
    const double lost = high * high - square + 2.0 * high * low + low * low;
    const double root = exp(-0.25 * square);
    const double e = 0.3989422804014327 * (square < 1400.0 ? exp(-0.5 * square) : root * root);
    return e - 0.5 * lost * e;
}

/* The quotient of the density and ndtr; far below 0 its series. */
static inline double pgr_log_ndtr_da(double a)
{
    if (!(a < -36.0))
        return pgr_ndtr_da(a) / pgr_ndtr(a);
    const double x = 1.0 / a / a;
    const double series = -x * (1.0 - 3.0 * x * (1.0 - 5.0 * x * (1.0 - 7.0 * x * (1.0 - 9.0 * x * (1.0 - 11.0 * x)))));
    return -a / (1.0 + series);
}

/* An ulp of v, the inverse function's value, would become 2 v*v ulp: how far off v is shows by the function itself, and
 * a step of Newton's corrects the derivative. */
static inline double pgr_erfinv_da(double a, double v)
{
    const double t = fabs(v), d = 1.0 / pgr_erf_da(t);
    const double e = fabs(a) < 0.5 ? fabs(a) - erf(t) : erfc(t) - (1.0 - fabs(a));
    return isfinite(d) ? d + d * (2.0 * t * e * d) : d;
}

static inline double pgr_ndtri_da(double a, double v)
{
    const double p = a < 0.5 ? a : 1.0 - a, d = 1.0 / pgr_ndtr_da(v);
    return p > 1e-300 && isfinite(d) ? d + d * (fabs(v) * (pgr_ndtr(-fabs(v)) - p) * d) : d;
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

#endif

#ifdef WORDS_NODES

/* ---- Nodes: `e` records them ------------------------------------------------------------------------ */

static pgr_id slope(recorder *e, pgr_id a, pgr_id b) { return ADD_(b, MUL_(SUB_(ONE, b), LESS_(ZERO, a))); }

/* x, or 1 where x is 0: the divisor of a quotient that is not picked there. With 0, the quotient's derivative would be
 * inf, and inf * 0 is nan. */
static pgr_id nonzero(recorder *e, pgr_id x) { return ADD_(x, EQUAL_(x, ZERO)); }

static pgr_id unit(recorder *e, pgr_id p, pgr_id a, pgr_id b)
{
    const pgr_id r = OF_(HYPOT, a, b), divisor = nonzero(e, r);
    return PICK_(r, DIV_(DIV_(p, divisor), divisor));
}

/* 0 where a and b are both 0: there the base is 1, for the same reason. Where only b is 0, this is 0, too, but not its
 * derivative by b. */
static pgr_id pow_da(recorder *e, pgr_id a, pgr_id b)
{
    double exponent;
    if (!is_constant(e, b, &exponent)) {
        const pgr_id counts = ADD_(OF_(ABS, a), OF_(ABS, b));
        const pgr_id base = ADD_(a, EQUAL_(counts, ZERO));
        return PICK_(counts, MUL_(b, OF_(POW, base, SUB_(b, ONE))));
    }
    if (exponent == 0.0)
        return ZERO;
    if (exponent == 1.0)
        return ONE;
    return MUL_(b, exponent == 2.0 ? a : OF_(POWC, a, NUMBER_(exponent - 1.0)));
}

/* 0 where a is 0 and b >= 0, as in pgr_pow_db: there the logarithm is of 1, for the same reason. */
static pgr_id pow_db(recorder *e, pgr_id a, pgr_id b, pgr_id v)
{
    const pgr_id size = OF_(ABS, a);
    const pgr_id counts = ADD_(size, LESS_(b, ZERO));
    return PICK_(counts, MUL_(v, OF_(LOG, ADD_(a, EQUAL_(counts, ZERO)))));
}

#endif
