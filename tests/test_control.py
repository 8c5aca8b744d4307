"""scan, fori_loop, while_loop, cond, switch and checkpoint: what they promise, and what they refuse; over both layers.

Random loops are in test_loops.py.
"""

from __future__ import annotations

import os
import random
import threading

import pytest

np = pytest.importorskip("numpy")
import loops  # noqa: E402
from loop_cases import CASES  # noqa: E402
from test_interrupts import AT_MOST, interrupted  # noqa: E402

X = np.array([1.0, 2.0, 3.0])
LONG = bool(os.environ.get("LONG"))
MAINS = [*loops.MAINS.items()]


@pytest.mark.parametrize("name", CASES)
def test_loops_equal_their_unrolled_versions(pg, name):
    at = [*CASES].index(name)
    for main, call in MAINS if LONG else MAINS[at % 5 :: 5]:
        text = f"def f(x, p):{CASES[name]}"
        ours, plain = (loops.run(text, call, names, loops.arguments(7)) for names in loops.of_pygrad(pg))
        assert not loops.differ(ours, plain, 1e-8), f"{main}: {ours}, {plain}\n{text}"


# ---- What is refused ------------------------------------------------------------------------------------

STEPS = {
    "scan": lambda pg, x, step: pg.scan(lambda c, _: (step(c), None), x, length=3)[0],
    "fori_loop": lambda pg, x, step: pg.fori_loop(0, 3, lambda i, c: step(c), x),
    "while_loop": lambda pg, x, step: pg.while_loop(lambda c: True, step, x, max_steps=3),
}


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("kind", STEPS)
def test_a_state_keeps_its_structure_and_shapes(pg, kind, recorded):
    run = pg.jit if recorded else lambda f: f
    what = {"scan": "scan's function", "fori_loop": "fori_loop's body", "while_loop": "while_loop's body"}[kind]
    for step, after in (
        (lambda c: (c, c), r"\(number, number\)"),
        (lambda c: np.stack([c, c]), r"array \(2,\)"),
        (lambda c: None, "None"),
    ):
        with pytest.raises(
            TypeError, match=f"{what} must return what it carries .*takes a number, and returns {after}"
        ):
            run(lambda x, step=step: STEPS[kind](pg, x, step))(1.0)


def same(c, r):
    return c, None


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda pg, x: pg.scan(same, x, (X, X[:2])), ValueError, r"as many rows everywhere, not \[2, 3\]"),
        (lambda pg, x: pg.scan(same, x, X, length=2), ValueError, r"as many rows everywhere, not \[2, 3\]"),
        (lambda pg, x: pg.scan(same, x, (X, x)), ValueError, "xs holds .*, which has no rows: carry it"),
        (lambda pg, x: pg.scan(same, x, 3), ValueError, "xs holds 3, which has no rows"),
        (lambda pg, x: pg.scan(same, x, [1.0, 2.0]), ValueError, "xs holds 1.0, which has no rows"),
        (lambda pg, x: pg.scan(same, x, np.array(3.0)), ValueError, "xs holds 3.0, which has no rows"),
        (lambda pg, x: pg.scan(same, x), ValueError, "scan needs xs, or length="),
        (lambda pg, x: pg.scan(same, x, ()), ValueError, "scan needs xs, or length="),
        (lambda pg, x: pg.scan(same, x, X[:0]), ValueError, "scan over 0 rows: there is no step"),
        (lambda pg, x: pg.scan(same, x, length=0), ValueError, "length=0: must be a positive int"),
        (lambda pg, x: pg.scan(same, x, length=-1), ValueError, "length=-1: must be a positive int"),
        (lambda pg, x: pg.scan(same, x, length=True), ValueError, "length=True: must be a positive int"),
        (lambda pg, x: pg.scan(same, x, length=2.0), ValueError, "length=2.0: must be a positive int"),
        (lambda pg, x: pg.scan(same, x, X, checkpoint=0), ValueError, "checkpoint=0: must be None, 'auto' or a pos"),
        (lambda pg, x: pg.scan(same, x, X, checkpoint="x"), ValueError, "checkpoint='x': must be None, 'auto' or a"),
        (lambda pg, x: pg.scan(lambda c, r: c, x, X), TypeError, r"a function that returns \(carry, y\), not"),
        (lambda pg, x: pg.scan(lambda c, r: (c, c, c), x, X), TypeError, r"a function that returns \(carry, y\), not"),
        (lambda pg, x: pg.scan(lambda c, r: np.stack([c, c]), x, X), TypeError, r"that returns \(carry, y\), not"),
        (lambda pg, x: pg.while_loop(lambda c: (c,), lambda c: c, x), TypeError, "cond_fun must be a number, not"),
        (lambda pg, x: pg.while_loop(lambda c: None, lambda c: c, x), TypeError, "cond_fun must be a number, not None"),
        (lambda pg, x: pg.while_loop(lambda c: c, lambda c: c, x, max_steps=0), ValueError, "max_steps=0: must be a"),
        (lambda pg, x: pg.cond((x,), lambda: x, lambda: x), TypeError, "cond's pred must be a number, not"),
        (lambda pg, x: pg.cond(X > 1, lambda: x, lambda: x), TypeError, "cond's pred must be a number, not"),
        (lambda pg, x: pg.switch(X, [lambda: x]), TypeError, "switch's index must be a number, not"),
        (lambda pg, x: pg.switch(x, []), ValueError, "switch needs at least one branch"),
        (lambda pg, x: pg.scan(lambda c, r: 1 / 0, x, X), ZeroDivisionError, "division by zero"),
    ],
)
def test_mistakes_are_named(pg, call, error, message, recorded):
    run = pg.jit if recorded else lambda f: f
    with pytest.raises(error, match=message):
        run(lambda x: call(pg, x))(1.0)
    assert pg.jit(lambda x: pg.scan(lambda c, r: (c * r, None), x, X)[0])(1.0) == 6.0  # all is well afterwards


