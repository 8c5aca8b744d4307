"""A differential equation
=======================

A small network solves u'' + u = 0, u(0) = 0, u'(0) = 1. The solution is the sine.

You will see the network's distance from sin(t) on [0, 2 pi] before and after training. Training minimises the
equation's residual, which contains the network's second derivative with respect to t; the gradient with respect to the
parameters differentiates that once more.

Run it with::

    python examples/differential_equation.py

Source: Lagaris, Likas & Fotiadis, Artificial neural networks for solving ordinary and partial differential equations,
1998.
"""

import argparse
import math

import numpy as np
from scipy.optimize import minimize

from pygrad import grad, jit, value_and_grad, vmap

HIDDEN, END = 12, 2 * math.pi


# %%
# The network and its derivatives
# -------------------------------
#
# ``grad`` of ``grad`` with respect to t is u''. The loss is differentiated again, with respect to the parameters.


def net(w, t):
    """One hidden layer of HIDDEN tanh: a number in, a number out. w: 3 * HIDDEN numbers."""
    return sum(w[2 * HIDDEN + i] * (w[i] * t + w[HIDDEN + i]).tanh() for i in range(HIDDEN))


def u(w, t):
    """A trial solution that starts from 0 with slope 1 for any network."""
    return t + t * t * net(w, t)


u_tt = grad(grad(u, argnums=1), argnums=1)


def residual(w, t):
    """(u'' + u)**2 at one time."""
    r = u_tt(w, t) + u(w, t)
    return r * r


def objective(w, ts):
    return vmap(residual, in_axes=(None, 0), reduce="mean")(w, ts)


# %%
# Training
# --------


def solve(iterations=400, seed=0):
    """The network's parameters before and after, and SciPy's report."""
    start = np.random.default_rng(seed).normal(0.0, 0.5, 3 * HIDDEN)
    ts = np.linspace(0, END, 64)
    step = value_and_grad(objective)
    found = minimize(
        lambda w: step(w, ts), start, jac=True, method="BFGS", options={"maxiter": iterations, "gtol": 1e-9}
    )
    return start, found


def error(w):
    """The largest distance from the sine."""
    ts = np.linspace(0, END, 301)
    return np.abs(jit(vmap(u, in_axes=(None, 0)))(w, ts) - np.sin(ts)).max()


# %%
# The picture
# -----------


def draw(start, found, path):
    """The network before and after training, and the sine."""
    from matplotlib import pyplot

    ts = np.linspace(0, END, 200)
    solution = jit(vmap(u, in_axes=(None, 0)))
    figure, ax = pyplot.subplots(figsize=(5, 3.5))
    ax.plot(ts, solution(start, ts), ":", label="before")
    ax.plot(ts, solution(found.x, ts), label="after", linewidth=3, alpha=0.6)
    ax.plot(ts, np.sin(ts), "k--", label="sine", linewidth=1)
    ax.set(xlabel="t", ylabel="u(t)", ylim=(-3, 3))
    ax.legend()
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--picture")
    args = parser.parse_args()
    start, found = solve(args.iterations)
    print(
        f"before: residual {value_and_grad(objective)(start, np.linspace(0, END, 64))[0]:.3g}, error {error(start):.3g}"
    )
    print(f"after {found.nit} iterations: residual {found.fun:.3g}, error {error(found.x):.3g}")
    if args.picture:
        draw(start, found, args.picture)


if __name__ == "__main__":
    main()
