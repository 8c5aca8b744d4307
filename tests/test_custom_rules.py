"""Functions with derivatives of their own: custom_vjp, custom_jvp, custom_root and fixed_point.

Random nested programs of them are in test_compositions.py; here is what they mean, case by case, against JAX, closed
forms and finite differences.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import itertools
import math
import pickle
import random
from typing import NamedTuple

import pytest

np = pytest.importorskip("numpy")

needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")


# ---- The meaning of JAX's rules ----------------------------------------------------------------------


def untrue(m, math, kind, calls):
    """A function whose rule is not its derivative, so that one sees who goes by the rule, and who does not."""
    if kind == "custom_vjp":

        @m.custom_vjp
        def f(x, y):
            return math.sin(x) * y

        def forward(x, y):
            return (f(x, y) if calls else math.sin(x) * y * y), (x, y, math.sin(x))

        def back(kept, g):
            x, y, s = kept
            return g * x * y * 3.0, g * s * s * y

        f.defvjp(forward, back)
    else:

        @m.custom_jvp
        def f(x, y):
            return math.sin(x) * y

        @f.defjvp
        def _rule(primals, tangents):
            (x, y), (dx, dy) = primals, tangents
            v = f(x, y) if calls else math.sin(x) * y * y
            return v, 3.0 * x * y * dx + math.sin(x) ** 2 * v * dy

    return f


def nested(m, f, array, forward):
    """Programs of one number. Those with `forward` take f, or what its rule has recorded, forward."""
    g, both = m.grad, lambda f, x: m.jvp(f, (x,), (1.0,))[1]
    yield lambda x: f(x, x)
    yield lambda x: g(lambda x: f(x, x * x) * x)(x)
    yield lambda x: g(lambda x: f(x, 2.0) ** 2)(x)
    yield lambda x: g(g(lambda x: f(x, 2.0) ** 2))(x)
    yield lambda x: g(g(g(lambda x: f(x, x) ** 2)))(x)
    yield lambda x: g(lambda x: g(lambda z: z * f(x, x))(x * 2))(x)
    yield lambda x: g(lambda x: g(lambda z: z * f(x, z))(x * 2))(x)
    yield lambda x: g(lambda x: g(lambda z: f(z * x, g(lambda w: f(w, z))(x)))(x * 2))(x)
    yield lambda x: g(lambda x: f(f(x, x), g(lambda z: f(z, x))(x)))(x)
    yield lambda x: g(lambda x: m.vmap(lambda a: f(a, x))(array([1.0, 2.0, 3.0]))[1] * 2)(x)
    yield lambda x: g(lambda x: (m.vmap(lambda a: g(f)(a, x) ** 2)(array([1.0, 2.0, 3.0]))).sum())(x)
    yield lambda x: g(g(lambda x: (m.vmap(lambda a: f(a * x, x) ** 2)(array([1.0, 2.0, 3.0]))).sum()))(x)
    yield lambda x: m.vjp(lambda y: f(x, y) * f(y, x), x)[1](x)[0]
    yield lambda x: g(lambda x: m.vjp(lambda y: f(x, y) * f(y, x), x)[1](x)[0])(x)
    # The value of a derivative that is not used, used in a vmap, or beside it.
    three = array([1.0, -0.5, 3.0])
    pulled = lambda f, x, use: use(*m.vjp(f, x))  # noqa: E731
    for outer in (g, lambda f: g(g(f))):
        yield outer(lambda x: m.vjp(lambda y: f(y, x), x)[0])
        yield outer(lambda x: pulled(lambda y: f(y, 2.0), x, lambda v, p: v * m.vmap(lambda t: p(t)[0])(three).sum()))
        yield outer(lambda x: pulled(lambda y: f(x, y), x, lambda v, p: v * sum(p(t)[0] for t in (1.0, 2.0))))
        yield outer(lambda x: g(lambda z: (z * 1.0, f(z, 2.0) * f(x, z)), has_aux=True)(x)[1])
        yield outer(lambda x: g(lambda z: (z * 1.0, f(x, x)), has_aux=True)(2.0)[1])
        yield outer(lambda x: m.jacrev(lambda z: (z * 1.0, f(z, x)), has_aux=True)(x)[1] * x)
        yield outer(lambda x: m.value_and_grad(lambda z: f(z, x))(x)[0])
        yield outer(lambda x: m.vmap(lambda t: m.vjp(lambda y: f(y, t), x)[0] * t)(three).sum())
        yield outer(lambda x: g(lambda z: m.vjp(lambda w: f(w, z), z)[0] * f(z, z))(x))
    if forward >= 1:
        yield lambda x: both(g(lambda x: f(x, x) ** 2), x)
        yield lambda x: m.hessian(lambda x: f(x, x * 2) ** 2)(x)
    if forward == 2:
        yield lambda x: both(lambda x: f(x, x) ** 2, x)
        yield lambda x: both(lambda x: both(lambda x: f(x, x) ** 2, x), x)
        yield lambda x: g(lambda x: both(lambda x: f(x, x) ** 2, x))(x)
        yield lambda x: g(lambda x: m.linearize(lambda y: f(y, x), x)[0])(x)
        yield lambda x: g(lambda x: pulled_forward(m, lambda y: f(y, 2.0), x, three))(x)
        yield lambda x: g(lambda x: m.jvp(lambda z: f(z, x), (x,), (1.0,))[0])(x)
        yield lambda x: g(lambda x: (m.vmap(lambda a: both(lambda z: f(a * z, z), x))(array([1.0, 2.0]))).sum())(x)


def pulled_forward(m, f, x, tangents):
    value, push = m.linearize(f, x)
    return value * m.vmap(push)(tangents).sum()


@needs_jax
@pytest.mark.parametrize("calls", [True, False], ids=["rule calls f", "rule computes f"])
@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp"])
def test_rules_that_are_no_derivatives_mean_what_they_mean_in_jax(pg, kind, calls):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    forward = 2 if kind == "custom_jvp" else 0 if calls else 1  # as far as JAX takes them
    ours = nested(pg, untrue(pg, pg.math, kind, calls), np.array, forward)
    theirs = nested(jax, untrue(jax, jnp, kind, calls), jnp.array, forward)
    for i, (one, other) in enumerate(zip(ours, theirs)):
        for x in (0.7, -1.3):
            expected = pytest.approx(float(other(x)), rel=1e-11)
            assert pg.jit(one)(x) == expected, i
            assert pg.jit(one, record=False)(x) == expected, i
        X = np.array([0.7, -1.3, 0.2])
        np.testing.assert_allclose(pg.vmap(one)(X), jax.vmap(other)(jnp.array(X)), rtol=1e-11)


@needs_jax
def test_random_nested_transforms_of_rules_agree_with_jax(pg):
    """Polynomials of calls, each argument now and then a derivative or a vmap of another call."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    seed = random.SystemRandom().randrange(2**32)
    print(f"SEED={seed}")

    def build(rng, m, f, array, depth, names):
        pick = lambda: rng.choice(names)  # noqa: E731
        if depth == 0:
            i, c = pick(), round(rng.uniform(-1, 1), 2)
            return lambda env: c * env[i]
        one, two = (build(rng, m, f, array, depth - 1, names) for _ in range(2))
        kind, new, at = rng.randrange(9), f"v{len(names)}", pick()
        inner = build(rng, m, f, array, depth - 1, [*names, new])
        c = round(rng.uniform(0.5, 1.5), 2)
        within = lambda env: lambda z: f(inner({**env, new: z}), c * z)  # noqa: E731
        if kind < 2:
            return lambda env: f(one(env), two(env))
        if kind == 2:
            return lambda env: one(env) * m.grad(within(env))(two(env))
        if kind == 3:
            return lambda env: m.jvp(within(env), (one(env),), (two(env),))[1]
        if kind == 4:
            return lambda env: m.vmap(within(env))(array([0.5, c, -0.3]) * env[at]).sum() + one(env)
        if kind == 5:
            return lambda env: m.vmap(m.grad(within(env)))(array([0.5, c]))[1] * two(env)
        if kind == 6:
            return lambda env: m.vjp(within(env), one(env))[0] * two(env)
        if kind == 7:
            return lambda env: pulled_forward(m, within(env), one(env), array([0.5, c]))
        return lambda env: m.grad(lambda z: (z * c, within(env)(z)), has_aux=True)(one(env))[1]

    for k in range(12):
        results = []
        for m, mathematics, array in ((pg, pg.math, np.array), (jax, jnp, jnp.array)):
            f = untrue(m, mathematics, "custom_jvp", k % 2)
            rng = random.Random(f"{seed}.{k}")
            body = build(rng, m, f, array, 2, ["x"])
            results.append(m.jit(m.grad(lambda x, body=body: body({"x": x}))))
        assert results[0](0.6) == pytest.approx(float(results[1](0.6)), rel=1e-9, abs=1e-9)


