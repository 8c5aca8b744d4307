"""Exceptions: turn a C status into one that names the value and the fix."""

from __future__ import annotations

import contextlib
import linecache
import reprlib
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any, NoReturn

from pygrad import _pgr
from pygrad._core.numbers import as_number, is_foreign, is_hopeless, way_out
from pygrad._core.ops import TABLE
from pygrad._pgr import lib

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


class RecordingError(TypeError):
    """A function can't be recorded: it needs a number that is unknown until it runs, or it draws random numbers.

    >>> from pygrad import jit
    >>> jit(lambda x: x if x > 0 else -x)(1.0)
    Traceback (most recent call last):
    pygrad._core.errors.RecordingError: ...
    """

    is_opaque = False  # whether a custom operation is the reason, which backward() can pass
    is_linear = True  # unless the reason is a rule that is not, where it is transposed


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
    lib.PGR_ERR_CYCLE: (ValueError, "_prev: an operand was made from this Value, and a graph can't contain a cycle"),
    lib.PGR_ERR_BUSY: (RuntimeError, "a backward pass is running: assign _prev before or after it"),
    lib.PGR_ERR_CAPTURED: (RecordingError, "a function with a rule is differentiated by what is not its argument"),
    lib.PGR_ERR_UNKNOWN: (RuntimeError, "a function is being recorded: use grad or value_and_grad, not backward()"),
}


def _expression(op: int, a: float, b: float) -> str:
    row = TABLE[op]
    if row.is_infix:
        return f"{a!r} {row.symbol} {b!r}"
    return f"{row.name}({a!r}, {b!r})" if row.is_binary or row.has_param else f"{row.name}({a!r})"


def lost() -> BaseException:
    """An exception that C code has met, but Python could not keep: at the stack's end, or when two came at once."""

    def reach(depth: int) -> None:
        if depth:
            reach(depth - 1)

    try:
        reach(50)
    except RecursionError as error:
        return error
    return KeyboardInterrupt()


def fail(status: int, op: int, a: float, b: float) -> NoReturn:
    """Raise the exception of `status`, after op(a, b) failed to record."""
    if status == lib.PGR_ERR_STOPPED:
        error: BaseException = _pgr.__dict__.pop("_stopped_by", None) or lost()
        raise error
    exception, text = _EXCEPTIONS[status]
    if status == lib.PGR_ERR_DIVZERO and a == 0.0 and TABLE[op].symbol == "**":
        text = "zero can't be raised to a negative power"
    if status in (lib.PGR_ERR_DOMAIN, lib.PGR_ERR_DIVZERO, lib.PGR_ERR_RANGE):
        raise exception(f"{_expression(op, a, b)}: {text or TABLE[op].rule}")
    raise exception(text)


# Messages by the operation that needs a number, for Values that have none.
_UNKNOWN = {
    "if": "`if`, `while`, `and` and `in` need a number, but a Value has none while its function is recorded: use "
    "pygrad.where(cond, a, b), maximum, minimum or clip, (0 < x) & (x < 1) in place of `and`, "
    "jit(f, static_argnames=...) for a flag; make arrays of Values by np.stack, not np.array, to compare them, or use "
    "pygrad.math.less or equal",
    "hash": "sets and dicts need a hash, but a Value has none while its function is recorded: use a list, or positions",
    "data": "a Value has no `.data` while its function is recorded: compute with the Value itself",
    "float": "float() needs a number, but a Value has none while its function is recorded: use pygrad.math in place of "
    "math; an array of numbers can't hold it, so start from np.zeros_like(x) of an argument, or make a list and "
    "np.stack it, and leave out dtype=float",
    "int": "int() needs a number, but a Value has none while its function is recorded: pass lengths and positions as "
    "static arguments, jit(f, static_argnums=...); np.trunc, np.floor and np.round can be recorded",
    "round": "round() needs a number, but a Value has none while its function is recorded: write np.round(x)",
    "format": 'a Value has no number to format while its function is recorded: pygrad.debug_print("{:.2f}", x) prints '
    "it at each run",
    "grad": "a Value has no `.grad` while its function is recorded: use grad or value_and_grad",
    "data =": "`.data` cannot be assigned while a function is recorded: compute a new Value",
    "grad =": "`.grad` cannot be assigned while a function is recorded: use grad or value_and_grad",
}


