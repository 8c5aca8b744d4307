"""What counts as a number, and that a Value doesn't: one table for every function that takes numbers."""

from __future__ import annotations

import cmath
import contextlib
import decimal
import fractions
import math
import statistics
import sys
import types

import pytest

np = pytest.importorskip("numpy")


# ---- A Value is no float: its number would silently leave the graph --------------------------------


LEAVES = {
    "float": lambda v: float(v),
    "int": lambda v: int(v),
    "round": lambda v: round(v),
    "round to digits": lambda v: round(v, 2),
    "complex": lambda v: complex(v),
    "math.tanh": lambda v: math.tanh(v),
    "math.hypot": lambda v: math.hypot(v, 1.0),
    "math.floor": lambda v: math.floor(v),
    "math.fsum": lambda v: math.fsum([v, v]),
    "cmath.exp": lambda v: cmath.exp(v),
    "fmean": lambda v: statistics.fmean([v, v]),
    "%f": lambda v: "%.2f" % v,  # noqa: UP031
    "array": lambda v: np.array([v], dtype=float),
    "asarray": lambda v: np.asarray(v, float),
    "astype": lambda v: np.array([v]).astype(float),
    "fill": lambda v: np.zeros(2).fill(v),
    "setitem": lambda v: np.zeros(2).__setitem__(0, v),
    "float64": lambda v: np.float64(v),
    "float32": lambda v: np.float32(v),
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES.keys())
def test_what_would_leave_the_graph_raises_and_names_the_way_out(pg, leave):
    v = pg.Value(0.5)
    before = pg.tape_stats()[:2]
    with pytest.raises(TypeError, match=r"v\.data.*f'{v:.4f}'.*pygrad\.math\.tanh\(v\)"):
        leave(v)
    assert pg.tape_stats()[:2] == before


@pytest.mark.parametrize("leave", [lambda v: statistics.mean([v, v]), math.trunc, lambda v: np.isnan(v), range])
def test_what_python_refuses_by_itself_stays_refused(Value, leave):
    with pytest.raises(TypeError):
        leave(Value(0.5))


def test_a_value_as_data_or_grad_would_leave_the_graph(pg):
    v, x = pg.Value(0.5), pg.Value(2.0)
    before = pg.tape_stats()[:2]
    for put in (
        lambda: pg.Value(v),
        lambda: pg.Value(data=v, label="w"),
        lambda: setattr(x, "data", v),
        lambda: setattr(x, "grad", v),
        lambda: x.leaky_relu(v),
    ):
        with pytest.raises(TypeError, match=r"Value.*\.data"):
            put()
    assert pg.tape_stats()[:2] == before and (x.data, x.grad) == (2.0, 0.0)


def test_truth_format_sums_and_object_arrays_stay(Value):
    v = Value(0.25)
    assert bool(v) and bool(Value(0.0)) and f"{v:.1f} {v:8.3f}" == "0.2    0.250" and f"{v}" == repr(v)
    total = sum([v, v]) + np.array([v, v]).sum() + np.mean([v, v])
    total.backward()
    assert (total.data, v.grad) == (1.25, 5.0)


def test_while_recording_the_message_is_the_recordings(pg):
    for leave in (float, int, round, complex, math.tanh, lambda v: np.array([v], dtype=float), np.float64):
        with pytest.raises(pg.RecordingError, match="while its function is recorded"):
            pg.jit(leave)(0.5)
    for put in (lambda x: pg.Value(x), lambda x: setattr(pg.Value(1.0), "data", x)):
        with pytest.raises(pg.RecordingError, match="while its function is recorded"):
            pg.jit(put)(0.5)


def nested(v):
    array = np.array([1.0, v, 2.0], dtype=object)
    flat = {"scalar": v, "list": [1.0, v], "tuple": (1.0, (v,)), "dict": {"w": [v]}, "array": array}
    return {**flat, "deep": [{"w": array}]}


