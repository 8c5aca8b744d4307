"""scan, fori_loop, while_loop, cond, switch, checkpoint: they compute what Python's own loops and branches do."""

import importlib.util
import os
import pickle
import signal
import threading
import time
from collections import Counter

import pytest

np = pytest.importorskip("numpy")

import loops  # noqa: E402

LONG = bool(os.environ.get("LONG"))
SEED = int(os.environ.get("SEED", np.random.default_rng().integers(10**9)))
TRANSFORMS = ("jit", "grad", "value_and_grad", "jacfwd", "hessian", "hvp", "jvp", "vmap")
NAMES = ("scan", "fori_loop", "while_loop", "cond", "switch", "checkpoint")


# ---- Random functions ------------------------------------------------------------------------------------


def leaves(pg, x):
    return [np.asarray(leaf, dtype=float) for leaf in pg.tree_leaves(x)]


def results_of(pg, program, main, arguments):
    """The results with recorded loops, and with unrolled ones."""
    math = pg.math
    names = {name: getattr(pg, name) for name in TRANSFORMS}
    names |= {name: getattr(math, name) for name in ("sin", "cos", "tanh", "where")}
    names |= {"array": np.stack, "np": np}
    found = []
    for extra in (
        {name: getattr(pg, name) for name in NAMES},
        loops.plain(math.where, lambda condition: math.where(condition, 1.0, 0.0)),
    ):
        space = {**names, **extra, **arguments}
        exec(program.text, space)
        found.append(leaves(pg, eval(main, space)))
    return found


def is_alike(got, expected):
    return len(got) == len(expected) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-8, atol=1e-9, equal_nan=True) for a, b in zip(got, expected)
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_random_functions_with_loops_equal_unrolled_ones(pg, depth):
    first, count = SEED * 1000, (3000 if LONG else 120) // depth
    if "PROGRAM" in os.environ:
        first, count = int(os.environ["PROGRAM"]), 1
    print(f"SEED={SEED}")
    taken = Counter()
    mains = list(loops.MAINS)
    for seed in range(first, first + count):
        program, main = loops.Loops(seed, depth), mains[seed % len(mains)]
        got, expected = results_of(pg, program, loops.MAINS[main], loops.arguments(seed))
        assert is_alike(got, expected), f"PROGRAM={seed}, {main}:\n{program.text}\n{got}\nnot {expected}"
        taken.update([main, *program.features])
    if count > 1:
        assert {*mains} <= {*taken}
        wanted = {"scan", "scan of rows", "scan of values", "stacked", "fori_loop", "while_loop", "cond", "switch"}
        assert {*wanted, "checkpoint", "grad", "vmap", "results of steps"} <= {*taken}


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_random_functions_with_loops_equal_jax():
    import jax

    import pygrad

    jax.config.update("jax_enable_x64", True)
    jnp, lax = jax.numpy, jax.lax

    def scan(f, init, xs=None, length=None, reverse=False, checkpoint=None):
        def step(carry, x):
            after, y = f(carry, x)
            return after, 0.0 if y is None else y

        last, ys = lax.scan(step, jax.tree_util.tree_map(jnp.float64, init), xs, length=length, reverse=reverse)
        return last, ys

    def fori_loop(lower, upper, body, init):
        init = jax.tree_util.tree_map(jnp.float64, init)
        return lax.fori_loop(lower, upper, lambda i, state: body(1.0 * i, state), init)

    def while_loop(test, body, init, max_steps):
        def step(state, _):
            return (
                jax.tree_util.tree_map(lambda a, b: jnp.where(test(state), a, b), body(state), state),
                None,
            )

        return lax.scan(step, jax.tree_util.tree_map(jnp.float64, init), None, length=max_steps)[0]

    def switch(index, branches, *operands):
        return lax.switch(jnp.int64(jnp.floor(index)), branches, *operands)

    def vmap(f, in_axes=0, reduce=None):
        mapped = jax.vmap(f, in_axes)
        return (
            mapped if reduce is None else lambda *args: getattr(mapped(*args), {"sum": "sum", "mean": "mean"}[reduce])()
        )

    theirs = {name: getattr(jax, name) for name in ("jit", "grad", "value_and_grad", "jacfwd", "jvp", "hessian")}
    theirs |= {"vmap": vmap, "hvp": lambda f: lambda x, v: jax.jvp(jax.grad(f), (x,), (v,))[1]}
    theirs |= {"sin": jnp.sin, "cos": jnp.cos, "tanh": jnp.tanh, "array": jnp.stack, "np": np, "cond": lax.cond}
    theirs |= {"scan": scan, "fori_loop": fori_loop, "while_loop": while_loop, "switch": switch}
    theirs |= {"checkpoint": jax.checkpoint}
    print(f"SEED={SEED}")
    mains, compared = list(loops.MAINS), 0
    for seed in range(SEED * 1000 + 500, SEED * 1000 + 500 + (1000 if LONG else 25)):
        program, main = loops.Loops(seed, 1), loops.MAINS[mains[seed % len(mains)]]
        arguments = loops.arguments(seed)
        got, _ = results_of(pygrad, program, main, arguments)
        space = {**theirs, **{name: jnp.asarray(x) for name, x in arguments.items()}}
        exec(program.text, space)
        expected = [np.float64(x) for a in jax.tree_util.tree_leaves(eval(main, space)) for x in np.ravel(a)]
        assert is_alike(got, expected), f"PROGRAM={seed}, {main}:\n{program.text}\n{got}\nnot {expected}"
        compared += 1
    assert compared >= 25


