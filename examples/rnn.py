"""A recurrent network
===================

A network learns to imitate an unknown filter, from a record of 100,000 steps.

You will see the mean squared error on the record before and after training, and on another record. The gradient goes
back through all 100,000 steps at once.

Run it with::

    python examples/rnn.py [--steps 100000] [--iterations 40]

Source: Werbos, Backpropagation through time: what it does and how to do it, Proceedings of the IEEE 78, 1990.
"""

import argparse
from time import perf_counter

import numpy as np
from scipy.optimize import minimize

from pygrad import jit, scan, value_and_grad

UNITS = 6


# %%
# The filter and the network
# --------------------------


def unknown(xs):
    """A second-order filter with a bent output, in plain Python."""
    a = b = 0.0
    out = []
    for x in xs:
        a, b = 0.9 * a - 0.3 * b + 0.5 * x, 0.3 * a + 0.9 * b
        out.append(np.tanh(a + 0.5 * b))
    return np.array(out)


def split(p):
    n = UNITS
    return p[: n * n].reshape(n, n), p[n * n : n * n + n], p[n * n + n : n * n + 2 * n], p[n * n + 2 * n :]


def error(p, xs, ys):
    """The mean squared error over a record."""
    w, u, b, v = split(p)

    def step(carry, now):
        h, total = carry
        x, y = now
        h = np.tanh(w @ h + u * x + b)
        return (h, total + (v @ h - y) ** 2), None

    return scan(step, (np.zeros(UNITS), 0.0), (xs, ys))[0][1] / len(xs)


def record(steps, seed):
    xs = np.random.default_rng(seed).normal(size=steps)
    return xs, unknown(xs)


# %%
# Training
# --------
#
# The gradient goes back through all steps.


def train(steps=100_000, iterations=40):
    """The parameters before and after, the seconds of a gradient."""
    rng = np.random.default_rng(1)
    start = rng.normal(0.0, 0.3, UNITS * UNITS + 3 * UNITS)
    xs, ys = record(steps, 2)
    objective = value_and_grad(error)
    objective(start, xs, ys)
    begin = perf_counter()
    objective(start, xs, ys)
    seconds = perf_counter() - begin
    found = minimize(objective, start, args=(xs, ys), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    return start, found.x, seconds


# %%
# The picture
# -----------


def draw(p, path):
    """The filter's output and the network's, for 100 steps of a new record."""
    from matplotlib import pyplot

    xs, ys = record(100, 4)
    w, u, b, v = split(p)
    h, out = np.zeros(UNITS), []
    for x in xs:
        h = np.tanh(w @ h + u * x + b)
        out.append(v @ h)
    figure, ax = pyplot.subplots(figsize=(6, 3.2))
    ax.plot(ys, label="filter")
    ax.plot(out, "--", label="network")
    ax.set(xlabel="step", ylabel="output")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--picture")
    args = parser.parse_args()
    start, found, seconds = train(args.steps, args.iterations)
    of = jit(error)
    print(f"a gradient through {args.steps} steps takes {seconds:.3f} s")
    print(f"error before {of(start, *record(args.steps, 2)):.5f}, after {of(found, *record(args.steps, 2)):.5f}")
    print(f"on another record {of(found, *record(args.steps, 3)):.5f}")
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
