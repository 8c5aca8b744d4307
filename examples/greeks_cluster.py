"""Greeks on many machines
=======================

The price of an option by simulation, and its five Greeks, as Dask tasks.

You will see a call's price and its derivatives with respect to spot, strike, rate, volatility and time, along 10
million paths by default, next to their closed forms. Each task makes its own random numbers from a seed, so memory
does not grow with the number of paths. The tasks' sums are added as a tree, in an order that does not depend on the
workers. The program starts a cluster of processes on this machine; `--scheduler tcp://...` uses another.

Run it with::

    python examples/greeks_cluster.py --paths 1e7 --workers 2 [--picture greeks.png]

Needs pip install 'pygrad-engine[dask]'. Source: Glasserman, Monte Carlo Methods in Financial Engineering, ch. 7.2
(pathwise derivatives).
"""

import argparse
import logging
import math
from time import perf_counter

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

from pygrad import value_and_grad, vmap
from pygrad.math import exp, maximum, sqrt

NAMES = ["delta", "dual delta", "rho", "vega", "-theta"]
MARKET = (100.0, 105.0, 0.03, 0.25, 0.75)  # spot, strike, rate, volatility, years


# %%
# A path
# ------


def payoff(market, shock):
    """The discounted payoff of a European call along one path."""
    spot, strike, rate, volatility, years = market
    end = spot * exp((rate - 0.5 * volatility * volatility) * years + volatility * sqrt(years) * shock)
    return exp(-rate * years) * maximum(end - strike, 0.0)


price_and_greeks = value_and_grad(vmap(payoff, in_axes=(None, 0), reduce="mean"))


# %%
# Paths as chunks of a Dask array
# -------------------------------


def shocks(block, seed):
    """A chunk of normal numbers, by the seed and the chunk's number alone."""
    number, length = block
    return np.random.default_rng([seed, number]).standard_normal(length)


def chunked(paths, chunk, seed=0):
    """All shocks, as a Dask array whose chunks are made where they are used."""
    from dask import delayed

    lengths = [min(chunk, paths - first) for first in range(0, paths, chunk)]
    parts = [delayed(shocks, pure=True)((i, n), seed) for i, n in enumerate(lengths)]
    return da.concatenate([da.from_delayed(part, (n,), "d") for part, n in zip(parts, lengths)])


def closed_forms():
    """Price and Greeks by Black and Scholes's formula."""
    s, k, r, v, t = MARKET

    def cdf(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    d1 = (math.log(s / k) + (r + 0.5 * v * v) * t) / (v * math.sqrt(t))
    d2 = d1 - v * math.sqrt(t)
    density = math.exp(-0.5 * d1 * d1) / math.sqrt(2 * math.pi)
    discount = math.exp(-r * t)
    theta = s * density * v / (2 * math.sqrt(t)) + r * k * discount * cdf(d2)
    greeks = [cdf(d1), -discount * cdf(d2), k * t * discount * cdf(d2), s * density * math.sqrt(t), theta]
    return s * cdf(d1) - k * discount * cdf(d2), greeks


def simulate(client, paths, chunk):
    """Price and Greeks, on a cluster."""
    return client.compute(price_and_greeks(MARKET, chunked(paths, chunk))).result()


# %%
# The picture
# -----------


def draw(simulated, exact, path):
    """By how much the simulated numbers differ from the closed forms."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 3.2))
    ax.barh(["price", *NAMES], [1000 * (ours / theirs - 1) for ours, theirs in zip(simulated, exact)])
    ax.axvline(0.0, color="k", linewidth=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="simulated - closed form, in thousandths")
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", type=float, default=1e7)
    parser.add_argument("--chunk", type=float, default=1e6, help="paths in a task")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scheduler", help="the address of a cluster that runs already")
    parser.add_argument("--picture")
    options = parser.parse_args()
    paths, chunk = int(options.paths), int(options.chunk)
    cluster = options.scheduler or LocalCluster(
        n_workers=options.workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,  # when it closes, workers on a busy machine report that they miss its scheduler
    )
    with Client(cluster) as client:
        start = perf_counter()
        price, greeks = simulate(client, paths, chunk)
        seconds = perf_counter() - start
    exact, exact_greeks = closed_forms()
    print(f"{'':12}{'simulated':>14}{'closed form':>14}")
    for name, ours, theirs in [("price", price, exact), *zip(NAMES, greeks, exact_greeks)]:
        print(f"{name:12}{ours:14.5f}{theirs:14.5f}")
    print(f"{paths:,} paths in {seconds:.1f} s")
    if not options.scheduler:
        cluster.close()
    if options.picture:
        draw([price, *greeks], [exact, *exact_greeks], options.picture)


if __name__ == "__main__":
    main()