def test_results_of_steps_have_one_structure_without_a_recording(pg):
    with pytest.raises(TypeError, match="results of the same structure and shapes at every step, not a number and"):
        pg.scan(lambda c, r: (c + 1, c if c < 2 else (c, c)), 1.0, X)


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        (lambda x: (lambda: x, lambda: (x, x)), r"one returns \(number, number\), another a number"),
        (lambda x: (lambda: {"a": x}, lambda: {"b": x}), "the same structure and shapes: one returns"),
        (lambda x: (lambda: X, lambda: X[:2]), "the same structure and shapes: one returns"),
    ],
)
def test_branches_return_the_same_structure(pg, branches, message):
    with pytest.raises(TypeError, match=f"the branches of cond must return .*{message}"):
        pg.jit(lambda x: pg.cond(x > 0, *branches(x)))(1.0)
    with pytest.raises(TypeError, match="the branches of switch must return the same structure"):
        pg.jit(lambda x: pg.switch(x, branches(x)))(1.0)


def test_what_a_step_cant_do_is_an_error_that_says_so(pg):
    def run(step):
        return pg.jit(lambda x: pg.scan(lambda c, r: (step(c), None), x, X)[0])(1.0)

    double = pg.custom_op(lambda x: 2 * x, lambda g, y, x: 2 * g, "double")
    draws = np.random.default_rng(0)
    for step, message in (
        (lambda c: pg.debug_print("{}", c) or c, "debug_print is within a step of a loop"),
        (double, "custom operation double is Python code"),
        (lambda c: c * double(pg.Value(2.0)), "custom operation double is Python code"),
        (lambda c: c * random.random(), "draws random numbers"),
        (lambda c: c * draws.random(), "draws random numbers"),
        (lambda c: c * float(c), r"float\(\) needs a number"),
        (lambda c: c if c > 0 else -c, "`if`, `while`, `and` and `in` need a number"),
        (lambda c: c * c.data, "a Value has no `.data` while"),
    ):
        with pytest.raises(pg.RecordingError, match=message):
            run(step)
    with pytest.raises(pg.RecordingError, match="debug_print is within a step of a loop, or a branch"):
        pg.jit(lambda x: pg.cond(x > 0, lambda: pg.debug_print("{}", x) or x, lambda: x))(1.0)
    with pytest.raises(RuntimeError, match="use grad or value_and_grad"):
        run(lambda c: c.backward() or c)
    sums = pg.grad(lambda x: pg.scan(lambda c, r: (double(c), None), x, X)[0], record=False)
    assert sums(1.0) == 8.0


