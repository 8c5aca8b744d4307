"""Transforms within transforms, over mapped and unmapped arguments, against plain loops, dual numbers and JAX.

400 random programs by default, in both layers together; with LONG=1 20,000, and 5,000 against JAX. Each has a seed:
SEED=... starts at another one, PROGRAM=seed shows and runs one alone.
"""

from __future__ import annotations

import importlib.util
import math
import os
import random
from collections import Counter

import pytest

np = pytest.importorskip("numpy")
import compositions  # noqa: E402
import oracles  # noqa: E402

LONG = bool(os.environ.get("LONG"))
PROGRAMS = 20_000 if LONG else 400  # in both layers together
AGAINST_JAX = 5_000 if LONG else 10


def seeds(count):
    if "PROGRAM" in os.environ:
        return [int(os.environ["PROGRAM"])]
    first = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={first}")
    return range(first, first + count)


def run(pg, numbers, jax=False):
    """Run the programs of these seeds; fail with a small script for each kind of failure."""
    taken, sorts = Counter(), {}
    for seed in numbers:
        program = compositions.make(seed)
        if program is None:
            taken["given up"] += 1
            continue
        taken.update(program.features)
        try:
            compositions.check(pg, program, jax, taken)
        except compositions.DiffersError as failure:
            taken["failed"] += 1
            found = sorts.setdefault(failure.sort, (program, failure))
            if len(program.source) < len(found[0].source):
                sorts[failure.sort] = (program, failure)
    print(", ".join(f"{count} {name}" for name, count in taken.most_common()))
    if "PROGRAM" in os.environ and program is not None:
        print(program.script())
    for program, failure in list(sorts.values())[:5]:
        small = compositions.shrink(pg, program, failure.sort)
        print(f"\nPROGRAM={program.seed}, call {failure.call}: {failure}\n{small.script()}")
    assert not sorts, (
        f"{taken['failed']} of {taken['program']} programs fail: {[f'{f!s:.200}' for _, f in sorts.values()]}"
    )
    return taken


FEATURES = [*compositions.TRANSFORMS, "vmap reduce=None", "vmap reduce=sum", "vmap reduce=mean", "depth 3"]
FEATURES += ["in_axes None", "in_axes negative", "argnums tuple", "tree", "stages", "many lanes", "called twice"]
FEATURES += ["Pair", "Box", "Bag", "None", "by name", "axes of a tree", "out_axes", "has_aux", "linearize"]
FEATURES += ["hvp of more arguments"]
FEATURES += ["captured Value", "captured Value changed", "captured array", "captured array of Values", "late binding"]
FEATURES += ["transform of a transform", "record=False within", "top, workers=2", "result that does not depend"]
FEATURES += ["where", "comparison", "equality", "condition of conditions", "condition that is a number", "power"]
FEATURES += ["minmax", "detach", "matmul", "corner", "comparison as a number"]
FEATURES += [f"rule {name}" for name in ("twist", "bend", "tilt", "cubic", "knot")]
FEATURES += ["numpy elementwise", "numpy linear algebra", "numpy xp.einsum"]
FEATURES += [
    f"layout {kind}" for kind in ("C", "F", "strided", "T", "reversed", "broadcast", "column", "int", "f4", "?")
]


