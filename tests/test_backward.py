"""The backward pass: shapes of graphs, accumulation, backprop by hand, random graphs."""

from __future__ import annotations

import math
import signal
import time

import pytest
from helpers import close, gradcheck, run_python


def test_same_operand_twice_counts_twice(Value):
    x = Value(3.0)
    (x * x).backward()
    assert x.grad == 6.0
    y = Value(3.0)
    (y + y).backward()
    assert y.grad == 2.0
    z = Value(2.0)
    (z**z).backward()
    assert z.grad == pytest.approx(4 * (math.log(2) + 1), rel=1e-15)


def test_diamonds_add_up_over_their_paths(Value):
    x = Value(1.5)
    a = x
    for _ in range(20):
        a = a + a
    a.backward()
    assert x.grad == 2.0**20
    gradcheck(lambda x: (x * 2 + x.sin()) * (x * x - x.exp()), [0.7])


def test_leaves_accumulate_and_interior_nodes_are_overwritten(Value):
    x = Value(3.0)
    y = x * x
    z = y * 2
    z.backward()
    assert (x.grad, y.grad, z.grad) == (12.0, 2.0, 1.0)
    z.backward()
    assert (x.grad, y.grad, z.grad) == (24.0, 2.0, 1.0)


def test_stale_grads_of_other_roots_never_flow(Value):
    x = Value(3.0)
    y = x * x
    other = y * 5
    other.grad = 100.0
    y.grad = 77.0
    (y + 1).backward()
    assert (x.grad, y.grad, other.grad) == (6.0, 1.0, 100.0)


def test_root_that_is_a_leaf(Value):
    x = Value(3.0)
    x.grad = 5.0
    x.backward()
    assert x.grad == 1.0


def test_constants_in_an_expression_get_grads_as_in_micrograd(Value):
    x = Value(3.0)
    y = 5.0 * x
    y.backward()
    assert {v.grad for v in y._prev} == {3.0, 5.0}


def test_backprop_by_hand(Value):
    x1, w1, b = Value(2.0), Value(-3.0), Value(6.5)
    x1w1 = x1 * w1
    n = x1w1 + b
    o = n.tanh()
    o.grad = 1.0
    o._backward()
    assert n.grad == pytest.approx(1 - o.data**2, rel=1e-15)
    n._backward()
    assert x1w1.grad == b.grad == n.grad
    x1._backward()  # a leaf: nothing to do
    x1w1._backward()
    assert (x1.grad, w1.grad) == (w1.data * n.grad, x1.data * n.grad)
    x1w1._backward()  # adds, as micrograd's does
    assert x1.grad == 2 * w1.data * n.grad


def test_grads_assigned_by_hand_are_drawn(pg):
    a = pg.Value(2.0, label="a")
    b = a * 3
    b.grad, a.grad = 1.0, 3.0
    assert "data 2.0000 | grad 3.0000" in pg.draw_dot(b).source


CHAIN = """
import sys, resource
import pygrad
from pygrad import Value
def peak():  # in bytes; on Linux a child's ru_maxrss begins with its parent's
    try:
        with open("/proc/self/status") as status:
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
x = Value(1.0)
before = peak()
def chain():  # its frame ends: PyPy's may keep what a variable was
    y = x
    for _ in range(1_000_000):
        y = y.sin()
    y.backward()
chain()
grown = peak() - before
for _ in range(3):  # and for a while
    pygrad.collect()
assert pygrad.tape_stats().nodes == 1, pygrad.tape_stats()
assert 0 < x.grad < 1
print(grown / 1e6)
"""