def test_a_while_loop_needs_max_steps_in_reverse(pg):
    def f(x, most=None):
        return pg.while_loop(lambda c: c < 9.0, lambda c: c * x, x, max_steps=most)

    for g in (
        f,
        lambda x: pg.scan(lambda c, _: (f(c), None), x, length=2)[0],
        lambda n: pg.fori_loop(0, n, lambda i, c: c * n, n),
    ):
        with pytest.raises(pg.RecordingError, match=r"write max_steps=, or use jvp or jacfwd"):
            pg.grad(g)(2.0)
    assert pg.jit(f)(2.0) == 16.0 and pg.jvp(f, (2.0,), (1.0,)) == (16.0, 32.0) and pg.jacfwd(f)(2.0) == 32.0
    assert pg.grad(lambda x: f(x, 20))(2.0) == 32.0
    assert pg.vmap(pg.grad(lambda x: f(x, 20)))(X + 1).tolist() == [32.0, 6.0, 8.0]


LEAKS = {
    "a carried number": lambda c, r: c,
    "what is made of it": lambda c, r: c * r,
    "a row": lambda c, r: r,
}


@pytest.mark.parametrize("what", LEAKS)
@pytest.mark.parametrize(
    "use",
    [
        lambda pg, x, kept: x + kept,
        lambda pg, x, kept: kept,
        lambda pg, x, kept: pg.scan(lambda c, r: (c * kept, None), x, X)[0],
        lambda pg, x, kept: pg.cond(x > 0, lambda: kept, lambda: x),
        lambda pg, x, kept: pg.vmap(lambda a: a * kept)(X).sum(),
    ],
    ids=["outside", "as the result", "in another loop", "in a branch", "in a vmap"],
)
def test_a_value_of_a_step_has_no_value_outside(pg, what, use):
    def f(x, xs):
        kept = []
        last = pg.scan(lambda c, r: (kept.append(LEAKS[what](c, r)) or c * r, None), x, xs)[0]
        return use(pg, last, kept[0])

    for given in (X, np.ones(3)):
        with pytest.raises(pg.RecordingError, match="it has no value outside of that function. Return it from there"):
            pg.jit(f)(1.0, given)


def test_rows_lanes_and_loops_of_a_step_have_no_value_outside(pg):
    """Each has a number that something outside has, too."""

    def leaked(make):
        def f(x, rows):
            kept = []
            pg.scan(lambda c, _: (c * x, None), x, length=2)
            last = pg.scan(lambda c, r: (kept.append(make(x, c, r)) or c * r[0], None), x, rows)[0]
            return kept[0], last

        return f

    row = leaked(lambda x, c, r: r)
    loop = leaked(lambda x, c, r: pg.scan(lambda d, _: (d * x * 7, None), x, length=2)[0])
    lanes = leaked(lambda x, c, r: pg.vmap(lambda a: a * c)(X))
    for f in (
        lambda x, rows: row(x, rows)[0][1],
        lambda x, rows: pg.vmap(lambda a: a * a)(row(x, rows)[0]),
        lambda x, rows: pg.scan(lambda c, r: (c * row(x, rows)[0][1], None), x, rows)[0],
        lambda x, rows: loop(x, rows)[0],
        lambda x, rows: lanes(x, rows)[0],
        lambda x, rows: lanes(x, rows)[0][1],
    ):
        with pytest.raises(pg.RecordingError, match="it has no value outside of that function|outside of its vmap"):
            pg.jit(f)(2.0, np.arange(6.0).reshape(3, 2))


def test_lanes_have_no_value_in_loops_after_their_vmap(pg):
    def f(xs):
        kept = []
        pg.vmap(lambda a: kept.append(a) or a)(xs)
        return pg.scan(lambda c, _: (c * kept[0], None), 1.0, length=2)[0]

    with pytest.raises(pg.RecordingError, match="outside of its vmap"):
        pg.jit(f)(X)


def test_arrays_have_no_elements_after_their_recording(pg):
    kept = []
    pg.jit(lambda xs: kept.append(xs) or xs.sum())(X)
    for f in (lambda xs: kept[0][1] * xs.sum(), lambda xs: pg.vmap(lambda a: a * xs[0])(kept[0])):
        with pytest.raises(pg.RecordingError, match="of a function that was recorded before"):
            pg.jit(f)(X)