def test_derivatives_around_see_what_the_rules_functions_computed(pg):
    """Numbers by hand: f is x * x, its rule says 7 * x; twice derived, what 7 * x gives."""

    @pg.custom_vjp
    def f(x):
        return x * x

    f.defvjp(lambda x: (x * x, x), lambda x, g: (7.0 * g * x,))
    ones = np.ones(2)

    def around(use):
        return lambda x: use(*pg.vjp(f, x))

    cases = [
        (around(lambda value, _: value), 2.0 * 3.0),
        (around(lambda value, pull: value * pull(1.0)[0]), 3.0 * 7.0 * 9.0),
        (around(lambda value, pull: value * pg.vmap(lambda t: pull(t)[0])(ones).sum()), 2.0 * 3.0 * 7.0 * 9.0),
        (lambda x: pg.grad(lambda z: (z, f(z)), has_aux=True)(x)[1], 2.0 * 3.0),
        (lambda x: pg.grad(lambda z: (z, f(x)), has_aux=True)(x)[1], 7.0 * 3.0),
        (lambda x: f(x), 7.0 * 3.0),
    ]
    for i, (case, slope) in enumerate(cases):
        for record in (True, False):
            assert pg.grad(case, record=record)(3.0) == pytest.approx(slope, rel=1e-14), i
        assert pg.vmap(pg.grad(case))(np.array([3.0, 3.0])) == pytest.approx([slope, slope], rel=1e-14), i
        if importlib.util.find_spec("scipy"):
            assert pg.jacobian(lambda x, case=case: [case(x)], sparse=True)(3.0).toarray() == pytest.approx(slope), i


def test_without_a_derivative_the_function_itself_runs(pg):
    @pg.custom_vjp
    def f(x):
        return x * 3.0

    f.defvjp(lambda x: (x * 5.0, None), lambda _kept, g: (g * 7.0,))
    assert f(2.0) == 6.0
    assert pg.jit(f)(2.0) == 6.0
    assert pg.vmap(f)(np.ones(3)).tolist() == [3.0] * 3
    assert pg.value_and_grad(f)(2.0) == (10.0, 7.0)  # fwd's result, bwd's derivative
    assert pg.value_and_grad(f, record=False)(2.0) == (10.0, 7.0)


# ---- Arguments, results, residuals -----------------------------------------------------------------


def test_trees_and_arrays_go_in_and_come_out(pg):
    @pg.custom_vjp
    def f(p, x):
        return {"y": p["w"] @ x, "s": [p["b"] * x.sum()]}

    def forward(p, x):
        return f(p, x), {"p": p, "x": [x, np.arange(3.0)], "n": 2}

    def back(kept, g):
        p, x = kept["p"], kept["x"][0]
        assert kept["n"] == 2 and kept["x"][1].tolist() == [0.0, 1.0, 2.0]
        W = np.array([[gi * xj for xj in x] for gi in g["y"]])
        along = np.array([sum(p["w"][i, j] * g["y"][i] for i in range(2)) for j in range(3)])
        return {"w": W, "b": g["s"][0] * x.sum()}, along + g["s"][0] * p["b"]

    f.defvjp(forward, back)

    def plain(p, x):
        return {"y": p["w"] @ x, "s": [p["b"] * x.sum()]}

    rng = np.random.default_rng(0)
    p, X = {"w": rng.normal(size=(2, 3)), "b": 0.7}, rng.normal(size=(4, 3))

    def loss(f):
        return lambda p, x: (f(p, x)["y"] ** 2).sum() * f(p, x)["s"][0]

    def batch(f):
        return lambda p, X: pg.vmap(loss(f), in_axes=(None, 0), reduce="sum")(p, X)

    for make in (
        lambda f: pg.grad(loss(f), argnums=(0, 1))(p, X[0]),
        lambda f: pg.grad(batch(f), argnums=(0, 1))(p, X),
        lambda f: pg.vmap(pg.grad(loss(f)), in_axes=(None, 0))(p, X),
        lambda f: pg.hvp(lambda p: batch(f)(p, X))(p, {"w": np.ones((2, 3)), "b": -1.0}),
        lambda f: pg.hessian(lambda x: loss(f)(p, x))(X[0]),
        lambda f: pg.jacobian(lambda x: f(p, x))(X[0]),
        lambda f: pg.jvp(f, (p, X[0]), (p, X[1])),
        lambda f: pg.grad(loss(f), argnums=(0, 1), record=False)(p, X[0]),
    ):
        for one, other in zip(pg.tree_leaves(make(f)), pg.tree_leaves(make(plain)), strict=True):
            assert one == pytest.approx(other, rel=1e-12, abs=1e-13)


