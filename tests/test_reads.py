"""Variables that recorded functions read from outside: bound to something else, they are recorded anew."""

from __future__ import annotations

import argparse
import functools
import math
import threading
import types

import pytest

np = pytest.importorskip("numpy")

rate = 2.0
outside = None


def scaled(x):
    return x * rate


def test_globals_and_functions_that_read_them(pg, monkeypatch):
    recorded = pg.jit(scaled)
    functions = {
        "jit": (recorded, lambda k: 3.0 * k),
        "grad": (pg.grad(lambda x: scaled(x) * x), lambda k: 6.0 * k),
        "inner": (pg.grad(lambda x: recorded(x)), lambda k: k),
        "hessian": (pg.hessian(lambda x: scaled(x) ** 2), lambda k: 2 * k * k),
    }
    lanes = pg.vmap(scaled)
    for number in (2.0, 5.0, -1.0, 5.0):
        monkeypatch.setitem(globals(), "rate", number)
        for name, (f, expected) in functions.items():
            assert f(3.0) == pytest.approx(expected(number), rel=1e-15), name
            assert f(3.0) == f.program(3.0)(3.0), name
        assert lanes(np.array([1.0, 2.0])).tolist() == [number, 2 * number]
        assert pg.jvp(functions["jit"][0], (3.0,), (1.0,)) == (3.0 * number, number)
        value, pullback = pg.vjp(functions["jit"][0], 3.0)
        assert (value, pullback(1.0)) == (3.0 * number, (number,))


def test_a_pullback_stays_as_it_was(pg, monkeypatch):
    for f in (pg.jit(scaled), scaled):
        pulls = []
        for number in (2.0, 5.0):
            monkeypatch.setitem(globals(), "rate", number)
            pulls.append((pg.vjp(f, 3.0)[1], pg.linearize(f, 3.0)[1]))
        for _ in range(2):
            assert [(pull(1.0)[0], push(1.0)) for pull, push in pulls] == [(2.0, 2.0), (5.0, 5.0)]


def test_a_helper_that_is_defined_again(pg, monkeypatch):
    f = pg.jit(lambda x: scaled(x))
    assert f(3.0) == 6.0
    monkeypatch.setitem(globals(), "scaled", lambda x: x**3)
    assert f(3.0) == 27.0


def test_closures(pg):
    data, k = np.array([1.0, 2.0]), 1.0

    def loss(w, *, times=1.0):
        return ((data - w) ** 2).sum() * k * times

    slope = pg.grad(loss)
    assert slope(0.0) == -6.0 and slope(0.0, times=2.0) == -12.0
    k = 3.0
    assert slope(0.0) == -18.0 and slope(0.0, times=2.0) == -36.0
    data = np.array([5.0])
    assert slope(0.0) == -30.0
    product = pg.jit(lambda x: x * k)
    for k in (-0.0, 0.0, -0.0):
        assert str(product(1.0)) == str(k)


def test_a_value_that_is_bound_anew(pg):
    w = pg.Value(2.0)
    f = pg.jit(lambda x: x * w)
    assert f(3.0) == 6.0
    w.data = 4.0
    assert f(3.0) == 12.0
    w = pg.Value(5.0)
    assert f(3.0) == 15.0


def test_functions_of_libraries_methods_classes_and_modules_that_are_bound_anew(pg, monkeypatch):
    low, high, other = pg.Value(0.25), pg.Value(0.75), types.ModuleType("other")
    other.pi = 3.0
    groups = [
        (lambda x: outside(x), [pg.math.tanh, pg.math.exp, pg.Value.tanh, pg.Value.sin, low.min, high.min, low.max]),
        (lambda x: x * outside(0.5), [math.sin, math.exp, {0.5: 2.0}.get, {0.5: 3.0}.get, int, float]),
        (lambda x: x * outside([1.0, 2.0]), [max, min, sum, len]),
        (lambda x: x * outside.pi, [math, other]),
    ]
    for f, things in groups:
        closure, holder = None, types.SimpleNamespace()
        ways = {
            "global": f,
            "closure": lambda x, f=f: types.FunctionType(f.__code__, {"outside": closure})(x),
            "attribute": lambda x, f=f: types.FunctionType(f.__code__, {"outside": holder.it})(x),
        }
        recorded = {name: pg.jit(way) for name, way in ways.items()}
        for thing in (*things, things[0]):
            monkeypatch.setitem(globals(), "outside", thing)
            closure = holder.it = thing
            for name, way in ways.items():
                assert recorded[name](0.5) == pg.jit(way)(0.5), (name, thing)


class Inner:
    q = 1.0


class Plain:
    shared = 1.0

    def __init__(self):
        self.k, self.inner = 1.0, Inner()

    def __call__(self, x):
        return x * self.k

    def method(self, x):
        return x * self.k

    @property
    def twice(self):
        return 2.0 * self.k

    @staticmethod
    def plain(x):
        return x * Plain.shared


class Slotted:
    __slots__ = ("k",)


