// ADOL-C's tape over the random graph, where Debian's libadolc-dev is installed.
#include "bench.h"

#if defined(HAVE_ADOLC)
#include <adolc/adouble.h>
#include <adolc/drivers/drivers.h>
#include <adolc/interfaces.h>
#include <adolc/taping.h>
#include <vector>

static random_times run(const random_graph *graph, double *grads)
{
    // One set of active variables for every run, as a program that tapes at each step keeps them.
    static std::vector<adouble> v;
    if (v.size() < graph->inputs + graph->count)
        v.resize(graph->inputs + graph->count);
    const double start = seconds();
    trace_on(1, 1);
    for (size_t i = 0; i < graph->inputs; i++)
        v[i] <<= graph->values[i];
    adouble *result = v.data() + graph->inputs;
    for (size_t i = 0; i < graph->count; i++) {
        const random_operation o = graph->operations[i];
        switch (o.op) {
        case RANDOM_ADD: result[i] = v[o.lhs] + v[o.rhs]; break;
        case RANDOM_SUB: result[i] = v[o.lhs] - v[o.rhs]; break;
        default: result[i] = v[o.lhs] * v[o.rhs]; break;
        }
    }
    double value;
    result[graph->count - 1] >>= value;
    trace_off();
    const double recorded = seconds();
    double one = 1.0;
    reverse(1, 1, (int)graph->inputs, 0, &one, grads);
    return random_times{recorded - start, seconds() - recorded};
}

extern "C" const rival adolc = {"ADOL-C", run};
#else
extern "C" const rival adolc = {"ADOL-C", nullptr};
#endif
