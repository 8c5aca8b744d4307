"""Value's own semantics: construction, operators, attributes, identity, comparison, threads."""

from __future__ import annotations

import decimal
import fractions
import gc
import math
import threading
import weakref

import pytest
from helpers import COUNTS


def test_the_neuron(pg):
    x1, x2 = pg.Value(2.0, label="x1"), pg.Value(0.0, label="x2")
    w1, w2 = pg.Value(-3.0, label="w1"), pg.Value(1.0, label="w2")
    b = pg.Value(6.8813735870195432, label="b")
    o = (x1 * w1 + x2 * w2 + b).tanh()
    o.backward()
    assert o.data == pytest.approx(0.7071067811865476, abs=1e-12)
    expected = [(x1, -1.5), (w1, 1.0), (x2, 0.5), (w2, 0.0), (b, 0.5)]
    assert all(v.grad == pytest.approx(grad, abs=1e-12) for v, grad in expected)


# ---- Construction --------------------------------------------------------------------------------


class Index:
    def __index__(self):
        return 7


class Float:
    def __float__(self):
        return 2.5


@pytest.mark.parametrize(
    "data", [2, 2.5, True, -0.0, math.inf, Index(), Float(), fractions.Fraction(1, 3), decimal.Decimal("0.1"), 10**300]
)
def test_data_is_stored_as_a_float(Value, data):
    v = Value(data)
    assert type(v.data) is float
    assert v.data == (7.0 if isinstance(data, Index) else float(data))
    assert (v.grad, v.label, v._op, v._prev) == (0.0, "", "", set())


@pytest.mark.parametrize("bad", ["3", None, 1j, [1.0], {}, object(), b"1"])
def test_data_that_is_no_number_raises_typeerror_naming_it(pg, bad):
    before = pg.tape_stats()
    with pytest.raises(TypeError, match="must be a real number, not " + type(bad).__name__):
        pg.Value(bad)
    with pytest.raises(TypeError, match="must be a real number"):
        pg.Value(data=bad, label="x")
    assert pg.tape_stats()[:2] == before[:2]


def test_an_integer_too_large_for_a_float_raises_overflowerror(pg):
    v = pg.Value(1.0)
    before = pg.tape_stats()
    for make in (lambda: pg.Value(10**400), lambda: v + 10**400, lambda: 10**400 * v, lambda: v ** -(10**400)):
        with pytest.raises(OverflowError):
            make()
    assert pg.tape_stats()[:2] == before[:2]


def test_keywords_and_positions_are_micrograds(Value):
    a = Value(1.0)
    v = Value(3.0, (a, a), "op", "name")
    w = Value(data=3.0, _children=[a], _op="op", label="name")
    assert (v._prev, v._op, v.label) == (w._prev, w._op, w.label) == ({a}, "op", "name")
    assert v._operands() == [a, a]
    with pytest.raises(TypeError):
        Value()
    with pytest.raises(TypeError):
        Value(1.0, nonsense=3)


def test_children_that_are_no_values_raise_typeerror(pg):
    a = pg.Value(1.0)
    before = pg.tape_stats()
    for bad in ((a, 3), ["x"], (None,)):
        with pytest.raises(TypeError, match="_children.*(must be a Value|holds its operands)"):
            pg.Value(1.0, bad)
    assert pg.tape_stats()[:2] == before[:2]


def test_a_subclass_may_have_its_own_init_and_slots(Value):
    class Parameter(Value):
        def __init__(self, data, name, **keywords):
            super().__init__(data, **keywords)
            self.name = name

    class Slotted(Value):
        __slots__ = ("extra",)

    p = Parameter(3, "w", label="L")
    (p * p).backward()
    assert (p.data, p.grad, p.name, p.label, isinstance(p, Value)) == (3.0, 6.0, "w", "L", True)
    child = Parameter(9.0, "square", _children=(p,), _op="sq")
    assert (child._prev, child._op) == ({p}, "sq")
    s = Slotted(2.0)
    s.extra = [1]
    assert (s + 1).data == 3.0
    assert type(s + 1) is Value


