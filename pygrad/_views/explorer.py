"""explore: a page that steps through a graph: forward, and backward with the chain rule in words."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from pygrad._core.files import write
from pygrad._core.layer import TAPE, export, table_values
from pygrad._core.text import shortened, visible
from pygrad._pgr import ffi, lib
from pygrad._views.chain_rule import partial
from pygrad._views.drawing import Drawing
from pygrad._views.table import Row, row_of
from pygrad.engine import Value

NODES_AT_MOST = 1000
_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".gif")  # refused suffixes: explore writes pages
_TEMPLATE = Path(__file__).with_name("explorer.html")
_DOTS_PER_INCH = 72
_CHARACTER = 8.5  # width of a character in the page's font, same unit
_OPERATION = (46.0, 34.0)  # an oval's size


class Page(NamedTuple):
    """The result of explore. It displays itself in a notebook."""

    path: Path | None  # the file written, if any
    html: str

    def _repr_html_(self) -> str:
        document = html.escape(self.html, quote=True)
        style = "width:100%;height:640px;border:0"
        return f'<iframe srcdoc="{document}" sandbox="allow-scripts" title="pygrad" style="{style}"></iframe>'

    def __repr__(self) -> str:
        return f"Page({'not written' if self.path is None else str(self.path)!r}, {len(self.html):,} characters)"


class _Gift(NamedTuple):
    """The amount that a node's backward step adds to one operand's grad."""

    operand: int
    words: str  # (1 − o²) · o.grad
    numbers: str  # 0.5 · 1 = 0.5
    grad: float  # the operand's grad afterwards


def explore(
    root: Value, path: str | os.PathLike[str] | None = "backward.html", precision: int = 6, rankdir: str = "LR"
) -> Page:
    """Write one self-contained HTML page that steps through the graph below `root`.

    Forward, each operation fills in its number. Backward, grads start from 0 and each node, in the engine's order from
    the root, adds to its operands' grads. The graph is not changed, but functions of custom operations are called
    once. path: the file; None writes nothing, and the result displays itself in a notebook. precision: significant
    digits; hovering shows a number in full. rankdir: 'LR' or 'TB'.
    Raises ValueError for more than 1,000 nodes and for other arguments; RuntimeError if no program can lay out graphs
    (see draw_dot).

    >>> from pygrad import Value
    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> page = explore(a * b + a, "backward.html")
    >>> page.path.name
    'backward.html'
    """
    if isinstance(precision, bool) or not isinstance(precision, int) or not 1 <= precision <= 17:
        raise ValueError(f"precision={precision!r}: must be an int from 1 to 17")
    if path is not None and Path(path).suffix.lower() in _PICTURES:
        raise ValueError(
            f"path={str(path)!r}: explore writes a page, 'backward.html'; draw_dot(v).render('graph') a picture"
        )
    if rankdir not in ("LR", "TB"):
        raise ValueError(f"rankdir={rankdir!r}: must be 'LR' or 'TB'")
    table = export(root)
    if table.row_count > NODES_AT_MOST:
        raise ValueError(
            f"the graph has {table.row_count:,} nodes, more than the {NODES_AT_MOST:,} that can be stepped through: "
            "explore a part of it, such as one neuron's output, or fold it with draw_dot"
        )
    table, values = table_values(root)
    rows = [row_of(table, i) for i in range(table.row_count)]
    names = [visible(shortened(row.label)) or f"#{i}" for i, row in enumerate(rows)]
    ops = [table.rows[i].op for i in range(table.row_count)]
    params = [table.rows[i].param for i in range(table.row_count)]
    gifts = _backward(rows, values, ops, params, names, precision)
    sizes = [_size(name, precision) for name in names]
    title = f"Backward through {names[-1]}" if rows[-1].label else "Backward, step by step"
    data = {
        "nodes": [
            {
                "name": name,
                "term": _term(name),
                "label": row.label,
                "op": row.op,
                "kind": row.kind,
                "scope": row.scope,
                "data": f"{row.data:.{precision}g}",
                "exact": repr(row.data),
                "operands": row.operands,
                "forward": _forward(row, rows, names, precision),
                "gifts": [[g.operand, g.words, g.numbers, f"{g.grad:.{precision}g}", repr(g.grad)] for g in gifts[i]],
            }
            for i, (row, name) in enumerate(zip(rows, names))
        ],
        "layout": _layout(rows, sizes, rankdir),
    }
    text = json.dumps(_visible(data), ensure_ascii=False, separators=(",", ":"))
    for c in "<>&\u2028\u2029":  # these could end the script
        text = text.replace(c, f"\\u{ord(c):04x}")
    template = _TEMPLATE.read_text(encoding="utf-8")
    script = template.rpartition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()  # the page may run this script only
    parts = {"title": html.escape(visible(title)), "data": text, "script": allowed}
    # Replace in one pass, since a label may contain {{data}}.
    page = re.sub(r"\{\{(title|data|script)\}\}", lambda m: parts[m[1]], template)
    if path is not None:
        write(path, page)
    return Page(None if path is None else Path(path), page)


def _visible(x: Any) -> Any:
    """JSON data with every string made visible (see text.py). All strings of the page pass through here."""
    if isinstance(x, dict):
        return {key: _visible(y) for key, y in x.items()}
    if isinstance(x, (list, tuple)):
        return [_visible(y) for y in x]
    return visible(x) if isinstance(x, str) else x


def _term(name: str) -> str:
    """A name as text in a formula."""
    return name if re.fullmatch(r"[\w#.\[\]']+", name) else f"({name})"


def _size(name: str, precision: int) -> tuple[float, float]:
    """A box's size: as wide as its name or the longest number."""
    return max(len(name) + 2, precision + 14) * _CHARACTER, 62.0


