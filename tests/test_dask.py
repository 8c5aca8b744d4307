"""Recorded functions over Dask arrays, and fit on a cluster: lazy, equal to NumPy's, and the same for any workers."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
ROOT = Path(__file__).parent.parent
ROWS = np.random.default_rng(5).normal(size=(50, 3))
W = np.array([0.3, -1.2, 0.8])


def along(w, row):
    return (w * row).sum().tanh()


def chunked(axis=0, size=12):
    return da.from_array(ROWS, chunks=(size, 2) if axis == 0 else (2, size))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)


def test_vmap_of_a_dask_array_is_lazy_and_equals_numpys(pg):
    f = pg.vmap(along, in_axes=(None, 0))
    found = f(W, chunked())
    assert isinstance(found, da.Array) and found.chunks == ((12, 12, 12, 12, 2),)
    assert (found.compute(scheduler="synchronous") == f(W, ROWS)).all()


def test_results_are_trees_with_axes_where_out_axes_says(pg):
    f = pg.vmap(lambda p, row: {"a": p["k"] * row[0], "b": row * 2.0}, in_axes=(None, 0), out_axes={"a": 0, "b": -1})
    found, expected = f({"k": 2.0}, chunked()), f({"k": 2.0}, ROWS)
    assert {name: x.shape for name, x in found.items()} == {"a": (50,), "b": (3, 50)}
    (found,) = dask.compute(found, scheduler="synchronous")
    assert all((found[name] == expected[name]).all() for name in "ab")


def test_numpy_arrays_beside_are_cut_into_the_same_chunks_and_names_are_mapped(pg):
    f = pg.vmap(lambda row, t, scale: (row.sum() - t) * scale, in_axes=(1, 0))
    t, scale = np.arange(50.0), np.linspace(1.0, 2.0, 50)
    expected = f(ROWS.T, t, scale=scale)
    for x in (da.from_array(ROWS.T, chunks=(1, 20)), ROWS.T):
        found = f(x, da.from_array(t, chunks=7), scale=scale)
        assert (found.compute(scheduler="synchronous") == expected).all()


def test_an_array_that_is_not_mapped_over_goes_to_every_chunk_as_a_whole(pg):
    f = pg.vmap(along, in_axes=(None, 0))
    assert (f(da.from_array(W, chunks=2), chunked()).compute(scheduler="synchronous") == f(W, ROWS)).all()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("size", [3, 50, 5])
def test_sums_and_their_derivatives_add_the_chunks(pg, reduce, size):
    f = pg.vmap(along, in_axes=(None, 0), reduce=reduce)
    close(f(W, chunked(size=size)).compute(scheduler="synchronous"), f(W, ROWS))
    g = pg.value_and_grad(f, argnums=(1, 0))
    (found,) = dask.compute(g(W, chunked(size=size)), scheduler="synchronous")
    (value, (by_rows, by_w)), expected = found, g(W, ROWS)
    close(value, expected[0])
    close(by_rows, expected[1][0])
    close(by_w, expected[1][1])
    close(pg.grad(f)(W, chunked(size=size)).compute(scheduler="synchronous"), expected[1][1])
    close(pg.jit(f)(W, chunked(size=size)).compute(scheduler="synchronous"), expected[0])


def test_second_derivatives_of_each_slice_are_mapped_as_any_function(pg):
    f = pg.vmap(pg.grad(pg.grad(lambda x: x**4)))
    x = np.arange(10.0)
    assert (f(da.from_array(x, chunks=3)).compute(scheduler="synchronous") == 12 * x**2).all()


def test_a_bag_maps_recorded_functions(pg):
    bag = pytest.importorskip("dask.bag")
    numbers = bag.from_sequence([0.0, 0.5, 1.0], npartitions=2)
    assert numbers.map(pg.grad(lambda x: x**3)).compute(scheduler="synchronous") == [0.0, 0.75, 3.0]


def tasks_of(*results):
    """How many tasks of each kind a scheduler gets."""
    (results,) = dask.optimize(results)
    keys = {key for x in results for key in x.__dask_graph__()}
    names = [key[0] if isinstance(key, tuple) else key for key in keys]
    return collections.Counter([name.rpartition("-")[0] for name in names])


def test_there_is_a_task_for_each_chunk_with_what_makes_it_and_one_for_a_whole_sum(pg):
    f = pg.value_and_grad(pg.vmap(lambda w, x, y: (w * x).sum() * y, in_axes=(None, 0, 0), reduce="mean"))
    x, y = da.ones((50, 3), chunks=(10, 3)) * 2.0 + 1.0, da.ones(50, chunks=10)
    found = f(W, x, y)
    assert tasks_of(found) == {"pygrad-value-and-grad": 5}  # and one that Dask adds
    assert tasks_of(pg.vmap(along, in_axes=(None, 0))(W, x)) == {"pygrad-vmap": 5}


def test_a_value_and_its_gradients_are_computed_together_or_one_by_one(pg):
    g = pg.value_and_grad(pg.vmap(lambda p, x: (p[0] * x).sum() * p[1], in_axes=(None, 0), reduce="sum"))
    p, x, other = [W, 2.0], chunked(), da.arange(3, chunks=2)
    expected = g(p, ROWS)

    def same(found, scale=1.0):
        assert type(found) is tuple and type(found[1]) is list
        close(float(found[0]), expected[0])
        close(found[1][0], expected[1][0] * scale)
        close(float(found[1][1]), expected[1][1])

    lazy = g(p, x)
    assert len(lazy) == 2 and isinstance(lazy[1][0], da.Array)
    with dask.config.set(scheduler="synchronous"):
        before, found, after = dask.compute(other, lazy, other + 1)
        assert before.tolist() == [0, 1, 2] and after.tolist() == [1, 2, 3]
        same(found)
        value, grads = lazy
        same(dask.compute((value, grads))[0])
        same((value.compute(), [x.compute() for x in grads]))
        same(dask.delayed(lambda found: found)(lazy).compute())
        (kept,) = dask.persist(lazy)
        assert tasks_of(kept) == {"pygrad-value-and-grad": 5}
        same(dask.compute(kept)[0])
        same((kept[0].compute(), [x.compute() for x in kept[1]]))
        same(dask.compute(pickle.loads(pickle.dumps(lazy)))[0])
        given = pg.vmap(lambda row, t: row.sum() + t[0] + t[1][1], in_axes=(0, None))(chunked(), lazy)
        close(given.compute(), ROWS.sum(1) + expected[0] + expected[1][1])
        lazy[1][0] = lazy[1][0] * 3.0
        same(dask.compute(lazy)[0], scale=3.0)
        same(dask.compute(dask.persist(lazy)[0])[0], scale=3.0)


def test_large_parameters_are_a_task_of_their_own(pg):
    f = pg.vmap(lambda w, x: (w[:3] * x).sum(), in_axes=(None, 0), reduce="sum")
    large = np.linspace(0.0, 1.0, 10_000)
    found = f(large, chunked(size=5))
    assert tasks_of(found)["pygrad-call"] == 1
    close(found.compute(scheduler="synchronous"), f(large, ROWS))


def test_the_order_of_additions_is_the_chunks_whatever_runs_them(pg):
    f = pg.value_and_grad(pg.vmap(along, in_axes=(None, 0), reduce="mean"))
    runs = [dask.compute(f(W, chunked(size=3)), scheduler=way)[0] for way in ("synchronous", "threads") * 3]
    assert len({(float(value), slope.tobytes()) for value, slope in runs}) == 1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda pg, x: pg.grad(lambda x: (x * x).sum())(x), TypeError, "only vmap"),
        (lambda pg, x: pg.jit(lambda x: x)(x), TypeError, "run chunk by chunk"),
        (lambda pg, x: pg.vmap(lambda r: r.sum(), record=False)(x), TypeError, "recorded"),
        (lambda pg, x: pg.vmap(lambda r: 1.0, out_axes=None)(x), ValueError, "out_axes=None of a Dask array"),
        (lambda pg, x: pg.vmap(lambda r, t: t)(x, np.ones(3)), ValueError, "argument 0: 50, argument 1: 3"),
        (lambda pg, x: pg.vmap(lambda r: r.sum(), in_axes=2)(x), ValueError, "in_axes=2"),
        (lambda pg, x: pg.vmap(lambda r: r.sum(), in_axes=(0, 0))(x), ValueError, "is for 2 arguments"),
        (lambda pg, x: pg.vmap(lambda r: r.sum())(x[x[:, 0] > 0]), ValueError, "compute_chunk_sizes"),
        (lambda pg, x: pg.vmap(lambda r: r.sum())(x[:0]), ValueError, "length 0"),
        (lambda pg, x: pg.vmap(lambda r: float(r[0]))(x), TypeError, "recorded"),
    ],
)
def test_what_can_not_run_by_chunks_says_so_at_once(pg, call, error, text):
    with pytest.raises(error, match=text):
        call(pg, chunked())


# ---- A cluster of processes ------------------------------------------------------------------------

CLUSTER = """
import os, signal, sys, threading, time
import dask.array as da, numpy as np
from dask.distributed import Client, LocalCluster
from pygrad import fit, nn, value_and_grad, vmap

