"""Drawing: the graph below a Value as boxes and ovals, as in the micrograd notebooks; large ones folded.

Everything here walks the node table that C exports in one call.
"""

from __future__ import annotations

import math
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, cast

import graphviz
from graphviz.backend import dot_command

from pygrad._pgr import lib
from pygrad.engine import Value, node_values
from pygrad.folding import MAX_NODES, Collapse, Fold, Folded, fold
from pygrad.listing import steps
from pygrad.program import Program
from pygrad.table import Row, shortened
from pygrad.text import visible

INSTRUCTIONS_AT_MOST = 1000
PRODUCTS_AT_MOST = 20_000
_STRING_AT_MOST = 16_000  # bytes; dot fails for strings from 16,384 on
SHOWN = ("data", "grad")

# What leaves look like, so that constants are told from parameters and from inputs.
_LOOKS = {
    "operation": {},
    "input": {"style": "rounded"},
    "parameter": {"style": "filled", "fillcolor": "#dbe9ff"},
    "constant": {"style": "dashed", "color": "gray40", "fontcolor": "gray40"},
}
_FOLD_LOOKS = {"shape": "box", "style": "filled", "fillcolor": "#eeeeee", "peripheries": "2"}


def trace(root: Value) -> tuple[list[Value], list[tuple[Value, Value]]]:
    """Nodes and edges below `root`, operands before results; an operand used twice has two edges."""
    found = node_values(root)
    nodes = [value for value, _ in found]
    return nodes, [(nodes[i], value) for value, operands in found for i in operands]


def find_renderer() -> str | None:
    """The program that renders: `dot` where it is on the PATH, else PyPI's graphviz-pure, else None."""
    found = shutil.which("dot") or shutil.which("graphviz-pure")
    if found is None:  # installed in a virtual environment that is not activated
        beside = Path(sysconfig.get_path("scripts")) / ("graphviz-pure.exe" if os.name == "nt" else "graphviz-pure")
        found = str(beside) if beside.exists() else None
    return found


def _use_renderer() -> None:
    found = find_renderer()
    if found is None:
        raise RuntimeError(
            "no program to render graphs with: pip install 'pygrad[draw]', or install Graphviz so that "
            "`dot` is on the PATH; .source has the graph as text without it"
        )
    if Path(found).stem != "dot":
        dot_command.DOT_BINARY = Path(found)


