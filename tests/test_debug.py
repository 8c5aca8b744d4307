"""debug_print: what is printed at each run, and in which lane; over both layers."""

from __future__ import annotations

import pickle

import pytest

np = pytest.importorskip("numpy")

X = np.array([1.0, 2.0, 3.0])


def test_it_prints_at_each_run_the_numbers_of_that_run(pg, capsys):
    @pg.jit
    def f(x, *, k):
        y = x * k
        pg.debug_print("{} * {k:.1f} = {}", x, y, k=k)
        return y

    for x in (2.0, 3.0, 3.0):
        assert f(x, k=4.0) == 4.0 * x
    assert capsys.readouterr().out == "2.0 * 4.0 = 8.0\n3.0 * 4.0 = 12.0\n3.0 * 4.0 = 12.0\n"


@pytest.mark.parametrize("record", [True, False])
def test_each_lane_has_a_line_with_its_number(pg, capsys, record):
    def body(x, w):
        pg.debug_print("{} {t[a]} {}", x, w, t={"a": np.array([x, x * w])})
        return x * w

    f = pg.vmap(body, in_axes=(0, None), record=record)
    for _ in range(2):
        assert f(X, 2.0).tolist() == [2.0, 4.0, 6.0]
        lines = [f"lane {i}: {x} {np.array([x, 2 * x])} 2.0\n" for i, x in enumerate(X.tolist())]
        assert capsys.readouterr().out == "".join(lines)


@pytest.mark.parametrize("record", [True, False])
def test_lanes_of_lanes_are_named_from_the_outermost(pg, capsys, record):
    f = pg.vmap(lambda u: pg.vmap(lambda v: (pg.debug_print("{} {}", u, v), u * v)[1])(X[:2]), record=record)
    f(X)
    expected = {f"lane {i}, {j}: {X[i]} {X[j]}" for i in range(3) for j in range(2)}
    lines = capsys.readouterr().out.splitlines()
    assert set(lines) == expected and len(lines) == 6


@pytest.mark.parametrize("record", [True, False])
def test_comparisons_are_printed_as_bools(pg, capsys, record):
    def f(x, s):
        pg.debug_print("{} {} {} {k}", x > 1.5, s > 2.0, x, k=[s <= 2.0, (x > 1) & (x < 3), s, True])
        return x[0]

    g = pg.jit(f, record=record)
    for s in (1.0, 3.0):
        g(X, s)
        inner = [s <= 2.0, (X > 1) & (X < 3), s, True]
        assert capsys.readouterr().out == f"{X > 1.5} {s > 2.0} {X} {inner}\n"
    pg.vmap(lambda x: (pg.debug_print("{} {}", x > 1.5, np.stack([x, x]) > 1.5), x)[1], record=record)(X)
    expected = [f"lane {i}: {x > 1.5} {np.array([x > 1.5] * 2)}\n" for i, x in enumerate(X)]
    assert capsys.readouterr().out == "".join(expected)


def test_comparisons_of_a_vmap_are_printed_as_bools(pg, capsys):
    def f(x):
        larger = pg.vmap(lambda t: t > 1.5)(x)
        pg.debug_print("{} {}", larger, pg.vmap(lambda t: 1.0 * (t > 1.5))(x))
        return x[0]

    assert pg.jit(f)(X) == 1.0
    assert capsys.readouterr().out == f"{X > 1.5} [0. 1. 1.]\n"


def test_whole_results_of_a_vmap_are_printed_once(pg, capsys):
    def f(x):
        y = pg.vmap(lambda t: t * t)(x)
        pg.debug_print("{} {:.2f}", y, y.sum())
        return y.sum()

    assert pg.jit(f)(X) == 14.0
    assert capsys.readouterr().out == "[1. 4. 9.] 14.00\n"


@pytest.mark.parametrize("record", [True, False])
def test_a_differentiated_function_prints_its_own_numbers(pg, capsys, record):
    def f(x):
        y = x * x
        pg.debug_print("y {}", y)
        return y * x

    for derivative, expected in ((pg.grad, 12.0), (pg.hessian, 12.0), (pg.jacfwd, 12.0)):
        assert derivative(f, record=record)(2.0) == expected
        assert capsys.readouterr().out == "y 4.0\n"
    f(2.0), f(pg.Value(3.0))
    assert capsys.readouterr().out == "y 4.0\ny 9.0\n"


def test_programs_print_whether_called_pickled_or_with_values_from_outside(pg, capsys):
    k = pg.Value(2.0)
    plain, reads = (lambda x: pg.debug_print("{}", x)), (lambda x: (pg.debug_print("{} {}", x, k), x * k)[1])
    program = pg.jit(plain).program(1.0)
    for call in (program, pickle.loads(pickle.dumps(program))):
        assert call(5.0) is None
        assert capsys.readouterr().out == "5.0\n"
    f = pg.jit(reads)
    for k.data in (2.0, 3.0):
        assert f(1.0) == k.data
        assert capsys.readouterr().out == f"1.0 {k.data}\n"
    assert "printed[0][0][0] = x" in str(program)
    assert "printed[0][0][0]" in program.to_c("f")


def test_text_that_does_not_fit_is_refused_when_it_is_recorded(pg, capsys):
    for text, error in (("{} {}", IndexError), ("{a}", KeyError), ("{:d}", ValueError), ("{", ValueError)):
        with pytest.raises(error):
            pg.jit(lambda x: pg.debug_print(text, x))(1.0)
    with pytest.raises(TypeError, match="'a' is of type str"):
        pg.jit(lambda x: pg.debug_print("{}", "a"))(1.0)
    assert capsys.readouterr().out == ""
