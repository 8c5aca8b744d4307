"""Every row of the table of operations: values, partials, domain. Kinks and the last digits: test_accuracy.py."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mpmath
import pytest
from helpers import close, gradcheck

mp = mpmath.mp.clone()
mp.dps = 80

PLAIN = [-2.5, -1.0, -0.3, 1e-8, 0.4, 1.0, 3.7]
POSITIVE = [1e-8, 0.3, 1.0, 2.5, 700.0]
UNIT = [-0.99, -0.5, 1e-9, 0.3, 0.95]
PAIRS = [(-1.5, 2.0), (0.3, -0.7), (2.5, 0.5), (1e-3, 3.0)]
POSITIVE_BASE = [(0.3, 2.5), (2.0, -1.5), (1.7, 0.0), (3.0, 2.0), (0.5, 1.0)]

# Name: (the function in mpmath, arguments away from kinks).
ROWS = {
    "add": (lambda a, b: a + b, PAIRS),
    "sub": (lambda a, b: a - b, PAIRS),
    "mul": (lambda a, b: a * b, PAIRS),
    "div": (lambda a, b: a / b, PAIRS),
    "pow": (mp.power, POSITIVE_BASE),
    "powc": (mp.power, [*POSITIVE_BASE, (-1.5, 3.0), (-2.0, -2.0), (-0.5, 2.0)]),
    "neg": (lambda a: -a, PLAIN),
    "exp": (mp.exp, [*PLAIN, -700.0, 700.0]),
    "log": (mp.log, POSITIVE),
    "log1p": (mp.log1p, [-0.9, *POSITIVE, 1e-15]),
    "expm1": (mp.expm1, [*PLAIN, 1e-15, -40.0]),
    "sqrt": (mp.sqrt, POSITIVE),
    "abs": (abs, [-2.5, -1e-8, 0.3]),
    "tanh": (mp.tanh, PLAIN),
    "sigmoid": (lambda a: 1 / (1 + mp.exp(-a)), [*PLAIN, -30.0, 30.0]),
    "softplus": (lambda a: mp.log1p(mp.exp(a)), [*PLAIN, -30.0, 30.0]),
    "relu": (lambda a: a if a > 0 else a * 0, [-2.5, -1e-8, 0.3]),
    "leaky_relu": (lambda a, b: a if a > 0 else a * b, [(-2.5, 0.01), (0.3, 0.01), (-1.0, 0.3)]),
    "sin": (mp.sin, PLAIN),
    "cos": (mp.cos, PLAIN),
    "tan": (mp.tan, PLAIN),
    "asin": (mp.asin, UNIT),
    "acos": (mp.acos, UNIT),
    "atan": (mp.atan, PLAIN),
    "sinh": (mp.sinh, PLAIN),
    "cosh": (mp.cosh, PLAIN),
    "atan2": (mp.atan2, [*PAIRS, (-1.0, -2.0), (1e-200, 1e-200), (1e200, -1e200)]),
    "hypot": (mp.hypot, [*PAIRS, (1e200, -1e200), (3e-200, 4e-200)]),
    "erf": (mp.erf, PLAIN),
    "min": (lambda a, b: min(a, b), PAIRS),
    "max": (lambda a, b: max(a, b), PAIRS),
    "sign": (mp.sign, [-2.5, -1e-8, 0.3]),
    "less": (lambda a, b: mp.mpf(a < b), PAIRS),
    "less_equal": (lambda a, b: mp.mpf(a <= b), PAIRS),
    "equal": (lambda a, b: mp.mpf(a == b), PAIRS),
    "pick": (lambda a, b: b if a != 0 else b * 0, PAIRS),
    "keep": (lambda a, b: b if a != 0 else b * 0, PAIRS),
    "gate": (lambda a, b: a if b > 0 else a * 0, [*PAIRS, (2.5, -1e-300), (-3.0, 1e-300)]),
    "detach": (lambda a: a, PLAIN),
    "log10": (mp.log10, POSITIVE),
    "log2": (lambda a: mp.log(a) / mp.ln2, POSITIVE),
    "asinh": (mp.asinh, [*PLAIN, -700.0, 1e15]),
    "acosh": (mp.acosh, [1.001, 1.5, 2.5, 700.0]),
    "atanh": (mp.atanh, UNIT),
    "erfc": (mp.erfc, [*PLAIN, 5.0, 20.0]),
    "silu": (lambda a: a / (1 + mp.exp(-a)), [*PLAIN, -30.0, -600.0, 30.0]),
    "gelu": (lambda a: a * mp.erfc(-a / mp.sqrt(2)) / 2, [*PLAIN, -5.0, -30.0, 30.0]),
    "elu": (lambda a, b: a if a > 0 else b * mp.expm1(a), [(-2.5, 1.0), (0.3, 1.0), (-1.0, 0.3), (-40.0, 2.0)]),
    "floor": (mp.floor, PLAIN[:1] + PLAIN[2:5] + PLAIN[6:]),
    "rint": (mp.nint, [-2.4, 1e-8, 0.4, 1.0, 3.7]),
    "exp2": (lambda a: mp.power(2, a), [*PLAIN, -1000.0, 700.5]),
    "cbrt": (lambda a: mp.sign(a) * mp.cbrt(abs(a)), [*PLAIN, -1e-300, 5e-320, 1e300]),
    "logit": (lambda a: mp.log(a / (1 - a)), [1e-9, 0.2, 0.3, 0.6, 0.95]),
    "gamma": (mp.gamma, [0.3, 1.0, 2.5, 30.0, -0.5, -2.25, -20.1]),
    "lgamma": (lambda a: mp.log(abs(mp.gamma(a))), [1e-8, 0.3, 1.5, 2.5, 700.0, -0.5, -2.25, -20.1]),
    "digamma": (mp.digamma, [1e-8, 0.3, 1.0, 2.5, 3.7, 700.0, -0.25, -2.25, -20.1, -1e-9]),
    "polygamma": (
        lambda n, b: mp.polygamma(int(mp.nint(n)), b),
        [(0.0, 0.3), (1.0, 2.5), (2.0, 0.3), (3.0, 40.0), (1.0, -0.5), (2.0, -3.25), (3.0, -2.75), (6.0, 1.5)],
    ),
    "erfinv": (mp.erfinv, UNIT),
    "ndtr": (mp.ncdf, [*PLAIN, -30.0, 7.0]),
    "ndtri": (lambda a: mp.sqrt(2) * mp.erfinv(2 * a - 1), [1e-8, 0.1, 0.3, 0.6, 0.95]),
    "log_ndtr": (lambda a: mp.log(mp.erfc(-a / mp.sqrt(2)) / 2), [*PLAIN, -30.0, -700.0, 7.0]),
    "mod": (lambda a, b: a - b * mp.floor(a / b), [(-1.5, 2.0), (2.5, -0.7), (-7.5, -2.0), (1.0, 0.3), (1e15, -0.3)]),
}
CASES = [
    (name, args if isinstance(args, tuple) else (args,)) for name, (_, all_args) in ROWS.items() for args in all_args
]


def ops(pg):
    """The names of the table's rows, and whether their second argument is a constant."""
    lib, ffi = pg._core.layer.lib, pg._core.layer.ffi
    rows = [lib.pgr_op_row(op) for op in range(lib.PGR_OP_FIRST, lib.pgr_op_count())]
    return {ffi.string(row.name).decode(): row.kind == lib.PGR_KIND_PARAM for row in rows}


