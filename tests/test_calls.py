"""Calls of recorded functions: by name, with static arguments and defaults, with aux, as methods; over both layers."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import inspect
import math
import weakref
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import pytest

np = pytest.importorskip("numpy")

X = np.array([1.0, 2.0, 3.0])


def f(x, y=2.0, *more, scale=1.0, **rest):
    """A function with everything."""
    return scale * x * x * y + sum(more) + sum(k * rest[name] for k, name in enumerate(sorted(rest), 1))


# ---- By name -------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_arguments_by_name_are_those_of_the_function(pg, record):
    g = pg.jit(f, record=record)
    for _ in range(2):
        assert g(3.0) == f(3.0)
        assert g(3.0, 4.0) == g(3.0, y=4.0) == g(x=3.0, y=4.0) == g(y=4.0, x=3.0) == f(3.0, 4.0)
        assert g(3.0, scale=5.0) == f(3.0, scale=5.0)
        assert g(3.0, a=5.0, b=7.0) == f(3.0, a=5.0, b=7.0) and g(3.0, b=5.0, a=7.0) == f(3.0, b=5.0, a=7.0)
        assert g(3.0, 2.0, 10.0, 20.0, c=1.0) == f(3.0, 2.0, 10.0, 20.0, c=1.0)
        assert g(3.0, c=5.0) != g(3.0, scale=5.0)
    assert inspect.signature(g) == inspect.signature(f) and g.__doc__ == f.__doc__
    with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
        pg.jit(lambda x: x, record=record)(1.0, z=2.0)


@pytest.mark.parametrize("record", [True, False])
def test_every_transform_passes_arguments_by_name(pg, record):
    how = {"record": record}
    assert pg.grad(f, **how)(3.0, y=4.0, scale=0.5) == 12.0
    assert pg.value_and_grad(f, argnums=(1, 0), **how)(3.0, 4.0, scale=0.5) == (18.0, (4.5, 12.0))
    assert pg.hessian(f, **how)(3.0, scale=0.5) == 2.0
    assert pg.jacobian(lambda x, k: [x, x * k], **how)(3.0, k=4.0) == [1.0, 4.0]
    assert pg.hvp(f, **how)(3.0, 10.0, scale=0.5) == 20.0
    got = pg.vmap(lambda x, w, *, y: x * y + w, in_axes=(0, None), **how)(X, 1.0, y=X)
    assert got.tolist() == (X * X + 1.0).tolist()
    inner = pg.jit(lambda x, k: pg.grad(f)(x, y=k, scale=pg.jit(lambda a, b: a - b)(b=x, a=k)), **how)
    assert inner(3.0, k=4.0) == 24.0


def test_each_set_of_names_has_programs_of_its_own_which_name_them(pg):
    g = pg.jit(f)
    assert g(3.0, b=1.0, a=2.0) == f(3.0, b=1.0, a=2.0)
    program = g.program(3.0, b=1.0, a=2.0)
    assert [leaf.name for leaf in program.arguments] == ["x", "a", "b"] and program(3.0, 2.0, 1.0) == f(
        3.0, a=2.0, b=1.0
    )
    assert "f.py" not in str(program) and "x * x" in str(program)
    g(3.0)
    assert len(g.programs) == 2 and g.program(3.0, a=2.0, b=1.0) is program
    with pytest.raises(TypeError, match=r"argument y of jit\(f\) is an eager Value"):
        g(3.0, y=pg.Value(1.0))


def test_arrays_and_trees_by_name(pg):
    g = pg.value_and_grad(lambda w, *, batch, k=1.0: ((batch["x"] @ w - batch["y"]) ** 2).sum() * k)
    x, y, w = np.arange(6.0).reshape(3, 2), X, np.array([0.5, -1.0])
    for k in (2.0, 3.0):
        value, slope = g(w, batch={"x": x, "y": y}, k=k)
        assert value == pytest.approx(k * ((x @ w - y) ** 2).sum(), rel=1e-14)
        np.testing.assert_allclose(slope, 2 * k * x.T @ (x @ w - y))


# ---- Static arguments ----------------------------------------------------------------------------


def power(x, n, kind="plain"):
    result = 1.0
    for _ in range(n):
        result = result * x
    return result if kind == "plain" else (result, kind == "pair")


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize(
    "static", [{"static_argnums": (1, 2)}, {"static_argnames": ("n", "kind")}, {"static_argnums": (-2, -1)}]
)
def test_static_arguments_are_passed_as_they_are(pg, record, static):
    g = pg.jit(power, record=record, **static)
    for _ in range(2):
        for n in (0, 3, 2):
            assert g(2.0, n) == g(2.0, n=n) == g(n=n, x=2.0) == 2.0**n
        assert g(2.0, 3, "pair") == (8.0, 1.0) and g(2.0, 3, kind="other") == (8.0, 0.0)
        assert pg.grad(lambda x: g(x, 3), record=record)(2.0) == 12.0
        assert pg.vmap(lambda x: g(x, n=2), record=record)(X).tolist() == (X * X).tolist()


def test_static_arguments_that_are_equal_but_not_the_same_are_told_apart(pg):
    seen = []

    @pg.jit(static_argnames="n")
    def g(x, n):
        seen.append(n)
        return x * (math.copysign(1.0, n[0] if isinstance(n, tuple) else n) + isinstance(n, bool))

    for n, expected in ((0.0, 1.0), (-0.0, -1.0), (1, 1.0), (True, 2.0), (1.0, 1.0), ((0.0,), 1.0), ((-0.0,), -1.0)):
        assert g(1.0, n) == g(1.0, n=n) == expected, n
    assert len(seen) == 14  # by position and by name


@dataclasses.dataclass(frozen=True)
class Option:
    n: Any
    note: Any = dataclasses.field(default="", compare=False)
    rest: Any = dataclasses.field(default=None, hash=False)


class Pair(NamedTuple):
    n: Any


class Box:
    """An ordinary class, which must be registered as a tree."""

    def __init__(self, x, n):
        self.x, self.n = x, n


@dataclasses.dataclass
class Model:
    x: Any
    n: Any = dataclasses.field(metadata={"static": True})


ALIKE = [1, 1.0, True, np.float64(1.0), Fraction(1), Decimal("1"), Decimal("1.0"), 1 + 0j, np.int64(1)]
ALIKE += [0.0, -0.0, 0, False, complex(0.0, -0.0), complex(0.0, 0.0), np.float32(0.0), np.float32(-0.0), Decimal("-0")]
WITHIN = [lambda n: n, lambda n: (n,), lambda n: ((0, n),), Pair, lambda n: (Pair((n,)),), Option]
WITHIN += [lambda n: Option((Option(n), 2)), lambda n: frozenset([n]), lambda n: Pair(Option(frozenset([(n,)])))]


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("how", ["argument", "field", "registered"])
def test_equal_constants_that_are_not_the_same_have_programs_of_their_own(pg, within, how):
    """Wherever they are: in a static argument, in a static field, or besides the children of a registered class."""
    if Box not in pg._core.tree_nodes._registered:
        pg.register_tree_node(Box, lambda b: ((b.x,), b.n), lambda n, children: Box(*children, n))
    calls = []

    def given(x, n):
        calls.append(n)
        return x

    if how == "argument":
        g = pg.jit(given, static_argnums=1)
    else:
        kind, of_one = Model if how == "field" else Box, pg.jit(lambda m: given(m.x, m.n))
        g = lambda x, n: of_one(kind(x, n))  # noqa: E731
    for _ in range(2):
        for n in ALIKE:
            assert g(2.0, within(n)) == 2.0
    assert [repr(n) for n in calls] == [repr(within(n)) for n in ALIKE]


def test_equal_constants_that_are_the_same_share_a_program(pg):
    @dataclasses.dataclass
    class Odd:  # with a hash of its own, for what has none
        n: Any

        def __hash__(self):
            return 1

    calls = []
    g = pg.jit(lambda x, n: calls.append(n) or x, static_argnums=1)
    for make in (lambda: Option(1, rest=[1]), lambda: Option(float("1.5")), lambda: Odd([1]), lambda: float("nan")):
        calls.clear()
        assert [g(2.0, make()) for _ in range(3)] == [2.0] * 3 and len(calls) == 1
    g(2.0, Option(float("1.5"), note="another"))
    assert len(calls) == 1
    with pytest.raises(TypeError, match=r"static arguments must be hashable, not \{1: Option\(n=\[1\]"):
        g(2.0, Option([1]))


@pytest.mark.parametrize("record", [True, False])
def test_static_arguments_stay_static_in_derivatives_and_vmaps(pg, record):
    how = {"record": record}
    for static in ({"static_argnums": (1, 2)}, {"static_argnames": ("n", "kind")}):
        g = pg.jit(power, **static)
        assert pg.grad(g, **how)(2.0, 3) == pg.grad(g, **how)(2.0, n=3, kind="plain") == 12.0
        assert pg.value_and_grad(pg.jit(pg.grad(g), **static), **how)(2.0, 3) == (12.0, 12.0)
        assert pg.grad(pg.grad(g), **how)(2.0, 3, "plain") == pg.hessian(g, **how)(2.0, 3) == 12.0
        assert pg.jacobian(g, **how)(2.0, 3, "pair") == (12.0, 0.0) == pg.jacfwd(g, **how)(2.0, 3, "pair")
        assert pg.vmap(g, in_axes=(0, None), **how)(X, 2).tolist() == (X * X).tolist()
        assert pg.vmap(pg.grad(g), **how)(X, n=2, kind="plain").tolist() == (2 * X).tolist()
    assert pg.grad(lambda x: pg.grad(g)(x, 3))(2.0) == 12.0

    class Cubic:
        k = 2.0

        @pg.grad(argnums=1)
        @pg.jit(static_argnames="n")
        def slope(self, x, n):
            return self.k * power(x, n)

        @pg.jit(static_argnums=2)
        def value(self, x, n):
            return self.k * power(x, n)

    assert Cubic().slope(2.0, 3) == pg.grad(Cubic().value, **how)(2.0, 3) == 24.0


def test_the_programs_of_static_arguments_are_limited(pg):
    g = pg.jit(lambda x, n: x * n, static_argnums=1)
    g.cache_size = 3
    for n in range(10):
        assert g(2.0, n) == 2.0 * n
    assert len(g.programs) == 3


# ---- aux, argnums --------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
def test_aux_comes_along(pg, record):
    how = {"record": record}

    def g(x, y):
        return x * x * y, {"double": 2.0 * x, "y": [y, None]}

    aux = {"double": 6.0, "y": [4.0, None]}
    assert pg.grad(g, has_aux=True, **how)(3.0, 4.0) == (24.0, aux)
    assert pg.grad(g, (0, 1), True, **how)(3.0, 4.0) == ((24.0, 9.0), aux)
    assert pg.value_and_grad(g, has_aux=True, **how)(3.0, 4.0) == ((36.0, aux), 24.0)
    for transform in (pg.jacobian, pg.jacrev, pg.jacfwd):
        assert transform(g, argnums=1, has_aux=True, **how)(3.0, 4.0) == (9.0, aux)
    assert pg.hessian(g, has_aux=True, **how)(3.0, 4.0) == (8.0, aux)
    assert pg.jvp(g, (3.0, 4.0), (1.0, 0.0), has_aux=True, **how) == (36.0, 24.0, aux)
    value, pull, found = pg.vjp(g, 3.0, 4.0, has_aux=True, **how)
    assert (value, pull(2.0), found) == (36.0, (48.0, 18.0), aux)
    value, push, found = pg.linearize(g, 3.0, 4.0, has_aux=True, **how)
    assert (value, push(1.0, 1.0), found) == (36.0, 33.0, aux)
    inner = pg.jit(
        lambda x: pg.grad(g, has_aux=True)(x, 4.0)[1]["double"] * pg.vjp(g, x, 1.0, has_aux=True)[1](1.0)[0], **how
    )
    assert inner(3.0) == 36.0
    lanes = pg.vmap(pg.value_and_grad(g, has_aux=True), **how)(X, X)
    assert lanes[0][1]["double"].tolist() == (2 * X).tolist() and lanes[1].tolist() == (2 * X * X).tolist()


@pytest.mark.parametrize("record", [True, False])
def test_argnums_may_be_tuples_everywhere(pg, record):
    how = {"record": record}

    def g(x, p, y):
        return [p["a"] * x * x * y, {"s": (x * p["b"]).sum()}]

    args = (X, {"a": 2.0, "b": X[::-1]}, 4.0)
    alone = [pg.jacobian(g, i, **how)(*args) for i in range(3)]
    for transform in (pg.jacobian, pg.jacrev, pg.jacfwd):
        for argnums in ((0, 1), (2, 0, 1), (1,), (-1, 0), (0, 2, 0)):
            got = transform(g, argnums, **how)(*args)
            for leaf in (lambda r: r[0], lambda r: r[1]["s"]):
                assert type(leaf(got)) is tuple and len(leaf(got)) == len(argnums)
                for part, i in zip(leaf(got), argnums):
                    for a, b in zip(pg.tree_flatten(part)[0], pg.tree_flatten(leaf(alone[i]))[0]):
                        np.testing.assert_allclose(a, b, rtol=1e-14)
    curved = pg.hessian(lambda x, y: x * x * y * y, (1, 0), **how)(2.0, 3.0)
    assert curved == ((8.0, 24.0), (24.0, 18.0))


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
def test_positions_and_axes_may_be_integers_of_any_type(pg, kind):
    g, one = (lambda a, b: a * a * b), kind(1)
    assert pg.grad(g, argnums=one)(2.0, 3.0) == pg.jacobian(g, argnums=one)(2.0, 3.0) == 4.0
    assert pg.grad(g, argnums=(kind(0), 1))(2.0, 3.0) == pg.grad(g, argnums=np.array([0, 1]))(2.0, 3.0) == (12.0, 4.0)
    assert pg.hessian(g, argnums=kind(0))(2.0, 3.0) == 6.0 and pg.hessian(g, argnums=[one])(2.0, 3.0) == ((0.0,),)
    if importlib.util.find_spec("scipy") is not None:  # there is none for PyPy
        assert pg.jacobian(lambda a, b: [a * b], argnums=one, sparse=True)(2.0, 3.0).toarray().tolist() == [[2.0]]
    for static in (one, (one,), [kind(1)]):
        assert pg.jit(power, static_argnums=static)(2.0, 3) == 8.0
    ruled = pg.custom_vjp(lambda n, x: x**n, nondiff_argnums=kind(0))
    ruled.defvjp(lambda n, x: (x**n, x), lambda n, x, c: (c * n * 10.0,))
    assert pg.grad(lambda x: ruled(3, x))(2.0) == 30.0
    x = np.arange(6.0).reshape(2, 3)
    for axes in (one, (one,), ([one],)):
        rows = pg.vmap(lambda x: pg.tree_leaves(x)[0], in_axes=axes, out_axes=kind(0))([x] if axes == ([one],) else x)
        assert rows.tolist() == x[0].tolist()
    assert pg.vmap(lambda x: 2 * x, in_axes=one, out_axes=one)(x).tolist() == (2 * x).tolist()
    for wrong in (True, 1.0, {1}, np.array([0, 1])):
        with pytest.raises(ValueError, match="in_axes=.*must be an int, None, or a tuple"):
            pg.vmap(lambda x: x, in_axes=wrong)
        with pytest.raises(ValueError, match="out_axes.*must be an int or None: it is for an array of shape"):
            pg.vmap(lambda x: x, out_axes=wrong)(x)


def test_jacrev_and_jacfwd_take_one_way_each_and_jacobian_the_cheaper(pg, monkeypatch):
    passes = []
    home = pg._record.jacobians

    def counted(name, plain):
        return lambda *args: passes.append(name) or plain(*args)

    for name in ("vjp", "jvp"):
        monkeypatch.setattr(home, name, counted(name, getattr(home, name)))
    wide, tall = (lambda x: [x.sum(), (x * x).sum()]), (lambda x: np.array([x[0] * k for k in range(5)]))
    for g, x in ((wide, X), (tall, X)):
        results = {}
        for name in ("jacrev", "jacfwd", "jacobian"):
            passes.clear()
            results[name] = getattr(pg, name)(g)(x)
            expected = {"jacrev": ["vjp"] * (2 if g is wide else 5), "jacfwd": ["jvp"] * 3}
            expected["jacobian"] = expected["jacrev" if g is wide else "jacfwd"]
            assert passes == expected[name], name
        for name in ("jacrev", "jacobian"):
            for a, b in zip(results[name], results["jacfwd"]):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("record", [True, False])
def test_linearize_is_the_derivative_where_it_was(pg, record):
    k = 2.0
    value, push = pg.linearize(lambda x, p: {"a": x * x * p["w"] * k, "s": x.sum()}, X, {"w": 3.0}, record=record)
    k = 100.0
    np.testing.assert_allclose(value["a"], 6 * X * X)
    for tangents in ((X, {"w": 0.0}), (np.zeros(3), {"w": 1.0}), (X[::-1], {"w": 5.0})):
        got = push(*tangents)
        np.testing.assert_allclose(got["a"], 12 * X * tangents[0] + 2 * X * X * tangents[1]["w"])
        assert got["s"] == tangents[0].sum()
    with pytest.raises(ValueError, match="tangents must have the structure"):
        push(X)


def test_the_linear_part_of_an_eager_function_may_be_recorded(pg):
    def f(x):
        return 2 * x**3 if x < 3 else math.pi * x

    for x, slope in ((2.0, 24.0), (4.0, math.pi)):
        pull, push = pg.vjp(f, x, record=False)[1], pg.linearize(f, x, record=False)[1]
        assert pg.jit(pull)(1.0) == (slope,) and pg.jit(push)(2.0) == 2 * slope
        assert pg.vmap(pull)(X)[0].tolist() == pg.vmap(push)(X).tolist() == (slope * X).tolist()
        assert pg.grad(lambda c: pull(c)[0] * c)(2.0) == 4 * slope
        per_lane = pg.jit(lambda k: pg.vmap(lambda c: pull(c)[0] * k)(X))
        assert per_lane(2.0).tolist() == (slope * X * 2.0).tolist()


def test_linearize_within_other_transforms(pg):
    def slope(x, t):
        return pg.linearize(lambda y: pg.vmap(lambda z: z.sin() * z)(y).sum(), x)[1](t)

    expected = (np.cos(X) * X + np.sin(X)) @ X[::-1]
    assert pg.jit(slope)(X, X[::-1]) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(pg.grad(slope, 1)(X, X), np.cos(X) * X + np.sin(X))
    _, push = pg.linearize(lambda x: x * x, 3.0)
    assert pg.jit(lambda t: push(t) * t)(2.0) == 24.0
    per_lane = pg.jit(lambda x: [(p := pg.linearize(lambda y: y * y, 3.0)[1]), pg.vmap(lambda t: p(t) * t)(x)][1])
    assert per_lane(X).tolist() == (6 * X * X).tolist()
    many = pg.jit(lambda x: [(p := pg.linearize(pg.vmap(lambda y: y * y), X)[1]), pg.vmap(lambda t: p(t * X)[1])(x)][1])
    assert many(X).tolist() == (8.0 * X).tolist()


def test_hvp_takes_scipys_args(pg):
    minimize = pytest.importorskip("scipy.optimize").minimize

    def rosenbrock(x, a, b):
        return sum(b * (q - p * p) ** 2 + (a - p) ** 2 for p, q in zip(x[:-1], x[1:]))

    args = (1.0, 100.0)
    found = minimize(
        pg.value_and_grad(rosenbrock), np.zeros(4), args=args, jac=True, hessp=pg.hvp(rosenbrock), method="trust-ncg"
    )
    np.testing.assert_allclose(found.x, np.ones(4), rtol=1e-6)
    x, v = np.arange(4.0), np.ones(4)
    np.testing.assert_allclose(pg.hvp(rosenbrock)(x, v, *args), pg.hessian(rosenbrock)(x, *args) @ v)


def test_curve_fit_takes_a_jacobian_by_several_arguments(pg):
    curve_fit = pytest.importorskip("scipy.optimize").curve_fit

    def model(t, a, rate):
        return a * pg.math.exp(-rate * t)

    t = np.linspace(0, 3, 30)
    slopes = pg.jacobian(model, argnums=(1, 2))
    found, _ = curve_fit(
        pg.jit(model), t, 2.5 * np.exp(-1.3 * t), [1.0, 1.0], jac=lambda t, *p: np.column_stack(slopes(t, *p))
    )
    np.testing.assert_allclose(found, [2.5, 1.3], rtol=1e-8)


@pytest.mark.parametrize("record", [True, False])
def test_an_array_without_dimensions_is_a_scalar_result(pg, record):
    boxed = lambda x: np.array(x * x, dtype=object)  # noqa: E731
    assert pg.grad(boxed, record=record)(3.0) == 6.0
    assert pg.value_and_grad(lambda x: np.where(0, 2.0, 0.5), record=record)(3.0) == (0.5, 0.0)


# ---- Methods -------------------------------------------------------------------------------------


def springs(pg):
    class Spring:
        def __init__(self, k, start):
            self.k, self.start, self.calls = k, start, []

        @pg.jit
        def energy(self, x, *, scale=1.0):
            """Half k x squared."""
            self.calls.append("energy")
            return 0.5 * self.k * (x - self.start) ** 2 * scale

        @pg.grad
        def force(self, x):
            return self.energy(x)

        @pg.grad(argnums=1)
        def jaxs_force(self, x):
            return self.energy(x)

        @pg.vmap(in_axes=(None, 0, None))
        def many(self, x, y):
            return self.energy(x) * y

        @pg.jit(static_argnums=(0, 2))
        def often(self, x, n):
            return sum(self.energy(x) for _ in range(n))

    return Spring


def test_methods_are_recorded_for_each_object(pg):
    Spring = springs(pg)
    a, b = Spring(2.0, 0.0), Spring(10.0, 1.0)
    for _ in range(3):
        assert (a.energy(3.0), b.energy(3.0)) == (9.0, 20.0)
        assert a.energy(3.0, scale=2.0) == 18.0
        assert (a.force(3.0), b.force(3.0), a.jaxs_force(3.0)) == (6.0, 20.0, 6.0)
        assert a.many(X, 2.0).tolist() == (2 * X * X).tolist()
        assert a.often(1.0, 3) == a.often(1.0, n=3) == 3.0
    assert a.energy.__doc__ == "Half k x squared." and a.energy.__name__ == "energy"
    assert list(inspect.signature(a.energy).parameters) == ["x", "scale"]
    assert a.energy == a.energy != b.energy
    assert len(a.energy.program(1.0).results) == 1


def test_assigning_an_attribute_records_anew(pg):
    a = springs(pg)(2.0, 0.0)
    assert a.energy(3.0) == 9.0 and a.energy(1.0) == 1.0
    before = len(a.calls)
    a.k = 4.0
    assert a.energy(3.0) == 18.0 and a.force(3.0) == 12.0
    a.k = 2.0
    assert a.energy(3.0) == 9.0 and a.force(3.0) == 6.0
    assert len(a.calls) == before + 3
    a.k = pg.Value(6.0)
    assert a.energy(1.0) == 3.0
    a.k.data = 8.0
    assert a.energy(1.0) == 4.0 and len(a.calls) == before + 4  # Values are read at every call


def test_methods_keep_no_object_alive(pg):
    a = springs(pg)(2.0, 0.0)
    assert a.force(3.0) == 6.0
    kept = weakref.ref(a)
    method = a.force
    del a
    gc.collect()
    assert method(4.0) == 8.0 and kept() is not None
    del method
    gc.collect()
    assert kept() is None


def test_methods_of_trees_have_the_tree_as_their_first_argument(pg):
    calls = []

    @dataclasses.dataclass
    class Line:
        slope: Any
        start: Any

        @pg.jit
        def at(self, x):
            calls.append(x)
            return self.slope * x + self.start

        @pg.grad
        def by_self(self, x):
            return self.at(x) ** 2

        @pg.grad(argnums=1)
        def by_x(self, x):
            return self.at(x) ** 2

    line = Line(2.0, 1.0)
    assert line.at(3.0) == 7.0 and line.by_self(3.0) == Line(42.0, 14.0) and line.by_x(3.0) == 28.0
    before = len(calls)
    line.slope = 3.0
    assert line.at(3.0) == Line.at(line, 3.0) == 10.0 and len(calls) == before
    assert line.at.program(1.0)(line, 2.0) == 7.0


def test_methods_within_recorded_functions_and_of_objects_with_slots(pg):
    class Slotted:
        __slots__ = ("k",)

        @pg.jit
        def double(self, x):
            return self.k * x

    s = Slotted()
    for s.k in (2.0, 3.0):
        assert s.double(5.0) == 5.0 * s.k
    a = springs(pg)(2.0, 0.0)
    assert pg.grad(lambda x: a.energy(x) + a.force(x))(3.0) == 8.0
    assert pg.grad(lambda x: a.energy(x) + a.force(x), record=False)(3.0) == 8.0
    assert pg.vmap(a.force)(X).tolist() == (2 * X).tolist()


def test_several_decorators_of_a_method(pg):
    class Cubic:
        k = 1.0

        @pg.jit
        @pg.grad
        @pg.grad
        def curvature(self, x):
            return self.k * x**3

    c = Cubic()
    assert c.curvature(2.0) == 12.0
    c.k = 2.0
    assert c.curvature(2.0) == 24.0


def test_methods_see_what_slots_and_classes_are_bound_to(pg):
    class Slotted:
        __slots__ = ("__weakref__", "k")

        @pg.jit
        def f(self, x):
            return self.k * x

    class Plain:
        k = 2.0

        @pg.jit
        def f(self, x):
            return self.k * x

    slotted, plain = Slotted(), Plain()
    for k in (2.0, 5.0, 2.0):
        slotted.k = Plain.k = k
        assert slotted.f(3.0) == plain.f(3.0) == 3.0 * k
