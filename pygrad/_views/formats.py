"""Graphs as text and data: JSON, Mermaid, a tree for terminals, networkx; and labels from variables' names.

As in draw.py, everything here walks the node table that C exports in one call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pygrad._core.errors import shown
from pygrad._core.text import shortened, visible
from pygrad._views.folding import MAX_NODES, Collapse, Fold, fold
from pygrad._views.table import Row, node_table
from pygrad.engine import Value

__all__ = ["label_from", "to_json", "to_mermaid", "to_networkx", "to_text"]

SHOWN_LINES = 1000  # of a tree, by default


def label_from(names: Mapping[str, Any]) -> None:
    """Label Values after their variables: `label_from(locals())`; in lists, tuples and dicts name[i], name[key].

    Keeps existing labels, and skips names with a leading underscore. Raises TypeError for anything but a dict.

    >>> w = [Value(1.0), Value(2.0)]
    >>> label_from({"w": w})
    >>> w[1].label
    'w[1]'
    """
    if not isinstance(names, Mapping):
        raise TypeError(
            f"label_from: {shown(names)} is of type {type(names).__name__}: pass locals(), or a dict of names"
        )
    for name, x in list(names.items()):
        if not name.startswith("_"):
            _label(name, x, set())


def _label(name: str, x: Any, seen: set[int]) -> None:
    if isinstance(x, Value):
        if not x.label:
            x.label = name
    elif isinstance(x, (list, tuple, dict)) and id(x) not in seen:
        seen.add(id(x))
        items: Iterable[tuple[Any, Any]] = x.items() if isinstance(x, dict) else enumerate(x)
        for key, y in items:
            _label(f"{name}[{key!r}]", y, seen)


def _number(x: float) -> Any:
    """A number for JSON; infinities and nan become strings, since JSON lacks them."""
    return x if math.isfinite(x) else repr(x)


def to_json(root: Value, indent: int | None = None) -> str:
    """The graph below `root` as JSON.

    {"format": "pygrad graph 1", "root": index, "nodes": [{"label", "op", "data", "grad", "operands", "kind", "scope",
    "line"}, ...]}: operands are indices of earlier nodes, in order, with repeats; op is "" for a leaf; nan and
    infinities are strings; kind is "operation", "input", "parameter" or "constant"; scope is "layer1/neuron2", or ""
    outside of scopes; line is "file:line" if it was watched (see detect_anomaly), else "". Raises TypeError for
    anything but a Value.

    >>> import json
    >>> [node["op"] for node in json.loads(to_json(Value(2.0) * 3.0))["nodes"]]
    ['', '', '*']
    """
    rows = node_table(root)
    nodes = [
        {
            "label": row.label,
            "op": row.op,
            "data": _number(row.data),
            "grad": _number(row.grad),
            "operands": list(row.operands),
            "kind": row.kind,
            "scope": row.scope,
            "line": row.line,
        }
        for row in rows
    ]
    return json.dumps({"format": "pygrad graph 1", "root": len(rows) - 1, "nodes": nodes}, indent=indent)


def to_networkx(root: Value) -> Any:
    """The graph below `root` as a networkx.MultiDiGraph, from operands to results, nodes 0, 1, ... in order.

    Nodes have label, op, data, grad, kind, scope; edges have their place among the operands. Raises ImportError if
    networkx is missing.

    >>> to_networkx(Value(2.0) * 3.0).nodes[2]["op"]
    '*'
    """
    try:
        import networkx
    except ImportError:
        raise ImportError("to_networkx needs networkx: pip install networkx") from None
    graph = networkx.MultiDiGraph()
    for i, row in enumerate(node_table(root)):
        graph.add_node(i, label=row.label, op=row.op, data=row.data, grad=row.grad, kind=row.kind, scope=row.scope)
        for place, operand in enumerate(row.operands):
            graph.add_edge(operand, i, place=place)
    return graph


def _escaped(text: str) -> str:
    """Text for a Mermaid label: characters with a meaning there or in HTML become numbers."""
    return "".join(c if c.isalnum() or c in " _.,+-*/()=" else f"#{ord(c)};" for c in visible(shortened(text)))


def to_mermaid(root: Value, max_nodes: int = MAX_NODES, collapse: Collapse = None, unfold: Collapse = None) -> str:
    """The graph below `root` as a Mermaid flowchart, for Markdown; large graphs are folded as by draw_dot.

    Raises TypeError for anything but a Value.

    >>> to_mermaid(Value(2.0) * 3.0).splitlines()[0]
    'flowchart LR'
    """
    folded = fold(root, max_nodes, collapse, unfold)
    lines = ["flowchart LR"]
    for i, vertex in enumerate(folded.vertices):
        if isinstance(vertex, Fold):
            lines.append(f'    n{i}[["{_escaped(vertex.title)}<br/>{vertex.text}"]]')
            continue
        label = f"{_escaped(vertex.label)}<br/>" if vertex.label else ""
        lines.append(f'    n{i}["{label}data {vertex.data:.4g}<br/>grad {vertex.grad:.4g}"]')
        if vertex.op:
            lines += [f'    op{i}(["{_escaped(vertex.op)}"])', f"    op{i} --> n{i}"]
    for edge in folded.edges:
        into = folded.vertices[edge.target]
        target = f"n{edge.target}" if isinstance(into, Fold) or not into.op else f"op{edge.target}"
        lines += [f"    n{edge.source} --> {target}"] * (1 if isinstance(into, Fold) else edge.operands)
    return "\n".join(lines) + "\n"


def to_text(root: Value, lines: int = SHOWN_LINES) -> str:
    """The graph below `root` as an indented tree, results above their operands, for terminals.

    A node used more than once is written out once; later lines refer to it by number. Returns at most `lines` lines;
    the last one counts the nodes not shown. Raises TypeError for anything but a Value.

    >>> print(to_text(Value(2.0) * 3.0), end="")
    *  data 6  grad 0
    ├─ leaf  data 2  grad 0
    └─ leaf  data 3  grad 0
    """
    rows = node_table(root)
    uses = [0] * len(rows)
    for row in rows:
        for operand in row.operands:
            uses[operand] += 1
    shown: set[int] = set()
    text: list[str] = []
    todo = [(len(rows) - 1, "", "", "")]  # node, prefix of its line, prefix of its branch, the branch itself
    while todo:
        i, before, below, branch = todo.pop()
        if len(text) >= lines:
            text.append(f"... {len(rows) - len(shown)} nodes more")
            break
        text.append(before + branch + _line(rows[i], i, uses[i] > 1, i in shown))
        if i in shown:
            continue
        shown.add(i)
        operands = rows[i].operands
        for k in reversed(range(len(operands))):
            last = k == len(operands) - 1
            todo.append((operands[k], below, below + ("   " if last else "│  "), "└─ " if last else "├─ "))
    return "\n".join(text) + "\n"


def _line(row: Row, number: int, is_shared: bool, is_known: bool) -> str:
    name = visible(shortened(row.label))
    mark = f" #{number}" if is_shared else ""
    if is_known:
        return f"{name or row.op or 'leaf'}{mark}, as above"
    parts = [part for part in (name, visible(row.op)) if part]
    return f"{' = '.join(parts) or 'leaf'}{mark}  data {row.data:.6g}  grad {row.grad:.6g}"
