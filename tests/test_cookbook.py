"""The examples of JAX's autodiff cookbook, but for those about GPUs and complex numbers, over pygrad.

Each is written once, from its mathematics, over a namespace that is JAX or pygrad: pygrad's numbers are compared with
JAX's where JAX is installed, and with stated ones, which JAX 0.10 gave, everywhere.
"""

from __future__ import annotations

import importlib.util
import types

import pytest

np = pytest.importorskip("numpy")

rng = np.random.default_rng(0)
INPUTS = np.array([[0.5, 1.1, 0.8], [0.9, -1.1, 0.1], [0.5, 0.1, -1.3], [0.7, -2.5, 1.4]])
TARGETS = np.array([1.0, 1.0, 0.0, 1.0])
W, B = rng.normal(size=3), 0.3
V, U = rng.normal(size=3), rng.normal(size=4)
S, M = rng.normal(size=(16, 3)), rng.normal(size=(16, 4))
X, T = rng.normal(size=(4, 5)), rng.normal(size=(4, 5))


def model(ns):
    """Logistic regression: predictions, and the negative log-likelihood of the targets."""

    def predict(w, b, inputs):
        return (ns.tanh((ns.dot(inputs, w) + b) / 2) + 1) * 0.5

    def loss(w, b):
        p = predict(w, b, INPUTS)
        return -ns.sum(ns.log(p * TARGETS + (1 - p) * (1 - TARGETS)))

    return predict, loss


def derivatives_of_any_order(ns):
    f, found = ns.tanh, []
    for _ in range(3):
        f = ns.grad(f)
        found.append(f(2.0))
    return found


def gradients_by_argnums(ns):
    loss = model(ns)[1]
    return [ns.grad(loss, argnums=0)(W, B), ns.grad(loss)(W, B), ns.grad(loss, 1)(W, B), ns.grad(loss, (0, 1))(W, B)]


def gradients_by_containers(ns):
    loss = model(ns)[1]
    return [
        ns.grad(lambda p: loss(p["w"], p["b"]))({"w": W, "b": B}),
        ns.grad(lambda p: loss(*p[0]) + p[1][0])(((W, B), [2.0])),
    ]


def a_value_with_its_gradient(ns):
    return ns.value_and_grad(model(ns)[1], (0, 1))(W, B)


def finite_differences(ns):
    loss, eps = model(ns)[1], 1e-4
    unit = V / np.sqrt(V @ V)
    by_b = (loss(W, B + eps / 2) - loss(W, B - eps / 2)) / eps
    by_w = (loss(W + eps / 2 * unit, B) - loss(W - eps / 2 * unit, B)) / eps
    pairs = [(by_b, ns.grad(loss, 1)(W, B)), (by_w, np.asarray(ns.grad(loss)(W, B)) @ unit)]
    for numeric, exact in pairs:
        assert abs(float(getattr(numeric, "data", numeric)) - float(exact)) < 1e-7
    return [exact for _, exact in pairs]


def hessian_vector_product_by_reverse_mode(ns):
    loss = model(ns)[1]
    return ns.grad(lambda w: ns.vdot(ns.grad(loss)(w, B), V))(W)


def jacobians(ns):
    predict = model(ns)[0]
    f = lambda w: predict(w, B, INPUTS)  # noqa: E731
    both = [ns.jacfwd(f)(W), ns.jacrev(f)(W)]
    return [*both, ns.jacrev(lambda p, x: predict(p["w"], p["b"], x))({"w": W, "b": B}, INPUTS)]


def hessians_by_composition(ns):
    predict = model(ns)[0]
    f = lambda w: predict(w, B, INPUTS)  # noqa: E731
    ways = (ns.jacfwd, ns.jacrev)
    return [outer(inner(f))(W) for outer in ways for inner in ways] + [ns.hessian(lambda w: model(ns)[1](w, B))(W)]


def a_push_forward(ns):
    predict = model(ns)[0]
    return ns.jvp(lambda w: predict(w, B, INPUTS), (W,), (V,))


def a_pull_back(ns):
    predict = model(ns)[0]
    y, pull = ns.vjp(lambda w: predict(w, B, INPUTS), W)
    return y, pull(U)


def vector_valued_gradients(ns):
    y, pull = ns.vjp(lambda x: 3 * x**2, np.ones((2, 2)))
    return pull(np.ones(y.shape))[0]


def hessian_vector_products(ns):
    def f(x):
        return ns.sum(ns.tanh(x) ** 2)

    forward_over_reverse = ns.jvp(ns.grad(f), (X,), (T,))[1]
    (reverse_over_forward,) = ns.grad(lambda xs: ns.jvp(f, xs, (T,))[1])((X,))
    reverse_over_reverse = ns.grad(lambda x: ns.vdot(ns.grad(f)(x), T))(X)
    whole = np.tensordot(ns.hessian(f)(X), T, 2)
    return [forward_over_reverse, reverse_over_forward, reverse_over_reverse, whole]


