"""Greeks
======

The sensitivities of an option's price to the market are derivatives of the pricing code itself.

You will see the five first-order Greeks of a European call by Black-Scholes, and its gamma, next to their closed
forms; the same for a million scenarios in a fraction of a second; and pathwise delta and vega of a Monte-Carlo price,
for the call and for an Asian option, which has no closed form.

Run it with::

    python examples/greeks.py

Sources: Black & Scholes 1973; Hull, Options, Futures, and Other Derivatives, ch. 19; Glasserman, Monte Carlo Methods
in Financial Engineering, ch. 7.2 (pathwise derivatives).
"""

import argparse
import math
from time import perf_counter

import numpy as np

from pygrad import grad, value_and_grad, vmap
from pygrad.math import erf, exp, log, maximum, sqrt

NAMES = ["delta", "dual delta", "rho", "vega", "-theta"]
SPOT, STRIKE, RATE, VOLATILITY, YEARS = 100.0, 105.0, 0.03, 0.25, 0.75


# %%
# The pricing formula
# -------------------


def normal_cdf(x):
    return 0.5 * (1 + erf(x * math.sqrt(0.5)))


def call(spot, strike, rate, volatility, years):
    """The price of a European call. Spot and strike in money, rate and volatility per year, time in years."""
    spread = volatility * sqrt(years)
    d1 = (log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    return spot * normal_cdf(d1) - strike * exp(-rate * years) * normal_cdf(d1 - spread)


def closed_forms(s, k, r, v, t):
    """Price, the five Greeks in NAMES' order, and gamma; arrays or numbers."""
    from scipy.stats import norm

    d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / (v * np.sqrt(t))
    d2 = d1 - v * np.sqrt(t)
    discount = np.exp(-r * t)
    price = s * norm.cdf(d1) - k * discount * norm.cdf(d2)
    theta = s * norm.pdf(d1) * v / (2 * np.sqrt(t)) + r * k * discount * norm.cdf(d2)
    greeks = [
        norm.cdf(d1),
        -discount * norm.cdf(d2),
        k * t * discount * norm.cdf(d2),
        s * norm.pdf(d1) * np.sqrt(t),
        theta,
    ]
    return price, greeks, norm.pdf(d1) / (s * v * np.sqrt(t))


greeks = value_and_grad(call, argnums=(0, 1, 2, 3, 4))
gamma = grad(grad(call))


# %%
# A million scenarios, and Monte Carlo
# ------------------------------------
#
# ``vmap`` runs the recorded price on all of them.


def scenarios(count, seed=0):
    """Markets around today's: arrays of spots, strikes, rates, volatilities, times."""
    rng = np.random.default_rng(seed)
    lows, highs = [80, 90, 0.0, 0.1, 0.1], [120, 110, 0.06, 0.5, 2.0]
    return [rng.uniform(low, high, count) for low, high in zip(lows, highs)]


def monte_carlo(paths=100_000, steps=16, seed=1, workers=1):
    """Prices by simulation, with delta, rho and vega by path: (call's price, its Greeks), (Asian's, its Greeks)."""
    z = np.random.default_rng(seed).normal(size=(paths, steps))
    dt = YEARS / steps

    def path_payoffs(spot, rate, volatility, z):
        s, total = spot, 0.0
        for shock in z:
            s = s * exp((rate - 0.5 * volatility * volatility) * dt + volatility * (math.sqrt(dt) * shock))
            total = total + s
        discount = exp(-rate * YEARS)
        return discount * maximum(s - STRIKE, 0.0), discount * maximum(total * (1 / steps) - STRIKE, 0.0)

    def price(which):
        def mean(spot, rate, volatility, z):
            payoff = vmap(lambda *x: path_payoffs(*x)[which], in_axes=(None, None, None, 0), reduce="mean")
            return payoff(spot, rate, volatility, z)

        return value_and_grad(mean, argnums=(0, 1, 2), workers=workers)(SPOT, RATE, VOLATILITY, z)

    return price(0), price(1)


# %%
# The picture
# -----------


def draw(path):
    """Price, delta and vega of the call over the spot, for three times."""
    from matplotlib import pyplot

    spots = np.linspace(60, 150, 200)
    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3))
    for years in (0.05, 0.25, 0.75):
        value, (delta, _, _, vega, _) = vmap(greeks, in_axes=(0, None, None, None, None))(
            spots, STRIKE, RATE, VOLATILITY, years
        )
        for ax, numbers, title in zip(axes, (value, delta, vega), ("price", "delta", "vega")):
            ax.plot(spots, numbers, label=f"{years} years")
            ax.set(title=title, xlabel="spot")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture")
    args = parser.parse_args()
    market = SPOT, STRIKE, RATE, VOLATILITY, YEARS
    value, found = greeks(*market)
    price, exact, exact_gamma = closed_forms(*market)
    print(f"{'':12}{'by derivative':>20}{'closed form':>20}")
    rows = [("price", value, price), *zip(NAMES, found, exact), ("gamma", gamma(*market), exact_gamma)]
    for name, ours, theirs in rows:
        print(f"{name:12}{ours:20.14f}{theirs:20.14f}")
    many = scenarios(1_000_000)
    batch = vmap(greeks, workers=2)
    batch(*many)  # records
    start = perf_counter()
    values, found = batch(*many)
    seconds = perf_counter() - start
    price, exact, _ = closed_forms(*many)
    worst = max(np.abs(a - b).max() for a, b in zip([values, *found], [price, *exact]))
    print(f"1,000,000 scenarios, price and five Greeks, in {seconds:.3f} s; farthest from a closed form: {worst:.1e}")
    (plain, plain_greeks), (asian, asian_greeks) = monte_carlo(workers=2)
    print(f"Monte Carlo: call {plain:.3f}, delta {plain_greeks[0]:.4f}, vega {plain_greeks[2]:.3f}")
    print(f"             Asian {asian:.3f}, delta {asian_greeks[0]:.4f}, vega {asian_greeks[2]:.3f}")
    if args.picture:
        draw(args.picture)


if __name__ == "__main__":
    main()
