"""Loops, on JAX and on pygrad, turn by turn: python benchmarks/loops.py [NAME ...]

Each function is written once, for both, with scan or while_loop; results are compared before anything is timed. JAX
computes in float64, with and without checkpoints. Needs JAX (pip install jax). Printed: the seconds of the first call,
which builds or compiles, and the least time of several calls, per step or per element; pygrad's time over JAX's.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter

STEPS, CHUNK, UNITS, TIMES, QUOTES = 1_000_000, 1000, 16, 1000, 1000


def rk4(x, v, mu, h):
    """A step of the Van der Pol oscillator."""

    def slope(x, v):
        return v, mu * (1.0 - x * x) * v - x

    a, b = slope(x, v)
    c, d = slope(x + 0.5 * h * a, v + 0.5 * h * b)
    e, f = slope(x + 0.5 * h * c, v + 0.5 * h * d)
    g, i = slope(x + h * e, v + h * f)
    return x + h / 6.0 * (a + 2.0 * c + 2.0 * e + g), v + h / 6.0 * (b + 2.0 * d + 2.0 * f + i)


def van_der_pol(m, chunk):
    def loss(start):
        def step(state, _):
            return rk4(state[0], state[1], 1.5, 20.0 / STEPS), None

        if chunk is None:
            return m.scan(step, (start[0], start[1]), None, length=STEPS)[0][0]
        many = m.checkpoint(lambda state, _: m.scan(step, state, None, length=chunk))
        return m.scan(many, (start[0], start[1]), None, length=STEPS // chunk)[0][0]

    return m.jit(m.grad(loss))


def rnn(m):
    def loss(w, u, b, xs):
        def step(h, x):
            return m.np.tanh(w @ h + u * x + b), None

        h, _ = m.scan(step, m.np.zeros(UNITS), xs)
        return (h * h).sum()

    return m.jit(m.value_and_grad(loss, argnums=(0, 1, 2)))


def implied(m):
    """The volatility of each quote, by Newton steps until they end."""

    def price(sigma, s, k, t):
        root = sigma * m.np.sqrt(t)
        d = (m.np.log(s / k)) / root + 0.5 * root
        return s * m.norm.cdf(d) - k * m.norm.cdf(d - root)

    def one(quote, s, k, t):
        def step(state):
            sigma, _ = state
            value, slope = m.value_and_grad(price)(sigma, s, k, t)
            change = (value - quote) / slope
            return sigma - change, change

        return m.while_loop(lambda state: abs(state[1]) > 1e-10, step, (0.3, 1.0))[0]

    return m.jit(m.vmap(one))


class Jax:
    name = "JAX"

    def __init__(self):
        import jax
        from jax import numpy as jnp

        jax.config.update("jax_enable_x64", True)
        for name in ("jit", "grad", "value_and_grad", "vmap", "checkpoint"):
            setattr(self, name, getattr(jax, name))
        self.scan, self.while_loop = jax.lax.scan, jax.lax.while_loop
        self.np, self.norm = jnp, jax.scipy.stats.norm
        self.ready = jax.block_until_ready


class Pygrad:
    name = "pygrad"

    def __init__(self):
        import numpy as np

        import pygrad
        from pygrad.scipy import stats

        for name in ("jit", "grad", "value_and_grad", "vmap", "checkpoint", "scan", "while_loop"):
            setattr(self, name, getattr(pygrad, name))
        self.np, self.norm = np, stats.norm

    @staticmethod
    def ready(x):
        return x


def cases():
    """name: (function of a library, its arguments, results or steps, rounds); JAX's own choice and ours may differ."""
    import numpy as np

    rng = np.random.default_rng(7)
    weights = (rng.normal(size=(UNITS, UNITS)) / 4, rng.normal(size=UNITS), np.zeros(UNITS), rng.normal(size=TIMES))
    s, k = np.full(QUOTES, 100.0), rng.uniform(80.0, 120.0, QUOTES)
    t, sigma = rng.uniform(0.2, 2.0, QUOTES), rng.uniform(0.1, 0.6, QUOTES)
    import pygrad

    price = pygrad.vmap(_price)(sigma, s, k, t)
    start = (np.array([2.0, 0.0]),)
    return {
        "Van der Pol, all states in JAX": (lambda m: van_der_pol(m, None), start, STEPS, 5),
        "Van der Pol, checkpoints in JAX": (
            lambda m: van_der_pol(m, CHUNK if m.name == "JAX" else None),
            start,
            STEPS,
            5,
        ),
        "RNN of 16 units": (rnn, weights, TIMES, 200),
        "implied volatility": (implied, (price, s, k, t), QUOTES, 200),
    }


def _price(sigma, s, k, t):
    from pygrad.scipy.stats import norm

    root = sigma * t**0.5
    d = (s / k).log() / root + 0.5 * root
    return s * norm.cdf(d) - k * norm.cdf(d - root)


def main(names):
    import numpy as np

    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    libraries = [Jax(), Pygrad()]
    print(f"{'case':34}{'first call: JAX':>16}{'pygrad':>9}{'each: JAX':>12}{'pygrad':>11}{'ratio':>7}")
    for case, (make, args, count, rounds) in cases().items():
        if names and not any(name in case for name in names):
            continue
        runs, firsts, results = [], [], []
        for m in libraries:
            start = perf_counter()
            run = make(m)
            results.append(m.ready(run(*args)))
            firsts.append(perf_counter() - start)
            runs.append((m, run))
        flat = [np.concatenate([np.ravel(x) for x in _leaves(result)]) for result in results]
        assert np.allclose(*flat, rtol=1e-9, atol=1e-9), case
        least = [float("inf")] * 2
        for _ in range(rounds):
            for i, (m, run) in enumerate(runs):
                start = perf_counter()
                m.ready(run(*args))
                least[i] = min(least[i], perf_counter() - start)
        a, b = (1e9 * seconds / count for seconds in least)
        print(f"{case:34}{firsts[0]:>14.2f} s{firsts[1]:>7.3f} s{a:>9.0f} ns{b:>8.0f} ns{b / a:>7.2f}")


def _leaves(x):
    return [leaf for part in x for leaf in _leaves(part)] if isinstance(x, (tuple, list)) else [x]


if __name__ == "__main__":
    main(sys.argv[1:])