@pytest.mark.parametrize("kind", ["scalar", "list", "tuple", "dict", "array", "deep"])
def test_eager_values_are_no_arguments_of_recorded_functions(pg, kind):
    def f(a, b):
        return a * sum(x * 1.0 for x in pg.tree_leaves(b))

    given = nested(pg.Value(2.0))[kind]
    point = nested(2.0)[kind]
    functions = {
        "jit": (pg.jit(f), (1.0, given)),
        "grad": (pg.grad(f), (1.0, given)),
        "value_and_grad": (pg.value_and_grad(f, argnums=1), (1.0, given)),
        "jacobian": (pg.jacobian(f), (1.0, given)),
        "hessian": (pg.hessian(f), (1.0, given)),
        "eager": (pg.jit(f, record=False), (1.0, given)),
        "eager grad": (pg.grad(f, record=False), (1.0, given)),
        "program": (pg.jit(f).program(1.0, point), (1.0, given)),
        "jvp": (lambda *a: pg.jvp(f, a, (1.0, point)), (1.0, given)),
        "vjp": (lambda *a: pg.vjp(f, *a), (1.0, given)),
        "pullback": (pg.vjp(lambda x: f(x, point) * np.ones(2), 1.0)[1], (np.array([1.0, pg.Value(1.0)]),)),
    }
    functions["jit"][0](1.0, point)  # jit has a program, the others have none
    pg.collect()
    handles = pg.tape_stats().handles
    for name, (function, args) in functions.items():
        with pytest.raises(TypeError, match=r"argument.*eager Value.*v\.data.*pygrad\.grad") as caught:
            function(*args)
        assert "argument 1" in str(caught.value) or name in ("jvp", "vjp", "pullback", "program"), name
    pg.collect()
    assert pg.tape_stats().handles <= handles
    # Within a differentiated function gradients flow.
    assert pg.grad(lambda x: pg.jit(f)(1.0, nested(x)[kind]))(2.0) == 1.0
    assert pg.grad(lambda x: pg.jit(f)(1.0, nested(x)[kind]), record=False)(2.0) == 1.0


def test_the_argument_is_named(pg):
    f = pg.jit(lambda params, x: x)
    with pytest.raises(TypeError, match=r"argument 0\['w'\]\[1\] of jit\(<lambda>\)"):
        f({"w": [1.0, pg.Value(2.0)]}, 1.0)
    with pytest.raises(TypeError, match=r"argument 1 of jit\(<lambda>\) holds an eager Value at \[1, 0\]"):
        f(1.0, np.array([[1.0], [pg.Value(2.0)]]))


def test_captured_values_are_still_read_at_every_call(pg):
    w = pg.Value(2.0)
    f = pg.jit(lambda x: x * w)
    assert f(3.0) == 6.0
    w.data = 5.0
    assert f(3.0) == 15.0


# ---- The table of numbers, and of functions that take one ---------------------------------------------


class Float:
    def __float__(self):
        return 2.0


class Index:
    def __index__(self):
        return 2


class Loud(float):
    def __float__(self):
        raise AssertionError("a float is asked for nothing")


class Array(np.ndarray):
    """A subclass, whose operators may mean anything."""


def masked(*numbers):
    return np.ma.array(numbers, mask=[True, *[False] * (len(numbers) - 1)])


# Each stands for 2.0.
NUMBERS = {
    **{f"np.{name}": getattr(np, name)(2) for name in ("int8", "int16", "int32", "int64", "uint8", "uint64",
    "float16")},
    "np.float32": np.float32(2), "np.float64": np.float64(2), "np.longdouble": np.longdouble(2),
    "int": 2, "float": 2.0, "float subclass": Loud(2.0), "Fraction": fractions.Fraction(2),
    "Decimal": decimal.Decimal(2),
    "__float__": Float(), "__index__": Index(), "0-d": np.array(2.0), "0-d int": np.array(2),
    "0-d object": np.array(2, dtype=object),
    "0-d masked, unmasked": np.ma.array(2.0), "0-d float32": np.array(2, dtype=np.float32),
}  # fmt: skip
NO_NUMBERS = {
    "complex": 2 + 0j, "np.complex64": np.complex64(2), "np.complex128": np.complex128(2 + 1j),
    "np.clongdouble": np.clongdouble(2),
    "str": "2", "bytes": b"2", "bytearray": bytearray(b"2"), "np.str_": np.str_("2"), "np.bytes_": np.bytes_(b"2"),
    "np.datetime64": np.datetime64("2020-01-01"), "np.datetime64 ns": np.datetime64(2, "ns"),
    "np.timedelta64": np.timedelta64(2, "s"),
    "np.timedelta64 ns": np.timedelta64(2, "ns"), "np.timedelta64 bare": np.timedelta64(2),
    "np.void": np.void(b"12345678"),
    "record": np.array([(2.0,)], dtype=[("a", "f8")])[0], "masked": np.ma.masked,
    "0-d masked": np.ma.array(2.0, mask=True),
    "0-d complex": np.array(2j), "0-d str": np.array("2"), "0-d timedelta": np.array(2, dtype="m8[ns]"),
    "0-d object str": np.array("2", dtype=object), "None": None, "object": object(), "set": {2.0},
}  # fmt: skip


