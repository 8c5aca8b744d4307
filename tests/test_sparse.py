"""Sparse derivatives: jacobian(sparse=True), hessian(sparse=True), sparsity, against dense ones and SciPy's users."""

from __future__ import annotations

import functools
import os
import random
import warnings

import pytest

np = pytest.importorskip("numpy")
sp = pytest.importorskip("scipy.sparse")

PROGRAMS = 10_000 if os.environ.get("LONG") else 300  # for each operand layer


def step(pg, r, x, values):
    """One more Value, made of one to three others."""
    a, b, c = (r.choice(values) for _ in range(3))
    k = r.uniform(0.5, 1.5)
    return r.choice(
        [
            lambda: a + b,
            lambda: a - k * b,
            lambda: a * b,
            lambda: a / (1.0 + b * b),
            lambda: pg.math.sin(a),
            lambda: a.tanh() * k,
            lambda: (a * a + 1.0) ** 0.5,
            lambda: a**2,
            lambda: pg.where(a > b, c, a * c),
            lambda: pg.math.max(a, b) if hasattr(pg.math, "max") else a.maximum(b),
            lambda: a.relu(),
            lambda: a.detach() * b,
            lambda: pg.Value(k) + a * 0.0,
            lambda: pg.vmap(lambda p, q: p * q.tanh(), in_axes=(None, 0), reduce="sum")(a, x[:2]),
        ]
    )()


def sparse_function(pg, seed, results):
    """A random function of an array: each Value is made of few others, near each other."""

    def f(x):
        r = random.Random(seed)
        values = [x[i] for i in range(len(x))]
        if len(x) > 20:  # a long sum, for which a sweep for each result is cheaper
            for i in range(len(x)):
                values.append(values[-1] * 0.9 + x[i] * x[i - 1])
        for _ in range(r.randint(3, 25)):
            near = r.randrange(len(values))
            values.append(step(pg, r, x, values[max(0, near - 2) : near + 2]))
        return [r.choice(values) for _ in range(results)]

    return f


def point(seed):
    size = 40 if seed % 5 == 0 else 2 + seed % 7
    return np.random.default_rng(seed).uniform(-1.5, 1.5, size=size)


def test_random_jacobians_equal_dense_ones_and_miss_no_entry(pg, rng):
    for _ in range(PROGRAMS):
        seed = rng.randrange(2**32)
        x, f = point(seed), sparse_function(pg, seed, 1 + seed % 5)
        dense = np.array(pg.jacobian(f)(x))
        found = pg.jacobian(f, sparse=True)(x)
        assert found.shape == dense.shape and found.has_sorted_indices, seed
        np.testing.assert_allclose(found.toarray(), dense, rtol=1e-11, atol=1e-13, err_msg=str(seed))


