/* lanes.c: what recorded functions do to many points at once, written by hand for a compiler that vectorises: the same
 * formulas, with the same vectorised functions of libmvec (-O3 -march=native -ffast-math -fopenmp-simd). */
#include <math.h>

/* The sum of recorded.py's fifty operations over n points (x, y). */
double fifty(const double *restrict xy, long n)
{
    double total = 0.0;
#pragma omp simd reduction(+ : total)
    for (long i = 0; i < n; i++) {
        double x = xy[2 * i], y = xy[2 * i + 1];
        for (int k = 0; k < 3; k++) {
            const double next = sin(x * 0.5 + y * 0.25) + x * y * 0.125 - 0.5;
            y = exp(y * 0.25 - x * x * 0.0625) * 0.5 + y * y * 0.1 - k;
            x = next;
        }
        total += x * x + y * y - x * y * 0.5;
    }
    return total;
}

static inline double normal_cdf(double x) { return 0.5 * (1.0 + erf(x * 0.7071067811865476)); }

/* By option, the price of a European call and its derivatives by spot, strike, rate, volatility and years. */
void greeks(const double *restrict spot, const double *restrict strike, const double *restrict rate,
            const double *restrict volatility, const double *restrict years, long n, double *restrict price,
            double *restrict by_spot, double *restrict by_strike, double *restrict by_rate,
            double *restrict by_volatility, double *restrict by_years)
{
#pragma omp simd
    for (long i = 0; i < n; i++) {
        const double s = spot[i], k = strike[i], r = rate[i], v = volatility[i], t = years[i];
        const double root = sqrt(t), spread = v * root;
        const double d1 = (log(s / k) + (r + 0.5 * v * v) * t) / spread;
        const double n1 = normal_cdf(d1), n2 = normal_cdf(d1 - spread), discounted = k * exp(-r * t);
        const double density = s * exp(-0.5 * d1 * d1) * 0.3989422804014327;
        price[i] = s * n1 - discounted * n2;
        by_spot[i] = n1;
        by_strike[i] = -discounted * n2 / k;
        by_rate[i] = discounted * t * n2;
        by_volatility[i] = density * root;
        by_years[i] = density * v / (2.0 * root) + r * discounted * n2;
    }
}
