"""Threads and processes: many threads on shared and on their own Values, recorded functions beside them; fork.

Threads run for a second or two, or for THREAD_SECONDS=60. Run 600 after a change here.
"""

from __future__ import annotations

import collections
import copy
import gc
import math
import multiprocessing
import os
import pickle
import random
import re
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers import COUNTS, close, run_python

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
        """Each thread's own small network, against its derivative by hand."""
        x, w = rng.uniform(-1, 1), rng.uniform(-1, 1)
        a, b = pg.Value(x), pg.Value(w, label="w")
        out = sum(((a * b + k).tanh() for k in range(20)), pg.Value(0.0))
        out.backward()
        slope = sum(1 - math.tanh(x * w + k) ** 2 for k in range(20))
        if not (close(a.grad, slope * w, 1e-9) and close(b.grad, slope * x, 1e-9) and b.label == "w"):
            wrong.append((x, w, a.grad, b.grad))

    def work(number, rng):
        try:
            while rounds[number] == 0 or time.monotonic() < end:  # a busy machine starts some late
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
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # JAX's, where other tests have imported it
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
    assert value.grad == 2 * before.data  # the child has a copy


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
    if pg._core.layer.OPERANDS != "compiled":
        pytest.skip("refused by the compiled layer, or by Python")
    said = run_python(SUBINTERPRETER, "compiled").strip()
    assert said and "imported" not in said and len(said.splitlines()) == 1, said


def test_a_drop_of_a_large_graph_does_not_stall(pg):
    count = 1_000_000 if pg._core.layer.OPERANDS == "compiled" else 100_000
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
    # 1 µs a node: it takes a hundredth of that. PyPy looks at all objects there are, and compiles as it goes.
    assert collected - start < (1e-6 * count if COUNTS else 5.0)


# ---- Everything at once, while the tape is collected all the time --------------------------------


