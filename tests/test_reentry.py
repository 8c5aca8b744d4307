"""Containers and numbers that run code when they are read: C must not use references borrowed from them after that.

Most faults show under AddressSanitizer only (.ci/nightly sanitizers); results are compared everywhere. A tiny limit of
the tape makes it collect often, and finalisers run within a collection.
"""

from __future__ import annotations

import contextlib
import gc
import math

import pytest
from helpers import end_dead_objects

np = pytest.importorskip("numpy")


@contextlib.contextmanager
def collecting(pg):
    """The next record collects, and others soon after."""
    lib, tape = pg._core.layer.lib, pg._core.layer.TAPE
    lib.pgr_tape_limits(tape, 1, 2**32 - 2)
    try:
        yield
    finally:
        lib.pgr_tape_limits(tape, 1 << 14, 2**32 - 2)


@pytest.fixture
def often(pg):
    with collecting(pg):
        yield


class Final:
    """Runs something when it goes."""

    def __init__(self, run):
        self.run = run

    def __del__(self):
        self.run()


@pytest.fixture
def without_gc():
    gc.disable()
    yield
    gc.enable()


def trap(pg, run):
    """Garbage for the next collection, whose finalisers run something: closures that keep their output."""
    pg.collect()
    for _ in range(pg.tape_stats().nodes // 4 + 10):
        out = pg.Value(1.0, (pg.Value(1.0),), "trap")
        final = Final(run)
        out._backward = lambda out=out, final=final: None


class Number:
    """A number that runs something when it is read."""

    def __init__(self, number, run, how="__float__"):
        self.number, self.run, self.how = number, run, how

    @classmethod
    def of(cls, number, run, how):
        kind = type("Number", (cls,), {how: lambda self: (self.run(), self.number)[1]})
        return kind(number, run)


HOWS = ("__float__", "__index__")


def number(value, run, how):
    return Number.of(int(value) if how == "__index__" else float(value), run, how)


class Key(str):
    """A key of a dict that runs something when it is looked up, once armed."""

    __slots__ = ("compares", "run")

    def __hash__(self):
        if not getattr(self, "compares", True):
            self.run()
        return str.__hash__(self)

    def __eq__(self, other):
        if getattr(self, "compares", False):
            self.run()
        return str.__eq__(self, other)


@pytest.mark.parametrize("spoil", ["clear", "replace", "extend"])
def test_value_whose_list_of_children_a_finaliser_changes(pg, without_gc, spoil):
    for n in (1, 3, 30):
        children = [pg.Value(float(i)) for i in range(n)]
        expected = [child.data for child in children]

        def run(children=children):
            if spoil == "clear":
                children.clear()
            elif spoil == "replace":
                children[:] = ["none"] * len(children)
            else:
                children.extend(["none"] * 1000)

        trap(pg, run)
        with collecting(pg):
            out = pg.Value(1.0, children, "op")
        assert [operand.data for operand in out._operands()] == expected
        assert pg._core.layer.OPERANDS == "cffi" or len(children) != n or children[0] == "none"  # it did run


@pytest.mark.parametrize("how", HOWS)
def test_value_whose_number_changes_its_list_of_children(pg, how):
    children = [pg.Value(1.0), pg.Value(2.0)]
    out = pg.Value(number(3, children.clear, how), children, "op")
    assert out.data == 3.0 and out._operands() == []


def test_value_whose_children_come_from_an_iterator_that_runs_code(pg, often):
    kept = [pg.Value(float(i)) for i in range(20)]

    def children():
        while kept:
            yield kept.pop()
            gc.collect()
            [pg.Value(0.0) for _ in range(10)]

    out = pg.Value(1.0, children(), "op")
    assert [operand.data for operand in out._operands()] == [float(i) for i in reversed(range(20))]


@pytest.mark.parametrize("how", HOWS)
def test_value_whose_local_gradients_change_its_lists(pg, how):
    children, grads = [pg.Value(1.0), pg.Value(2.0)], []

    def run():
        children.clear()
        grads.clear()
        gc.collect()
        pg.collect()

    grads += [number(3, run, how), number(4, run, how)]
    x, y = children
    out = pg.Value(5.0, children, grads)
    out.backward()
    assert (x.grad, y.grad) == (3.0, 4.0) and not grads


def test_prev_from_an_iterator_that_runs_code(pg, often):
    kept = [pg.Value(float(i)) for i in range(20)]
    out = kept[0] * 2.0
    top = out + 1.0

    def operands():
        while kept:
            out._prev.add(kept[-1])
            yield kept.pop()
            gc.collect()
            [pg.Value(0.0) for _ in range(10)]
            out._prev.discard(out._operands()[0])

    out._prev = operands()
    assert sorted(v.data for v in out._operands()) == [float(i) for i in range(20)]
    top.backward()
    assert out.grad == 1.0


def test_prev_that_a_finaliser_changes_while_it_is_made(pg, without_gc):
    for _ in range(20):
        x = pg.Value(2.0)
        out = pg.Value(6.0, [x, x * 3.0, x * 4.0], "op")
        seen = []
        trap(pg, lambda out=out, seen=seen: seen.append(len(out._prev)))
        with collecting(pg):
            gc.collect()
            pg.Value(1.0)
            assert len(out._prev) == 3
            out._prev.add(pg.Value(1.0))
            assert len(out._operands()) == 4
        assert pg._core.layer.OPERANDS == "cffi" or (seen and set(seen) <= {3, 4})


def test_prev_that_is_changed_within_a_sweep(pg):
    x = pg.Value(2.0)
    y = x * 3.0
    z = pg.Value(1.0, (y, x), "op")

    def _backward():
        y._prev.clear()
        z._prev.add(y)
        x.grad += 1.0
        gc.collect()
        pg.collect()

    z._backward = _backward
    for _ in range(3):
        z.backward()
    assert y._prev == set() and y._operands() == [] and x.grad == 3.0


def test_sets_of_a_long_walk_dropped_in_any_order(pg, rng):
    x = pg.Value(1.0)
    values = [x]
    for _ in range(3000):
        values.append(rng.choice(values[-5:]) + rng.choice(values[-50:]))
    for v in values:
        assert v._prev is v._prev
    sets = [v._prev for v in rng.sample(values, 100)]
    rng.shuffle(values)
    while values:
        values.pop()
        if rng.random() < 0.01:
            gc.collect()
            pg.collect()
    assert all(isinstance(v.data, float) for operands in sets for v in operands)
    del sets, x
    gc.collect()
    pg.collect()


def test_value_whose_keywords_are_hostile_strings(pg):
    def collect():
        gc.collect()
        pg.collect()

    for compares in (True, False):
        label = Key("label")
        label.run, label.compares = collect, compares
        assert pg.Value(2.0, **{label: "x"}).label == "x"


def test_subclass_whose_number_makes_it_again(pg):
    class Sub(pg.Value):
        __slots__ = ()

    x = pg.Value(2.0)
    out = Sub(5.0)
    again = number(1, lambda: out.__init__(7.0, (x,), "inner"), "__float__")
    out.__init__(again, (x, x), "outer")
    assert out.data == 1.0 and out._op == "outer" and out._operands() == [x, x]
    out.backward()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("same", [False, True])
def test_dot_whose_lists_a_number_clears(pg, how, same):
    for n in (1, 5, 70):
        xs = [pg.Value(float(i)) for i in range(n)]
        ws = xs if same else [pg.Value(2.0) for _ in range(n)]
        expected = sum(w.data * x.data for w, x in zip(ws, xs))

        def run(ws=ws, xs=xs):
            ws.clear()
            xs.clear()
            gc.collect()

        first = ws[0].data
        ws[0] = number(first, run, how)
        out = pg.dot(ws, xs)
        assert out.data == expected and not ws and not xs
        out.backward()


@pytest.mark.parametrize("how", HOWS)
def test_a_number_that_drops_itself_and_is_none(pg, how):
    """The message names its type after its list let go of it."""
    for at in (0, 1):
        lists = [[pg.Value(1.0)], [pg.Value(1.0)]]
        kind = type("Bad", (), {how: lambda self, lists=lists: [list.clear(values) for values in lists] and "bad"})
        lists[at][0] = kind()
        del kind
        with pytest.raises(TypeError):
            pg.dot(*lists)
        gc.collect()


def test_dot_whose_bias_clears_the_lists(pg):
    xs, ws = [pg.Value(3.0)], [pg.Value(2.0)]
    assert pg.dot(ws, xs, number(1, lambda: (xs.clear(), ws.clear()), "__float__")).data == 7.0


def test_dot_whose_lists_a_finaliser_changes(pg, without_gc):
    for n in (1, 30):
        for change in (list.clear, lambda values: values.extend("ab"), lambda values: values.__setitem__(0, "a")):
            xs, ws = ([pg.Value(float(i)) for i in range(n)] for _ in range(2))
            expected = sum(x.data**2 for x in xs)
            trap(pg, lambda xs=xs, ws=ws, change=change: xs and (change(xs), change(ws)))
            with collecting(pg):
                assert pg.dot(ws, xs).data == expected
            assert pg._core.layer.OPERANDS == "cffi" or not all(isinstance(x, pg.Value) for x in xs) or not xs


def test_dot_of_iterators_that_clear_the_other(pg):
    ws = [pg.Value(1.0), pg.Value(2.0)]

    def xs():
        for _ in range(2):
            yield pg.Value(3.0)
        ws.clear()

    with contextlib.suppress(ValueError):
        assert pg.dot(ws, xs()).data == 9.0


@pytest.mark.parametrize("how", HOWS)
def test_operators_and_setters_with_numbers_that_collect(pg, often, how):
    x = pg.Value(2.0)

    def run():
        gc.collect()
        pg.collect()
        [pg.Value(0.0) for _ in range(10)]

    two = number(2, run, how)
    for out, expected in (
        (x + two, 4.0), (two + x, 4.0), (x - two, 0.0), (two - x, 0.0), (x * two, 4.0), (two * x, 4.0),
        (x / two, 1.0), (two / x, 1.0), (x**two, 4.0), (two**x, 4.0),
        (x.max(two), 2.0), (x.atan2(two), math.atan2(2.0, 2.0)), (x.leaky_relu(two), 2.0), (x.powc(two), 4.0),
    ):  # fmt: skip
        assert out.data == expected
    assert not x < two and x <= two and not two > x
    x.data = two
    x.grad = two
    assert (x.data, x.grad) == (2.0, 2.0)


@pytest.mark.parametrize("how", HOWS)
def test_numbers_that_drop_the_value_they_are_given_to(pg, how):
    kept = {}

    def run():
        kept.clear()
        gc.collect()
        pg.collect()

    kept["x"] = pg.Value(2.0)
    assert (kept["x"] + number(1, run, how)).data == 3.0
    kept["x"] = pg.Value(2.0)
    kept["x"].data = number(1, run, how)
    kept["x"] = pg.Value(2.0)
    assert pg.Value(1.0).max(kept["x"] * number(1, run, how)).data == 2.0


def test_numbers_that_raise_leave_the_tape_as_it_was(pg):
    def run():
        raise KeyError("mine")

    x = pg.Value(2.0)
    bad = number(1, run, "__float__")
    pg.collect()
    before = pg.tape_stats().nodes
    for use in (
        lambda: x + bad, lambda: bad * x, lambda: x.max(bad), lambda: x.powc(bad), lambda: x < bad,
        lambda: pg.Value(bad), lambda: pg.Value(bad, (x,), "op"), lambda: pg.dot([x, bad], [bad, x]),
        lambda: pg.dot([x], [x], bad), lambda: setattr(x, "data", bad), lambda: setattr(x, "grad", bad),
    ):  # fmt: skip
        with pytest.raises(KeyError, match="mine"):
            use()
    pg.collect()
    assert pg.tape_stats().nodes == before and (x.data, x.grad) == (2.0, 0.0)


def test_attributes_replaced_by_what_they_drop(pg, often):
    x = pg.Value(2.0)

    def run():
        x.__dict__ = {"label": "run"}
        x.other = Final(lambda: None)
        pg.collect()

    for _ in range(3):
        x.label = Final(run)
        x.label = "again"
        x.mine = Final(run)
        x.__dict__ = {"mine": Final(run)}
        x.__dict__ = {}
        x.mine = Final(run)
        del x.mine
    end_dead_objects()
    x.__dict__ = type("Dict", (dict,), {})(label="sub", value=x)
    pg.collect()
    assert x.label == "sub" and (x * 2).data == 4.0
    del x.__dict__["value"]


def test_attributes_of_dead_nodes_that_change_the_tape(pg, often):
    made = []

    def run():
        made.append(pg.Value(1.0).exp())
        pg.collect()
        pg.dot([made[-1]] * 5, [made[-1]] * 5)

    for _ in range(100):
        out = pg.Value(1.0, (pg.Value(1.0),), "own")
        out.final = Final(run)
        out.me = [out]
        del out
        (pg.Value(1.0) + 1.0).exp()
    pg.collect()
    gc.collect()  # in the portable layer these are cycles of Python objects
    assert len(made) == 100 and all(value.data == math.e for value in made)


def test_functions_in_scopes_that_change_their_list(pg):
    functions = []

    def clear(x):
        functions.clear()
        gc.collect()
        return x

    def grow(x):
        if len(functions) < 50:
            functions.append(grow)
        return x

    before = pg._core.layer.present_scope()
    functions[:] = [clear, clear]
    assert pg._core.layer.call_in_scopes(functions, 1.0, 5) == [1.0]
    functions[:] = [grow]
    assert set(pg._core.layer.call_in_scopes(functions, 1.0, 5)) == {1.0}
    functions[:] = [lambda x: x, lambda x: 1 / 0]
    with pytest.raises(ZeroDivisionError):
        pg._core.layer.call_in_scopes(functions, 1.0, 5)
    with pytest.raises(OverflowError):
        pg._core.layer.call_in_scopes(functions, 1.0, 2**32)
    assert pg._core.layer.present_scope() == before


def nested_argument():
    """As deep as it gets, with its parts in a list, too."""
    return {"a": {"x": np.arange(1000.0)}, "b": [{"y": np.ones(1000)}, [1.0, 2.0], np.ones(3)]}


class MineError(Exception):
    pass


def fill_free_lists():
    """From now on, freed objects go back to the allocator, where AddressSanitizer sees them."""
    spare = [[{}, [], [()], 1.5 + i, (i,), (i, i)] for i in range(300)]
    spare.clear()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("compares", [False, True])
def test_a_key_of_an_argument_that_changes_it_within_its_hash_or_comparison(pg, compares, whole):
    function = pg.jit(lambda t: t["a"]["x"] * 2 + t["b"][0]["y"] + t["b"][1][0] + t["b"][2][1])
    expected = function(nested_argument())
    for inner, path in ((False, ("a",)), (True, ("a", "x")), (False, ("b",)), (True, ("b", 0, "y"))):
        key = Key(path[-1])
        key.run, key.compares = (lambda: None), True
        t = nested_argument()
        part = t
        for step in path[:-1]:
            part = part[step]
        part[key] = part.pop(path[-1])
        holder = [t]
        del part, t

        def spoil(holder=holder, inner=inner):
            if holder:
                t = holder.pop()
                fill_free_lists()
                if whole or not inner:
                    t.clear()
                else:
                    for part in t.values():
                        part.clear()
            gc.collect()

        key.run, key.compares = spoil, compares
        with contextlib.suppress(KeyError, ValueError, TypeError, IndexError, AttributeError):
            assert (function(holder[0]) == expected).all()


def test_a_key_that_raises_within_a_call_comes_out(pg):
    function = pg.jit(lambda t: t["a"] * 2)
    function({"a": 1.0})
    key = Key("a")

    def run():
        raise MineError

    t = {key: 1.0}
    key.run, key.compares = run, True
    with pytest.raises(MineError):
        function(t)


def test_a_plan_whose_keys_change_the_argument(pg):
    """The first call's keys are the plan's: their hash runs whenever the plan is used."""
    key = Key("a")
    key.run, key.compares = (lambda: None), False
    holder = []

    def spoil():
        while holder:
            t = holder.pop()
            for part in dict.values(t):
                part.clear()
            t.clear()
        gc.collect()

    function = pg.jit(lambda t: t["a"][0] * 2 + t["b"][0])
    function({key: [np.arange(5.0)], "b": [np.ones(5)]})
    t = {"a": [np.arange(5.0)], "b": [np.ones(5)]}
    holder.append(t)
    key.run = spoil
    with contextlib.suppress(KeyError, ValueError, TypeError, IndexError):
        function(t)
    key.run = lambda: None


@pytest.mark.parametrize("how", HOWS)
def test_numbers_in_a_recorded_functions_arguments_that_change_them(pg, how):
    function = pg.jit(lambda t: t[0] * 2 + t[1])
    assert function([1.0, 2.0]) == 4.0
    t = []
    t[:] = [number(1, t.clear, how), 2.0]
    with contextlib.suppress(TypeError, ValueError, IndexError):
        assert function(t) == 4.0
    plan = pg.jit(lambda x, y: x + y)
    assert plan(1.0, 2.0) == 3.0
    with contextlib.suppress(TypeError):
        assert plan(number(1, gc.collect, how), 2.0) == 3.0


def test_a_program_run_with_hostile_arguments(pg):
    program = pg.jit(lambda x, y: x * y).program(1.0, 2.0)
    ran = []
    with contextlib.suppress(TypeError):
        assert program(number(3, lambda: ran.append(gc.collect()), "__float__"), 2.0) == 6.0
    with pytest.raises((ValueError, OverflowError, TypeError, MemoryError)):
        pg._core.layer.run(program._address if hasattr(program, "_address") else 0, (1.0,), (), (), -1, 1)


def test_custom_functions_that_change_their_node_while_it_runs(pg, often):
    x = pg.Value(2.0)
    out = pg.Value(4.0, (x,), "mine")

    def _backward():
        x.grad += 2.0
        out.__dict__.clear()
        out.__dict__ = {}
        pg.collect()
        gc.collect()

    out._backward = _backward
    del _backward
    (out + 1.0).backward()
    assert x.grad == 2.0


def test_adopted_functions_that_do_not_raise(pg):
    """In another process, since the layer keeps what it is given."""
    if pg._core.layer.OPERANDS == "cffi":
        pytest.skip("raises by itself")
    from helpers import run_python

    printed = run_python(
        """
import pygrad
from pygrad import _pgr, engine
class Value(engine.Operand):
    __slots__ = ()
kept = [engine.Value(1.0) for _ in range(100)]
del kept[:50]
nothing = lambda *_: None
_pgr._adopt(value_type=Value, notes={}, fail=nothing, reject=lambda *_: 1, unknown=lambda *_: 1 / 0, leave=nothing,
    refuse_operand=nothing, as_number=nothing, plain_numbers=set(), set_type=set)
for use in (lambda: Value(2.0) / 0.0, lambda: Value("a"), lambda: _pgr.Operand._of(12345678)):
    try:
        use()
    except BaseException as error:
        print(type(error).__name__)
print([Value(float(i)).data for i in range(3)], kept[0].data)
kept.clear()
print((Value(2.0) * 3).data)
""",
        "compiled",
    )
    assert printed.splitlines() == ["SystemError"] * 3 + ["[0.0, 1.0, 2.0] 1.0", "6.0"]