def call(pg, name, args):
    """values, result: the operation on Values (a parameter stays a number)."""
    values = [pg.Value(a) for a in args]
    given = [values[0], *args[1:]] if ops(pg)[name] else values
    return values, getattr(pg.Value, name)(*given)


def test_every_row_is_tested(pg):
    assert ops(pg).keys() == ROWS.keys()


@pytest.mark.parametrize(("name", "args"), CASES)
def test_value_equals_mpmath(pg, name, args):
    _, result = call(pg, name, args)
    exact = ROWS[name][0](*map(mp.mpf, args))
    assert abs(result.data - exact) <= 5e-16 * abs(exact) + 5e-324


@pytest.mark.parametrize(("name", "args"), CASES)
def test_partials_equal_mpmath(pg, name, args):
    values, result = call(pg, name, args)
    result.backward()
    for i, value in enumerate(values):
        if name == "detach" or (i == 1 and ops(pg)[name]):
            assert value.grad == 0.0
            continue
        x = [mp.mpf(a) for a in args]
        h = mp.mpf(10) ** -30 * (abs(x[i]) or 1)
        x[i] += h
        above = ROWS[name][0](*x)
        x[i] -= 2 * h
        exact = (above - ROWS[name][0](*x)) / (2 * h)
        assert abs(value.grad - exact) <= 1e-13 * abs(exact) + 1e-300, f"partial {i}: {value.grad}, exactly {exact}"


