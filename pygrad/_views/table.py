"""The node table: the graph below a Value as rows, operands before results, exported by C in one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pygrad._core import scopes
from pygrad._core.layer import export, held, notes, symbol
from pygrad._pgr import lib
from pygrad.engine import Value

__all__ = ["Row", "node_table", "row_of"]


class Row(NamedTuple):
    """One node of a node table."""

    data: float
    grad: float
    op: str  # as Value._op
    label: str
    operands: tuple[int, ...]  # indices of rows, in order, with repeats
    kind: str = "operation"  # or 'input', 'parameter', 'constant': leaves
    scope: str = ""  # 'layer1/neuron3'; see pygrad.scope
    line: str = ""  # 'file:line' of the code that recorded it, if watched: see detect_anomaly


def node_table(root: Value) -> list[Row]:
    """The graph below `root`, which comes last, exported by C in one call. O(nodes)."""
    return list(_rows(export(root)))


def _rows(table: Any) -> Iterator[Row]:
    return (row_of(table, i) for i in range(table.row_count))


def row_of(table: Any, i: int) -> Row:
    # A node's attributes are its Value's __dict__, or in layer.notes if the Value is gone.
    row = table.rows[i]
    own = attributes(row.handle) if row.handle else None
    first = row.first_operand
    kind = "operation"
    if row.op == lib.PGR_OP_CONST:
        kind = "constant"
    elif not row.operand_count and (row.op != lib.PGR_OP_CUSTOM or not symbol(row.op, row.param, own)):
        kind = "parameter" if row.scope == scopes.PARAMETERS else "input"
    return Row(
        row.data,
        row.grad,
        symbol(row.op, row.param, own),
        "" if own is None else str(own.get("label", "")),
        tuple(table.operands[first : first + row.operand_count]),
        kind,
        "/".join(scopes.path(row.scope)),
        scopes.line(row.line),
    )


def attributes(handle: int) -> dict[str, Any] | None:
    own = notes.get(handle)
    if own is not None:
        return own
    try:
        return held(handle)._own or None
    except ReferenceError:  # its Value died after the export, without attributes
        return None
