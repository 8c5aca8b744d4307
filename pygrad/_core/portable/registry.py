"""Which object each node has; and, where no reference counts tell, when that object has ended.

Such an interpreter (PyPy) frees young objects almost for nothing, unless each has a finaliser or a weak reference:
these cost several times as much as recording. So objects that are made one after another share a page, which refers to
them, as they do to it: one weak reference tells when all of them have ended. A page that outlasts a collection is
parted: each of its objects gets an end of its own, a finaliser, so that none keeps another for longer. What an object
has to do at its end beyond releasing its hold, it does in the finaliser that it gets with the first attribute.

A weak reference tells too early of objects that a finaliser brings back. Only a collection of old objects finds those;
if there was one, the page's volume, whose finaliser comes after all others, releases what the page held.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any, Callable

from pygrad._core.errors import check
from pygrad._core.portable.slots import Slots, adopted, set_end, set_page
from pygrad._core.portable.tape import LATE, lock, tape
from pygrad._pgr import lib

# By handle: each node's object, except those on pages. Changes together with the node's notes, under `lock`.
objects: dict[int, weakref.ref[Any]] = {}

try:
    from pypyjit import residual_call as _unseen  # type: ignore[import-not-found, unused-ignore]
except ImportError:

    def _unseen(function: Callable[[], None]) -> None:
        """Call a function which the compiler must not see: with what is done seldom, it would find traces too long."""
        function()


_ON_A_PAGE = 32
_IN_A_VOLUME = 32
_COLLECT_AT_LEAST = 1 << 21  # nodes: a collection of the interpreter's costs as much as recording 2^18 or so
_ENDS_AT_LEAST = 1 << 13  # objects and nodes with attributes, which keep more
_AT_ONCE = 256


class _Volume:
    """Releases what its pages hold, when all their objects have ended."""

    __slots__ = ("pages",)

    def __init__(self) -> None:
        self.pages: list[list[int]] = []  # handles of each

    def __del__(self) -> None:
        for handles in self.pages:
            _release(handles)


class _Page:
    __slots__ = ("__weakref__", "handles", "values", "volume")

    def __init__(self, volume: _Volume) -> None:
        self.handles: list[int] = []  # whose holds are the page's to release
        self.values: list[Slots] = []
        self.volume = volume
        volume.pages.append(self.handles)


class _Canary:
    """Refers to nothing, and nothing to it: dies at the next collection that looks at it."""


class _Book:
    """The pages that no collection has seen yet."""

    def __init__(self) -> None:
        self.pages: list[tuple[weakref.ref[_Page], list[int]]] = []
        self.collect_at = _COLLECT_AT_LEAST  # nodes
        self.collect_ends_at = _ENDS_AT_LEAST
        self.ends = 0  # objects with a finaliser of their attributes
        self.young, self.old = weakref.ref(_Canary()), weakref.ref(_Canary())
        self.next_old = _Canary()
        self.volume = _Volume()
        self.next_page()

    def next_page(self) -> None:
        if len(self.volume.pages) >= _IN_A_VOLUME:
            self.volume = _Volume()
        page = _Page(self.volume)
        self.pages.append((weakref.ref(page), page.handles))
        self.page = page


_book = _Book()


def registered(handle: int) -> Any:
    """The object of a handle, or None. An object that its __del__ has just removed does not count."""
    reference = objects.get(handle)
    value = None if reference is None else reference()
    return value if objects.get(handle) is reference else None


def put_on_page(value: Slots, handle: int) -> None:
    """Register the first object of a new node. Another thread may part the page meanwhile: it takes values whose
    handles it finds, and nothing else.
    """
    page = _book.page
    set_page(value, page)
    page.handles.append(handle)
    page.values.append(value)
    if len(page.handles) >= _ON_A_PAGE:
        _unseen(_turn_page)


class End:
    """Releases an object's hold when the object has ended, and nothing can bring it back."""

    __slots__ = ("handle",)

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __del__(self) -> None:
        if self.handle:
            _ended.append(self.handle)
            if len(_ended) >= _AT_ONCE:
                release_ended()


