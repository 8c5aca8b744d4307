"""Value and gradient over Dask arrays, beside the same call without Dask: python -m benchmarks.cluster [points].

A network of 337 parameters over 10^7 points. Turns alternate between no Dask, a cluster of one worker process, and one
of two. The first pass of a turn does not count: it finds the others' data in the caches. Results are compared first.
Then the cost of a task: calls with few and many tiny chunks, beside tasks that do nothing.
"""

import logging
import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from itertools import count
from statistics import median

import numpy as np

from pygrad import value_and_grad, vmap
from pygrad.math import relu

TURNS, PASSES = int(os.environ.get("TURNS", 12)), 3
CHUNKS = 2, 4  # of the large array
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


def compare(one, two, layers, points):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(points, 2)), np.sign(rng.normal(size=points))
    held = {(c, n): cut(c, x, y, n) for n in CHUNKS for c in (one, two)}
    value, slopes = call(layers, x, y)
    for n in CHUNKS:
        (a, p), (b, q) = over(one, held[one, n], layers), over(two, held[two, n], layers)
        arrays = [[u for layer in s for u in layer] for s in (slopes, p, q)]
        if a != b or not all(np.array_equal(u, v) for u, v in zip(*arrays[1:])):
            raise RuntimeError(f"{n} chunks: one worker and two differ")
        if not np.isclose(a, value, rtol=1e-11) or not all(np.allclose(*uv, 1e-8, 1e-10) for uv in zip(*arrays[:2])):
            raise RuntimeError(f"{n} chunks: Dask's result is not that of one call")
    print("| chunks | no Dask | 1 worker | 2 workers | 1 worker / no Dask | 1 worker / 2 |\n|---|---|---|---|---|---|")
    for n in CHUNKS:
        jobs = {None: lambda: call(fresh(layers), x, y)}
        jobs.update({c: partial(lambda a, c: over(c, a, fresh(layers)), held[c, n], c) for c in (one, two)})
        none, first, both = in_turns(jobs).values()
        print(
            f"| {n} | {none:.3f} s | {first:.3f} s | {both:.3f} s | {first / none:.2f} | {first / both:.2f} |",
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
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(o, i)) / i**0.5, np.zeros(o)) for i, o in ((2, 16), (16, 16), (16, 1))]
    with ExitStack() as stack:
        one, two = (stack.enter_context(Client(stack.enter_context(workers(n)))) for n in (1, 2))
        compare_tasks(one, layers)
        compare(one, two, layers, points)


if __name__ == "__main__":
    main()
