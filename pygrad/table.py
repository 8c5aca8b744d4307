"""The node table: the graph below a Value as rows, operands before results, exported by C in one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pygrad import scopes
from pygrad._pgr import lib
from pygrad.engine import Value, _export, _notes, _symbol, held

__all__ = ["Row", "node_table"]


LABEL_AT_MOST = 60  # characters, where labels are shown


def shortened(label: str) -> str:
    """A label's beginning and end, if it is long."""
    half = LABEL_AT_MOST // 2
    return label if len(label) <= LABEL_AT_MOST else f"{label[: half - 1]} … {label[2 - half :]}"


class Row(NamedTuple):
    """One node of a node table."""

    data: float
    grad: float
    op: str  # as Value._op
    label: str
    operands: tuple[int, ...]  # indices of rows, in order, with repeats
    kind: str = "operation"  # or 'input', 'parameter', 'constant': leaves
    scope: str = ""  # 'layer1/neuron3'; see pygrad.scope
    line: str = ""  # 'file:line' of the code that recorded it, if that was watched: see detect_anomaly


def node_table(root: Value) -> list[Row]:
    """The nodes that `root` was made from, itself last, exported by C in one call. O(nodes)."""
    return list(_rows(_export(root)))


def _rows(table: Any) -> Iterator[Row]:
    return (_row(table, i) for i in range(table.row_count))


def _row(table: Any, i: int) -> Row:
    # Attributes of nodes that have a Value are its __dict__, of the others _notes'.
    row = table.rows[i]
    notes = _attributes(row.handle) if row.handle else None
    first = row.first_operand
    kind = "operation"
    if row.op == lib.PGR_OP_CONST:
        kind = "constant"
    elif not row.operand_count and (row.op != lib.PGR_OP_CUSTOM or not _symbol(row.op, row.param, notes)):
        kind = "parameter" if row.scope == scopes.PARAMETERS else "input"
    return Row(
        row.data,
        row.grad,
        _symbol(row.op, row.param, notes),
        "" if notes is None else str(notes.get("label", "")),
        tuple(table.operands[first : first + row.operand_count]),
        kind,
        "/".join(scopes.path(row.scope)),
        scopes.line(row.line),
    )


def _attributes(handle: int) -> dict[str, Any] | None:
    notes = _notes.get(handle)
    if notes is not None:
        return notes
    try:
        return held(handle)._own or None
    except ReferenceError:  # since the export its Value has gone, and left nothing
        return None
