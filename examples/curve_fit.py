"""Curve fitting
=============

Real data, by SciPy's least_squares: NIST's MGH09, Kowalik and Osborne's enzyme kinetics.

You will see the four parameters next to NIST's certified values, to eleven digits, and their standard deviations.
NIST rates the problem as of higher difficulty: SciPy stops at nine digits, and two Newton steps find the rest.

Run it with::

    python examples/curve_fit.py

Source: NIST Statistical Reference Datasets, MGH09 (Kowalik & Osborne, Methods for Unconstrained Optimization, 1978):
11 observations of y = b1 (x**2 + x b2) / (x**2 + x b3 + b4).
"""

import argparse

import numpy as np
from scipy.optimize import least_squares

from pygrad import grad, hessian, jacobian, jit

Y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
X = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
START = [0.25, 0.39, 0.415, 0.39]  # NIST's second start
CERTIFIED = [1.9280693458e-01, 1.9128232873e-01, 1.2305650693e-01, 1.3606233068e-01]
DEVIATIONS = [1.1435312227e-02, 1.9633220911e-01, 8.0842031232e-02, 9.0025542308e-02]


# %%
# The model
# ---------
#
# Residuals are an array of scalar expressions.


def residuals(b):
    return np.array([b[0] * (x * x + x * b[1]) / (x * x + x * b[2] + b[3]) - y for x, y in zip(X, Y)])


def cost(b):
    return sum(r * r for r in residuals(b)) * 0.5


# %%
# The fit
# -------
#
# ``jacobian`` for SciPy; then two Newton steps with the Hessian.


def fit():
    """SciPy's solution, and the same refined by two Newton steps, with exact second derivatives."""
    exact = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    found = least_squares(jit(residuals), START, jac=jacobian(residuals), method="lm", **exact)
    for _ in range(2):
        found.x = found.x - np.linalg.solve(hessian(cost)(found.x), grad(cost)(found.x))
    found.jac, found.cost = jacobian(residuals)(found.x), jit(cost)(found.x)
    return found


def deviations(found):
    """The parameters' standard deviations, from the Jacobian at the solution."""
    variance = 2 * found.cost / (len(X) - len(found.x))
    return np.sqrt(variance * np.diag(np.linalg.inv(found.jac.T @ found.jac)))


# %%
# The picture
# -----------


def draw(found, path):
    """The measurements, and the curve through them."""
    from matplotlib import pyplot

    x = np.linspace(0.05, 4.2, 300)
    b1, b2, b3, b4 = found.x
    figure, ax = pyplot.subplots(figsize=(5, 3.5))
    ax.plot(x, b1 * (x * x + x * b2) / (x * x + x * b3 + b4), label="fitted")
    ax.plot(X, Y, "o", label="measured")
    ax.set(xlabel="concentration", ylabel="rate")
    ax.legend()
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture")
    args = parser.parse_args()
    found = fit()
    print(f"{'':4}{'fitted':>18}{'certified':>18}{'deviation':>18}{'certified':>18}")
    for i, row in enumerate(zip(found.x, CERTIFIED, deviations(found), DEVIATIONS)):
        print(f"b{i + 1:<3}" + "".join(f"{x:18.10e}" for x in row))
    print(f"residual sum of squares {2 * found.cost:.10e}, certified 3.0750560385e-04; {found.nfev} calls")
    if args.picture:
        draw(found, args.picture)


if __name__ == "__main__":
    main()
