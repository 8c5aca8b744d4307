"""Implied volatility
==================

The volatility that explains an option's price, and how it moves with the market.

Newton's method finds it for 1,000 quotes at once. custom_root differentiates it by the implicit function theorem: it
differentiates the equation, not the steps of the solver. You will see the derivatives with respect to price, spot,
strike, rate and time, and the second derivative with respect to price, next to their closed forms.

Run it with::

    python examples/implied_volatility.py

Sources: Black & Scholes 1973; Manaster & Koehler, The calculation of implied variances from the Black-Scholes model,
Journal of Finance 37, 1982 (where Newton's method starts); Hull, Options, Futures, and Other Derivatives, ch. 19.
"""

import argparse
import math
from time import perf_counter

import numpy as np

from pygrad import custom_root, grad, hessian, maximum, value_and_grad, vmap
from pygrad.math import erfc, exp, log, sqrt

NAMES = ["price", "spot", "strike", "rate", "years"]
QUOTES, STEPS = 1000, 6


# %%
# Price and solver
# ----------------


def normal_cdf(x):
    return 0.5 * erfc(x * -math.sqrt(0.5))


def call(spot, strike, rate, volatility, years):
    """The price of a European call. Spot and strike in money, rate and volatility per year, time in years."""
    spread = volatility * sqrt(years)
    d1 = (log(spot / strike) + (rate + 0.5 * volatility * volatility) * years) / spread
    return spot * normal_cdf(d1) - strike * exp(-rate * years) * normal_cdf(d1 - spread)


def newton(f, x):
    for _ in range(STEPS):
        x = x - f(x) / grad(f)(x)
    return x


# %%
# The root, as a function of the market
# -------------------------------------
#
# ``custom_root`` finds it by Newton's method, and differentiates the equation.


def implied_volatility(price, spot, strike, rate, years):
    """The volatility at which `call` gives this price."""
    start = sqrt(2.0 * maximum(abs(log(spot / strike) / years + rate), 0.02))
    return custom_root(lambda volatility: call(spot, strike, rate, volatility, years) - price, start, newton)


def closed_forms(s, k, r, v, t):
    """The derivatives of the implied volatility in NAMES' order, and the second one by the price."""
    from scipy.stats import norm

    d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / (v * np.sqrt(t))
    d2 = d1 - v * np.sqrt(t)
    discount = np.exp(-r * t)
    vega = s * norm.pdf(d1) * np.sqrt(t)
    by_spot, by_strike = norm.cdf(d1), -discount * norm.cdf(d2)
    by_rate = k * t * discount * norm.cdf(d2)
    by_years = s * norm.pdf(d1) * v / (2 * np.sqrt(t)) + r * k * discount * norm.cdf(d2)
    volga = vega * d1 * d2 / v
    return [1 / vega, *(-slope / vega for slope in (by_spot, by_strike, by_rate, by_years))], -volga / vega**3


def quotes(count, seed=0):
    """Random (spot, strike, rate, volatility, years); strikes within 1.5 standard deviations."""
    rng = np.random.default_rng(seed)
    spot, rate = rng.uniform(80, 120, count), rng.uniform(0.0, 0.05, count)
    volatility, years = rng.uniform(0.1, 0.6, count), rng.uniform(0.1, 2.0, count)
    strike = spot * np.exp(rate * years + rng.uniform(-1.5, 1.5, count) * volatility * np.sqrt(years))
    return spot, strike, rate, volatility, years


def worst(got, expected):
    """The largest relative error; of numbers below 1, the absolute one."""
    return np.max(np.abs(got - expected) / np.maximum(1.0, np.abs(expected)))


# %%
# The picture
# -----------


def draw(path):
    """The implied volatility by the option's price, and its slope."""
    from matplotlib import pyplot

    prices = np.linspace(3.0, 20.0, 100)
    both = vmap(value_and_grad(implied_volatility), in_axes=(0, None, None, None, None))
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    for strike in (95.0, 105.0, 115.0):
        usable = prices[prices > 100.0 - strike * np.exp(-0.03) + 1.0]
        volatility, slope = both(usable, 100.0, strike, 0.03, 1.0)
        axes[0].plot(usable, volatility, label=f"strike {strike:.0f}")
        axes[1].plot(usable, slope)
    axes[0].set(xlabel="price", ylabel="implied volatility")
    axes[1].set(xlabel="price", ylabel="its slope by the price")
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
    spot, strike, rate, volatility, years = quotes(QUOTES)
    prices = vmap(call)(spot, strike, rate, volatility, years)
    market = (prices, spot, strike, rate, years)

    slopes_of = vmap(value_and_grad(implied_volatility, argnums=(0, 1, 2, 3, 4)))
    found, slopes = slopes_of(*market)
    begin = perf_counter()
    slopes_of(*market)
    took = perf_counter() - begin
    expected, curvature = closed_forms(spot, strike, rate, volatility, years)
    print(f"{QUOTES} implied volatilities and {len(NAMES)} derivatives of each: {1e3 * took:.2f} ms")
    print(f"largest error of a volatility: {worst(found, volatility):.0e}")
    print(f"{'by':>8} {'pygrad':>13} {'closed form':>13}   of the first quote; largest error of all")
    for name, slope, closed in zip(NAMES, slopes, expected):
        print(f"{name:>8} {slope[0]:13.9f} {closed[0]:13.9f}   {worst(slope, closed):.0e}")

    second = vmap(hessian(implied_volatility))(*market)
    print(f"{'price^2':>8} {second[0]:13.9f} {curvature[0]:13.9f}   {worst(second, curvature):.0e}")
    if args.picture:
        draw(args.picture)


if __name__ == "__main__":
    main()