def slow(block, seed):
    time.sleep(0.03)
    return np.random.default_rng([seed, block]).normal(size=200)

def loss(w, x):
    return (w[0] * x + w[1]).tanh() ** 2

def main(workers, kill):
    from dask import delayed
    parts = [da.from_delayed(delayed(slow, pure=True)(k, 1), (200,), "d") for k in range(40)]
    f = value_and_grad(vmap(loss, in_axes=(None, 0), reduce="mean"))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            value, slope = f(np.array([0.5, -0.25]), da.concatenate(parts))
            futures = client.compute([value, slope])
            if kill:
                time.sleep(0.2)
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
            value, slope = client.gather(futures)
            nn.seed(0)
            model = nn.MLP(2, [4, 1], nonlin="tanh")
            history = fit(model, X, X[:, 0] * X[:, 1], epochs=3, batch_size=25, client=client)
            print(float(value).hex(), slope.tobytes().hex(), [x.hex() for x in history.loss])

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] == "kill")
"""


def on_cluster(folder, *args):
    (folder / "on_cluster.py").write_text(CLUSTER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__COMM__RETRY__COUNT": "3"}
    found = subprocess.run(
        [sys.executable, "on_cluster.py", *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_one_worker_two_workers_and_a_lost_worker_give_the_same_bits(tmp_path):
    pytest.importorskip("distributed")
    calls = [("1", "spare"), ("2", "kill"), *([("2", "spare")] if "LONG" in os.environ else [])]
    runs = {on_cluster(tmp_path, *args) for args in calls}
    assert len(runs) == 1 and runs.pop().startswith("0x1.")


class Inline:
    """As much of a client as fit uses, in this process."""

    class Future:
        def __init__(self, x):
            self.x = x

        def result(self):
            return self.x

    def submit(self, function, *args, pure):
        def known(x):
            return [known(y) for y in x] if isinstance(x, list) else x.x if isinstance(x, self.Future) else x

        return self.Future(function(*map(known, args)))

    def compute(self, tasks):
        return [self.Future(x) for x in dask.compute(*tasks, scheduler="synchronous")]

    def gather(self, futures):
        return [future.x for future in futures]


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_fit_on_a_cluster_trains_as_without(pg, loss):
    X = np.random.default_rng(0).normal(size=(70, 2))
    y = (X[:, 0] * X[:, 1] > 0).astype(int if loss == "cross_entropy" else float)

    def trained(X, y, **more):
        pg.nn.seed(0)
        model = pg.nn.MLP(2, [5, 2 if loss == "cross_entropy" else 1], nonlin="tanh")
        history = pg.fit(model, X, y, loss=loss, epochs=4, batch_size=30, l2=1e-3, **more)
        return [p.data for p in model.parameters()], history

    w, history = trained(X, y)
    found, there = trained(X, y, client=Inline(), validation=(X, y))
    close(found, w)
    close(there.loss, history.loss)
    assert len(there.validation) == 4
    lazy = trained(da.from_array(X, chunks=(9, 1)), da.from_array(y, chunks=20), client=Inline())
    close(lazy[0], w)


@pytest.mark.parametrize(
    ("X", "y", "more", "error", "text"),
    [
        (ROWS, W, {}, ValueError, "50 samples and y 3"),
        (chunked(), da.from_array(W), {}, ValueError, "50 samples and y 3"),
        (chunked(), ROWS, {}, TypeError, "both must be Dask arrays"),
        (chunked(), da.ones(50), {"validation": 0.2}, ValueError, "a pair of NumPy arrays"),
        (chunked(), da.ones(50) * np.nan, {}, ValueError, "sample 0 has a nan"),
        (chunked(), da.ones(50) * 2.0, {"loss": "hinge"}, ValueError, "sample 0 has the target 2.0"),
        (da.ones((50, 2)), da.ones(50), {}, ValueError, "which the model does not take"),
        (ROWS, ROWS[:, 0], {"client": "tcp://here"}, TypeError, "must be a dask.distributed.Client"),
    ],
)
def test_fit_on_a_cluster_refuses_what_does_not_fit(pg, X, y, more, error, text):
    with pytest.raises(error, match=text):
        pg.fit(pg.nn.MLP(3, [1]), X, y, epochs=1, **{"client": Inline(), **more})
