"""The C library's table of operations, csrc/ops/pgr_ops.h. Only this module reads it."""

from __future__ import annotations

from typing import NamedTuple

from pygrad._pgr import ffi, lib


class Operation(NamedTuple):
    """A row of the table."""

    op: int
    name: str  # of the method: 'tanh'
    symbol: str  # in drawings: 'tanh', '+'
    rule: str  # for errors: 'the argument must be positive'
    doc: str
    c: str  # the value, as a C99 expression in a and b
    da: str  # the partial derivatives, in pgr_ops.h's words
    db: str
    kind: int
    param_default: float  # nan: none

    @property
    def is_binary(self) -> bool:
        """Whether it has two operands."""
        return bool(self.kind == lib.PGR_KIND_BINARY)

    @property
    def has_param(self) -> bool:
        """Whether it takes one operand and a number, such as an exponent or a slope."""
        return bool(self.kind == lib.PGR_KIND_PARAM)

    @property
    def operands(self) -> int:
        """The number of operands."""
        return 2 if self.is_binary else 0 if self.kind in (lib.PGR_KIND_OWN, lib.PGR_KIND_CUT) else 1

    @property
    def is_infix(self) -> bool:
        """Whether it is written between its operands."""
        return self.kind in (lib.PGR_KIND_BINARY, lib.PGR_KIND_PARAM) and not self.symbol[0].isalpha()


def _read(op: int) -> Operation:
    row = lib.pgr_op_row(op)
    numbers = {"op": op, "kind": row.kind, "param_default": row.param_default}
    texts = {name: ffi.string(getattr(row, name)).decode() for name in Operation._fields if name not in numbers}
    return Operation(**numbers, **texts)


TABLE: list[Operation] = [_read(op) for op in range(lib.pgr_op_count())]
OPERATIONS: list[Operation] = TABLE[lib.PGR_OP_FIRST :]  # without the tape's own ops
SPECIAL: list[str] = []  # C functions that rows call beside libm; each may call those before it
while text := lib.pgr_op_special(len(SPECIAL)):
    SPECIAL.append(ffi.string(text).decode())
OPS: dict[str, int] = {row.name: row.op for row in TABLE}


def symbol_of(op: int, param: float) -> str:
    """The string in `_op`: the operation's symbol, with a constant exponent after **; '' for a leaf."""
    if op in (lib.PGR_OP_LEAF, lib.PGR_OP_CONST, lib.PGR_OP_CUSTOM):
        return ""
    row = TABLE[op]
    if row.symbol == "**" and row.has_param:
        return f"**{int(param) if param.is_integer() and abs(param) < 1e15 else param}"
    return row.symbol