def test_a_copy_that_a_derivative_was_taken_by_has_no_elements_afterwards(pg):
    kept = []
    pg.jit(pg.grad(lambda xs: kept.append(xs) or xs[0] * xs[0]))(X)
    pg.jit(lambda y: pg.grad(lambda xs: kept.append(xs) or xs[0] * xs[0])(y * 2))(X)
    for copy in kept:
        assert "without a value" in repr(copy[0])
        with pytest.raises(pg.RecordingError, match="of a function that was recorded before"):
            pg.jit(lambda z: z * copy[1])(2.0)


# ---- Numbers ------------------------------------------------------------------------------------------------


def test_an_index_is_cut_to_a_whole_number_and_clamped(pg):
    branches = [lambda: 10.0, lambda: 11.0, lambda: 12.0]
    recorded = pg.jit(lambda i: pg.switch(i, branches))
    for i, chosen in (
        *((-np.inf, 10.0), (-1, 10.0), (-0.5, 10.0), (0, 10.0), (0.99, 10.0), (1, 11.0), (1.5, 11.0), (2, 12.0)),
        *((7, 12.0), (1e300, 12.0), (np.inf, 12.0), (np.nan, 10.0)),
    ):
        assert recorded(i) == pg.switch(i, branches) == pg.switch(pg.Value(i), branches) == chosen, i
        assert pg.vmap(lambda i: pg.switch(i, branches))(np.array([0.0, i, 2.0])).tolist() == [10.0, chosen, 12.0], i


def test_nan_as_a_condition_holds_as_in_python(pg):
    for recorded in (pg.jit, lambda f: f):
        assert recorded(lambda x: pg.cond(x, lambda: 1.0, lambda: 2.0))(np.nan) == 1.0
        assert recorded(lambda x: pg.cond(x > 0, lambda: 1.0, lambda: 2.0))(np.nan) == 2.0
        assert recorded(lambda x: pg.while_loop(lambda c: c > 0, lambda c: c - 1, x))(np.nan) is not None


def test_nan_and_inf_pass_through_loops(pg):
    def f(x):
        last, all_of_them = pg.scan(lambda c, r: (c * r, c + r), x, np.array([np.inf, 2.0, -1.0]))
        return last, all_of_them

    assert pg.jit(f)(1.0)[0] == -np.inf and pg.jit(f)(1.0)[1].tolist() == [np.inf, np.inf, np.inf]
    assert np.isnan(pg.jit(f)(0.0)[0]) and pg.grad(lambda x: f(x)[0])(1.0) == -np.inf
    lanes = pg.vmap(lambda x: pg.while_loop(lambda c: c < 5.0, lambda c: c * 2.0, x, max_steps=9))(
        np.array([1.0, np.nan, np.inf, -np.inf, 0.0])
    )
    np.testing.assert_equal(lanes, [8.0, np.nan, np.inf, -np.inf, 0.0])


@pytest.mark.parametrize("first", [2, True, np.float32(2), np.int64(2), np.array(2.0), "Value"])
def test_a_state_may_be_any_number(pg, first):
    number = 2.0 if isinstance(first, str) else float(first)

    def f(x):
        return pg.scan(lambda c, r: (c * r * x, c), pg.Value(2.0) if isinstance(first, str) else first, X)

    last, before = pg.jit(f)(1.0)
    assert last == 6.0 * number and before.tolist() == [number * k for k in (1, 1, 2)]
    assert pg.grad(lambda x: f(x)[0])(1.0) == 18.0 * number


# ---- What is outside --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [(), None, [], {}])
def test_a_state_may_be_empty(pg, state):
    xs = np.array([1.0, 2.0])
    last, ys = pg.jit(lambda xs: pg.scan(lambda c, x: (c, x * x), state, xs))(xs)
    assert last == state and ys.tolist() == [1, 4]
    assert pg.grad(lambda xs: pg.scan(lambda c, x: (c, x * x), state, xs)[1].sum())(xs).tolist() == [2, 4]
    assert pg.vmap(lambda a: pg.scan(lambda c, x: (c, x * a), state, xs)[1])(xs).tolist() == [[1, 2], [2, 4]]


