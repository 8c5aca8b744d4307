"""explore: a page that steps through a graph, forward and backward, and lets its numbers be changed.

Python writes the graph and, of small ones, all numbers; web/ shows them, and its engine follows changes.
"""

from __future__ import annotations

import linecache
import os
from typing import Any

from pygrad._core.layer import TAPE, export, table_values
from pygrad._core.ops import OPERATIONS, TABLE, Operation
from pygrad._core.text import shortened, visible
from pygrad._pgr import ffi, lib
from pygrad._views.chain_rule import partial
from pygrad._views.pages import Page, assemble, refuse_pictures
from pygrad._views.table import Row, row_of
from pygrad.engine import Value

NODES_AT_MOST = 300_000
NUMBERS_AT_MOST = 1000  # nodes up to which a page has all numbers, and needs no engine to step
SCRIPTS = ("theme", "numbers", "engine", "graph", "folding", "layout", "steps", "view", "story")
_PLACES = ("①", "②", "③")  # in words, where the page puts the names of operands and result


def explore(
    root: Value, path: str | os.PathLike[str] | None = "backward.html", precision: int = 6, rankdir: str = "LR"
) -> Page:
    """Write one self-contained HTML page that steps through the graph below `root`.

    Forward, each operation fills in its number. Backward, grads start from 0 and each node, in the engine's order from
    the root, adds to its operands' grads. Click or drag a leaf's number: the engine, in the page, recomputes all
    data and grads. Large graphs are folded by scope. The graph is not changed, but functions of custom
    operations are called once. path: the file; None writes nothing, and the result displays itself in a notebook.
    precision: significant digits; hovering shows a number in full. rankdir: 'LR' or 'TB'.
    Raises ValueError for more than 300,000 nodes and for other arguments.

    >>> from pygrad import Value
    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> page = explore(a * b + a, "backward.html")
    >>> page.path.name
    'backward.html'
    """
    if isinstance(precision, bool) or not isinstance(precision, int) or not 1 <= precision <= 17:
        raise ValueError(f"precision={precision!r}: must be an int from 1 to 17")
    refuse_pictures(path, "explore")
    if rankdir not in ("LR", "TB"):
        raise ValueError(f"rankdir={rankdir!r}: must be 'LR' or 'TB'")
    table = export(root)
    if table.row_count > NODES_AT_MOST:
        raise ValueError(
            f"the graph has {table.row_count:,} nodes, more than the {NODES_AT_MOST:,} that a page can hold: "
            "explore a part of it, such as one neuron's output, or fold it with draw_dot"
        )
    data = graph_data(root)
    data.update(precision=precision, rankdir=rankdir)
    label = shortened(str(root.label))
    title = f"Backward through {visible(label)}" if label else "Backward, step by step"
    return assemble("explore", (*SCRIPTS, "explore"), data, title, path)


def explore_formula(
    root: Value, text: str, functions: tuple[str, ...], path: str | os.PathLike[str] | None = "formula.html"
) -> Page:
    """The same page of a formula's result, with an input for formulas: their graphs show as they are written."""
    refuse_pictures(path, "explore")
    ops = {row.name: _operation(row, row.name in functions) for row in OPERATIONS}
    power = next(row.name for row in OPERATIONS if row.symbol == "**" and row.has_param)
    data = graph_data(root)
    data.update(precision=6, rankdir="LR", formula={"text": text, "ops": ops, "power": power})
    return assemble("explore", (*SCRIPTS, "formula", "explore"), data, "A formula, live", path)


def _operation(row: Operation, is_called: bool) -> dict[str, Any]:
    """An operation, for the page's reader of formulas."""
    kind = "param" if row.has_param else "binary" if row.is_binary else "unary" if row.operands else "cut"
    found: dict[str, Any] = {"name": row.name, "symbol": row.symbol, "kind": kind, "called": is_called}
    found["words"] = [partial(row.op, k, _PLACES) for k in range(row.operands)]
    if row.has_param:
        found["param"] = row.param_default
    return found


