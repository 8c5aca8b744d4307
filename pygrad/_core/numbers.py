"""The definition of a real number, for both operand layers and for every function that takes numbers or arrays.

Accepted are numbers, including Decimal and Fraction, and objects with __float__ or __index__. Other NumPy scalars are
refused although they have a __float__: it drops imaginary parts, reads text, and ignores masks and units.
"""

from __future__ import annotations

import contextlib
import math
import operator
import sys
from typing import Any

# NumPy types for which float() is right by definition: the compiled layer converts them without as_number.
PLAIN: set[type] = set()

_TEXT = (str, bytes, bytearray)


def as_number(x: Any) -> float | None:
    """`x` as a float, or None if it is not a real number. Raises OverflowError if it exceeds float64."""
    kind = type(x)
    if kind is float:
        return x  # type: ignore[no-any-return]
    np = sys.modules.get("numpy")
    if np is not None and isinstance(x, np.ndarray):
        if x.ndim or array_fault(x) is not None:
            return None
        one = x.item()
        return None if hasattr(type(one), "_handle") else as_number(one)  # a Value's operators are NumPy's to call
    if isinstance(x, float):
        return float.__float__(x)  # a subclass may override it
    if isinstance(x, int):
        return int.__float__(x)
    if kind in PLAIN:
        return float(x)
    if isinstance(x, (*_TEXT, complex)):
        return None
    if np is not None and isinstance(x, np.generic):
        if not isinstance(x, (np.bool_, np.integer, np.floating)) or isinstance(x, np.timedelta64):
            return None
        if kind.__module__ == "numpy" and kind is not np.longdouble:
            PLAIN.add(kind)
        return _converted(x)
    if hasattr(kind, "__len__"):  # arrays of other libraries: their operators work elementwise
        return None
    if hasattr(kind, "__float__"):
        return _converted(x)
    return float(operator.index(x)) if hasattr(kind, "__index__") else None


def positions(x: Any, what: str, more: str = "") -> int | tuple[int, ...]:
    """`x`, an integer or a sequence of them, of whatever types, as an int or a tuple. Raises TypeError for others."""
    with contextlib.suppress(TypeError):
        return operator.index(x)
    try:
        return tuple([operator.index(i) for i in x])
    except TypeError:
        raise TypeError(f"{what}={x!r}: must be an int or a sequence of them, counted from 0{more}") from None


def _converted(x: Any) -> float:
    """float(x), but raise OverflowError where Decimal and long double return inf."""
    number = float(x)
    if math.isinf(number) and x != number:
        raise OverflowError(f"{x!r} is too large for a float64")
    return number


def array_fault(x: Any) -> str | None:
    """Why a NumPy array can't be read as plain numbers, and the fix; None if it can. Does not look into objects."""
    np = sys.modules["numpy"]
    kind = type(x)
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(x, masked.MaskedArray):
        if masked.is_masked(x):
            return f"a masked array{way_out(x)}"
    elif kind not in (np.ndarray, np.memmap) and not hasattr(kind, "_of_values"):
        # A matrix has another *, and other subclasses may carry units.
        return f"an array of the subclass {kind.__name__}; pass a plain one: np.asarray(x)"
    return None if x.dtype.kind in "fiubO" else f"an array of {x.dtype}{way_out(x)}"


def is_hopeless(x: Any) -> bool:
    """Whether `x`, not a number, can never handle a Value. NumPy would turn some, such as times, into numbers."""
    kind = type(x)
    np = sys.modules.get("numpy")
    if np is not None and kind is np.ndarray:
        return x.dtype.kind not in "fiubO"
    if x is None or kind in (*_TEXT, complex):
        return True
    if np is None or not isinstance(x, (np.generic, np.ndarray)):
        return False
    masked = sys.modules.get("numpy.ma")
    is_masked = masked is not None and isinstance(x, masked.MaskedArray)
    return is_masked or isinstance(x, np.generic) or x.dtype.kind not in "fiubO"


def is_foreign(x: Any) -> bool:
    """Whether `x` is a Value of micrograd or of a copy: it would treat ours as a number and lose the gradient."""
    kind = type(x)
    return kind.__name__ == "Value" and not hasattr(kind, "_handle") and hasattr(x, "grad") and hasattr(x, "_prev")


def way_out(x: Any) -> str:
    """Advice for a value that is not a real number, to end a message; "" if there is none."""
    if x is None:
        return "; did a function forget its return?"
    if isinstance(x, (list, tuple)):
        return "; make a Value of each: [Value(x) for x in data]"
    if hasattr(type(x), "_handle"):
        return "; take v.data for its number, since the gradient ends here"
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(x, masked.MaskedArray):
        return "; fill what is masked, x.filled(0.0), or drop it, x.compressed()"
    if hasattr(x, "to_numpy"):
        return "; pass NumPy's array, x.to_numpy()"
    kind = getattr(getattr(x, "dtype", None), "kind", "")
    if kind and kind in "fiub" and getattr(x, "ndim", 0):
        return "; take one of its numbers, x.item() if it has one"
    if isinstance(x, _TEXT) or kind in ("S", "U"):
        return f"; convert text first: {'x.astype(float)' if getattr(x, 'ndim', 0) else 'float(x)'}"
    if isinstance(x, complex) or kind == "c":
        return "; pass x.real and x.imag"
    if kind and kind in "mM":
        return "; divide a difference of times by a unit: x / np.timedelta64(1, 's')"
    return ""
