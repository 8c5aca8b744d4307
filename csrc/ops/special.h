/* special.h: functions that rows of pgr_ops.h call for their values, in plain C99: C source of programs contains them.
 *
 * PGR_SPECIAL(name, code) is defined by the file that includes this one: ops.h makes the code, ops.c its text. So the
 * code has no directives, and a function calls only those above it. Coefficients are interpolated at Chebyshev points
 * with 60 digits.
 *
 * Source: Abramowitz & Stegun, Handbook of Mathematical Functions, ch. 6, 23.2 and 26.2. */

PGR_SPECIAL(pgr_polynomial,
static inline double pgr_polynomial(double x, const double *c, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++)
        sum = sum * x + c[i];
    return sum;
})

/* A step of Newton's, from the platform's function, which is off by 2 ulp or more. */
PGR_SPECIAL(pgr_cbrt,
static inline double pgr_cbrt(double a)
{
    const double scale = fabs(a) < 1e-290 ? 0x1p300 : 1.0;
    const double x = a * scale, v = cbrt(x), square = v * v;
    if (v == 0.0 || !isfinite(v))
        return v;
    const double more = fma(square, v, -x) + fma(v, v, -square) * v;
    return (v - more / (3.0 * square)) * (scale > 1.0 ? 0x1p-100 : 1.0);
})

/* On [1, 3.5] a polynomial times the distance from the zero, whose next digits the constant lacks; below 1 and up to 10
 * by recurrence, beyond by the asymptotic series, below 0 by reflection. */
PGR_SPECIAL(pgr_digamma,
static inline double pgr_digamma(double a)
{
    static const double c[] = {
        2.983056909705629e-11, -6.711879946939198e-11, -2.3351731920509043e-10, 5.254140124315461e-10,
        1.0709512175834818e-09, -2.409641207740302e-09, -2.5190328946492687e-09, 5.6678188417268125e-09,
        6.018947818731882e-09, -1.354269921679689e-08, -9.542515239461985e-10, 2.146381365009869e-09,
        3.351518160391967e-08, -7.541642933025887e-08, 1.3514725076851299e-07, -3.0415837407977163e-07,
        7.076947398804314e-07, -1.5931323609144363e-06, 3.5758664606720925e-06, -8.054449524916647e-06,
        1.8155240241012036e-05, -4.094354714808892e-05, 9.24329201509896e-05, -0.00020900521720979343,
        0.0004737054120285702, -0.0010774502075378098, 0.0024639761196966177, -0.005682519139676463,
        0.01328397943650086, -0.031767188955220474, 0.0791348988150661, -0.21425737920543944,
        0.7262427849760034};
    double less = 0.0;
    if (a <= 0.0) {
        if (a == floor(a))
            return NAN;
        less = 3.141592653589793 / tan(3.141592653589793 * (a - rint(a)));
        a = 1.0 - a;
    }
    if (a < 1.0) {
        less += 1.0 / a;
        a += 1.0;
    }
    if (a <= 3.5)
        return ((a - 1.4616321449683622) - 9.549995429965697e-17) * pgr_polynomial(a - 2.25, c, 33) - less;
    for (; a < 10.0; a += 1.0)
        less += 1.0 / a;
    const double x = 1.0 / a / a;
    const double series = x * (1.0 / 12 - x * (1.0 / 120 - x * (1.0 / 252 - x * (1.0 / 240 - x * (1.0 / 132 -
        x * (691.0 / 32760 - x * (1.0 / 12 - x * (3617.0 / 8160))))))));
    return log(a) - 0.5 / a - series - less;
})

/* The Hurwitz zeta function, the sum of (x + k)**-s over k >= 0: terms, and the rest by Euler and Maclaurin. */
PGR_SPECIAL(pgr_hurwitz,
static inline double pgr_hurwitz(double s, double x)
{
    double sum = 0.0, lost = 0.0; /* what additions round away */
    for (; x < 10.0 + 2.0 * s; x += 1.0) {
        const double term = pow(x, -s), more = sum + term;
        lost += isfinite(more) ? sum - more + term : 0.0;
        sum = more;
        if (term <= 1e-18 * sum) /* or both are 0 */
            return sum + lost;
    }
    const double y = 1.0 / x / x;
    const double rest = s / 12 * (1.0 - (s + 1) * (s + 2) * y / 60 * (1.0 - (s + 3) * (s + 4) * y / 42 *
        (1.0 - (s + 5) * (s + 6) * y / 40 * (1.0 - (s + 7) * (s + 8) * y * 5 / 198 *
        (1.0 - (s + 9) * (s + 10) * y * 691 / 27300 * (1.0 - (s + 11) * (s + 12) * y * 35 / 1382))))));
    return sum + (lost + pow(x, -s) * (x / (s - 1.0) + 0.5 + rest / x));
})

