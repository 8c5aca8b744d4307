/* pgr_ops.h: the table of operations, one row each.
 *
 * All code that knows an operation (evaluation, the reverse sweep, the methods of `Value` in both operand layers, its
 * type stub, drawings) is generated from its row, so a new operation touches this file and its tests only. Append new
 * rows, so that the others keep their numbers.
 *
 *   X(ID, name, symbol, KIND, value, da, db, check, rule, doc)
 *
 *   KIND    UNARY   f(a)
 *           BINARY  f(a, b)
 *           PARAM   f(a) with a constant parameter b: no gradient flows to b, and the db column is b's default
 *                   (NAN: no default)
 *           CUT     f(a), recorded without its operand: no gradient flows, and the operand is not kept
 *   value   an expression in a and b, the operands' numbers. Plain C99, since exported code contains it, too
 *   da, db  the local derivatives, in a, b and v, the result. Written in words (ADD_, MUL_, ...: see words.h), so that
 *           one expression serves three times: ops.h turns it into numbers, derive.c into nodes, chain_rule.py into
 *           text. OF_(EXP, x) is another row's function, NUMBER_(0.5) a constant. EITHER_(x, y) is x in numbers, where
 *           y would lose digits, and y in nodes and text
 *   check   a pgr_status in a, b and v: what Python's float and math raise for the same numbers
 *   rule    the error message's reason when the check fails
 *
 * Kinks follow PyTorch: abs'(0) = relu'(0) = 0, leaky_relu'(0) = slope, both derivatives of max(a, a) are 1/2, and
 * atan2'(0, 0) = 0. hypot'(0, 0) = 0 likewise, where PyTorch gives nan. See docs/accuracy.md.
 *
 * silu halves the argument of exp where the result would be subnormal. gelu adds what erfc loses when a / sqrt(2) is
 * rounded: the remainder, from fma and the constant's next digits, times the slope.
 *
 * Source of the derivatives: Abramowitz & Stegun, Handbook of Mathematical Functions, ch. 4 and 7. */
#ifndef PGR_OPS_H
#define PGR_OPS_H

#define PGR_ALWAYS      PGR_OK
#define PGR_NEEDS(cond) ((cond) ? PGR_OK : PGR_ERR_DOMAIN)
/* An infinite result of finite operands. */
#define PGR_OVERFLOWS   (isinf(v) && isfinite(a) ? PGR_ERR_RANGE : PGR_OK)

#define PGR_OPS(X) \
X(ADD,   "add",   "+",     BINARY, a + b,  ONE,       ONE,     PGR_ALWAYS, "", "Sum, a + b.") \
X(SUB,   "sub",   "-",     BINARY, a - b,  ONE,       NEG_(ONE), PGR_ALWAYS, "", "Difference, a - b.") \
X(MUL,   "mul",   "*",     BINARY, a * b,  b,         a,       PGR_ALWAYS, "", "Product, a * b.") \
X(DIV,   "div",   "/",     BINARY, a / b,  DIV_(ONE, b), DIV_DB_(a, b, v), (b == 0.0 ? PGR_ERR_DIVZERO : PGR_OK), \
  "the divisor must not be zero", "Quotient, a / b.") \
X(POW,   "pow",   "**",    BINARY, (b == 2.0 ? a * a : b == 1.0 ? a : b == -1.0 ? 1.0 / a : pow(a, b)), \
  POW_DA_(a, b), POW_DB_(a, b, v), pgr_pow_check(a, b, v), \
  "a negative base needs an integral exponent", "Power, a ** b.") \
X(POWC,  "powc",  "**",    PARAM,  (b == 2.0 ? a * a : b == 1.0 ? a : b == -1.0 ? 1.0 / a : pow(a, b)), \
  POW_DA_(a, b), NAN, pgr_pow_check(a, b, v), \
  "a negative base needs an integral exponent", "Power with a constant exponent: what a ** 3 records.") \
X(NEG,   "neg",   "neg",   UNARY,  -a,     NEG_(ONE), ZERO,    PGR_ALWAYS, "", "Negation, -a.") \
X(EXP,   "exp",   "exp",   UNARY,  exp(a),  v,        ZERO,    PGR_OVERFLOWS, "", "Exponential, e ** a.") \
X(LOG,   "log",   "log",   UNARY,  log(a),  DIV_(ONE, a), ZERO,    PGR_NEEDS(!(a <= 0.0)), \
  "the argument must be positive", "Natural logarithm.") \
