"""Structures: numbers and arrays nested in lists, tuples, dicts and registered classes; flatten and unflatten them.

A structure is a nested tuple: 'scalar', ('array', shape), ('none',), ('list', ...), ('tuple', ...),
('dict', keys, ...), ('registered', Node, ...).
"""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable

from pygrad._core.errors import shown
from pygrad._core.layer import Operand
from pygrad._core.numbers import array_fault, as_number, way_out
from pygrad._core.tree_nodes import is_node, taken_apart


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


def as_float64(x: Any, aligned: bool = True) -> Any:
    """The array itself if C can read its layout, else a copy. Raises TypeError unless it holds numbers.

    Programs read arrays that are not aligned, too.
    """
    np = need_numpy()
    if x.dtype != object:
        plain = np.ascontiguousarray(x, dtype="d")
        return plain if plain.flags.aligned or not aligned else plain.copy()
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
    """(the scalars and arrays in `x`, its structure), as jax.tree_util.tree_flatten. See tree_leaves.

    Scalars and arrays come in order, those of dicts by their keys. Raises TypeError for anything else in `x`.

    >>> leaves, structure = tree_flatten({"b": (2.0, None), "a": [1.0]})
    >>> leaves, tree_unflatten(structure, [10.0, 20.0])
    ([1.0, 2.0], {'a': [10.0], 'b': (20.0, None)})
    """
    out: list[Any] = []
    structure = _flatten(x, out)
    return out, structure


def tree_structure(x: Any) -> Any:
    """The structure of `x`."""
    return _flatten(x, [])


def parts(structure: Any) -> tuple[Any, ...]:
    """The structures of a node's children; none of a scalar or an array."""
    if structure == "scalar" or structure[0] == "array":
        return ()
    rest: tuple[Any, ...] = structure[2 if structure[0] in ("dict", "registered") else 1 :]
    return rest


def is_leaf(structure: Any) -> bool:
    """Whether it is the structure of a scalar or an array."""
    return bool(structure == "scalar" or structure[0] == "array")


def kinds_in(structure: Any) -> set[str]:
    """The kinds of its nodes and arrays."""
    found: set[str] = set()
    todo = [structure]
    while todo:
        part = todo.pop()
        if part != "scalar":
            found.add(part[0])
            todo += parts(part)
    return found


def tree_shapes(structure: Any) -> list[Any]:
    """The shape of each leaf, in order, None for a scalar."""
    if structure == "scalar":
        return [None]
    return [structure[1]] if structure[0] == "array" else [x for part in parts(structure) for x in tree_shapes(part)]


def tree_paths(structure: Any) -> Iterator[tuple[str, Any]]:
    """For each leaf: its path, as Python source, and its shape, None for a scalar."""
    if is_leaf(structure):
        yield "", None if structure == "scalar" else structure[1]
        return
    inner = parts(structure)
    names = [f"[{key!r}]" for key in (structure[1] if structure[0] == "dict" else range(len(inner)))]
    if structure[0] == "registered":
        names = structure[1].names(len(inner))
    for name, part in zip(names, inner):
        for path, shape in tree_paths(part):
            yield name + path, shape


def _opened(x: Any) -> tuple[tuple[Any, ...], Iterable[Any]] | None:
    """(what the structure of a node begins with, its children); None if `x` is no node."""
    kind = type(x)
    if kind is list or kind is tuple:
        return (kind.__name__,), x
    if kind is dict:
        keys = sorted(x, key=str)
        return ("dict", tuple(keys)), [x[key] for key in keys]
    if x is None:
        return ("none",), ()
    found = taken_apart(x)
    if found is not None:
        return ("registered", found[0]), found[1]
    return (("tuple",), x) if isinstance(x, tuple) else None


