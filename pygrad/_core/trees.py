"""Structures: numbers and arrays nested in lists, tuples and dicts; flatten and unflatten them.

A structure is a nested tuple: 'scalar', ('array', shape), ('list', ...), ('tuple', ...),
('dict', keys, ...).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from pygrad._core.errors import shown
from pygrad._core.layer import Operand
from pygrad._core.numbers import array_fault, as_number, way_out


def need_numpy() -> Any:
    """NumPy. Raises an ImportError that says how to install it."""
    try:
        import numpy
    except ImportError:
        raise ImportError("arrays need NumPy: pip install 'pygrad-engine[numpy]'") from None
    return numpy


class Tracer:
    """The placeholder for an array while a function is recorded: it has a shape and ndim."""

    shape: tuple[int, ...]
    ndim: int


def is_array(x: Any) -> bool:
    np = sys.modules.get("numpy")
    return np is not None and isinstance(x, (np.ndarray, Tracer))


def as_float64(x: Any) -> Any:
    """The array itself if programs can read its layout, else a copy. Raises TypeError unless it holds numbers."""
    np = need_numpy()
    if x.dtype != object:
        return np.ascontiguousarray(x, dtype="d")
    return np.array([real_number(y, "array of objects") for y in x.ravel().tolist()], dtype="d").reshape(x.shape)


def real_number(x: Any, where: str) -> float:
    """`x` as a float. Raises TypeError, naming `where`, for a Value and for anything but a real number."""
    found = None if isinstance(x, Operand) else as_number(x)
    if found is None:
        raise TypeError(f"{where}: {shown(x)} is of type {type(x).__name__}; it must be a real number{way_out(x)}")
    return found


def real_array(x: Any, where: str) -> Any:
    """`x`, nested lists or an array, as a C-contiguous float64 array. Raises TypeError unless all are numbers."""
    np = need_numpy()
    fault = masked_in(x)
    if fault is None:
        array = np.asarray(x)
        fault = array_fault(array)
    if fault is not None:
        raise TypeError(f"{where}: {fault}")
    return as_float64(array)


def masked_in(x: Any) -> str | None:
    """The fault of a masked array, or of a list with one; NumPy would ignore the mask. None if there is no mask."""
    if is_array(x) and type(x).__name__ != "ndarray":
        return array_fault(x)
    if isinstance(x, (list, tuple)) and x and not isinstance(x[0], (float, int)):
        return next(filter(None, map(masked_in, x)), None)
    return None


def tree_flatten(x: Any) -> tuple[list[Any], Any]:
    """(the scalars and arrays in `x`, its structure). Raises TypeError for anything else in it."""
    out: list[Any] = []
    structure = _flatten(x, out)
    return out, structure


def tree_structure(x: Any) -> Any:
    """The structure of `x`."""
    return _flatten(x, [])


def kinds_in(structure: Any) -> set[str]:
    """The kinds of its nodes and arrays."""
    if structure == "scalar":
        return set()
    if structure[0] == "array":
        return {"array"}
    return {structure[0]}.union(*map(kinds_in, structure[2 if structure[0] == "dict" else 1 :]))


def _flatten(x: Any, out: list[Any]) -> Any:
    kind = type(x)
    if kind is float or kind is int or isinstance(x, Operand):
        out.append(x)
        return "scalar"
    if kind is list or kind is tuple:
        return (kind.__name__, *[_flatten(y, out) for y in x])
    if kind is dict:
        keys = sorted(x, key=str)
        return ("dict", tuple(keys), *[_flatten(x[key], out) for key in keys])
    if isinstance(x, Tracer):
        out.append(x)
        return ("array", x.shape)
    if is_array(x):
        fault = array_fault(x)
        if fault is not None:
            raise TypeError(f"{shown(x)} is {fault}; arguments and results are arrays of real numbers, float64 inside")
        if x.ndim:
            out.append(x)
            return ("array", x.shape)
        return _flatten(x.item(), out)
    if isinstance(x, tuple):  # a named tuple
        return ("tuple", *[_flatten(y, out) for y in x])
    found = as_number(x)
    if found is not None:
        out.append(found)
        return "scalar"
    raise TypeError(
        f"{x!r} is of type {kind.__name__}: arguments and results of recorded functions are numbers, arrays, "
        f"and lists, tuples and dicts of them{way_out(x)}"
    )


def refuse_values(args: tuple[Any, ...], whose: str) -> None:
    """Raise TypeError for an eager Value among a recorded function's arguments: the results are plain numbers."""
    keys = _first_value(args)
    if keys is None:
        return
    i, *rest = keys
    at = [", ".join(map(str, key)) if isinstance(key, tuple) else repr(key) for key in rest]
    if rest and isinstance(rest[-1], tuple):
        what = f"{''.join(f'[{key}]' for key in at[:-1])} of {whose} holds an eager Value at [{at[-1]}]"
    else:
        what = f"{''.join(f'[{key}]' for key in at)} of {whose} is an eager Value"
    raise TypeError(
        f"argument {i}{what}, whose gradient would end here, since results are plain numbers: pass v.data, call the "
        "function itself, not recorded, or derive the whole computation with pygrad.grad"
    )


def _first_value(x: Any) -> list[Any] | None:
    """The keys and indices that lead to the first Value in nested arguments; None if there is none."""
    if isinstance(x, Operand):
        return []
    items: Any = ()
    if isinstance(x, (list, tuple)):
        items = enumerate(x)
    elif isinstance(x, dict):
        items = x.items()
    elif is_array(x) and not isinstance(x, Tracer) and x.dtype == object:
        items = need_numpy().ndenumerate(x)
    for key, y in items:
        if type(y) is not float:
            keys = _first_value(y)
            if keys is not None:
                return [key, *keys]
    return None


def tree_unflatten(structure: Any, values: Iterable[Any]) -> Any:
    """The tree of this structure, filled with `values`, its scalars and arrays in order."""
    return _unflatten(structure, iter(values))


def _unflatten(structure: Any, values: Iterator[Any]) -> Any:
    if structure == "scalar" or structure[0] == "array":
        return next(values)
    if structure[0] == "list":
        return [_unflatten(s, values) for s in structure[1:]]
    if structure[0] == "tuple":
        return tuple(_unflatten(s, values) for s in structure[1:])
    return {key: _unflatten(s, values) for key, s in zip(structure[1], structure[2:])}


def tree_map(function: Callable[[Any], Any], x: Any) -> Any:
    """Apply `function` to every scalar and array of `x`; returns the same structure."""
    out, structure = tree_flatten(x)
    return tree_unflatten(structure, [function(leaf) for leaf in out])


def tree_leaves(tree: Any) -> list[Any]:
    """All numbers or Values in nested lists, tuples, dicts and arrays, in order.

    >>> tree_leaves({"a": 1.0, "b": [2.0, (3.0,)]})
    [1.0, 2.0, 3.0]
    """
    return [x for leaf in tree_flatten(tree)[0] for x in (elements(leaf) if is_array(leaf) else (leaf,))]


def elements(array: Any) -> list[Any]:
    """The elements of an array, row by row."""
    return list(need_numpy().asarray(array).ravel())