def loaded(pg, x):
    model = sys.modules["pygrad.nn"].Neuron(1)
    model.load_state_dict({"w": [x], "b": x})
    return model.b.data


def stepped(pg, x):
    p = pg.Value(5.0)
    sys.modules["pygrad.optim"].SGD([p], lr=x)
    return 2.0


def assigned(v, name, x):
    setattr(v, name, x)
    return getattr(v, name)


def derived(pg, x):
    v = pg.Value(1.0)
    pg.custom_op(lambda a: a, lambda g, y, a: x)(v).backward()
    return v.grad


# Each gives 2.0 for a 2.
TAKERS = {
    "Value": lambda pg, x: pg.Value(x).data,
    "Value by name": lambda pg, x: pg.Value(data=x, label="x").data,
    "data": lambda pg, x: assigned(pg.Value(1.0), "data", x),
    "grad": lambda pg, x: assigned(pg.Value(1.0), "grad", x),
    "+": lambda pg, x: (pg.Value(0.0) + x).data,
    "reflected +": lambda pg, x: (x + pg.Value(0.0)).data,
    "reflected -": lambda pg, x: (x - pg.Value(0.0)).data,
    "*": lambda pg, x: (pg.Value(1.0) * x).data,
    "reflected *": lambda pg, x: (x * pg.Value(1.0)).data,
    "reflected /": lambda pg, x: (x / pg.Value(1.0)).data,
    "**": lambda pg, x: (pg.Value(2.0) ** x).data / 2,
    "<": lambda pg, x: 2.0 if pg.Value(1.0) < x else 0.0,
    "max": lambda pg, x: pg.Value(1.0).max(x).data,
    "leaky_relu": lambda pg, x: -pg.Value(-1.0).leaky_relu(x).data,
    "dot": lambda pg, x: pg.dot([pg.Value(1.0)], [x]).data,
    "dot's weights": lambda pg, x: pg.dot([x], [pg.Value(1.0)]).data,
    "dot's bias": lambda pg, x: pg.dot([pg.Value(0.0)], [1.0], x).data,
    "jit": lambda pg, x: pg.jit(lambda a: a * 1.0)(x),
    "jit, recorded before": lambda pg, x: [f := pg.jit(lambda a: a * 1.0), f(1.0), f(x)][-1],
    "jit, nested": lambda pg, x: pg.jit(lambda t: t["a"][0])({"a": [x, (1.0,)]}),
    "jit's result": lambda pg, x: pg.jit(lambda a: (a, x))(1.0)[1],
    "jit's constant": lambda pg, x: pg.jit(lambda a: a * x)(1.0),
    "program": lambda pg, x: pg.jit(lambda a: a * 1.0).program(1.0)(x),
    "grad's argument": lambda pg, x: pg.grad(lambda a: a * a / 2)(x),
    "jvp": lambda pg, x: pg.jvp(lambda a: a * 1.0, (1.0,), (x,))[1],
    "vjp": lambda pg, x: pg.vjp(lambda a: a * 1.0, 1.0)[1](x)[0],
    "vmap's other argument": lambda pg, x: float(pg.vmap(lambda a, b: a * b, in_axes=(0, None))(np.ones(2), x)[0]),
    "eager result": lambda pg, x: pg.jit(lambda a: x, record=False)(1.0),
    "eager grad": lambda pg, x: pg.grad(lambda a: a * a / 2, record=False)(x),
    "lr": stepped,
    "state": loaded,
    "custom operation": lambda pg, x: pg.custom_op(lambda a: a, lambda g, y, a: g)(x).data,
    "its value": lambda pg, x: pg.custom_op(lambda a: x, lambda g, y, a: g)(1.0).data,
    "its adjoint": derived,
    "gradcheck": lambda pg, x: 2.0 * pg.gradcheck(lambda a: a * a, (x,)),
    "where": lambda pg, x: (pg.where(True, x, 0.0) * pg.Value(1.0)).data,
}  # fmt: skip


