"""The table of operations, as the C library has it: csrc/ops/pgr_ops.h."""

from __future__ import annotations

from pygrad._pgr import ffi, lib

NAMES: list[str] = [ffi.string(lib.pgr_op_row(op).name).decode() for op in range(lib.pgr_op_count())]
SYMBOLS: list[str] = [ffi.string(lib.pgr_op_row(op).symbol).decode() for op in range(lib.pgr_op_count())]
KINDS: list[int] = [lib.pgr_op_row(op).kind for op in range(lib.pgr_op_count())]
OPS: dict[str, int] = {name: op for op, name in enumerate(NAMES)}


def symbol_of(op: int, param: float) -> str:
    """What `_op` says of an operation: its symbol, with a constant exponent after **; '' for a leaf."""
    if op in (lib.PGR_OP_LEAF, lib.PGR_OP_CONST, lib.PGR_OP_CUSTOM):
        return ""
    if SYMBOLS[op] == "**" and KINDS[op] == lib.PGR_KIND_PARAM:
        return f"**{int(param) if param.is_integer() and abs(param) < 1e15 else param}"
    return SYMBOLS[op]