@pytest.mark.parametrize(
    ("name", "args"), [case for case in CASES if max(map(abs, case[1])) < 30 and case[0] != "detach"]
)
def test_gradcheck(pg, name, args):
    if min(map(abs, args)) < 1e-3:
        return  # within a step of a kink or of the domain's edge
    if ops(pg)[name]:
        gradcheck(lambda a: getattr(a, name)(*args[1:]), args[:1], tolerance=1e-6)
    elif name == "polygamma":  # the order is a whole number
        gradcheck(lambda b: pg.Value(args[0]).polygamma(b), args[1:], tolerance=1e-6)
    else:
        gradcheck(lambda *values: getattr(pg.Value, name)(*values), args, tolerance=1e-6)


# Arguments outside the domain, and what Python itself raises for the same numbers.
ERRORS = [
    ("div", (1.0, 0.0), lambda a, b: a / b),
    ("div", (0.0, 0.0), lambda a, b: a / b),
    ("div", (math.inf, -0.0), lambda a, b: a / b),
    ("pow", (0.0, -1.0), lambda a, b: a**b),
    ("pow", (-8.0, 0.5), math.pow),
    ("pow", (10.0, 400.0), lambda a, b: a**b),
    ("powc", (0.0, -1.0), lambda a, b: a**b),
    ("powc", (0.0, -2.5), lambda a, b: a**b),
    ("powc", (-8.0, 0.5), math.pow),
    ("powc", (-10.0, 401.0), math.pow),
    ("powc", (1e200, 2.0), math.pow),  # PyPy takes a**2 as a * a, which is inf
    ("exp", (1000.0,), math.exp),
    ("log", (0.0,), math.log),
    ("log", (-1.0,), math.log),
    ("log", (-math.inf,), math.log),
    ("log1p", (-1.0,), math.log1p),
    ("log1p", (-2.0,), math.log1p),
    ("expm1", (1000.0,), math.expm1),
    ("sqrt", (-1e-300,), math.sqrt),
    ("sin", (math.inf,), math.sin),
    ("cos", (-math.inf,), math.cos),
    ("tan", (math.inf,), math.tan),
    ("asin", (1.0000001,), math.asin),
    ("acos", (-2.0,), math.acos),
    ("sinh", (-1000.0,), math.sinh),
    ("log10", (0.0,), math.log10),
    ("log2", (-1.0,), math.log2),
    ("log2", (-math.inf,), math.log2),
    ("acosh", (0.9999,), math.acosh),
    ("acosh", (-math.inf,), math.acosh),
    ("atanh", (1.0,), math.atanh),
    ("atanh", (-2.0,), math.atanh),
    ("mod", (1.0, 0.0), lambda a, b: a % b),
    ("mod", (math.inf, -0.0), lambda a, b: a % b),
    ("cosh", (1000.0,), math.cosh),
    ("exp2", (1024.0,), lambda a: 2.0**a),
    ("gamma", (0.0,), math.gamma),
    ("gamma", (-3.0,), math.gamma),
    ("gamma", (-math.inf,), math.gamma),
    ("gamma", (172.0,), math.gamma),
    ("lgamma", (-1.0,), math.lgamma),
    ("lgamma", (1e306,), math.lgamma),
    ("digamma", (-2.0,), math.gamma),
    ("polygamma", (1.0, 0.0), lambda n, x: math.gamma(x)),
    ("polygamma", (0.5, 1.0), lambda n, x: math.sqrt(-n)),
    ("polygamma", (-1.0, 1.0), lambda n, x: math.sqrt(n)),
    ("logit", (1.0,), lambda a: math.log(1 - a)),
    ("erfinv", (-1.0,), math.atanh),
    ("ndtri", (0.0,), math.log),
]


