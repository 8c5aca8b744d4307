"""Parameters of an oscillator
===========================

Estimate two parameters of an oscillator from a noisy record, with gradients through a million Runge-Kutta steps.

You will see the parameters approach those that made the record, the time of a gradient, and the memory that it takes:
a scan keeps few states, and recomputes the others.

Run it with::

    python examples/ode_estimation.py [--steps 1000000]

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 12, for checkpoints.
"""

import argparse
from time import perf_counter

import numpy as np
from scipy.optimize import minimize

from pygrad import jit, scan, value_and_grad

END, START = 20.0, (2.0, 0.0)


# %%
# The oscillator
# --------------
#
# A step of Runge and Kutta's method; ``scan`` records it once.


def step(state, mu, omega, h):
    """A step of Runge and Kutta's method for x'' = mu (1 - x^2) x' - omega x."""

    def slope(x, v):
        return v, mu * (1 - x * x) * v - omega * x

    x, v = state
    k1, l1 = slope(x, v)
    k2, l2 = slope(x + h / 2 * k1, v + h / 2 * l1)
    k3, l3 = slope(x + h / 2 * k2, v + h / 2 * l2)
    k4, l4 = slope(x + h * k3, v + h * l3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), v + h / 6 * (l1 + 2 * l2 + 2 * l3 + l4)


def path(mu, omega, steps, each):
    """The positions after every `each` steps."""

    def between(state, _):
        state = scan(lambda s, _: (step(s, mu, omega, END / steps), None), state, length=each)[0]
        return state, state[0]

    return scan(between, START, length=steps // each)[1]


def misfit(parameters, record, steps):
    """The mean squared difference from the record, added up in the loop."""
    mu, omega = parameters
    each = steps // len(record)

    def between(carry, measured):
        state, total = carry
        state = scan(lambda s, _: (step(s, mu, omega, END / steps), None), state, length=each)[0]
        return (state, total + (state[0] - measured) ** 2), None

    return scan(between, (START, 0.0), record)[0][1] / len(record)


# %%
# The fit
# -------
#
# SciPy's BFGS takes the mean squared difference and its gradient, which goes through all steps.


def measured(truth, steps, points=100, seed=0):
    """Positions at `points` times up to END, with noise."""
    exact = jit(lambda p: path(p[0], p[1], steps, steps // points))(truth)
    return exact + np.random.default_rng(seed).normal(0.0, 0.05, points)


def estimate(steps=1_000_000, points=100, seed=0):
    """The true parameters, the first guess, and SciPy's report."""
    truth, guess = np.array([1.5, 1.2]), np.array([1.0, 1.0])
    record = measured(truth, steps, points, seed)
    objective = value_and_grad(lambda p, record: misfit(p, record, steps))
    start = perf_counter()
    objective(guess, record)
    first = perf_counter() - start
    found = minimize(objective, guess, args=(record,), jac=True, method="BFGS", options={"gtol": 1e-6})
    start = perf_counter()
    objective(guess, record)
    return truth, guess, found, first, perf_counter() - start


# %%
# The picture
# -----------


def draw(truth, guess, found, path_of_picture):
    """The measurements, and the motion with the guessed and with the found parameters, of 10,000 steps."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 3.2))
    times = np.linspace(0, END, 201)[1:]
    for (mu, omega), label in ((guess, "guessed"), (found.x, "found")):
        ax.plot(times, jit(lambda m, o: path(m, o, 10_000, 50))(mu, omega), label=label)
    ax.plot(times[1::2], measured(truth, 10_000), "k.", markersize=3, label="measured")
    ax.set(xlabel="time", ylabel="position")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    figure.tight_layout()
    figure.savefig(path_of_picture)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--picture")
    args = parser.parse_args()
    steps = args.steps
    truth, guess, found, first, each = estimate(steps)
    print(f"{steps} steps; the first gradient took {first:.2f} s, the others {each:.2f} s")
    print(f"mu, omega: guessed {guess.round(4)}, found {found.x.round(4)}, true {truth}")
    print(f"misfit {found.fun:.6f} after {found.nfev} gradients; the noise's variance is 0.0025")
    if args.picture:
        draw(truth, guess, found, args.picture)


if __name__ == "__main__":
    main()