def test_a_cotangent_of_none_is_zero(pg):
    @pg.custom_vjp
    def f(x, y):
        return x * y

    f.defvjp(lambda x, y: (x * y, y), lambda y, g: (g * y, None))
    assert pg.grad(f, argnums=(0, 1))(2.0, 3.0) == (3.0, 0.0)
    assert pg.jvp(f, (2.0, 3.0), (1.0, 1.0)) == (6.0, 3.0)


@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp"])
def test_nondiff_argnums_come_first(pg, kind):
    @functools.partial(getattr(pg, kind), nondiff_argnums=(0, 2))
    def apply(f, x, n):
        return f(x) * n

    if kind == "custom_vjp":
        apply.defvjp(lambda f, x, n: (f(x) * n, x), lambda f, n, x, g: (g * n * 10.0 * x,))
    else:
        apply.defjvp(lambda f, n, primals, tangents: (f(primals[0]) * n, n * 10.0 * primals[0] * tangents[0]))
    square = lambda x: x * x  # noqa: E731
    assert pg.grad(lambda x: apply(square, x, 3))(2.0) == 60.0
    assert pg.vmap(pg.grad(lambda x: apply(square, x, n=3)))(np.array([1.0, 2.0])).tolist() == [30.0, 60.0]
    with pytest.raises(pg.RecordingError, match="pass the number as an argument, one not in nondiff_argnums"):
        pg.grad(lambda x: apply(square, 1.0 * x, x))(2.0)


def test_keywords_and_defaults_reach_the_rule_by_position(pg):
    @pg.custom_jvp
    def f(x, scale=2.0):
        return x * scale

    @f.defjvp
    def _rule(primals, tangents):
        x, scale = primals
        return x * scale, 100.0 * scale * tangents[0]

    assert pg.grad(lambda x: f(scale=3.0, x=x))(1.0) == 300.0
    assert pg.grad(f)(1.0) == 200.0
    with pytest.raises(TypeError, match="by position, not as shift="):
        pg.custom_jvp(lambda x, *, shift=0.0: x + shift)(1.0)

    @pg.custom_jvp
    def g(x, scale=2.0):
        return x * scale

    g.defjvps(lambda t, y, x, scale: t * y, None)
    assert pg.grad(g)(3.0) == 6.0
    assert pg.jit(g).program(1.0)(2.0) == 4.0


def test_a_rule_for_each_argument(pg):
    @pg.custom_jvp
    def f(x, y):
        return [x * y, x + y]

    f.defjvps(lambda t, ans, x, y: [t * y, t], lambda t, ans, x, y: [t * x, t])
    assert pg.jacobian(lambda z: f(z[0], z[1]))([2.0, 3.0]) == [[3.0, 2.0], [1.0, 1.0]]
    with pytest.raises(TypeError, match="needs defjvp"):
        pg.custom_jvp(lambda n, x: x, nondiff_argnums=0).defjvps(None)


# ---- Rules that are not linear ------------------------------------------------------------------------


def clipped(pg, low, high):
    @pg.custom_vjp
    def f(x):
        return x * 1.0

    f.defvjp(lambda x: (x * 1.0, None), lambda _, g: (pg.clip(g, low, high),))
    return f


def test_a_gradient_can_be_clipped_in_reverse_mode_only(pg):
    f = clipped(pg, -1.0, 1.0)
    loss = lambda x: (5.0 * f(x)).sin()  # noqa: E731
    for x, expected in ((0.0, 1.0), (0.3, 5.0 * math.cos(1.5)), (0.6, -1.0)):
        assert pg.grad(loss)(x) == pytest.approx(expected, rel=1e-12)
        assert pg.grad(loss, record=False)(x) == pytest.approx(expected, rel=1e-12)
        v = pg.Value(x)
        loss(v).backward()
        assert v.grad == pytest.approx(expected, rel=1e-12)
    # The gradient is derived like any other: here, where it is not clipped, and there, where it is.
    assert pg.hessian(lambda x: loss(x))(0.3) == pytest.approx(-25.0 * math.sin(1.5), rel=1e-12)
    assert pg.hvp(loss)(0.0, 1.0) == 0.0
    for record in (True, False):
        with pytest.raises(pg.RecordingError, match="linear in the cotangent; that of f is not"):
            pg.jvp(loss, (0.3,), (1.0,), record=record)
        with pytest.raises(pg.RecordingError, match="linear in the cotangent"):
            pg.jacobian(lambda x: [loss(x), x], record=record)(0.3)


def test_a_rule_that_is_not_linear_in_its_tangents_is_refused_in_reverse_mode(pg):
    @pg.custom_jvp
    def f(x):
        return x * x

    f.defjvp(lambda primals, tangents: (primals[0] ** 2, primals[0] * tangents[0] ** 2))
    assert pg.jvp(f, (3.0,), (2.0,)) == (9.0, 12.0)
    for record in (True, False):
        with pytest.raises(pg.RecordingError, match="linear in the tangents; that of f is not"):
            pg.grad(f, record=record)(3.0)


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_a_transposed_rule_is_recorded_once_for_all_rows_or_columns(pg, kind):
    calls = []

    def function(x):
        return np.array([t * t * t for t in x])

    f = getattr(pg, kind)(function)
    if kind == "custom_jvp":

        @f.defjvp
        def rule(primals, tangents):
            calls.append(1)
            (x,), (tangent,) = primals, tangents
            return f(x), np.array([3.0 * a * a * b for a, b in zip(x, tangent)])

    else:

        def back(x, cotangent):
            calls.append(1)
            return (np.array([3.0 * a * a * b for a, b in zip(x, cotangent)]),)

        f.defvjp(lambda x: (f(x), x), back)
    transform = {"custom_jvp": pg.jacrev, "custom_vjp": pg.jacfwd}[kind]
    counts = []
    for n in (2, 9):
        x = np.linspace(1.0, 2.0, n)
        calls.clear()
        np.testing.assert_allclose(transform(f)(x), np.diag(3.0 * x * x), rtol=1e-14)
        counts.append(len(calls))
        second = transform(lambda x: transform(f)(x).sum(axis=0))(x)
        np.testing.assert_allclose(second, np.diag(6.0 * x), rtol=1e-14)
    assert counts[0] == counts[1]
    if kind == "custom_jvp" and importlib.util.find_spec("scipy"):
        assert pg.jacobian(f, sparse=True)(x).nnz == n