@pytest.mark.parametrize(("name", "args", "python"), ERRORS)
def test_outside_the_domain_raises_what_python_does_and_records_nothing(pg, name, args, python):
    with pytest.raises((ValueError, ZeroDivisionError, OverflowError)) as theirs:
        python(*args)
    values = [pg.Value(a) for a in args]
    before = pg.tape_stats()
    with pytest.raises(theirs.type) as ours:
        getattr(pg.Value, name)(values[0], *(args[1:] if ops(pg)[name] else values[1:]))
    assert type(ours.value) is theirs.type
    assert all(repr(a) in str(ours.value) for a in args)
    assert pg.tape_stats()[:2] == before[:2]


@pytest.mark.parametrize(
    ("name", "args", "python"),
    [
        ("exp", (math.inf,), math.exp),
        ("exp", (-math.inf,), math.exp),
        ("exp", (-1000.0,), math.exp),
        ("log", (math.inf,), math.log),
        ("log", (math.nan,), math.log),
        ("sqrt", (math.inf,), math.sqrt),
        ("sqrt", (-0.0,), math.sqrt),
        ("sin", (math.nan,), math.sin),
        ("asin", (math.nan,), math.asin),
        ("tanh", (math.inf,), math.tanh),
        ("atan", (-math.inf,), math.atan),
        ("erf", (math.inf,), math.erf),
        ("sinh", (math.inf,), math.sinh),
        ("atan2", (0.0, -0.0), math.atan2),
        ("hypot", (math.inf, math.nan), math.hypot),
        ("pow", (0.0, 0.0), math.pow),
        ("pow", (math.nan, 0.0), math.pow),
        ("pow", (1.0, math.inf), math.pow),
        ("powc", (math.inf, -1.0), math.pow),
        ("mul", (1e308, 10.0), lambda a, b: a * b),
        ("add", (math.inf, -math.inf), lambda a, b: a + b),
        ("div", (1e308, 1e-308), lambda a, b: a / b),
        ("max", (math.nan, 1.0), lambda a, b: math.nan),
        ("min", (1.0, math.nan), lambda a, b: math.nan),
        ("log10", (math.inf,), math.log10),
        ("asinh", (-math.inf,), math.asinh),
        ("acosh", (math.nan,), math.acosh),
        ("mod", (math.inf, 2.0), lambda a, b: a % b),
        ("mod", (-5.0, math.inf), lambda a, b: a % b),
        ("mod", (5.0, math.nan), lambda a, b: a % b),
        ("floor", (-math.inf,), lambda a: a),
        ("floor", (math.nan,), lambda a: a),
    ],
)
def test_infinities_and_nans_pass_as_in_python(pg, name, args, python):
    _, result = call(pg, name, args)
    assert close(result.data, python(*args), 0.0)


def test_a_zero_grad_times_an_infinite_partial_is_nan(Value):
    x = Value(0.0)
    (x.sqrt() * 0.0).backward()
    assert math.isnan(x.grad)


