"""Structures: how numbers and arrays are nested in lists, tuples and dicts, and how they are taken out and put back.

A structure is described by nested tuples: 'scalar', ('array', shape), ('list', ...), ('tuple', ...),
('dict', keys, ...).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Callable

from pygrad.engine import Value


def need_numpy() -> Any:
    """NumPy. ImportError that says how to get it."""
    try:
        import numpy
    except ImportError:
        raise ImportError("arrays need NumPy: pip install 'pygrad[numpy]'") from None
    return numpy


class Tracer:
    """What stands for an array while a function is recorded: it has a shape and ndim."""

    shape: tuple[int, ...]
    ndim: int


def is_array(x: Any) -> bool:
    np = sys.modules.get("numpy")
    return np is not None and isinstance(x, (np.ndarray, Tracer))


def as_float64(x: Any) -> Any:
    """The array itself where it is laid out as programs read it, else a copy."""
    return need_numpy().ascontiguousarray(x, dtype="d")


def describe(x: Any, out: list[Any]) -> Any:
    """The structure of `x`; its scalars and arrays are appended to `out`. TypeError for what has none."""
    kind = type(x)
    if kind is float or kind is int or isinstance(x, Value):
        out.append(x)
        return "scalar"
    if kind is list or kind is tuple:
        return (kind.__name__, *[describe(y, out) for y in x])
    if kind.__name__ == "ndarray" and x.ndim:
        if x.dtype.kind not in "fiubO":
            raise TypeError(f"an array of {x.dtype}: arguments and results are arrays of real numbers, float64 inside")
        out.append(x)
        return ("array", x.shape)
    if kind is dict:
        keys = sorted(x, key=str)
        return ("dict", tuple(keys), *[describe(x[key], out) for key in keys])
    if is_array(x):
        if x.ndim == 0 and not isinstance(x, Tracer):
            out.append(x.item())
            return "scalar"
        out.append(x)
        return ("array", x.shape)
    if isinstance(x, tuple):  # a named one
        return ("tuple", *[describe(y, out) for y in x])
    if hasattr(kind, "__float__") or hasattr(kind, "__index__"):
        out.append(float(x))
        return "scalar"
    raise TypeError(
        f"{x!r} is of type {kind.__name__}: arguments and results of recorded functions are numbers, arrays, "
        "and lists, tuples and dicts of them"
    )


def rebuild(structure: Any, values: Iterator[Any]) -> Any:
    """What has this structure, with scalars and arrays from `values`."""
    if structure == "scalar" or structure[0] == "array":
        return next(values)
    if structure[0] == "list":
        return [rebuild(s, values) for s in structure[1:]]
    if structure[0] == "tuple":
        return tuple(rebuild(s, values) for s in structure[1:])
    return {key: rebuild(s, values) for key, s in zip(structure[1], structure[2:])}


def map_leaves(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of every scalar and array of `x`, in the same structure."""
    out: list[Any] = []
    structure = describe(x, out)
    return rebuild(structure, iter([function(leaf) for leaf in out]))


def leaves(tree: Any) -> list[Any]:
    """All numbers or Values in nested lists, tuples, dicts and arrays, in order."""
    out: list[Any] = []
    describe(tree, out)
    return [x for leaf in out for x in (elements(leaf) if is_array(leaf) else (leaf,))]


def elements(array: Any) -> list[Any]:
    """The elements of an array, row by row."""
    return list(need_numpy().asarray(array).ravel())
