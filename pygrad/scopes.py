"""Where nodes come from: scopes that the user names, `with scope("layer1"):`, and lines of the user's code.

Both are numbers that the tape keeps by runs of nodes (csrc/tags.c); here is what they mean.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Callable, TypeVar

from pygrad._errors import check, is_users
from pygrad._pgr import lib
from pygrad.engine import TAPE, _enter_scope, _present_scope

PARAMETERS = 1  # the scope of leaves that are parameters

_scopes: list[tuple[int, str]] = [(0, ""), (0, "")]  # by number: the scope around it, its name
_lines: list[str] = [""]  # by number: 'file:line'
_lock = threading.Lock()

T = TypeVar("T")


def _new(around: int, *names: str) -> range:
    with _lock:
        first = len(_scopes)
        _scopes.extend((around, name) for name in names)
        return range(first, len(_scopes))


# A scope's nodes are found by its path, so it does no harm if one has several numbers.
@functools.lru_cache(maxsize=1 << 16)
def inside(around: int, name: str) -> int:
    """The number of a scope inside another; "a/b" is b inside a."""
    for part in name.split("/"):
        around = _new(around, part)[0]
    return around


@functools.lru_cache(maxsize=1 << 12)
def series(around: int, name: str, count: int) -> range:
    """The numbers of name1, name2, ... inside a scope, one after another."""
    return _new(around, *(f"{name}{i}" for i in range(1, count + 1)))


def count() -> int:
    """How many numbers of scopes there are."""
    return len(_scopes)


def path(number: int) -> tuple[str, ...]:
    """The names of a scope, the outermost first; () for none, and for that of parameters."""
    names: list[str] = []
    while number > PARAMETERS:
        number, name = _scopes[number]
        names.append(name)
    return tuple(reversed(names))


def line(number: int) -> str:
    """'file:line', '' for none."""
    return _lines[number]


class scope(contextlib.ContextDecorator):  # noqa: N801
    """with scope("attention"): what is recorded there belongs together, and large drawings show it as one box.

    name: a str, not empty; scopes nest, and "a/b" is b inside a. Also a decorator: @scope("attention"). Scopes are the
    thread's own; what other threads record at the same moment may be taken for this one's. TypeError, ValueError for
    names that are none. Names are remembered for ever: use few.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"scope({name!r}): a name is a str, not {type(name).__name__}")
        if not all(name.split("/")):
            raise ValueError(f"scope({name!r}): a name must not be empty, nor a part of it between slashes")
        self.name = name
        self._before: list[int] = []  # entered again within itself, it is left as often

    def _recreate_cm(self) -> scope:
        return scope(self.name)

    def __enter__(self) -> scope:
        before = _present_scope()
        _enter_scope(inside(before, self.name))
        self._before.append(before)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        _enter_scope(self._before.pop())


def each(name: str, parts: Sequence[T]) -> Iterator[T]:
    """Go through parts, each in a scope of its own: name1, name2, ..."""
    before = _present_scope()
    try:
        for number, part in zip(series(before, name, len(parts)), parts):
            _enter_scope(number)
            yield part
    finally:
        _enter_scope(before)


@functools.lru_cache(maxsize=1 << 16)
def _line_number(text: str) -> int:
    with _lock:
        _lines.append(text)
        return len(_lines) - 1


def tag_line(text: str) -> None:
    """Tag what is recorded from now on with a line, 'file:line'; '' for none."""
    check(lib.pgr_tape_tag(TAPE, lib.PGR_TAG_LINE, _line_number(text) if text else 0))


@contextlib.contextmanager
def watched_lines(reached: Callable[[str], None], wanted: Callable[[], Any] = lambda: True) -> Iterator[None]:
    """Tell of every line of the user's code that is run meanwhile, 'file:line', while it is `wanted`.

    Slow: Python calls back for every line. Whoever else traces, a debugger or coverage, sees nothing meanwhile.
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
    while here is not None:  # Python asks by itself only in functions that are called from now on
        if is_users(here):
            traced.append((here, here.f_trace))
            here.f_trace = watch
        here = here.f_back
    if wanted():
        tell(sys._getframe())  # the rest of the line that has begun
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)
        for frame, trace in traced:
            frame.f_trace = trace
