// CppAD's tape over the random graph, where its headers are installed (libcppad-dev, or R's TMB brings them).
#include "bench.h"

#if defined(HAVE_CPPAD)
#include <iostream>
#include <vector>

#if defined(CPPAD_OF_TMB) // TMB's copy wants what R would give it
#define Rcout std::cout
#define CSKIP(...) __VA_ARGS__
template <class Type> struct isDouble {
    enum { value = false };
};
template <> struct isDouble<double> {
    enum { value = true };
};
#endif
#include <cppad/cppad.hpp>

static random_times run(const random_graph *graph, double *grads)
{
    typedef CppAD::AD<double> active;
    static std::vector<active> v;
    if (v.size() < graph->inputs + graph->count)
        v.resize(graph->inputs + graph->count);
    std::vector<double> one(1, 1.0);
    const double start = seconds();
    std::vector<active> x(graph->values, graph->values + graph->inputs);
    CppAD::Independent(x);
    for (size_t i = 0; i < graph->inputs; i++)
        v[i] = x[i];
    active *result = v.data() + graph->inputs;
    for (size_t i = 0; i < graph->count; i++) {
        const random_operation o = graph->operations[i];
        switch (o.op) {
        case RANDOM_ADD: result[i] = v[o.lhs] + v[o.rhs]; break;
        case RANDOM_SUB: result[i] = v[o.lhs] - v[o.rhs]; break;
        default: result[i] = v[o.lhs] * v[o.rhs]; break;
        }
    }
    std::vector<active> y(1, result[graph->count - 1]);
    CppAD::ADFun<double> f(x, y); // with the forward sweep that Reverse needs
    const double recorded = seconds();
    const std::vector<double> w = f.Reverse(1, one);
    const double swept = seconds();
    for (size_t i = 0; i < graph->inputs; i++)
        grads[i] = w[i];
    return random_times{recorded - start, swept - recorded};
}

extern "C" const rival cppad = {"CppAD", run};
#else
extern "C" const rival cppad = {"CppAD", nullptr};
#endif
