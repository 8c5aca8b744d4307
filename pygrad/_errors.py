"""From a status of the C library to an exception that names the value and the way out."""

from __future__ import annotations

import linecache
import reprlib
import sys
from types import FrameType
from typing import Any, NoReturn

from pygrad import _pgr
from pygrad._numbers import as_number, is_hopeless, way_out
from pygrad._pgr import ffi, lib

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


class RecordingError(TypeError):
    """A function that is being recorded asks for a value that is not known until it runs."""


_EXCEPTIONS: dict[int, tuple[type[Exception], str]] = {
    lib.PGR_ERR_NOMEM: (MemoryError, "out of memory: the tape is as it was before"),
    lib.PGR_ERR_FULL: (MemoryError, "the tape is full: drop graphs that are no longer needed"),
    lib.PGR_ERR_DOMAIN: (ValueError, ""),
    lib.PGR_ERR_DIVZERO: (ZeroDivisionError, ""),
    lib.PGR_ERR_RANGE: (OverflowError, "the result is too large for a float64"),
    lib.PGR_ERR_HANDLE: (ReferenceError, "this Value's node is gone: its graph was dropped"),
    lib.PGR_ERR_OP: (ValueError, "not an operation that can be recorded so"),
    lib.PGR_ERR_OPAQUE: (
        RecordingError,
        "a custom operation is Python code, which cannot be recorded: grad and value_and_grad can do it with "
        "record=False, and so can backward()",
    ),
    lib.PGR_ERR_ARGUMENT: (ValueError, "an argument that the C library excludes"),
    lib.PGR_ERR_LANES: (
        RecordingError,
        "a Value of one slice is used outside of its vmap, or in another vmap: return it from the vmap's function, "
        "and use the vmap's result",
    ),
    lib.PGR_ERR_CYCLE: (ValueError, "_prev: an operand was made from this Value, and a graph can't run in a circle"),
    lib.PGR_ERR_BUSY: (RuntimeError, "a backward pass is under way: assign _prev before or after it"),
    lib.PGR_ERR_UNKNOWN: (RuntimeError, "a function is being recorded: use grad or value_and_grad, not backward()"),
}


def _expression(op: int, a: float, b: float) -> str:
    row = lib.pgr_op_row(op)
    name, symbol = ffi.string(row.name).decode(), ffi.string(row.symbol).decode()
    if row.kind in (lib.PGR_KIND_UNARY, lib.PGR_KIND_CUT):
        return f"{name}({a!r})"
    if symbol.isalpha():
        return f"{name}({a!r}, {b!r})"
    return f"{a!r} {symbol} {b!r}"


def fail(status: int, op: int, a: float, b: float) -> NoReturn:
    """Raise what `status` stands for, after op(a, b) was not recorded."""
    if status == lib.PGR_ERR_STOPPED:
        error: BaseException = _pgr.__dict__.pop("_stopped_by")
        raise error
    exception, text = _EXCEPTIONS[status]
    if status == lib.PGR_ERR_DIVZERO and a == 0.0 and ffi.string(lib.pgr_op_row(op).symbol) == b"**":
        text = "zero can't be raised to a negative power"
    if status in (lib.PGR_ERR_DOMAIN, lib.PGR_ERR_DIVZERO, lib.PGR_ERR_RANGE):
        raise exception(f"{_expression(op, a, b)}: {text or ffi.string(lib.pgr_op_row(op).rule).decode()}")
    raise exception(text)


_INSTEAD = {
    "if": "a branch on it would be taken once and for all: use where(cond, a, b), maximum, minimum or clip; arrays "
    "that NumPy has made of Values are compared by math.less, less_equal and equal",
    "hash": "sets and dicts look for values that are not known yet: use where(cond, a, b)",
    "grad": "grads belong to eager Values: use grad or value_and_grad",
    "data =": "it can't be assigned to: compute a new Value",
    "grad =": "it can't be assigned to: grads belong to eager Values",
}
_OTHERWISE = "its number would be frozen into the program: use the functions of pygrad.math, or detach()"


