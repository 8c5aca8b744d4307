/* moons.c: value and gradient of the moons network's loss, written by hand with vectors: what recorded functions
 * are measured against. Two inputs, two layers of 16 ReLUs, one output; hinge loss, its mean over the points, and 1e-4
 * times the sum of squares of the parameters.
 *
 * w: 16x2, 16, 16x16, 16, 1x16, 1, row by row; x: n points of 2; y: n labels. grad: as w. Returns the loss. */
#include <string.h>

#if defined(__AVX512F__)
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef double vector __attribute__((vector_size(WIDTH * sizeof(double)), aligned(8)));
typedef long long bits __attribute__((vector_size(WIDTH * sizeof(double))));

enum { L = 16, W1 = 0, B1 = 32, W2 = 48, B2 = 304, W3 = 320, B3 = 336, COUNT = 337 };

static vector positive(vector x) { return (vector)((bits)x & (bits)(x > 0.0)); }
static vector where_positive(vector x, vector then) { return (vector)((bits)then & (bits)(x > 0.0)); }

double moons(const double *restrict w, const double *restrict x, const double *restrict y, long n, double *restrict grad)
{
    vector sums[COUNT], total = {0.0};
    memset(sums, 0, sizeof sums);
    for (long first = 0; first < n; first += WIDTH) {
        vector x0 = {0.0}, x1 = {0.0}, label = {0.0}, counts = {0.0}, h1[L], h2[L], d1[L], d2[L];
        for (int k = 0; k < WIDTH && first + k < n; k++) {
            x0[k] = x[2 * (first + k)];
            x1[k] = x[2 * (first + k) + 1];
            label[k] = y[first + k];
            counts[k] = 1.0;
        }
        for (int i = 0; i < L; i++)
            h1[i] = positive(w[W1 + 2 * i] * x0 + w[W1 + 2 * i + 1] * x1 + w[B1 + i]);
        vector out = w[B3] + (vector){0.0};
        for (int i = 0; i < L; i++) {
            vector a = w[B2 + i] + (vector){0.0}, b = {0.0};
            for (int j = 0; j < L; j += 2) {
                a += w[W2 + L * i + j] * h1[j];
                b += w[W2 + L * i + j + 1] * h1[j + 1];
            }
            h2[i] = positive(a + b);
            out += w[W3 + i] * h2[i];
        }
        const vector margin = counts - label * out;
        total += positive(margin);
        const vector d3 = where_positive(margin, -label) / (double)n;
        sums[B3] += d3;
        for (int i = 0; i < L; i++) {
            sums[W3 + i] += d3 * h2[i];
            d2[i] = where_positive(h2[i], w[W3 + i] * d3);
            sums[B2 + i] += d2[i];
            for (int j = 0; j < L; j++)
                sums[W2 + L * i + j] += d2[i] * h1[j];
        }
        for (int j = 0; j < L; j++) {
            vector a = {0.0}, b = {0.0};
            for (int i = 0; i < L; i += 2) {
                a += w[W2 + L * i + j] * d2[i];
                b += w[W2 + L * (i + 1) + j] * d2[i + 1];
            }
            d1[j] = where_positive(h1[j], a + b);
            sums[B1 + j] += d1[j];
            sums[W1 + 2 * j] += d1[j] * x0;
            sums[W1 + 2 * j + 1] += d1[j] * x1;
        }
    }
    double loss = 0.0, squares = 0.0;
    for (int k = 0; k < WIDTH; k++)
        loss += total[k];
    for (int i = 0; i < COUNT; i++) {
        double sum = 0.0;
        for (int k = 0; k < WIDTH; k++)
            sum += sums[i][k];
        grad[i] = sum + 2e-4 * w[i];
        squares += w[i] * w[i];
    }
    return loss / (double)n + 1e-4 * squares;
}
