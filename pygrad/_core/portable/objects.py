"""Objects and their nodes: the object of a handle, the notes of a node without one, and how objects end."""

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
    """The fields of every operand: its handle and its attributes."""

    __slots__ = ("__dict__", "__weakref__", "_end", "_handle", "_kept", "_made")
    _handle: int
    _end: End
    _made: bool  # __new__ did all the work; __init__ has none left
    _kept: Any  # the set in `_prev`; None until it is read


own_of: Callable[[Slots], dict[str, Any]] = Slots.__dict__["__dict__"].__get__
set_own: Callable[[Slots, dict[str, Any]], None] = Slots.__dict__["__dict__"].__set__

# A node's object, and its notes while it has none, change together, under `lock`.
objects: dict[int, weakref.ref[Slots]] = {}


class _Adopted:
    """The type of results, and the notes of nodes without an object: see adopt."""

    value_type: type[Any]
    set_type: type[set[Any]]
    notes: dict[int, dict[str, Any]]


adopted = _Adopted()


def adopt(
    *, value_type: type[Any], notes: dict[int, dict[str, Any]], set_type: type[set[Any]], **_used_by_c: Any
) -> None:
    """From now on, make results of `value_type`, a subclass of Operand, and sets in `_prev` of `set_type`."""
    adopted.value_type, adopted.notes, adopted.set_type = value_type, notes, set_type


def as_number(value: Any) -> float | None:
    """`value` as a float, or None if it is not a number."""
    if isinstance(value, Slots):
        return unknown("float") if lib.pgr_h_unknown(tape, value._handle) else None
    return numbers.as_number(value)


def drop_dead() -> None:
    """Drop the notes of dead nodes."""
    while handle := lib.pgr_h_next_dead(tape):
        adopted.notes.pop(handle, None)


def registered(handle: int) -> Any:
    """The object of a handle, or None. An object that its __del__ has just removed does not count."""
    reference = objects.get(handle)
    value = None if reference is None else reference()
    return value if objects.get(handle) is reference else None


def is_ending(handle: int) -> bool:
    """Whether the old object's weak reference is dead, but its notes are still to come, from a finaliser in another
    thread: the collector's __del__, or an End.
    """
    reference = objects.get(handle)
    is_dead = reference is not None and reference() is None
    return bool(is_dead and not LATE and not in_collector())


_ENDS_WITHIN = 1.0  # seconds to wait: Ctrl-C may have ended the finaliser


def check_alive(value: Slots) -> None:
    """Raise ReferenceError if a value's node is gone: a finaliser may resurrect an object after its node died."""
    if not lib.pgr_h_alive(tape, value._handle):
        check(lib.PGR_ERR_HANDLE)


def wrap(handle: int, kind: type[Any] | None = None, new: Callable[..., Any] = object.__new__) -> Any:
    """A new object for a handle that has none. It takes one hold from the caller."""
    value = new(adopted.value_type if kind is None else kind)
    value._handle, value._kept, value._made = handle, None, False
    objects[handle] = weakref.ref(value)
    if LATE:
        count_object()
    return value


def leave(handle: int, notes: dict[str, Any], ended: object = None) -> None:
    """Release an ended object's hold, and keep its notes."""
    other = registered(handle)
    if other is None or other is ended:
        objects.pop(handle, None)
        if notes:
            adopted.notes[handle] = notes
    else:  # finalised late: the node has a new object already
        for name, value in notes.items():
            if name != "__class__":
                own_of(other).setdefault(name, value)
    # If the cyclic collector is running, the object may live on in a closure that has just moved to
    # `adopted.notes`; then its handle must stay valid as long as its node lives.
    lib.pgr_h_release(tape, handle, bool(notes) or collecting())


_ended: list[int] = []  # handles of ended objects without notes, whose holds are still to be released
_AT_ONCE = 256


def end_late(handle: int) -> None:
    """leave() for a late collector, of an object that refers to nothing: many of them at once.

    Such a collector ends an object after those that refer to it. So nothing can bring this one back.
    """
    _ended.append(handle)
    if len(_ended) >= _AT_ONCE:
        release_ended()


def release_ended() -> None:
    """Release the holds of objects that have ended."""
    while _ended:
        with lock:
            ended, _ended[:] = _ended[:], ()
            for handle in ended:
                reference = objects.get(handle)
                if reference is not None and reference() is None:  # the node has no new object
                    del objects[handle]
                lib.pgr_h_release(tape, handle, 0)


class End:
    """Replaces the __del__ of an object after Python has called it once."""

    def __init__(self, handle: int, notes: dict[str, Any]) -> None:
        self.handle, self.notes = handle, notes

    def __del__(self) -> None:
        with lock:
            leave(self.handle, self.notes)


class _Probe:
    """Counts the references inside __del__ of an object that nothing else refers to."""

    seen = 0

    def __del__(self) -> None:
        with lock:
            _Probe.seen = references(self)


references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)
_Probe()
ALONE = _Probe.seen


def of(handle: int) -> Any:
    """Return the Value of a handle. It takes one hold from the caller."""
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
                    set_own(value, notes)  # before the pop, in case Ctrl-C comes between
                    adopted.notes.pop(handle, None)
                return value
        begun = begun or time.monotonic()
        time.sleep(0)
    lib.pgr_h_release(tape, handle, 0)  # the object has a hold already
    return value
