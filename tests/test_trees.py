"""Trees: named tuples, dataclasses, None, registered classes, as arguments, results and axes; over both layers."""

from __future__ import annotations

import collections
import dataclasses
import operator
from typing import Any, NamedTuple

import pytest

np = pytest.importorskip("numpy")


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Model:
    w: Any
    b: Any = None
    power: Any = dataclasses.field(default=2, metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Empty:
    pass


class Line:
    """An ordinary class, which must be registered."""

    def __init__(self, slope, start, unit="m"):
        self.parts, self.unit = (slope, start), unit

    def __eq__(self, other):
        return type(other) is Line and (self.parts, self.unit) == (other.parts, other.unit)


@pytest.fixture(autouse=True)
def _registered(pg):
    if Line not in pg._core.tree_nodes._registered:
        pg.register_tree_node(Line, lambda l: (list(l.parts), l.unit), lambda unit, parts: Line(*parts, unit))


def total(pg, tree):
    return sum((leaf * (i + 1.0) for i, leaf in enumerate(pg.tree_leaves(tree))), 0.0)


# Each: a tree, its numbers in order.
TREES = [
    (Point(2.0, 3.0), [2.0, 3.0]),
    (Point([2.0], None), [2.0]),
    (Model(2.0, Point(1.0, 4.0)), [2.0, 1.0, 4.0]),
    (Model(2.0), [2.0]),
    (Empty(), []),
    (None, []),
    ([None, 1.0, {"a": None}], [1.0]),
    (Line(2.0, (3.0, None)), [2.0, 3.0]),
    (collections.OrderedDict(b=1.0, a=(2.0,)), [1.0, 2.0]),
    ({"m": Model(1.0, Line(2.0, 3.0)), "p": (Point(4.0, 5.0),)}, [1.0, 2.0, 3.0, 4.0, 5.0]),
]


@pytest.mark.parametrize(("tree", "numbers"), TREES)
@pytest.mark.parametrize("record", [True, False])
def test_trees_go_in_and_come_out_as_they_are(pg, tree, numbers, record):
    leaves, structure = pg.tree_flatten(tree)
    assert leaves == numbers and pg.tree_unflatten(structure, leaves) == tree
    doubled = pg.tree_map(lambda x: 2.0 * x, tree)
    assert pg.tree_leaves(doubled) == [2.0 * x for x in numbers] and type(doubled) is type(tree)
    f = pg.jit(lambda t, k: (pg.tree_map(lambda x: k * x, t), t, k), record=record)
    for _ in range(3):  # the first call records, the next takes the plan
        assert f(tree, 2.0) == (doubled, tree, 2.0)
    slope = pg.grad(lambda t, k: k * k + total(pg, t), record=record)
    for _ in range(2):
        assert pg.tree_leaves(slope(tree, 1.0)) == [i + 1.0 for i in range(len(numbers))]
        assert pg.tree_flatten(slope(tree, 1.0))[1] == structure
    assert pg.jvp(lambda t: total(pg, t), (tree,), (tree,), record=record) == ((total(pg, tree),) * 2)
    assert pg.vjp(lambda t: pg.tree_map(lambda x: x * x, t), tree, record=record)[1](tree) == (
        pg.tree_map(lambda x: 2.0 * x * x, tree),
    )


def test_arrays_within_trees(pg):
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    f = pg.jit(lambda m: Point(m.w @ m.b, Model(m.w.T, power=3)))
    for _ in range(2):
        found = f(Model(x, x[0]))
        assert type(found) is Point and type(found.y) is Model and found.y.power == 3
        np.testing.assert_array_equal(found.x, x @ x[0])
        np.testing.assert_array_equal(found.y.w, x.T)
    slopes = pg.jacobian(lambda p: Point(p.x * p.y, None))(Point(x[0], 2.0))
    assert type(slopes) is Point and slopes.y is None and type(slopes.x) is Point
    np.testing.assert_array_equal(slopes.x.x, 2.0 * np.eye(2))
    np.testing.assert_array_equal(slopes.x.y, x[0])


def test_what_is_not_a_child_is_recorded_anew(pg):
    calls = []

    @pg.jit
    def f(m, line):
        calls.append(m.power)
        return m.w**m.power * (100.0 if line.unit == "cm" else 1.0) * line.parts[0]

    for _ in range(2):
        assert f(Model(3.0), Line(1.0, 0.0)) == 9.0
        assert f(Model(3.0, power=3), Line(1.0, 0.0)) == 27.0
        assert f(Model(3.0, power=3.0), Line(1.0, 0.0)) == 27.0
        assert f(Model(3.0), Line(1.0, 0.0, "cm")) == 900.0
    assert calls == [2, 3, 3.0, 2]


def test_trees_of_another_kind_do_not_run_the_program_of_the_last(pg):
    """The compiled call sees that something is different: class, number of children, what is static, None."""
    f = pg.jit(lambda t: total(pg, t))
    for _ in range(2):
        for tree, expected in (
            ((1.0, 2.0), 5.0),
            (Point(1.0, 2.0), 5.0),
            (Model(1.0, 2.0), 5.0),
            (Model(1.0), 1.0),
            (Model(1.0, 2.0, power="x"), 5.0),
            (Line(1.0, 2.0), 5.0),
            (Line((1.0, 2.0), 3.0), 14.0),
            (None, 0.0),
            ((), 0.0),
            ([None], 0.0),
            ([1.0], 1.0),
        ):
            assert f(tree) == expected, tree


def test_a_subclass_is_a_class_of_its_own(pg):
    class Steep(Line):
        pass

    with pytest.raises(TypeError, match="Steep.*register_tree_node"):
        pg.jit(lambda line: 1.0)(Steep(1.0, 2.0))


def test_exceptions_of_the_users_functions_pass_through(pg):
    class Odd:
        def __init__(self, x):
            self.x = x

    broken = []

    def flatten(odd):
        if broken:
            raise KeyError("broken")
        return (odd.x,), None

    pg.register_tree_node(Odd, flatten, lambda _, parts: Odd(*parts))
    f = pg.jit(lambda odd: odd.x * 2.0)
    assert f(Odd(1.0)) == f(Odd(1.0)) == 2.0
    broken.append(True)
    with pytest.raises(KeyError, match="broken"):
        f(Odd(1.0))
    broken.clear()
    assert f(Odd(3.0)) == 6.0

    class Strict(NamedTuple):
        x: Any

    calls = []

    @dataclasses.dataclass
    class Positive:
        x: Any

        def __post_init__(self):
            calls.append(self.x)
            if isinstance(self.x, float) and self.x < 0.0:
                raise ValueError("negative")

    g = pg.jit(lambda p: Positive(-p.x))
    for _ in range(2):
        assert g(Positive(-0.0)).x == 0.0
        with pytest.raises(ValueError, match="negative"):
            g(Positive(1.0))


def test_an_eager_value_within_a_tree_is_refused(pg):
    f = pg.jit(lambda m: m.w * 2.0)
    assert f(Model(1.0)) == 2.0
    for tree in (Model(pg.Value(1.0)), Point(1.0, pg.Value(1.0)), Line(1.0, [pg.Value(2.0)])):
        with pytest.raises(TypeError, match="argument 0.*eager Value"):
            f(tree)


def test_a_tree_map_of_several_trees(pg):
    tree = {"a": Point(1.0, None), "b": [np.ones(2), Line(2.0, 3.0)]}
    found = pg.tree_map(lambda x, y, z: (x + y, z), tree, tree, pg.tree_map(lambda x: "any", tree))
    assert found["a"].x == (2.0, "any") and found["a"].y is None
    assert found["b"][0][0].tolist() == [2.0, 2.0] and found["b"][1].parts == ((4.0, "any"), (6.0, "any"))
    for other in ({"a": 1.0}, {"a": Point(1.0, 2.0), "b": tree["b"]}, {"a": (1.0, None), "b": tree["b"]}):
        with pytest.raises(ValueError, match="tree_map"):
            pg.tree_map(operator.add, tree, other)


# ---- Axes ----------------------------------------------------------------------------------------


X = np.arange(12.0).reshape(3, 4)


def test_axes_may_be_trees(pg):
    def f(p, m, d):
        return p.x * p.y.sum() + m.w * m.b["k"] + d[0]

    axes = (Point(0, None), Model(-1, {"k": None}), [1])
    args = (Point(X[:, 0], X[0]), Model(X.T[0], {"k": 2.0}), [X[:2, :3]])
    args = (args[0], Model(X.T[0, :3], {"k": 2.0}), args[2])
    expected = [f(Point(X[i, 0], X[0]), Model(X.T[0, i], {"k": 2.0}), [X[:2, i]]) for i in range(3)]
    np.testing.assert_allclose(pg.vmap(f, in_axes=axes)(*args), expected)
    np.testing.assert_allclose(pg.vmap(f, in_axes=axes, record=False)(*args), expected)
    np.testing.assert_allclose(pg.vmap(f, in_axes=axes, reduce="sum")(*args), np.sum(expected, axis=0))
    inner = pg.jit(lambda *args: pg.vmap(lambda s: pg.vmap(f, in_axes=axes)(*args) * s)(X[0]))(*args)
    np.testing.assert_allclose(inner, np.multiply.outer(X[0], expected))


def test_an_axis_of_none_leaves_out_what_is_below(pg):
    f = pg.vmap(lambda t, x: t["a"][0] * x + t["b"], in_axes=({"a": None, "b": 0}, 0))
    assert f({"a": [2.0, None], "b": X[:, 0]}, X[:, 1]).tolist() == (2 * X[:, 1] + X[:, 0]).tolist()
    with pytest.raises(ValueError, match="argument 0: in_axes"):
        pg.vmap(lambda t: t["a"], in_axes=({"b": 0},))({"a": X})
    with pytest.raises(ValueError, match="in_axes=2, but its shape"):
        pg.vmap(lambda t: t["a"], in_axes=({"a": 2},))({"a": X})


@pytest.mark.parametrize("how", ["lanes", "nested", "eager", "one"])
def test_results_have_their_axis_where_out_axes_says(pg, how):
    def f(x):  # of shape (4,)
        return {"m": np.multiply.outer(np.array([1.0, 2.0]), x), "v": Point(x * x, None), "s": x.sum()}

    x = X[:1] if how == "one" else X
    rows = [f(row) for row in x]
    for m in (0, 1, 2, -1, -2, -3):
        for v in (0, 1, -1, -2):
            for s in (0, -1):
                axes = {"m": m, "s": s, "v": Point(v, None)}
                mapped = pg.vmap(f, out_axes=axes, record=how != "eager")
                if how == "nested":
                    got = pg.vmap(lambda k: mapped(x))(np.ones(2))
                    got = pg.tree_map(lambda y: y[1], got)
                else:
                    got = mapped(x)
                np.testing.assert_array_equal(got["m"], np.stack([row["m"] for row in rows], m))
                np.testing.assert_array_equal(got["v"].x, np.stack([row["v"].x for row in rows], v))
                np.testing.assert_array_equal(got["s"], np.stack([row["s"] for row in rows], s))
    slopes = pg.jacobian(pg.vmap(lambda x: x * x, out_axes=1))(x)
    expected = np.zeros((4, len(x), len(x), 4))
    for i, row in enumerate(x):
        for k, y in enumerate(row):
            expected[k, i, i, k] = 2 * y
    np.testing.assert_array_equal(slopes, expected)


def test_a_vmap_with_out_axes_stays_lanes(pg):
    """Its result is written, differentiated and mapped again without an instruction for each lane."""
    x = np.random.default_rng(0).normal(size=(500, 3))
    turned = pg.vmap(lambda row: row * row, out_axes=1)
    np.testing.assert_array_equal(pg.jit(turned)(x), (x * x).T)
    assert pg.jit(turned).program(x).stats.instructions < 20
    again = pg.jit(lambda x: pg.vmap(lambda c: c.sum(), in_axes=1)(turned(x)))
    np.testing.assert_allclose(again(x), (x * x).sum(1))
    assert again.program(x).stats.instructions < 30
    slope = pg.jit(lambda x, g: pg.vjp(turned, x)[1](g)[0])
    g = np.random.default_rng(1).normal(size=(3, 500))
    np.testing.assert_allclose(slope(x, g), 2 * x * g.T)
    assert slope.program(x, g).stats.instructions < 50


@pytest.mark.parametrize("record", [True, False])
def test_a_result_without_an_axis_is_the_same_for_all_slices(pg, record):
    both = pg.vmap(lambda w, x: (w * w, x * w), in_axes=(None, 0), out_axes=(None, 0), record=record)
    one, rest = both(3.0, np.array([1.0, 2.0]))
    assert one == 9.0 and rest.tolist() == [3.0, 6.0]
    arrays = pg.vmap(lambda w, x: (w * 2.0, x), in_axes=(None, 0), out_axes=(None, 0), record=record)
    assert arrays(X[0], X)[0].tolist() == (2 * X[0]).tolist()
    slope = pg.grad(lambda w: both(w, np.ones(2))[0], record=record)
    assert slope(3.0) == 6.0
    nested = pg.vmap(lambda k: both(k, np.array([1.0, 2.0]))[0], record=record)
    assert nested(np.array([2.0, 3.0])).tolist() == [4.0, 9.0]
    for wrong in (
        lambda: pg.vmap(lambda x: x, out_axes=None, record=record)(X[0]),
        lambda: pg.vmap(lambda x: x * 2.0, out_axes=None, record=record)(X),
        lambda: pg.vmap(lambda k: pg.vmap(lambda x: x * k, out_axes=None)(X[0]), record=record)(X[1]),
    ):
        with pytest.raises(ValueError, match="differs from slice to slice"):
            wrong()


def test_a_result_that_depends_on_the_slice_needs_an_axis_whatever_its_numbers(pg):
    zero = pg.vmap(lambda x: x * 0.0, out_axes=None)
    for x in (X[0], X[:, 0]):
        with pytest.raises(ValueError, match="differs from slice to slice"):
            zero(x)
        with pytest.raises(ValueError, match="differs from slice to slice"):
            pg.jit(lambda x: pg.vmap(lambda k: zero(X[0]))(x))(x)
    with pytest.raises(ValueError, match="differs from slice to slice"):
        pg.grad(lambda x: zero(x), record=False)(np.ones(3))