X(LOG1P, "log1p", "log1p", UNARY,  log1p(a), DIV_(ONE, ADD_(ONE, a)), ZERO, PGR_NEEDS(!(a <= -1.0)), \
  "the argument must be greater than -1", "log(1 + a), accurate near 0.") \
X(EXPM1, "expm1", "expm1", UNARY,  expm1(a), OF_(EXP, a), ZERO,    PGR_OVERFLOWS, "", "exp(a) - 1, accurate near 0.") \
X(SQRT,  "sqrt",  "sqrt",  UNARY,  sqrt(a),  DIV_(HALF, v), ZERO,    PGR_NEEDS(!(a < 0.0)), \
  "the argument must not be negative", "Square root.") \
X(ABS,   "abs",   "abs",   UNARY,  fabs(a),  OF_(SIGN, a), ZERO, \
  PGR_ALWAYS, "", "Absolute value; its derivative at 0 is 0.") \
X(TANH,  "tanh",  "tanh",  UNARY,  tanh(a),  EITHER_(pgr_tanh_da(a, v), SUB_(ONE, MUL_(v, v))), ZERO, \
  PGR_ALWAYS, "", "Hyperbolic tangent.") \
X(SIGMOID, "sigmoid", "sigmoid", UNARY, (a >= 0.0 ? 1.0 : exp(-fabs(a))) / (1.0 + exp(-fabs(a))), \
  MUL_(v, OF_(SIGMOID, NEG_(a))), ZERO, PGR_ALWAYS, "", \
  "Logistic function, 1 / (1 + exp(-a)), without overflow.") \
X(SOFTPLUS, "softplus", "softplus", UNARY, (a > 0.0 ? a : 0.0) + log1p(exp(-fabs(a))), OF_(SIGMOID, a), ZERO, \
  PGR_ALWAYS, "", "log(1 + exp(a)), without overflow.") \
X(RELU,  "relu",  "ReLU",  UNARY,  (a < 0.0 ? 0.0 : a), LESS_(ZERO, v), ZERO, PGR_ALWAYS, "", \
  "max(a, 0); its derivative at 0 is 0.") \
X(LEAKY_RELU, "leaky_relu", "LeakyReLU", PARAM, (a > 0.0 ? a : a * b), SLOPE_(a, b), 0.01, PGR_ALWAYS, "", \
  "a where a > 0, else slope * a; its derivative at 0 is the slope.") \
X(SIN,   "sin",   "sin",   UNARY,  sin(a),   OF_(COS, a), ZERO,    PGR_NEEDS(!isinf(a)), \
  "the argument must be finite", "Sine; a in radians.") \
X(COS,   "cos",   "cos",   UNARY,  cos(a),   NEG_(OF_(SIN, a)), ZERO,    PGR_NEEDS(!isinf(a)), \
  "the argument must be finite", "Cosine; a in radians.") \
X(TAN,   "tan",   "tan",   UNARY,  tan(a),   ADD_(ONE, MUL_(v, v)), ZERO, PGR_NEEDS(!isinf(a)), \
  "the argument must be finite", "Tangent; a in radians.") \
X(ASIN,  "asin",  "asin",  UNARY,  asin(a),  DIV_(ONE, OF_(SQRT, MUL_(SUB_(ONE, a), ADD_(ONE, a)))), ZERO, \
  PGR_NEEDS(!(fabs(a) > 1.0)), "the argument must lie in [-1, 1]", "Inverse sine, in radians, in [-pi/2, pi/2].") \
X(ACOS,  "acos",  "acos",  UNARY,  acos(a),  DIV_(NEG_(ONE), OF_(SQRT, MUL_(SUB_(ONE, a), ADD_(ONE, a)))), ZERO, \
  PGR_NEEDS(!(fabs(a) > 1.0)), "the argument must lie in [-1, 1]", "Inverse cosine, in radians, in [0, pi].") \