class Mixture:
    """What threads do at once, with their own graphs and with shared ones."""

    def __init__(self, pg, rng):
        self.pg = pg
        self.switch = pg.Value(1.0)  # others change it all the time, to a whole number from 1 to 9
        self.reads_switch = pg.jit(lambda x: x * self.switch + self.switch)
        self.many_shapes = pg.value_and_grad(lambda x: (x * x).sum())
        self.many_shapes.cache_size = 2
        self.weights = [pg.Value(rng.uniform(-1, 1), label=f"w{i}") for i in range(3)]
        self.shared = self.network([0.5, -0.25, 0.125], "shared")
        self.shared_data = self.shared.data
        self.kept = [self.chain(pg.Value(float(i)), i) for i in range(40)]
        self.triple = pg.custom_op(lambda x: 3.0 * x, lambda g, y, x: 3.0 * g, "triple")
        self.jobs = [
            self.records,
            self.differentiates,
            self.maps,
            self.copies,
            self.copies_what_is_shared,
            self.checks,
            self.has_custom_operations,
            self.draws,
            self.draws_what_is_shared,
            self.reads_captures,
            self.fills_caches,
            self.draws_random_numbers,
            self.walks,
            self.walks_what_is_shared,
            self.changes_operands,
            self.drops,
        ]

    def chain(self, x, length):
        for _ in range(length):
            x = x + 1.0
        return x

    def network(self, xs, label):
        total = (
            self.pg.dot(self.weights, xs)
            if label == "shared"
            else self.pg.dot([self.pg.Value(w.data) for w in self.weights], xs)
        )
        middle = total * total
        middle.label = f"{label} middle"
        return (middle + 1.0).tanh()

    def walk(self, root):
        found, todo = {}, [root]
        while todo:
            v = todo.pop()
            if id(v) not in found:
                found[id(v)] = v
                todo.extend(v._prev)
        return found

    def walks(self, rng):
        a, b = rng.uniform(-1, 1), rng.uniform(-1, 1)
        x, y = self.pg.Value(a, label="x"), self.pg.Value(b)
        root = (x * y + x) ** 2
        first = set(self.walk(root))
        assert len(first) == 5 and set(self.walk(root)) == first, "walk"
        log = []
        for v in self.walk(root).values():
            v._backward = lambda v=v, old=v._backward: (log.append(v), old())
        root.backward()
        s = 2 * (a * b + a)
        assert len(log) == 5 and close(x.grad, s * (b + 1), 1e-9) and close(y.grad, s * a, 1e-9), "wrapped steps"

    def walks_what_is_shared(self, rng):
        found = self.walk(self.shared)
        assert self.walk(self.shared).keys() == found.keys(), "ids of what is shared"
        assert sum(v.label == "shared middle" for v in found.values()) == 1, "labels of what is shared"

    def changes_operands(self, rng):
        x, late = self.pg.Value(2.0), None
        out = self.pg.Value(6.0, (x,), "mine")
        top = out * 3.0
        late = self.pg.Value(1.0) if rng.random() < 0.5 else x * 5.0
        try:
            out._prev.add(late)
            out._backward = lambda: setattr(late, "grad", late.grad + 7.0 * out.grad)
            top.backward()
        except RuntimeError as error:  # a sweep of another thread is under way, in a custom operation of its own
            assert "under way" in str(error), error
            out._prev.discard(late)
            return
        assert late.grad == 21.0 and x.grad in (0.0, 105.0) and out._prev == {x, late}, "changed operands"

    def records(self, rng):
        k, x = rng.randrange(1, 9), rng.uniform(-1, 1)
        captured = self.pg.Value(float(k))
        function = self.pg.jit(lambda x: [captured * x + self.weights[0], x.tanh() * 2.0 - captured])
        for c in (float(k), k + 0.5):
            captured.data = c
            assert function(x) == [c * x + self.weights[0].data, math.tanh(x) * 2.0 - c], "recorded"

    def differentiates(self, rng):
        pg, (a, b) = self.pg, (rng.uniform(0.1, 1), rng.uniform(0.1, 1))
        captured = pg.Value(a)
        value, slope = pg.value_and_grad(lambda x: captured * x * x)(b)
        assert close(value, a * b * b, 1e-12) and close(slope, 2 * a * b, 1e-12), "value_and_grad"
        value, pullback = pg.vjp(lambda x, y: [x * y, captured * x], a, b)
        assert value == [a * b, a * a] and pullback([1.0, 2.0]) == (b + 2 * a, a), "vjp"
        assert pg.jvp(lambda x, y: x * y, (a, b), (1.0, 0.5)) == (a * b, b + 0.5 * a), "jvp"

    def maps(self, rng):
        xs = np.array([rng.uniform(-1, 1) for _ in range(rng.randrange(2, 6))])
        w = rng.uniform(-1, 1)
        captured = self.pg.Value(w)
        assert np.array_equal(self.pg.vmap(lambda x: x * captured - 1.0)(xs), xs * w - 1.0), "vmap"
        total = self.pg.grad(lambda w, xs: self.pg.vmap(lambda x: w * x, reduce="sum")(xs))
        assert close(float(total(w, xs)), float(xs.sum()), 1e-12), "grad of vmap"

    def copies(self, rng):
        root = self.network([rng.uniform(-1, 1) for _ in range(3)], "own")
        self.is_copy(
            copy.deepcopy(root) if rng.random() < 0.5 else pickle.loads(pickle.dumps(root)), root.data, "own middle"
        )

    def copies_what_is_shared(self, rng):
        self.is_copy(copy.deepcopy(self.shared), self.shared_data, "shared middle")

    def is_copy(self, copied, data, label):
        pg = self.pg
        rows = pg._views.table.node_table(copied)
        assert copied.data == data and [row.op for row in rows if row.op][-3:] == ["*", "+", "tanh"], "copy"
        assert label in [row.label for row in rows], "labels of a copy"
        copied.backward()
        inner = math.atanh(data)
        node = next(value for value, _ in pg._core.layer.node_values(copied) if value.label == label)
        assert close(node.data, inner - 1.0, 1e-9) and close(node.grad, 1 - data * data, 1e-9), "gradient of a copy"

    def checks(self, rng):
        pg = self.pg
        x = pg.Value(rng.uniform(-1, 1), label="own leaf")
        y = (x * 2.0).tanh()
        y.backward(check=True)
        assert close(x.grad, 2 * (1 - y.data**2), 1e-12), "checked"
        name = f"bad{rng.randrange(1000)}"
        with pytest.raises(FloatingPointError, match=f"^the leaf '{name}' is inf\n"):
            (self.chain(pg.Value(math.inf, label=name), rng.randrange(30)) * 0.5).backward(check=True)
        zero = pg.Value(0.0, label=name)
        with pytest.raises(FloatingPointError, match=f"^sqrt with the grad 0.5 gives {name} the grad inf "):
            (self.chain(zero.sqrt(), rng.randrange(30)) * 0.5).backward(check=True)

    def has_custom_operations(self, rng):
        pg, a = self.pg, rng.uniform(-1, 1)
        x = pg.Value(a, label="x")
        y = self.triple(x) * x
        out = pg.Value(math.sinh(y.data), (y,), "sinh")

        def _backward():
            self.chain(y, rng.randrange(20))  # records in the middle of a sweep
            y.grad += math.cosh(y.data) * out.grad

        out._backward = _backward
        out.backward()
        assert close(out.data, math.sinh(3 * a * a), 1e-12) and close(x.grad, math.cosh(3 * a * a) * 6 * a, 1e-12), (
            "custom"
        )
        out.grad = 2.0
        y.grad = 0.0
        out._backward()
        assert close(y.grad, 2 * math.cosh(y.data), 1e-12), "push"

    def draws(self, rng):
        length, a = rng.randrange(1, 20), float(rng.randrange(100))
        root = self.chain(self.pg.Value(a, label="start"), length)
        root.label = f"end{length}"
        rows = self.pg._views.table.node_table(root)
        numbers = [row.data for row in rows if row.op == "+"]
        assert numbers == [a + i + 1 for i in range(length)] and rows[-1].label == root.label, "table"
        assert all(rows[o].data in (row.data - 1.0, 1.0) for row in rows for o in row.operands), "operands"
        source = self.pg.draw_dot(root).source
        assert source.count("start") == 1 and root.label in source, "drawing"

    def draws_what_is_shared(self, rng):
        text = self.pg.to_text(self.shared)
        assert text.count("shared middle = *") == 1 and all(text.count(f"w{i}  ") == 1 for i in range(3)), "text"

    def reads_captures(self, rng):
        x = float(rng.randrange(1, 1000))
        read = self.reads_switch(x) / (x + 1.0)
        assert read in range(1, 10), "captures"
        self.switch.data = float(rng.randrange(1, 10))

    def fills_caches(self, rng):
        xs = np.array([float(rng.randrange(9)) for _ in range(rng.randrange(1, 8))])
        value, slope = self.many_shapes(xs)
        assert value == (xs * xs).sum() and np.array_equal(slope, 2 * xs), "cache"

    def draws_random_numbers(self, rng):
        random.random(), np.random.random()

    def drops(self, rng):
        self.kept[rng.randrange(len(self.kept))] = self.chain(self.pg.Value(0.0), rng.randrange(60))
        if rng.random() < 0.05:
            self.pg.collect()


