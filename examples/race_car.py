"""A race car
==========

The fastest drive of a car along a track with a speed limit, by direct collocation and sparse derivatives.

You will see the time of the drive, how well the equations of motion and the limit hold, and how few entries of the
constraints' Jacobian may differ from zero. Position, speed and throttle at all times, and the time, are the unknowns;
pygrad gives SciPy's optimiser the sparse Jacobian of the constraints and the sparse Hessian of the Lagrangian.

Run it with::

    python examples/race_car.py [--steps 100]

Source: Betts, Practical Methods for Optimal Control Using Nonlinear Programming (SIAM 2010), ch. 4; the car is that of
CasADi's race_car.py.
"""

import argparse

import numpy as np
from scipy.optimize import Bounds, NonlinearConstraint, minimize

from pygrad import grad, hessian, jacobian, jit, sparsity
from pygrad.math import sin

# %%
# The problem
# -----------
#
# Position, speed and throttle at all times, and the time.


def split(z):
    """Positions, speeds, throttles at all points, and the time of the drive."""
    n = (len(z) - 1) // 3
    return z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n]


def limit(position):
    return 1 - sin(2 * np.pi * position) / 2


def constraints(z):
    """Trapezoidal defects of x' = v and v' = u - v, which must be 0, and what is left to the limit, at least 0."""
    x, v, u, time = split(z)
    h, count = time / (len(x) - 1), len(x)
    force = [u[k] - v[k] for k in range(count)]
    moved = [x[k + 1] - x[k] - h / 2 * (v[k] + v[k + 1]) for k in range(count - 1)]
    pushed = [v[k + 1] - v[k] - h / 2 * (force[k] + force[k + 1]) for k in range(count - 1)]
    return np.stack([*moved, *pushed, *[limit(x[k]) - v[k] for k in range(count)]])


# %%
# The optimiser
# -------------
#
# The Jacobian and the Hessian are SciPy's sparse matrices.


def drive(steps=100):
    """SciPy's report, and the pattern of the Jacobian."""
    count = steps + 1
    start = np.concatenate([np.linspace(0, 1, count), np.ones(count), np.ones(count), [1.0]])
    low = np.concatenate([np.full(2 * count, -np.inf), np.zeros(count), [0.1]])
    high = np.concatenate([np.full(2 * count, np.inf), np.ones(count), [10.0]])
    for k, value in ((0, 0.0), (count, 0.0), (count - 1, 1.0)):  # from rest at 0, to 1
        low[k] = high[k] = start[k] = value
    upper = np.concatenate([np.zeros(2 * steps), np.full(count, np.inf)])
    weighted = hessian(lambda z, w: w @ constraints(z), sparse=True)
    rules = NonlinearConstraint(
        jit(constraints), np.zeros(2 * steps + count), upper, jac=jacobian(constraints, sparse=True), hess=weighted
    )
    found = minimize(
        lambda z: z[-1],
        start,
        jac=grad(lambda z: z[len(z) - 1]),
        hess=hessian(lambda z: z[len(z) - 1], sparse=True),
        method="trust-constr",
        constraints=rules,
        bounds=Bounds(low, high),
        options={"maxiter": 1000, "gtol": 1e-6, "xtol": 1e-10},
    )
    return found, sparsity(constraints, start)


# %%
# The picture
# -----------


def draw(found, path):
    """Speed, its limit, and throttle along the track."""
    from matplotlib import pyplot

    x, v, u, _ = split(found.x)
    figure, ax = pyplot.subplots(figsize=(6, 3.2))
    ax.plot(x, v, label="speed")
    ax.plot(x, 1 - np.sin(2 * np.pi * x) / 2, "--", label="limit")
    ax.step(x, u, "k", label="throttle", linewidth=0.8)
    ax.set(xlabel="position")
    ax.legend()
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--picture")
    args = parser.parse_args()
    found, pattern = drive(args.steps)
    x, _, _, time = split(found.x)
    made = jit(constraints)(found.x)
    print(f"{time:.4f} s, after {found.nit} iterations ({found.execution_time:.1f} s)")
    print(
        f"largest defect {np.abs(made[: -len(x)]).max():.1e}, least distance to the limit {made[-len(x) :].min():.1e}"
    )
    print(f"{pattern.nnz} of {pattern.shape[0] * pattern.shape[1]} entries of the Jacobian")
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