def test_detach_stops_the_gradient_and_keeps_nothing_below(pg):
    x = pg.Value(2.0)
    y = (x * x).detach()
    assert (y.data, y._prev, y._op) == (4.0, set(), "detach")
    (x * y).backward()
    assert (x.grad, y.grad) == (4.0, 2.0)


def test_methods_take_numbers_on_the_right(Value):
    x = Value(3.0)
    assert (x.max(5).data, x.min(5).data, x.atan2(1).data, x.hypot(4.0).data) == (5.0, 3.0, math.atan2(3, 1), 5.0)
    assert (Value(-2.0).leaky_relu().data, Value(-2.0).leaky_relu(0.5).data) == (-0.02, -1.0)


def test_modulo_is_pythons_for_values_and_numbers_on_both_sides(pg):
    pairs = [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (-7.5, -2.0), (6.0, -3.0), (-0.0, 3.0), (1.0, 0.1), (-1e-20, 1.0)]
    for a, b in pairs:
        x, y = pg.Value(a), pg.Value(b)
        for result in (x % y, x % b, a % y, x.mod(y), x.mod(b), pg.math.mod(a, b)):
            assert type(result) is pg.Value and result._op == "%"
            assert (result.data, math.copysign(1, result.data)) == (a % b, math.copysign(1, a % b))
    x, y = pg.Value(7.5), pg.Value(-2.0)
    (x % y + 5 % y + x % 2).backward()
    assert (x.grad, y.grad) == (2.0, 4.0 + 3.0)
    with pytest.raises(ZeroDivisionError, match=r"7.5 % 0.0"):
        x % 0
    with pytest.raises(TypeError, match="'a'"):
        x % "a"


def test_the_new_functions_are_in_math_and_take_arrays(pg):
    np = pytest.importorskip("numpy")
    for name in ["log10", "log2", "asinh", "acosh", "atanh", "erfc", "floor", "silu", "gelu", "elu"]:
        x = 1.25 if name == "acosh" else 0.25
        expected = getattr(pg.Value(x), name)().data
        assert getattr(pg.math, name)(x).data == expected
        assert [v.data for v in getattr(pg.math, name)(np.array([x, pg.Value(x)]))] == [expected, expected]
    assert pg.math.elu(-1.0, 0.5).data == pg.Value(-1.0).elu(0.5).data == 0.5 * math.expm1(-1.0)


def test_a_second_derivative_beyond_a_kink_is_no_nan(pg):
    """Where exp of the side that is not taken overflows."""
    for name, x in [("elu", 800.0), ("silu", 800.0), ("silu", -800.0), ("gelu", 60.0), ("gelu", -60.0)]:
        function = getattr(pg.math, name)
        assert pg.grad(function)(x) == (1.0 if x > 0 else 0.0)
        assert pg.grad(pg.grad(function))(x) == 0.0


ROWS_WITH_WORDS = """\
X(HAV, "hav", "hav", UNARY, 0.5 - 0.5 * cos(a), EITHER_(0.5 * sin(a), MUL_(HALF, OF_(SIN, a))), ZERO, PGR_ALWAYS, \\
  "", "Haversine.") \\
X(BELL, "bell", "bell", UNARY, exp(-a * a), MUL_(BELL_DA_(a, v), ONE), ZERO, PGR_ALWAYS, "", "exp(-a**2).")

#endif
"""
WORD = """
#define BELL_DA_(a, v) WORD_(-2.0 * (a) * (v), bell_da(e, a, v), TEXT_("minus {} of the bell at {}", ADD_(a, a), a))
#ifdef WORDS_NODES
static pgr_id bell_da(recorder *e, pgr_id a, pgr_id v)
{
    const pgr_id slope = MUL_(ADD_(a, a), v);
    return NEG_(slope);
}
#endif
"""
USE = """
#include "check.h"
int main(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const char *const names[] = {"cube", "dist", "hav", "bell"};
    for (int i = 0; i < 4; i++) {
        const pgr_id x = leaf(tape, 2.0), z = i == 1 ? leaf(tape, 5.0) : 0;
        const pgr_id y = record(tape, names[i], x, z), seed = leaf(tape, 1.0);
        pgr_id slope = 0;
        CHECK_EQ(pgr_backward(tape, y), PGR_OK);
        CHECK_EQ(pgr_vjp(tape, UINT32_MAX, 1, &y, &seed, 1, &x, &slope, NULL), PGR_OK);
        printf("%.17g %.17g %.17g ", pgr_data(tape, y), pgr_grad(tape, x), pgr_data(tape, slope));
    }
    printf("\\n%s", pgr_op_row(op_named("bell"))->da);
    pgr_tape_free(tape);
    return check_failures != 0;
}
"""