def test_random_compositions_agree_with_plain_loops_and_dual_numbers(pg):
    taken = run(pg, seeds(PROGRAMS // 2))
    if "PROGRAM" not in os.environ:
        for outer in compositions.TRANSFORMS:
            for inner in compositions.TRANSFORMS:
                assert taken[f"{outer} > {inner}"], f"{inner} within {outer} was not taken"
        for feature in FEATURES:
            assert taken[feature] >= (3 if LONG else 1), feature
        assert taken["ill-conditioned"] + taken["given up"] < 0.01 * taken["programs"]
        assert taken["nan hidden"] < 0.01 * taken["programs"]
        assert taken["eager refuses"] < 0.1 * taken["programs"]


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_random_compositions_agree_with_jax():
    import pygrad

    taken = run(pygrad, seeds(AGAINST_JAX), jax=True)
    assert taken["compared with JAX"] > (1.5 if LONG else 0.5) * taken["programs"] or "PROGRAM" in os.environ


def test_a_wrong_derivative_is_noticed(pg, monkeypatch):
    """The harness finds faults, planted in Python."""
    derivatives, vmap = pg._record.derivatives, pg._record.vmap
    vjp, lanes = derivatives._vjp, vmap.vmap
    faults = {
        "_vjp": lambda *args: [g * 1.000001 for g in vjp(*args)],
        "vmap": lambda fn, in_axes=0, reduce=None, **keywords: lanes(
            fn, in_axes, reduce="sum" if reduce == "mean" else reduce, **keywords
        ),
    }
    homes = {"_vjp": derivatives, "vmap": vmap}
    for name, fault in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr(homes[name], name, fault)
            patch.setattr(pg, name, fault, raising=False)
            with pytest.raises(compositions.DiffersError, match="recorded differs"):
                for seed in range(200):
                    compositions.check(pg, compositions.make(seed))


def test_dual_numbers_are_right_about_derivatives():
    """The oracle, against central differences."""
    rng = random.Random(1)
    for op, partials in oracles.PARTIALS.items():
        if op in ("twist", "bend"):  # whose rules are not their derivatives
            continue
        for _ in range(5):
            if op == "polygamma":  # derived by its argument only, below
                continue
            low, high = {"acosh": (1.2, 2.5), **dict.fromkeys(("atanh", "logit", "erfinv", "ndtri"), (0.1, 0.9))}.get(
                op, (0.3, 1.5)
            )
            xs = [rng.uniform(low, high) for _ in range(partials.__code__.co_argcount - 1)]

            def value(*args):
                return oracles.number(oracles.apply(op, *args))

            def slopes(*args):
                _, (row,) = oracles.forward(lambda *duals: oracles.apply(op, *duals), args, oracles.unit(len(args)))
                return [oracles.number(slope) for slope in row]

            second = oracles.dual_hessian(lambda x: oracles.apply(op, *x))(list(xs))
            for i in range(len(xs)):
                up, down = ([x + (h if i == j else 0.0) for j, x in enumerate(xs)] for h in (1e-5, -1e-5))
                assert slopes(*xs)[i] == pytest.approx((value(*up) - value(*down)) / 2e-5, rel=1e-7, abs=1e-7), op
                for j in range(len(xs)):
                    difference = (slopes(*up)[j] - slopes(*down)[j]) / 2e-5
                    assert oracles.number(second[j][i]) == pytest.approx(difference, rel=1e-7, abs=1e-7), op


# ---- Derivatives within vmap ----------------------------------------------------------------------


W, X = 2.0, np.array([1.0, 2.0, 3.0])


def test_per_example_gradients_by_an_unmapped_argument_stay_per_example(pg):
    got = pg.vmap(pg.grad(lambda w, x: w * w * x), in_axes=(None, 0))(W, X)
    assert got.tolist() == [4.0, 8.0, 12.0]


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (lambda pg, f: lambda w, x: pg.value_and_grad(f)(w, x), ([4.0, 8.0, 12.0], [4.0, 8.0, 12.0])),
        (lambda pg, f: lambda w, x: pg.jacobian(f)(w, x), [4.0, 8.0, 12.0]),
        (lambda pg, f: lambda w, x: pg.jacobian(lambda w, x: [f(w, x), w])(w, x)[1], [1.0, 1.0, 1.0]),
        (lambda pg, f: lambda w, x: pg.hessian(f)(w, x), [2.0, 4.0, 6.0]),
        (lambda pg, f: lambda w, x: pg.vjp(f, w, x)[1](1.0), ([4.0, 8.0, 12.0], [4.0, 4.0, 4.0])),
        (lambda pg, f: lambda w, x: pg.jvp(f, (w, x), (1.0, 0.0))[1], [4.0, 8.0, 12.0]),
        (lambda pg, f: lambda w, x: pg.hvp(lambda w: f(w, x))(w, 3.0), [6.0, 12.0, 18.0]),
        (lambda pg, f: lambda w, x: pg.grad(lambda v: f(v, x))(w), [4.0, 8.0, 12.0]),
        (lambda pg, f: lambda w, x: pg.grad(lambda v: f(v, x))(2.0), [4.0, 8.0, 12.0]),
        (lambda pg, f: lambda w, x: pg.grad(lambda v: f(v, x))(pg.Value(2.0)), [4.0, 8.0, 12.0]),
        (lambda pg, f: lambda w, x: pg.grad(lambda v: pg.grad(f)(v, x))(w), [2.0, 4.0, 6.0]),
    ],
    ids=[
        "value_and_grad",
        "jacobian",
        "of a list",
        "hessian",
        "vjp",
        "jvp",
        "hvp",
        "closure",
        "constant",
        "Value",
        "twice",
    ],
)
def test_every_derivative_by_what_is_unmapped_stays_per_example(pg, of, expected):
    got = pg.vmap(of(pg, lambda w, x: w * w * x), in_axes=(None, 0))(W, X)
    for one, other in zip(got, expected) if isinstance(expected, tuple) else [(got, expected)]:
        assert one.tolist() == other