X(ATAN,  "atan",  "atan",  UNARY,  atan(a),  EITHER_(pgr_atan_da(a), DIV_(ONE, ADD_(ONE, MUL_(a, a)))), ZERO, \
  PGR_ALWAYS, "", "Inverse tangent, in radians, in (-pi/2, pi/2).") \
X(SINH,  "sinh",  "sinh",  UNARY,  sinh(a),  OF_(COSH, a), ZERO,    PGR_OVERFLOWS, "", "Hyperbolic sine.") \
X(COSH,  "cosh",  "cosh",  UNARY,  cosh(a),  OF_(SINH, a), ZERO,    PGR_OVERFLOWS, "", "Hyperbolic cosine.") \
X(ATAN2, "atan2", "atan2", BINARY, atan2(a, b), UNIT_(b, a, b), NEG_(UNIT_(a, a, b)), PGR_ALWAYS, "", \
  "Angle of the point (x=b, y=a), in radians, in [-pi, pi].") \
X(HYPOT, "hypot", "hypot", BINARY, hypot(a, b), HYPOT_DA_(a, a, b, v), HYPOT_DA_(b, a, b, v), \
  (isfinite(b) ? PGR_OVERFLOWS : PGR_OK), "", "sqrt(a*a + b*b), without intermediate overflow.") \
X(ERF,   "erf",   "erf",   UNARY,  erf(a), ERF_DA_(a), ZERO, PGR_ALWAYS, "", "Error function.") \
X(MIN,   "min",   "min",   BINARY, (a < b || isnan(a) ? a : b), WINS_(b, a), WINS_(a, b), PGR_ALWAYS, "", \
  "The smaller of a and b, nan if either is; equal operands share the gradient.") \
X(MAX,   "max",   "max",   BINARY, (a > b || isnan(a) ? a : b), WINS_(a, b), WINS_(b, a), PGR_ALWAYS, "", \
  "The larger of a and b, nan if either is; equal operands share the gradient.") \
X(SIGN,  "sign",  "sign",  UNARY,  (isnan(a) ? a : (double)((a > 0.0) - (a < 0.0))), ZERO, ZERO, PGR_ALWAYS, "", \
  "-1, 0 or 1, as a is below, at or above 0; nan if it is nan.") \
X(LESS,  "less",  "<",     BINARY, (a < b ? 1.0 : 0.0), ZERO, ZERO, PGR_ALWAYS, "", "1 where a < b, else 0.") \
X(LESS_EQUAL, "less_equal", "<=", BINARY, (a <= b ? 1.0 : 0.0), ZERO, ZERO, PGR_ALWAYS, "", "1 where a <= b, else 0.") \
X(EQUAL, "equal", "==",    BINARY, (a == b ? 1.0 : 0.0), ZERO, ZERO, PGR_ALWAYS, "", "1 where a == b, else 0.") \
X(PICK,  "pick",  "pick",  BINARY, (a != 0.0 ? b : 0.0), ZERO, PICK_(a, ONE), \
  PGR_ALWAYS, "", "b where a is not 0, else 0.") \
X(KEEP,  "keep",  "keep",  BINARY, (a != 0.0 ? b : -0.0), ZERO, PICK_(a, ONE), PGR_ALWAYS, "", \
  "b where a is not 0, else -0.0, which leaves every sum as it is: what where() is made of.") \
X(DETACH, "detach", "detach", CUT, a, ZERO, ZERO, PGR_ALWAYS, "", \
  "The same number as a new leaf: no gradient flows through, and the graph below is not kept.") \
X(LOG10, "log10", "log10", UNARY,  log10(a), DIV_(NUMBER_(0.4342944819032518), a), ZERO, PGR_NEEDS(!(a <= 0.0)), \
  "the argument must be positive", "Logarithm to base 10.") \
X(LOG2,  "log2",  "log2",  UNARY,  log2(a), DIV_(NUMBER_(1.4426950408889634), a), ZERO, PGR_NEEDS(!(a <= 0.0)), \
  "the argument must be positive", "Logarithm to base 2.") \
X(ASINH, "asinh", "asinh", UNARY,  asinh(a), DIV_(ONE, OF_(HYPOT, ONE, a)), ZERO, \
  PGR_ALWAYS, "", "Inverse hyperbolic sine.") \