def _forward(row: Row, rows: list[Row], names: list[str], precision: int) -> str:
    """The computation of an operation's number, in words and numbers."""
    if not row.op or row.kind != "operation":
        return ""

    def written(operands: list[str]) -> str:
        if row.op.startswith("**") and len(operands) == 1:
            return f"{operands[0]}{row.op}"
        if len(operands) == 2 and not row.op[0].isalpha():
            return f" {row.op} ".join(operands)
        return f"{row.op}({', '.join(operands)})"

    numbers = [f"{rows[o].data:.{precision}g}" for o in row.operands]
    result = f"{row.data:.{precision}g}"
    return f"{written([_term(names[o]) for o in row.operands])} = {written(numbers)} = {result}"


def _backward(
    rows: list[Row], values: list[Value], ops: list[int], params: list[float], names: list[str], precision: int
) -> list[list[_Gift]]:
    """The backward steps of all nodes, in the engine's order: by descending row."""
    grads = [0.0] * len(rows)
    grads[-1] = 1.0
    partials = ffi.new("double[2]")
    gifts: list[list[_Gift]] = [[] for _ in rows]
    for i in reversed(range(len(rows))):
        row, g = rows[i], grads[i]
        if ops[i] == lib.PGR_OP_CUSTOM:
            for operand, after in _custom(values, i, row.operands, grads).items():
                words = "what the operation's own function gives"
                gifts[i].append(_Gift(operand, words, f"{after - grads[operand]:.{precision}g}", after))
                grads[operand] = after
            continue
        lib.pgr_h_partials(TAPE, values[i]._handle, partials)
        operands = [_term(names[o]) for o in row.operands]
        if len(operands) == 1:
            operands.append(f"{params[i]:.{precision}g}")
        for k, operand in enumerate(row.operands):
            grads[operand] += g * partials[k]
            words = f"{partial(ops[i], k, (operands[0], operands[1], _term(names[i])))} · {_term(names[i])}.grad"
            numbers = f"{partials[k]:.{precision}g} · {g:.{precision}g} = {g * partials[k]:.{precision}g}"
            gifts[i].append(_Gift(operand, words, numbers, grads[operand]))
    return gifts


def _custom(values: list[Value], i: int, operands: tuple[int, ...], grads: list[float]) -> dict[int, float]:
    """The operands' grads after calling a custom operation's function on the grads so far."""
    before = [(k, values[k].grad) for k in (i, *operands)]
    try:
        for k in (i, *operands):
            values[k].grad = grads[k]
        values[i]._backward()
        return {k: values[k].grad for k in operands}
    finally:
        for k, grad in reversed(before):
            values[k].grad = grad


def _layout(rows: list[Row], sizes: list[tuple[float, float]], rankdir: str) -> dict[str, Any]:
    """Graphviz's positions of boxes, ovals and edges, y downwards: n3 is row 3's box, o3 its operation."""
    drawing = Drawing(graph_attr={"rankdir": rankdir, "ranksep": "0.4"}, node_attr={"fixedsize": "true", "label": ""})

    def add(name: str, size: tuple[float, float]) -> None:
        drawing.node(name, width=f"{size[0] / _DOTS_PER_INCH:.4f}", height=f"{size[1] / _DOTS_PER_INCH:.4f}")

    ovals = {}
    for i, row in enumerate(rows):
        add(f"n{i}", sizes[i])
        if row.operands:
            ovals[i] = (max(_OPERATION[0], (len(shortened(row.op)) + 2) * _CHARACTER), _OPERATION[1])
            add(f"o{i}", ovals[i])
            drawing.edge(f"o{i}", f"n{i}")
            for operand in row.operands:
                drawing.edge(f"n{operand}", f"o{i}")
    lines = drawing.pipe(format="plain", encoding="utf-8").splitlines()
    places: dict[str, list[float]] = {}
    edges: list[list[Any]] = []
    width = height = 0.0
    for line in lines:
        kind, *fields = line.split()
        if kind == "graph":
            width, height = (float(x) * _DOTS_PER_INCH for x in fields[1:3])
        elif kind == "node":
            x, y, w, h = (round(float(x) * _DOTS_PER_INCH, 1) for x in fields[1:5])
            places[fields[0]] = [x, round(height - y, 1), w, h]
        elif kind == "edge":
            count = int(fields[2])
            at = [float(x) * _DOTS_PER_INCH for x in fields[3 : 3 + 2 * count]]
            points = [round(height - x if k % 2 else x, 1) for k, x in enumerate(at)]
            edges.append([fields[0], fields[1], points])
    return {"width": round(width, 1), "height": round(height, 1), "places": places, "edges": edges}
