"""The operand layer below Value, and the parts that modules above share: the tape, handles, node tables.

On CPython it is the compiled type of csrc/python/operand.c; elsewhere, and under PYGRAD_OPERANDS=cffi, its twin in
portable/. Both behave alike.
"""

from __future__ import annotations

import os
import platform
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pygrad._core.errors import check, no_graph
from pygrad._core.ops import symbol_of
from pygrad._pgr import ffi, lib

OPERANDS = (
    "compiled"
    if platform.python_implementation() == "CPython" and os.environ.get("PYGRAD_OPERANDS") != "cffi"
    else "cffi"
)

if OPERANDS == "compiled" and lib.pgr_install_operand_type() != 0:
    raise ImportError("the compiled operand layer can't be installed; PYGRAD_OPERANDS=cffi works without it")

if TYPE_CHECKING or OPERANDS == "compiled":
    from pygrad._pgr import (
        Operand,
        _active_scopes as active_scopes,
        _adopt as adopt,
        _call as call,
        _call_in_scopes as call_in_scopes,
        _enter_scope as enter_scope,
        _note_change as note_change,
        _on_progress as on_progress,
        _plan_items as plan_items,
        _present_scope as present_scope,
        _run as run,
        _structure_kinds as structure_kinds,
        dot,
    )

    TAPE: Any = lib.pgr_default_tape()

    def finish() -> bool:
        """Release what objects that have ended still hold. Here they have released it."""
        return False

    def drop_dead() -> int:
        """Drop the attributes of dead nodes; return of how many. The collector has dropped them."""
        return 0
else:
    from pygrad._core.portable import (
        Operand,
        active_scopes,
        adopt,
        call,
        call_in_scopes,
        dot,
        drop_dead,
        end_objects as finish,
        enter_scope,
        note_change,
        on_progress,
        plan_items,
        present_scope,
        run,
        structure_kinds,
        tape,
    )

    TAPE = tape

__all__ = [
    "OPERANDS",
    "TAPE",
    "Operand",
    "active_scopes",
    "adopt",
    "call",
    "call_in_scopes",
    "collect",
    "dot",
    "enter_scope",
    "export",
    "finish",
    "held",
    "node_values",
    "note_change",
    "notes",
    "on_progress",
    "plan_items",
    "present_scope",
    "run",
    "structure_kinds",
    "symbol",
    "table_values",
    "tables",
    "taken",
]

# {handle: __dict__} of nodes whose Values are gone: a node's attributes outlive its Values.
notes: dict[int, dict[str, Any]] = {}


def symbol(op: int, param: float, own: dict[str, Any] | None) -> str:
    """The string in `_op`: the one that the user set, else the table's."""
    return symbol_of(op, param) if own is None or "_op" not in own else str(own["_op"])


def held(handle: int) -> Any:
    """The Value of a handle that someone else holds. Raises ReferenceError if it is stale."""
    result = lib.pgr_h_hold(TAPE, handle)
    check(-result if result < 0 else 0)
    return Operand._of(result)


def taken(handles: Iterable[int]) -> list[Any]:
    """The Values of handles. They own the holds; on failure all holds are released."""
    rest = iter(handles)
    try:
        return [Operand._of(handle) for handle in rest]
    except BaseException:
        for handle in rest:
            lib.pgr_h_release(TAPE, handle, 0)
        raise


tables: weakref.WeakSet[Any] = weakref.WeakSet()  # tables in use: scope and line numbers in them must stay valid


def _table_for(root: Any) -> Any:
    """A table, still empty, for the graph below `root`. Raises TypeError unless it is a Value."""
    if not isinstance(root, Operand):
        no_graph(root)
    root._settle()
    table = ffi.gc(ffi.new("pgr_table *"), lambda t: lib.pgr_table_free(TAPE, t))
    tables.add(table)
    return table


def export(root: Any) -> Any:
    """The table below `root`."""
    table = _table_for(root)
    check(lib.pgr_h_export(TAPE, root._handle, False, table))
    return table


def table_values(root: Any) -> tuple[Any, list[Any]]:
    """The table below `root`, and the Value of each of its rows."""
    table = _table_for(root)
    try:  # whenever Ctrl-C comes, holds are released
        check(lib.pgr_h_export(TAPE, root._handle, True, table))
        return table, [held(table.rows[i].handle) for i in range(table.row_count)]
    finally:
        lib.pgr_h_release_rows(TAPE, table)


def node_values(root: Any) -> list[tuple[Any, tuple[int, ...]]]:
    """The Values below `root`, which comes last, each with its operands' indices in this list."""
    table, values = table_values(root)
    rows = (table.rows[i] for i in range(table.row_count))
    spans = [(row.first_operand, row.operand_count) for row in rows]
    return [(value, tuple(table.operands[first : first + n])) for value, (first, n) in zip(values, spans)]


def collect() -> None:
    """Free all nodes that no Value needs. The tape also does this by itself: often for young nodes, and for all nodes
    whenever it has doubled in size.

    >>> from pygrad import Value, tape_stats
    >>> x = Value(1.0) + 1.0
    >>> del x; collect(); tape_stats().collections > 0
    True
    """
    for _ in range(_ROUNDS):
        has_more = finish()
        check(lib.pgr_h_collect(TAPE))
        if not drop_dead() and not has_more:
            break


# Where objects end late, dropped attributes may have kept other Values, these others, and so on.
_ROUNDS = 1 if platform.python_implementation() == "CPython" else 8