def test_captured_values_are_read_at_every_call(pg):
    v, vs = pg.Value(2.0), np.array([pg.Value(1.0), pg.Value(2.0), pg.Value(3.0)], dtype=object)
    functions = {
        "a number": lambda x: pg.scan(lambda c, r: (c * v * r, None), x, X)[0],
        "rows": lambda x: pg.scan(lambda c, r: (c * r * v, None), x, vs)[0],
        "an array": lambda x: pg.scan(lambda c, r: (c * (vs * r).sum() * v, None), x, X)[0],
        "in two loops": lambda x: pg.scan(
            lambda c, r: (pg.scan(lambda d, s: (d * v * s, None), c, vs)[0], None), x, X[:2]
        )[0],
        "in a branch": lambda x: pg.cond(x > 0, lambda: v * x * vs[1], lambda: v),
        "in lanes": lambda x: pg.vmap(lambda a: pg.scan(lambda c, r: (c * v * a, None), x, vs)[0])(X).sum(),
    }
    for name, f in functions.items():
        values, slopes = pg.jit(f), pg.grad(f)
        before = values(1.0), slopes(1.0)
        assert name == "in lanes" or f(pg.Value(1.0)).data == pytest.approx(before[0], rel=1e-14)
        v.data, vs[1].data = 3.0, 5.0
        after = values(1.0), slopes(1.0)
        assert after == (pg.jit(f)(1.0), pg.grad(f)(1.0)) and before[0] != after[0] and before[1] != after[1], name
        v.data, vs[1].data = 2.0, 2.0
        assert (values(1.0), slopes(1.0)) == before, name


def test_views_of_arguments_and_of_other_arrays_are_scanned(pg):
    big = np.arange(48.0).reshape(4, 3, 4) / 40
    views = {
        "as it is": lambda a: a,
        "strided": lambda a: a[::2],
        "reversed": lambda a: a[::-1],
        "transposed": lambda a: a.T,
        "columns": lambda a: a[:, 1],
        "a part": lambda a: a[1:3, :2, ::3],
        "swapped": lambda a: np.swapaxes(a, 0, 1),
        "computed": lambda a: a * 2.0,
        "repeated": lambda a: np.broadcast_to(a[0], (3, 3, 4)),
    }

    def f(x, a, view):
        last, rows = pg.scan(lambda c, r: (c * 0.5 + (r * r).sum() * x, r.ravel()[-1] * c), x, view(a))
        return last + (rows * rows).sum()

    for name, view in views.items():
        for args in ((0.5, big), (0.5, np.asfortranarray(big)), (0.5, big.astype("f4"))):
            ours = pg.grad(lambda x, a, view=view: f(x, a, view), argnums=(0, 1))(*args)
            plain = pg.grad(lambda x, a, view=view: f(x, a, view), argnums=(0, 1), record=False)(*args)
            captured = pg.grad(lambda x, a=args[1], view=view: f(x, a, view))(0.5)
            np.testing.assert_allclose(ours[0], plain[0], rtol=1e-12, err_msg=name)
            np.testing.assert_allclose(ours[1], plain[1], rtol=1e-12, err_msg=name)
            np.testing.assert_allclose(captured, plain[0], rtol=1e-6 if args[1].dtype == "f4" else 1e-12, err_msg=name)


@pytest.mark.parametrize("recorded", [True, False])
def test_trees_of_rows_and_of_results(pg, recorded):
    run = pg.jit if recorded else lambda f: f

    def step(c, r):
        return {"n": c["n"] + r["a"], "m": c["m"] * r["b"][0].sum()}, (c["n"], {"k": r["b"][0], "none": None})

    xs = {"a": X, "b": [np.arange(6.0).reshape(3, 2)], "c": None}
    last, (numbers, more) = run(lambda x, xs: pg.scan(step, {"n": x, "m": 1.0}, xs, reverse=True))(1.0, xs)
    assert last == {"n": 7.0, "m": 45.0} and numbers.tolist() == [6.0, 4.0, 1.0]
    assert more["k"].tolist() == xs["b"][0].tolist() and more["none"] is None
    assert run(lambda x: pg.scan(lambda c, r: (None, r * x), None, X))(2.0)[1].tolist() == [2.0, 4.0, 6.0]
    assert run(lambda x: pg.scan(lambda c, r: ((), ()), (), X))(2.0) == ((), ())