TREES = {"jit, nested", "jit's result", "program", "jvp", "vjp", "eager result", "gradcheck"}


@pytest.mark.parametrize("taker", TAKERS, ids=TAKERS.keys())
def test_real_numbers_are_taken_and_nothing_else(pg, taker):
    take, wrong = TAKERS[taker], []
    for name, x in NUMBERS.items():
        if name == "0-d masked, unmasked" and (taker.startswith("reflected") or taker == "where"):
            continue  # numpy.ma comes first, and does not know what a Value is
        result = take(pg, x)
        if result != 2.0 or (type(result) is not float and taker != "eager result"):
            wrong.append((name, result))
    refusals = (TypeError, ValueError) if taker == "state" else TypeError
    for name, x in NO_NUMBERS.items():
        if "0-d" in name and taker.startswith("reflected"):
            continue  # NumPy comes first
        if x is None and taker in TREES:
            continue  # a tree without numbers
        if name == "None" and taker in ("its adjoint", "grad"):
            continue  # None: no argument
        if "masked" in name and (taker.startswith("reflected") or taker == "where"):
            refusals = (TypeError, AttributeError)  # numpy.ma's own
        with contextlib.suppress(refusals):
            wrong.append((name, take(pg, x)))
    assert not wrong


def test_numbers_too_large_for_a_float64_overflow(pg):
    for x in (10**400, fractions.Fraction(10**400), decimal.Decimal("1e400"), np.longdouble(10) ** 400):
        for taker in ("Value", "data", "+", "reflected *", "dot", "jit", "jit's constant", "grad's argument"):
            with pytest.raises(OverflowError, match="too large"):
                TAKERS[taker](pg, x)
    for infinite in (math.inf, decimal.Decimal("-Infinity"), np.longdouble(math.inf), np.float16(math.inf)):
        assert math.isinf(pg.Value(infinite).data) and math.isinf(pg.jit(lambda x: x)(infinite))


# Each is [2.0, 3.0]; sums are 5.
ARRAYS = {
    **{kind: np.array([2, 3], dtype=kind) for kind in ("i1", "i2", "i4", "i8", "u1", "u8", "f2", "f4", "f8", "g",
    ">f8", "O")},
    "reversed": np.array([3.0, 2.0])[::-1], "strided": np.array([2.0, 9.0, 3.0])[::2],
    "objects": np.array([fractions.Fraction(2), np.float32(3)], dtype=object),
    "unmasked": np.ma.array([2.0, 3.0]), "read-only": np.frombuffer(np.array([2.0, 3.0]).tobytes()),
}  # fmt: skip
NO_ARRAYS = {
    "c8": np.array([2, 3], dtype="c8"), "c16": np.array([2, 3j]), "S": np.array([b"2", b"3"]), "U": np.array(["2",
    "3"]),
    "M8": np.array([2, 3], dtype="M8[D]"), "m8": np.array([2, 3], dtype="m8[ns]"), "V": np.zeros(2, dtype="V8"),
    "records": np.array([(2.0,), (3.0,)], dtype=[("a", "f8")]),
    "recarray": np.rec.array([(2.0,), (3.0,)], dtype=[("a", "f8")]),
    "object str": np.array(["2", 3.0], dtype=object), "object complex": np.array([2j, 3.0], dtype=object),
    "object None": np.array([None, 3.0], dtype=object), "object arrays": np.array([np.ones(2), 3.0], dtype=object),
    "masked": masked(2.0, 3.0), "masked int": masked(2, 3), "subclass": np.array([2.0, 3.0]).view(Array),
    "matrix": np.ones((1, 2)).view(np.matrix), "list of masked": [np.ma.masked, 3.0], "text in a list": ["2", 3.0],
    "complex in a list": [2j, 3.0],
}  # fmt: skip


def regression(pg, name, x):
    """A model fitted to one column, x, and its prediction for it."""
    nn = sys.modules["pygrad.nn"]
    model = nn.MLP(1, [1])
    column = [[y] for y in x] if isinstance(x, list) else x.reshape(-1, 1)
    if name == "fit's X":
        pg.fit(model, column, [0.0, 0.0], epochs=1)
    elif name == "fit's y":
        pg.fit(model, [[0.0], [0.0]], x, epochs=1)
    else:
        assert len(model.predict(column)) == 2
    return 5.0


