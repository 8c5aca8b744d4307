"""Folding: show graphs of any size in few boxes, by scope and by distance from the root."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, Union

from pygrad._core import scopes
from pygrad._core.errors import check
from pygrad._core.layer import TAPE, export
from pygrad._core.text import visible
from pygrad._pgr import ffi, lib
from pygrad._views.table import Row, row_of
from pygrad.engine import Value

MAX_NODES = 200  # larger graphs are folded
OTHER_CALLS = ", other calls"  # of a scope that is unfolded
FOLDS_AT_MOST = 30  # scopes shown by default
NEAR_ROOT = 10  # beside scopes, max_nodes / 10 nodes near the root are shown

Collapse = Union[None, int, str, Iterable[str]]


class Fold(NamedTuple):
    """Several nodes shown as one."""

    title: str  # the scope's path, or a description of the nodes
    nodes: int
    leaves: int  # number of leaves among the nodes
    calls: int  # times the scope was entered; 0: unknown, or not one scope
    is_scope: bool

    @property
    def text(self) -> str:
        """Its number of nodes, by call if it has several: '7 nodes x 100', not counting leaves, such as weights."""
        each, rest = divmod(self.nodes - self.leaves, max(self.calls, 1))
        if self.calls > 1 and not rest:
            return f"{each:,} node{'s' if each != 1 else ''} x {self.calls:,}"
        held = f"{self.nodes:,} node{'s' if self.nodes != 1 else ''}"
        return f"{held} in {self.calls:,} calls" if self.calls > 1 else held


class Edge(NamedTuple):
    """An edge from an operand to a result, by index; `operands` counts the edges that it stands for."""

    source: int
    target: int
    operands: int


class Folded(NamedTuple):
    """A graph as shown."""

    vertices: list[Row | Fold]
    edges: list[Edge]
    root: int  # index of the vertex with the root
    size: int  # nodes of the graph


def _paths(name: str, given: Any) -> list[tuple[str, ...]]:
    names = [given] if isinstance(given, str) else list(given)
    for x in names:
        if not isinstance(x, str):
            raise TypeError(f"{name}: {x!r} is of type {type(x).__name__}; use the names of scopes, 'layer1/neuron3'")
    return [tuple(x.split("/")) for x in names]


def fold(root: Value, max_nodes: int = MAX_NODES, collapse: Collapse = None, unfold: Collapse = None) -> Folded:
    """The graph below `root`, folded if it has more than `max_nodes` nodes.

    collapse: the scopes that become one box each: a depth, 1 for the outermost, 0 for none; or names, 'layer1/neuron3'.
    unfold: names of scopes to show node by node; of several calls, the first. Nodes outside of folded scopes are shown
    up to a distance from the root. Raises ValueError or TypeError for other arguments. O(nodes).
    """
    if isinstance(max_nodes, bool) or not isinstance(max_nodes, int) or max_nodes < 1:
        raise ValueError(f"max_nodes={max_nodes!r}: must be a positive int")
    if isinstance(collapse, bool) or (isinstance(collapse, int) and collapse < 0):
        raise ValueError(f"collapse={collapse!r}: must be a depth, 0 or more, or names of scopes")
    if isinstance(unfold, int):
        raise ValueError(f"unfold={unfold!r}: must be names of scopes, 'layer1/neuron3'")
    table = export(root)
    if collapse is None and unfold is None and table.row_count <= max_nodes:
        return _whole(table)
    present = _scopes_of(table)
    opened = [] if unfold is None else _paths("unfold", unfold)
    closed = [] if collapse is None or isinstance(collapse, int) else _paths("collapse", collapse)
    _need_scopes("unfold", opened, present)
    _need_scopes("collapse", closed, present)
    if isinstance(collapse, int):
        depth = collapse
    elif closed:
        depth = 0
    elif opened:
        depth = 1
    else:
        depth = _depth(present, max_nodes)
    return _fold(table, present, max_nodes, depth, opened, closed)


def _need_scopes(kind: str, names: list[tuple[str, ...]], present: dict[int, tuple[str, ...]]) -> None:
    """Raise ValueError if the graph lacks one of these scopes."""
    for path in names:
        if not any(p[: len(path)] == path for p in present.values()):
            every = sorted({p[:k] for p in present.values() for k in range(1, len(p) + 1)}, key=_by_depth)
            ends = [p for p in every if p[-len(path) :] == path]  # they lack the scopes around it
            known = ["/".join(p) for p in ends or every]
            more = ", ..." if len(known) > 10 else ""
            there = ("did you mean " if ends else "there are ") + ", ".join(map(visible, known[:10])) + more
            raise ValueError(f"{kind}: the graph has no scope {'/'.join(path)!r}; {there if known else 'it has none'}")


def _by_depth(path: tuple[str, ...]) -> Any:
    """The outer scopes first, and neuron10 after neuron9."""
    return len(path), [[int(c) if c.isdecimal() else c for c in re.split(r"(\d+)", name)] for name in path]


def _whole(table: Any) -> Folded:
    rows: list[Row | Fold] = [row_of(table, i) for i in range(table.row_count)]
    edges = [
        Edge(table.operands[k], i, 1)
        for i in range(table.row_count)
        for k in range(table.rows[i].first_operand, table.rows[i].first_operand + table.rows[i].operand_count)
    ]
    return Folded(rows, edges, len(rows) - 1, len(rows))


def _scopes_of(table: Any) -> dict[int, tuple[str, ...]]:
    """The scopes of a table's nodes, by number."""
    used = ffi.new("uint8_t[]", scopes.count())
    lib.pgr_table_scopes(table, len(used), used)
    return {number: scopes.path(number) for number, is_used in enumerate(ffi.buffer(used)) if is_used != b"\0"}


