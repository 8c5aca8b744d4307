"""The portable layer's tape, its lock, its interpreter's collector, and the scope of each thread."""

from __future__ import annotations

import contextlib
import gc
import platform
import threading
from types import TracebackType
from typing import Any

from pygrad import _pgr
from pygrad._core.errors import check
from pygrad._pgr import ffi, lib

tape = lib.pgr_tape_new(ffi.NULL)
if tape == ffi.NULL:
    raise MemoryError("no memory for a tape")

if hasattr(lib, "pgr_tape_use_gil"):
    check(lib.pgr_tape_use_gil(tape))
    lock: Any = threading.RLock()
    stop = ffi.addressof(lib, "pgr_stop_for_signal")
    unlocked: Any = contextlib.nullcontext()  # Python's own lock goes from thread to thread
else:

    def _keep_raised(_kind: type[BaseException], error: BaseException, traceback: TracebackType) -> int:
        _pgr.__dict__["_stopped_by"] = error.with_traceback(traceback)  # as csrc/python/operand.c does
        return 1

    @ffi.def_extern(name="pgr_py_stop", error=1, onerror=_keep_raised)  # type: ignore[untyped-decorator, unused-ignore]
    def _let_signals_in(_context: Any) -> int:
        for _ in range(2):  # compiled, PyPy looks for signals where a loop goes back
            pass
        return 0

    check(lib.pgr_tape_use_mutex(tape))

    class _TapeLock:
        """The tape's own mutex: a second lock beside it could deadlock."""

        def __enter__(self) -> None:
            lib.pgr_tape_lock(tape, 1)

        def __exit__(self, *_: object) -> None:
            lib.pgr_tape_lock(tape, 0)

    class _Unlocked:
        """Lets other threads at the tape, within one call on it."""

        def __enter__(self) -> None:
            lib.pgr_tape_lock(tape, 0)

        def __exit__(self, *_: object) -> None:
            lib.pgr_tape_lock(tape, 1)

    lock, unlocked = _TapeLock(), _Unlocked()
    stop = lib.pgr_py_stop
    lib.pgr_tape_on_stop(tape, stop, ffi.NULL)

# Without reference counts, objects die late, when the interpreter's collector runs.
LATE = platform.python_implementation() != "CPython"

_collector = 0  # the thread that it runs in


def in_collector() -> bool:
    """Whether that collector runs in this thread."""
    return _collector == threading.get_ident()


def collecting() -> bool:
    """Whether that collector may be the caller of a __del__ that runs now."""
    return LATE or in_collector()


def _watch_collector(phase: str, _info: dict[str, int]) -> None:
    global _collector
    _collector = threading.get_ident() if phase == "start" else 0


if not LATE:
    gc.callbacks.append(_watch_collector)


class _Thread(threading.local):
    scope = 0


_thread = _Thread()


def present_scope() -> int:
    """Return the number of the thread's scope."""
    return _thread.scope


def enter_scope(number: int) -> None:
    """Put all nodes that this thread records from now on into the scope of this number."""
    check(lib.pgr_tape_tag(tape, lib.PGR_TAG_SCOPE, number))
    _thread.scope = number


def call_in_scopes(functions: list[Any], x: Any, first: int) -> list[Any]:
    """Return [f(x) for f in functions], each in its own scope: first, first + 1, ..."""
    before = _thread.scope
    call = _Call((first, len(functions), before))
    _calls.add(call)
    try:
        return [f(x) for f, _ in zip(functions, map(enter_scope, range(first, first + len(functions))))]
    finally:
        enter_scope(before)
        _calls.discard(call)


class _Call(tuple[int, int, int]):
    """An active call of call_in_scopes: its first scope, their number, the scope before."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_calls: set[_Call] = set()


def active_scopes() -> list[tuple[int, int, int]]:
    """Return the active calls of call_in_scopes, in all threads."""
    return list(_calls)