# ---- scan ------------------------------------------------------------------------------------------------


def test_scan_carries_and_stacks(pg):
    xs = np.array([1.0, 2.0, 3.0])
    last, made = pg.jit(lambda xs: pg.scan(lambda c, x: (c + x, {"before": c, "row": [c * x]}), 0.0, xs))(xs)
    assert last == 6.0 and made["before"].tolist() == [0, 1, 3] and made["row"][0].tolist() == [0, 2, 9]
    last, made = pg.jit(lambda xs: pg.scan(lambda c, x: (c + x, c), 0.0, xs, reverse=True))(xs)
    assert last == 6.0 and made.tolist() == [5, 3, 0]


@pytest.mark.parametrize("state", [(), None, [], {}])
def test_a_state_may_be_empty(pg, state):
    xs = np.array([1.0, 2.0])
    last, ys = pg.jit(lambda xs: pg.scan(lambda c, x: (c, x * x), state, xs))(xs)
    assert last == state and ys.tolist() == [1, 4]
    assert pg.grad(lambda xs: pg.scan(lambda c, x: (c, x * x), state, xs)[1].sum())(xs).tolist() == [2, 4]
    last, ys = pg.vmap(lambda a: pg.scan(lambda c, x: (c, x * a), state, xs))(xs)
    assert ys.tolist() == [[1, 2], [2, 4]]


def test_states_and_rows_are_trees_of_numbers_and_arrays(pg):
    A, b = np.arange(12.0).reshape(3, 2, 2), np.array([1.0, -1.0, 2.0])

    def f(A, b, w):
        def step(state, row):
            y = row["A"] @ state["y"] + row["b"]
            return {"y": y, "n": state["n"] + 1}, (y, None)

        return pg.scan(step, {"y": w, "n": 0}, {"A": A, "b": b})

    last, (ys, none) = pg.jit(f)(A, b, np.array([0.1, 0.2]))
    y, expected = np.array([0.1, 0.2]), []
    for t in range(3):
        y = A[t] @ y + b[t]
        expected.append(y)
    assert none is None and last["n"] == 3.0
    np.testing.assert_allclose(ys, expected)
    np.testing.assert_allclose(last["y"], y)


@pytest.mark.parametrize(
    "view",
    ["X", "X.T", "X[::-1]", "X[:, ::-1]", "X[:, 1]", "X[1:]", "2 * X", "K", "K.T[::2]", "np.stack([X[0], X[1]])",
     "vmap(lambda r: r * r)(X)", "grad(lambda X: (X ** 3).sum())(X)", "X.reshape(2, 6)", "np.sin(K)"],
)  # fmt: skip
def test_rows_come_from_any_array(pg, view):
    X, K = np.random.default_rng(1).normal(size=(3, 4)), np.random.default_rng(2).normal(size=(4, 3))
    names = {"np": np, "K": K, "vmap": pg.vmap, "grad": pg.grad}

    def f(X, w, loop):
        rows = eval(view, {**names, "X": X})
        return loop(lambda c, r: (c * w + np.sum(r * r) * c.sin(), np.sum(r * c)), w, rows)

    def unrolled(step, carry, rows):
        made = []
        for row in rows:
            carry, y = step(carry, row)
            made.append(y)
        return carry, np.stack(made)

    for of in (lambda loop: lambda X, w: f(X, w, loop)[0], lambda loop: lambda X, w: f(X, w, loop)[1].sum()):
        got, expected = (pg.value_and_grad(of(loop), argnums=(0, 1))(X, 0.7) for loop in (pg.scan, unrolled))
        assert is_alike(leaves(pg, got), leaves(pg, expected))