def _depth(present: dict[int, tuple[str, ...]], max_nodes: int) -> int:
    """The finest depth with few enough scopes to tell them apart; 0 if there are no scopes."""
    deepest = max((len(path) for path in present.values()), default=0)
    for depth in range(deepest, 1, -1):
        if len({path[:depth] for path in present.values() if path}) <= min(FOLDS_AT_MOST, max_nodes):
            return depth
    return min(deepest, 1)


def _fold(
    table: Any,
    present: dict[int, tuple[str, ...]],
    max_nodes: int,
    depth: int,
    opened: list[tuple[str, ...]],
    closed: list[tuple[str, ...]],
) -> Folded:
    titles = ["nodes further from the root", "inputs", "parameters"]
    counted = set()  # folds in which one run of nodes is one call: no other node interrupts it
    numbers: dict[tuple[str, str], int] = {}

    def number_of(path: tuple[str, ...], which: str = "") -> int:
        key = "/".join(path), which
        if key not in numbers:
            numbers[key] = len(titles)
            if all(other == path or other[: len(path)] != path for other in present.values()):
                counted.add(len(titles))
            titles.append("".join(key))
        return numbers[key]

    folds = [lib.PGR_OPEN] * scopes.count()
    more = list(folds)
    for number, path in present.items():
        if path in opened:
            more[number] = number_of(path, OTHER_CALLS)
            continue
        around = next((c for c in closed if path[: len(c)] == c), None)
        if around is None and depth and path:
            # Beside an unfolded scope, as deep as that one needs; else as deep as the user wants.
            beside = max((_common(path, o) + 1 for o in opened if _common(path, o)), default=0)
            around = path[: max(depth, beside)]  # what is around an unfolded scope, without that one, is a box, too
        if around is not None:
            folds[number] = number_of(around)
    folding = ffi.new("pgr_folding *")
    given = ffi.new("uint32_t[]", folds), ffi.new("uint32_t[]", more)
    options = {
        "scope_count": len(folds),
        "folds": given[0],
        "more_folds": given[1],
        "fold_count": len(titles),
        "parameters": scopes.PARAMETERS,
        "max_open": max_nodes,
        "max_near": max(1, max_nodes // NEAR_ROOT) if numbers else max_nodes,
    }
    check(lib.pgr_fold(TAPE, table, ffi.new("pgr_fold_options *", options), folding))
    try:
        vertices: list[Row | Fold] = []
        root = 0
        for i in range(folding.vertex_count):
            v = folding.vertices[i]
            if v.row == table.row_count - 1:
                root = i
            if v.fold == lib.PGR_OPEN:
                vertices.append(row_of(table, v.row))
            else:
                is_scope = v.fold >= lib.PGR_FOLD_FIRST
                calls = v.calls if v.fold in counted else 0
                vertices.append(Fold(titles[v.fold], v.count, v.leaves, calls, is_scope))
        edges = [Edge(e.source, e.target, e.count) for e in folding.edges[0 : folding.edge_count]]
        if opened:
            edges = _with_parameters(table, folding, more, vertices, edges)
    finally:
        lib.pgr_folding_free(TAPE, folding)
    return Folded(vertices, edges, root, table.row_count)


def _with_parameters(
    table: Any, folding: Any, more: list[int], vertices: list[Row | Fold], edges: list[Edge]
) -> list[Edge]:
    """Show the parameters of an unfolded scope that went into the fold of its other calls. Returns the edges."""
    shown: dict[int, int] = {}  # vertices by row ..
    folds: dict[int, int] = {}  # .. and by fold
    for i in range(folding.vertex_count):
        v = folding.vertices[i]
        if v.fold == lib.PGR_OPEN:
            shown[v.row] = i
        else:
            folds[v.fold] = i
    homes: dict[int, int] = {}  # parameter's row: vertex of the other calls
    uses: dict[int, list[int]] = {}
    for i in range(table.row_count):
        row = table.rows[i]
        for operand in table.operands[row.first_operand : row.first_operand + row.operand_count]:
            if table.rows[operand].scope == scopes.PARAMETERS and operand not in shown:
                uses.setdefault(operand, []).append(i)
    for parameter, users in uses.items():
        homes_of = {folds.get(more[table.rows[i].scope], -1) for i in users}
        if len(homes_of) == 1 and any(i in shown for i in users):
            homes[parameter] = homes_of.pop()
    counts = {(e.source, e.target): e.operands for e in edges}
    for parameter, home in homes.items():
        if home < 0:
            continue
        new = len(vertices)
        vertices.append(row_of(table, parameter))
        fold = vertices[home]
        if isinstance(fold, Fold):
            vertices[home] = fold._replace(nodes=fold.nodes - 1, leaves=fold.leaves - 1)
        for i in uses[parameter]:
            target = shown.get(i, home)
            counts[new, target] = counts.get((new, target), 0) + 1
            if target != home:
                counts[home, target] -= 1
    return [Edge(source, target, count) for (source, target), count in counts.items() if count]


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The number of names that two paths share at the start."""
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count