def optimised(x):
    p = np.zeros(2)
    sys.modules["pygrad.optim"].SGD(p, lr=1.0).step(x)
    return -p.sum()


# Each gives the sum of an array of two, or of a list.
ARRAY_TAKERS = {
    "jit": lambda pg, x: pg.jit(lambda a: a[0] + a[1])(x),
    "jit, array out": lambda pg, x: pg.jit(lambda a: a)(x)[0] + 3.0,
    "jit, recorded before": lambda pg, x: [f := pg.jit(lambda a: a[0] + a[1]), f(np.ones(2)), f(x)][-1],
    "program": lambda pg, x: pg.jit(lambda a: a[0] + a[1]).program(np.ones(2))(x),
    "jit's result": lambda pg, x: sum(pg.jit(lambda a: x)(1.0)),
    "jit's constant": lambda pg, x: sum(pg.jit(lambda a: [a * y for y in x])(1.0)),
    "grad": lambda pg, x: sum(pg.grad(lambda a: a[0] * a[0] / 2 + a[1] * a[1] / 2)(x)),
    "eager grad": lambda pg, x: sum(pg.grad(lambda a: a[0] * a[0] / 2 + a[1] * a[1] / 2, record=False)(x)),
    "eager result": lambda pg, x: sum(pg.jit(lambda a: x, record=False)(1.0)),
    "hvp": lambda pg, x: sum(pg.hvp(lambda a: a[0] * a[0] / 2 + a[1] * a[1] / 2)(np.ones(2), x)),
    "vmap": lambda pg, x: pg.vmap(lambda a: a * 1.0, reduce="sum")(x),
    "vmap's array from outside": lambda pg, x: pg.jit(lambda b: pg.vmap(lambda a: a * b, reduce="sum")(x))(1.0),
    "fit's X": lambda pg, x: regression(pg, "fit's X", x),
    "fit's y": lambda pg, x: regression(pg, "fit's y", x),
    "predict": lambda pg, x: regression(pg, "predict", x),
    "step's grads": lambda _pg, x: optimised(x),
}  # fmt: skip


LISTS = {name for name in NO_ARRAYS if "list" in name} | {"object arrays"}
NOT_FOR = {"jit's constant": {"object arrays", "subclass"}, "vmap": LISTS, "vmap's array from outside": LISTS}


@pytest.mark.parametrize("taker", ARRAY_TAKERS, ids=ARRAY_TAKERS.keys())
def test_arrays_of_real_numbers_are_taken_and_no_others(pg, taker):
    take, wrong = ARRAY_TAKERS[taker], []
    for name, x in ARRAYS.items():
        result = take(pg, x)
        if result != 5.0:
            wrong.append((name, result))
    for name, x in NO_ARRAYS.items():
        if name in NOT_FOR.get(taker, ()):
            continue  # takes lists of numbers, but does not map over lists
        # grads of another structure than the parameters'; nan, which numpy.ma makes of what is masked
        refusals = (TypeError, ValueError) if "list" in name or name in ("matrix", "object arrays") else TypeError
        with contextlib.suppress(refusals):
            wrong.append((name, take(pg, x)))
    assert not wrong


def test_the_message_names_the_way_out(pg):
    for make, says in (
        (lambda: pg.Value(np.complex64(1 + 2j)), "complex64.*x.real"),
        (lambda: pg.jit(lambda x: x)(np.str_("2")), "str_.*float"),
        (lambda: pg.jit(lambda x: x)(np.array(["2"])), "<U1.*astype"),
        (lambda: pg.jit(lambda x: x)(masked(2.0)), "masked.*filled"),
        (lambda: pg.Value(np.ma.masked), "Masked.*filled"),
        (lambda: pg.Value(1.0) * np.timedelta64(2, "ns"), "timedelta64.*unit"),
        (lambda: pg.jit(lambda x: x)(np.ones((1, 1)).view(np.matrix)), r"matrix.*np\.asarray"),
        (lambda: pg.jit(lambda x: x)(types.SimpleNamespace(to_numpy=None)), r"namespace.*x\.to_numpy\(\)"),
        (lambda: sys.modules["pygrad.nn"].MLP(1, [1]).predict(masked(2.0).reshape(1, 1)), "X: a masked array.*filled"),
    ):
        with pytest.raises(TypeError, match=says):
            make()