def graph_data(root: Value) -> dict[str, Any]:
    """The graph as columns, by row; small ones with all numbers, large ones with those of leaves."""
    table, values = table_values(root)
    rows = [row_of(table, i) for i in range(table.row_count)]
    ops = [table.rows[i].op for i in range(table.row_count)]
    kinds: dict[tuple[Any, ...], int] = {}
    scopes: dict[str, int] = {}
    is_small = len(rows) <= NUMBERS_AT_MOST
    partials, custom = _pass(rows, values, ops, is_small)
    given = [is_small or not row.operands or op == lib.PGR_OP_CUSTOM for row, op in zip(rows, ops)]
    return {
        "op": [_numbered(kinds, _kind(table.rows[i], rows[i])) for i in range(len(rows))],
        "ops": [_described(*kind) for kind in kinds],
        "operands": [[i - operand for operand in row.operands] for i, row in enumerate(rows)],
        "labels": {i: row.label for i, row in enumerate(rows) if row.label},
        "scope": [_numbered(scopes, row.scope) for row in rows],
        "scopes": list(scopes),
        "call": [table.rows[i].call for i in range(len(rows))],
        "lines": {i: _line(row.line) for i, row in enumerate(rows) if row.line},
        "data": [row.data if here else 0 for row, here in zip(rows, given)],
        "partials": partials if is_small else None,
        "custom": custom,
        "before": [row.grad for row in rows] if is_small and any(row.grad for row in rows) else None,
    }


def _numbered(numbers: dict[Any, int], key: Any) -> int:
    return numbers.setdefault(key, len(numbers))


def _kind(row: Any, described: Row) -> tuple[Any, ...]:
    """What nodes have in common: operation, symbol, kind of leaf, parameter."""
    name = TABLE[row.op].name
    param = float(row.param) if TABLE[row.op].has_param else None
    return row.op, name, described.op, described.kind, param


def _described(op: int, name: str, symbol: str, kind: str, param: float | None) -> dict[str, Any]:
    """The same for the page, with its partial derivatives in words."""
    found: dict[str, Any] = {"name": name, "symbol": symbol, "kind": kind}
    if kind == "operation":
        a, b, v = _PLACES
        second = b if param is None else f"{param:.6g}"
        found["words"] = [partial(op, k, (a, second, v)) for k in range(TABLE[op].operands)]
    if param is not None:
        found["param"] = param
    return found


def _line(line: str) -> str:
    """'file:line' with its code."""
    file, _, number = line.rpartition(":")
    code = linecache.getline(file, int(number)).strip()
    return f"{os.path.basename(file)}:{number}{f': {code}' if code else ''}"  # noqa: PTH119


def _pass(
    rows: list[Row], values: list[Value], ops: list[int], is_wanted: bool
) -> tuple[list[list[float]], dict[int, list[tuple[int, float]]]]:
    """A backward pass from grads of 0: partial derivatives, and by custom operation its operands' grads after it."""
    partials: list[list[float]] = [[] for _ in rows]
    custom: dict[int, list[tuple[int, float]]] = {}
    if not is_wanted and lib.PGR_OP_CUSTOM not in ops:
        return partials, custom
    grads = [0.0] * len(rows)
    grads[-1] = 1.0
    found = ffi.new("double[2]")
    for i in reversed(range(len(rows))):
        operands = rows[i].operands
        if ops[i] == lib.PGR_OP_CUSTOM:
            custom[i] = []
            for operand, after in _custom(values, i, operands, grads).items():
                custom[i].append((i - operand, after))
                grads[operand] = after
            continue
        lib.pgr_h_partials(TAPE, values[i]._handle, found)
        partials[i] = list(found[0 : len(operands)])
        for k, operand in enumerate(operands):
            grads[operand] += grads[i] * found[k]
    return partials, custom


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
