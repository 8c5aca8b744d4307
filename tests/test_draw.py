"""Drawing: the graph's structure in DOT and SVG, text that is special to DOT, rendering."""

from __future__ import annotations

import re
import shutil
import sys
import xml.etree.ElementTree as ET

import graphviz
import pytest
from helpers import neuron

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def draw(pg):
    del pg
    return sys.modules["pygrad._views.drawing"]


def structure(svg):
    """An SVG's texts in boxes, its texts in ovals, and its edges as pairs of titles."""
    root = ET.fromstring(svg)
    boxes, ovals, edges = [], [], []
    for group in root.iter(f"{SVG}g"):
        texts = ["".join(t.itertext()) for t in group.findall(f"{SVG}text")]
        if group.get("class") == "node":
            (ovals if group.find(f"{SVG}ellipse") is not None else boxes).append(texts)
        elif group.get("class") == "edge":
            edges.append(tuple(group.find(f"{SVG}title").text.split("->")))
    return boxes, ovals, edges


def test_trace_gives_operands_first_and_every_edge(pg):
    x = pg.Value(2.0)
    y = x + x
    z = y * x
    nodes, edges = pg.trace(z)
    assert nodes == [x, y, z]
    assert edges == [(x, y), (x, y), (y, z), (x, z)]


def test_a_box_for_each_value_and_an_oval_for_each_operation(pg):
    svg = pg.draw_dot(neuron(pg)).pipe(encoding="utf-8")
    boxes, ovals, edges = structure(svg)
    flat = [[" ".join(t.split()) for t in box] for box in boxes]
    assert ["x", "data 2.0000", "grad -2.3593"] in flat
    assert ["o", "data 0.4621", "grad 1.0000"] in flat
    assert sorted(oval[0] for oval in ovals) == ["*", "+", "tanh"]
    assert len(boxes) == 6
    assert len(edges) == 3 + 5  # from each operation to its value, and from each operand


def test_same_operand_twice_draws_two_edges(pg):
    x = pg.Value(1.0)
    _, ovals, edges = structure(pg.draw_dot(x + x).pipe(encoding="utf-8"))
    assert ovals == [["+"]]
    assert len(edges) == 3 and len(set(edges)) == 2


def test_dot_shows_every_product_and_sum(pg):
    source = pg.draw_dot(pg.dot([pg.Value(1.0), pg.Value(2.0)], [3.0, 4.0], 1.0)).source
    assert (source.count('label="*"'), source.count('label="+"')) == (2, 2)


def test_constant_exponents_custom_operations_and_leaves(pg):
    x = pg.Value(2.0)
    source = pg.draw_dot(pg.Value(1.0, (x**2, x**-0.5, x), "mine")).source
    assert all(f'[label="{op}"]' in source for op in ("**2", "**-0.5", "mine"))
    assert source.count('shape="record"') == 4
    assert pg.draw_dot(x).source.count('shape="record"') == 1


def test_collected_handles_keep_their_labels_in_the_drawing(pg):
    x = pg.Value(2.0)
    h = x * 3
    h.label = "hidden"
    y = h + 1
    del h
    pg.collect()
    assert "hidden" in pg.draw_dot(y).source


@pytest.mark.parametrize(
    "label",
    [
        '"><script>alert(1)</script>',
        "{a|b}",
        "a\\nb",
        "\\",
        'quo"te',
        "<b>bold</b>",
        "<",
        "two\nlines",
        "π≈3 🙂",
        "a b",
        "&amp;",
        "\\N",
    ],
)
def test_labels_and_ops_are_shown_as_text(pg, label):
    v = pg.Value(1.0, label=label)
    boxes, ovals, _ = structure(pg.draw_dot(pg.Value(2.0, (v,), label)).pipe(encoding="utf-8"))
    shown = " ".join(label.split())
    assert shown in [" ".join(" ".join(oval).split()) for oval in ovals]
    assert shown in [" ".join(box[0].split()) for box in boxes]


def test_format_and_direction(pg):
    o = neuron(pg)
    assert pg.draw_dot(o, format="png").pipe()[:4] == b"\x89PNG"
    assert "rankdir=TB" in pg.draw_dot(o, rankdir="TB").source
    assert isinstance(pg.draw_dot(o), graphviz.Digraph)
    with pytest.raises(ValueError, match="rankdir='XX'"):
        pg.draw_dot(o, rankdir="XX")


def test_render_writes_the_picture(pg, tmp_path):
    path = pg.draw_dot(neuron(pg)).render(tmp_path / "graph", cleanup=True)
    assert re.search("<svg", (tmp_path / "graph.svg").read_text(encoding="utf-8")) and path.endswith("graph.svg")


def test_a_name_that_ends_with_the_format_is_the_files(pg, tmp_path):
    assert pg.draw_dot(neuron(pg)).render(tmp_path / "graph.svg", cleanup=True) == str(tmp_path / "graph.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.svg"]