def test_an_operation_is_added_by_its_row_and_a_word_of_derivatives_in_one_file(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        pytest.skip("no C compiler")
    root = Path(__file__).parent.parent
    shutil.copytree(root / "csrc", tmp_path / "csrc")
    table = tmp_path / "csrc" / "ops" / "pgr_ops.h"
    rows, end, _ = table.read_text(encoding="utf-8").rpartition("\n\n#endif\n")
    assert end
    advice = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    added = re.search(r"^```c\n(X\(.*?)^```$", advice, re.MULTILINE | re.DOTALL)[1]
    table.write_text(f"{rows} \\\n{added.rstrip()}\n{ROWS_WITH_WORDS}", encoding="utf-8")
    with (tmp_path / "csrc" / "ops" / "words.h").open("a", encoding="utf-8") as words:
        words.write(WORD)
    (tmp_path / "use.c").write_text(USE)
    sources = [str(path) for path in (tmp_path / "csrc").rglob("*.c") if path.parent.name not in ("python", "wasm")]
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-O0"]
    command += ["-I", str(tmp_path / "csrc"), "-I", str(root / "tests" / "c"), "-o", str(tmp_path / "use")]
    libraries = ["-lm", "-lpthread", *(["-ldl"] if sys.platform == "linux" else [])]
    if subprocess.run([*command, str(tmp_path / "use.c"), *sources, *libraries]).returncode:
        pytest.fail("the library does not compile with the row")
    first, text = subprocess.check_output([tmp_path / "use"], text=True).split("\n", 1)
    numbers = [float(x) for x in first.split()]
    slopes = [12.0, math.sin(2.0) / 2]
    hav = 0.5 - math.cos(2.0) / 2
    bell = [math.exp(-4.0), *[-4.0 * math.exp(-4.0)] * 2]
    assert numbers == pytest.approx([8.0, *[slopes[0]] * 2, 3.0, -1.0, -1.0, hav, *[slopes[1]] * 2, *bell])
    chain_rule = importlib.import_module("pygrad._views.chain_rule")
    pieces = {name: chain_rule._Piece(f"{name}1") for name in "abv"}
    shown = chain_rule._read(iter(chain_rule._tokens(text)), pieces).text
    assert shown == "(minus a1 + a1 of the bell at a1) · 1"


def test_methods_have_docstrings_and_signatures(Value):
    assert Value.tanh.__doc__ == "Hyperbolic tangent."
    taken = {"tanh": ["self"], "mul": ["self", "other"], "leaky_relu": ["self", "param"], "detach": ["self"]}
    assert {name: [*inspect.signature(getattr(Value, name)).parameters] for name in taken} == taken


def test_methods_refuse_what_is_no_number(Value):
    with pytest.raises(TypeError, match=r"max: 'a' is of type str; use a Value or a real number"):
        Value(1.0).max("a")
    with pytest.raises(TypeError, match="leaky_relu"):
        Value(1.0).leaky_relu(Value(0.1))
    with pytest.raises(TypeError):
        Value(1.0).powc()
