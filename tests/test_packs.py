"""What recorded functions compute once runs in packs of alike operations: beside Values, loops, lanes and files.

tests/c/test_packs.c has the random programs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

np = pytest.importorskip("numpy")

COUNT = 60
rng = np.random.default_rng(7)
X = rng.normal(size=COUNT)
W = rng.normal(size=(16, COUNT))


def wide(pg, x, w=W):
    """Rows, columns, alike functions, and sums of all lengths."""
    hidden = [pg.math.tanh(sum(a * b for a, b in zip(row, x))) for row in w]
    curved = sum(100.0 * (b - a * a) * (b - a * a) + (1.0 - a) * (1.0 - a) for a, b in zip(x, x[1:]))
    return sum(h * h for h in hidden) / (1.0 + curved) + sum(hidden) * pg.math.exp(-x[0])


def close(a, b):
    return np.allclose(a, b, rtol=1e-12, atol=1e-13 * np.abs(b).max())


def test_values_and_gradients_are_those_of_values(pg):
    x = [pg.Value(number) for number in X]
    root = wide(pg, x, W.tolist())
    root.backward()
    value, gradient = pg.value_and_grad(lambda x: wide(pg, x))(X)
    assert value == pytest.approx(root.data, rel=1e-13)
    assert close(gradient, np.array([leaf.grad for leaf in x]))


def test_a_loop_reads_and_leaves_what_packs_make(pg):
    def function(x, scan):
        y = [pg.math.tanh(a * b + 0.1) for a, b in zip(x, x[1:])]

        def step(carry, row):
            s = carry[0] * 0.5 + row
            return (s, carry[1] + s * y[3]), s * y[5]

        if scan:
            (s, t), rows = pg.scan(step, (y[0], y[1]), np.linspace(0.0, 1.0, 9))
            rows = list(rows)
        else:
            s, t, rows = y[0], y[1], []
            for row in np.linspace(0.0, 1.0, 9):
                (s, t), made = step((s, t), row)
                rows.append(made)
        z = [pg.math.exp(a * s) - t * b for a, b in zip(y, y[2:])]
        return sum(a * b for a, b in zip(z, z[1:])) + sum(rows)

    by_scan = pg.value_and_grad(lambda x: function(x, True))(X)
    unrolled = pg.value_and_grad(lambda x: function(x, False))(X)
    assert by_scan[0] == pytest.approx(unrolled[0], rel=1e-12)
    assert close(by_scan[1], unrolled[1])


def test_a_loops_step_may_be_of_packs(pg):
    def step(state, _):
        return [pg.math.tanh(0.3 * a + 0.7 * b - c) for a, b, c in zip(state, state[1:] + state[:1], X)], None

    def looped(x):
        return sum(pg.scan(step, list(x), None, length=7)[0])

    def unrolled(x):
        state = list(x)
        for _ in range(7):
            state, _none = step(state, None)
        return sum(state)

    (value, gradient), expected = pg.value_and_grad(looped)(X), pg.value_and_grad(unrolled)(X)
    assert value == pytest.approx(expected[0], rel=1e-12)
    assert close(gradient, expected[1])


def test_lanes_read_what_packs_make_and_packs_read_sums_over_lanes(pg):
    points = rng.normal(size=(21, 3))

    def function(x):
        y = [pg.math.tanh(a * b) for a, b in zip(x, x[1:])]
        sums = pg.vmap(lambda p: (p[0] * y[0] + p[1] * y[1]) * pg.math.exp(y[2] * p[2]), reduce="sum")(points)
        return sum(pg.math.tanh(sums * a + b) for a, b in zip(y, y[1:]))

    def by_hand(x):
        y = [pg.math.tanh(a * b) for a, b in zip(x, x[1:])]
        sums = sum((p[0] * y[0] + p[1] * y[1]) * pg.math.exp(y[2] * p[2]) for p in points.tolist())
        return sum(pg.math.tanh(sums * a + b) for a, b in zip(y, y[1:]))

    (value, gradient), expected = pg.value_and_grad(function)(X), pg.value_and_grad(by_hand)(X)
    assert value == pytest.approx(expected[0], rel=1e-12)
    assert close(gradient, expected[1])


def test_a_long_sum_goes_by_strips(pg):
    x = rng.normal(size=3000)

    def function(x, w):
        s = 0.5
        for a in x:
            s = s + pg.math.tanh(a * w + 0.1) * a
        return s

    value, (dx, dw) = pg.value_and_grad(function, argnums=(0, 1))(x, 0.3)
    t = np.tanh(0.3 * x + 0.1)
    assert value == pytest.approx(0.5 + (t * x).sum(), rel=1e-12)
    assert close(dx, t + x * (1 - t * t) * 0.3)
    assert dw == pytest.approx((x * x * (1 - t * t)).sum(), rel=1e-12)


def test_files_and_threads_give_the_same_bits(pg, tmp_path):
    run = pg.value_and_grad(lambda x: wide(pg, x))
    value, gradient = run(X)
    run.program(X).save(tmp_path / "wide.pygrad")
    loaded = pg.Program.load(tmp_path / "wide.pygrad")
    with ThreadPoolExecutor(4) as pool:
        for again in [loaded(X), *pool.map(lambda _: run(X), range(8))]:
            assert again[0] == value
            assert (again[1] == gradient).all()


def test_many_calls_leave_other_runs_alone(pg):
    """Constants of packs, and places that steps use again, belong to one run."""
    run = pg.value_and_grad(lambda x: wide(pg, x))
    first = run(X)
    other = run(2.0 * X)
    assert other[0] != first[0]
    assert (run(X)[1] == first[1]).all()
    assert (run(2.0 * X)[1] == other[1]).all()