@pytest.mark.parametrize("checkpoint", ["auto", None, 1, 7, 100, 5000])
@pytest.mark.parametrize("reverse", [False, True])
def test_checkpoints_change_no_result(pg, checkpoint, reverse):
    xs = np.random.default_rng(3).normal(size=100)

    def f(w, xs, **options):
        last, ys = pg.scan(lambda c, x: ((c * w + x).tanh(), c * x), 0.1, xs, reverse=reverse, **options)
        return last + ys.sum()

    got = pg.value_and_grad(lambda w, xs: f(w, xs, checkpoint=checkpoint), argnums=(0, 1))(0.9, xs)
    expected = pg.value_and_grad(lambda w, xs: f(w, xs, checkpoint=None), argnums=(0, 1))(0.9, xs)
    assert is_alike(leaves(pg, got), leaves(pg, expected))


def test_long_loops_are_built_in_little_time_and_memory():
    import pygrad as pg

    def f(r, steps):
        return pg.scan(lambda c, _: (c + r * c * (1 - c), None), 0.1, length=steps)[0]

    slope = pg.grad(lambda r: f(r, 300_000))
    got = slope(1e-5)
    c, d = 0.1, 0.0
    for _ in range(300_000):
        c, d = c + 1e-5 * c * (1 - c), d + c * (1 - c) + 1e-5 * (1 - 2 * c) * d
    assert got == pytest.approx(d, rel=1e-9)
    (program,) = slope.programs
    assert program.stats.nodes < 20_000 and program.stats.uniform_registers < 5000


# ---- Other loops -----------------------------------------------------------------------------------------


def test_fori_loop_counts(pg):
    assert pg.jit(lambda x: pg.fori_loop(2, 5, lambda i, y: y * x + i, 0.0))(2.0) == 2 * 4 + 3 * 2 + 4
    assert pg.jit(lambda x: pg.fori_loop(3, 3, lambda i, y: y * x, x))(2.0) == 2.0
    assert pg.grad(lambda x: pg.fori_loop(0, 3, lambda i, y: y * x, 1.0))(2.0) == 12.0
    known = pg.jit(lambda x, n: pg.fori_loop(0, n, lambda i, y: y * x, 1.0))
    assert [known(2.0, n) for n in (0.0, 1.0, 10.0)] == [1.0, 2.0, 1024.0]
    assert pg.jvp(known, (2.0, 3.0), (1.0, 0.0)) == (8.0, 12.0)


def test_lanes_of_a_while_loop_run_to_their_own_end(pg):
    X = np.concatenate([np.linspace(0.01, 50.0, 997), [0.0, 1e300, 1.0]])

    def halvings(x):
        return pg.while_loop(lambda s: s[0] > 1.0, lambda s: (s[0] / 2, s[1] + 1), (x, 0.0), max_steps=2000)

    expected = [max(0, int(np.ceil(np.log2(x)))) if x > 1 else 0 for x in X]
    for workers in (1, 2):
        last, steps = pg.vmap(halvings, workers=workers)(X)
        assert steps.tolist() == expected and (last <= 1.0).all()
    np.testing.assert_array_equal(pg.vmap(pg.grad(lambda x: halvings(x)[0]))(X), 0.5 ** np.array(expected))


def test_while_loop_ends_at_max_steps(pg):
    f = pg.jit(lambda x: pg.while_loop(lambda y: y < 100.0, lambda y: y * x, 1.0, max_steps=3))
    assert f(2.0) == 8.0 and f(200.0) == 200.0
    g = pg.grad(lambda x: pg.while_loop(lambda y: y < 100.0, lambda y: y * x, 1.0, max_steps=3))
    assert g(2.0) == 12.0 and g(200.0) == 1.0


def test_reverse_through_a_while_loop_needs_max_steps(pg):
    def f(x):
        return pg.while_loop(lambda y: y < 100.0, lambda y: y * x, 1.0)

    assert pg.jit(f)(2.0) == 128.0 and pg.jacfwd(f)(2.0) == 7 * 64.0
    with pytest.raises(pg.RecordingError, match="max_steps="):
        pg.grad(f)(2.0)


# ---- Branches --------------------------------------------------------------------------------------------


def test_only_the_branch_that_is_taken_counts(pg):
    def f(x):
        return pg.cond(x > 0.0, lambda: x.log(), lambda: 0.0 * x)

    assert pg.jit(f)(0.0) == 0.0 and pg.grad(f)(0.0) == 0.0 and pg.grad(f)(2.0) == 0.5
    np.testing.assert_array_equal(pg.vmap(pg.grad(f))(np.array([-1.0, 0.0, 4.0])), [0.0, 0.0, 0.25])


