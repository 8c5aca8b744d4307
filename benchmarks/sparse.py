"""Sparse derivatives, on CasADi and on pygrad, turn by turn: python benchmarks/sparse.py [NAME ...]

Hessians and Jacobians whose entries are mostly zero. Each function is written once, for both; matrices are compared
entry by entry before anything is timed. Needs CasADi and SciPy (pip install casadi scipy). Printed: the seconds that
building takes, pattern included; the least time in us of many evaluations of the entries, for CasADi through its
buffers, without Python objects; pygrad's over CasADi's. `matrix` is a call that returns SciPy's matrix.
"""

from __future__ import annotations

import sys
from time import perf_counter

ROUNDS = 300


def rosenbrock(_m, x):
    return [sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(len(x) - 1))]


def separable(m, x):
    """Terms of three neighbours each."""
    return [sum(m.sin(x[i] * x[i + 1]) + m.exp(0.1 * (x[i] - x[i + 2])) for i in range(len(x) - 2))]


def collocation(m, x):
    """Trapezoidal defects of a driven pendulum: angle, speed and torque at each point."""
    h, out = 0.01, []
    slopes = [x[i + 2] - m.sin(x[i]) for i in range(0, len(x), 3)]
    for k in range(len(slopes) - 1):
        i, j = 3 * k, 3 * k + 3
        out.append(x[j] - x[i] - 0.5 * h * (x[i + 1] + x[j + 1]))
        out.append(x[j + 1] - x[i + 1] - 0.5 * h * (slopes[k] + slopes[k + 1]))
    return out


def chain(m, x):
    return [m.sin(x[i]) * x[i + 1] for i in range(len(x) - 1)]


CASES = {  # name: (function, variables, derivative)
    "Hessian, Rosenbrock-1000": (rosenbrock, 1000, "hessian"),
    "Hessian, separable, 10,000": (separable, 10_000, "hessian"),
    "Jacobian, collocation, 1,998 x 3,000": (collocation, 3000, "jacobian"),
    "Jacobian, chain of 1,000": (chain, 1000, "jacobian"),
}


def with_casadi(function, count, kind):
    """(build time, a function that evaluates the entries, the matrix); a Hessian's lower triangle."""
    import casadi
    import numpy as np
    from scipy.sparse import csc_matrix

    start = perf_counter()
    x = casadi.SX.sym("x", count)
    out = casadi.vertcat(*function(casadi, [x[i] for i in range(count)]))
    matrix = casadi.tril(casadi.hessian(out, x)[0]) if kind == "hessian" else casadi.jacobian(out, x)
    built = casadi.Function("f", [x], [matrix])
    seconds = perf_counter() - start
    buffer, evaluate = built.buffer()
    entries = np.zeros(matrix.nnz())
    point = np.empty(count)
    buffer.set_arg(0, memoryview(point))
    buffer.set_res(0, memoryview(entries))
    pattern = matrix.sparsity()

    def run(at, _alive=(built, buffer)):
        point[:] = at
        evaluate()
        return entries

    def as_matrix(at):
        return csc_matrix((run(at).copy(), pattern.row(), pattern.colind()), shape=matrix.shape).tocsr()

    return seconds, run, as_matrix


def with_pygrad(function, count, kind):
    import numpy as np
    from scipy.sparse import tril

    import pygrad

    def written(x):
        out = function(pygrad.math, list(x))
        return out[0] if kind == "hessian" else out

    at = np.zeros(count)
    start = perf_counter()
    derivative = getattr(pygrad, kind)(written, sparse=True)
    derivative(at)
    seconds = perf_counter() - start
    entries = pygrad.jit(lambda x: derivative(x).data)
    return seconds, entries, derivative, lambda at: tril(derivative(at)) if kind == "hessian" else derivative(at)


def main(names):
    import numpy as np

    unknown = [name for name in names if not any(name in case for case in CASES)]
    if unknown:
        sys.exit(f"no case {', '.join(unknown)}; there are: {'; '.join(CASES)}")
    print(f"{'case':38}{'build: CasADi':>14}{'pygrad':>9}{'entries: CasADi':>17}{'pygrad':>9}{'ratio':>7}{'matrix':>9}")
    for case, (function, count, kind) in CASES.items():
        if names and not any(name in case for name in names):
            continue
        at = np.random.default_rng(7).normal(size=count)
        slow, theirs, their_matrix = with_casadi(function, count, kind)
        quick, ours, matrix, our_matrix = with_pygrad(function, count, kind)
        assert abs(their_matrix(at) - our_matrix(at)).max() <= 1e-11 * abs(their_matrix(at)).max(), case
        least = [float("inf")] * 3
        for _ in range(ROUNDS):
            for k, run in enumerate((theirs, ours, matrix)):
                start = perf_counter()
                run(at)
                least[k] = min(least[k], perf_counter() - start)
        a, b, c = (1e6 * seconds for seconds in least)
        print(f"{case:38}{slow:>12.3f} s{quick:>7.3f} s{a:>14.1f} us{b:>6.1f} us{b / a:>7.2f}{c:>6.1f} us")


if __name__ == "__main__":
    main(sys.argv[1:])