def test_chain_of_a_million_nodes_does_not_recurse_and_stays_small(pg):
    bytes_a_node = float(run_python(CHAIN, pg._core.layer.OPERANDS, stack_megabytes=8))
    print(f"{bytes_a_node:.1f} bytes a node at peak")
    assert 30 < bytes_a_node < 100  # a node alone has 32


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer whose signal comes within a call")
@pytest.mark.parametrize("check", [False, True])
def test_ctrl_c_stops_a_long_pass_soon_and_leaves_everything_usable(pg, check):
    ws, x = [pg.Value(1.0) for _ in range(200_000)], pg.Value(1.0)
    root = x * 1.0
    for _ in range(10):
        root = pg.dot(ws, ws, root)  # 400,000 nodes
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            started = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, 0.004)
            root.backward(check=check)
            time.sleep(1)
        stopped = time.perf_counter()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped - started < 0.5
    if not check:  # a checked pass looks at the numbers first
        assert root.grad == 1.0
    assert x.grad == 0.0
    for w in ws:
        w.grad = 0.0
    root.backward()
    assert x.grad == 1.0 and ws[0].grad == 20.0


def test_editing_and_reusing_a_graph(Value):
    x, y = Value(2.0), Value(5.0)
    z = x * y + x
    for data, expected in ((2.0, 6.0), (3.0, 6.0)):
        x.grad = y.grad = 0.0
        x.data = data
        z.backward()
        assert (x.grad, y.grad) == (expected, data)


def reference(inputs, steps):
    """The reference: reverse mode over plain lists, with partials by hand."""
    data = list(inputs)
    partials = [[] for _ in inputs]
    for op, i, j in steps:
        a, b = data[i], data[j]
        value, by_a, by_b = {
            "+": (a + b, 1.0, 1.0),
            "-": (a - b, 1.0, -1.0),
            "*": (a * b, b, a),
            "tanh": (math.tanh(a), 1 - math.tanh(a) ** 2, None),
            "sin": (math.sin(a), math.cos(a), None),
            "exp": (math.exp(math.tanh(a)), math.exp(math.tanh(a)) * (1 - math.tanh(a) ** 2), None),
            "atan": (math.atan(a), 1 / (1 + a * a), None),
        }[op]
        data.append(value)
        partials.append([(i, by_a)] if by_b is None else [(i, by_a), (j, by_b)])
    grads = [0.0] * len(data)
    grads[-1] = 1.0
    for k in range(len(data) - 1, -1, -1):
        for i, partial in partials[k]:
            grads[i] += partial * grads[k]
    return data, grads


def test_random_graphs_equal_plain_reverse_mode(pg, rng):
    for _ in range(300):
        inputs = [rng.uniform(-1, 1) for _ in range(rng.randint(1, 6))]
        count = rng.randint(1, 200)
        steps = []
        for k in range(count):
            size = len(inputs) + k
            steps.append(
                (rng.choice(["+", "-", "*", "tanh", "sin", "exp", "atan"]), rng.randrange(size), rng.randrange(size))
            )
        if rng.random() < 0.3:
            [pg.Value(0.0) + 1 for _ in range(rng.randint(1, 5000))]  # garbage between
        values = [pg.Value(x) for x in inputs]
        for op, i, j in steps:
            a, b = values[i], values[j]
            if op in "+-*":
                values.append({"+": a + b, "-": a - b, "*": a * b}[op])
            else:
                values.append(a.tanh().exp() if op == "exp" else getattr(a, op)())
        if rng.random() < 0.3:
            pg.collect()
        values[-1].backward()
        data, grads = reference(inputs, steps)
        if max(map(abs, data)) > 1e6:
            continue
        scale = max(1.0, *map(abs, grads))
        assert all(close(v.data, d, 1e-12) for v, d in zip(values, data))
        assert all(abs(v.grad - g) <= 1e-12 * scale for v, g in zip(values, grads))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_checked_pass_sees_both_operands_of_a_step(Value, swapped):
    small, big = Value(1e-150), Value(1e150)
    product = big * small if swapped else small * big
    with pytest.raises(FloatingPointError, match="inf"):
        (product * 1e200).backward(check=True)
    assert math.isinf(small.grad) and math.isfinite(big.grad)
