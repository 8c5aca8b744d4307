"""Classes whose instances are nodes of trees: named tuples, dataclasses, and those that register_tree_node adds."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple, TypeVar

T = TypeVar("T")
Flatten = Callable[[Any], "tuple[Iterable[Any], Any]"]
Unflatten = Callable[[Any, "tuple[Any, ...]"], Any]


class Node(NamedTuple):
    """A class, and what its instances have in common besides their children. csrc/python/call.c reads it in order."""

    kind: type
    aux: Any  # (a key that is equal for the same alone, what the class's functions know as aux): see _exactly
    flatten: Flatten
    unflatten: Unflatten

    def __reduce__(self) -> tuple[Any, ...]:
        return _node, (self.kind, self.aux[1])

    def made(self, children: Iterable[Any]) -> Any:
        """The instance with these children."""
        return self.unflatten(self.aux, tuple(children))

    def names(self, count: int) -> list[str]:
        """How Python source writes each of `count` children after an instance."""
        if self.kind in _registered:
            return [f"[{i}]" for i in range(count)]
        return [f".{name}" for name in (getattr(self.kind, "_fields", None) or _fields(self.kind)[0])]


_registered: dict[type, tuple[Flatten, Unflatten]] = {}
_known: dict[type, tuple[Flatten, Unflatten] | None] = {}  # with other classes seen so far; None: no node


def register_tree_node(kind: type[T], flatten: Callable[[T], Any], unflatten: Callable[[Any, Any], T]) -> None:
    """Make instances of a class nodes of trees, as jax.tree_util.register_pytree_node.

    flatten(x) returns (children, aux): the parts that are trees, and the rest, which must be hashable; functions are
    recorded once for each aux. unflatten(aux, children) makes an instance. Register subclasses, too. Named
    tuples and dataclasses are nodes already; fields with metadata={"static": True} are a dataclass's aux. Raises
    ValueError if the class is registered already.

    >>> class Line:
    ...     def __init__(self, slope, start): self.slope, self.start = slope, start
    >>> register_tree_node(Line, lambda l: ((l.slope, l.start), None), lambda _, parts: Line(*parts))
    >>> from pygrad import grad
    >>> grad(lambda l: l.slope * 3.0 + l.start)(Line(1.0, 2.0)).slope
    3.0
    """
    if not isinstance(kind, type) or not callable(flatten) or not callable(unflatten):
        raise TypeError(
            f"register_tree_node({kind!r}, {flatten!r}, {unflatten!r}): takes a class, a function of an instance that "
            "returns (children, aux), and a function of (aux, children) that returns an instance"
        )
    if kind in _registered or kind in (list, tuple, dict, type(None)):
        raise ValueError(f"register_tree_node: {kind.__name__} is registered already")
    _registered[kind] = _known[kind] = _exactly(flatten, unflatten)


def is_node(kind: type) -> bool:
    """Whether instances of a class are nodes: registered, named tuples or dataclasses."""
    return _functions(kind) is not None


def taken_apart(x: Any) -> tuple[Node, tuple[Any, ...]] | None:
    """(the node, the children) of an instance; None if its class is no node."""
    kind = type(x)
    functions = _known[kind] if kind in _known else _functions(kind)
    if functions is None:
        return None
    children, aux = functions[0](x)
    try:
        hash(aux)
    except TypeError:
        raise TypeError(
            f"{kind.__name__}: the aux data {aux[1]!r} must be hashable: functions are recorded for each value of it"
        ) from None
    return Node(kind, aux, *functions), tuple(children)


def exact(x: Any) -> Any:
    """A key of `x`, equal for the same types and numbers only: not for 1, 1.0 and True, nor for 0.0 and -0.0.

    It looks into tuples, frozensets and dataclasses. It is hashable if `x` is.
    """
    kind = type(x)
    if kind is int or kind is str or x is None:
        return (kind, x)
    if isinstance(x, tuple):
        return (kind, *map(exact, x))
    if isinstance(x, (float, complex)):
        return (kind, repr(x))
    if isinstance(x, frozenset):
        return (kind, frozenset(map(exact, x)))
    if kind.__module__ in ("numpy", "decimal"):  # other numbers with two zeros
        return (kind, repr(x), x)
    return (kind, x, *_exact_fields(x)) if hasattr(kind, "__dataclass_fields__") else (kind, x)


def _exact_fields(x: Any) -> tuple[Any, ...]:
    """Of a dataclass, what compares; nothing where its class has a hash of its own for what has none."""
    fields = [field for field in dataclasses.fields(x) if field.compare and field.hash is not False]
    found = tuple([exact(getattr(x, field.name, None)) for field in fields])
    try:
        hash(found)
    except TypeError:
        return ()
    return found


def _functions(kind: Any) -> tuple[Flatten, Unflatten] | None:
    if kind not in _known:
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            _known[kind] = (lambda x: (x, _NO_AUX), lambda _, children: kind._make(children))
        else:
            _known[kind] = _of_dataclass(kind) if dataclasses.is_dataclass(kind) else None
    return _known[kind]


def _fields(kind: Any) -> tuple[list[str], list[str]]:
    """The names of a dataclass's fields: those that are trees, and the static ones."""
    fields = [field for field in dataclasses.fields(kind) if field.init]
    static = [field.name for field in fields if field.metadata.get("static")]
    return [field.name for field in fields if field.name not in static], static


def _of_dataclass(kind: Any) -> tuple[Flatten, Unflatten]:
    data, static = _fields(kind)

    def flatten(x: Any) -> tuple[list[Any], Any]:
        rest = tuple([getattr(x, name) for name in static])
        return [getattr(x, name) for name in data], (exact(rest), rest)

    def unflatten(aux: Any, children: tuple[Any, ...]) -> Any:
        return kind(**dict(zip(data, children)), **dict(zip(static, aux[1])))

    return flatten, unflatten


_NO_AUX = (exact(None), None)


def _exactly(flatten: Flatten, unflatten: Unflatten) -> tuple[Flatten, Unflatten]:
    """The functions with (exact(aux), aux) in place of aux, so that nodes are equal for the same aux alone."""

    def flatten_exactly(x: Any) -> tuple[Any, Any]:
        children, aux = flatten(x)
        return children, _NO_AUX if aux is None else (exact(aux), aux)

    return flatten_exactly, lambda aux, children: unflatten(aux[1], children)


def _node(kind: type, aux: Any) -> Node:
    """For pickle: the functions are those of the class here."""
    functions = _functions(kind)
    if functions is None:
        raise ValueError(f"{kind!r} is no node of trees here: call register_tree_node first")
    return Node(kind, (exact(aux), aux), *functions)


register_tree_node(OrderedDict, lambda x: (x.values(), tuple(x)), lambda keys, values: OrderedDict(zip(keys, values)))