def test_a_derivative_at_a_constant_within_vmap_counts_once(pg):
    assert pg.vmap(lambda a: pg.grad(lambda q: q * q - a)(1.0))(np.ones(3)).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("reduce", "expected"), [("sum", 24.0), ("mean", 8.0)])
def test_per_example_gradients_are_reduced_once(pg, reduce, expected):
    got = pg.vmap(pg.grad(lambda w, x: w * w * x), in_axes=(None, 0), reduce=reduce)(W, X)
    assert got == expected


def test_the_gradient_of_a_loss_of_per_example_gradients(pg):
    def loss(w, X):  # sum of (2*w*x)**2
        return pg.vmap(lambda w, x: pg.grad(lambda v: v * v * x)(w) ** 2, in_axes=(None, 0), reduce="sum")(w, X)

    assert pg.value_and_grad(loss)(W, X) == (4 * W * W * 14.0, 8 * W * 14.0)
    assert pg.hvp(lambda w: loss(w, X))(W, 1.0) == 8 * 14.0


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_hvp_of_a_reduced_vmap_over_an_array_from_outside(pg, reduce):
    got = pg.hvp(lambda w: pg.vmap(lambda x: w * w * x, reduce=reduce)(X))(2.0, 1.0)
    assert got == {"sum": 12.0, "mean": 4.0}[reduce]


@pytest.mark.parametrize(("reduce", "expected"), [("sum", 12.0), ("mean", 4.0)])
def test_a_body_that_is_the_same_in_all_lanes_counts_once_a_lane(pg, reduce, expected):
    function = lambda w: pg.vmap(lambda x: w * w, reduce=reduce)(X)  # noqa: E731
    assert pg.value_and_grad(function)(2.0) == (expected, expected)
    assert pg.jvp(function, (2.0,), (1.0,)) == (expected, expected)
    assert pg.hessian(function)(2.0) == expected / 2
    assert pg.hvp(function)(2.0, 3.0) == 1.5 * expected
    unreduced = lambda w: pg.vmap(lambda x: w * w)(X)  # noqa: E731
    assert pg.jacobian(unreduced)(2.0).tolist() == [4.0, 4.0, 4.0]