def test_random_hessians_equal_dense_ones(pg, rng):
    for _ in range(PROGRAMS // 3):
        seed = rng.randrange(2**32)
        x, f = point(seed), sparse_function(pg, seed, 3)
        total = lambda x, f=f: sum(f(x))  # noqa: E731
        dense = np.array(pg.hessian(total)(x))
        found = pg.hessian(total, sparse=True)(x)
        np.testing.assert_allclose(found.toarray(), dense, rtol=1e-9, atol=1e-11, err_msg=str(seed))
        assert (found != found.T).nnz == 0, seed


def rosenbrock(x):
    return sum(100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2 for i in range(len(x) - 1))


def test_a_band_holds_no_more_than_its_entries(pg):
    optimize = pytest.importorskip("scipy.optimize")
    x = np.linspace(-1.0, 1.0, 50)
    found = pg.hessian(rosenbrock, sparse=True)(x)
    assert type(found).__name__ in ("csr_array", "csr_matrix") and found.dtype == float and found.nnz == 148
    np.testing.assert_allclose(found.toarray(), optimize.rosen_hess(x), rtol=1e-12)


def test_numbers_of_trees_are_columns_and_rows_in_order(pg):
    def f(p, t):
        return {"b": p["x"][1] * t, "a": [p["x"][0] ** 2, p["w"]]}

    args = {"w": 2.0, "x": np.array([3.0, 5.0])}, 7.0
    assert pg.jacobian(f, sparse=True)(*args).toarray().tolist() == [[0.0, 6.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 7.0]]
    assert pg.jacobian(f, 1, sparse=True)(*args).toarray().tolist() == [[0.0], [0.0], [5.0]]


def test_nothing_that_depends_is_no_entry(pg):
    found = pg.jacobian(lambda x: [x[0] * 0.0 + 1.0, 2.0, x[1].detach()], sparse=True)(np.ones(3))
    assert found.shape == (3, 3) and found.toarray().any() == 0 and 1 not in found.indices and 2 not in found.indices
    assert pg.jacobian(lambda x: 1.0, sparse=True)(2.0).toarray().tolist() == [[0.0]]


def test_within_recorded_functions(pg):
    """Its entries are Values there: they can be used, and differentiated."""
    x = np.array([0.3, 0.7, -0.2, 1.1])

    def through(x, sparse):
        found = pg.hessian(rosenbrock, sparse=sparse)(x)
        dense = found.toarray() if sparse else found
        return sum((dense[i][j] * (i + 2 * j + 1) for i in range(4) for j in range(4)), 0.0)

    for transform in (pg.jit, pg.grad, pg.hessian):
        sparse, dense = (transform(functools.partial(through, sparse=s))(x) for s in (True, False))
        np.testing.assert_allclose(sparse, dense, rtol=1e-10)
    product = pg.jit(lambda x, v: pg.hessian(rosenbrock, sparse=True)(x) @ v)
    np.testing.assert_allclose(product(x, x), pg.hvp(rosenbrock)(x, x), rtol=1e-12)
    square = pg.jit(lambda x, y: pg.hessian(rosenbrock, sparse=True)(x) @ y)
    y = np.arange(8.0).reshape(4, 2)
    np.testing.assert_allclose(square(x, y), np.array(pg.hessian(rosenbrock)(x)) @ y, rtol=1e-12)
    for wrong in (np.ones((2, 2)), np.ones(3), np.ones((1, 4)), np.ones((4, 1, 1))):
        with pytest.raises(ValueError, match="times an array of shape"):
            square(x, wrong)
    returned = pg.jit(lambda x: (x.sum() if hasattr(x, "sum") else sum(x), pg.hessian(rosenbrock, sparse=True)(x)))(x)
    np.testing.assert_allclose(returned[1].toarray(), pg.hessian(rosenbrock)(x), rtol=1e-12)
    np.testing.assert_allclose(
        pg.vmap(lambda x: pg.hessian(rosenbrock, sparse=True)(x).data)(np.array([x, 2 * x])),
        [pg.hessian(rosenbrock, sparse=True)(row).data for row in (x, 2 * x)],
        rtol=1e-12,
    )


def test_without_recording(pg):
    f = lambda x: [x[0] * x[1], x[2] ** 2 if x[2].data > 0 else 0.0]  # noqa: E731
    found = pg.jacobian(f, sparse=True, record=False)(np.array([2.0, 3.0, 4.0]))
    assert found.toarray().tolist() == [[3.0, 2.0, 0.0], [0.0, 0.0, 8.0]]
    assert pg.jacobian(f, sparse=True, record=False)(np.array([2.0, 3.0, -4.0])).nnz == 2


def test_through_rules(pg):
    """A rule need not be a derivative: its Hessian need not be symmetric."""

    @pg.custom_vjp
    def odd(v):
        return v[0] * v[0] * v[1]

    odd.defvjp(lambda v: (odd(v), v), lambda v, g: (np.array([3.0 * v[0] * v[1], v[0]]) * g,))
    x = np.array([1.0, 2.0])
    assert pg.hessian(odd)(x).tolist() == pg.hessian(odd, sparse=True)(x).toarray().tolist() == [[6.0, 3.0], [1.0, 0.0]]
    both = lambda v: [odd(v) * v[1], v[1], 0.0]  # noqa: E731
    np.testing.assert_allclose(pg.jacobian(both, sparse=True)(x).toarray(), pg.jacobian(both)(x))


def cubes_with_rule(pg, kind):
    """The cubes of an array's numbers, by a rule that says 5 * x**2 for the derivative. `kind` may be per number."""

    def cubes(x):
        return np.array([t * t * t for t in x])

    if kind == "custom_vjp":
        f = pg.custom_vjp(cubes)
        f.defvjp(lambda x: (cubes(x), x), lambda x, g: (np.array([5.0 * t * t * u for t, u in zip(x, g)]),))
        return f
    if kind == "custom_root":

        def root(x):
            return pg.custom_root(lambda y: y - cubes(x) * (5.0 / 3.0), x, lambda f, y: y - f(y))

        return root
    if kind == "custom_jvp":
        f = pg.custom_jvp(cubes)
        f.defjvp(lambda p, t: (f(p[0]), np.array([5.0 * a * a * b for a, b in zip(p[0], t[0])])))
        return f
    f = pg.custom_jvp(lambda x: x * x * x)
    f.defjvps(lambda t, y, x: 5.0 * x * x * t)
    return lambda x: np.array([f(t) for t in x])


@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp", "one by one"])
def test_building_through_rules_goes_with_the_number_of_entries(pg, kind):
    f = cubes_with_rule(pg, kind)

    def banded(x):
        y = f(x * x)
        return y[1:] * y[:-1] + x[1:]

    def by_numpy(x):
        y, slope = x**6, 10.0 * x**5
        full = np.zeros((len(x) - 1, len(x)))
        for i in range(len(x) - 1):
            full[i, i] = y[i + 1] * slope[i]
            full[i, i + 1] = y[i] * slope[i + 1] + 1.0
        return full

    jacobian = pg.jacobian(banded, sparse=True)
    nodes = []
    for n in (20, 40):
        x = np.linspace(0.5, 1.5, n)
        found = jacobian(x)
        assert found.nnz == 2 * (n - 1)
        np.testing.assert_allclose(found.toarray(), by_numpy(x), rtol=1e-13)
        nodes.append(jacobian.program(x).stats.nodes)
    assert nodes[1] < 2.2 * nodes[0]
    x = np.linspace(0.5, 1.5, 40)
    np.testing.assert_allclose(pg.jacobian(banded)(x), by_numpy(x), rtol=1e-13)


@pytest.mark.parametrize("kind", ["custom_vjp", "custom_jvp", "one by one", "custom_root"])
def test_through_rules_within_derivatives_and_vmaps(pg, kind):
    f = cubes_with_rule(pg, kind)

    def g(x):
        y = f(x) * x[0]
        return [y[0] * y[1], y[2].sin(), x[1], f(y)[1]]

    def dense(x):
        return np.array(pg.jacrev(lambda x: np.array(g(x)))(x))

    def entries(x):
        return pg.jacobian(g, sparse=True)(x).toarray()

    x = np.array([0.5, 0.7, 0.9])
    np.testing.assert_allclose(pg.jit(entries)(x), pg.jit(dense)(x), rtol=1e-13)
    np.testing.assert_allclose(pg.jacobian(entries)(x), pg.jacobian(dense)(x), rtol=1e-12, atol=1e-14)
    points = np.stack([x, x + 0.1, x - 0.2])
    np.testing.assert_allclose(pg.vmap(entries)(points), [pg.jit(dense)(x) for x in points], rtol=1e-13)


def test_rules_that_are_not_linear_are_asked_for_each_row(pg):
    backs = {
        "sign": (lambda x, g: (g.sign() * x,), 3.0),
        "constant": (lambda x, g: (g * x + 1.0,), 4.0),
        "without cotangent": (lambda x, g: (x * 1.0,), 3.0),
        "clipped": (lambda x, g: (pg.math.clip(g, -0.5, 0.5) * x,), 1.5),
        "linear": (lambda x, g: (pg.math.where(x > 0.0, g * x, 2.0 * g) + 0.0 * g - (-g / x) * 0.0,), 3.0),
    }
    for name, (back, slope) in backs.items():
        f = pg.custom_vjp(lambda x: x * x)
        f.defvjp(lambda x: (x * x, x), back)
        for record in (True, False):
            jacobian = pg.jacobian(lambda x, f=f: [f(x[0]), x[1]], sparse=True, record=record)
            np.testing.assert_allclose(jacobian(np.array([3.0, 2.0])).toarray(), [[slope, 0.0], [0.0, 1.0]])
            assert pg.jacrev(f, record=record)(3.0) == slope
            if name == "linear":
                assert pg.jacfwd(f, record=record)(3.0) == slope
            else:
                with pytest.raises(pg.RecordingError, match="needs a bwd that is linear in the cotangent"):
                    pg.jacfwd(f, record=record)(3.0)


def test_a_rule_that_adds_to_a_tangent_is_refused(pg):
    f = pg.custom_jvp(lambda x: x * x)
    f.defjvp(lambda p, t: (p[0] * p[0], 2.0 * p[0] * t[0] + 1.0))
    with pytest.raises(pg.RecordingError, match="needs a rule that is linear in the tangents"):
        pg.jacobian(lambda x: [f(x[0])], sparse=True)(np.array([3.0]))


def test_a_rule_that_calls_another_on_a_cotangent(pg):
    """The entry is what the other one computes; its own rule is for derivatives of the entry."""
    twice = pg.custom_jvp(lambda x: 2.0 * x)
    twice.defjvps(lambda t, y, x: 7.0 * t)
    f = pg.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, g: (twice(g * x),))

    def entry(x):
        return pg.jacobian(lambda x: [f(x[0])], sparse=True)(x).data[0]

    x = np.array([3.0])
    assert pg.jit(entry)(x) == pg.grad(f)(3.0) == 6.0
    assert pg.grad(entry)(x).tolist() == [7.0]
    assert pg.grad(pg.grad(f))(3.0) == 7.0