def matrix_jacobian_products(ns):
    predict = model(ns)[0]
    _, pull = ns.vjp(lambda w: predict(w, B, INPUTS), W)
    looped = np.vstack([pull(m)[0] for m in M])
    (mapped,) = ns.vmap(pull)(M)
    np.testing.assert_allclose(looped, mapped, rtol=1e-12)
    return mapped


def jacobian_matrix_products(ns):
    predict = model(ns)[0]
    f = lambda w: predict(w, B, INPUTS)  # noqa: E731
    looped = np.vstack([ns.jvp(f, (W,), (s,))[1] for s in S])
    mapped = ns.vmap(lambda s: ns.jvp(f, (W,), (s,))[1])(S)
    np.testing.assert_allclose(looped, mapped, rtol=1e-12)
    return mapped


def jacobians_from_their_parts(ns):
    predict = model(ns)[0]
    f = lambda w: predict(w, B, INPUTS)  # noqa: E731

    def reverse(f):
        def jacobian(x):
            y, pull = ns.vjp(f, x)
            (rows,) = ns.vmap(pull, in_axes=0)(np.eye(len(y)))
            return rows

        return jacobian

    def forward(f):
        return lambda x: np.transpose(ns.vmap(lambda s: ns.jvp(f, (x,), (s,))[1], in_axes=1)(np.eye(len(x))))

    np.testing.assert_allclose(reverse(f)(W), ns.jacrev(f)(W), rtol=1e-12)
    np.testing.assert_allclose(forward(f)(W), ns.jacfwd(f)(W), rtol=1e-12)
    return [reverse(f)(W), forward(f)(W)]


def the_linear_part_of_dynamic_python_recorded(ns):
    def f(x):
        try:
            if x < 3:
                return 2 * x**3
            raise ValueError
        except ValueError:
            return np.pi * x

    return [ns.jit(ns.dynamic_vjp(f, x)[1])(1.0) for x in (4.0, 2.0)]


def namespace(library):
    names = ["grad", "value_and_grad", "jacfwd", "jacrev", "hessian", "jvp", "vjp", "vmap", "jit"]
    return types.SimpleNamespace(**{name: getattr(library, name) for name in names})


def in_pygrad(pg):
    ns = namespace(pg)
    ns.tanh, ns.log, ns.dot, ns.sum, ns.vdot = pg.math.tanh, pg.math.log, np.dot, np.sum, np.vdot
    # Branches on numbers need them: in pygrad one says so.
    ns.dynamic_vjp = lambda f, *primals: pg.vjp(f, *primals, record=False)
    return ns


def in_jax():
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    ns = namespace(jax)
    ns.tanh, ns.log, ns.dot, ns.sum, ns.vdot, ns.dynamic_vjp = jnp.tanh, jnp.log, jnp.dot, jnp.sum, jnp.vdot, jax.vjp
    return ns


def numbers(tree):
    """All numbers of a result, in order."""
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in numbers(tree[key])]
    if isinstance(tree, (list, tuple)):
        return [x for part in tree for x in numbers(part)]
    return np.asarray(tree, dtype=float).ravel().tolist()


def stated(found):
    return sum(found), sum(k * x for k, x in enumerate(found, 1))


# Of each, the sum of its numbers, and their sum times 1, 2, 3, ... in order.
EXAMPLES = {
    derivatives_of_any_order: (0.18708620252411412, 0.5561756452931265),
    gradients_by_argnums: (-3.7565626522143036, -25.262832791432857),
    gradients_by_containers: (-1.8102247812553092, -4.888335183684266),
    a_value_with_its_gradient: (0.07981140696383088, -4.269124247646486),
    finite_differences: (-1.4805732542947971, -2.502371988920934),
    hessian_vector_product_by_reverse_mode: (-0.175102670127733, -0.11134935015753067),
    jacobians: (1.6713388923855215, 28.674666722132123),
    hessians_by_composition: (-0.3157257812598343, 110.39781201486127),
    a_push_forward: (2.8048464678209784, 8.51334730852358),
    a_pull_back: (3.3927893098177666, 11.65678599896128),
    vector_valued_gradients: (24.0, 60.0),
    hessian_vector_products: (15.111655638731873, 633.359338831586),
    matrix_jacobian_products: (1.5517434437678792, 2.395707263897952),
    jacobian_matrix_products: (-0.7985018321788405, -19.93293934121895),
    jacobians_from_their_parts: (0.5668427439215064, 0.5321043849325493),
    the_linear_part_of_dynamic_python_recorded: (27.141592653589793, 51.1415926535898),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda f: f.__name__)
def test_examples_give_the_stated_numbers(pg, example):
    found = numbers(example(in_pygrad(pg)))
    assert stated(found) == pytest.approx(EXAMPLES[example], rel=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda f: f.__name__)
def test_examples_give_jaxs_numbers(example):
    import pygrad

    found, expected = numbers(example(in_pygrad(pygrad))), numbers(example(in_jax()))
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