def test_deriving_by_lanes_that_are_all_alike_is_each_lanes_own(pg):
    square = pg.vmap(lambda x: x * x, reduce="sum")
    for body in (lambda w, x: w, lambda w, x: 2.0, lambda w, x: w * x / x):
        slopes = pg.jit(lambda w: pg.grad(square)(pg.vmap(lambda x: body(w, x))(X)))
        assert slopes(2.0).tolist() == [4.0, 4.0, 4.0]
        total = pg.jit(lambda w: pg.grad(square)(pg.vmap(lambda x: body(w, x))(X)).sum())
        assert total(2.0) == 12.0
    curved = pg.jit(lambda w: pg.hvp(square)(pg.vmap(lambda x: w)(X), X))
    assert curved(2.0).tolist() == [2.0, 4.0, 6.0]
    pushed = pg.jit(lambda w: pg.jvp(square, (pg.vmap(lambda x: w)(X),), (pg.vmap(lambda x: 1.0)(X),))[1])
    assert pushed(2.0) == 12.0


def test_deriving_by_the_batched_argument_stays_lanes(pg):
    n = 20_000
    points = np.linspace(-1.0, 1.0, n)
    f = lambda x: x.tanh() * x  # noqa: E731
    slope = pg.grad(lambda X: pg.vmap(f, reduce="sum")(X))
    np.testing.assert_allclose(slope(points), np.tanh(points) + points / np.cosh(points) ** 2, rtol=1e-12, atol=1e-15)
    assert slope.program(points).stats.instructions < 100
    product = pg.hvp(lambda X: pg.vmap(f, reduce="mean")(X))
    assert product.program(points, points).stats.instructions < 200
    pairs = np.stack([points, points[::-1]], axis=1)
    both = pg.value_and_grad(lambda X: pg.vmap(lambda x: x[0] * x[1] * x[1], reduce="mean")(X))
    value, grads = both(pairs)
    x, y = pairs.T
    assert value == pytest.approx((x * y * y).mean(), rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(grads, np.stack([y * y, 2 * x * y], 1) / n, rtol=1e-12, atol=1e-18)
    assert both.program(pairs).stats.instructions < 200


# ---- Lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("long", [3, 2000, 1_000_000])
@pytest.mark.parametrize("reduce", [None, "sum"])
def test_lengths_that_differ_within_one_mapped_argument_are_refused(pg, long, reduce):
    f = pg.vmap(lambda t: t["a"] + 0 * t["b"], reduce=reduce)
    for a, b in ((2, long), (long, 2)):
        with pytest.raises(ValueError, match="differ in length") as caught:
            f({"a": np.ones(a), "b": np.ones(b)})
        assert str(long) in str(caught.value) and "2" in str(caught.value)
        with pytest.raises(ValueError, match="differ in length"):
            pg.jit(lambda t: f(t))({"a": np.ones(a), "b": np.ones(b)})
    with pytest.raises(ValueError, match="differ in length"):
        pg.vmap(lambda t: t[0].sum() + t[1].sum(), in_axes=1)([np.ones((3, 2)), np.ones((2, 3))])


# ---- Conditions ------------------------------------------------------------------------------------


INF, NAN = math.inf, math.nan
NUMBERS = [-INF, -1.5, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, INF, NAN]


@pytest.mark.parametrize("other", [0, 1.0, -1, NAN, INF])
def test_recorded_comparisons_are_those_of_python(pg, other):
    compare = {
        "<": lambda x, y: x < y,
        "<=": lambda x, y: x <= y,
        ">": lambda x, y: x > y,
        ">=": lambda x, y: x >= y,
        "==": lambda x, y: x == y,
        "!=": lambda x, y: x != y,
    }
    for name, f in compare.items():
        one = pg.jit(lambda x: pg.where(f(x, other), 1.0, 0.0))
        two = pg.jit(lambda x, y: pg.where(f(x, y), 1.0, 0.0))
        flag = pg.jit(lambda x: f(x, other))
        reflected = pg.jit(lambda x: pg.where(f(other, x), 1.0, 0.0))
        batch = pg.vmap(lambda x: pg.where(f(x, other), 1.0, 0.0))
        whole = pg.jit(lambda X: pg.where(f(X, other), 1.0, 0.0))
        expected = [float(f(x, other)) for x in NUMBERS]
        assert [one(x) for x in NUMBERS] == expected, name
        assert [two(x, other) for x in NUMBERS] == expected, name
        assert [flag(x) for x in NUMBERS] == expected, name
        assert [reflected(x) for x in NUMBERS] == [float(f(other, x)) for x in NUMBERS], name
        assert batch(np.array(NUMBERS)).tolist() == expected, name
        assert whole(np.array(NUMBERS)).tolist() == expected, name


def test_recorded_arrays_are_compared_elementwise(pg):
    x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0])
    f = pg.jit(lambda x: pg.where(x == 1.0, 10.0, 20.0))
    assert f(x).tolist() == [20.0, 10.0, 20.0]
    assert f(np.ones(2)).tolist() == [10.0, 10.0]
    assert pg.jit(lambda x: pg.where(x != 1.0, 10.0, 20.0))(x).tolist() == [10.0, 20.0, 10.0]
    assert pg.jit(lambda x, y: pg.where(x == y, x, -x))(x, y).tolist() == [0.0, 1.0, -2.0]
    assert pg.jit(lambda x: pg.where(x > 0, x * 3, 0.5))(x).tolist() == [0.5, 3.0, 6.0]
    assert pg.jit(lambda x: pg.where(y == x, 1.0, 0.0))(x).tolist() == [0.0, 1.0, 0.0]
    assert pg.jit(lambda x: pg.where(pg.vmap(lambda t: t * 2)(x) == 2.0, 1.0, 0.0))(x).tolist() == [0.0, 1.0, 0.0]
    grad = pg.grad(lambda x: pg.where(x >= 1.0, x * x, x).sum())
    assert grad(x).tolist() == [1.0, 2.0, 4.0]