# Between the user's code and ours there may be others': NumPy calls operators, the standard library functions.
_NOBODY = {"pygrad", "numpy", "cffi", *getattr(sys, "stdlib_module_names", ())}


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs code that the user would know."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _NOBODY


def users_line() -> str:
    """Where the caller's own code is: file, line and text of the nearest frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not is_users(frame):
        frame = frame.f_back
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" + (f": {text}" if text else "")


def unknown(where: str) -> NoReturn:
    """Raise RecordingError: `where` needs the value of a node that has none."""
    asked = {
        "if": "its truth",
        "hash": "its hash",
        "float": "float() of it",
        "int": "int() of it",
        "round": "round() of it",
    }.get(where, f".{where}")
    raise RecordingError(
        f"{users_line()}\nA function is being recorded, so this Value has no value yet, and {asked} was asked for; "
        f"{_INSTEAD.get(where, _OTHERWISE)}. With record=False it runs eagerly on every call."
    )


def leave(how: str, value: Any, is_unknown: bool = False) -> NoReturn:
    """Raise TypeError: float() of a Value, `how`, would leave the graph; RecordingError while it has no value."""
    if is_unknown:
        unknown(how)
    raise TypeError(
        f"{how}() of {shown(value)} would leave the graph, and its gradient end here: take v.data for the number, "
        "or v.tanh() or pygrad.math.tanh(v) where math.tanh(v) was meant"
    )


def check(status: int) -> None:
    """Raise what `status` stands for, if it is not PGR_OK."""
    if status != lib.PGR_OK:
        fail(status, lib.PGR_OP_LEAF, 0.0, 0.0)


def custom_operation(value: Any) -> str:
    """A custom operation's result, named in a message."""
    return f"the custom operation {value._op}" if value._op else "a custom operation"


def shown(value: Any) -> str:
    """A value's repr, at most a line of it."""
    return _repr.repr(value)


def reject(where: str, value: Any) -> NoReturn:
    """Raise TypeError: `value` is no number, or no Value, for what `where` names."""
    text, kind, more = shown(value), type(value).__name__, way_out(value)
    if where == "_children" and isinstance(value, str):
        raise TypeError(
            f"_children={text}: the second argument of Value holds its operands; a name is Value(data, label={text})"
        )
    if where in ("_children", "_prev"):
        raise TypeError(f"{where}: {text} is of type {kind}; every operand must be a Value")
    if where == "_backward":
        raise TypeError(f"_backward = {text}: must be a function of no arguments")
    if where in ("_op", "label"):
        raise TypeError(f"{where}={text}: must be a str, not {kind}")
    if where == "Value":
        raise TypeError(f"Value({text}): data must be a real number, not {kind}{more}")
    if where in ("data", "grad"):
        raise TypeError(f"{where} = {text}: must be a real number, not {kind}{more}")
    if hasattr(type(value), "_handle"):
        raise TypeError(f"{where}: {text} is a Value; it must be a number here{more}")
    if where.isidentifier():
        raise TypeError(f"{where}: {text} is of type {kind}; use a Value or a real number{more}")
    raise TypeError(f"unsupported operand for {where}: {text} is of type {kind}; use a Value or a real number{more}")


def no_graph(x: Any) -> NoReturn:
    """Raise TypeError: `x` is no Value, so there is no graph below it."""
    if callable(x):
        way = "call it, and pass the Value that it gives"
    elif hasattr(type(x), "__len__") and not isinstance(x, (str, bytes)):
        way = "pass one of its Values, or their sum"
    elif as_number(x) is not None:
        way = "pass the Value itself, not its .data"
    else:
        way = "pass a Value"
    raise TypeError(f"{shown(x)} is of type {type(x).__name__}, which has no graph: {way}")


def refuse_operand(symbol: str, value: Any) -> Any:
    """NotImplemented, so that `value` gets its chance as an operand of a Value; TypeError if it has none."""
    if is_hopeless(value):
        reject(symbol, value)
    return NotImplemented