def test_everything_at_once_while_the_tape_collects(pg, rng):
    mixture = Mixture(pg, rng)
    lasts = LASTS if "THREAD_SECONDS" in os.environ else 2.0
    wrong, rounds, end = [], collections.Counter(), time.monotonic() + lasts

    def work(rng, first):
        while (first or time.monotonic() < end) and len(wrong) < 20:
            job = first.pop() if first else rng.choice(mixture.jobs)
            try:
                job(rng)
            except BaseException as error:
                wrong.append(f"{job.__name__}: {error!r}"[:500])
            rounds[job.__name__] += 1

    parts = [mixture.jobs[i::6] for i in range(6)]
    threads = [threading.Thread(target=work, args=(random.Random(rng.random()), part)) for part in parts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    pg._core.layer.lib.pgr_tape_limits(pg._core.layer.TAPE, 100, 2**32 - 2)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        pg._core.layer.lib.pgr_tape_limits(pg._core.layer.TAPE, 1 << 14, 2**32 - 2)
    print(f"{sum(rounds.values()):,} rounds in {lasts} s: {dict(rounds)}")
    assert not wrong, "\n".join(wrong)
    assert set(rounds) == {job.__name__ for job in mixture.jobs}


def test_python_can_call_nothing_that_takes_or_gives_ids(pg):
    header = (Path(__file__).parent.parent / "csrc" / "pgr.h").read_text(encoding="utf-8")
    inside = "".join(re.findall(r"/\* cdef: begin \*/(.*?)/\* cdef: end \*/", header, re.DOTALL))
    code = re.sub(r"/\*.*?\*/", "", inside, flags=re.DOTALL)
    assert "pgr_h_backward" in code and "pgr_id" not in code
    by_id = {name for name in re.findall(r"\b(pgr_[a-z_]+)\(", header) if f"{name}(" not in code}
    assert {"pgr_record", "pgr_backward", "pgr_hold", "pgr_export", "pgr_program_captures"} <= by_id
    assert not [name for name in by_id if hasattr(pg._core.layer.lib, name)]
    with pytest.raises(pg._core.layer.ffi.error):
        pg._core.layer.ffi.typeof("pgr_id")


def test_a_value_that_another_thread_takes_up_while_it_ends_keeps_what_belongs_to_it(pg, monkeypatch):
    if pg._core.layer.OPERANDS == "compiled":
        pytest.skip("its objects end within one step of the interpreter")
    layer = sys.modules["pygrad._core.portable.operand"]
    pg.collect()
    before = pg.tape_stats().handles
    x = pg.Value(1.0, label="x")
    y = x * 2.0
    handle, taken = x._handle, []
    hold = pg._core.layer.lib.pgr_h_hold(pg._core.layer.TAPE, handle)
    drop_dead = layer.drop_dead

    def takes_up():  # __del__ calls it first
        monkeypatch.setattr(layer, "drop_dead", drop_dead)
        taken.append(pg.Value._of(hold))

    monkeypatch.setattr(layer, "drop_dead", takes_up)
    del x
    if not COUNTS:
        gc.collect()
        sys.modules["pygrad._core.portable.registry"].release_ended()
    assert taken[0].label == "x" and taken[0].data == 1.0 and y._operands()[0] is taken[0]
    taken.clear()
    assert y._operands()[0].label == "x"
    del y
    pg.collect()
    assert pg.tape_stats().handles == before


COLLECTING = """
import faulthandler, gc, random, threading, time
faulthandler.dump_traceback_later(60, exit=True)
import pygrad
if hasattr(gc, "set_threshold"):
    gc.set_threshold(3)
end = time.monotonic() + 2

def work():
    while time.monotonic() < end:
        for _ in range(3):
            v = pygrad.Value(1.0)
            v.me = [v]  # a cycle
        try:
            pygrad.jit(lambda x: x * 2.0 + 0.0 * random.random())(1.0)
        except pygrad.RecordingError:
            pass

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("ended")
"""


def test_threads_that_record_while_finalisers_run_do_not_wait_for_each_other(pg):
    """Listing threads once held a lock of the interpreter while a collection within it waited for another thread."""
    assert run_python(COLLECTING, pg._core.layer.OPERANDS) == "ended\n"