def test_bounds_may_be_known_or_not(pg):
    def f(low, high, x):
        return pg.fori_loop(low, high, lambda i, c: c * x + i, x)

    for low, high in ((0, 3), (2, 5), (-2, 1), (3, 3), (5, 2), (np.int64(1), np.int64(3))):
        expected = 2.0
        for i in range(low, high):
            expected = expected * 2.0 + i
        assert pg.jit(lambda x, low=low, high=high: f(low, high, x))(2.0) == expected
        assert pg.jit(f)(float(low), float(high), 2.0) == expected
        assert f(low, high, 2.0) == f(float(low), float(high), 2.0) == expected
        assert f(pg.Value(low), high, pg.Value(2.0)).data == expected
        slopes = [pg.jvp(lambda x: f(a, b, x), (2.0,), (1.0,)) for a, b in ((low, high), (float(low), float(high)))]
        assert slopes[0] == slopes[1]


# ---- Transforms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [None, 1, 3, 16, 64, 1000, "auto"])
def test_kept_states_change_nothing(pg, checkpoint):
    xs = np.sin(np.arange(67.0))

    def f(x, xs):
        last, rows = pg.scan(lambda c, r: (0.9 * c.tanh() + x * r, c * r), x, xs, checkpoint=checkpoint, reverse=True)
        return last + (rows * xs).sum()

    def whole(x, xs):
        c, total = x, 0.0
        for r in xs[::-1]:
            total = total + c * r * r
            c = 0.9 * pg.math.tanh(c) + x * r
        return c + total

    ours, plain = (pg.grad(g, argnums=(0, 1))(0.3, xs) for g in (f, whole))
    np.testing.assert_allclose(ours[0], plain[0], rtol=1e-12)
    np.testing.assert_allclose(ours[1], plain[1], rtol=1e-12)
    np.testing.assert_allclose(pg.hessian(f)(0.3, xs), pg.hessian(whole)(0.3, xs), rtol=1e-11)


def test_every_derivative_goes_through_loops(pg):
    def f(x, xs):
        return pg.scan(lambda c, r: (0.5 * c * x + r * r * r, c * r), x, xs)[0]

    def g(x, xs):
        c = x
        for r in xs:
            c = 0.5 * c * x + r * r * r
        return c

    sp = pytest.importorskip("scipy.sparse")
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)  # noqa: E731
    for one, other in zip(pg.vjp(f, 2.0, X)[1](3.0), pg.vjp(g, 2.0, X)[1](3.0)):
        close(one, other)
    value, back = pg.vjp(f, 2.0, X)
    assert value == pg.jit(g)(2.0, X) and back(1.0)[0] == back(1.0)[0] and back(2.0)[0] == 2 * back(1.0)[0]
    value, push = pg.linearize(f, 2.0, X)
    assert push(1.0, X) == pytest.approx(pg.jvp(g, (2.0, X), (1.0, X))[1], rel=1e-12) and push(2.0, X) != push(1.0, X)
    close(pg.hvp(lambda xs: f(2.0, xs))(X, X), pg.hvp(lambda xs: g(2.0, xs))(X, X))
    close(pg.hessian(f, argnums=1)(2.0, X), pg.hessian(g, argnums=1)(2.0, X))
    curved = pg.hessian(f, argnums=1, sparse=True)(2.0, X)
    assert sp.issparse(curved)
    close(curved.toarray(), pg.hessian(g, argnums=1)(2.0, X))
    rows = pg.jacobian(lambda xs: pg.scan(lambda c, r: (c, r * r), 0.0, xs)[1], sparse=True)(X)
    close(rows.toarray(), np.diag(2 * X))
    close(pg.jacrev(f, argnums=1)(2.0, X), pg.jacfwd(g, argnums=1)(2.0, X))
    assert pg.grad(f, record=False)(2.0, X) == pg.grad(g)(2.0, X)


def test_a_loop_over_axes_of_vmap(pg):
    rows = np.arange(12.0).reshape(3, 4) / 10

    def f(x, r):
        return pg.scan(lambda c, s: (c * 0.5 + s * x, c), x, r)

    for axis in (0, 1, -1):
        last, before = pg.vmap(f, in_axes=(None, axis), out_axes=(0, 1))(2.0, rows)
        each = [pg.jit(f)(2.0, r) for r in np.moveaxis(rows, axis, 0)]
        np.testing.assert_allclose(last, [one for one, _ in each], rtol=1e-15)
        np.testing.assert_allclose(before, np.stack([other for _, other in each], axis=1), rtol=1e-15)