def test_switch_clamps_its_index(pg):
    branches = [lambda x: x, lambda x: {"a": x}["a"] * 10, lambda x: -x]
    f = pg.jit(lambda i, x: pg.switch(i, branches, x))
    assert [f(i, 2.0) for i in (-3.0, 0.0, 1.0, 1.9, 2.0, 9.0, float("nan"))] == [2, 2, 20, 20, -2, -2, 2]
    assert [pg.switch(i, branches, 2.0) for i in (-3, 0, 1, 2, 9)] == [2, 2, 20, -2, -2]


def test_checkpoint_computes_the_same(pg):
    def f(x, y):
        return (x * y).sin() + y

    assert pg.checkpoint(f)(2.0, pg.Value(3.0)).data == f(2.0, pg.Value(3.0)).data
    got = pg.value_and_grad(pg.checkpoint(f), argnums=(0, 1))(2.0, 3.0)
    assert got == pg.value_and_grad(f, argnums=(0, 1))(2.0, 3.0)
    assert pg.grad(pg.checkpoint(policy=None)(lambda x: x**3))(2.0) == 12.0


# ---- Around them -----------------------------------------------------------------------------------------


def test_captured_values_are_read_at_every_call(pg):
    k, data = pg.Value(2.0), np.array([1.0, 2.0])
    f = pg.jit(lambda x: pg.scan(lambda c, r: (c * k + r * x, None), 0.0, data)[0])
    assert f(1.0) == 4.0
    k.data = 3.0
    assert f(1.0) == 5.0


def test_loops_without_derivatives_run_eagerly(pg):
    v = pg.Value(2.0)
    last, ys = pg.scan(lambda c, x: (c * x, c), v, np.array([3.0, 4.0]))
    last.backward()
    assert last.data == 24.0 and v.grad == 12.0 and [y.data for y in ys] == [2.0, 6.0]
    last, ys = pg.scan(lambda c, x: (c * x, c), 2.0, np.array([3.0, 4.0]))
    assert last == 24.0 and ys.dtype == float
    assert pg.while_loop(lambda x: x < 10, lambda x: x * 2, 1.0) == 16.0
    assert pg.fori_loop(0, 3, lambda i, x: x + i, 1.0) == 4.0
    assert pg.grad(lambda x: pg.cond(x > 1, lambda: x**2, lambda: x), record=False)(3.0) == 6.0


def test_custom_rules_and_roots_work_within_steps(pg):
    @pg.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (g * 3 * x**2,))

    def root(a):
        newton = lambda f, x: pg.fori_loop(0, 30, lambda _, x: x - f(x) / pg.grad(f)(x), x)  # noqa: E731
        return pg.custom_root(lambda x: x * x - a, 1.0, newton)

    f = lambda x: pg.scan(lambda c, _: (cube(c).sin() + root(x), None), x, length=3)[0]  # noqa: E731

    def plain(x):
        c = x
        for _ in range(3):
            c = (c**3).sin() + x**0.5
        return c

    for x in (0.3, 1.7):
        assert pg.jit(f)(x) == pytest.approx(pg.jit(plain)(x), rel=1e-12)
        assert pg.grad(f)(x) == pytest.approx(pg.grad(plain)(x), rel=1e-9)
        assert pg.jacfwd(f)(x) == pytest.approx(pg.grad(plain)(x), rel=1e-9)


def test_sparse_jacobians_go_through_loops(pg):
    pytest.importorskip("scipy")

    def f(x):
        return np.stack([pg.fori_loop(0, 3, lambda i, y: (y * v).sin(), v) for v in x])

    x = np.array([0.1, 0.5, 1.2])
    np.testing.assert_allclose(pg.jacobian(f, sparse=True)(x).toarray(), pg.jacobian(f)(x))


def test_programs_with_loops_can_be_pickled_and_saved(pg, tmp_path):
    f = pg.jit(lambda x: pg.scan(lambda c, _: (pg.while_loop(lambda y: y > x, lambda y: y / 2, c) + 1, c), x, length=3))
    g = pg.vmap(lambda x: pg.cond(x > 0, lambda: x * x, lambda: pg.fori_loop(0, 2, lambda i, y: y + x, 0.0)))
    for program, x in ((f.program(0.7), 0.9), (g.program(np.ones(3)), np.array([1.0, -2.0, 3.0]))):
        program.save(tmp_path / "program")
        for copy in (pickle.loads(pickle.dumps(program)), pg.Program.load(tmp_path / "program")):
            assert is_alike(leaves(pg, copy(x)), leaves(pg, program(x)))