def test_a_name_that_ends_with_another_format_gives_that_format(pg, tmp_path):
    drawing = pg.draw_dot(neuron(pg))
    assert drawing.render(tmp_path / "graph.png", cleanup=True) == str(tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["graph.png"] and drawing.format == "svg"
    assert drawing.render(tmp_path / "b.png", format="svg").endswith("b.png.svg")  # as graphviz


def test_formats_that_the_renderer_does_not_know_are_refused_with_its_words(pg, draw, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)  # not dot
    for use in (
        lambda: pg.draw_dot(neuron(pg), format="pdf").render(tmp_path / "graph"),
        lambda: pg.draw_dot(neuron(pg)).render(tmp_path / "graph", format="pdf"),
        lambda: pg.draw_dot(neuron(pg)).pipe("pdf"),
    ):
        with pytest.raises(
            RuntimeError, match='graphviz-pure: Format: "pdf" not recognized.*Graphviz, if you install it'
        ):
            use()


def test_jupyter_shows_graphs_of_any_size(pg):
    bundle = neuron(pg)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Value(data=") and "<svg" in bundle["image/svg+xml"]
    x = pg.Value(1.0)
    for _ in range(5000):
        x = x.sin()
    assert "nodes further from the root" in x._repr_mimebundle_()["image/svg+xml"]
    assert "image/svg+xml" in pg.draw_dot(neuron(pg))._repr_mimebundle_()


def test_dot_on_the_path_is_preferred(pg, draw, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert draw.find_renderer() == "/bin/dot"


def test_without_a_renderer_the_error_says_what_to_install(pg, draw, monkeypatch):
    monkeypatch.setattr(draw, "find_renderer", lambda: None)
    drawing = pg.draw_dot(neuron(pg))
    for use in (drawing.pipe, drawing.render, drawing._repr_mimebundle_):
        with pytest.raises(RuntimeError, match=r"pip install 'pygrad-engine\[draw\]'"):
            use()
    assert "digraph" in drawing.source
    assert set(neuron(pg)._repr_mimebundle_()) == {"text/plain"}


def test_a_hundred_thousand_nodes_are_tabled_without_recursion(pg):
    y = pg.Value(1.0)
    for _ in range(100_000):
        y = y.sin()
    table = pg._views.table.node_table(y)
    assert len(table) == 100_001
    assert all(row.operands == (i - 1,) for i, row in enumerate(table) if i)


def test_a_long_label_is_shortened_and_whole_on_hover(pg):
    label = '"><script>alert(1)</script>' * 400
    root = ET.fromstring(pg.draw_dot(pg.Value(2.0, label=label) * 2).pipe(encoding="utf-8"))
    assert f"{label[:29]} … {label[-28:]}" in [" ".join("".join(t.itertext()).split()) for t in root.iter(f"{SVG}text")]
    assert label in {a.get("{http://www.w3.org/1999/xlink}title") for a in root.iter(f"{SVG}a")}
    assert not list(root.iter(f"{SVG}script"))


def test_control_characters_cannot_turn_what_is_around_them(pg):
    source = pg.draw_dot(pg.Value(1.0, label="a\u202eb\u2066c\x00d\x1be\nf") * 2).source
    assert "\\u202e" in source and not any(c in source for c in "\u202e\u2066\x00\x1b")
    for text in (pg.to_text(pg.Value(1.0, label="a\u202eb")), pg.to_mermaid(pg.Value(1.0, label="a\u202eb"))):
        assert "\u202e" not in text and "202e" in text


# ---- Pictures of what is used again and again


def batch(pg):
    model = pg.nn.MLP(2, [16, 16, 1])
    with pg.scope("loss"):
        return sum((1 - model([0.1 * i, 1 - 0.1 * i])).relu() for i in range(100)) / 100


def test_one_neuron_of_a_batch_unfolds_into_few_boxes(pg):
    source = pg.draw_dot(batch(pg), unfold="loss/layer2/neuron3").source
    assert len(re.findall(r"^\t(?:n|op)\d+\w* \[", source, re.MULTILINE)) <= 69 + 33
    assert source.count("#dbe9ff") == 17  # its weights and bias
    assert "33 nodes x 99" in source and "33 nodes x 100" in source and len(source) < 40_000


def test_edges_between_many_folds_are_thin_and_far_apart(pg):
    root = batch(pg)
    widths = re.findall(r'penwidth="([\d.]+)"', pg.draw_dot(root, collapse=3).source)
    assert len(widths) > 256 and set(widths) == {"0.5"} and "ranksep=3" in pg.draw_dot(root, collapse=3).source
    assert "ranksep" not in pg.draw_dot(root).source


def test_the_weights_of_a_recurrent_network_are_drawn_once_per_step(pg):
    cell, h = pg.nn.Neuron(2, nonlin="tanh"), pg.Value(0.0)
    for step in range(3):
        with pg.scope(f"step{step}"):
            h = cell([0.5, h])
    source = pg.draw_dot(h).source
    assert source.count("#dbe9ff") == 3 * len(cell.parameters())
    edges = re.findall(r"(n\d+s?\d*) -> (op\d+)", source)
    assert len({source for source, _ in edges}) >= 9 and all(f"\t{name} [" in source for name, _ in edges)
    assert sum(name in {a for a, _ in edges} for name in re.findall(r"\t(n\d+s\d+) \[", source)) == 6


def test_a_notebook_shows_the_whole_picture(pg):
    for shown in (pg.Value(1.0) * 2, pg.draw_dot(pg.Value(1.0) * 2)):
        svg = shown._repr_mimebundle_()["image/svg+xml"]
        assert svg.count("<svg ") == 1 and '<svg style="max-width:100%;height:auto" ' in svg