def test_conditions_are_booleans(pg):
    f = pg.jit(lambda x: pg.where(x, 10.0, 20.0))
    assert [f(x) for x in (3.0, -0.5, 1.0, 0.0, -0.0, INF, NAN, 1e-300)] == [10, 10, 10, 20, 20, 10, 10, 10]
    for c in (3.0, NAN, pg.Value(3.0), pg.Value(NAN), True, np.float64(3.0), np.bool_(True), 5):
        assert float(pg.where(c, pg.Value(10.0), 20.0).data) == 10.0, c
    for c in (0.0, -0.0, pg.Value(0.0), False, 0):
        x = pg.where(c, pg.Value(10.0), 20.0)
        assert (x.data if isinstance(x, pg.Value) else x) == 20.0, c
    g = pg.jit(lambda x: pg.where((x > 0) + (x > 1), 10.0, 20.0))
    assert [g(x) for x in (-1.0, 0.5, 3.0)] == [20.0, 10.0, 10.0]
    h = pg.grad(lambda x: pg.where(x, x * x, x))
    assert [h(x) for x in (3.0, 0.0)] == [6.0, 1.0]
    w = pg.Value(3.0)
    captured = pg.jit(lambda x: pg.where(w, x, -x))
    assert captured(2.0) == 2.0
    w.data = 0.0
    assert captured(2.0) == -2.0


def test_where_keeps_the_chosen_number_as_it_is(pg):
    f = pg.jit(lambda x, a, b: pg.where(x > 0, a, b))
    for x, a, b in ((1.0, -0.0, 5.0), (-1.0, 5.0, -0.0)):
        assert math.copysign(1.0, f(x, a, b)) == -1.0
    assert f(1.0, 2.0, NAN) == 2.0 and f(-1.0, INF, 2.0) == 2.0