def test_methods_and_attributes_redefined_on_the_class_count_until_they_are_taken_back(Value, monkeypatch):
    def uses():
        x = Value(0.5)
        x.data = 2.0
        x.grad += 1.0
        return x.tanh().data, x.data, x.grad, x.relu().data

    usual = (math.tanh(2.0), 2.0, 1.0, 2.0)
    data, changed = Value.data, []
    for _ in range(100):  # until calls are specialised
        assert uses() == usual
    with monkeypatch.context() as patch:
        patch.setattr(Value, "tanh", lambda self: Value(7.0))
        assert uses() == (7.0, *usual[1:])
        setting = lambda self, number: changed.append(number) or data.__set__(self, number + 1.0)  # noqa: E731
        patch.setattr(Value, "data", property(data.__get__, setting))
        assert uses() == (7.0, 3.0, 1.0, 3.0) and changed == [2.0]
        patch.setattr(Value, "grad", property(lambda self: 5.0))
        with pytest.raises(AttributeError):
            uses()
    assert uses() == usual and changed == [2.0, 2.0]
    assert Value.arcsin is Value.asin


# ---- Operators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [2, 2.5, True, fractions.Fraction(1, 2), decimal.Decimal("0.25"), Float(), Index()])
def test_operators_take_real_numbers_on_both_sides(Value, other):
    v, number = Value(3.0), 7.0 if isinstance(other, Index) else float(other)
    pairs = [
        (v + other, 3.0 + number),
        (other + v, number + 3.0),
        (v - other, 3.0 - number),
        (other - v, number - 3.0),
        (v * other, 3.0 * number),
        (other * v, number * 3.0),
        (v / other, 3.0 / number),
        (other / v, number / 3.0),
        (v % other, 3.0 % number),
        (other % v, number % 3.0),
        (v**other, 3.0**number),
        (other**v, number**3.0),
    ]
    for result, expected in pairs:
        assert type(result) is Value
        assert result.data == pytest.approx(expected, rel=1e-15)


def test_unary_operators_and_what_is_shown(Value):
    v = Value(-2.75, label="v")
    assert ((-v).data, abs(v).data, +v) == (2.75, 2.75, v)
    assert f"{v:.1f}" == "-2.8"
    assert f"{v}" == repr(v) == "Value(data=-2.75, grad=0.0)"
    assert bool(Value(0.0))  # as in micrograd: an object, not a number, is what is true


@pytest.mark.parametrize("bad", ["a", None, 1j, b"a"])
def test_operands_that_are_no_numbers_raise_typeerror_naming_the_value(pg, bad):
    v = pg.Value(1.0)
    before = pg.tape_stats()
    for symbol, apply in {
        "+": lambda: v + bad,
        "-": lambda: bad - v,
        "*": lambda: v * bad,
        "/": lambda: bad / v,
        "**": lambda: v**bad,
    }.items():
        with pytest.raises(TypeError) as info:
            apply()
        assert repr(bad) in str(info.value) and symbol in str(info.value)
    assert pg.tape_stats()[:2] == before[:2]


def test_other_types_get_their_chance(Value):
    class Ring:
        def __radd__(self, other):
            return "radd"

        def __rpow__(self, other):
            return "rpow"

    assert (Value(1.0) + Ring(), Value(1.0) ** Ring()) == ("radd", "rpow")
    for bad in ([1], {}, object()):
        with pytest.raises(TypeError):
            Value(1.0) * bad
    with pytest.raises(TypeError):
        pow(Value(2.0), 2, 3)
    with pytest.raises(TypeError):
        Value(1.0) < "a"  # noqa: B015


def test_order_is_by_value_and_equality_by_identity(Value):
    a, b = Value(1.0), Value(1.0)
    c = Value(2.0)
    assert a <= b and a >= b and not a < b and not a > b
    assert a < c and c > a and a < 1.5 and a >= 1 and 0.5 < a
    assert a != b and a == a and a != 1.0
    assert len({a, b, a}) == 2
    assert max(a, c, b) is c and sorted([c, a]) == [a, c]
    nan = Value(math.nan)
    assert not nan < 1 and not nan >= 1


def test_sum_of_a_generator(Value):
    xs = [Value(float(i)) for i in range(5)]
    total = sum(x * x for x in xs)
    total.backward()
    assert total.data == 30.0
    assert [x.grad for x in xs] == [0.0, 2.0, 4.0, 6.0, 8.0]


# ---- Attributes belong to the node ---------------------------------------------------------------


def test_data_and_grad_are_settable_on_any_node(Value):
    a = Value(2.0)
    b = a * 3
    b.data, b.grad, a.grad = 5, -1, 4.5
    a.data -= 0.5 * a.grad
    assert (b.data, b.grad, a.grad, a.data) == (5.0, -1.0, 4.5, -0.25)
    for name in ("data", "grad"):
        with pytest.raises(TypeError, match=name):
            setattr(a, name, "x")
        with pytest.raises(AttributeError):
            delattr(a, name)
    assert (a.data, a.grad) == (-0.25, 4.5)