def test_eager_loops_are_pythons(pg):
    x = pg.Value(2.0)
    last, before = pg.scan(lambda c, r: (c * r, c), x, X)
    last.backward()
    assert x.grad == 6.0 and [one.data for one in before] == [2.0, 2.0, 4.0]
    assert pg.while_loop(lambda c: c < 10, lambda c: c * 2, pg.Value(1.0)).data == 16.0
    assert pg.while_loop(lambda c: True, lambda c: c + 1, 0, max_steps=7) == 7
    assert pg.cond(pg.Value(1.0) > 0, lambda: 1, lambda: 2) == 1
    assert pg.fori_loop(0, 3, lambda i, c: c + [i], np.array([0])).tolist() == [3]
    seen = []
    pg.scan(lambda c, r: (seen.append(r) or c, None), 0.0, X, reverse=True)
    assert seen == [3.0, 2.0, 1.0]


def test_checkpoint_is_a_decorator_that_keeps_the_name(pg):
    @pg.checkpoint
    def f(x, *, k=2.0):
        """Doc."""
        return {"a": x * x * k}

    assert f.__name__ == "f" and f.__doc__ == "Doc." and f(3.0, k=1.0) == {"a": 9.0}
    assert pg.grad(lambda x: f(x, k=3.0)["a"])(2.0) == 12.0
    assert pg.grad(pg.checkpoint(policy=None)(lambda x: x**3))(2.0) == 12.0


# ---- Long loops, many lanes, threads ----------------------------------------------------------------------


def slow_growth(pg):
    """Takes 20 to 300 steps."""
    return lambda a: pg.while_loop(
        lambda s: s[0] < 3.0, lambda s: (s[0] + 0.01 + a * 0.1, s[1] * 0.99 + a), (a, a), max_steps=300
    )[1]


def test_lanes_take_their_own_number_of_steps(pg, rng):
    f, xs = slow_growth(pg), np.array([rng.uniform(0, 1) for _ in range(3000)])
    s, t = xs.copy(), xs.copy()
    for _ in range(300):
        s, t = np.where(s < 3.0, s + 0.01 + xs * 0.1, s), np.where(s < 3.0, t * 0.99 + xs, t)
    np.testing.assert_allclose(pg.vmap(f)(xs), t, rtol=1e-12)
    slopes = pg.vmap(pg.grad(f))(xs)
    np.testing.assert_allclose(slopes, pg.vmap(pg.jacfwd(f))(xs), rtol=1e-12)
    assert slopes[17] == pytest.approx(pg.grad(f)(xs[17]), rel=1e-13)
    assert np.array_equal(pg.vmap(f, workers=2)(xs), pg.vmap(f)(xs))
    assert np.array_equal(pg.vmap(pg.grad(f), workers=2)(xs), slopes)
    total = [pg.vmap(f, reduce="sum", workers=workers)(xs) for workers in (1, 2)]
    assert total[0] == total[1] == pytest.approx(t.sum(), rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 63, 64, 65, 127, 128, 129, 255, 256, 257, 512, 1000])