def test_conditions_are_combined_as_numpys_booleans(pg):
    x = np.array(NUMBERS)
    combine = {
        "and": lambda x: (x > 0) & (x < 2.0),
        "or": lambda x: (x < -1.0) | (x >= 2.0),
        "xor": lambda x: (x > -1.0) ^ (x > 1.0),
        "not": lambda x: ~(x > 0.5),
        "equal": lambda x: (x == 0.0) | (x == 1.0),
        "different": lambda x: (x != 0.0) & (x != 1.0),
        "with True": lambda x: (x > 0) & True,
        "True first": lambda x: True ^ (x > 0),
        "all": lambda x: ~((x > 0) & ~(x == 1.0) | (x != x)),
    }
    for name, f in combine.items():
        with np.errstate(invalid="ignore"):
            expected = np.where(f(x), 1.0, 0.0).tolist()
        assert pg.jit(lambda x: pg.where(f(x), 1.0, 0.0))(x).tolist() == expected, name
        assert pg.vmap(lambda x: pg.where(f(x), 1.0, 0.0))(x).tolist() == expected, name
        one = pg.jit(lambda x: pg.where(f(x), 1.0, 0.0))
        assert [one(t) for t in NUMBERS] == expected, name


# ---- Powers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_second_derivatives_of_powers_of_zero_are_zero(pg, record):
    hessian = pg.hessian(lambda p: p[0] ** p[1], record=record)
    assert hessian(np.array([0.0, 3.0])).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert hessian(np.array([0.0, 2.0])).tolist() == [[2.0, 0.0], [0.0, 0.0]]
    assert pg.grad(pg.grad(lambda x: 0.0**x, record=record), record=record)(2.0) == 0.0
    assert pg.grad(lambda x: 0.0**x, record=record)(2.0) == 0.0
    assert pg.hessian(lambda x: pg.Value(0.0) ** x, record=record)(2.0) == 0.0
    for a, b in ((1.3, 2.7), (2.0, 0.0), (2.0, 1.0), (0.5, -1.0)):
        log = math.log(a)
        mixed = a ** (b - 1) * (1 + b * log)
        expected = [[b * (b - 1) * a ** (b - 2), mixed], [mixed, a**b * log * log]]
        np.testing.assert_allclose(hessian(np.array([a, b])), expected, rtol=1e-13, atol=1e-15)


# ---- Names that change -----------------------------------------------------------------------------


def test_a_vmap_uses_what_held_when_it_was_called(pg):
    def loop(X):
        ys = [pg.vmap(lambda x: x * i)(X) for i in range(3)]
        return ys[0] + ys[1] * 10.0, ys[2][1], sum(ys[1])

    total, one, summed = pg.jit(loop)(X)
    assert total.tolist() == [10.0, 20.0, 30.0] and one == 4.0 and summed == 6.0

    def rebound(X):
        k = 2.0
        y = pg.vmap(lambda x: x * k)(X)
        k = 5.0
        return y[0] + y, k

    assert pg.jit(rebound)(X)[0].tolist() == [4.0, 6.0, 8.0]

    def emptied(X):
        box = [3.0]
        y = pg.vmap(lambda x: x * box[0])(X)
        box.clear()
        return y @ y

    assert pg.jit(emptied)(X) == 9.0 * 14.0
    assert pg.grad(emptied)(X).tolist() == [18.0, 36.0, 54.0]


def test_the_body_of_a_vmap_is_not_called_again_for_its_result(pg):
    calls = []

    def body(x):
        calls.append(1)
        return x * 2.0

    def function(X):
        y = pg.vmap(body)(X)
        before = len(calls)
        total = y[0] + y.sum()
        assert len(calls) == before
        return total

    assert pg.jit(function)(X) == 14.0


def test_a_pullback_derives_what_held_when_vjp_was_called(pg):
    for record in (True, False):
        i = 1.0
        value, pull = pg.vjp(lambda x: x * x * i, 2.0, record=record)
        i = 5.0
        assert (value, pull(1.0)) == (4.0, (4.0,)), record

        def function(x):
            i = 1.0
            value, pull = pg.vjp(lambda x: x * x * i, x)
            i = 5.0
            return value + pull(1.0)[0]

        assert pg.jit(function, record=record)(2.0) == 8.0, record