def test_threads_record_and_run_loops(pg):
    def work(k):
        f = pg.grad(lambda x: pg.scan(lambda c, _: ((c * x + k).sin(), None), x, length=50)[0])
        found[k] = [f(0.1 * i) for i in range(5)]

    found = {}
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for k in range(4):
        expected = pg.grad(lambda x: _unrolled(x, k))
        assert found[k] == pytest.approx([expected(0.1 * i) for i in range(5)], rel=1e-9)


def _unrolled(x, k):
    c = x
    for _ in range(50):
        c = (c * x + k).sin()
    return c


@pytest.mark.parametrize("in_lanes", [False, True])
def test_ctrl_c_stops_a_long_loop(pg, in_lanes):
    f = lambda x: pg.fori_loop(0, 10**11, lambda i, y: y * x + 1e-3, 1.0)  # noqa: E731
    run, x = (pg.vmap(f), np.full(300, 0.5)) if in_lanes else (pg.jit(f), 0.5)
    run.program(x)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    start = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(x)
    assert time.monotonic() - start < 5


# ---- Errors ----------------------------------------------------------------------------------------------


def leaked(pg, x):
    kept = []
    pg.scan(lambda c, _: (kept.append(c) or c * x, None), x, length=3)
    return kept[0] * 2


CASES = {
    "scan's function must return what it carries in the same structure": lambda pg, x: pg.scan(
        lambda c, _: ((c, c), None), x, length=2
    ),
    "scan needs a function that returns .carry, y.": lambda pg, x: pg.scan(lambda c, _: c, x, length=2),
    "scan needs xs, or length=": lambda pg, x: pg.scan(lambda c, _: (c, None), x),
    r"as many rows everywhere, not \[2, 3\]": lambda pg, x: pg.scan(
        lambda c, _: (c, None), x, (np.ones(2), np.ones(3))
    ),
    "which has no rows": lambda pg, x: pg.scan(lambda c, _: (c, None), x, (np.ones(2), 1.0)),
    "scan over 0 rows": lambda pg, x: pg.scan(lambda c, _: (c, None), x, np.ones((0, 2))),
    "length=0: must be a positive int": lambda pg, x: pg.scan(lambda c, _: (c, None), x, length=0),
    "checkpoint=0: must be a positive int": lambda pg, x: pg.scan(lambda c, _: (c, None), x, length=9, checkpoint=0),
    "checkpoint='all': must be": lambda pg, x: pg.scan(lambda c, _: (c, None), x, length=9, checkpoint="all"),
    "while_loop's body must return what it carries": lambda pg, x: pg.while_loop(
        lambda c: c > 1, lambda c: [c], x, max_steps=2
    ),
    "while_loop's cond_fun must be a condition, not": lambda pg, x: pg.while_loop(lambda c: None, lambda c: c, x),
    "max_steps=0: must be a positive int": lambda pg, x: pg.while_loop(lambda c: c > 1, lambda c: c, x, max_steps=0),
    "cond's pred must be a condition, not": lambda pg, x: pg.cond(np.stack([x, x]) > 0, lambda: x, lambda: -x),
    "the branches of cond must return the same structure": lambda pg, x: pg.cond(x > 0, lambda: x, lambda: [x]),
    "switch needs at least one branch": lambda pg, x: pg.switch(x, []),
    "or of a step or a branch, is used": leaked,
    "debug_print is within a step": lambda pg, x: pg.scan(
        lambda c, _: (pg.debug_print("{}", c) or c, None), x, length=2
    ),
    "where\\(": lambda pg, x: pg.scan(lambda c, _: (c if c > 0 else -c, None), x, length=2),
}


@pytest.mark.parametrize("message", CASES)
def test_mistakes_name_the_way_out(pg, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pg.jit(lambda x: CASES[message](pg, x))(2.0)
    assert pg.jit(lambda x: pg.scan(lambda c, _: (c * x, None), x, length=2)[0])(2.0) == 8.0


def test_drawing_numbers_in_a_step_is_an_error(pg):
    rng = np.random.default_rng(1)
    with pytest.raises(pg.RecordingError, match="random"):
        pg.jit(lambda x: pg.scan(lambda c, _: (c * rng.normal(), None), x, length=2)[0])(2.0)


def test_custom_operations_in_a_step_are_refused(pg):
    op = pg.custom_op(lambda x: x * 2, lambda x, out, grad: (2 * grad,))
    with pytest.raises((pg.RecordingError, TypeError)):
        pg.jit(lambda x: pg.scan(lambda c, _: (op(c), None), x, length=2)[0])(2.0)
