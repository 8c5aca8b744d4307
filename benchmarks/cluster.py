"""Value and gradient over Dask arrays, beside the same call without Dask: python -m benchmarks.cluster [points].

First the cost of a task: calls with few and many tiny chunks, beside tasks that do nothing. Then two networks over 10^7
points, in four chunks: without Dask, on a cluster of one worker process, and on one of two, in turns. Results are
compared first. The first pass of a turn does not count: it finds the others' data in the caches.
"""

import logging
import os
import sys
import time
from contextlib import ExitStack
from itertools import count
from statistics import median

import numpy as np

from pygrad import value_and_grad, vmap
from pygrad.math import relu

TURNS, PASSES = int(os.environ.get("TURNS", 8)), 3
WIDTHS = 16, 32  # of the two hidden layers
CHUNKS = 4
FEW, MANY = 4, 64  # tiny chunks
calls = count(1)


def network(layers, x):
    for weights, bias in layers[:-1]:
        x = relu(weights @ x + bias)
    weights, bias = layers[-1]
    return (weights @ x + bias)[0]


def hinge(layers, x, y):
    return relu(1 - y * network(layers, x))


call = value_and_grad(vmap(hinge, in_axes=(None, 0, 0), reduce="mean"))


def fresh(layers):
    """Layers that differ from all earlier ones by next to nothing, so that Dask has no result of them."""
    layers = [(weights.copy(), bias) for weights, bias in layers]
    layers[0][0][0, 0] += 1e-13 * next(calls)
    return layers


def cut(client, x, y, chunks):
    """Both as Dask arrays, on the workers."""
    from dask.array import from_array
    from dask.distributed import wait

    arrays = client.persist([from_array(a, chunks=(-(-len(x) // chunks), *a.shape[1:])) for a in (x, y)])
    wait(arrays)
    return arrays


def over(client, arrays, layers):
    (result,) = client.compute([call(layers, *arrays)], sync=True)
    return result


def nothing(client, tasks):
    """Tasks that take one number's absolute value, and their sum."""
    number = next(calls)
    parts = {(f"part-{number}", k): (abs, -1.0) for k in range(tasks)}
    client.get({**parts, f"sum-{number}": (sum, list(parts))}, f"sum-{number}")


def in_turns(jobs):
    """Median seconds of each job."""
    found = {name: [] for name in jobs}
    for turn in range(TURNS):
        for name in list(jobs) if turn % 2 else list(jobs)[::-1]:
            for k in range(PASSES):
                begun = time.perf_counter()
                jobs[name]()
                if k > 0:
                    found[name].append(time.perf_counter() - begun)
    return {name: median(seconds) for name, seconds in found.items()}


def layers_of(width):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(o, i)) / i**0.5, np.zeros(o)) for i, o in ((2, width), (width, width), (width, 1))]


def flat(result):
    value, slopes = result
    return np.concatenate([[value], *(np.ravel(a) for layer in slopes for a in layer)])


def compare(one, two, points):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(points, 2)), np.sign(rng.normal(size=points))
    held = {c: cut(c, x, y, CHUNKS) for c in (one, two)}
    print("| parameters | no Dask | 1 worker | 2 workers | 1 worker / no Dask | 1 worker / 2 |")
    print("|---|---|---|---|---|---|")
    for width in WIDTHS:
        layers = layers_of(width)
        alone, first, second = flat(call(layers, x, y)), *(flat(over(c, held[c], layers)) for c in (one, two))
        if not np.array_equal(first, second):
            raise RuntimeError(f"width {width}: one worker and two differ")
        if not np.allclose(first, alone, 1e-8, 1e-10):
            raise RuntimeError(f"width {width}: Dask's result is not that of one call")
        jobs = {None: lambda layers=layers: call(fresh(layers), x, y)}
        jobs.update({c: lambda c=c, layers=layers: over(c, held[c], fresh(layers)) for c in (one, two)})
        none, few, more = in_turns(jobs).values()
        parameters = f"{len(alone) - 1:,}"
        print(
            f"| {parameters} | {none:.2f} s | {few:.2f} s | {more:.2f} s | {few / none:.2f} | {few / more:.2f} |",
            flush=True,
        )


def compare_tasks(client, layers):
    x, y = np.ones((MANY, 2)), np.ones(MANY)
    few, many = cut(client, x, y, FEW), cut(client, x, y, MANY)
    jobs = {
        "few": lambda: over(client, few, fresh(layers)),
        "many": lambda: over(client, many, fresh(layers)),
        "few of Dask": lambda: nothing(client, FEW),
        "many of Dask": lambda: nothing(client, MANY),
    }
    ours, more, theirs, most = (1e3 * s for s in in_turns(jobs).values())
    print(f"a call of {FEW} tiny chunks: {ours:.0f} ms; {FEW} tasks that do nothing, and their sum: {theirs:.0f} ms")
    each, nothings = (more - ours) / (MANY - FEW), (most - theirs) / (MANY - FEW)
    print(f"a further chunk: {each:.1f} ms; a further task that does nothing: {nothings:.1f} ms")


def workers(n):
    from dask.distributed import LocalCluster

    return LocalCluster(n_workers=n, threads_per_worker=1, processes=True, dashboard_address=":0")


def main():
    from dask.distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    points = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000
    with ExitStack() as stack:
        one, two = (stack.enter_context(Client(stack.enter_context(workers(n)))) for n in (1, 2))
        compare_tasks(one, layers_of(WIDTHS[0]))
        compare(one, two, points)


if __name__ == "__main__":
    main()
