"""The fields of every object, and the types that the layer above gives."""

from __future__ import annotations

from typing import Any, Callable


class Slots:
    """The fields of every operand: its handle and its attributes."""

    __slots__ = ("__dict__", "__weakref__", "_end", "_handle", "_kept", "_made", "_page")
    _handle: int
    _end: Any  # what ends the node's hold in the place of __del__, if anything does
    _made: bool  # __new__ did all the work; __init__ has none left
    _kept: Any  # the set in `_prev`; None until it is read
    _page: Any  # of objects that end late: see registry.py
    _ended: Callable[[], None]


# To read attributes that users set; objects.own_of and set_own change them.
attributes_of: Callable[[Slots], dict[str, Any]] = Slots.__dict__["__dict__"].__get__
set_attributes: Callable[[Slots, dict[str, Any]], None] = Slots.__dict__["__dict__"].__set__

# The same as an assignment, past Operand.__setattr__.
set_handle: Callable[[Slots, int], None] = Slots.__dict__["_handle"].__set__
set_kept: Callable[[Slots, Any], None] = Slots.__dict__["_kept"].__set__
set_made: Callable[[Slots, bool], None] = Slots.__dict__["_made"].__set__
set_end: Callable[[Slots, Any], None] = Slots.__dict__["_end"].__set__
set_page: Callable[[Slots, Any], None] = Slots.__dict__["_page"].__set__


class _Adopted:
    """The type of results, and the notes of nodes without an object: see adopt."""

    value_type: type[Any]
    set_type: type[set[Any]]
    notes: dict[int, dict[str, Any]]
    set_of: Callable[[type[set[Any]]], type[set[Any]]] = staticmethod(lambda set_type: set_type)


adopted = _Adopted()


def adopt(
    *, value_type: type[Any], notes: dict[int, dict[str, Any]], set_type: type[set[Any]], **_used_by_c: Any
) -> None:
    """From now on, make results of `value_type`, a subclass of Operand, and sets in `_prev` of `set_type`."""
    adopted.value_type, adopted.notes, adopted.set_type = value_type, notes, adopted.set_of(set_type)
