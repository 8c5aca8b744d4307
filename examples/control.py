"""Optimal control
===============

Swing a pendulum up with the least effort, by SciPy's SLSQP and exact derivatives.

You will see a plot of torque and angle over time. The pendulum hangs at 0 and has four seconds to stand at pi. Its
motor has at most 6 N m, less than its weight, so it must gather momentum first. The trajectory is scalar code; the
objective's gradient and the constraints' Jacobian are exact, so the optimiser needs some dozens of iterations instead
of thousands of calls for finite differences.

Run it with::

    python examples/control.py [--picture control.png]

Source: Betts, Practical Methods for Optimal Control, ch. 4 (direct transcription); the trapezoidal rule between
steps.
"""

import argparse
import math

import numpy as np
from scipy.optimize import minimize

from pygrad import jacobian, jit, value_and_grad

STEPS, SECONDS, MOST = 40, 4.0, 6.0
GRAVITY, LENGTH, MASS, FRICTION = 9.81, 1.0, 1.0, 0.1


# %%
# The motion
# ----------
#
# Angles, velocities and torques at all times are the unknowns. The equations of motion are constraints.


def split(x):
    """Angles (rad), angular velocities (rad/s) and torques (N m) at STEPS + 1 times."""
    n = STEPS + 1
    return x[:n], x[n : 2 * n], x[2 * n :]


def effort(x):
    """The integral of the torque's square, by the trapezoidal rule."""
    u = split(x)[2]
    return sum(a * a + b * b for a, b in zip(u, u[1:])) * (0.5 * SECONDS / STEPS)


def acceleration(angle, velocity, torque):
    return (torque - FRICTION * velocity - MASS * GRAVITY * LENGTH * angle.sin()) / (MASS * LENGTH**2)


def defects(x):
    """Zeros if the motion obeys the pendulum's equation, begins hanging and ends standing."""
    angle, velocity, torque = split(x)
    a = [acceleration(*state) for state in zip(angle, velocity, torque)]
    half = 0.5 * SECONDS / STEPS
    found = [angle[0], velocity[0], angle[STEPS] - math.pi, velocity[STEPS]]
    for i in range(STEPS):
        found.append(angle[i + 1] - angle[i] - half * (velocity[i] + velocity[i + 1]))
        found.append(velocity[i + 1] - velocity[i] - half * (a[i] + a[i + 1]))
    return np.array(found)


# %%
# The optimiser
# -------------
#
# ``value_and_grad`` computes the gradient of the effort, and ``jacobian`` the Jacobian of the constraints.


def solve():
    n = STEPS + 1
    start = np.concatenate([np.linspace(0, math.pi, n), np.full(n, math.pi / SECONDS), np.zeros(n)])
    bounds = [(None, None)] * (2 * n) + [(-MOST, MOST)] * n
    constraints = {"type": "eq", "fun": jit(defects), "jac": jacobian(defects)}
    options = {"maxiter": 300, "ftol": 1e-9}
    return minimize(
        value_and_grad(effort), start, jac=True, method="SLSQP", bounds=bounds, constraints=constraints, options=options
    )


def draw(x, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    angle, _, torque = split(x)
    t = np.linspace(0, SECONDS, STEPS + 1)
    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(6, 5))
    above.plot(t, angle, marker=".")
    above.axhline(math.pi, color="gray", linewidth=0.8, linestyle="--")
    above.set_ylabel("angle (rad)")
    below.plot(t, torque, marker=".", color="tab:red")
    below.set_ylabel("torque (N m)")
    below.set_xlabel("time (s)")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", default="control.png")
    args = parser.parse_args()
    found = solve()
    angle, velocity, torque = split(found.x)
    print(f"{found.message}: {found.nit} iterations, {found.nfev} calls")
    defect = np.abs(jit(defects)(found.x)).max()
    print(f"effort {found.fun:.4f}, largest torque {np.abs(torque).max():.3f} N m, largest defect {defect:.1e}")
    print(f"at the end: angle {angle[-1]:.6f} rad, velocity {velocity[-1]:.6f} rad/s; lowest angle {angle.min():.3f}")
    draw(found.x, args.picture)
    print(f"picture: {args.picture}")


if __name__ == "__main__":
    main()