def _flatten(x: Any, out: list[Any]) -> Any:
    kind = type(x)
    if kind is float or kind is int or kind is bool or isinstance(x, Operand):
        out.append(x)
        return "scalar"
    if kind is list or kind is tuple:
        return (kind.__name__, *[_flatten(y, out) for y in x])
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
    opened = _opened(x)
    if opened is not None:
        return (*opened[0], *[_flatten(y, out) for y in opened[1]])
    found = as_number(x)
    if found is not None:
        out.append(bool(x) if kind.__name__ in ("bool", "bool_") else found)  # a comparison of NumPy's
        return "scalar"
    raise TypeError(
        f"{x!r} is of type {kind.__name__}: arguments and results of recorded functions are numbers, arrays, "
        f"and lists, tuples and dicts of them{way_out(x) or _another_way}"
    )


_another_way = (
    ", dataclasses, and classes passed to register_tree_node; static_argnames= of jit, and fields of a dataclass with "
    "metadata={'static': True}, take anything that is hashable"
)


def refuse_values(args: tuple[Any, ...], whose: str, places: Sequence[Any] | None = None) -> None:
    """Raise TypeError for an eager Value among a recorded function's arguments: the results are plain numbers.

    places: what the arguments are called, if not by their positions.
    """
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
        f"argument {i if places is None else places[i]}{what}, whose gradient would end here, since results are plain "
        "numbers: pass v.data, call the plain function, or differentiate the whole computation with pygrad.grad"
    )


def flat_arguments(args: tuple[Any, ...], whose: str, places: Sequence[Any] | None = None) -> tuple[list[Any], Any]:
    """tree_flatten(args). Its TypeError names the argument. places: see refuse_values."""
    try:
        return tree_flatten(args)
    except TypeError as error:
        for i, x in zip(range(len(args)) if places is None else places, args):
            path, leaf = _first_unfit(x)
            if path is not None:
                way = f"static_argnums={i}" if isinstance(i, int) else f"static_argnames={i!r}"
                more = f", or make it static: jit(f, {way})" if isinstance(leaf, str) and not path else ""
                raise TypeError(f"argument {i}{path} of {whose}: {error}{more}") from error
        raise


def _first_unfit(x: Any) -> tuple[str | None, Any]:
    """(how Python source leads to the first leaf of a tree that is not one, this leaf); None, None if all are."""
    try:
        _flatten(x, [])
    except TypeError:
        keys: Any = sorted(x, key=str) if type(x) is dict else range(len(x)) if isinstance(x, (list, tuple)) else ()
        for key in keys:
            path, leaf = _first_unfit(x[key])
            if path is not None:
                return f"[{key!r}]{path}", leaf
        return "", x
    return None, None


def _first_value(x: Any) -> list[Any] | None:
    """The keys and indices that lead to the first Value in nested arguments; None if there is none."""
    if isinstance(x, Operand):
        return []
    items: Any = ()
    if isinstance(x, (list, tuple)):
        items = enumerate(x)
    elif isinstance(x, dict):
        items = x.items()
    elif is_array(x):
        items = need_numpy().ndenumerate(x) if not isinstance(x, Tracer) and x.dtype == object else ()
    elif type(x) is not int and is_node(type(x)):
        items = enumerate((taken_apart(x) or ((), ()))[1])
    for key, y in items:
        if type(y) is not float:
            keys = _first_value(y)
            if keys is not None:
                return [key, *keys]
    return None


def tree_unflatten(structure: Any, values: Iterable[Any]) -> Any:
    """The tree of this structure, filled with `values`, its scalars and arrays in order; undoes tree_flatten.

    Raises ValueError if there are fewer or more values than the structure has scalars and arrays. From an iterator,
    only the values needed are taken.

    >>> tree_unflatten(tree_flatten([1.0, (2.0,)])[1], [3.0, 4.0])
    [3.0, (4.0,)]
    """
    rest = iter(values)
    try:
        tree = _unflatten(structure, rest)
    except StopIteration:
        raise ValueError("tree_unflatten: fewer values than the structure has scalars and arrays") from None
    if rest is not values:
        for value in rest:
            raise ValueError(
                f"tree_unflatten: more values than the structure has scalars and arrays; one too many is {value!r}"
            )
    return tree