# ---- Numbers from outside --------------------------------------------------------------------------


def test_whatever_a_program_reads_of_a_value_is_read_at_every_call(pg):
    k = pg.Value(-1.0)
    functions = {
        "compared": lambda x: pg.where(k >= 0.0, x, -x),
        "compared with an argument": lambda x: pg.where(k > x, x, k),
        "condition": lambda x: pg.where(k + 1.0, x, 2.0 * x),
        "detached": lambda x: x * k.detach(),
        "detached by math": lambda x: x * pg.math.detach(k),
        "largest": lambda x: pg.maximum(k, 0.5) * x,
        "power": lambda x: x * k**2,
        "in an array": lambda x: (np.array([k, 2.0 * k]) * x).sum(),
        "in vmap": lambda x: pg.vmap(lambda y: y * k, reduce="sum")(X) * x,
        "derived": lambda x: pg.grad(lambda y: y * y * k)(x),
    }
    for name, function in functions.items():
        k.data = -1.0
        recorded = pg.jit(function)
        for data in (-1.0, 0.0, 3.0, 0.75):
            k.data = data
            expected = pg.jit(function, record=False)(2.0)
            assert recorded(2.0) == pytest.approx(expected, rel=1e-13), (name, data)
        k.data = -1.0
        slope = pg.grad(function)
        for data in (-1.0, 3.0):
            k.data = data
            assert slope(2.0) == pytest.approx(pg.grad(function, record=False)(2.0), rel=1e-13), (name, data)


def test_eager_transforms_take_arrays_without_dimensions(pg):
    x = np.array(0.5)
    assert pg.jit(lambda x: pg.math.exp(x) * x, record=False)(x) == pytest.approx(math.exp(0.5) * 0.5)
    assert pg.grad(lambda x: pg.math.exp(x), record=False)(x) == pytest.approx(math.exp(0.5))
    assert pg.jit(lambda t: pg.math.sin(t["a"]), record=False)({"a": x}) == pytest.approx(math.sin(0.5))


# ---- Constants -------------------------------------------------------------------------------------


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1.0, a) == math.copysign(1.0, b))


def test_arithmetic_with_constants_keeps_every_bit(pg):
    constants = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, INF, -INF, NAN]
    operations = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }

    def every(x):
        # A division by 0.0 is refused at once, as Python does.
        results = [f(x, c) for name, f in operations.items() for c in constants if c or name != "/"]
        results += [f(c, x) for f in operations.values() for c in constants]
        negative = -x
        return [*results, -negative, negative, x - x, x + x, x * x, x / x, (x - 1.0) - (x - 1.0)]

    recorded, lanes, alone = pg.jit(every), pg.vmap(every), [pg.jit(lambda x, i=i: every(x)[i]) for i in range(77)]
    numbers = [*NUMBERS, -2.0, 1e-320, 1.7e308]
    batch = lanes(np.array(numbers))
    for k, x in enumerate(numbers):
        with np.errstate(all="ignore"):
            expected = [float(y) for y in every(np.float64(x))]
        assert len(expected) == len(alone)
        for i, (a, b, c) in enumerate(zip(recorded(x), [part[k] for part in batch], [f(x) for f in alone])):
            assert same(a, expected[i]) and same(b, expected[i]) and same(c, expected[i]), (x, i, a, b, c, expected[i])


def test_powers_with_constants_follow_ieee_754(pg):
    exponents = [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -2.0, 0.5, -0.5, INF, -INF, NAN]
    recorded = pg.jit(lambda x: [x**e for e in exponents] + [b**x for b in NUMBERS])
    for x in NUMBERS:
        with np.errstate(all="ignore"):
            expected = [float(np.float64(x) ** e) for e in exponents] + [float(np.float64(b) ** x) for b in NUMBERS]
        for got, right in zip(recorded(x), expected):
            assert same(got, right) or got == pytest.approx(right, rel=1e-15), (x, got, right)
