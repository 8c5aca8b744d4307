"""Threads and processes: many threads on shared and on their own Values, recorded functions beside them; fork.

THREAD_SECONDS=60 runs the threads for longer than the second that they have by default.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time

import pytest
from helpers import close, run_python

np = pytest.importorskip("numpy")
LASTS = float(os.environ.get("THREAD_SECONDS", "1"))
THREADS = 8


def test_eight_threads_share_leaves_and_have_their_own(pg, rng):
    shared = [pg.Value(float(i + 1)) for i in range(4)]
    function = pg.value_and_grad(lambda w, x: pg.math.tanh(w @ x) * w[0])
    points = np.array([[rng.uniform(-1, 1) for _ in range(4)] for _ in range(8)])
    expected = [function(point, point[::-1].copy()) for point in points]
    given = [[0] * len(shared) for _ in range(THREADS)]  # whole numbers, whose sums are exact
    wrong, rounds, end = [], [0] * THREADS, time.monotonic() + LASTS

    def own(rng):
        """A small network of the thread's own, against its derivative by hand."""
        x, w = rng.uniform(-1, 1), rng.uniform(-1, 1)
        a, b = pg.Value(x), pg.Value(w, label="w")
        out = sum(((a * b + k).tanh() for k in range(20)), pg.Value(0.0))
        out.backward()
        slope = sum(1 - math.tanh(x * w + k) ** 2 for k in range(20))
        if not (close(a.grad, slope * w, 1e-9) and close(b.grad, slope * x, 1e-9) and b.label == "w"):
            wrong.append((x, w, a.grad, b.grad))

    def work(number, rng):
        try:
            while time.monotonic() < end:
                rounds[number] += 1
                i, c = rng.randrange(len(shared)), rng.randrange(1, 5)
                (shared[i] * c + shared[i]).backward()
                given[number][i] += c + 1
                own(rng)
                if not all(v.data == k + 1 for k, v in enumerate(shared)):
                    wrong.append("data")
                if number % 2:
                    k = rng.randrange(len(points))
                    value, grads = function(points[k], points[k][::-1].copy())
                    if value != expected[k][0] or not np.array_equal(grads, expected[k][1]):
                        wrong.append("recorded")
                if rng.random() < 0.02:
                    pg.collect()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i, random.Random(rng.random()))) for i in range(THREADS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    print(f"{sum(rounds)} rounds in {LASTS} s")
    assert not wrong and min(rounds) > 0
    assert [v.grad for v in shared] == [sum(counts) for counts in zip(*given)]


def in_child(connection, value, function):
    root = (value * 3).tanh()
    root.backward()
    connection.send((root.data, value.grad, float(function(np.array([1.0, 2.0])).sum())))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_works_in_the_child(pg):
    function = pg.grad(lambda x: x[0] * x[1])
    value = pg.Value(0.25)
    before = (value * 2).exp()
    function(np.array([3.0, 4.0]))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=in_child, args=(theirs, value, function))
    child.start()
    assert ours.poll(30)
    data, grad, total = ours.recv()
    child.join(30)
    assert child.exitcode == 0
    assert close(data, math.tanh(0.75), 1e-15) and close(grad, 3 * (1 - math.tanh(0.75) ** 2), 1e-12) and total == 3.0
    before.backward()
    assert value.grad == 2 * before.data  # the child's is its own


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import pygrad
made = interpreters.create()
code = '''
try:
    import pygrad
except ImportError as error:
    print(error)
else:
    print("imported")
'''
error = interpreters.run_string(made, code)
if error:
    print(error)
assert pygrad.Value(2.0).data == 2.0
"""


@pytest.mark.skipif(sys.version_info < (3, 10), reason="sub-interpreters are of no use there")
def test_sub_interpreters_are_refused_in_one_sentence(pg):
    if pg.engine.OPERANDS != "compiled":
        pytest.skip("refused by the compiled layer, or by Python")
    said = run_python(SUBINTERPRETER, "compiled").strip()
    assert said and "imported" not in said and len(said.splitlines()) == 1, said


def test_free_threaded_pythons_are_refused_in_one_sentence(tmp_path):
    code = (
        "import sysconfig\n"
        "real = sysconfig.get_config_var\n"
        "sysconfig.get_config_var = lambda name: 1 if name == 'Py_GIL_DISABLED' else real(name)\n"
        "import pygrad\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "ImportError: pygrad needs a Python with its global lock" in run.stderr


def test_a_drop_of_a_large_graph_does_not_stall(pg):
    count = 1_000_000 if pg.engine.OPERANDS == "compiled" else 100_000
    x = pg.Value(1.0)
    y = x
    for _ in range(count // 2):
        y = y * 1.0
    start = time.perf_counter()
    del y
    dropped = time.perf_counter()
    pg.collect()
    collected = time.perf_counter()
    took = [1e3 * (b - a) for a, b in ((start, dropped), (dropped, collected))]
    print(f"{count:,} nodes: dropped in {took[0]:.2f} ms, collected in {took[1]:.2f} ms")
    assert collected - start < 1e-6 * count  # a µs a node, hundreds of times what it takes
