"""What Python, NumPy and SciPy raise for Values in words of their own, in ours, which say what to write instead."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from pygrad._core.errors import RecordingError, is_users, users_line

# What pygrad.scipy has of the functions that are Python code in SciPy, which would ask Values for their numbers.
OURS = {
    "scipy.special": ("log_softmax", "logsumexp", "polygamma", "softmax"),
    "scipy.stats.norm": ("cdf", "isf", "logcdf", "logpdf", "logsf", "pdf", "ppf", "sf"),
}
_SPARSE = (
    "a sparse matrix of SciPy can't be multiplied by Values: write L.toarray() @ x; docs/arrays.md shows how to "
    "multiply only its entries"
)
_POSITION = (
    "a number that is not known until the function runs can't be a length, a position or a slice: pass it as a static "
    "argument, jit(f, static_argnums=...), or choose by np.where, or multiply by the condition, x * (np.arange(n) == i)"
)
_STACK = "make arrays of Values by np.stack, not np.array"
NO_AT = "a recorded array has no 'at': y = x.copy() can be changed, y[0] = 1.0; or use np.where"  # JAX's have it
_WORDS_OF_VALUES = r"object arrays?\b|\bValues?\b|'Array' object|dtype\('O'\)|could not be safely coerced"
_WORDS_OF_VALUES += "|unsupported data types in input"


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Context while a function runs on Values: errors for them name the user's line and the way out."""
    try:
        yield
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        found = _instead(error)  # which holds no frame: a frame that holds itself would outlive the error
        if found is None:
            raise
        # An index may be wrong for other reasons, so it stays NumPy's error.
        kind = IndexError if isinstance(error, IndexError) and found.endswith(_POSITION) else RecordingError
        raise kind(found) from error


def refuse_change() -> NoReturn:
    """Raise RecordingError: an array that a function got would be changed."""
    raise RecordingError(
        f"{users_line()}\nA function is being recorded, and its arguments and what vmap returns must not be changed: "
        "change a copy, x = 1 * x or np.array(x)"
    )


def _frames(trace: TracebackType | None) -> Iterator[FrameType]:
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _instead(error: Exception) -> str | None:
    """What to say in place of `error`, with the user's line; None if it can stay."""
    frames = [*_frames(error.__traceback__)]
    found = _way_out(error, frames)
    return None if found is None else f"{users_line(frames[-1])}\n{found}"


def _way_out(error: Exception, frames: list[FrameType]) -> str | None:
    text = str(error)
    last = max((i for i, frame in enumerate(frames) if is_users(frame)), default=-1)
    theirs = frames[last + 1 :]
    if any(_module(frame).startswith("scipy.sparse._") for frame in theirs) and re.search(_WORDS_OF_VALUES, text):
        return _SPARSE
    path = next(filter(None, map(_scipys, theirs)), None)
    if path is not None:
        module, _, name = path.rpartition(".")
        if name in OURS.get(module, ()):
            return f"{path} cannot be recorded: use pygrad.{path}"
        if not re.search(_WORDS_OF_VALUES, text):
            return None
        why = "it asks for the numbers of its arguments" if isinstance(error, RecordingError) else text
        return f"{path} cannot be recorded: {why}. docs/arrays.md lists what can be recorded"
    if isinstance(error, RecordingError):
        return None
    if _is_of_positions(text):
        return f"{text}: {_POSITION}"
    return f"{text}: {_STACK}" if _is_of_object_arrays(text) else None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _scipys(frame: FrameType) -> str | None:
    """The path of SciPy's public function that a frame runs; None for any other."""
    parts = _module(frame).split(".")
    if parts[0] != "scipy":
        return None
    public = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
    module, name = ".".join(parts[:public]), frame.f_code.co_name
    distribution = getattr(frame.f_locals.get("self"), "name", None)
    if module == "scipy.stats" and isinstance(distribution, str) and not name.startswith("_"):
        return f"{module}.{distribution}.{name}"
    return f"{module}.{name}" if hasattr(sys.modules.get(module), name) and not name.startswith("_") else None


def _is_of_positions(text: str) -> bool:
    """Whether Python or NumPy needed an integer, and got what is recorded; or a slice or NumPy's index that may be."""
    of_values = r"'(Value|Array)' object cannot be interpreted as an integer|indices must be integers.*\b(Value|Array)$"
    of_values += r"|can't multiply sequence by non-int of type '(Value|Array)'|a single integer, got '(Value|Array)\("
    of_values += r"|unsupported operand type\(s\) for \*: '(list|tuple|str|bytes)' and '(Value|Array)'"  # PyPy's words
    of_values += r"|^slice indices must be integers|^only integers, slices|^arrays used as indices must be of integer"
    return re.search(of_values, text) is not None


def _is_of_object_arrays(text: str) -> bool:
    """Whether a ufunc has refused an array of objects: it takes float64."""
    if "Cannot cast ufunc" in text and "dtype('O')" in text:
        return True
    refused = re.match(r"ufunc '(\w+)' not supported for the input types", text)
    if refused is None:
        return False
    homes = (sys.modules.get("numpy"), sys.modules.get("scipy.special"))
    types = next((ufunc.types for home in homes if (ufunc := getattr(home, refused[1], None)) is not None), ())
    return any(kinds.startswith("d") for kinds in types)
