"""Drawing: the graph below a Value as boxes and ovals, as in the micrograd notebooks; large ones folded.

Everything here walks the node table that C exports in one call.
"""

from __future__ import annotations

import math

import graphviz

from pygrad._core.layer import node_values
from pygrad._core.text import shortened
from pygrad._program.program import Program
from pygrad._views import drawing
from pygrad._views.draw_program import draw_program
from pygrad._views.folding import MAX_NODES, OTHER_CALLS, Collapse, Fold, Folded, fold
from pygrad._views.table import Row
from pygrad.engine import Value

SHOWN = ("data", "grad")
DENSE = 60  # edges between folds, from which on they are drawn thin

# Leaves differ in looks, to tell constants, parameters and inputs apart.
_LOOKS = {
    "operation": {},
    "input": {"style": "rounded"},
    "parameter": {"style": "filled", "fillcolor": "#dbe9ff"},
    "constant": {"style": "dashed", "color": "gray40", "fontcolor": "gray40"},
}
_FOLD_LOOKS = {"shape": "box", "style": "filled", "fillcolor": "#eeeeee", "peripheries": "2"}


def trace(root: Value) -> tuple[list[Value], list[tuple[Value, Value]]]:
    """Nodes and edges below `root`, operands before results; an operand used twice has two edges.

    Raises TypeError for anything but a Value.

    >>> x = Value(2.0)
    >>> nodes, edges = trace(x * x)
    >>> len(nodes), len(edges)
    (2, 2)
    """
    found = node_values(root)
    nodes = [value for value, _ in found]
    return nodes, [(nodes[i], value) for value, operands in found for i in operands]


def draw_dot(
    root: Value | Program,
    format: str = "svg",  # noqa: A002
    rankdir: str = "LR",
    *,
    max_nodes: int = MAX_NODES,
    collapse: Collapse = None,
    unfold: Collapse = None,
    show: str = "data grad",
    precision: int = 4,
    color: str | None = None,
) -> graphviz.Digraph:
    """The graph below `root`: a box {label | data | grad} for each value, an oval for each operation.

    Constants are dashed, parameters of pygrad.nn blue, other leaves round. A graph of more than `max_nodes` nodes is
    folded by scope (see pygrad.scope; nn makes layer1, layer1/neuron1, ...); nodes outside of scopes are folded beyond
    a distance from the root. Each fold shows its number of nodes.
    collapse: the scopes to fold: a depth, 1 for layers, 2 for neurons, 0 for none; or names.
    unfold: names of scopes to show node by node, in their first call: "layer2/neuron3".
    show: "data", "grad" or both. precision: decimals. color: "grad" paints boxes by their grad, blue below 0, red
    above, stronger for larger ones.
    format: svg, png, pdf, ..., for .render() and .pipe(). rankdir: 'LR', left to right, or 'TB', top to bottom. In
    Jupyter the result displays as a picture. Raises ValueError or TypeError for other arguments.

    A recorded Program is drawn by its instructions, with a frame around those of lanes; it takes format and rankdir
    only. Raises ValueError for more than 1,000 instructions.

    >>> graph = draw_dot(Value(2.0) * 3.0)
    >>> graph.source.splitlines()[0]
    'digraph {'
    """
    fields = _fields(format, rankdir, show, precision, color)
    # Monospaced fonts have similar widths, so text fits its box with any of them.
    graph = drawing.Drawing(format=format, graph_attr={"rankdir": rankdir}, node_attr={"fontname": "Courier"})
    if isinstance(root, Program):
        draw_program(graph, root.code)
        return graph
    folded = fold(root, max_nodes, collapse, unfold)
    largest = _largest_grad(folded) if color else 0.0
    if _is_dense(folded):  # edges between layers would be one black bar
        graph.attr("graph", ranksep="3")
        graph.attr("edge", color="gray60", arrowsize="0.5")
    names = _names(folded)
    for i, vertex in enumerate(folded.vertices):
        if isinstance(vertex, Fold):
            graph.put(f"n{i}", shortened(vertex.title), vertex.text, **_FOLD_LOOKS)
            continue
        parts = [shortened(vertex.label)] if vertex.label else []
        parts += [f"{field} {getattr(vertex, field):.{precision}f}" for field in fields]
        looks = {**_looks(vertex), **(_paint(vertex.grad, largest) if color else {})}
        for name in dict.fromkeys(names.get(i, {0: f"n{i}"}).values()):
            graph.put(name, *parts, shape="record", **looks)
        if vertex.op:
            graph.put(f"op{i}", shortened(vertex.op))
            graph.join(f"op{i}", f"n{i}")
    for edge in folded.edges:
        into = folded.vertices[edge.target]
        target = f"op{edge.target}" if isinstance(into, Row) and into.op else f"n{edge.target}"
        ends = (into, folded.vertices[edge.source])
        source = names.get(edge.source, {}).get(edge.target, f"n{edge.source}")
        if edge.operands > 1 and any(isinstance(end, Fold) for end in ends):
            width = "0.5" if _is_dense(folded) else _width(edge.operands)
            graph.join(source, target, tooltip=f"{edge.operands:,} operands", penwidth=width)
        else:
            for _ in range(edge.operands):
                graph.join(source, target)
    return graph