_NEVER = {"float", "int", "round"}  # what a Value refuses while its function runs eagerly, too


def _standard_library() -> Iterable[str]:
    """The names of the standard library's modules. Python 3.9 does not list them, but has them in one folder."""
    if sys.version_info >= (3, 10):
        return sys.stdlib_module_names
    from pathlib import Path

    folder = Path(contextlib.__file__).parent
    names = set(sys.builtin_module_names)
    for files in (folder, folder / "lib-dynload"):
        with contextlib.suppress(OSError):  # within an application of one file
            names.update(file.name.partition(".")[0] for file in files.iterdir())
    return names - {"site-packages", "dist-packages", "test"}


# NumPy and SciPy call our operators and the standard library calls functions, so skip their frames, too.
_NOBODY = {"pygrad", "numpy", "scipy", "cffi", *_standard_library()}


def is_users(frame: FrameType) -> bool:
    """Whether a frame runs user code."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _NOBODY


def users_line(frame: FrameType | None = None) -> str:
    """The position in user code, seen from a frame: file, line and text of the nearest one that is_users accepts."""
    frame = frame or sys._getframe(1)
    while frame.f_back is not None and not is_users(frame):
        frame = frame.f_back
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" + (f": {text}" if text else "")


def unknown(where: str) -> NoReturn:
    """Raise RecordingError: `where` needs the number of a node that has none."""
    text = _UNKNOWN.get(
        where,
        f"{where}() needs a number, but a Value has none while its function is recorded: use pygrad.math in place of "
        "math, and compute plain numbers outside of the function",
    )
    if where not in _NEVER:
        text += ". record=False runs the function eagerly instead."
    raise RecordingError(f"{users_line()}\n{text}")


def leave(how: str, value: Any, is_unknown: bool = False) -> NoReturn:
    """Raise TypeError: `how`, such as float, would cut the graph; RecordingError if the Value has no number."""
    if is_unknown:
        unknown(how)
    raise TypeError(
        f"{how}() of {shown(value)} would cut the graph: write v.data for the number, f'{{v:.4f}}' for text, "
        "and pygrad.math.tanh(v) in place of math.tanh(v)"
    )


def check(status: int) -> None:
    """Raise the exception of `status`, unless it is PGR_OK."""
    if status != lib.PGR_OK:
        fail(status, lib.PGR_OP_LEAF, 0.0, 0.0)


def custom_operation(value: Any) -> str:
    """A custom operation's name for a message, given its result."""
    return f"the custom operation {value._op}" if value._op else "a custom operation"


def shown(value: Any) -> str:
    """A value's repr, shortened to one line."""
    return _repr.repr(value)


def reject(where: str, value: Any) -> NoReturn:
    """Raise TypeError: `where` can't take `value`, which has the wrong type."""
    text, kind, more = shown(value), type(value).__name__, way_out(value)
    if is_foreign(value):
        raise TypeError(f"{where}: {_foreign(value)}")
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
    """Raise TypeError: `x` is not a Value, so it has no graph."""
    if is_foreign(x):
        raise TypeError(_foreign(x))
    if callable(x):
        way = "call it, and pass the Value that it returns"
    elif hasattr(type(x), "__len__") and not isinstance(x, (str, bytes)):
        way = "pass one of its Values, or their sum"
    elif as_number(x) is not None:
        way = "pass the Value itself, not its .data"
    else:
        way = "pass a Value"
    raise TypeError(f"{shown(x)} is of type {type(x).__name__}, which has no graph: {way}")


def _foreign(value: Any) -> str:
    kind = type(value)
    return (
        f"{shown(value)} is a {kind.__name__} of {kind.__module__}, whose graph is another library's: "
        "from pygrad.engine import Value"
    )


def refuse_operand(symbol: str, value: Any) -> Any:
    """Return NotImplemented, so that Python tries the operator of `value`; TypeError if that can't work."""
    if is_hopeless(value) or is_foreign(value):
        reject(symbol, value)
    return NotImplemented