# ---- What rules do not cover -----------------------------------------------------------------------------


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp"])
def test_a_variable_that_is_no_argument_is_refused(pg, kind, record):
    def loss(w, x, call):
        f = getattr(pg, kind)(lambda x: w * x)
        if kind == "custom_vjp":
            f.defvjp(lambda x: (w * x, None), lambda _, g: (g * w,))
        else:
            f.defjvp(lambda primals, tangents: (w * primals[0], w * tangents[0]))
        return call(f, x)

    for call in (lambda f, x: f(x), lambda f, x: pg.vmap(lambda a: f(a * x), reduce="sum")(np.array([1.0, 2.0]))):
        for transform in (
            lambda of: pg.grad(of, record=record),
            lambda of: pg.jacobian(of, record=record),
            lambda of: lambda w: pg.jvp(of, (w,), (1.0,), record=record),
        ):
            with pytest.raises(
                pg.RecordingError, match=r"differentiated with respect to a number that is not one of its"
            ) as e:
                transform(lambda w: loss(w, pg.Value(2.0), call))(3.0)
            assert "test_custom_rules.py" in str(e.value) or not record
        # By the argument alone, it is a number from outside.
        assert pg.grad(lambda x: loss(3.0, x, call), record=record)(2.0) in (3.0, 9.0)


def test_an_eager_value_that_is_no_argument_is_refused(pg):
    w = pg.Value(3.0)
    f = pg.custom_vjp(lambda x: w * x)
    f.defvjp(lambda x: (w * x, None), lambda _, g: (g * w,))
    with pytest.raises(
        TypeError, match=r"<lambda> uses Value\(data=3.0, grad=0.0\), which is not one of its arguments"
    ):
        f(pg.Value(2.0))
    assert pg.grad(f)(2.0) == 3.0


def test_a_variable_that_the_result_does_not_need_is_not_refused(pg):
    def loss(w):
        f = pg.custom_jvp(lambda x: w * x)
        f.defjvp(lambda primals, tangents: (w * primals[0], w * tangents[0]))
        f(pg.Value(1.0))
        return w * w

    assert pg.grad(loss)(3.0) == 6.0
    assert pg.jvp(loss, (3.0,), (1.0,)) == (9.0, 6.0)


def test_a_rule_is_needed(pg):
    f, g = pg.custom_vjp(lambda x: x), pg.custom_jvp(lambda x: x)
    assert f(1.0) == g(1.0) == pg.jit(f)(1.0) == 1.0
    for function, definer in ((f, "defvjp"), (g, "defjvp")):
        with pytest.raises(pg.RecordingError, match=definer):
            pg.grad(function)(1.0)
    for wrong, message in (
        (lambda: pg.custom_vjp(3), "takes a function, not 3"),
        (lambda: f.defvjp(lambda x: x, None), "bwd must be a function"),
        (lambda: g.defjvp("rule"), "must be a function"),
    ):
        with pytest.raises(TypeError, match=message):
            wrong()


def test_what_rules_return_is_checked(pg):
    def vjp(forward, back):
        f = pg.custom_vjp(lambda x, y: x * y)
        f.defvjp(forward, back)
        return f

    def jvp(rule):
        f = pg.custom_jvp(lambda x, y: x * y)
        f.defjvp(rule)
        return f

    right = lambda x, y: (x * y, (x, y))  # noqa: E731
    for f, message in (
        (vjp(lambda x, y: x * y, None or right), "fwd of <lambda> must return a pair"),
        (vjp(right, lambda kept, g: g), "must return a tuple of 2"),
        (vjp(right, lambda kept, g: (g,)), "must return a tuple of 2"),
        (vjp(right, lambda kept, g: (g, [g])), "cotangent 1 must have the structure and shapes of argument 1"),
        (vjp(right, lambda kept, g: (np.array([g]), g)), "cotangent 0 must have the structure"),
        (jvp(lambda primals, tangents: primals[0]), "must return a pair: the result and its tangent"),
        (jvp(lambda primals, tangents: (primals[0], [tangents[0]])), "must have the structure and shapes of the res"),
    ):
        for run in (lambda f=f: pg.grad(f)(1.0, 2.0), lambda f=f: f(pg.Value(1.0), pg.Value(2.0)).backward()):
            with pytest.raises(TypeError, match=message):
                run()
    with pytest.raises(ValueError, match=r"nondiff_argnums=\(2,\): <lambda> was called with 2 arguments"):
        pg.custom_vjp(lambda x, y: x, nondiff_argnums=(2,))(1.0, 2.0)


@pytest.mark.parametrize("record", [True, False])
def test_an_exception_in_a_rule_leaves_everything_usable(pg, record):
    fail = [True]

    @pg.custom_vjp
    def f(x):
        return x * x

    def back(x, g):
        if fail:
            raise KeyError("the rule's own")
        return (g * 2 * x,)

    f.defvjp(lambda x: (x * x, x), back)
    loss = pg.grad(lambda x: f(f(x)), record=record)
    with pytest.raises(KeyError, match="the rule's own"):
        loss(3.0)
    before = pg.tape_stats().collections
    pg.collect()
    assert pg.tape_stats().collections == before + 1  # no pass is left under way
    fail.clear()
    assert loss(3.0) == 4 * 27.0
    assert pg.grad(pg.grad(lambda x: f(f(x))), record=record)(3.0) == 12 * 9.0