def test_backward_uses_data_as_it_is_then(Value):
    a, b = Value(2.0), Value(3.0)
    c = a * b
    b.data = 10.0
    c.backward()
    assert (a.grad, b.grad) == (10.0, 2.0)


def test_what_belongs_to_the_node_outlives_its_handle(pg):
    x = pg.Value(2.0)
    h = x * 3
    h.label, h.note, h.grad = "h", ["kept"], 7.0
    y = h + 1
    del h
    pg.collect()
    (again,) = (v for v in y._prev if v.data == 6.0)
    assert (again.label, again.note, again.grad, again._op) == ("h", ["kept"], 7.0, "*")
    again.note.append("more")
    del again
    pg.collect()
    (again,) = (v for v in y._prev if v.data == 6.0)
    assert again.note == ["kept", "more"]


def test_one_node_has_one_object_while_it_is_alive(Value):
    x = Value(2.0)
    y = x * x
    (seen,) = y._prev
    assert seen is x
    y += 1
    assert {v.data for v in y._prev} == {4.0, 1.0}
    operands = y._operands()
    assert all(a is b for a, b in zip(operands, y._operands()))


def test_attributes_are_freed_with_the_node(pg):
    gone = []

    class Thing:  # weak references to it would end too early where y has a finaliser
        def __del__(self):
            gone.append(self)

    x = pg.Value(2.0)
    y = x * 3
    y.thing = Thing()
    z = y + 1
    del y
    pg.collect()
    assert not gone
    del z
    pg.collect()
    if not COUNTS:
        gc.collect()  # the Thing's own finaliser
    assert len(gone) == 1


def test_weak_references_and_vars_work(Value):
    v = Value(1.0)
    r = weakref.ref(v)
    v.a = 1
    v.label = "l"
    assert r() is v
    assert vars(v) == {"a": 1, "label": "l", "data": 1.0, "grad": 0.0, "_op": "", "_prev": set()}
    vars(v)["b"] = 2
    v.data = 3.0
    assert v.b == 2 and vars(v)["data"] == 3.0
    del v.a
    with pytest.raises(AttributeError):
        v.a
    del v
    if not COUNTS:
        gc.collect()
    assert r() is None


def test_op_and_prev_of_results(Value):
    a, b = Value(2.0), Value(3.0)
    cases = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "**": a**b, "tanh": a.tanh(), "ReLU": a.relu(), "neg": -a}
    assert all(v._op == op for op, v in cases.items())
    assert all(v._prev == ({a} if op in ("tanh", "ReLU", "neg") else {a, b}) for op, v in cases.items())
    assert ((a**2)._op, (a**2)._prev, (a**-0.5)._op) == ("**2", {a}, "**-0.5")
    assert {v.data for v in (2 * a)._prev} == {2.0}
    assert len((2 * a)._prev) == 2


# ---- Threads -------------------------------------------------------------------------------------


def test_threads_share_leaves_and_build_their_own_graphs(pg):
    w = pg.Value(0.5)
    results = {}

    def work(name):
        x = pg.Value(float(name))
        for _ in range(300):
            y = x
            for _ in range(20):
                y = (y * w).tanh() + 0.1
            y.backward()
        results[name] = x.grad

    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for name in results:
        x, y = pg.Value(float(name)), None
        y = x
        for _ in range(20):
            y = (y * 0.5).tanh() + 0.1
        y.backward()
        assert results[name] == pytest.approx(300 * x.grad, rel=1e-12)
    assert len(results) == 4


def test_names_that_are_no_text_and_children_that_are_none_are_typeerrors_in_both_layers(pg, Value):
    before = pg.tape_stats().nodes
    for arguments, message in [
        ({"_op": 3}, "_op=3: must be a str, not int"),
        ({"label": 3}, "label=3: must be a str, not int"),
        ({"label": None}, "label=None: must be a str, not NoneType"),
        ({"_children": 2.0}, "_children: 2.0 is of type float; every operand must be a Value"),
    ]:
        with pytest.raises(TypeError) as raised:
            Value(1.0, **arguments)
        assert str(raised.value) == message
    assert pg.tape_stats().nodes == before