/* Of order n, at x. Left of 0, the terms with a negative base are those of another two sums. */
PGR_SPECIAL(pgr_polygamma,
static inline double pgr_polygamma(double n, double x)
{
    if (n == 0.0)
        return pgr_digamma(x);
    if (!(n > 0.0) || n != floor(n) || isnan(x))
        return NAN;
    const double s = n + 1.0;
    const int is_odd = fmod(n, 2.0) != 0.0;
    double sum;
    if (x > 0.0) {
        sum = isinf(x) ? 0.0 : pgr_hurwitz(s, x);
    } else {
        const double r = x - rint(x);
        const double more = pgr_hurwitz(s, r > 0.0 ? 1.0 - r : -r) - pgr_hurwitz(s, 1.0 - x);
        if (x == rint(x))
            return is_odd ? INFINITY : NAN;
        sum = pgr_hurwitz(s, r > 0.0 ? r : 1.0 + r) + (is_odd ? more : -more);
    }
    const double size = n < 150.0 ? tgamma(s) * sum : copysign(exp(lgamma(s) + log(fabs(sum))), sum);
    return is_odd ? size : -size;
})

/* The x at which erf is a, and erfc is q. For q below 1/2 it is s = sqrt(-log(q)) times a polynomial in
 * (s - k) / (s + k). */
PGR_SPECIAL(pgr_inverse_erf,
static inline double pgr_inverse_erf(double a, double q)
{
    static const double near[] = {
        0.11314166859159029, 0.10778160369804848, 0.0972312023462761, 0.09418936493657569, 0.09233429838344906,
        0.0915471066280031, 0.09223856098711128, 0.09489255792141059, 0.10039275108415621, 0.11049779615915697,
        0.12916467464937703, 0.1672977500966559, 0.26853944237639576, 0.9174083670522701};
    static const double middle[] = {
        -0.00977020589946212, -0.016612091501641158, -0.010413448298647477, 0.008845807492379018,
        -0.0017426214792956405, -0.019992683358033073, 0.008256287211136871, 0.008037853048220795,
        -0.029103757157083975, 0.006868042571951817, 0.025505935937385444, -0.04403538127992978,
        -0.004724491069650032, 0.061405576703751144, -0.06803863502004086, -0.05095219465509948,
        0.1593016024714994, -0.09353334597447967, -0.3379330486330024, 0.5401779930664938, 0.7931901841339282};
    static const double far[] = {
        0.0010568278014514746, -0.0020602967329531414, 0.0009453293797259764, -0.0008346081354775761,
        0.0011224254069647837, -0.0010352470124229702, 0.00018607262727207303, 0.0008399984947793461,
        -0.0027395009836219705, 0.005356445857505277, -0.009362431527565511, 0.014584912912298263,
        -0.021728729194245826, 0.030443219742231468, -0.04126198891685786, 0.053061261229847584,
        -0.0656391324455937, 0.07513748156842218, -0.07869568454843166, 0.05506440720320341,
        0.9841645755674145};
    if (q > 0.5)
        return a * pgr_polynomial(a * a - 0.125, near, 14);
    const double s = sqrt(-log(q));
    if (!(s < INFINITY))
        return s;
    return s * (s < 4.0 ? pgr_polynomial((s - 1.0) / (s + 1.0) - 0.253551912568306, middle, 21)
                        : pgr_polynomial((s - 6.0) / (s + 6.0) - 0.2235294117647059, far, 21));
})

PGR_SPECIAL(pgr_erfinv,
static inline double pgr_erfinv(double a) { return copysign(pgr_inverse_erf(fabs(a), 1.0 - fabs(a)), a); })

PGR_SPECIAL(pgr_ndtri,
static inline double pgr_ndtri(double a)
{
    const double x = 1.4142135623730951 * (a < 0.25 ? pgr_inverse_erf(1.0, 2.0 * a)
        : a > 0.75 ? pgr_inverse_erf(1.0, 2.0 * (1.0 - a)) : pgr_inverse_erf(2.0 * a - 1.0, 1.0));
    return a < 0.25 ? -x : x;
})

/* As gelu: erfc, and what it loses when a / sqrt(2) is rounded. */
PGR_SPECIAL(pgr_ndtr,
static inline double pgr_ndtr(double a)
{
    const double x = a * 0.7071067811865476;
    if (!(fabs(a) < 40.0))
        return isnan(a) ? a : a > 0.0 ? 1.0 : 0.0;
    return 0.5 * (erfc(-x) + (fma(a, 0.7071067811865476, -x) - a * 4.833646656726457e-17) * 1.1283791670955126 *
        exp(-0.5 * a * a));
})

PGR_SPECIAL(pgr_log_ndtr,
static inline double pgr_log_ndtr(double a)
{
    if (a > 0.0)
        return log1p(-pgr_ndtr(-a));
    if (!(a < -20.0))
        return log(pgr_ndtr(a));
    const double x = 1.0 / a / a;
    const double series = -x * (1.0 - 3.0 * x * (1.0 - 5.0 * x * (1.0 - 7.0 * x * (1.0 - 9.0 * x * (1.0 - 11.0 * x)))));
    return -0.5 * a * a - log(-a) - 0.9189385332046728 + log1p(series);
})
