"""Arrays of recorded functions in NumPy's functions: docs/arrays.md's tables, errors, linear algebra."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

PAGE = (Path(__file__).parent.parent / "docs" / "arrays.md").read_text(encoding="utf-8")
TABLE = PAGE.split("## What can be recorded")[1].split("\n- ")[0]
EXPRESSIONS = [text.replace("\\|", "|") for text in re.findall(r"`([^`]+)`", TABLE.split("| --- | --- |")[1])]
NAMES = ("x", "y", "A", "P", "s")


def given(seed):
    """Numbers away from kinks and jumps of the table's expressions."""
    rng = np.random.default_rng(seed)
    while True:
        x, y, s = rng.uniform(0.3, 0.9, 4), rng.uniform(0.3, 0.9, 4), float(rng.uniform(0.35, 0.8))
        A = rng.normal(size=(3, 3))
        edges = np.concatenate([x[:, None] - [0.4, 0.5, 0.6, 0.8, s, *y], y[:, None] - [0.5, 0.6, 0.7, s]], axis=None)
        edges = [*np.abs(edges), *np.abs(np.subtract.outer(x, x))[np.triu_indices(4, 1)], abs(np.linalg.det(A)) / 10]
        edges += [*np.abs(10 * x % 1 - 0.5), *np.abs(3 * x - np.round(3 * x)), abs(s - 0.5)]
        if min(edges) > 1e-3:
            return x, y, A, A @ A.T + 2 * np.eye(3), s


def function(expression):
    return eval(f"lambda {', '.join(NAMES)}: {expression}", {"np": np})


def slopes(f, args, i, weights):
    """Central differences of sum(weights * f) by args[i]."""
    x = np.array(args[i], dtype=float)
    found = np.empty(x.shape)
    for k in np.ndindex(x.shape):
        both = []
        for h in (1e-6, -1e-6):
            moved = x.copy()
            moved[k] += h
            both.append(np.sum(weights * np.asarray(f(*args[:i], moved, *args[i + 1 :]), dtype=float)))
        found[k] = (both[0] - both[1]) / 2e-6
    return found


def test_the_table_is_long():
    assert len(EXPRESSIONS) == len(set(EXPRESSIONS)) >= 100


# Arguments of the table's functions that it does not show.
MORE = ["np.linalg.norm(x, 0.5)", "np.linalg.norm(x, 3)", "np.linalg.norm(x, 1)", "np.linalg.norm(x, np.inf)"]
MORE += ["np.linalg.norm(x, -np.inf)", "np.linalg.norm(x, 0)", "np.linalg.norm(A, axis=1, keepdims=True)"]
MORE += ["np.linalg.norm(A, 3, axis=0)", "np.linalg.norm(A, -1)", "np.round(1234 * x, -2)", "np.round(x, 1) * x"]
MORE += ["np.average(A, axis=0)", "np.average(x)", "np.average(A, axis=1, weights=x[:3])", "np.partition(x, 2)[:0]"]
MORE += ["np.corrcoef(x)", "np.einsum(A, [0, 1], x[:3], [1], [0])", "np.einsum(A, [0, 0])", "x[(slice(1, 3),)]"]
MORE += ["np.einsum(A, [..., 1], y[:3], [1], [...])", "np.median(np.outer(x, y), axis=(0, 1))"]
MORE += [
    "np.logaddexp2(x, y)",
    "np.cov(A, rowvar=False, bias=True)",
    "np.square(x, where=[True, False, True, True], out=2 * y)",
]