def test_custom_operations_are_refused(pg):
    op = pg.custom_op(lambda x: x * x, lambda g, y, x: 2 * x * g)
    with pytest.raises(pg.RecordingError, match="custom"):
        pg.jacobian(lambda x: [op(x[0])], sparse=True)(np.ones(2))


def test_a_pattern_by_itself(pg):
    found = pg.sparsity(lambda x: [x[0] * x[1], x[2], 3.0], np.ones(3))
    assert found.dtype == bool and found.toarray().tolist() == [[True, True, False], [False, False, True], [False] * 3]
    assert pg.sparsity(pg.grad(rosenbrock), np.zeros(5)).nnz == 13


def test_results_do_not_share_what_can_be_changed(pg):
    f = pg.jacobian(lambda x: [x[0] ** 2, x[1] ** 2], sparse=True)
    first = f(np.array([1.0, 2.0]))
    first.data[:] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)
        first[0, 1] = 5.0
    first.eliminate_zeros()
    f(np.array([1.0, 2.0])).indices[0] = 1
    assert f(np.array([1.0, 2.0])).toarray().tolist() == [[2.0, 0.0], [0.0, 4.0]]


def test_scipys_solvers_take_them(pg):
    optimize, integrate = pytest.importorskip("scipy.optimize"), pytest.importorskip("scipy.integrate")
    n = 40

    def residuals(x):
        ends = [1.0, *list(x), 0.0]
        return np.array([ends[i] - 2.0 * ends[i + 1] + ends[i + 2] - 0.1 * ends[i + 1] ** 3 for i in range(n)])

    solved = optimize.least_squares(
        residuals,
        np.zeros(n),
        jac=pg.jacobian(residuals, sparse=True),
        tr_options={"atol": 1e-14, "btol": 1e-14, "maxiter": 1000},
    )
    assert solved.cost < 1e-12
    solved = optimize.minimize(
        pg.jit(rosenbrock),
        np.zeros(8),
        jac=pg.grad(rosenbrock),
        hess=pg.hessian(rosenbrock, sparse=True),
        method="trust-constr",
        constraints=optimize.NonlinearConstraint(
            pg.jit(lambda x: [x[0] + x[1]]),
            *(0.0, 2.0),
            jac=pg.jacobian(lambda x: [x[0] + x[1]], sparse=True),
            hess=lambda _x, _v: sp.csr_matrix((8, 8)),
        ),
    )
    np.testing.assert_allclose(solved.x, np.ones(8), atol=1e-3)

    def heat(t, y):
        return np.array([(y[i - 1] if i else 0.0) - 2 * y[i] + (y[i + 1] if i + 1 < n else 0.0) for i in range(n)])

    start = np.sin(np.linspace(0.1, 3.0, n))
    exactly = {"jac": pg.jacobian(heat, 1, sparse=True), "rtol": 1e-8, "atol": 1e-10}
    with np.errstate(all="ignore"):  # SciPy's BDF subtracts from numbers that it has not set
        stiff = integrate.solve_ivp(pg.jit(heat), (0.0, 3.0), start, method="BDF", **exactly)
    exact = integrate.solve_ivp(heat, (0.0, 3.0), start, method="RK45", rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(stiff.y[:, -1], exact.y[:, -1], atol=1e-6)


def test_a_dense_row_and_a_dense_column(pg):
    """An arrow: each entry is needed, and the sum's vectors grow with it."""
    n = 60
    f = lambda x: [sum(x[i] for i in range(n)), *[x[0] * x[i] for i in range(1, n)]]  # noqa: E731
    x = np.linspace(1.0, 2.0, n)
    found = pg.jacobian(f, sparse=True)(x)
    assert found.nnz == n + 2 * (n - 1)
    np.testing.assert_allclose(found.toarray(), pg.jacobian(f)(x))


def test_dense_derivatives_of_many_numbers_equal_those_by_passes(pg, rng, monkeypatch):
    data = np.random.default_rng(rng.randrange(2**32)).normal(size=(20, 3))

    def net(p):
        weights, out = p[:30].reshape(3, 10), p[30:40]
        return pg.vmap(
            lambda x: sum(out[j] * sum(x[i] * weights[i, j] for i in range(3)).tanh() for j in range(10)) ** 2,
            reduce="mean",
        )(data)

    def coupled(p):
        total = sum(p)
        return sum((x * total).tanh() * x for x in p)

    x = np.random.default_rng(rng.randrange(2**32)).normal(size=40)

    def lanes_of_all(p):  # each lane depends on all numbers: forward vectors would be longer than passes
        total = sum(p)
        scales = [pg.vmap(lambda x, k=k: (x[0] * p[k] + total).tanh(), reduce="mean")(data) for k in range(3)]
        return scales[0] * scales[1] * scales[2] + (total * p[0]) ** 2

    for f in (net, coupled, rosenbrock, lanes_of_all):
        many = pg.hessian(f)(x)
        with monkeypatch.context() as patch:
            patch.setattr(pg._record.jacobians, "MANY", 1000)
            few = pg.hessian(f)(x)
        np.testing.assert_allclose(many, few, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(
            pg.hessian(f, record=False)(x) if f in (coupled, rosenbrock) else many, few, rtol=1e-10, atol=1e-11
        )
