"""NumPy's arrays of Values, and its scalars."""

from __future__ import annotations

import pytest

np = pytest.importorskip("numpy")


def test_arrays_of_values_go_elementwise_and_in_matmul(Value):
    a = np.array([Value(1.0), Value(2.0), Value(3.0)])
    assert a.dtype == object
    w = np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -1.0]])
    y = w @ a
    assert [v.data for v in y] == [4.5, -2.0]
    loss = (y * y + 2 * a[:2] - a[1:] / 3).sum()
    loss.backward()
    expected = 2 * w.T @ np.array([4.5, -2.0]) + np.array([2, 2, 0]) - np.array([0, 1, 1]) / 3
    assert [v.grad for v in a] == pytest.approx(expected.tolist(), rel=1e-14)
    assert (a @ a).data == 14.0
    assert type((a * np.float64(2))[0]) is Value


NAMES = ["exp", "log", "log1p", "log10", "log2", "expm1", "sqrt", "tanh", "sin", "cos", "tan", "sinh", "cosh"]


@pytest.mark.parametrize("name", [*NAMES, "arctan", "absolute"])
def test_numpys_functions_find_the_methods(Value, name):
    a = np.array([Value(0.5), Value(0.75)])
    result = getattr(np, name)(a)
    assert [v.data for v in result] == pytest.approx(getattr(np, name)([0.5, 0.75]).tolist(), rel=1e-15)
    assert all(type(v) is Value for v in result)


def test_numpys_functions_of_other_names(Value):
    a, b = np.array([Value(0.5), Value(-0.25)]), np.array([Value(0.3), Value(0.1)])
    for name in ("arcsin", "arccos", "arcsinh", "arctanh"):
        assert [v.data for v in getattr(np, name)(a)] == pytest.approx(
            getattr(np, name)([0.5, -0.25]).tolist(), rel=1e-15
        )
    (nine,) = np.arccosh(np.array([Value(9.0)]))
    assert nine.data == pytest.approx(np.arccosh(9.0), rel=1e-15)
    for name in ("arctan2", "hypot", "power", "maximum", "remainder"):
        x = [0.5, 0.25]
        ours = getattr(np, name)(np.array([Value(v) for v in x]), b)
        assert [v.data for v in ours] == pytest.approx(getattr(np, name)(x, [0.3, 0.1]).tolist(), rel=1e-15)


@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "int8", "uint32", "bool_"])
def test_numpys_scalars_are_numbers(Value, kind):
    v, s = Value(3.0), getattr(np, kind)(1)
    if kind != "bool_":
        for result, expected in ((s + v, 4.0), (s - v, -2.0), (s * v, 3.0), (s / v, 1 / 3), (s**v, 1.0)):
            assert type(result) is Value and result.data == expected
    for result, expected in ((v + s, 4.0), (v - s, 2.0), (v * s, 3.0), (v / s, 3.0)):
        assert type(result) is Value and result.data == expected
    assert Value(getattr(np, kind)(1)).data == 1.0


def test_arrays_of_numbers_with_one_value(Value):
    v, a = Value(2.0), np.array([1.0, 4.0])
    for result, expected in (
        (a * v, [2.0, 8.0]),
        (v * a, [2.0, 8.0]),
        (a - v, [-1.0, 2.0]),
        (v / a, [2.0, 0.5]),
        (v**a, [2.0, 16.0]),
    ):
        assert [x.data for x in result] == expected
        assert all(type(x) is Value for x in result)


def test_vdot_and_conj_take_values_as_real_numbers(pg):
    a, b = np.array([pg.Value(1.0), pg.Value(2.0)]), np.array([3.0, 4.0])
    assert np.vdot(a, b).data == np.vdot(b, a).data == 11.0 and np.conj(a)[1] is a[1]
    assert pg.grad(lambda x: np.vdot(x, x))(b).tolist() == [6.0, 8.0]


def test_dot_takes_arrays(pg):
    w = [pg.Value(1.0), pg.Value(2.0)]
    assert pg.dot(w, np.array([3.0, 4.0]), np.float64(1.0)).data == 12.0
    assert pg.dot(np.array(w), np.array([3, 4])).data == 11.0
