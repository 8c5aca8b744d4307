"""Objects and their nodes: which object a handle has, what belongs to a node while it has none, how objects end."""

from __future__ import annotations

import sys
import time
import weakref
from typing import Any, Callable

from pygrad._core import numbers
from pygrad._core.errors import check, unknown
from pygrad._core.portable.tape import LATE, collecting, count_object, in_collector, lock, tape
from pygrad._pgr import lib


class Slots:
    """What every operand has: its handle, its attributes."""

    __slots__ = ("__dict__", "__weakref__", "_end", "_handle", "_kept", "_made")
    _handle: int
    _end: End
    _made: bool  # by __new__, so that __init__ finds nothing to do
    _kept: Any  # what `_prev` gives; None until it is asked for


own_of: Callable[[Slots], dict[str, Any]] = Slots.__dict__["__dict__"].__get__
set_own: Callable[[Slots, dict[str, Any]], None] = Slots.__dict__["__dict__"].__set__

# What a node's object is, and what belongs to it while it has none, change together, with lock.
objects: dict[int, weakref.ref[Slots]] = {}


class _Adopted:
    """What results are made of, and what belongs to nodes that have no object: see adopt."""

    value_type: type[Any]
    set_type: type[set[Any]]
    notes: dict[int, dict[str, Any]]


adopted = _Adopted()


def adopt(value_type: type[Any], notes: dict[int, dict[str, Any]], *used: Any) -> None:
    """Make results of `value_type`, a subclass of Operand, from now on; the rest is for C, but for the type of sets."""
    adopted.value_type, adopted.notes, adopted.set_type = value_type, notes, used[-1]


def as_number(value: Any) -> float | None:
    """The number that `value` is, or None."""
    if isinstance(value, Slots):
        return unknown("float") if lib.pgr_h_unknown(tape, value._handle) else None
    return numbers.as_number(value)


def drop_dead() -> None:
    """Let go of what belonged to nodes that have died."""
    while handle := lib.pgr_h_next_dead(tape):
        adopted.notes.pop(handle, None)


def registered(handle: int) -> Any:
    """The object of a handle, or None: not one whose __del__ has taken it off the registry meanwhile."""
    reference = objects.get(handle)
    value = None if reference is None else reference()
    return value if objects.get(handle) is reference else None


def is_ending(handle: int) -> bool:
    """Whether the old object's weak reference is dead already, and the finaliser, in another thread, has yet to bring
    its notes: the collector's __del__, or an End.
    """
    reference = objects.get(handle)
    is_dead = reference is not None and reference() is None
    return bool(is_dead and not LATE and not in_collector())


_ENDS_WITHIN = 1.0  # seconds: a finaliser that Ctrl-C has ended brings nothing


def check_alive(value: Slots) -> None:
    """Raise ReferenceError if a value's node is gone: a finaliser may save an object whose node has died."""
    if not lib.pgr_h_alive(tape, value._handle):
        check(lib.PGR_ERR_HANDLE)


def wrap(handle: int, kind: type[Any] | None = None, new: Callable[..., Any] = object.__new__) -> Any:
    """A new object for a handle that has none, taking over one hold."""
    value = new(adopted.value_type if kind is None else kind)
    value._handle, value._kept, value._made = handle, None, False
    objects[handle] = weakref.ref(value)
    if LATE:
        count_object()
    return value


def leave(handle: int, notes: dict[str, Any], ended: object = None) -> None:
    """Give back what an object held that has come to its end."""
    other = registered(handle)
    if other is None or other is ended:
        objects.pop(handle, None)
        if notes:
            adopted.notes[handle] = notes
    else:  # it was finalised late: the node has a new object already
        for name, value in notes.items():
            if name != "__class__":
                own_of(other).setdefault(name, value)
    # Called by the cyclic collector, the object may live on, in a closure that has just gone to
    # `adopted.notes`; then its handle must stay good for as long as its node lives.
    lib.pgr_h_release(tape, handle, bool(notes) or collecting())


class End:
    """Stands in for the __del__ of an object whose own has been called already."""

    def __init__(self, handle: int, notes: dict[str, Any]) -> None:
        self.handle, self.notes = handle, notes

    def __del__(self) -> None:
        with lock:
            leave(self.handle, self.notes)


class _Probe:
    """How many references there are in the __del__ of an object that nobody has."""

    seen = 0

    def __del__(self) -> None:
        with lock:
            _Probe.seen = references(self)


references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)
_Probe()
ALONE = _Probe.seen


def of(handle: int) -> Any:
    """Return the Value of a handle, taking over one hold."""
    if not lib.pgr_h_alive(tape, handle):
        check(lib.PGR_ERR_HANDLE)
    begun = 0.0
    while True:
        with lock:
            value = registered(handle)
            if value is not None:
                break
            if not is_ending(handle) or (begun and time.monotonic() - begun > _ENDS_WITHIN):
                notes = adopted.notes.get(handle)
                value = wrap(handle, None if notes is None else notes.get("__class__"))
                if notes is not None:
                    notes.pop("__class__", None)
                    set_own(value, notes)  # first, lest Ctrl-C come between
                    adopted.notes.pop(handle, None)
                return value
        begun = begun or time.monotonic()
        time.sleep(0)
    lib.pgr_h_release(tape, handle, 0)  # the object has one already
    return value