# ---- Lanes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp"])
def test_lanes_stay_lanes(pg, kind):
    f = getattr(pg, kind)(lambda w, x: (w * x).sin())
    if kind == "custom_vjp":
        f.defvjp(
            lambda w, x: (f(w, x), (w, x)),
            lambda k, g: (g * (k[0] * k[1]).cos() * k[1], g * k[0] * (k[0] * k[1]).cos()),
        )
    else:
        f.defjvps(lambda t, _, w, x: t * x * (w * x).cos(), lambda t, _, w, x: t * w * (w * x).cos())
    plain = lambda w, x: (w * x).sin()  # noqa: E731
    X = np.linspace(-1.0, 1.0, 2_000)

    def total(f):
        return lambda w, X: pg.vmap(lambda x: f(w, x) ** 2, reduce="sum")(X)

    for make, args in (
        (lambda f: pg.value_and_grad(total(f), argnums=(0, 1)), (0.7, X)),
        (lambda f: pg.hessian(total(f)), (0.7, X)),
        (lambda f: pg.vmap(pg.grad(f), in_axes=(None, 0)), (0.7, X)),
        (lambda f: pg.jit(lambda w, X: pg.jvp(total(f), (w, X), (1.0, X))), (0.7, X)),
        (lambda f: pg.hvp(lambda X: total(f)(0.7, X)), (X, X)),
        (lambda f: pg.grad(lambda w, X: pg.grad(total(f))(w, X) ** 2, argnums=1), (0.7, X)),
    ):
        ours, theirs = make(f), make(plain)
        for one, other in zip(pg.tree_leaves(ours(*args)), pg.tree_leaves(theirs(*args)), strict=True):
            assert one == pytest.approx(other, rel=1e-11, abs=1e-12)
        sizes = [function.program(*args).stats.instructions for function in (ours, theirs)]
        assert sizes[0] < 2 * sizes[1] + 20


def test_a_result_that_is_the_same_in_all_lanes_has_a_derivative_in_each(pg):
    @pg.custom_vjp
    def f(_x, w):
        return 2.0 * w

    f.defvjp(lambda x, w: (2.0 * w, x), lambda x, g: (g * 10.0, g * x))
    X = np.array([1.0, 2.0, 3.0])
    got = pg.grad(lambda X, w: pg.vmap(lambda x: f(x, w), reduce="sum")(X), argnums=(0, 1))(X, 5.0)
    assert got[0].tolist() == [10.0] * 3 and got[1] == 6.0
    got = pg.grad(lambda X, w: pg.vmap(lambda x: f(x, w))(X)[1] * 2, argnums=(0, 1))(X, 5.0)
    assert got[0].tolist() == [0.0, 20.0, 0.0] and got[1] == 4.0
    got = pg.jvp(lambda X: pg.vmap(lambda x: f(x, 5.0))(X), (X,), (X,))
    assert got[0].tolist() == [10.0] * 3 and got[1].tolist() == [10.0, 20.0, 30.0]


def test_rules_over_whole_arrays_that_a_vmap_reads(pg):
    """A call around a vmap, whose rule uses vmaps and derivatives, too."""

    @pg.custom_vjp
    def f(w, X):
        return pg.vmap(lambda x: (w * x).exp())(X)

    def back(kept, g):
        w, X = kept
        slope = pg.vmap(pg.grad(lambda w, x: (w * x).exp()), in_axes=(None, 0))(w, X)
        return sum(slope * g), pg.vmap(lambda x, g: g * w * (w * x).exp())(X, g)

    f.defvjp(lambda w, X: (f(w, X), (w, X)), back)
    plain = lambda w, X: pg.vmap(lambda x: (w * x).exp())(X)  # noqa: E731
    X = np.array([0.1, -0.4, 0.9])
    for make in (
        lambda f: pg.jacobian(f)(0.5, X),
        lambda f: pg.jacobian(f, argnums=1)(0.5, X),
        lambda f: pg.hessian(lambda w: (f(w, X) ** 2).sum())(0.5),
        lambda f: pg.grad(lambda X: pg.grad(lambda w: f(w, X).sum())(0.5))(X),
        lambda f: pg.vmap(pg.jacobian(f), in_axes=(0, None))(X, X),
        lambda f: pg.grad(lambda w: pg.vmap(lambda x: x * f(w, X)[1], reduce="sum")(X))(0.5),
    ):
        np.testing.assert_allclose(make(f), make(plain), rtol=1e-12)


def test_recordings_with_rules_survive_collections(pg):
    lib, tape = pg._core.layer.lib, pg._core.layer.TAPE
    f = untrue(pg, pg.math, "custom_vjp", True)
    loss = lambda X: (pg.vmap(lambda x: f(x, x * 2) ** 2)(X) ** 2).sum()  # noqa: E731
    X = np.array([0.3, 0.6])
    expected = pg.hessian(loss)(X)
    for at in (1, 7, 40):
        lib.pgr_tape_limits(tape, at, 2**32 - 2)
        try:
            np.testing.assert_array_equal(pg.hessian(lambda X: loss(X))(X), expected)
        finally:
            lib.pgr_tape_limits(tape, 1 << 14, 2**32 - 2)


# ---- Eager Values ---------------------------------------------------------------------------------------------


def test_eager_values_go_by_the_rule(pg):
    for kind, calls in itertools.product(["custom_vjp", "custom_jvp"], [True, False]):
        f = untrue(pg, pg.math, kind, calls)
        loss = lambda x, y, f=f: f(x, y) * x + f(y, x)  # noqa: E731
        x, y = pg.Value(0.7), pg.Value(-0.4)
        out = loss(x, y)
        out.backward()
        expected = pg.value_and_grad(loss, argnums=(0, 1))(0.7, -0.4)
        # Without a derivative to come, the primal is f's; with one it is the rule's. backward() may come.
        assert (x.grad, y.grad) == pytest.approx(expected[1], rel=1e-12)
        assert out.data == pytest.approx(expected[0] if kind == "custom_vjp" or calls else out.data, rel=1e-12)


def test_eager_results_share_one_call_of_the_rule(pg):
    calls = []

    @pg.custom_vjp
    def f(x, y):
        return [x * y, {"s": np.array([x + y, x - y])}]

    def back(kept, g):
        x, y = kept
        a, (b, c) = g[0], g[1]["s"]
        calls.append([v.data for v in (a, b, c)])
        return a * y + b + c, a * x + b - c

    f.defvjp(lambda x, y: (f(x, y), (x, y)), back)
    x, y = pg.Value(2.0), pg.Value(3.0)
    out = f(x, y)
    (out[0] + 10.0 * out[1]["s"][0] * out[1]["s"][1]).backward()  # 6 + 10 * (x**2 - y**2)
    assert (x.grad, y.grad) == (3.0 + 40.0, 2.0 - 60.0)
    assert calls == [[1.0, -10.0, 50.0]]
    x.grad = y.grad = 0.0
    out[1]["s"][1].backward()  # a pass that does not reach the others
    assert (x.grad, y.grad) == (1.0, -1.0) and calls[1:] == [[0.0, 0.0, 1.0]]