@pytest.mark.parametrize("expression", [*EXPRESSIONS, *MORE])
def test_expressions_record_with_numpys_values_and_right_gradients(pg, expression):
    f, args = function(expression), given(5)
    expected = np.asarray(f(*args), dtype=float)
    got = pg.jit(f)(*args)
    assert np.shape(got) == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)
    weights = np.random.default_rng(6).normal(size=expected.shape)
    grads = pg.grad(lambda *args: np.sum(weights * f(*args)), argnums=tuple(range(len(args))))(*args)
    for i, slope in enumerate(grads):
        np.testing.assert_allclose(slope, slopes(f, args, i, weights), rtol=2e-6, atol=2e-7, err_msg=NAMES[i])


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_record_within_vmap_and_twice_derived(pg, expression):
    f, many = function(expression), [given(seed) for seed in (7, 8, 9)]
    columns = [np.stack([args[i] for args in many]) for i in range(len(NAMES))]
    expected = np.stack([np.asarray(f(*args), dtype=float) for args in many])
    np.testing.assert_allclose(pg.vmap(f)(*columns), expected, rtol=1e-13, atol=1e-13)
    mean = pg.grad(lambda *columns: np.mean(pg.vmap(lambda *args: np.sum(f(*args)))(*columns)), argnums=(0, 2))
    alone = [pg.grad(lambda *args: np.sum(f(*args)), argnums=(0, 2))(*args) for args in many]
    for got, one in zip(mean(*columns), zip(*alone)):
        np.testing.assert_allclose(got, np.stack(one) / 3, rtol=1e-9, atol=1e-11)
    gradient = pg.grad(lambda x: np.sum(np.sin(f(x, *many[0][1:]))))
    curvature = np.stack(
        [(gradient(many[0][0] + h) - gradient(many[0][0] - h)) / 2e-5 for h in 1e-5 * np.eye(4)], axis=1
    )
    got = pg.hessian(lambda x: np.sum(np.sin(f(x, *many[0][1:]))))(many[0][0])
    np.testing.assert_allclose(got, curvature, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_run_eagerly_on_values_that_a_transform_makes(pg, expression):
    f, args = function(expression), given(5)
    expected = np.asarray(f(*args), dtype=float)
    if any(name in expression for name in ("np.full_like", "np.ones_like(s", "np.stack([s")):
        return  # an eager scalar is not among NumPy's protocols
    value, slope = pg.value_and_grad(lambda x, *rest: np.sum(f(x, *rest)), record=False)(*args)
    np.testing.assert_allclose(value, expected.sum(), rtol=1e-12, atol=1e-12)
    recorded = pg.grad(lambda x, *rest: np.sum(f(x, *rest)))(*args)
    np.testing.assert_allclose(slope, recorded, rtol=1e-12, atol=1e-12)


SCALARS = ["np.maximum(s, 0.5)", "np.where(s > 0.5, s, 2 * s)", "np.sign(s)", "np.clip(s, 0.1, 0.5)", "np.exp2(s)"]
SCALARS += ["np.heaviside(s, 1.0)", "np.logaddexp(s, 0.0)", "np.float64(2.0) * s", "s * x", "np.add(x, s)", "np.max(s)"]
SCALARS += ["np.float64(2.0) - s", "np.isnan(s)", "np.sqrt(np.float64(2.0) / s)", "np.square(s)", "np.hypot(3.0, s)"]
SCALARS += ["np.dot(s, x)", "np.mean(s)", "x * s > 0.3", "np.maximum(s * np.ones(2), 0.5)", "np.int64(3) + s"]
SCALARS += ["s * np.array(s)", "np.array(s) - s", "s * (2 * x)[0, ...]", "s + A[:1, :1].reshape(())"]
SCALARS += ["s * np.squeeze(2 * A[:1, :1])"]


@pytest.mark.parametrize("expression", SCALARS)
def test_scalars_take_part_while_a_function_is_recorded(pg, expression):
    f, args = function(expression), given(5)
    np.testing.assert_allclose(pg.jit(f)(*args), np.asarray(f(*args), dtype=float), rtol=1e-14)
    np.testing.assert_allclose(pg.vmap(f)(*[np.stack([x, x]) for x in args])[1], f(*args), rtol=1e-14)


def test_scalars_take_part_from_the_first_recording_that_needs_them(pg, monkeypatch):
    monkeypatch.delattr(pg.Value, "__array_ufunc__", raising=False)
    calls = []
    f = lambda x: calls.append(1) or np.float64(2.0) * x  # noqa: E731
    assert pg.jit(f)(3.0) == 6.0 and calls == [1]
    assert not hasattr(pg.Value, "__array_ufunc__")
    assert pg.jit(lambda x: np.maximum(f(x), 7.0))(3.0) == 7.0
    assert hasattr(pg.Value, "__array_ufunc__") and calls == [1] * 3
    x, y = pg.Value(3.0), np.float64(2.0)
    for got, expected in ((y * x, 6.0), (y - x, -1.0), (y / x, 2.0 / 3.0), (y**x, 8.0), (y % x, 2.0), (y + x, 5.0)):
        assert type(got) is pg.Value and got.data == expected and got._op != ""
    assert type(np.ones(2) * x) is np.ndarray and (np.ones(2) * x)[0].data == 3.0
    assert np.maximum(x, 2.0) is x and np.where(True, x, 0.0)[()] is x and np.sqrt(x).data == math.sqrt(3.0)


# ---- Elements ----------------------------------------------------------------------------------------

INF, NAN = math.inf, math.nan
NUMBERS = [-INF, -2.5, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.5, 1e300, INF, NAN]
UNARY = [
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "rint",
    "ceil",
    "floor",
    "trunc",
    "sign",
    "square",
    "absolute",
    "fabs",
]
UNARY += [
    "logical_not",
    "conjugate",
    "exp2",
    "cbrt",
    "degrees",
    "radians",
    "nan_to_num",
    "sinc",
    "positive",
    "negative",
]
BINARY = ["maximum", "minimum", "fmax", "fmin", "copysign", "heaviside", "logaddexp", "logical_and", "logical_or"]
BINARY += ["logical_xor", "less", "greater_equal", "equal", "not_equal", "hypot", "arctan2", "power"]


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_infinities_and_nans_are_numpys(pg, name):
    f, x = getattr(np, name), np.array(NUMBERS)
    with np.errstate(all="ignore"):
        expected = f(x).astype(float)
    got = pg.jit(lambda x: f(x))(x)
    if name == "sinc":  # of infinity NumPy has nan
        expected, got = expected[1:-2], got[1:-2]
    np.testing.assert_allclose(got, expected, rtol=1e-15)
    if name != "nan_to_num":
        np.testing.assert_array_equal(np.signbit(got[~np.isnan(got)]), np.signbit(expected[~np.isnan(expected)]))
    np.testing.assert_allclose(pg.jit(lambda x: f(x), record=False)(x[[1, 3, 5, 8]]), f(x[[1, 3, 5, 8]]), rtol=1e-15)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_pairs_with_infinities_and_nans_are_numpys(pg, name):
    f = getattr(np, name)
    a, b = (x.ravel() for x in np.meshgrid(NUMBERS, NUMBERS))
    with np.errstate(all="ignore"):
        expected = f(a, b).astype(float)
    np.testing.assert_allclose(pg.jit(lambda a, b: f(a, b))(a, b), expected, rtol=1e-14)


def test_remainders_and_quotients_are_numpys(pg, rng):
    a = np.array([rng.uniform(-9, 9) for _ in range(40)] + [6.0, -6.0, 7.5, -7.5, 0.0])
    b = np.array([rng.uniform(-3, 3) for _ in range(40)] + [3.0, -3.0, 2.5, 2.5, 2.0])
    for f in (np.floor_divide, np.remainder, np.fmod, lambda a, b: a // b, lambda a, b: divmod(a, b)[0]):
        np.testing.assert_array_equal(pg.jit(f)(a, b), f(a, b))
        np.testing.assert_array_equal(pg.jit(lambda a: f(a, 2.5))(a), f(a, 2.5))
    whole = pg.jit(lambda a, b: np.divmod(a, b))(a, b)
    np.testing.assert_array_equal(whole, np.divmod(a, b))
    parts = pg.jit(lambda a: np.modf(a))(a)
    np.testing.assert_array_equal(parts, np.modf(a))


def test_functions_with_a_removable_singularity_have_all_derivatives_there(pg):
    for x, order in ((0.0, 3), (1e-9, 3), (0.3, 3), (1.0 / math.pi, 2)):
        f, exact = np.sinc, _sinc_slopes(x)
        for k in range(order + 1):
            assert pg.jit(f)(x) == pytest.approx(exact[k], rel=1e-9, abs=1e-9), (x, k)
            f = pg.grad(f)
    second = pg.hessian(lambda z: np.logaddexp(z[0], z[1]))(np.zeros(2))
    np.testing.assert_allclose(second, [[0.25, -0.25], [-0.25, 0.25]], rtol=1e-15)
    from pygrad.scipy.special import xlogy

    assert pg.grad(xlogy)(0.0, 2.0) == math.log(2.0) and pg.grad(xlogy, argnums=1)(0.0, 0.0) == 0.0


def _sinc_slopes(x):
    import mpmath

    with mpmath.workdps(60):
        return [float(mpmath.diff(mpmath.sincpi, x, k, h=mpmath.mpf(10) ** -9)) for k in range(4)]


def test_quotients_of_scalars_are_numpys_and_do_not_move(pg):
    for f in (lambda a, b: a // b, lambda a, b: np.stack(divmod(a, b)), lambda a, b: a // 2.5, lambda a, b: 7 // b):
        for a, b in ((7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (-6.0, 3.0), (0.0, 2.0), (6.0, 0.1)):
            expected = f(np.float64(a), np.float64(b))
            np.testing.assert_array_equal(pg.jit(f)(a, b), expected)
            np.testing.assert_array_equal(pg.vmap(f)(np.array([a, a]), np.array([b, b]))[1], expected)
            eager = f(pg.Value(a), pg.Value(b))
            assert [x.data for x in np.ravel(eager)] == np.ravel(expected).tolist()
    for f in (lambda a, b: a // b, lambda a, b: divmod(a, b)[0], lambda a, b: np.floor_divide(a, b)):
        assert pg.grad(f, argnums=(0, 1))(7.5, 2.0) == (0.0, 0.0)
        assert pg.jit(f)(7.5, 0.0) == INF and pg.jit(f)(-7.5, 0.0) == -INF
        assert pg.jit(lambda a: f(a, 0.0))(7.5) == INF and math.isnan(pg.jit(f)(0.0, 0.0))
    assert pg.grad(lambda a, b: divmod(a, b)[1], argnums=(0, 1))(7.5, 2.0) == (1.0, -3.0)
    assert pg.jit(lambda a: np.float64(15.0) // a)(4.0) == 3.0
    assert (np.array([7.0, 9.0]) // pg.Value(2.0))[1].data == 4.0 and (pg.Value(7.0) // np.array([2.0]))[0].data == 3.0
    with pytest.raises(ZeroDivisionError):
        pg.Value(7.0) // 0
    with pytest.raises(TypeError, match="'a' is of type str"):
        pg.Value(7.0) // "a"


REDUCED = ["np.sum(x, where=m)", "x.sum(where=m)", "np.mean(x, axis=0, where=m, keepdims=True)", "np.nanstd(x)"]
REDUCED += ["np.prod(x, axis=1, where=m)", "np.max(x, where=m, initial=-4.0)", "np.min(x, axis=0, where=m, initial=9)"]
REDUCED += ["np.var(x, axis=1, where=m, ddof=0.5)", "np.any(x > 0.2, axis=0, where=m)", "np.all(x > 0, where=m)"]
REDUCED += ["np.nansum(x, axis=0)", "np.nanmean(x, axis=1, keepdims=True)", "np.nanvar(x, axis=(0, 1), ddof=1)"]


@pytest.mark.parametrize("expression", REDUCED)
@pytest.mark.parametrize("record", [True, False])
def test_what_a_mask_leaves_out_of_a_reduction_does_not_matter(pg, expression, record):
    """Not even a nan: neither to the value nor to the gradient. Masks are numbers, or computed."""
    reduction = eval(f"lambda x, m: {expression}", {"np": np})
    x = np.array([[0.5, NAN, -1.5, 2.0], [INF, 0.25, 3.0, 0.125], [-0.5, 1.0, NAN, 0.75]])
    if "nan" in expression:
        x[1, 0] = -2.0
    mask = np.isfinite(x) & (x != 3.0)
    expected = np.asarray(reduction(x, mask), dtype=float)
    weights = np.random.default_rng(2).normal(size=expected.shape)
    known = np.where(np.isnan(x) if "nan" in expression else ~mask, 7.0, x)
    moving = lambda z: reduction(np.where(np.isfinite(x), z, x), mask)  # noqa: E731
    exact = slopes(moving, [known], 0, weights) * (known == x)
    for f in (lambda x: reduction(x, mask), lambda x: reduction(x, (x < 3.0) & (x > -INF))):
        np.testing.assert_allclose(pg.jit(f, record=True)(x), expected, rtol=1e-14)
        with np.errstate(invalid="ignore"):
            slope = pg.grad(lambda x: np.sum(weights * f(x)), record=record)(x)
        np.testing.assert_allclose(slope, exact, rtol=1e-7, atol=1e-8)


def test_extremes_of_a_mask_need_a_number_for_nothing(pg):
    with pytest.raises(ValueError, match="numpy.maximum.reduce: where= needs initial="):
        pg.jit(lambda x: np.max(x, where=x > 0))(np.ones(3))


@pytest.mark.parametrize("n", range(1, 10))
def test_sorting_networks_sort(pg, n):
    rng = np.random.default_rng(n)
    f = pg.jit(lambda x: np.sort(x))
    for _ in range(30):
        x = rng.integers(0, 5, n).astype(float)
        assert f(x).tolist() == sorted(x)
    x = rng.permutation(n).astype(float)
    jacobian = pg.jacobian(lambda x: np.sort(x))(x)
    np.testing.assert_array_equal(jacobian, np.eye(n)[np.argsort(x)])
    assert pg.jacobian(lambda x: np.sort(x))(np.ones(n)).sum() == n


def test_places_of_extremes_are_numpys_with_ties_and_nans(pg):
    for name in ("argmax", "argmin"):
        f = pg.jit(lambda x: getattr(np, name)(x))
        for x in ([1.0, 3.0, 3.0, 2.0], [2.0, 2.0, 1.0, 1.0], [1.0, NAN, 5.0, NAN], [NAN, 1.0, -INF, INF]):
            assert f(np.array(x)) == getattr(np, name)(x)
    assert pg.grad(lambda x: np.argmax(x) * x[0])(np.array([1.0, 2.0])).tolist() == [1.0, 0.0]


# ---- Linear algebra -------------------------------------------------------------------------------------


def matrices(rng, n, count=20):
    """Matrices that need pivots: zeros on the diagonal, permuted, of rows of very different sizes."""
    yield np.eye(n)[::-1].copy()
    for _ in range(count):
        A = rng.normal(size=(n, n)) * 10.0 ** rng.integers(-6, 7, (n, 1))
        A[np.diag_indices(n)] *= rng.integers(0, 2, n)
        if np.abs(A).max(1).min() > 0 and np.linalg.cond(A / np.abs(A).max(1, keepdims=True)) < 1e3:
            yield A


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_solutions_are_right_wherever_the_pivots_are(pg, n):
    """One program for all: the pivots of one matrix would give 0 / 0 for another."""
    rng = np.random.default_rng(n)
    solve, det = pg.jit(lambda A, b: np.linalg.solve(A, b)), pg.jit(lambda A: np.linalg.det(A))
    sign = pg.jit(lambda A: np.linalg.slogdet(A))
    inverse = pg.jit(lambda A: np.linalg.inv(A))
    by_A = pg.grad(lambda A, b, w: w @ np.linalg.solve(A, b))
    for A in matrices(rng, n):
        b, w = rng.normal(size=n), rng.normal(size=n)
        np.testing.assert_allclose(solve(A, b), np.linalg.solve(A, b), rtol=1e-9)
        np.testing.assert_allclose(inverse(A), np.linalg.inv(A), rtol=1e-9, atol=1e-9 * np.abs(np.linalg.inv(A)).max())
        assert det(A) == pytest.approx(np.linalg.det(A), rel=1e-9)
        np.testing.assert_allclose(sign(A), np.linalg.slogdet(A), rtol=1e-9, atol=1e-9)
        adjoint = np.linalg.solve(A.T, w)
        exact = -np.outer(adjoint, np.linalg.solve(A, b))
        np.testing.assert_allclose(by_A(A, b, w), exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())
    assert len(solve.programs) == 1


def test_determinants_of_singular_matrices_have_right_derivatives(pg):
    rng = np.random.default_rng(1)
    for n in range(1, 7):
        A = rng.integers(-3, 4, (n, n)).astype(float)
        A[:, 0] = A[:, 1:].sum(1)
        A[0, 0] *= n > 1
        value, slope = pg.value_and_grad(lambda A: np.linalg.det(A))(A)
        cofactors = [
            [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(A, i, 0), j, 1)) for j in range(n)] for i in range(n)
        ]
        assert value == pytest.approx(np.linalg.det(A), abs=1e-9)
        np.testing.assert_allclose(slope, cofactors, rtol=1e-9, atol=1e-9)
    A = rng.normal(size=(10, 10))
    value, slope = pg.value_and_grad(lambda A: np.linalg.det(A))(A)  # by elimination
    assert value == pytest.approx(np.linalg.det(A), rel=1e-11)
    np.testing.assert_allclose(slope, np.linalg.det(A) * np.linalg.inv(A).T, rtol=1e-9)
    np.testing.assert_allclose(pg.jit(lambda A: np.linalg.slogdet(A))(A), np.linalg.slogdet(A), rtol=1e-12)


def test_matrices_that_numpy_refuses_give_no_number(pg):
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    for f in (np.linalg.inv, lambda A: np.linalg.solve(A, np.array([1.0, 0.0]))):
        assert not np.isfinite(pg.jit(lambda A: f(A))(singular)).all()
    assert np.isnan(pg.jit(lambda A: np.linalg.cholesky(A))(np.array([[1.0, 2.0], [2.0, 1.0]]))).any()
    for name in ("solve", "inv", "det", "cholesky", "slogdet"):
        with pytest.raises(ValueError, match=f"numpy.linalg.{name}.*square"):
            pg.jit(lambda A: getattr(np.linalg, name)(*[A] * (1 + (name == "solve"))))(np.ones((2, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        pg.jit(lambda A, b: np.linalg.solve(A, b))(np.eye(2), np.ones(3))


def test_stacks_of_matrices(pg):
    rng = np.random.default_rng(3)
    A, b = rng.normal(size=(2, 4, 3, 3)), rng.normal(size=(1, 4, 3, 2))
    P = A @ np.swapaxes(A, -1, -2) + np.eye(3)
    for f in (np.linalg.inv, np.linalg.det, lambda A: np.linalg.solve(A, b), lambda A: np.linalg.slogdet(A)[1]):
        np.testing.assert_allclose(pg.jit(lambda A: f(A))(A), f(A), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(pg.jit(lambda P: np.linalg.cholesky(P))(P), np.linalg.cholesky(P), rtol=1e-12)


EINSUMS = ["ij,jk->ik", "ij,jk,kl->il", "ii->i", "ii", "ij->", "ij->ji", "i,j", "ij,ij->i", "...i,i->...", "iij->j"]
EINSUMS += ["i,i,i", "ij,kj->ki", "b...,b->...", "ji,jk", "...ij,...jk->...ik"]


@pytest.mark.parametrize("subscripts", EINSUMS)
def test_einsum_is_numpys(pg, subscripts):
    rng = np.random.default_rng(4)
    terms = subscripts.split("->")[0].split(",")
    args = [rng.normal(size=[3] * (len(t.replace("...", "")) + ("..." in t))) for t in terms]
    f = lambda *args: np.einsum(subscripts, *args)  # noqa: E731
    np.testing.assert_allclose(pg.jit(f)(*args), f(*args), rtol=1e-13)
    by_first = pg.grad(lambda *args: np.sum(np.cos(f(*args))))(*args)
    np.testing.assert_allclose(by_first, slopes(lambda *args: np.cos(f(*args)), args, 0, 1.0), rtol=1e-5, atol=1e-7)


# ---- What can't be recorded -------------------------------------------------------------------------------

REFUSED = [
    (lambda x: np.linalg.svd(np.outer(x, x)), r"numpy.linalg.svd cannot be recorded: .*np.linalg.solve"),
    (lambda x: np.linalg.eigh(np.outer(x, x)), r"numpy.linalg.eigh cannot be recorded: .*np.linalg.solve"),
    (lambda x: np.argsort(x), r"numpy.argsort cannot be recorded: .*np.sort"),
    (lambda x: x.argsort(), r"numpy.argsort cannot be recorded: .*np.sort"),
    (lambda x: (1 * x).argsort(), r"numpy.argsort cannot be recorded: .*np.sort"),
    (lambda x: np.nonzero(x > 0), r"numpy.nonzero cannot be recorded: .*np.where"),
    (lambda x: np.where(x > 0), r"numpy.where of a condition alone cannot be recorded: .*np.where\(condition, a, b\)"),
    (lambda x: x[x > 0], r"an index or mask that depends on the arguments cannot be recorded: .*np.where"),
    (lambda x: (2 * x)[x > 0], r"an index or mask that depends on the arguments cannot be recorded: .*np.where"),
    (lambda x: x[np.argmax(x)], r"an index or mask that depends on the arguments cannot be recorded: .*np.where"),
    (lambda x: np.frexp(x), r"numpy.frexp cannot be recorded: .*docs/arrays.md"),
    (lambda x: np.fft.fft(x), r"cannot record: .*docs/arrays.md"),
    (lambda x: np.add(x, 1, out=np.zeros(3)), r"numpy.add cannot be recorded: .*y = y \+ x"),
    (lambda x: np.clip(x, 0, 1, out=np.zeros(3)), r"out= of numpy.clip cannot be recorded"),
    (lambda x: np.exp(x, where=x > 0), r"where= of numpy.exp cannot be recorded: .*np.where\(condition, np.exp"),
    (lambda x: np.exp(x, where=[True, False, True]), r"where= of numpy.exp cannot be recorded: .*np.where\(condition"),
    (lambda x: np.divide(x, x, where=x > 0, out=0 * x), r"where= of numpy.divide cannot be recorded: .*np.where"),
    (lambda x: np.nanmax(x), r"numpy.nanmax cannot be recorded: .*np.isnan"),
    (lambda x: x.copy().__setitem__(x < 0, 0.0), r"an index or mask that depends.*np.where"),
    (lambda x: np.zeros(3).__setitem__(0, x[0]), r"float\(\) needs .*np.zeros_like\(x\).*np.stack"),
    (lambda x: np.asarray(x, dtype=float), r"float\(\) needs .*leave out dtype=float$"),
    (lambda x: f"{x:.2f}", r"no number to format .*pygrad.debug_print"),
    (lambda x: f"{x[0]:.2f}", r"no number to format .*pygrad.debug_print"),
    (lambda x: x.astype(int), r"astype cannot be recorded: .*np.trunc"),
    (lambda x: np.interp(x, [0, 1], [0, 1], period=1.0), r"period= of numpy.interp cannot be recorded"),
    (lambda x: np.linalg.norm(np.outer(x, x), 2), r"order 2 of numpy.linalg.norm cannot be recorded: .*'fro'"),
    (lambda x: np.quantile(x, 0.3, method="lower"), r"method='lower' of numpy.quantile cannot be recorded"),
    (lambda x: 1.0 if np.any(x > 0) else 2.0, r"`if`.*pygrad.where"),
    (lambda x: np.maximum(np.array([x[0], x[1]]), 0), r"`if`.*np.stack"),
    (lambda x: np.isnan(np.array([x[0], x[1]])), r"ufunc 'isnan' not supported.*np.stack, not np.array"),
    (lambda x: np.linalg.inv(np.array([[x[0]]])), r"Cannot cast ufunc 'inv'.*np.stack, not np.array"),
    (lambda x: range(x[0]), r"'Value' object cannot be .* an integer: .*static_argnums"),
    (lambda x: range(x), r"'Array' object cannot be .* an integer: .*static_argnums"),
    (lambda x: [1.0, 2.0][x[0]], r"list indices must be integers.* static_argnums.*np.where"),
    (lambda x: (1.0, 2.0)[x], r"tuple indices must be integers.* static_argnums.*np.where"),
    (lambda x: x[: x[0]], r"slice indices must be integers.* static_argnums"),
    (lambda x: [1.0] * x[0], r"(can't multiply sequence|unsupported operand).* static_argnums"),
    (lambda x: np.zeros(x[0]), r"integer.* static_argnums"),
    (lambda x: int(x[0]), r"int\(\) needs .*static_argnums"),
    (lambda x: int(x[:1].reshape(())), r"int\(\) needs .*static_argnums"),
    (lambda x: float(x[:1].reshape(())), r"float\(\) needs "),
    (lambda x: 1.0 if x[:1] else 2.0, r"`if`.*pygrad.where"),
    (lambda x: round(x[0]), r"round\(\) needs .*np.round"),
]


def test_indices_of_plain_arrays_say_what_to_write_and_stay_errors_of_the_index(pg):
    for index in (lambda x: x[0], lambda x: x):
        with pytest.raises(IndexError, match=r"(?s)test_arrays.py.*static argument.*x \* \(np.arange\(n\) == i\)"):
            pg.jit(lambda x: np.ones(3)[index(x)])(np.zeros(3))


def test_the_truth_of_an_array_is_numpys(pg):
    for f in (lambda x: 1.0 if x else 2.0, lambda x: 1.0 if 2 * x else 2.0, lambda x: x and 2.0):
        with pytest.raises(ValueError, match="more than one element is ambiguous"):
            pg.jit(f)(np.ones(3))
    for f in (float, int):
        with pytest.raises(TypeError, match="arrays can be converted to Python scalars"):
            pg.jit(lambda x: f(x))(np.ones(3))


@pytest.mark.parametrize("record", [True, False])
def test_the_dtype_of_what_a_transform_makes_is_float64(pg, record):
    seen = []

    def f(x):
        whole = pg.vmap(lambda t: t * t)(x)
        seen.extend([x.dtype, (2 * x).dtype, np.sin(x).dtype, x[:1].dtype, whole.dtype])
        start = np.zeros(3, dtype=x.dtype) + np.zeros(3, dtype=(2 * x).dtype)
        eps = np.finfo(x.dtype).eps + np.finfo((2 * x).dtype).eps
        return np.sum(start + whole + eps + np.cross(x, 2 * x) + (2 * x).astype(x.dtype))

    x = np.array([1.0, 2.0, 3.0])
    assert pg.grad(f, record=record)(x).tolist() == [4.0, 6.0, 8.0]
    assert seen and all(isinstance(dtype, np.dtype) and dtype == np.float64 for dtype in seen)


def test_what_jaxs_arrays_have_says_what_to_write(pg):
    for f in (lambda x: x.at[0].set(1.0), lambda x: (2 * x).at[0].set(1.0)):
        with pytest.raises(AttributeError, match=r"no 'at': y = x.copy\(\)"):
            pg.jit(f)(np.ones(2))
    seen = []
    pg.jit(lambda x: seen.append([hasattr(y, "at") for y in (x, 2 * x)]) or x)(np.ones(2))
    assert seen == [[False, False]]


def test_functions_of_scipy_that_are_python_code_name_ours(pg):
    stats, special = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.special")
    linalg = pytest.importorskip("scipy.linalg")
    ours = pg._record.refusals.OURS
    for module, names in ours.items():
        theirs = special if module == "scipy.special" else stats.norm
        for name in names:
            home = pg.scipy.special if module == "scipy.special" else pg.scipy.stats.norm
            assert name in home.__all__
            args = (1,) if name == "polygamma" else ()
            of_array = lambda x: getattr(theirs, name)(*args, x)  # noqa: E731
            of_values = lambda x: getattr(theirs, name)(*args, 2 * x)  # noqa: E731
            for f in (of_array, of_values):
                with pytest.raises(
                    pg.RecordingError, match=f"(?s)test_arrays.py.*{name} cannot be recorded: use pygrad"
                ) as e:
                    pg.jit(f)(np.array([0.2, 0.3]))
                assert str(e.value).endswith(f"use pygrad.{module}.{name}")
    norm = pg.scipy.stats.norm
    assert {*norm.__all__} == {*ours["scipy.stats.norm"]}  # all of them are Python code in SciPy
    for f, message in (
        (lambda x: linalg.expm(np.eye(2) * x), "scipy.linalg.expm cannot be recorded: .*docs/arrays.md"),
        (lambda x: stats.expon.cdf(x), "scipy.stats.expon.cdf cannot be recorded: .*docs/arrays.md"),
        (lambda x: special.jv(1, x), "scipy.special.jv cannot be recorded: .*docs/arrays.md"),
    ):
        with pytest.raises(pg.RecordingError, match=message):
            pg.jit(f)(np.ones(2))


def test_errors_of_what_scipy_calls_stay_the_users(pg):
    """And those of SciPy that do not come from Values."""
    minimize = pytest.importorskip("scipy.optimize").minimize

    def outer(x):
        minimize(lambda y: float(x[0]), np.ones(1))

    with pytest.raises(pg.RecordingError, match=r"test_arrays.py.*y: float\(x\[0\]\)") as caught:
        pg.jit(outer)(np.ones(2))
    assert "scipy" not in str(caught.value)
    with pytest.raises(ValueError, match="^Unknown solver nothing"):
        pg.jit(lambda x: minimize(lambda y: y[0], np.ones(1), method="nothing"))(np.ones(2))


@pytest.mark.parametrize(("f", "message"), REFUSED)
def test_what_does_not_record_says_what_to_write(pg, f, message):
    with pytest.raises(pg.RecordingError, match=message) as caught:
        pg.jit(f)(np.array([1.0, -2.0, 3.0]))
    assert "test_arrays.py:" in str(caught.value)
    assert pg.jit(lambda x: np.maximum(x, 0.0))(np.array([-1.0, 2.0])).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_array", "bsr_array", "lil_matrix"])
def test_products_with_sparse_matrices_say_what_to_write(pg, kind):
    L = getattr(pytest.importorskip("scipy.sparse"), kind)([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]])
    x = np.array([1.0, -2.0, 3.0])
    for f in (
        lambda x: L @ x,
        lambda x: L.dot(2 * x),
        lambda x: x @ L,
        lambda x: (2 * x) @ L,
        lambda x: L @ x[:, None],
    ):
        for transform in (pg.jit, pg.vmap, lambda f: pg.grad(lambda x: np.sum(f(x)), record=False)):
            with pytest.raises(pg.RecordingError, match=r"(?s)test_arrays.py.*write L.toarray\(\) @ x"):
                transform(f)(x if transform is not pg.vmap else np.stack([x, x]))
    np.testing.assert_array_equal(pg.jit(lambda x: L.toarray() @ x)(x), L @ x)


def test_arrays_are_filled_as_the_message_says(pg):
    def f(x):
        y = np.zeros_like(x)
        y[0], y[1:] = x[1] * x[0], np.where(x[1:] < 0, 0.0, x[1:])
        return np.sum(y * np.stack([x[0], 0.0, x[2]]))

    x = np.array([2.0, -3.0, 5.0])
    for record in (True, False):
        value, slope = pg.value_and_grad(f, record=record)(x)
        assert value == -12.0 + 25.0 and slope.tolist() == [-12.0, 4.0, 10.0]


def test_recorded_arrays_show_their_shape_and_that_they_have_no_numbers(pg):
    shown = []
    pg.jit(lambda x: shown.append(f"{x} {x!r}") or x)(np.ones((2, 3)))
    assert shown == [" ".join(["Array(of shape (2, 3), without numbers: a function is being recorded)"] * 2)]


def test_the_users_mistakes_stay_those_of_numpy(pg):
    x = np.ones(3)
    with pytest.raises(ValueError, match="shapes"):
        pg.jit(lambda x: x + np.ones(2))(x)
    with pytest.raises(IndexError):
        pg.jit(lambda x: x[7])(x)
    with pytest.raises(IndexError):
        pg.jit(lambda x: (2 * x)[7])(x)
    with pytest.raises(ValueError, match="axis"):
        pg.jit(lambda x: np.concatenate([x, x], axis=1))(x)


# ---- Lanes -----------------------------------------------------------------------------------------------


def test_sums_and_means_of_a_vmap_stay_lanes(pg):
    points = np.linspace(-1.0, 1.0, 20_000)
    f = pg.vmap(lambda x: x.tanh() * x)
    exact = np.tanh(points) * points
    for total, expected in (
        (lambda X: f(X).sum(), exact.sum()),
        (lambda X: np.sum(f(X)), exact.sum()),
        (lambda X: f(X).mean(), exact.mean()),
        (lambda X: np.mean(f(X), axis=0), exact.mean()),
    ):
        both = pg.value_and_grad(total)
        value, slope = both(points)
        assert value == pytest.approx(expected, rel=1e-12)
        n = 1 if expected > 100 else points.size
        np.testing.assert_allclose(slope * n, np.tanh(points) + points / np.cosh(points) ** 2, rtol=1e-12, atol=1e-15)
        assert both.program(points).stats.instructions < 100


def test_sums_along_axes_of_a_vmap_are_numpys(pg):
    X = np.random.default_rng(0).normal(size=(6, 2, 3))
    f = pg.vmap(lambda x: np.sin(x) * x[0, 0])
    whole = np.sin(X) * X[:, :1, :1]
    for axis in (None, 0, 1, 2, -1, (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        for keepdims in (False, True):
            for name in ("sum", "mean"):
                total = lambda y: getattr(np, name)(y, axis=axis, keepdims=keepdims)  # noqa: E731
                np.testing.assert_allclose(pg.jit(lambda X: total(f(X)))(X), total(whole), rtol=1e-12)
                method = lambda y: getattr(y, name)(axis, keepdims=keepdims)  # noqa: E731
                turned = lambda y: method(np.transpose(y, (1, 0, 2)))  # noqa: E731
                np.testing.assert_allclose(pg.jit(lambda X: method(f(X)))(X), method(whole), rtol=1e-12)
                np.testing.assert_allclose(pg.jit(lambda X: turned(f(X)))(X), turned(whole), rtol=1e-12)
    part = pg.jit(lambda X: f(X)[1:4].sum() + f(X)[:, 0].mean() + f(X).reshape(-1).sum() + f(X)[[0, 0]].sum())(X)
    exact = whole[1:4].sum() + whole[:, 0].mean() + whole.sum() + whole[[0, 0]].sum()
    assert part == pytest.approx(exact, rel=1e-12)
    nested = pg.vmap(lambda x: pg.vmap(lambda y: y * y)(x).sum())(X[:, 0])
    np.testing.assert_allclose(nested, (X[:, 0] ** 2).sum(1), rtol=1e-12)


LOSSES = [
    lambda f, X, Y, W: np.mean((f(X) - Y) ** 2),
    lambda f, X, Y, W: np.sum(np.abs(Y - f(X)) * 0.5),
    lambda f, X, Y, W: (np.exp(-f(X)) * W / (2.0 + f(X) * f(Y))).mean(),
    lambda f, X, Y, W: np.sqrt(np.mean(np.maximum(f(X), W[0]) % 0.7)),
    lambda f, X, Y, W: np.sum((f(X) > Y) * np.tanh(X)),
    lambda f, X, Y, W: np.mean(np.transpose(f(X)) + np.transpose(Y)),
    lambda f, X, Y, W: (np.float64(2.0) * f(X) - np.ones(3) - np.arange(3.0)).sum(),
    lambda f, X, Y, W: -(f(X) // 0.3).mean() + (f(X)[:, 0] * f(X)[:, 1]).sum(),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_elementwise_functions_of_a_vmap_are_numpys(pg, loss):
    rng = np.random.default_rng(2)
    X, Y, W = rng.normal(size=(7, 3)), rng.normal(size=(7, 3)), rng.uniform(1.0, 2.0, 3)
    f = lambda x: np.sin(x) * x  # noqa: E731
    whole = lambda X, Y, W: loss(f, X, Y, W)  # noqa: E731
    lanes = lambda X, Y, W: loss(pg.vmap(f), X, Y, W)  # noqa: E731
    assert pg.jit(lanes)(X, Y, W) == pytest.approx(whole(X, Y, W), rel=1e-12)
    grads = pg.grad(lanes, argnums=(0, 1, 2))(X, Y, W)
    for i, (got, alone) in enumerate(zip(grads, pg.grad(whole, argnums=(0, 1, 2))(X, Y, W))):
        np.testing.assert_allclose(got, alone, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(got, slopes(whole, [X, Y, W], i, 1.0), rtol=1e-5, atol=1e-6)
    direction = pg.hvp(lambda X: lanes(X, Y, W))(X, Y)
    np.testing.assert_allclose(direction, pg.hvp(lambda X: whole(X, Y, W))(X, Y), rtol=1e-9, atol=1e-11)
    assert pg.jit(lambda X: loss(pg.vmap(f), X, Y, W))(X) == pytest.approx(whole(X, Y, W), rel=1e-12)


def test_losses_of_many_points_stay_lanes(pg):
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=20_000), rng.normal(size=20_000)
    both = pg.value_and_grad(lambda w, X, Y: np.mean((pg.vmap(lambda x: w * x)(X) - Y) ** 2))
    value, slope = both(0.7, X, Y)
    assert value == pytest.approx(np.mean((0.7 * X - Y) ** 2), rel=1e-12)
    assert slope == pytest.approx(np.mean(2 * (0.7 * X - Y) * X), rel=1e-11)
    assert both.program(0.7, X, Y).stats.instructions < 50
    by_all = pg.value_and_grad(lambda X, Y: np.sum(np.logaddexp(pg.vmap(lambda x: x * x)(X), Y)), argnums=(0, 1))
    _, (by_X, by_Y) = by_all(X, Y)
    share = 1 / (1 + np.exp(Y - X * X))
    np.testing.assert_allclose(by_X, 2 * X * share, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(by_Y, 1 - share, rtol=1e-9, atol=1e-12)
    assert by_all.program(X, Y).stats.instructions < 100


def test_a_vmaps_result_is_added_up_within_another(pg):
    X, Z = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0])

    def f(X, Z):
        y = pg.vmap(lambda x: x * x)(X)
        return pg.vmap(lambda z: z * y.sum() + z * z * np.mean(y))(Z).sum()

    assert pg.jit(f)(X, Z) == 21.0 * 8.0 + 7.0 * 34.0
    by_X, by_Z = pg.grad(f, argnums=(0, 1))(X, Z)
    np.testing.assert_allclose(by_X, 2 * X * 8.0 + 2 * X / 3 * 34.0, rtol=1e-14)
    np.testing.assert_allclose(by_Z, 21.0 + 2 * Z * 7.0, rtol=1e-14)


def test_masks_of_known_numbers_are_indices(pg):
    x = np.array([0.2, 0.7, 0.9])
    slope = pg.grad(lambda x: (x * x)[(x > 0.5) & (x < 0.8)].sum(), record=False)
    assert slope(x).tolist() == [0.0, 1.4, 0.0]


def test_functions_that_run_eagerly_may_assign_to_their_arguments(pg):
    def f(x, y):
        x[0] = 1.0
        y["w"][1] = x[1] * x[0]
        return np.sum(x * x * y["w"])

    x, y = np.array([3.0, 5.0]), {"w": np.array([7.0, 11.0])}
    value, (by_x, by_y) = pg.value_and_grad(f, argnums=(0, 1), record=False)(x, y)
    assert value == 7.0 + 125.0 and by_x.tolist() == [0.0, 75.0] and by_y["w"].tolist() == [1.0, 0.0]
    assert x.tolist() == [3.0, 5.0] and y["w"].tolist() == [7.0, 11.0]
    inner = pg.grad(lambda x: pg.value_and_grad(f, (0, 1), record=False)(x, {"w": np.ones(2)})[0], record=False)
    assert inner(x).tolist() == [0.0, 75.0]


def test_views_of_arguments_make_no_nodes(pg):
    X = np.random.default_rng(0).normal(size=(4, 3))
    for move in (np.transpose, np.flip, np.ravel, lambda X: np.moveaxis(X, 0, 1), lambda X: X.swapaxes(0, 1)):
        f = pg.jit(lambda X: pg.vmap(lambda x: np.sum(x * x), reduce="sum")(move(X)))
        assert f(X) == pytest.approx((X**2).sum(), rel=1e-12)
        assert f.program(X).stats.instructions < 40


# ---- pygrad.scipy -----------------------------------------------------------------------------------------

SPECIAL = ["erf", "erfc", "erfinv", "gamma", "gammaln", "digamma", "ndtr", "ndtri", "log_ndtr", "expit", "logit"]
NORM = ["pdf", "logpdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf"]
POINTS = np.array([[0.02, 0.3, 0.5], [0.7, 0.97, 1e-6]])


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions_are_scipys(pg, name):
    theirs, ours = getattr(pytest.importorskip("scipy.special"), name), getattr(pg.scipy.special, name)
    expected = theirs(POINTS)
    for got in (ours(POINTS), pg.jit(ours)(POINTS), pg.jit(lambda x: theirs(x))(POINTS), pg.vmap(ours)(POINTS)):
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    assert type(ours(0.25)) is float and ours(0.25) == pytest.approx(theirs(0.25), rel=1e-13)
    assert type(ours(pg.Value(0.25))) is pg.Value
    assert [v.data for v in ours(np.array([pg.Value(0.25), pg.Value(0.5)]))] == [ours(0.25), ours(0.5)]
    slope, h = pg.grad(ours)(0.3), 1e-6
    assert slope == pytest.approx((theirs(0.3 + h) - theirs(0.3 - h)) / (2 * h), rel=1e-8)


@pytest.mark.parametrize("name", NORM)
def test_the_normal_distribution_is_scipys(pg, name):
    stats = pytest.importorskip("scipy.stats")
    theirs, ours = getattr(stats.norm, name), getattr(pg.scipy.stats.norm, name)
    for more in ((), (0.2,), (0.2, 1.5), (np.array([0.1, 0.2, 0.3]), 2.0)):
        expected = theirs(POINTS, *more)
        np.testing.assert_allclose(ours(POINTS, *more), expected, rtol=1e-12)
        np.testing.assert_allclose(pg.jit(lambda x: ours(x, *more))(POINTS), expected, rtol=1e-12)
        np.testing.assert_allclose(ours(POINTS, **dict(zip(("loc", "scale"), more))), expected, rtol=1e-12)
    for i in range(3):
        args, h = [0.3, 0.2, 1.5], 1e-6
        up, down = ([a + d * (j == i) for j, a in enumerate(args)] for d in (h, -h))
        assert pg.grad(ours, argnums=i)(*args) == pytest.approx((theirs(*up) - theirs(*down)) / (2 * h), rel=1e-7)


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_sums_of_exponentials_are_scipys(pg, name, axis):
    theirs, ours = getattr(pytest.importorskip("scipy.special"), name), getattr(pg.scipy.special, name)
    x = np.array([[1000.0, 1001.0, -INF], [-1000.0, 3.0, 2.0]])
    np.testing.assert_allclose(ours(x, axis=axis), theirs(x, axis=axis), rtol=1e-13)
    np.testing.assert_allclose(pg.jit(lambda x: ours(x, axis=axis))(x), theirs(x, axis=axis), rtol=1e-13)
    y = np.array([[1.0, 2.0, 0.5], [-1.0, 3.0, 2.0]])
    f = lambda y: np.cos(ours(y, axis=axis))  # noqa: E731
    np.testing.assert_allclose(pg.grad(lambda y: np.sum(f(y)))(y), slopes(f, [y], 0, 1.0), rtol=1e-6, atol=1e-8)


def test_numbers_within_a_recorded_function_stay_numbers(pg):
    norm = pg.scipy.stats.norm
    f = lambda x: x * norm.cdf(np.array([0.1, 0.2])).sum() + norm.ppf(0.975)  # noqa: E731
    assert isinstance(norm.ppf(0.975), float) and norm.ppf([0.0, 1.0]).tolist() == [-INF, INF]
    for record in (True, False):
        assert pg.jit(f, record=record)(2.0) == pytest.approx(f(2.0), rel=1e-15)
    for record in (True, False):
        assert (
            pg.jit(lambda x: x * float(norm.cdf(0.0)) + norm.cdf(np.zeros(2)).astype(int)[0], record=record)(3.0) == 1.5
        )


def test_tables_of_the_page_are_the_modules(pg):
    section = PAGE.split("## SciPy")[1].split("\n## ")[0]
    for module, path in ((pg.scipy.special, "special"), (pg.scipy.stats.norm, "stats.norm")):
        row = re.search(rf"^\| `{path}` \| (.*) \|$", section, re.MULTILINE)[1]
        assert re.findall(r"`(\w+)`", row) == sorted(module.__all__)


CHANGES = ["x.sort()", "x.fill(1.0)", "x.put([0], 5.0)", "x.partition(1)", "np.put(x, [0], 5.0)", "np.copyto(x, 0.0)"]
CHANGES += ["np.putmask(x, [True, False, False], 5.0)", "np.add.at(x, [0], 1.0)", "np.exp(x, out=x)", "x[0] = 1.0"]
CHANGES += ["np.cumsum(x, out=x)", "x.clip(0, 1, out=x)", "np.add(x, 1.0, out=x)"]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_arguments_and_of_vmaps_results_are_refused(pg, change):
    """They would be lost: an array that is recorded is not the argument. A copy may be changed."""
    points = np.array([3.0, 1.0, 2.0])
    for start in ("x", "pg.vmap(lambda t: t * 2.0)(x)"):
        scope = {"np": np, "pg": pg}
        exec(f"def f(x):\n    x = {start}\n    {change}\n    return x[0] + 2.0 * x[1]", scope)
        with pytest.raises(pg.RecordingError, match="change a copy"):
            pg.grad(scope["f"])(points)
    if change in ("x.fill(1.0)", "x.put([0], 5.0)", "x[0] = 1.0"):
        exec(f"def f(x):\n    x = np.array(x)\n    {change}\n    return x[0] + 2.0 * x[1]", scope)
        assert pg.jit(scope["f"])(points) == scope["f"](points)


def test_views_of_arguments_can_not_be_written_to(pg):
    for change in ("x.flat[0] = 1.0", "np.asarray(x)[0] = 1.0", "np.fill_diagonal(x, 0.0)", "np.asarray(x).sort()"):
        scope = {"np": np}
        exec(f"def f(x):\n    {change}\n    return x.sum()", scope)
        with pytest.raises((pg.RecordingError, ValueError), match="read-only|change a copy"):
            pg.jit(scope["f"])(np.ones((2, 2)))


def test_interp_of_nan_and_of_steps(pg):
    f = pg.jit(lambda v: np.interp(v, [0.0, 1.0, 1.0, 2.0], [5.0, 1.0, 3.0, 7.0]))
    for v in (-1.0, 0.5, 1.0, 1.5, 2.0, 3.0, float("nan")):
        np.testing.assert_equal(f(v), np.interp(v, [0.0, 1.0, 1.0, 2.0], [5.0, 1.0, 3.0, 7.0]))


def test_matrices_stacked_of_scalars_are_alike_without_recording(pg):
    def f(x):
        matrix = np.stack([np.stack([x[0], x[1]]), np.stack([x[1], 3.0 + x[0]])])
        return np.linalg.det(matrix) + np.linalg.solve(matrix, np.stack([x[1], x[0]])).sum() + np.float64(3.0) // x[0]

    x = np.array([1.3, 0.4])
    for transform in (pg.grad, pg.hessian, pg.jit):
        np.testing.assert_allclose(transform(f)(x), transform(f, record=False)(x), rtol=1e-12)


VIEWS = {
    "as it is": lambda a: a,
    "reshaped": lambda a: a.reshape(-1, 2),
    "turned": lambda a: a.T,
    "every other": lambda a: a[::2],
    "backwards": lambda a: a[::-1],
    "swapped": lambda a: a.swapaxes(0, 1).reshape(a.shape),
    "one longer": lambda a: a[:, None].reshape(a.shape),
}


@pytest.mark.parametrize("how", VIEWS)
@pytest.mark.parametrize(
    "places", [[0, 1, 2, 3], [0, 2, 3, 5], [0, 2, 4, 6], [3, 1, 4, 5], [1, 1, 1, 1], slice(None)], ids=str
)
def test_views_of_elements_in_any_order_are_mapped_over_as_numpys_are(pg, places, how):
    """What is moved within the recording, and then seen through a view, lies elsewhere than its offsets say."""
    x = np.arange(14.0).reshape(7, 2) ** 2 + 1.0
    view = VIEWS[how]

    def of_argument(x):
        return pg.vmap(lambda row: row[0] * 3.0 + row[1] * row[1])(view(x[places]))

    def of_result(x):
        return view(pg.vmap(lambda row: np.stack([row[1], row[0] * row[0]]))(x)[places])

    def oracle(rows):
        return rows[:, 0] * 3.0 + rows[:, 1] ** 2

    np.testing.assert_allclose(pg.jit(of_result)(x), view(np.stack([x[:, 1], x[:, 0] ** 2], axis=1)[places]))
    expected = oracle(view(x[places]))
    np.testing.assert_allclose(pg.jit(of_argument)(x), expected)
    weights = np.arange(1.0, 1.0 + len(expected))
    slope = pg.grad(lambda x: of_argument(x) @ weights)(x)
    wanted = np.zeros_like(x)
    for row, weight in zip(view(np.arange(14).reshape(7, 2)[places]), weights):
        wanted.ravel()[row[0]] += 3.0 * weight
        wanted.ravel()[row[1]] += 2.0 * x.ravel()[row[1]] * weight
    np.testing.assert_allclose(slope, wanted)
