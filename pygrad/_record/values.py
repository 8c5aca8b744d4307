"""The NumPy array of what a recorded function computes, which takes part in NumPy's protocols.

NumPy hands it every function of it: those of the tables in elementwise.py and functions.py run as they are defined
there; others are NumPy's own on objects. What fails says what to write instead.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from pygrad._core.errors import RecordingError, is_users, shown
from pygrad._core.numbers import array_fault
from pygrad._core.trees import Tracer
from pygrad._record import elementwise, functions
from pygrad._record.refusals import NO_AT, refuse_change
from pygrad.engine import Value

_getitem, _setitem = np.ndarray.__getitem__, np.ndarray.__setitem__


class Values(np.ndarray):  # type: ignore[misc, name-defined, unused-ignore]
    """An array of Values. Comparisons are conditions, elementwise, while their numbers are unknown."""

    _of_values = True  # accepted by _core.numbers.array_fault

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
        if out is not None:
            keywords["out"] = tuple(_target(ufunc, x) for x in out)
        if "dtype" in keywords and np.dtype(keywords.pop("dtype") or object).kind not in "fO":
            functions.refuse(ufunc, TypeError("dtype= must be float"))
        if keywords.get("where", True) is not True:
            inputs, keywords = functions.masked(ufunc, method, inputs, keywords)
        try:
            result = elementwise.apply(ufunc, method, [_base(x) for x in inputs], keywords)
        except TypeError as error:
            if not isinstance(error, RecordingError) and "ufunc" in str(error):
                functions.refuse(ufunc, error)
            raise
        if out is not None and len(out) == 1:
            return out[0]
        return _as_values(result)

    def __array_function__(self, function: Any, _types: Any, args: Any, keywords: Any) -> Any:
        functions.refuse(function)
        ours = _table().get(function)
        if ours is not None:
            return _as_values(ours(*args, **keywords))
        try:
            return _as_values(np.ndarray.__array_function__(_EMPTY, function, (Values,), args, keywords))
        except RecordingError:
            raise
        except TypeError as error:
            functions.refuse(function, error)
            raise

    @property
    def dtype(self) -> Any:
        """Of the numbers; NumPy's own code, and ours, has to know that it handles objects."""
        return np.dtype(float if is_users(sys._getframe(1)) else object)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(NO_AT if name == "at" else f"a recorded array has no attribute {name!r}")

    def __getitem__(self, index: Any) -> Any:
        try:
            return _getitem(self, index)
        except IndexError as error:
            functions.refuse_index(index, error)
            raise

    def __setitem__(self, index: Any, value: Any) -> None:
        try:
            _setitem(self, index, value)
        except IndexError as error:
            functions.refuse_index(index, error)
            raise

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist()) if self.ndim == 1 else super().__iter__()

    def astype(self, dtype: Any, *_: Any, **__: Any) -> Any:
        if np.dtype(dtype).kind not in "fO":
            functions.refuse(
                np.ndarray.astype, TypeError("Values are float64; np.trunc, np.floor and np.round can be recorded")
            )
        return self.copy()

    def sort(self, axis: int = -1, **_: Any) -> None:  # type: ignore[override]
        """In place, as numpy.ndarray.sort."""
        self[...] = functions.sort(self, axis)


def _method(name: str) -> Any:
    def method(self: Values, *args: Any, **keywords: Any) -> Any:
        return self.__array_function__(getattr(np, name), (Values,), (self, *args), keywords)

    method.__name__ = name
    return method


for _name in ("argmax", "argmin", "mean", "var", "std", "any", "all", "round", "argsort", "argpartition", "nonzero"):
    setattr(Values, _name, _method(_name))

_EMPTY = np.empty(0, dtype=object).view(Values)


@functools.cache
def _table() -> dict[Any, Any]:
    """The functions of functions.py by NumPy's own, as far as this NumPy has them."""
    found = {}
    for path, ours in functions.FUNCTIONS.items():
        theirs: Any = np
        for name in path.split("."):
            theirs = getattr(theirs, name, None)
        if theirs is not None:
            found[theirs] = ours
    return found


def _base(x: Any) -> Any:
    """An input as NumPy's loops take it: not one of the types that take part in the protocols."""
    if isinstance(x, Values):
        return x.view(np.ndarray)
    if isinstance(x, Value):
        array = np.empty((), dtype=object)
        array[()] = x
        return array
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray and (fault := array_fault(x)) is not None:
        raise TypeError(f"{shown(x)} is {fault}")
    return x


def _target(ufunc: Any, x: Any) -> Any:
    """An array that results are written to."""
    if isinstance(x, Tracer):
        refuse_change()
    if x is not None and x.dtype != object:
        functions.refuse(
            ufunc, TypeError("an array of numbers can't hold the result: write y = y + x in place of y += x")
        )
    if x is not None and not x.flags.writeable:  # NumPy misses it where the target overlaps an input, on PyPy
        raise ValueError("output array is read-only")
    return _base(x)


def _as_values(result: Any) -> Any:
    if isinstance(result, np.ndarray):
        return (
            result.view(Values) if result.dtype == object and result.ndim else result[()] if not result.ndim else result
        )
    if type(result) in (list, tuple):
        return type(result)(map(_as_values, result))
    if isinstance(result, tuple):  # a named one, such as slogdet's
        return type(result)(*map(_as_values, result))
    return result