def test_an_interrupted_pass_leaves_nothing_for_the_next(pg):
    @pg.custom_vjp
    def f(x):
        return [x * 2.0, x * 3.0]

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g[0] * 2.0 + g[1] * 3.0,))

    def fails():
        raise KeyboardInterrupt

    x = pg.Value(1.0)
    one, two = f(x)
    between = pg.Value(0.0, (one,), "fails")
    between._backward = fails
    with pytest.raises(KeyboardInterrupt):
        (two + between).backward()
    x.grad = 0.0
    one.backward()
    assert x.grad == 2.0


def test_custom_operations_and_rules_meet_in_eager_functions(pg):
    cube = pg.custom_op(lambda x: x**3, lambda g, y, x: g * 3 * x * x, "cube")
    f = untrue(pg, pg.math, "custom_vjp", False)
    loss = lambda x: cube(f(x, x)) + f(cube(x), x)  # noqa: E731
    x = pg.Value(0.7)
    loss(x).backward()
    assert pg.grad(loss, record=False)(0.7) == pytest.approx(x.grad, rel=1e-12)
    with pytest.raises(pg.RecordingError, match="cube is Python code"):
        pg.grad(loss)(0.7)
    with pytest.raises(pg.RecordingError, match="cube, whose derivative is Python code"):
        pg.grad(pg.grad(loss, record=False), record=False)(0.7)


def test_calls_leave_nothing_behind(pg):
    f = untrue(pg, pg.math, "custom_vjp", True)
    root = lambda a: pg.custom_root(lambda x: x * x - a, 1.5, newton(pg, 2))  # noqa: E731
    slope = pg.grad(lambda x: f(x, root(x * x + 1.0)) ** 2, record=False)
    gc.collect()
    pg.collect()
    before, seen = pg.tape_stats().nodes, []
    gc.disable()  # reference counts free them
    try:
        for _ in range(4):
            for _ in range(20):
                x = pg.Value(0.5)
                (f(x, x) * root(x)).backward()
                slope(0.5)
            del x
            pg.collect()
            seen.append(pg.tape_stats().nodes)
    finally:
        gc.enable()
    assert seen[1] == seen[2] == seen[3] < before + 2000


# ---- Names -----------------------------------------------------------------------------------------------------


def test_functions_with_rules_keep_their_names(pg):
    @pg.custom_jvp
    def half(x):
        """Half of it."""
        return x / 2

    assert (half.__name__, half.__doc__, repr(half)) == ("half", "Half of it.", "<custom_jvp half>")
    half.defjvps(lambda t, y, x: t / 2)
    assert str(pg.jit(half).program(3.0)).splitlines()[1] == "arguments: x"


def test_functions_with_rules_are_pickled_by_name(pg):
    import rules_by_name

    f = rules_by_name.over(pg)
    assert pickle.loads(pickle.dumps(f)) is f


def test_rules_that_draw_random_numbers_are_found(pg):
    f = pg.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, g: (g * random.random(),))
    g = pg.custom_jvp(lambda x: x * x)
    g.defjvps(lambda t, y, x: t * random.random())
    h = pg.custom_vjp(lambda x: x * x)
    h.defvjp(lambda x: (x * random.random(), x), lambda x, g: (g,))
    for function in (f, g, h):
        assert pg.jit(function)(3.0) == 9.0
        with pytest.raises(pg.RecordingError, match="draws random numbers"):
            pg.grad(function)(3.0)


def test_rules_within_the_other_transforms(pg):
    exp = pg.custom_jvp(pg.math.exp)  # of twice its derivative
    exp.defjvps(lambda t, y, x: 2.0 * t * y)
    sin = pg.custom_vjp(pg.math.sin)  # of three times its derivative, twice
    sin.defvjp(lambda x: (sin(x), x), lambda x, g: (3.0 * g * pg.math.cos(x),))
    e, s, c = math.exp(0.5), math.sin(0.5), 3.0 * math.cos(0.5)
    f = lambda x: [exp(x), sin(x)]  # noqa: E731
    for transform in (pg.jacfwd, pg.jacrev, pg.jacobian):
        assert transform(f)(0.5) == pytest.approx([2 * e, c], rel=1e-14)
        assert transform(f, record=False)(0.5) == pytest.approx([2 * e, c], rel=1e-14)
    assert pg.linearize(f, 0.5)[1](10.0) == pytest.approx([20 * e, 10 * c], rel=1e-14)
    assert pg.grad(lambda x: (exp(x) * sin(x), x), has_aux=True)(0.5) == (pytest.approx(2 * e * s + e * c), 0.5)
    assert pg.grad(pg.checkpoint(sin))(0.5) == pytest.approx(c)
    assert pg.hessian(pg.jit(exp))(0.5) == pytest.approx(4 * e)
    got = pg.vmap(pg.vmap(pg.grad(sin)), in_axes=1, out_axes=-1)(np.full((2, 3), 0.5))
    np.testing.assert_allclose(got, np.full((2, 3), c))


def test_trees_of_any_kind_go_by_rules(pg):
    class Point(NamedTuple):
        x: object
        y: object

    @pg.custom_vjp
    def f(p, shift):
        return Point(p.x * p.y, None if shift is None else p.x + shift["s"])

    def back(kept, g):
        p, shift = kept
        other = 0.0 if g.y is None else g.y
        return Point(g.x * p.y + other, g.x * p.x), None if shift is None else {"s": g.y}

    f.defvjp(lambda p, shift: (f(p, shift), (p, shift)), back)
    p = Point(2.0, 3.0)
    assert pg.grad(lambda p: f(p, None).x)(p) == Point(3.0, 2.0)
    assert pg.grad(lambda p, s: f(p, s).x + 10.0 * f(p, s).y, argnums=(0, 1))(p, {"s": 1.0}) == (
        Point(13.0, 2.0),
        {"s": 10.0},
    )
    assert pg.jvp(lambda p: f(p, None), (p,), (Point(1.0, 0.0),)) == (Point(6.0, None), Point(3.0, None))


# ---- Roots --------------------------------------------------------------------------------------------------------


def newton(pg, steps=8):
    def solve(f, x):
        for _ in range(steps):
            x = x - f(x) / pg.grad(f)(x)
        return x

    return solve


def newton_system(pg, steps=8):
    solve_linear = pg._record.roots.solve_linear

    def solve(f, x):
        for _ in range(steps):
            x = np.array(x - np.array(solve_linear(pg.jacobian(f)(x).tolist(), list(f(x)))))
        return x

    return solve


