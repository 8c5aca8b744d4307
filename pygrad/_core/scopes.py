"""The origin of nodes: named scopes, `with scope("layer1"):`, and lines of user code.

The tape stores both as numbers, by runs of nodes (csrc/tape/tags.c); this module maps the numbers to names.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Callable, TypeVar

from pygrad._core.errors import check, is_users
from pygrad._core.layer import TAPE, active_scopes, collect, enter_scope, present_scope, tables
from pygrad._pgr import ffi, lib

PARAMETERS = 1  # the scope of leaves that are parameters

_NAMES_AT_LEAST = 1 << 16  # drop unused names of scopes or lines from this number on

T = TypeVar("T")


class _Scopes:
    """The names of scope numbers.

    A unit is a scope, or a series of scopes, inside another; its numbers are consecutive. When the names have doubled,
    a purge drops the units that contain no node on the tape and no thread. Their numbers become free after the next
    purge, not at once: a thread may be about to enter one.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # a finaliser may record anywhere
        self.names: list[tuple[int, str] | None] = [(0, ""), (0, "")]  # by number: enclosing scope, name
        self.units: dict[tuple[int, str, int], range] = {}  # by enclosing scope, name, count (0: one scope)
        self.free: dict[int, list[range]] = {}  # by length
        self.dropped: list[range] = []  # in the last purge
        self.held: list[tuple[int, int]] = []  # (outer, present) for each active scope
        self.alive = 0  # names
        self.limit = _NAMES_AT_LEAST

    def unit(self, around: int, name: str, count: int) -> range:
        """The numbers of a unit; makes the unit if it is new. The caller has the lock."""
        key = around, name, count
        unit = self.units.get(key)
        if unit is None:
            length = count or 1
            free = self.free.get(length)
            unit = free.pop() if free else range(len(self.names), len(self.names) + length)
            self.names.extend([None] * (unit.stop - len(self.names)))
            for i, number in enumerate(unit, 1):
                self.names[number] = around, f"{name}{i}" if count else name
            self.units[key] = unit
            self.alive += length
        return unit

    def purge(self) -> None:
        """Drop unused names, if there are too many. Tables in use hold numbers, too: then try again later."""
        if self.alive < self.limit:
            return
        collect()  # which may also end tables
        with self.lock:
            if self.alive < self.limit:
                return
            if any(tables):  # len() would count those that have gone while Ctrl-C came
                self.limit = self.alive + _NAMES_AT_LEAST
                return
            used = {0, PARAMETERS}

            def use(number: int) -> None:
                while number not in used:
                    used.add(number)
                    name = self.names[number]
                    number = 0 if name is None else name[0]

            for number in (*_tags(lib.PGR_TAG_SCOPE), *itertools.chain.from_iterable(list(self.held))):
                use(number)
            for first, count, before in active_scopes():
                use(before)
                for number in range(first, min(first + count, len(self.names))):
                    use(number)
            inside.cache_clear()
            series.cache_clear()
            for unit in self.dropped:
                self.free.setdefault(len(unit), []).append(unit)
            self.dropped = []
            for key, unit in list(self.units.items()):
                if used.isdisjoint(unit):
                    del self.units[key]
                    self.alive -= len(unit)
                    self.dropped.append(unit)
                    for number in unit:
                        self.names[number] = None
            self.limit = max(_NAMES_AT_LEAST, 2 * self.alive)


_scopes = _Scopes()


def _tags(channel: int) -> set[int]:
    """The tags of all nodes on the tape, and of the next one."""
    capacity = 0
    while True:
        tags = ffi.new("uint32_t[]", capacity)
        count = lib.pgr_tape_tags(TAPE, channel, capacity, tags)
        if count <= capacity:
            return set(tags[0:count])
        capacity = 2 * count


@functools.lru_cache(maxsize=1 << 16)
def inside(around: int, name: str) -> int:
    """The number of a scope inside another; "a/b" is b inside a."""
    _scopes.purge()
    with _scopes.lock:
        for part in name.split("/"):
            around = _scopes.unit(around, part, 0).start
    return around


@functools.lru_cache(maxsize=1 << 12)
def series(around: int, name: str, count: int) -> range:
    """The numbers of name1, name2, ... inside a scope, one after another."""
    _scopes.purge()
    with _scopes.lock:
        return _scopes.unit(around, name, count)


def count() -> int:
    """The number of scope numbers."""
    return len(_scopes.names)


