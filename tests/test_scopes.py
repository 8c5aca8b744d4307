"""Scopes in drawings, folding by them, and the checked backward pass."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading

import pytest
from helpers import end_dead_objects


def rows(pg, root):
    return pg._views.table.node_table(root)


def names(folded):
    return {v.title: v for v in folded.vertices if hasattr(v, "title")}


def moons_graph(pg, points=100):
    pg.nn.seed(1)
    model = pg.nn.MLP(2, [16, 16, 1])
    inputs = [[pg.Value(0.01 * i), pg.Value(1 - 0.02 * i)] for i in range(points)]
    loss = sum(((1 - model(x)).relu() for x in inputs), pg.Value(0.0)) / points
    return model, loss + 1e-4 * sum(p * p for p in model.parameters())


def test_scopes_nest_and_end_with_their_block(pg):
    x = pg.Value(1.0)
    with pg.scope("a"):
        y = x + 1
        with pg.scope("b/c"):
            z = y * y
        with pytest.raises(ZeroDivisionError), pg.scope("broken"):
            z / 0
        w = z.exp()
    out = w + 1
    found = {row.op + str(row.data): row.scope for row in rows(pg, out)}
    assert [row.scope for row in rows(pg, out)] == ["", "a", "a", "a/b/c", "a", "", ""], found


def test_a_decorated_function_is_a_scope_in_every_call(pg):
    @pg.scope("square")
    def square(x, depth):
        return square(x, depth - 1) if depth else x * x

    root = square(pg.Value(2.0), 3) + 1
    assert [row.scope for row in rows(pg, root) if row.op == "*"] == ["square/square/square/square"]
    assert rows(pg, root)[-1].scope == ""


def test_one_scope_can_be_entered_within_itself(pg):
    again = pg.scope("a")
    with again, again:
        inner = pg.Value(1.0)
    outside = pg.Value(2.0)
    assert [rows(pg, v)[-1].scope for v in (inner, outside)] == ["a/a", ""]


@pytest.mark.parametrize(("name", "error"), [("", ValueError), ("a//b", ValueError), (3, TypeError), (None, TypeError)])
def test_names_that_are_none_are_refused(pg, name, error):
    with pytest.raises(error, match="scope"):
        pg.scope(name)


def test_scopes_survive_drops_and_collections(pg, rng):
    lib, TAPE = pg._core.layer.lib, pg._core.layer.TAPE
    lib.pgr_tape_limits(TAPE, 50, 2**32 - 2)
    try:
        kept = []
        for _ in range(3000):
            scope = rng.choice(["", "a", "b", "a/b", "c"])
            if scope:
                with pg.scope(scope):
                    value = pg.Value(1.0) if not kept or rng.random() < 0.5 else rng.choice(kept)[0].sin()
            else:
                value = pg.Value(2.0)
            kept.append((value, scope))
            if rng.random() < 0.55:
                del kept[rng.randrange(len(kept))]
            if rng.random() < 0.01:
                pg.collect()
        for value, scope in kept:
            assert rows(pg, value)[-1].scope == scope
    finally:
        lib.pgr_tape_limits(TAPE, 1 << 14, 2**32 - 2)


def test_threads_keep_their_own_scopes(pg):
    inside, go = threading.Event(), threading.Event()

    def other():
        with pg.scope("other"):
            inside.set()
            go.wait(10)

    thread = threading.Thread(target=other)
    with pg.scope("mine"):
        thread.start()
        inside.wait(10)
        go.set()
        thread.join()
    after = pg.Value(1.0)
    assert rows(pg, after)[-1].scope == ""


def test_networks_set_scopes_by_themselves(pg):
    model = pg.nn.MLP(2, [3, 1])
    with pg.scope("generator"):
        root = model([1.0, 2.0])
    found = rows(pg, root)
    assert {row.scope for row in found if row.kind == "operation"} == {
        *(f"generator/layer1/neuron{i}" for i in (1, 2, 3)),
        "generator/layer2/neuron1",
    }
    assert sum(row.kind == "parameter" for row in found) == len(model.parameters())
    assert sum(row.kind == "constant" for row in found) == 2 * 3
    steps = pg.nn.Sequential(pg.nn.Layer(2, 2), pg.nn.RMSNorm(2), pg.nn.softmax)
    assert {"step1/neuron1", "step2", "step3"} <= {row.scope for row in rows(pg, sum(steps([1.0, 2.0]), pg.Value(0)))}


def test_a_failing_layer_leaves_no_scope_behind(pg):
    model = pg.nn.MLP(2, [3, 1])
    with pytest.raises(ValueError, match="takes 2 inputs, not 3"):
        model([1.0, 2.0, 3.0])
    assert rows(pg, pg.Value(1.0))[-1].scope == ""


def test_small_graphs_are_not_folded(pg):
    root = pg.nn.MLP(2, [3, 1])([1.0, 2.0])
    folded = pg._views.folding.fold(root)
    assert folded.size == len(rows(pg, root)) and folded.vertices == rows(pg, root)
    assert [(e.source, e.target) for e in folded.edges] == [
        (operand, i) for i, row in enumerate(rows(pg, root)) for operand in row.operands
    ]


def test_a_network_folds_to_layers_neurons_and_one_neuron(pg):
    model, loss = moons_graph(pg)
    count = len(rows(pg, loss))
    layers = pg._views.folding.fold(loss)
    assert {"layer1", "layer2", "layer3", "inputs", "nodes further from the root"} == set(names(layers))
    assert len(layers.vertices) < 40 and layers.vertices[layers.root] == rows(pg, loss)[-1]
    neurons = names(pg._views.folding.fold(loss, collapse=2))
    assert sum("/neuron" in title for title in neurons) == 33
    assert neurons["layer2/neuron3"].calls == 100 and neurons["layer2/neuron3"].nodes == 100 * 33 + 17
    one = pg._views.folding.fold(loss, unfold="layer2/neuron3")
    titles = names(one)
    assert {"layer1", "layer3", "layer2/neuron2", "layer2/neuron3, other calls"} <= set(titles)
    assert titles["layer2/neuron3, other calls"].calls == 99
    shown = [v for v in one.vertices if getattr(v, "scope", "") == "layer2/neuron3"]
    assert sorted(v.op for v in shown) == ["*"] * 16 + ["+"] * 16 + ["ReLU"]
    for folded in (
        layers,
        one,
        pg._views.folding.fold(loss, collapse=0),
        pg._views.folding.fold(loss, collapse=["layer1", "layer3"]),
    ):
        assert sum(getattr(v, "nodes", 1) for v in folded.vertices) == count
        assert sum(not hasattr(v, "title") for v in folded.vertices) <= 200
    del model


def test_a_graph_without_scopes_folds_by_distance(pg):
    x = pg.Value(1.0, label="x")
    y = x
    for _ in range(5000):
        y = (y + x) * 0.5
    folded = pg._views.folding.fold(y, max_nodes=30)
    assert sum(getattr(v, "nodes", 1) for v in folded.vertices) == folded.size == len(rows(pg, y))
    assert len(folded.vertices) <= 33 and "nodes further from the root" in names(folded)
    wide = pg.Value(1.0, [pg.Value(i) for i in range(5000)], "many")
    assert sum(not hasattr(v, "title") for v in pg._views.folding.fold(wide, max_nodes=50).vertices) == 50


@pytest.mark.parametrize(
    "arguments",
    [
        {"collapse": "layer9"},
        {"unfold": "layer1/neuron99"},
        {"collapse": -1},
        {"collapse": True},
        {"unfold": 2},
        {"max_nodes": 0},
        {"max_nodes": 2.5},
        {"show": "date"},
        {"precision": 18},
        {"color": "red"},
    ],
)
def test_wrong_arguments_of_drawings_are_named(pg, arguments):
    model, loss = moons_graph(pg, 2)
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        pg.draw_dot(loss, **arguments)
    with pytest.raises(TypeError, match="collapse"):
        pg.draw_dot(loss, collapse=[3])
    del model


def test_drawings_show_what_is_asked_for(pg):
    x = pg.nn.Parameter(2.0, label="x")
    y = x * 3 + pg.Value(1.0)
    y.backward()
    source = pg.draw_dot(y, show="grad", precision=1).source
    assert "grad 3.0" in source and "data" not in source
    assert all(look in source for look in ('fillcolor="#dbe9ff"', 'style="dashed"', 'style="rounded"'))
    painted = pg.draw_dot(y - 7 * x, color="grad").source
    assert painted.count("fillcolor=") >= 3
    assert "data" not in pg.draw_dot(y, show="").source


def test_a_folded_drawing_renders(pg):
    if sys.modules["pygrad._views.drawing"].find_renderer() is None:
        pytest.skip("nothing to render graphs with")
    model, loss = moons_graph(pg)
    svg = pg.draw_dot(loss).pipe(encoding="utf-8")
    assert "53,072 nodes" in svg and "layer3" in svg and "nodes further from the root" in svg
    del model


def test_json_has_kinds_and_scopes(pg):
    import json

    root = pg.nn.MLP(2, [2, 1])([1.0, 2.0])
    nodes = json.loads(pg.to_json(root))["nodes"]
    assert {node["kind"] for node in nodes} == {"operation", "parameter", "constant"}
    assert any(node["scope"] == "layer1/neuron2" for node in nodes)


def test_backward_can_stop_at_the_first_number_that_is_none(pg):
    x, w = pg.Value(3.0, label="x"), pg.Value(2.0, label="w")
    with pg.scope("head"):
        y = x * w
        y.label = "y"
        z = y + 1
    y.data = math.inf
    root = z - z
    with pytest.raises(FloatingPointError, match=r"\* 'y' in scope head is inf, of x = 3.0, w = 2.0") as error:
        root.backward(check=True)
    assert "detect_anomaly" in str(error.value) and (x.grad, w.grad) == (0.0, 0.0)
    x.grad = math.nan
    with pytest.raises(FloatingPointError, match="the leaf 'x' has the grad nan from before this pass"):
        (x * 2).backward(check=True)


def test_backward_can_stop_at_the_first_grad_that_is_none(pg):
    x = pg.Value(0.0, label="x")
    root = x.sqrt() * 3
    with pytest.raises(
        FloatingPointError, match="sqrt with the grad 3.0 gives x the grad inf .its partial derivative is inf; x = 0.0"
    ):
        root.backward(check=True)
    fine = pg.Value(4.0)
    (fine.sqrt() * 3).backward(check=True)
    assert fine.grad == 0.75
    wrong = pg.custom_op(lambda a: a, lambda g, v, a: math.nan)
    with pytest.raises(FloatingPointError, match="gives operand 1 the grad nan"):
        wrong(pg.Value(1.0)).backward(check=True)


def test_within_detect_anomaly_the_line_is_named(pg):
    def model(x):
        y = x * 2
        return y.log() * y  # the line

    before = sys.gettrace()
    with pg.detect_anomaly():
        x = pg.Value(0.0)
        y = x + 5e-324
        with pytest.raises(FloatingPointError, match=r"test_scopes.py:\d+: return y.log\(\) \* y  # the line") as error:
            model(y).backward()
        z = y.sqrt() / 1e-300
        assert "test_scopes.py" in rows(pg, z)[-1].line
    assert sys.gettrace() is before and "log with the grad" in str(error.value)
    model(y).backward()  # unchecked again
    assert math.isinf(x.grad)


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("transform", ["grad", "hessian", "value_and_grad", "vmap"])
def test_within_detect_anomaly_a_transform_names_the_line_of_its_first_inf(pg, transform, record):
    def length(x):
        squares = x * x
        return pg.math.sqrt(squares.sum())  # the line

    def whole(x):
        return pg.vmap(lambda t: pg.grad(length)(np.stack([t]))[0])(x)

    np = pytest.importorskip("numpy")
    function = getattr(pg, transform)(length, record=record) if transform != "vmap" else pg.jit(whole, record=record)
    good, bad = np.ones(2), np.zeros(2)
    tree = pg.tree_leaves(function(good))
    assert all(np.isfinite(x).all() for x in tree)
    assert not all(np.isfinite(x).all() for x in pg.tree_leaves(function(bad)))  # and no error
    with pg.detect_anomaly():
        with pytest.raises(FloatingPointError, match=r"is inf, of .* = 0.0\n.*test_scopes.py:\d+: return .*# the line"):
            function(bad)
        assert all(np.array_equal(x, y) for x, y in zip(pg.tree_leaves(function(good)), tree))
    assert not all(np.isfinite(x).all() for x in pg.tree_leaves(function(bad)))


def test_a_nan_that_an_earlier_pass_left_in_a_constant_is_no_origin(pg):
    """Nobody can set it to 0: it belongs to the 1 of x - 1."""
    x = pg.Value(1.0, label="x")
    y = ((x - 1) ** 2) ** 0.5
    y.backward()
    assert math.isnan(x.grad)
    x.grad = 0.0
    with pytest.raises(FloatingPointError, match=r"\*\*0.5 with the grad 1.0 gives operand 1 the grad inf"):
        y.backward(check=True)


def test_the_grad_of_a_constant_may_overflow(pg):
    x = pg.Value(1e300)
    (x * 1e-300 * 1e10).backward(check=True)  # 1e310 for 1e-300, which nobody reads
    assert x.grad == 1e-290


def test_checked_and_plain_backward_agree(pg):
    model, loss = moons_graph(pg, 5)
    loss.backward()
    plain = [p.grad for p in model.parameters()]
    model.zero_grad()
    loss.backward(check=True)
    assert [p.grad for p in model.parameters()] == plain and any(plain)


def test_calls_in_scopes_leave_the_scope_as_it_was(pg):
    seen = []

    def look(x):
        seen.append((x, pg._core.layer.present_scope()))
        return x

    def raises(x):
        raise KeyError(x)

    before = pg._core.layer.present_scope()
    first = pg._core.scopes.series(before, "step", 3).start
    assert pg._core.layer.call_in_scopes([look, look], "x", first) == ["x", "x"]
    assert seen == [("x", first), ("x", first + 1)]
    assert pg._core.layer.present_scope() == before
    with pytest.raises(KeyError, match="y"):
        pg._core.layer.call_in_scopes([look, raises, look], "y", first)
    assert seen[2:] == [("y", first)]
    assert pg._core.layer.present_scope() == before
    assert pg._core.layer.export(pg.Value(1.0)).rows[0].scope == before


def names_in_use(pg):
    scopes = pg._core.scopes._scopes
    return scopes.alive, len(scopes.names), len(pg._core.scopes._lines)


def test_names_that_nobody_uses_are_forgotten(pg):
    """Names of graphs, of open scopes, and of threads within scopes are kept."""
    old = [pg.Value(1.0) for _ in range(2)]
    with pg.scope("old/kept"):
        kept = (old[0] * old[1]).tanh()
    network = pg.nn.MLP(2, [3, 1])
    out = network([pg.Value(0.5), pg.Value(-0.5)])
    before = [row.scope for row in rows(pg, out)], [row.scope for row in rows(pg, kept)]
    inside, go = threading.Event(), threading.Event()
    seen = []

    def work():
        with pg.scope("thread"):
            inside.set()
            go.wait(60)
            with pg.scope("in it"):
                seen.append(rows(pg, pg.Value(2.0) * 3.0)[-1].scope)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    count = 1_000_000 if os.environ.get("LONG") else 150_000
    with pg.scope("outer") as outer:
        for i in range(count):
            with pg.scope(f"name{i}"):
                last = pg.Value(1.0)
        assert [row.scope for row in rows(pg, last * last)] == [f"outer/name{count - 1}", "outer"]
        with outer:
            assert rows(pg, last.exp())[-1].scope == "outer/outer"
    go.set()
    thread.join()
    assert seen == ["thread/in it"]
    assert ([row.scope for row in rows(pg, out)], [row.scope for row in rows(pg, kept)]) == before
    print(names_in_use(pg))
    assert max(names_in_use(pg)) < 140_000
    again = network([pg.Value(0.5), pg.Value(-0.5)])
    assert [row.scope for row in rows(pg, again)] == before[0]


def test_names_that_come_and_go_are_never_mistaken(pg, rng, monkeypatch):
    """Thousands of names with a tiny limit: kept nodes keep their names."""
    monkeypatch.setattr(pg._core.scopes, "_NAMES_AT_LEAST", 20)
    pg._core.scopes._scopes.limit = 20
    kept = []
    for step in range(600):
        names = [f"s{rng.randrange(10**6)}" + "/x" * rng.randrange(2) for _ in range(rng.randint(1, 3))]
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(pg.scope(name))
                if rng.random() < 0.1:
                    list(pg._core.scopes.each("part", range(rng.randint(0, 4))))
            if rng.random() < 0.2:  # a scope without nodes, left and entered again
                parts = pg._core.scopes.each("part", range(2))
                next(parts)
                for _ in range(rng.randint(0, 30)):
                    with pg.scope(f"s{rng.randrange(10**6)}"):
                        pass
                value = pg.Value(1.0).exp()
                names.append("part1")
                parts.close()
            else:
                value = pg.Value(1.0).exp()
        kept.append((value, "/".join(names)))
        if len(kept) > 30:
            del kept[rng.randrange(len(kept))]
        if step % 20 == 0:
            for value, path in kept:
                assert [row.scope for row in pg._views.table.node_table(value)] == [path] * 2
    assert pg._core.scopes._scopes.alive < 500


def test_names_in_a_table_in_use_are_kept_until_it_has_gone(pg, monkeypatch):
    scopes = pg._core.scopes
    monkeypatch.setattr(scopes, "_NAMES_AT_LEAST", 20)
    monkeypatch.setattr(scopes._scopes, "limit", 20)
    end_dead_objects()  # tables of tests before

    def enter(names):
        for name in names:
            with pg.scope(name):
                pg.Value(1.0)

    with pg.scope("in the table"):
        value = pg.Value(1.0)
    table = pg._core.layer.export(value)
    del value
    pg.collect()
    enter(f"first{i}" for i in range(100))
    assert scopes.path(table.rows[0].scope) == ("in the table",) and scopes._scopes.alive >= 100
    del table
    end_dead_objects()
    enter(f"then{i}" for i in range(100))
    assert scopes._scopes.alive < 80


def test_lines_that_nobody_uses_are_forgotten(pg, monkeypatch):
    monkeypatch.setattr(pg._core.scopes, "_NAMES_AT_LEAST", 100)
    monkeypatch.setattr(pg._core.scopes, "_lines_at_most", 100)
    pg._core.scopes.tag_line("kept.py:1")
    kept = pg.Value(1.0)
    for i in range(1000):
        pg._core.scopes.tag_line(f"file.py:{i}")
        last = pg.Value(1.0)
    pg._core.scopes.tag_line("")
    assert [row.line for value in (kept, last) for row in rows(pg, value)] == ["kept.py:1", "file.py:999"]
    assert len(pg._core.scopes._lines) <= 110 and len(pg._core.scopes._line_numbers) == len(pg._core.scopes._lines) - 1