def _is_dense(folded: Folded) -> bool:
    folds = [isinstance(vertex, Fold) for vertex in folded.vertices]
    return sum(folds[edge.source] and folds[edge.target] for edge in folded.edges) > DENSE


def _names(folded: Folded) -> dict[int, dict[int, str]]:
    """Of parameters that several scopes use, such as the steps of an RNN: a box for each scope, by user."""
    found: dict[int, dict[int, str]] = {}
    for edge in folded.edges:
        source, user = folded.vertices[edge.source], folded.vertices[edge.target]
        if isinstance(source, Row) and source.kind == "parameter":
            place = user.title.replace(OTHER_CALLS, "") if isinstance(user, Fold) else user.scope
            found.setdefault(edge.source, {})[edge.target] = place
    for i, users in found.items():
        places = {place: k for k, place in enumerate(dict.fromkeys(users.values()))}
        for target, place in users.items():
            users[target] = f"n{i}" + (f"s{places[place]}" if places[place] else "")
    return found


def _fields(kind: str, rankdir: str, show: str, precision: int, color: str | None) -> list[str]:
    """The fields of boxes. Raises ValueError for arguments of draw_dot that are out of range."""
    if "." in kind:
        name = kind.rpartition(".")[0]
        raise ValueError(f"format={kind!r}: must be a format, 'svg'; to write a file: draw_dot(v).render({name!r})")
    if rankdir not in ("LR", "TB"):
        raise ValueError(f"rankdir={rankdir!r}: must be 'LR' or 'TB'")
    if color not in (None, "grad"):
        raise ValueError(f"color={color!r}: must be 'grad' or None")
    if isinstance(precision, bool) or not isinstance(precision, int) or not 0 <= precision <= 17:
        raise ValueError(f"precision={precision!r}: must be an int from 0 to 17")
    fields = show.split() if isinstance(show, str) else [show]
    if not all(field in SHOWN for field in fields):
        raise ValueError(f"show={show!r}: must consist of the words {' and '.join(map(repr, SHOWN))}")
    return fields


def _looks(row: Row) -> dict[str, str]:
    looks = dict(_LOOKS[row.kind])
    if row.scope or shortened(row.label) != row.label:
        looks["tooltip"] = " in ".join(filter(None, (row.label, row.scope)))
    return looks


def _width(count: int) -> str:
    return f"{min(4.0, 1 + math.log10(count)):.1f}"


def _largest_grad(folded: Folded) -> float:
    grads = [abs(v.grad) for v in folded.vertices if isinstance(v, Row) and math.isfinite(v.grad)]
    return max(grads, default=0.0)


def _paint(grad: float, largest: float) -> dict[str, str]:
    """A box's colours for its grad: the hue shows the sign, the strength the size, over three decades."""
    if not math.isfinite(grad):
        return {"style": "filled", "fillcolor": "#ffd500"}
    if not grad:
        return {}
    strength = max(0.1, 1 + math.log10(abs(grad) / largest) / 3)
    weak = round(255 * (1 - 0.6 * strength))
    fill = f"#ff{weak:02x}{weak:02x}" if grad > 0 else f"#{weak:02x}{weak:02x}ff"
    return {"style": "filled", "fillcolor": fill}


def mimebundle(root: Value) -> dict[str, str]:
    """For Jupyter: a Value's repr and, if it can be rendered, its graph."""
    bundle = {"text/plain": repr(root)}
    if drawing.find_renderer() is not None:
        bundle["image/svg+xml"] = drawing.fitted(draw_dot(root).pipe(format="svg", encoding="utf-8"))
    return bundle