_ended: list[int] = []


def release_ended() -> None:
    """Release the holds of objects that have ended."""
    while _ended:
        with lock:
            ended, _ended[:] = _ended[:], ()
            for handle in ended:
                reference = objects.get(handle)
                if reference is not None and reference() is None:  # the node has no new object
                    del objects[handle]
            lib.pgr_h_release_all(tape, len(ended), ended)


def _release(handles: list[int]) -> None:
    """Release a page's holds, one time: a finaliser may do the same meanwhile."""
    released = []
    with contextlib.suppress(IndexError):
        while True:
            released.append(handles.pop())
    if released:
        lib.pgr_h_release_all(tape, len(released), released)


def watch(value: Slots, handle: int) -> None:
    """Register an object that is on no page."""
    with lock:
        objects[handle] = weakref.ref(value)
        set_end(value, End(handle))


def unwatch(value: Slots) -> None:
    """Take an object off its page, and leave it to the caller to release its hold."""
    with lock:
        page, end = value._page, value._end
        if page is not None:
            set_page(value, None)
            at = [i for i, other in enumerate(page.values) if other is value]  # == may record
            for i in at:
                del page.values[i]
            page.handles.remove(value._handle)
        elif isinstance(end, End):
            end.handle = 0


def _part(page: _Page) -> None:
    with lock:
        while page.values:
            value = page.values.pop()
            page.handles.remove(value._handle)
            set_page(value, None)
            watch(value, value._handle)


def part_pages() -> None:
    """Release what pages that have ended hold, and register the objects of all others."""
    was_sure = _book.old() is not None
    if not was_sure:  # the next one is old, too, unless nothing was collected meanwhile: then it is careful in vain
        _book.old = weakref.ref(_book.next_old)
        _book.next_old = _Canary()
    pages, _book.pages = _book.pages, []
    try:
        while pages:
            reference, handles = pages.pop()
            page = reference()
            if page is not None:
                _part(page)
                if handles or page is _book.page:  # another thread is just putting a value on it
                    _book.pages.append((reference, handles))
            elif was_sure and _book.old() is not None:
                _release(handles)
    finally:
        _book.pages += pages  # Ctrl-C has come


def _turn_page() -> None:
    """Turn to a new page. If the interpreter has collected since the last time, part pages."""
    _book.next_page()
    if _book.young() is None:
        _book.young = weakref.ref(_Canary())
        part_pages()
    # An interpreter can't see how much memory the nodes of old objects keep.
    ends = _book.ends + len(adopted.notes)
    if ends >= _book.collect_ends_at or lib.pgr_tape_size(tape) >= _book.collect_at:
        for _ in range(2):
            end_objects()
            check(lib.pgr_h_collect(tape))
            if not drop_dead():
                break
        _book.collect_at = max(_COLLECT_AT_LEAST, 2 * lib.pgr_tape_size(tape))
        _book.collect_ends_at = max(_ENDS_AT_LEAST, 2 * (_book.ends + len(adopted.notes)))


def count_end(more: int) -> None:
    """Count an object with a finaliser of its attributes, or its end, as -1."""
    _book.ends += more


def drop_dead() -> int:
    """Drop the notes of dead nodes; return of how many."""
    count = 0
    while handle := lib.pgr_h_next_dead(tape):
        adopted.notes.pop(handle, None)
        count += 1
    return count


def end_objects() -> bool:
    """Have the interpreter find all objects that have ended, and release what they hold. Return whether they may have
    left something that ends now: finalisers run layer by layer.
    """
    if not LATE:
        return False
    before = _book.ends
    part_pages()
    gc.collect()
    part_pages()
    release_ended()
    return _book.ends < before