def _unflatten(structure: Any, values: Iterator[Any]) -> Any:
    kind = structure[0]
    if structure == "scalar" or kind == "array":
        return next(values)
    if kind == "list" or kind == "tuple":
        children = [_unflatten(part, values) for part in structure[1:]]
        return children if kind == "list" else tuple(children)
    if kind == "none":
        return None
    children = [_unflatten(part, values) for part in structure[2:]]
    return dict(zip(structure[1], children)) if kind == "dict" else structure[1].made(children)


def tree_map(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply `function` to every scalar and array of `tree`, with those of `rest` at the same places, as jax.tree.map.

    Returns a tree of the same structure. Each of `rest` has the structure of `tree`, or trees in place of its scalars
    and arrays; else it raises ValueError.

    >>> tree_map(lambda p, g: p - 0.1 * g, {"w": 1.0, "b": (2.0,)}, {"w": 10.0, "b": (0.0,)})
    {'b': (2.0,), 'w': 0.0}
    """
    out, structure = tree_flatten(tree)
    others: list[list[Any]] = [[] for _ in rest]
    for found, other in zip(others, rest):
        _up_to(structure, other, found)
    return tree_unflatten(structure, [function(*leaves) for leaves in zip(out, *others)])


def _up_to(structure: Any, x: Any, out: list[Any]) -> None:
    """Append what `x` has at the places of the structure's leaves."""
    if is_leaf(structure):
        out.append(x)
        return
    inner = parts(structure)
    opened = _opened(x)
    if opened is None or (*opened[0], *inner) != structure:
        raise ValueError(
            f"tree_map: {shown(x)} differs in structure from the first tree, which has a {_kind(structure)} here"
        )
    children = list(opened[1])
    if len(children) != len(inner):
        raise ValueError(f"tree_map: {len(children)} parts of {shown(x)} for {len(inner)} of the first tree")
    for part, y in zip(inner, children):
        _up_to(part, y, out)


def _kind(structure: Any) -> str:
    return str(structure[1].kind.__name__ if structure[0] == "registered" else structure[0])


def is_axis(x: Any) -> bool:
    """Whether it is an integer, of whatever type; a bool is not meant as one."""
    if isinstance(x, bool) or not hasattr(type(x), "__index__"):
        return False
    with contextlib.suppress(TypeError):  # an array of several
        operator.index(x)
        return True
    return False


def tree_spread(prefix: Any, structure: Any, what: str) -> list[Any]:
    """For each leaf of the structure the int or None of `prefix`, whose tree may end above it. Raises ValueError."""
    out: list[Any] = []
    _spread(prefix, structure, what, out)
    return out


def _spread(prefix: Any, structure: Any, what: str, out: list[Any]) -> None:
    if prefix is None or is_axis(prefix):
        out += [prefix] * len(tree_shapes(structure))
        return
    inner = parts(structure)
    opened = _opened(prefix)
    children = [] if opened is None or is_leaf(structure) else list(opened[1])
    if is_leaf(structure) or opened is None or len(children) != len(inner) or (*opened[0], *inner) != structure:
        raise ValueError(f"{what}: {shown(prefix)} must be an int{_as_there(structure)}")
    for axis, part in zip(children, inner):
        _spread(axis, part, what, out)


def _as_there(structure: Any) -> str:
    """What else may be in place of an axis, for _spread's message."""
    if is_leaf(structure):
        return f" or None: it is for {'a number' if structure == 'scalar' else f'an array of shape {structure[1]}'}"
    if structure[0] == "dict":
        return (
            f", None, or a tree of them in a dict with the keys {', '.join(map(repr, structure[1]))}, like the argument"
        )
    return f", None, or a tree of them in a {_kind(structure)} of {len(parts(structure))}, like the argument"


def tree_leaves(tree: Any) -> list[Any]:
    """All numbers or Values in a tree (nested lists, tuples, dicts, arrays, dataclasses), in order.

    >>> tree_leaves({"a": 1.0, "b": [2.0, (3.0,)]})
    [1.0, 2.0, 3.0]
    """
    return [x for leaf in tree_flatten(tree)[0] for x in (elements(leaf) if is_array(leaf) else (leaf,))]


def elements(array: Any) -> list[Any]:
    """The elements of an array, row by row."""
    return list(need_numpy().asarray(array).ravel())
