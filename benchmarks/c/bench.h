/* bench.h: what the micro-benchmarks and the rivals share: a clock, the random graph, a rival's face. */
#ifndef PGR_BENCH_H
#define PGR_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A graph of `inputs` leaves and then `count` operations; operands are indices into both together. */
enum { RANDOM_ADD, RANDOM_SUB, RANDOM_MUL };
typedef struct {
    uint32_t lhs, rhs;
    int op;
} random_operation;
typedef struct {
    size_t inputs, count;
    const double *values;
    const random_operation *operations;
} random_graph;

typedef struct {
    double record, backward; /* seconds */
} random_times;

/* Records the graph and sweeps it back from its last node; writes d(last)/d(input) to `grads`. */
typedef struct {
    const char *name;
    random_times (*run)(const random_graph *graph, double *grads);
} rival;

extern const rival adolc, cppad; /* run is NULL where the library is not there */

#ifdef __cplusplus
}
#endif
#endif