class Drawing(graphviz.Digraph):
    """A graphviz.Digraph that finds its renderer, or says what to install.

    `node` and `edge` take text of the form <...> for HTML, and write it bare, with all that is in it. So this module
    draws by `put` and `join`, which quote all text.
    """

    def put(self, name: str, *lines: str, **looks: str) -> None:
        """Add a node: lines of text, the fields of a record if its shape is one."""
        label = "\\n".join(map(_text, lines))
        if looks.get("shape") == "record":
            label = f"{{ {' | '.join([_text(line, special='{}|<>') for line in lines])} }}"
        self.body.append(f'\t{name} [label="{label}"{_attributes(looks)}]\n')

    def join(self, tail: str, head: str, **looks: str) -> None:
        """Add an edge between nodes of these names."""
        self.body.append(f"\t{tail} -> {head}{f' [{_attributes(looks)} ]' if looks else ''}\n")

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        """As graphviz.Digraph.pipe: the picture, as bytes or text. RuntimeError if nothing can render."""
        _use_renderer()
        return super().pipe(*args, **kwargs)

    def render(self, *args: Any, **kwargs: Any) -> str:
        """As graphviz.Digraph.render: writes the picture. RuntimeError if nothing can render."""
        _use_renderer()
        return cast(str, super().render(*args, **kwargs))

    def _repr_mimebundle_(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        _use_renderer()
        return cast("dict[str, str]", super()._repr_mimebundle_(*args, **kwargs))


def _text(text: str, special: str = "", backslash: str = "\\\\") -> str:
    """Text as DOT shows it, where backslashes and entities mean something, and `special` too; cut to what dot reads."""
    written = {"\\": backslash, "&": "&amp;", '"': '\\"', **{c: f"\\{c}" for c in special}}
    parts = [written.get(c, c) for c in visible(text)]
    room = _STRING_AT_MOST
    if 5 * len(parts) > room:  # 5 is the size of &amp;
        for i, part in enumerate(parts):
            room -= len(part.encode())
            if room < 0:
                parts[i:] = [" …"]
                break
    return "".join(parts)


def _attributes(looks: dict[str, str]) -> str:
    # Graphviz replaces escapes in tooltips twice.
    return "".join([f' {key}="{_text(text, backslash=chr(92) * 4)}"' for key, text in looks.items()])


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
    folded: by scope (see pygrad.scope; those of nn are layer1, layer1/neuron1, ...), and what is in none beyond a
    distance from the root. Folds say how many nodes they hold.
    collapse: the scopes to fold: a depth, 1 for layers, 2 for neurons, 0 for none; or names.
    unfold: names of scopes to show node by node, by their first call: "layer2/neuron3".
    show: of "data" and "grad" what boxes show. precision: decimals. color: "grad" paints boxes by their grad, blue
    below 0, red above, the stronger the larger.
    format: svg, png, pdf, ..., of what .render() writes and .pipe() returns. rankdir: 'LR', left to right, or 'TB',
    top to bottom. In Jupyter the result shows itself. ValueError, TypeError for arguments that are none of these.

    A recorded Program is drawn by its instructions, those of lanes in a frame of their own; ValueError if there are
    more than 1,000. Of the arguments it takes format and rankdir.
    """
    if rankdir not in ("LR", "TB"):
        raise ValueError(f"rankdir={rankdir!r}: must be 'LR' or 'TB'")
    if color not in (None, "grad"):
        raise ValueError(f"color={color!r}: must be 'grad' or None")
    if isinstance(precision, bool) or not isinstance(precision, int) or not 0 <= precision <= 17:
        raise ValueError(f"precision={precision!r}: must be an int from 0 to 17")
    fields = show.split() if isinstance(show, str) else [show]
    if not all(field in SHOWN for field in fields):
        raise ValueError(f"show={show!r}: must be of the words {' and '.join(map(repr, SHOWN))}")
    # Monospaced fonts are alike in width, so text fits its box whichever one the viewer has.
    drawing = Drawing(format=format, graph_attr={"rankdir": rankdir}, node_attr={"fontname": "Courier"})
    if isinstance(root, Program):
        _draw_program(drawing, root)
        return drawing
    folded = fold(root, max_nodes, collapse, unfold)
    largest = _largest_grad(folded) if color else 0.0
    for i, vertex in enumerate(folded.vertices):
        if isinstance(vertex, Fold):
            drawing.put(f"n{i}", shortened(vertex.title), vertex.text, **_FOLD_LOOKS)
            continue
        parts = [shortened(vertex.label)] if vertex.label else []
        parts += [f"{field} {getattr(vertex, field):.{precision}f}" for field in fields]
        looks = dict(_LOOKS[vertex.kind])
        if color:
            looks.update(_paint(vertex.grad, largest))
        if vertex.scope or shortened(vertex.label) != vertex.label:
            looks["tooltip"] = " in ".join(filter(None, (vertex.label, vertex.scope)))
        drawing.put(f"n{i}", *parts, shape="record", **looks)
        if vertex.op:
            drawing.put(f"op{i}", shortened(vertex.op))
            drawing.join(f"op{i}", f"n{i}")
    for edge in folded.edges:
        into = folded.vertices[edge.target]
        target = f"op{edge.target}" if isinstance(into, Row) and into.op else f"n{edge.target}"
        ends = (into, folded.vertices[edge.source])
        if edge.operands > 1 and any(isinstance(end, Fold) for end in ends):
            drawing.join(
                f"n{edge.source}", target, tooltip=f"{edge.operands:,} operands", penwidth=_width(edge.operands)
            )
        else:
            for _ in range(edge.operands):
                drawing.join(f"n{edge.source}", target)
    return drawing


def _width(count: int) -> str:
    return f"{min(4.0, 1 + math.log10(count)):.1f}"


def _largest_grad(folded: Folded) -> float:
    grads = [abs(v.grad) for v in folded.vertices if isinstance(v, Row) and math.isfinite(v.grad)]
    return max(grads, default=0.0)


def _paint(grad: float, largest: float) -> dict[str, str]:
    """How a box shows its grad: its sign by the hue, its size over three decades by how strong it is."""
    if not math.isfinite(grad):
        return {"style": "filled", "fillcolor": "#ffd500"}
    if not grad:
        return {}
    strength = max(0.1, 1 + math.log10(abs(grad) / largest) / 3)
    weak = round(255 * (1 - 0.6 * strength))
    fill = f"#ff{weak:02x}{weak:02x}" if grad > 0 else f"#{weak:02x}{weak:02x}ff"
    return {"style": "filled", "fillcolor": fill}


def _draw_program(drawing: graphviz.Digraph, program: Program) -> None:
    """A box for each argument, number and result, an oval for each instruction."""
    parts = program.parts()
    ops = [(i.op, i.b) for i in parts.instructions[0 : parts.instruction_count]]
    shown = sum(op not in (lib.PGR_PROGRAM_RUN, lib.PGR_PROGRAM_LOAD) for op, _ in ops)
    shown += sum(parts.outputs[i].node != lib.PGR_SLOT_LANE for i in range(parts.output_count))
    if shown > INSTRUCTIONS_AT_MOST:
        raise ValueError(
            f"the program has {shown} instructions and results, more than the {INSTRUCTIONS_AT_MOST} that can be "
            "drawn legibly: print(program) lists them"
        )
    products = sum(parts.dots[dot].count for op, dot in ops if op == lib.PGR_PROGRAM_DOT)
    if products > PRODUCTS_AT_MOST:
        raise ValueError(
            f"the program's dots have {products} products, more than the {PRODUCTS_AT_MOST} that can be drawn "
            "legibly: print(program) lists them"
        )
    found = list(steps(program))
    ids: dict[tuple[Any, ...], str] = {}
    for group in dict.fromkeys(step.group for step in found):
        part = Drawing(
            name="once" if group is None else f"cluster{group}",
            graph_attr={}
            if group is None
            else {"label": f"for each of {parts.group_lanes[group]} lanes", "fontname": "Courier"},
        )
        for i, step in enumerate(found):
            if step.group != group:
                continue
            for source, name in zip(step.sources, step.operands):
                if source not in ids and source[0] != "result":
                    ids[source] = f"a{len(ids)}"
                    part.put(ids[source], shortened(name), shape="box")
            label, shape = (step.operation, "oval") if step.operation else (step.result, "box")
            part.put(f"i{i}", shortened(label), shape=shape)
            if step.operation:
                ids["result", step.number] = f"i{i}"
        drawing.subgraph(part)
    for i, step in enumerate(found):
        for source in step.sources:
            drawing.join(ids[source], f"i{i}")


def mimebundle(root: Value) -> dict[str, str]:
    """What Jupyter shows of a Value: its repr and, if it can be rendered, its graph."""
    bundle = {"text/plain": repr(root)}
    if find_renderer() is not None:
        bundle["image/svg+xml"] = draw_dot(root).pipe(format="svg", encoding="utf-8")
    return bundle