def test_any_number_of_lanes(pg, count):
    def f(a):
        def step(c, r):
            inner = pg.while_loop(lambda s: s < c, lambda s: s + 0.1 + r * r, a, max_steps=40)
            return inner * 0.5 + pg.cond(c > r, lambda: c.sin(), lambda: c * a), c

        last, rows = pg.scan(step, a, X)
        return last + rows.sum()

    xs = np.linspace(-1, 1, count)
    one, slope, some = pg.jit(f), pg.grad(f), [0, count // 2, count - 1]
    lanes, slopes = pg.vmap(f)(xs), pg.grad(lambda xs: pg.vmap(f, reduce="sum")(xs))(xs)
    assert lanes[some] == pytest.approx([one(x) for x in xs[some]], rel=1e-12)
    assert slopes[some] == pytest.approx([slope(x) for x in xs[some]], rel=1e-11)


def test_threads_record_loops_at_once(pg):
    found = [[] for _ in range(4)]

    def work(k):
        for _ in range(15):
            f = lambda x: pg.scan(lambda c, r: (c * r + k, None), x, X)[0]  # noqa: E731
            found[k].append((pg.grad(f)(1.0), pg.jit(f)(2.0), pg.vmap(f)(X).tolist()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(4):
        assert found[k] == [(6.0, 12.0 + 10 * k, [6.0 * x + 10 * k for x in X])] * 15


def test_a_million_steps_take_a_moment(pg):
    f = lambda x: pg.scan(lambda c, _: (c * 0.999 + x, None), x, length=10**6)[0]  # noqa: E731
    assert pg.jit(f)(1.0) == pytest.approx(1000.0) and pg.grad(f)(1.0) == pytest.approx(1000.0)
    assert pg.jit(f).program(1.0).stats.instructions < 10


@pytest.mark.parametrize(
    "make",
    [
        lambda pg, n: pg.jit(lambda x, xs: pg.while_loop(lambda c: c < 1e18, lambda c: c + x, x)),
        lambda pg, n: pg.jit(lambda x, xs: pg.scan(lambda c, _: (c + x, None), x, length=n)[0]),
        lambda pg, n: pg.jit(
            lambda x, xs: pg.fori_loop(0, n, lambda i, c: pg.cond(c > x, lambda: c - x, lambda: c), x)
        ),
        lambda pg, n: pg.jit(
            lambda x, xs: pg.fori_loop(0, 10**5, lambda i, c: pg.fori_loop(0, 10**5, lambda j, d: d + x * i, c), x)
        ),
        lambda pg, n: pg.vmap(lambda x, a: pg.fori_loop(0, n, lambda i, c: c + x * a, x), in_axes=(None, 0)),
        lambda pg, n: pg.vmap(lambda x, a: pg.fori_loop(0, n, lambda i, c: c + x * a, x), (None, 0), workers=2),
        lambda pg, n: pg.vmap(lambda x, a: a + pg.fori_loop(0, n, lambda i, c: c + x, x), in_axes=(None, 0)),
        lambda pg, n: pg.jit(lambda x, xs: pg.fori_loop(0, n, lambda i, c: c + pg.vmap(lambda a: a * c)(xs).sum(), x)),
        lambda pg, n: pg.jvp,
    ],
    ids=["while", "scan", "branch", "nested", "lanes", "workers", "the same in all lanes", "a vmap in a step", "jvp"],
)
def test_an_endless_loop_stops_soon(pg, make):
    f = make(pg, 10**9)
    if f is pg.jvp:
        f = pg.jit(lambda x, xs: pg.jvp(lambda x: pg.fori_loop(0, 10**9, lambda i, c: c * 0.5 + x, x), (x,), (x,))[1])
    f.program(1.0, np.ones(2000))
    late = interrupted(pg, lambda: f(1.0, np.ones(2000)), 0.1)
    print(f"{late:.3f} s after the signal")
    assert late < AT_MOST


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("states", [50, 10, 4, 2])
def test_loops_within_loops_change_nothing(pg, monkeypatch, rng, states, reverse):
    """Whatever the number of levels, and of steps that are left over in each."""
    xs = np.array([rng.uniform(-1, 1) for _ in range(137)])

    def f(w, xs):
        last, ys = pg.scan(lambda c, x: ((c * w + x).tanh(), c * x), 0.1, xs, reverse=reverse)
        return last + ys.sum()

    value, (by_w, by_xs) = pg.value_and_grad(f, argnums=(0, 1))(0.9, xs)
    monkeypatch.setattr(pg._record.control, "STATES", states)
    nested = pg.value_and_grad(f, argnums=(0, 1))(0.9, xs)
    assert nested[0] == value and nested[1][0] == pytest.approx(by_w, rel=1e-12)
    np.testing.assert_allclose(nested[1][1], by_xs, rtol=1e-12)


def test_steps_that_are_left_over_keep_few_states_too(pg, monkeypatch):
    monkeypatch.setattr(pg._record.control, "STATES", 50)
    slope = pg.grad(lambda w: pg.scan(lambda c, _: (c * w, None), 1.0, length=10_000)[0])
    assert slope(1.0) == 10_000
    assert slope.programs[0].stats.nodes < 400  # in each of 20 chunks of 484 steps are 22 of 22; 320 steps are left


def test_an_array_that_steps_map_is_kept_once(pg):
    def step(c, _):
        return pg.vmap(lambda r: pg.math.sin(r * c), reduce="mean")(X), None

    second = pg.grad(pg.grad(lambda x: pg.scan(step, x, length=3)[0]))
    assert np.isfinite(second(0.3))
    assert len(second.programs[0].code.constants) == 1  # its derivatives trace the step several times
