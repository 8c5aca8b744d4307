"""copy, deepcopy and pickle: of leaves, of graphs, of modules."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest

WAYS = {
    "deepcopy": copy.deepcopy,
    **{f"pickle{p}": (lambda v, p=p: pickle.loads(pickle.dumps(v, p))) for p in range(pickle.HIGHEST_PROTOCOL + 1)},
    "python pickle": lambda v: pickle.loads(pickle._dumps(v)),
}


@pytest.fixture(params=WAYS)
def clone(request):
    return WAYS[request.param]


def square(x):
    return x * x


def square_vjp(g, _y, x):
    return 2 * x * g


def test_leaves(Value, clone):
    v = Value(2.5, label="v")
    v.grad, v.extra = -1.0, [1, 2]
    w = clone(v)
    assert w is not v and type(w) is Value
    assert (w.data, w.grad, w.label, w.extra) == (2.5, -1.0, "v", [1, 2])
    w.data = w.grad = 0.0
    w.extra.append(3)
    assert (v.data, v.grad, v.extra) == (2.5, -1.0, [1, 2])


def test_graphs_keep_their_shape_and_differentiate(pg, clone):
    a, b = pg.Value(2.0, label="a"), pg.Value(3.0, label="b")
    h = a * b
    h.label, h.grad = "h", 0.25
    y = (h + h).tanh() + a**2 + 2**b + a.leaky_relu(0.3) + b.atan2(a) - (h / a).detach()
    parts = clone({"leaves": [a, b], "h": h, "y": y})
    a2, b2 = parts["leaves"]
    h2, y2 = parts["h"], parts["y"]
    assert (y2.data, y2._op, h2.label, h2.grad, h2._prev) == (y.data, y._op, "h", 0.25, {a2, b2})
    assert [(r.op, r.operands, r.data) for r in pg._views.table.node_table(y2)] == [
        (r.op, r.operands, r.data) for r in pg._views.table.node_table(y)
    ]
    y2.backward()
    assert (a.grad, b.grad, h.grad) == (0.0, 0.0, 0.25)
    y.backward()
    assert (a2.grad, b2.grad, h2.grad) == (a.grad, b.grad, h.grad)


def test_data_edited_out_of_the_domain_survives(Value, clone):
    x = Value(2.0)
    y = x.log()
    x.data = -1.0
    assert [v.data for v in clone([x, y])] == [-1.0, y.data]


def test_deep_graphs_do_not_recurse(pg, clone):
    x = pg.Value(1.0)
    y, nodes = x, []
    for _ in range(5_000):
        y = y.sin()
        nodes.append(y)
    half = nodes[2_500]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        x2, half2, y2 = clone([x, half, y])
    finally:
        sys.setrecursionlimit(limit)
    y2.backward()
    y.backward()
    assert (x2.grad, half2.grad, y2.data) == (x.grad, half.grad, y.data)


def test_shallow_copy_shares_operands(Value):
    a = Value(2.0, label="a")
    y = a * a
    y.label = "y"
    z = copy.copy(y)
    assert z is not y and (z.data, z.label, z._op, z._prev) == (4.0, "y", "*", {a})
    z.backward()
    assert (a.grad, y.grad) == (4.0, 0.0)


def test_modules(pg, clone):
    nn = sys.modules["pygrad.nn"]
    model = nn.MLP(3, [4, 2, 1], nonlin="tanh")
    twin = clone(model)
    assert repr(twin) == repr(model)
    assert [p.data for p in twin.parameters()] == [p.data for p in model.parameters()]
    assert twin([1.0, 2.0, 3.0]).data == model([1.0, 2.0, 3.0]).data
    twin.parameters()[0].data += 1.0
    assert twin.parameters()[0].data != model.parameters()[0].data


def test_custom_ops_of_importable_functions(pg, clone):
    op = pg.custom_op(square, square_vjp)
    x = pg.Value(3.0)
    y = op(x) + 1
    x2, y2 = clone([x, y])
    y2.backward()
    assert (y2.data, x2.grad, x.grad) == (10.0, 6.0, 0.0)


def test_subclasses_and_cycles_of_attributes(pg, clone):
    v = globals()["Special"](1.5)
    v.me = v
    w = clone(v)
    assert type(w).__name__ == "Special" and w.me is w and w.data == 1.5


@pytest.fixture(autouse=True)
def special(pg, monkeypatch):
    """A subclass that pickle can find by name, over the layer at hand."""
    kind = type("Special", (pg.Value,), {"__module__": __name__, "__qualname__": "Special"})
    monkeypatch.setitem(globals(), "Special", kind)


def test_a_pickle_that_makes_no_sense_raises_valueerror(pg):
    a = pg.Value(1.0)
    restore = pg.engine._restore
    for name, operands in (
        ("nonsense", ()),
        ("pair", (a, a)),
        ("add", (a,)),
        ("tanh", ()),
        ("leaf", (a,)),
        ("const", (a, a)),
    ):
        with pytest.raises(ValueError, match="node"):
            restore(pg.Value, None, name, 1.0, 0.0, operands, float("nan"))
    with pytest.raises(ValueError, match="node"):
        restore(dict, None, "leaf", 1.0, 0.0, (), float("nan"))
    with pytest.raises(TypeError):
        restore(pg.Value, None, "tanh", 1.0, 0.0, (3,), float("nan"))
