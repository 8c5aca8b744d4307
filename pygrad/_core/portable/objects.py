"""Objects and their nodes: the object of a handle, the notes of a node without one, and how objects end."""

from __future__ import annotations

import sys
import time
import weakref
from typing import Any, Callable

from pygrad._core import numbers
from pygrad._core.errors import check, unknown
from pygrad._core.portable.registry import (
    NotedRef,
    give_end,
    objects,
    part_pages,
    put_on_page,
    registered,
    release_ended,
    run_finalisers,
    watch,
)
from pygrad._core.portable.slots import (
    Slots,
    adopted,
    attributes_of,
    set_attributes,
    set_end,
    set_handle,
    set_kept,
    set_made,
    set_page,
)
from pygrad._core.portable.tape import LATE, collecting, in_collector, lock, tape
from pygrad._pgr import lib


def as_number(value: Any) -> float | None:
    """`value` as a float, or None if it is not a number."""
    if isinstance(value, Slots):
        return unknown("float") if lib.pgr_h_unknown(tape, value._handle) else None
    return numbers.as_number(value)


def is_ending(handle: int) -> bool:
    """Whether the old object's weak reference is dead, but its notes are still to come, from a finaliser in another
    thread: the collector's __del__, or an End. Objects that end late may have theirs due in any thread.
    """
    reference = objects.get(handle)
    is_dead = reference is not None and reference() is None
    return is_dead and (isinstance(reference, NotedRef) if LATE else not in_collector())


_ENDS_WITHIN = 0.2 if LATE else 1.0  # seconds to wait: Ctrl-C may have ended the finaliser


def check_alive(value: Slots) -> None:
    """Raise ReferenceError if a value's node is gone: a finaliser may resurrect an object after its node died."""
    if not lib.pgr_h_alive(tape, value._handle):
        check(lib.PGR_ERR_HANDLE)


def wrap(handle: int, kind: type[Any] | None = None, new: Callable[..., Any] = object.__new__) -> Any:
    """A new object for a handle that has none. It takes one hold from the caller."""
    value = new(adopted.value_type if kind is None else kind)
    value._handle, value._kept, value._made = handle, None, False
    if LATE:
        set_page(value, None)
        watch(value, handle)
        if kind is not None:
            give_end(value)
    else:
        objects[handle] = weakref.ref(value)
    return value


def _wrap_late(handle: int, new: Callable[..., Any] = object.__new__) -> Any:
    value = new(adopted.value_type)
    set_handle(value, handle)
    set_kept(value, None)
    set_made(value, False)
    set_end(value, None)
    put_on_page(value, handle)
    return value


def _own_late(value: Slots) -> dict[str, Any]:
    give_end(value)
    return attributes_of(value)


def _set_own_late(value: Slots, own: dict[str, Any]) -> None:
    give_end(value)
    set_attributes(value, own)


# wrap() for a node that has just been recorded; a value's attributes, to be changed; other attributes for a value.
wrap_new: Callable[[int], Any] = _wrap_late if LATE else wrap
own_of: Callable[[Slots], dict[str, Any]] = _own_late if LATE else attributes_of
set_own: Callable[[Slots, dict[str, Any]], None] = _set_own_late if LATE else set_attributes


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
    is_passed_on = False  # the hold, to the object
    begun, tries = 0.0, 0
    try:
        while True:
            with lock:
                value = registered(handle)
                if LATE and value is None:
                    part_pages()
                    release_ended()
                    value = registered(handle)
                if value is not None:
                    return value
                if not is_ending(handle) or (begun and time.monotonic() - begun > _ENDS_WITHIN):
                    is_passed_on = True
                    return _wrap_again(handle)
            begun, tries = begun or time.monotonic(), tries + 1
            if LATE and tries <= 2:
                run_finalisers(again=tries == 2)
            time.sleep(0)
    finally:  # the object that was found has a hold already; and Ctrl-C may come while this waits
        if not is_passed_on:
            lib.pgr_h_release(tape, handle, 0)


def _wrap_again(handle: int) -> Any:
    """A new object for a node that has had one, and has its notes. It takes one hold from the caller."""
    notes = adopted.notes.get(handle)
    value = wrap(handle, None if notes is None else notes.get("__class__"))
    if notes is not None:
        notes.pop("__class__", None)
        set_own(value, notes)  # before the pop, in case Ctrl-C comes between
        adopted.notes.pop(handle, None)
    return value
