"""Operators and methods that record a node, and comparisons. csrc/python/operand.c's and dot.c's twin."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Callable

from pygrad._core.errors import check, fail, refuse_operand, reject
from pygrad._core.ops import OPS, Operation
from pygrad._core.portable.objects import as_number, of, wrap_new
from pygrad._core.portable.registry import made_room
from pygrad._core.portable.slots import Slots
from pygrad._core.portable.tape import tape
from pygrad._pgr import lib


def record(op: int, a: Slots, b: Slots | None = None) -> Any:
    handle = lib.pgr_h_record(tape, op, a._handle, 0 if b is None else b._handle)
    if handle < 0 and made_room(-handle):
        handle = lib.pgr_h_record(tape, op, a._handle, 0 if b is None else b._handle)
    if handle < 0:
        fail(-handle, op, lib.pgr_h_data(tape, a._handle), 0.0 if b is None else lib.pgr_h_data(tape, b._handle))
    return wrap_new(handle)


def record_number(op: int, a: Slots, number: float, reflected: bool = False) -> Any:
    handle = lib.pgr_h_record_number(tape, op, a._handle, number, reflected)
    if handle < 0 and made_room(-handle):
        handle = lib.pgr_h_record_number(tape, op, a._handle, number, reflected)
    if handle < 0:
        data = lib.pgr_h_data(tape, a._handle)
        fail(-handle, op, *((number, data) if reflected else (data, number)))
    return wrap_new(handle)


def operator(symbol: str, op: int, with_number: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The method and the reflected method of a binary operator."""

    def forward(self: Slots, other: Any, modulus: None = None) -> Any:
        if modulus is not None:
            return NotImplemented
        if isinstance(other, Slots):
            return record(op, self, other)
        number = as_number(other)
        return refuse_operand(symbol, other) if number is None else record_number(with_number, self, number)

    def reflected(self: Slots, other: Any, modulus: None = None) -> Any:
        if modulus is not None:
            return NotImplemented
        number = as_number(other)
        return refuse_operand(symbol, other) if number is None else record_number(op, self, number, True)

    return forward, reflected


CONDITIONS = {OPS[name] for name in ("less", "less_equal", "equal")}
_COMPARISONS = {"<": ("less", False), ">": ("less", True), "<=": ("less_equal", False), ">=": ("less_equal", True)}


def compare_unknown(symbol: str, a: Slots, b: Any) -> Any:
    """Record a comparison as a node, 1 or 0: the condition of a function that is being recorded."""
    name, swap = _COMPARISONS.get(symbol, ("equal", False))
    op = OPS[name]
    if isinstance(b, Slots):
        result = record(op, b, a) if swap else record(op, a, b)
    else:
        number = as_number(b)
        if number is None:
            return NotImplemented if name == "equal" else refuse_operand(symbol, b)
        result = record_number(op, a, number, swap)
    return record_number(op, result, 0.0) if symbol == "!=" else result


def is_unknown(a: Slots, b: Any) -> bool:
    return bool(lib.pgr_h_unknown(tape, a._handle) or (isinstance(b, Slots) and lib.pgr_h_unknown(tape, b._handle)))


def comparison(name: str, symbol: str) -> Callable[[Any, Any], Any]:
    by_value = getattr(float, name)

    def compare(self: Any, other: Any) -> Any:
        if lib.pgr_is_recording() or is_unknown(self, other):
            return compare_unknown(symbol, self, other)
        is_operand = isinstance(other, Slots)
        number = other.data if is_operand else as_number(other)
        return refuse_operand(symbol, other) if number is None else by_value(self.data, number)

    return compare


def method(row: Operation) -> Callable[..., Any]:
    op, name = row.op, row.name
    method: Callable[..., Any]
    if row.is_binary:

        def binary(self: Slots, other: Any, /) -> Any:
            if isinstance(other, Slots):
                return record(op, self, other)
            number = as_number(other)
            return reject(name, other) if number is None else record_number(op, self, number)

        method = binary
    elif row.has_param:
        default = None if math.isnan(row.param_default) else row.param_default

        def with_param(self: Slots, param: Any = default, /) -> Any:
            if param is None:
                raise TypeError(f"{name} takes one argument")
            number = None if isinstance(param, Slots) else as_number(param)
            return reject(name, param) if number is None else record_number(op, self, number)

        method = with_param
    else:

        def unary(self: Slots) -> Any:
            return record(op, self)

        method = unary
    method.__name__ = name
    method.__doc__ = row.doc
    return method


def dot(ws: Iterable[Any], xs: Iterable[Any], b: Any = 0.0, /) -> Any:
    """B + ws[0]*xs[0] + ws[1]*xs[1] + ..., from left to right, recorded by one call.

    ws and xs are sequences of one length, of Values and numbers. Every product and sum is a node.
    Raises ValueError if the lengths differ, TypeError for other elements; then nothing is recorded.

    >>> from pygrad import Value, dot
    >>> w = Value(2.0)
    >>> y = dot([w, 1.0], [3.0, 4.0], 0.5)
    >>> y.backward()
    >>> y.data, w.grad
    (10.5, 3.0)
    """
    ws, xs = list(ws), list(xs)
    if len(ws) != len(xs):
        raise ValueError(f"dot: {len(ws)} weights and {len(xs)} inputs; their numbers must be equal")
    if not ws and isinstance(b, Slots):
        return b
    numbers = [None if isinstance(x, Slots) else as_number(x) for x in (*ws, *xs, b)]
    constants = []
    handles = []
    try:
        for x, number in zip((*ws, *xs, b), numbers):
            if number is not None:
                handle = lib.pgr_h_leaf(tape, lib.PGR_OP_CONST, number)
                check(-handle if handle < 0 else 0)
                constants.append(handle)
            elif isinstance(x, Slots):
                handle = x._handle
            else:
                reject("dot", x)
            handles.append(handle)
        n = len(ws)
        result = lib.pgr_h_dot(tape, n, handles[:n], handles[n : 2 * n], handles[-1])
        check(-result if result < 0 else 0)
    finally:
        for handle in constants:
            lib.pgr_h_release(tape, handle, 0)
    return of(result)