def test_a_root_has_the_derivatives_of_its_closed_form(pg):
    def root(a, b):
        return pg.custom_root(lambda x: x * x * b - a, 1.5, newton(pg))

    def closed(a, b):
        return (a / b) ** 0.5

    X, g = np.array([1.0, 2.0, 0.3]), pg.grad
    for make in (
        lambda q: pg.jit(q)(2.0, 3.0),
        lambda q: g(q, argnums=(0, 1))(2.0, 3.0),
        lambda q: g(g(q), argnums=(0, 1))(2.0, 3.0),
        lambda q: g(g(g(q, argnums=1)))(2.0, 3.0),
        lambda q: g(g(q), argnums=1, record=False)(2.0, 3.0),
        lambda q: pg.jvp(q, (2.0, 3.0), (1.0, 2.0)),
        lambda q: pg.hessian(lambda z: q(z[0], z[1]) ** 3)(np.array([2.0, 3.0])),
        lambda q: pg.hvp(lambda z: q(z[0], z[1]) ** 3)(np.array([2.0, 3.0]), np.array([1.0, -1.0])),
        lambda q: pg.vmap(q, in_axes=(0, None))(X, 3.0),
        lambda q: pg.vmap(g(g(q, argnums=1)), in_axes=(0, None))(X, 3.0),
        lambda q: g(lambda X, b: pg.vmap(q, in_axes=(0, None), reduce="sum")(X, b), argnums=(0, 1))(X, 3.0),
        lambda q: pg.hessian(lambda X: (pg.vmap(q, in_axes=(0, None))(X, X[1]) ** 2).sum())(X),
        lambda q: g(lambda a: q(a, q(a, a * 2)))(1.3),
        lambda q: g(g(lambda a: q(a, q(a, a * 2))))(1.3),
        lambda q: g(lambda x: g(lambda z: z * q(x, z))(2.0 * x))(1.3),
    ):
        for one, other in zip(pg.tree_leaves(make(root)), pg.tree_leaves(make(closed)), strict=True):
            assert one == pytest.approx(other, rel=1e-11, abs=1e-12)


def test_a_root_of_a_system_has_the_derivatives_of_its_closed_form(pg):
    def root(a, b):
        f = lambda x: np.array([x[1] * x[0] - a, x[0] + x[1] - b])  # noqa: E731
        return pg.custom_root(f, np.array([0.3, 2.0]), newton_system(pg))

    def closed(a, b):
        s = (b * b - 4 * a) ** 0.5
        return np.array([(b - s) / 2, (b + s) / 2])

    for make in (
        lambda q: pg.jit(q)(1.0, 3.0),
        lambda q: pg.jacobian(q)(1.0, 3.0),
        lambda q: pg.jacobian(pg.jacobian(q), argnums=1)(1.0, 3.0),
        lambda q: pg.hessian(lambda z: q(z[0], z[1])[0])(np.array([1.0, 3.0])),
        lambda q: pg.vmap(pg.jacobian(q, argnums=1))(np.array([1.0, 0.7]), np.array([3.0, 2.5])),
        lambda q: pg.vjp(q, 1.0, 3.0)[1](np.array([1.0, 2.0])),
        lambda q: pg.jacobian(q, record=False)(1.0, 3.0),
    ):
        np.testing.assert_allclose(make(root), make(closed), rtol=1e-10, atol=1e-12)


def test_a_root_of_a_tree(pg):
    def equilibrium(a):
        """Demand a - p equals supply q, and q = p / 2."""
        f = lambda x: {"p": a - x["p"] - x["q"][0], "q": [x["q"][0] - 0.5 * x["p"]]}  # noqa: E731

        def solve(f, x):
            for _ in range(60):
                r = f(x)
                x = {"p": x["p"] + 0.5 * r["p"], "q": [x["q"][0] - 0.5 * r["q"][0]]}
            return x

        return pg.custom_root(f, {"p": 0.0, "q": [0.0]}, solve)

    value, slope = pg.jvp(equilibrium, (3.0,), (1.0,))
    assert pg.tree_leaves(value) == pytest.approx([2.0, 1.0]) and pg.tree_leaves(slope) == pytest.approx([2 / 3, 1 / 3])
    a = pg.Value(3.0)
    (10.0 * equilibrium(a)["q"][0]).backward()
    assert a.grad == pytest.approx(10.0 / 3.0)


def test_what_f_uses_may_be_arrays_lanes_and_other_roots(pg):
    """A maximum-likelihood estimate, the mean of X, derived by each observation."""
    X = np.linspace(-1.0, 2.0, 5000)

    def estimate(w, X):
        score = lambda t: pg.vmap(lambda x: w * (x - t), reduce="sum")(X) + 0.001 * t * (1 - t / t)  # noqa: E731
        return pg.custom_root(score, 0.5, newton(pg, 1))

    slope = pg.grad(estimate, argnums=(0, 1))
    by_w, by_X = slope(2.0, X)
    assert by_w == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(by_X, np.full(5000, 1 / 5000), rtol=1e-9)
    assert slope.program(2.0, X).stats.instructions < 200
    value, tangent = pg.jvp(lambda X: estimate(2.0, X), (X,), (X**2,))
    assert value == pytest.approx(X.mean()) and tangent == pytest.approx((X**2).mean())
    both = pg.hvp(lambda X: estimate(2.0, X) ** 2)(X, X)
    np.testing.assert_allclose(both, np.full(5000, 2 * X.mean() / 5000), rtol=1e-9)


def test_how_the_solver_got_there_does_not_matter(pg):
    """A solver that is exact by luck: its steps have no derivative, or another one."""
    x = pg.custom_root
    assert pg.grad(lambda a: x(lambda x: x - a * a, 0.0, lambda f, _: 9.0))(3.0) == 6.0
    assert pg.grad(lambda a: x(lambda x: x - a * a, 0.0, lambda f, _: a * 3.0))(3.0) == 6.0
    assert pg.grad(pg.grad(lambda a: x(lambda x: x - a * a, 0.0, lambda f, _: a * 3.0)))(3.0) == 2.0
    assert pg.grad(lambda a: x(lambda x: x - a * a, a, lambda f, x0: x0 * 3.0))(3.0) == 6.0
    v = pg.Value(3.0)
    out = x(lambda x: x - v * v, 0.0, lambda f, _: 9.0)
    out.backward()
    assert (out.data, v.grad) == (9.0, 6.0)