@pytest.fixture
def names(monkeypatch):
    """Ways to read a number: (function, how to set the number, its factor)."""
    module = types.ModuleType("reads_of_users")
    exec("rate = 1.0\ndef scale(x): return x * rate", module.__dict__)
    # Several of a kind: each is an object of its own.
    a, b, c, d, e, f, g, h, i = (Plain() for _ in range(9))
    shared = types.SimpleNamespace(k=1.0)
    slotted = Slotted()
    slotted.k = 1.0
    monkeypatch.setattr(Plain, "shared", 1.0)
    monkeypatch.setattr(Inner, "q", 1.0)
    return {
        "a module": (lambda x: x * module.rate, lambda v: setattr(module, "rate", v)),
        "a module's function": (lambda x: module.scale(x), lambda v: setattr(module, "rate", v)),
        "an object": (lambda x: x * a.k, lambda v: setattr(a, "k", v)),
        "an object called": (b, lambda v: setattr(b, "k", v)),
        "a method": (lambda x: c.method(x), lambda v: setattr(c, "k", v)),
        "a bound method": (d.method, lambda v: setattr(d, "k", v)),
        "a property": (lambda x: x * e.twice / 2.0, lambda v: setattr(e, "k", v)),
        "an object within": (lambda x: x * f.inner.q, lambda v: setattr(f.inner, "q", v)),
        "an object in its place": (lambda x: x * g.inner.q, lambda v: setattr(g, "inner", types.SimpleNamespace(q=v))),
        "a namespace": (lambda x: x * shared.k, lambda v: setattr(shared, "k", v)),
        "slots": (lambda x: x * slotted.k, lambda v: setattr(slotted, "k", v)),
        "a class": (lambda x: x * Plain.shared, lambda v: setattr(Plain, "shared", v)),
        "a static method": (lambda x: Plain.plain(x), lambda v: setattr(Plain, "shared", v)),
        "partial": (functools.partial(lambda a, x: x * a.k, h), lambda v: setattr(h, "k", v)),
        "a default": (lambda x, i=i: x * i.k, lambda v: setattr(i, "k", v)),
    }


def test_attributes_that_the_code_names(pg, names):
    for transform in (pg.jit, pg.grad, pg.value_and_grad, pg.hessian, lambda f: pg.jit(pg.grad(f))):
        for name, (f, put) in names.items():
            put(1.0)
            recorded, expected = transform(f), {}
            for number in (1.0, 7.0, -2.0, 1.0):
                put(number)
                expected = transform(f)(3.0)
                assert recorded(3.0) == expected, (name, number)
    x = np.array([1.0, 2.0])
    for name, (f, put) in names.items():
        lanes = pg.vmap(f)
        for number in (1.0, 7.0):
            put(number)
            assert lanes(x).tolist() == [number, 2.0 * number], name


def test_two_threads_see_what_is_bound_now(pg, names):
    def run(name):
        f, put = names[name]
        recorded = pg.jit(f)
        for k in range(200):
            put(float(k))
            if recorded(2.0) != 2.0 * k:
                wrong.append((name, k))

    wrong: list[object] = []
    threads = [threading.Thread(target=run, args=(name,)) for name in ("an object", "a method", "slots", "a property")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_recorded_again_while_nothing_changes(pg):
    calls, k = 0, 1.5

    def f(x):
        nonlocal calls
        calls += 1
        return x * k

    g = pg.jit(f)
    g(1.0)
    before = calls
    for i in range(5):
        k = float("1.5")  # an equal number, another object
        assert g(float(i)) == 1.5 * i
    assert calls == before
    g(np.ones(2))
    assert calls > before and len(g.programs) == 2


def test_a_function_that_reads_nothing_pays_nothing(pg):
    reader, other = pg.jit(lambda x, y: scaled(x) * y), pg.jit(lambda x, y: x.tanh() * y)
    assert reader(1.0, 2.0) == 4.0 and other(0.0, 2.0) == 0.0
    assert other._reads.bindings == () and len(reader._reads.bindings) > 3
    assert (reader._plan is None) == (other._plan is None) == (pg._core.layer.OPERANDS == "cffi")


def test_calls_stay_quick_after_a_name_is_bound_to_an_equal_number(pg):
    k = 1.5
    g = pg.jit(lambda x: x * k)
    g(1.0)
    k = float("1.5")
    assert g(2.0) == 3.0  # not by the plan, which is made anew
    if g._plan is not None:
        assert pg._core.layer.call(g._plan, (4.0,)) == 6.0
        k = 2.5
        assert pg._core.layer.call(g._plan, (4.0,)) is NotImplemented
    assert g(4.0) == 4.0 * k


@pytest.mark.parametrize("base", [object, dict])
def test_slots_of_what_may_be_a_dict(pg, base):
    class Scale(base):
        __slots__ = ("factor",)

    scale = Scale()
    scale.factor = 2.0
    g = pg.jit(lambda x: x * scale.factor)
    assert [g(3.0), g(4.0)] == [6.0, 8.0]
    scale.factor = 5.0
    assert [g(3.0), g(4.0)] == [15.0, 20.0]
    del scale.factor
    with pytest.raises(AttributeError):
        g(3.0)


def test_a_variable_that_is_gone(pg):
    k = 2.0

    def f(x):
        return x * k  # noqa: F821

    g = pg.jit(f)
    assert g(1.0) == 2.0
    del k
    with pytest.raises(NameError):
        g(1.0)


def test_the_standard_library_and_pytest_are_not_searched(pg):
    """Python 3.9 does not say which modules are its own; pytest puts its own modules into a function with an assert."""
    helper = types.SimpleNamespace(rate=3.0)

    def f(x):
        assert x is not None
        return x * helper.rate * len(argparse.SUPPRESS) * math.pi

    reads = pg._record.reads.Reads(f)
    assert {holder["rate"] for holder in reads.bindings if isinstance(holder, dict) and "rate" in holder} >= {3.0}
    assert len(reads._seen) < 20
    modules = ["argparse", "math", "builtins", "_thread", "collections.abc", "json.decoder"]
    assert [name for name in modules if not pg._record.randomness._is_library(name)] == []
    assert [name for name in ["__main__", "torch", __name__] if pg._record.randomness._is_library(name)] == []