X(ACOSH, "acosh", "acosh", UNARY,  acosh(a), DIV_(ONE, MUL_(OF_(SQRT, SUB_(a, ONE)), OF_(SQRT, ADD_(a, ONE)))), ZERO, \
  PGR_NEEDS(!(a < 1.0)), "the argument must be at least 1", "Inverse hyperbolic cosine, at least 0.") \
X(ATANH, "atanh", "atanh", UNARY,  atanh(a), DIV_(ONE, MUL_(SUB_(ONE, a), ADD_(ONE, a))), ZERO, \
  PGR_NEEDS(!(fabs(a) >= 1.0)), "the argument must lie between -1 and 1", "Inverse hyperbolic tangent.") \
X(ERFC,  "erfc",  "erfc",  UNARY,  erfc(a), NEG_(ERF_DA_(a)), ZERO, \
  PGR_ALWAYS, "", "1 - erf(a), accurate where it is near 0.") \
X(SILU,  "silu",  "SiLU",  UNARY,  (a < -1e3 ? -0.0 \
    : (a >= 0.0 ? a : a * exp(a < -700.0 ? 0.5 * a : -fabs(a))) / (1.0 + exp(a < -700.0 ? 0.5 * a : -fabs(a))) * \
          (a < -700.0 ? exp(0.5 * a) : 1.0)), \
  EITHER_(pgr_silu_da(a), MUL_(OF_(SIGMOID, a), ADD_(ONE, MUL_(a, OF_(SIGMOID, NEG_(a)))))), ZERO, PGR_ALWAYS, "", \
  "a * sigmoid(a), also called swish.") \
X(GELU,  "gelu",  "GELU",  UNARY,  (a > 9.0 ? a : a < -40.0 ? -0.0 : 0.5 * a * (erfc(-(a * 0.7071067811865476)) + \
    (fma(a, 0.7071067811865476, -(a * 0.7071067811865476)) - a * 4.833646656726457e-17) * \
          1.1283791670955126 * exp(-0.5 * a * a))), \
  EITHER_(pgr_gelu_da(a, v), ADD_(MUL_(HALF, OF_(ERFC, NEG_(MUL_(NUMBER_(0.7071067811865476), a)))), \
    MUL_(a, MUL_(NUMBER_(0.3989422804014327), OF_(EXP, NEG_(MUL_(HALF, MUL_(a, a)))))))), ZERO, PGR_ALWAYS, "", \
  "Gaussian error linear unit, a * (1 + erf(a / sqrt(2))) / 2, accurate for negative a, too.") \
X(ELU,   "elu",   "ELU",   PARAM,  (a > 0.0 ? a : b * expm1(a)), \
  SLOPE_(a, MUL_(b, OF_(EXP, NEG_(OF_(RELU, NEG_(a)))))), 1.0, \
  PGR_ALWAYS, "", "a where a > 0, else alpha * (exp(a) - 1).") \
X(FLOOR, "floor", "floor", UNARY,  floor(a), ZERO, ZERO, PGR_ALWAYS, "", "The largest whole number not above a.") \
X(MOD,   "mod",   "%",     BINARY, \
  (fmod(a, b) == 0.0 ? copysign(0.0, b) : (fmod(a, b) < 0.0) != (b < 0.0) ? fmod(a, b) + b : fmod(a, b)), \
  ONE, NEG_(OF_(FLOOR, ADD_(SUB_(DIV_(a, b), DIV_(v, b)), HALF))), (b == 0.0 ? PGR_ERR_DIVZERO : PGR_OK), \
  "the divisor must not be zero", "Remainder, a % b as Python's: a - b * floor(a / b), with the sign of b.") \
X(RINT,  "rint",  "rint",  UNARY,  rint(a), ZERO, ZERO, PGR_ALWAYS, "", \
  "The nearest whole number; halves go to the even one.") \
X(EXP2,  "exp2",  "exp2",  UNARY,  exp2(a), MUL_(NUMBER_(0.6931471805599453), v), ZERO, PGR_OVERFLOWS, "", "2 ** a.") \
X(CBRT,  "cbrt",  "cbrt",  UNARY,  pgr_cbrt(a), DIV_(ONE, MUL_(NUMBER_(3.0), MUL_(v, v))), ZERO, PGR_ALWAYS, \
  "", "Cube root.") \
