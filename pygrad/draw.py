"""Drawing: the graph below a Value as boxes and ovals, as in the micrograd notebooks.

Everything here walks the node table that C exports in one call.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, cast

import graphviz
from graphviz.backend import dot_command

from pygrad.engine import Value, node_table, node_values
from pygrad.listing import steps
from pygrad.program import Program
from pygrad.text import visible

SHOWN_AT_MOST = 200  # nodes that Jupyter shows by itself
INSTRUCTIONS_AT_MOST = 1000


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
    """A graphviz.Digraph that finds its renderer, or says what to install."""

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


def _text(text: str, special: str = "\\") -> str:
    """Text as DOT shows it, where backslashes and entities mean something, and `special` too."""
    return "".join(f"\\{c}" if c in special else "&amp;" if c == "&" else c for c in visible(text))


def draw_dot(root: Value | Program, format: str = "svg", rankdir: str = "LR") -> graphviz.Digraph:  # noqa: A002
    """The graph below `root`: a box {label | data | grad} for each value, an oval for each operation.

    A recorded Program is drawn by its instructions, those of lanes in a frame of their own; ValueError if there are
    more than 1,000. format: svg, png, pdf, ..., of what .render() writes and .pipe() returns. rankdir: 'LR', left to
    right, or 'TB', top to bottom; else ValueError. In Jupyter the result shows itself.
    """
    if rankdir not in ("LR", "TB"):
        raise ValueError(f"rankdir={rankdir!r}: must be 'LR' or 'TB'")
    # Monospaced fonts are alike in width, so text fits its box whichever one the viewer has.
    drawing = Drawing(format=format, graph_attr={"rankdir": rankdir}, node_attr={"fontname": "Courier"})
    if isinstance(root, Program):
        _draw_program(drawing, root)
        return drawing
    for i, row in enumerate(node_table(root)):
        label = _text(row.label, special='\\{}|<>"') + " | " if row.label else ""
        drawing.node(f"n{i}", f"{{ {label}data {row.data:.4f} | grad {row.grad:.4f} }}", shape="record")
        target = f"n{i}"
        if row.op:
            target = f"op{i}"
            drawing.node(target, graphviz.nohtml(_text(row.op)))
            drawing.edge(target, f"n{i}")
        for operand in row.operands:
            drawing.edge(f"n{operand}", target)
    return drawing


def _draw_program(drawing: graphviz.Digraph, program: Program) -> None:
    """A box for each argument, number and result, an oval for each instruction."""
    found = list(steps(program))
    if len(found) > INSTRUCTIONS_AT_MOST:
        raise ValueError(
            f"the program has {len(found)} instructions and results, more than the {INSTRUCTIONS_AT_MOST} that can be "
            "drawn legibly: print(program) lists them"
        )
    lanes = [program.parts().group_lanes[i] for i in range(program.parts().group_count)]
    ids: dict[str, str] = {}
    for group in dict.fromkeys(step.group for step in found):
        part = graphviz.Digraph(
            name="once" if group is None else f"cluster{group}",
            graph_attr={} if group is None else {"label": f"for each of {lanes[group]} lanes", "fontname": "Courier"},
        )
        for i, step in enumerate(found):
            if step.group != group:
                continue
            for operand in step.operands:
                if operand not in ids and not operand.startswith("%"):
                    ids[operand] = f"a{len(ids)}"
                    part.node(ids[operand], graphviz.nohtml(_text(operand)), shape="box")
            label, shape = (step.operation, "oval") if step.operation else (step.result, "box")
            part.node(f"i{i}", graphviz.nohtml(_text(label)), shape=shape)
            ids[step.result] = f"i{i}"
        drawing.subgraph(part)
    for i, step in enumerate(found):
        for operand in step.operands:
            drawing.edge(ids[operand], f"i{i}")


def mimebundle(root: Value) -> dict[str, str]:
    """What Jupyter shows of a Value: its repr and, if it is small enough and can be rendered, its graph."""
    bundle = {"text/plain": repr(root)}
    if find_renderer() is not None and len(node_table(root)) <= SHOWN_AT_MOST:
        bundle["image/svg+xml"] = draw_dot(root).pipe(format="svg", encoding="utf-8")
    return bundle