def test_a_root_of_functions_with_rules(pg):
    f = untrue(pg, pg.math, "custom_jvp", True)
    # x = f(a, b): by the theorem, its derivative is that of f, which is the rule's.
    root = lambda a, b: pg.custom_root(lambda x: x - f(a, b), 0.0, lambda _r, _x: f(a, b))  # noqa: E731
    for make in (
        lambda q: pg.grad(q, argnums=(0, 1))(0.7, 0.4),
        lambda q: pg.grad(pg.grad(q), argnums=(0, 1))(0.7, 0.4),
        lambda q: pg.grad(lambda X: (pg.vmap(q)(X, X) ** 2).sum())(np.array([0.7, 0.4])),
        lambda q: pg.hessian(lambda X: (pg.vmap(q)(X, X) ** 2).sum())(np.array([0.7, 0.4])),
    ):
        np.testing.assert_allclose(make(root), make(f), rtol=1e-12)


def test_the_linear_system_can_be_solved_by_the_caller(pg):
    seen = []

    def tangent_solve(g, y):
        seen.append(1)
        return y / g(1.0)

    root = lambda a: pg.custom_root(lambda x: x * x - a, 1.5, newton(pg), tangent_solve)  # noqa: E731
    assert pg.grad(root)(2.0) == pytest.approx(0.5 / math.sqrt(2.0), rel=1e-12)
    assert pg.jvp(root, (2.0,), (1.0,))[1] == pytest.approx(0.5 / math.sqrt(2.0), rel=1e-12)
    assert seen


@needs_jax
def test_roots_agree_with_jax(pg):
    import jax

    jax.config.update("jax_enable_x64", True)

    def make(m, root):
        def solve(f, x):
            for _ in range(12):
                x = x - f(x) / m.grad(f)(x)
            return x

        def q(a, b):
            return root(lambda x: x**3 + b * x - a, 1.0, solve, lambda g, y: y / g(1.0))

        return lambda a, b: m.grad(m.grad(lambda a, b: q(a, b) * q(b, a * q(a, b)), argnums=1))(a, b)

    ours, theirs = make(pg, pg.custom_root), make(jax, jax.lax.custom_root)
    for a, b in ((2.0, 1.0), (0.4, 2.5)):
        assert pg.jit(ours)(a, b) == pytest.approx(float(theirs(a, b)), rel=1e-10)


def test_linear_systems_with_zero_pivots_are_solved(pg):
    solve_linear = pg._record.roots.solve_linear

    def solve(A, y):
        n = len(y)
        return np.array(solve_linear([[A[i, j] for j in range(n)] for i in range(n)], list(y)))

    rng = np.random.default_rng(1)
    tests = [np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0], [3.0, 0.0, 1.0]])]
    tests += [rng.normal(size=(n, n)) * 10.0 ** rng.uniform(-8, 8, size=(n, 1)) for n in (1, 2, 3, 4, 5)]
    for A in tests:
        y = rng.normal(size=len(A))
        expected = np.linalg.solve(A, y)
        np.testing.assert_allclose(pg.jit(solve)(A, y), expected, rtol=1e-10)
        np.testing.assert_allclose(pg.jit(solve, record=False)(A, y), expected, rtol=1e-10)
        # d(A**-1 y) = -A**-1 dA A**-1 y
        dA, dy = rng.normal(size=A.shape) * abs(A).max(1, keepdims=True), rng.normal(size=len(A))
        got = pg.jvp(solve, (A, y), (dA, dy))[1]
        scale = abs(np.linalg.solve(A, dA)).max() + abs(np.linalg.solve(A, dy)).max()
        np.testing.assert_allclose(got, np.linalg.solve(A, dy - dA @ expected), rtol=1e-8, atol=1e-10 * scale)
    assert not np.isfinite(pg.jit(solve)(np.ones((2, 2)), np.array([1.0, 2.0]))).any()


def test_a_root_that_is_not_alike_is_refused(pg):
    for run in (pg.jit(lambda a: pg.custom_root(lambda x: [x - a], 0.0, lambda f, x: x)),):
        assert run(1.0) == 0.0  # nothing derives it
    with pytest.raises(TypeError, match="f must return a tree of the structure and shapes of its argument"):
        pg.grad(lambda a: pg.custom_root(lambda x: [x - a], 0.0, lambda f, x: x))(1.0)
    with pytest.raises(TypeError, match="f must return a tree of the structure"):
        pg.custom_root(lambda x: [x - pg.Value(1.0)], 0.0, lambda f, x: x)
    with pytest.raises(ValueError, match="steps=0: must be a positive int"):
        pg.fixed_point(lambda x: x, 1.0, steps=0)


def test_floats_are_solved_as_floats(pg):
    assert type(pg.custom_root(lambda x: x * x - 2.0, 1.5, newton(pg))) is float
    x = pg.custom_root(lambda x: np.array([x[0] - 1.0, x[1] - x[0]]), np.zeros(2), newton_system(pg))
    assert x.tolist() == [1.0, 1.0]
    found = pg.custom_root(math.sin, 3.0, lambda f, x: x - f(x) / math.cos(x))
    assert type(found) is float and found == pytest.approx(math.pi, abs=1e-3)


def test_a_fixed_point_is_derived_as_one(pg):
    def kepler(m, e):
        return pg.fixed_point(lambda x: m + e * x.sin(), m, steps=40)

    m, e = 1.0, 0.3
    x = pg.jit(kepler)(m, e)
    assert x == pytest.approx(m + e * math.sin(x), rel=1e-14)
    one, two = pg.grad(kepler, argnums=(0, 1))(m, e)
    assert (one, two) == pytest.approx((1 / (1 - e * math.cos(x)), math.sin(x) / (1 - e * math.cos(x))), rel=1e-12)
    # d2x/dm2 = -e * sin(x) * (dx/dm)**3
    assert pg.hessian(kepler)(m, e) == pytest.approx(-e * math.sin(x) * one**3, rel=1e-11)
    v = pg.Value(m)
    kepler(v, e).backward()
    assert v.grad == pytest.approx(one, rel=1e-12)
    few = lambda m: pg.fixed_point(lambda x: m + e * x.sin(), 0.0, solve=lambda g, x0: x)  # noqa: E731
    assert pg.grad(few)(m) == pytest.approx(one, rel=1e-12)  # it need not step at all
    M = np.linspace(0.0, 3.0, 1000)
    slopes = pg.vmap(pg.grad(kepler), in_axes=(0, None))
    np.testing.assert_allclose(slopes(M, e), 1 / (1 - e * np.cos(pg.vmap(kepler, in_axes=(0, None))(M, e))), rtol=1e-12)
    assert slopes.program(M, e).stats.instructions < 250