X(LOGIT, "logit", "logit", UNARY,  (fabs(a - 0.5) < 0.25 ? 2.0 * atanh(2.0 * a - 1.0) : log(a / (1.0 - a))), \
  DIV_(ONE, MUL_(a, SUB_(ONE, a))), ZERO, PGR_NEEDS(!(a <= 0.0 || a >= 1.0)), \
  "the argument must lie between 0 and 1", "log(a / (1 - a)), the inverse of sigmoid.") \
X(GAMMA, "gamma", "gamma", UNARY,  tgamma(a), MUL_(v, OF_(DIGAMMA, a)), ZERO, \
  (a <= 0.0 && a == floor(a) ? PGR_ERR_DOMAIN : PGR_OVERFLOWS), "the argument must not be 0, -1, -2, ...", \
  "Gamma function, (a - 1)! for whole a.") \
X(LGAMMA, "lgamma", "lgamma", UNARY, lgamma(a), OF_(DIGAMMA, a), ZERO, \
  (a <= 0.0 && isfinite(a) && a == floor(a) ? PGR_ERR_DOMAIN : PGR_OVERFLOWS), \
  "the argument must not be 0, -1, -2, ...", "Logarithm of the gamma function's absolute value.") \
X(DIGAMMA, "digamma", "digamma", UNARY, pgr_digamma(a), OF_(POLYGAMMA, ONE, a), ZERO, \
  PGR_NEEDS(!(a <= 0.0 && a == floor(a))), "the argument must not be 0, -1, -2, ...", "Derivative of lgamma.") \
X(POLYGAMMA, "polygamma", "polygamma", BINARY, pgr_polygamma(a, b), ZERO, OF_(POLYGAMMA, ADD_(a, ONE), b), \
  PGR_NEEDS(!(a < 0.0 || a != floor(a) || isinf(a) || (b <= 0.0 && b == floor(b)))), \
  "the order must be 0, 1, 2, ..., and the argument not 0, -1, -2, ...", \
  "The a-th derivative of digamma, at b; the order a is a constant.") \
X(ERFINV, "erfinv", "erfinv", UNARY, pgr_erfinv(a), \
  EITHER_(pgr_erfinv_da(a, v), MUL_(NUMBER_(0.886226925452758), OF_(EXP, MUL_(v, v)))), ZERO, \
  PGR_NEEDS(!(a <= -1.0 || a >= 1.0)), "the argument must lie between -1 and 1", "Inverse of erf.") \
X(NDTR,  "ndtr",  "ndtr",  UNARY,  pgr_ndtr(a), EITHER_(pgr_ndtr_da(a), \
  MUL_(NUMBER_(0.3989422804014327), OF_(EXP, NEG_(MUL_(HALF, MUL_(a, a)))))), ZERO, PGR_ALWAYS, "", \
  "Distribution function of the standard normal distribution, accurate for negative a, too.") \
X(NDTRI, "ndtri", "ndtri", UNARY,  pgr_ndtri(a), EITHER_(pgr_ndtri_da(a, v), \
  MUL_(NUMBER_(2.5066282746310002), OF_(EXP, MUL_(HALF, MUL_(v, v))))), ZERO, PGR_NEEDS(!(a <= 0.0 || a >= 1.0)), \
  "the argument must lie between 0 and 1", "Quantile of the standard normal distribution, the inverse of ndtr.") \
X(LOG_NDTR, "log_ndtr", "logndtr", UNARY, pgr_log_ndtr(a), EITHER_(pgr_log_ndtr_da(a), \
  MUL_(NUMBER_(0.3989422804014327), OF_(EXP, NEG_(ADD_(MUL_(HALF, MUL_(a, a)), v))))), ZERO, PGR_ALWAYS, "", \
  "log(ndtr(a)), accurate where ndtr(a) is tiny.") \
X(GATE,  "gate",  "gate",  BINARY, (b > 0.0 ? a : a * 0.0), LESS_(ZERO, b), ZERO, PGR_ALWAYS, "", \
  "a where b > 0, else a * 0: what relu(b) passes on of a gradient.")

#endif