def path(number: int) -> tuple[str, ...]:
    """The names of a scope, the outermost first; () for no scope and for that of parameters."""
    names: list[str] = []
    while number > PARAMETERS and (scope := _scopes.names[number]) is not None:
        number, name = scope
        names.append(name)
    return tuple(reversed(names))


def line(number: int) -> str:
    """'file:line', '' for none."""
    return _lines[number]


class scope(contextlib.ContextDecorator):  # noqa: N801
    """with scope("attention"): group the nodes recorded inside; large drawings show them as one box.

    name: a str, not empty; scopes nest, and "a/b" is b inside a. Also a decorator: @scope("attention"). Every thread
    has its own scope, but nodes that other threads record at the same moment may be put into this one's. Raises
    TypeError or ValueError for bad names. A name is kept as long as any node recorded in it.

    >>> import json
    >>> from pygrad import Value, to_json
    >>> with scope("square"):
    ...     y = Value(3.0) ** 2
    >>> json.loads(to_json(y))["nodes"][-1]["scope"]
    'square'
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"scope({name!r}): a name is a str, not {type(name).__name__}")
        if not all(name.split("/")):
            raise ValueError(f"scope({name!r}): a name must not be empty, nor a part of it between slashes")
        self.name = name
        self._held: list[tuple[int, int]] = []  # a stack, since a scope may be entered again inside itself

    def _recreate_cm(self) -> scope:
        return scope(self.name)

    def __enter__(self) -> scope:
        before = present_scope()
        number = inside(before, self.name)
        held = before, number
        _scopes.held.append(held)
        self._held.append(held)
        enter_scope(number)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        held = self._held.pop()
        enter_scope(held[0])
        _scopes.held.remove(held)


def each(name: str, parts: Sequence[T]) -> Generator[T, None, None]:
    """Iterate over parts, each in its own scope: name1, name2, ...

    Close it at the end: after an exception, only CPython would do so at once.
    """
    if not parts:
        return
    before = present_scope()
    numbers = series(before, name, len(parts))
    held = before, numbers.start
    _scopes.held.append(held)
    try:
        for number, part in zip(numbers, parts):
            enter_scope(number)
            yield part
    finally:
        enter_scope(before)
        _scopes.held.remove(held)


_lines: dict[int, str] = {0: ""}  # by number: 'file:line'
_line_numbers: dict[str, int] = {}
_lines_at_most = _NAMES_AT_LEAST


def tag_line(text: str) -> None:
    """Tag all nodes recorded from now on with a line, 'file:line'; '' for none."""
    global _lines_at_most
    if len(_lines) >= _lines_at_most:
        collect()  # which may also end tables
    with _scopes.lock:
        if len(_lines) >= _lines_at_most and any(tables):
            _lines_at_most = len(_lines) + _NAMES_AT_LEAST
        if len(_lines) >= _lines_at_most:
            used = _tags(lib.PGR_TAG_LINE)
            for unused in [line for line in _lines if line and line not in used]:
                del _line_numbers[_lines.pop(unused)]
            _lines_at_most = max(_NAMES_AT_LEAST, 2 * len(_lines))
        number: int | None = _line_numbers.get(text) if text else 0
        if number is None:
            number = _line_numbers[text] = next(_new_lines)
            _lines[number] = text
        check(lib.pgr_tape_tag(TAPE, lib.PGR_TAG_LINE, number))


_new_lines = itertools.count(1)


@contextlib.contextmanager
def watched_lines(reached: Callable[[str], None], wanted: Callable[[], Any] = lambda: True) -> Iterator[None]:
    """In a `with` block: call `reached` with 'file:line' for every line of user code, while wanted() is true.

    Slow: Python calls back for every line. Other tracers, such as debuggers and coverage, see nothing meanwhile.
    """

    def tell(frame: FrameType | None) -> None:
        while frame is not None and not is_users(frame):
            frame = frame.f_back
        reached("" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}")

    def watch(frame: FrameType, event: str, _arg: Any) -> Any:
        if wanted() and event in ("line", "return"):
            tell(frame if event == "line" else frame.f_back)
        return watch if wanted() and is_users(frame) else None

    before = sys.gettrace()
    here: FrameType | None = sys._getframe()
    traced = []
    while here is not None:  # settrace only affects functions called from now on
        if is_users(here):
            traced.append((here, here.f_trace, here.f_trace_lines))
            here.f_trace, here.f_trace_lines = watch, True  # coverage.py wants no lines of files that it leaves out
        here = here.f_back
    if wanted():
        tell(sys._getframe())  # the current line, which has begun already
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)
        for frame, trace, lines in traced:
            frame.f_trace, frame.f_trace_lines = trace, lines
