"""Which object each node has; and, where no reference counts tell, when that object has ended.

Such an interpreter (PyPy) frees young objects almost for nothing, unless each has a finaliser or a weak reference:
these cost several times as much as recording. So objects that are made one after another share a page, which refers to
them, as they do to it: one weak reference tells when all of them have ended. A page that outlasts a collection is
parted: each of its objects gets an end of its own, a finaliser, so that none keeps another for longer. An object with
attributes is noted: its finaliser saves it, and its node gets the attributes as soon as the tape is used again.

A weak reference tells too early of objects that a finaliser brings back. Only a collection of old objects finds those;
if there was one, the page's volume, whose finaliser comes after all others, releases what the page held.

Between any two steps, another thread may run, or a finaliser in this one, and either may do anything. So lists and
dicts change by single steps: who takes a handle off a list owns the hold. No finaliser here waits for the tape's lock:
the thread that has it may need what the next finaliser saves.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
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

    def _unseen(function: Callable[..., None], *args: Any) -> None:
        """Call a function which the compiler must not see: with what is done seldom, it would find traces too long."""
        function(*args)


_ON_A_PAGE = 32
_IN_A_VOLUME = 32
_COLLECT_AT_LEAST = 1 << 21  # nodes: a collection of the interpreter's costs as much as recording 2^18 or so
_ENDS_AT_LEAST = 1 << 13  # objects and nodes with attributes, which keep more
_AT_ONCE = 256

_ended: list[int] = []  # handles of objects without attributes that have ended
_noted: dict[int, Slots] = {}  # by handle: objects with attributes that have ended
_running: set[int] = set()  # threads that have finalisers run


class _Volume:
    """Releases what its pages hold, when all their objects have ended."""

    __slots__ = ("pages",)

    def __init__(self) -> None:
        self.pages: list[list[int]] = []  # handles of each

    def __del__(self) -> None:
        for handles in self.pages:
            _ended.extend(_taken(handles))


class _Page:
    __slots__ = ("__weakref__", "handles", "is_new", "values", "volume")

    def __init__(self, volume: _Volume) -> None:
        self.handles: list[int] = []  # whose holds are the page's to release
        self.values: list[Slots | None] = []
        self.is_new = True  # about to be the present one
        self.volume = volume
        volume.pages.append(self.handles)


class _Canary:
    """Refers to nothing, and nothing to it: dies at the next collection that looks at it."""


class _Book:
    """The pages that no collection has seen yet."""

    def __init__(self) -> None:
        self.pages: dict[int, tuple[weakref.ref[_Page], list[int]]] = {}
        self.numbers = itertools.count()
        self.collect_at = _COLLECT_AT_LEAST  # nodes
        self.collect_ends_at = _ENDS_AT_LEAST
        self.is_collecting = False
        self.ends = 0  # objects with attributes whose end is not done
        self.young, self.old = weakref.ref(_Canary()), weakref.ref(_Canary())
        self.next_old = _Canary()
        self.volume = _Volume()
        self.next_page()

    def list_page(self, page: _Page) -> None:
        self.pages[next(self.numbers)] = weakref.ref(page), page.handles

    def next_page(self) -> None:
        if len(self.volume.pages) >= _IN_A_VOLUME:
            self.volume = _Volume()
        page = _Page(self.volume)
        self.list_page(page)  # first: as soon as it is the present one, other threads put values on it
        self.page = page
        page.is_new = False


_book = _Book()


class NotedRef(weakref.ref):  # type: ignore[type-arg]
    """To an object with attributes. When it is dead, they are still to come, until the object's end is done."""

    __slots__ = ()


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
    if page is not _book.page:  # another thread has turned it, and perhaps parted it already
        _unseen(_book.list_page, page)
    elif len(page.handles) >= _ON_A_PAGE:
        _unseen(_turn_page)


class End:
    """Releases an object's hold when the object has ended, and nothing can bring it back."""

    __slots__ = ("handle",)

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __del__(self) -> None:
        handle = getattr(self, "handle", 0)  # Ctrl-C may have come too early
        if handle:
            _ended.append(handle)


class LateEnd:
    """The end of an object that has attributes, or more to do for another reason."""

    __slots__ = ("_value",)

    def __init__(self, value: Slots) -> None:
        self._value = value

    def __del__(self) -> None:
        value = getattr(self, "_value", None)
        if value is not None and value._end is self and value._handle:  # else another end took its place
            _noted[value._handle] = value


def _taken(handles: list[int]) -> list[int]:
    """Take all handles off a list. Who does the same meanwhile gets others."""
    taken = []
    with contextlib.suppress(IndexError):
        while True:
            taken.append(handles.pop())
    return taken


def release_ended() -> None:
    """Do what is left to do for objects that have ended: release their holds, give nodes their attributes."""
    while _ended:
        with lock:
            ended = _taken(_ended)
            for handle in ended:
                reference = objects.get(handle)
                if reference is not None and reference() is None:  # the node has no new object
                    del objects[handle]
            lib.pgr_h_release_all(tape, len(ended), ended)
    while _noted:
        with lock, contextlib.suppress(KeyError):  # a finaliser may take the last one
            _, value = _noted.popitem()
            _book.ends -= 1
            value._ended()


def made_room(status: int) -> bool:
    """Whether a call that lacked memory or ids may be tried again, since the interpreter had objects that had ended."""
    if not LATE or status not in (lib.PGR_ERR_NOMEM, lib.PGR_ERR_FULL):
        return False
    before = lib.pgr_tape_size(tape)
    end_objects()
    check(lib.pgr_h_collect(tape))
    drop_dead()
    return bool(lib.pgr_tape_size(tape) < before)


def run_finalisers(again: bool) -> None:
    """Have the interpreter run the finalisers of what it has found, and do what is left to do then. Another thread may
    have begun to run them, and wait for this one: `again` makes the interpreter hand the rest to this one.
    """
    thread = threading.get_ident()
    if thread not in _running:  # else a finaliser calls this, which others would within it, and so on
        _running.add(thread)
        try:
            if again:
                gc.collect()
            for _ in range(2):  # compiled, PyPy runs them where a loop goes back
                pass
        finally:
            _running.discard(thread)
    release_ended()


def watch(value: Slots, handle: int) -> None:
    """Register an object that is on no page."""
    with lock:
        objects[handle] = weakref.ref(value)
        set_end(value, End(handle))
    if len(_ended) >= _AT_ONCE:
        _unseen(release_ended)


def give_end(value: Slots) -> None:
    """From now on, an object that ends late settles its `_prev` and leaves its attributes to its node then."""
    if not LATE or isinstance(value._end, LateEnd):
        return
    if len(_noted) >= _AT_ONCE or _book.ends >= _book.collect_ends_at:
        _unseen(_tidy)
    with lock:
        if isinstance(value._end, LateEnd):
            return
        objects[value._handle] = NotedRef(value)
        unwatch(value)
        if not isinstance(value._end, LateEnd):  # no finaliser was faster
            set_end(value, LateEnd(value))
            _book.ends += 1


def unwatch(value: Slots) -> None:
    """Take an object off its page, and leave it to the caller to release its hold."""
    with lock:
        page = value._page
        if page is not None:
            with contextlib.suppress(ValueError):  # _part has just taken it
                page.handles.remove(value._handle)  # first: off its page, the value does not keep it
            set_page(value, None)
            _forget(page, value)
        end = value._end
        if isinstance(end, End):
            end.handle = 0


def _forget(page: _Page, value: Slots) -> None:
    for i, other in enumerate(page.values):  # only grows
        if other is value:
            page.values[i] = None


def _part(page: _Page) -> None:
    """Give each object on a page an end of its own. Under `lock`; but a finaliser may do the same, or unwatch one."""
    for value in page.values:
        if value is not None and value._page is page:
            handle, end = value._handle, End(0)
            objects.setdefault(handle, weakref.ref(value))
            try:
                page.handles.remove(handle)
            except ValueError:  # a finaliser was faster
                continue
            set_end(value, end)
            end.handle = handle  # not before: Ctrl-C would end it
            set_page(value, None)
            _forget(page, value)
            if isinstance(objects.get(handle), NotedRef):  # a finaliser gave it attributes meanwhile
                end.handle = 0
                if not isinstance(value._end, LateEnd):
                    set_end(value, LateEnd(value))


def part_pages() -> None:
    """Release what pages that have ended hold, and register the objects of all others. A page is listed until that is
    done: Ctrl-C may come before, and a finaliser or another thread may look for its objects.
    """
    old, pages = _book.old, _book.pages
    was_sure = old() is not None
    if not was_sure:  # the next one is old, too, unless nothing was collected meanwhile: then it is careful in vain
        _book.old = weakref.ref(_book.next_old)
        _book.next_old = _Canary()
        _book.volume = _Volume()  # so that the one that must release what its pages held can end
    if _book.page.values or not was_sure:
        _book.next_page()  # a page keeps what was on it until it is not listed any more
    for number in list(pages):
        with lock:
            listed = pages.get(number)
            if listed is None:  # a finaliser or another thread was faster
                continue
            page, handles = listed[0](), listed[1]
            if page is not None:
                _part(page)
                if handles or page.is_new or page is _book.page:  # another thread is just putting a value on it
                    continue
            elif was_sure and old() is not None and handles:
                released = _taken(handles)
                lib.pgr_h_release_all(tape, len(released), released)
            pages.pop(number, None)


def _turn_page() -> None:
    """Turn to a new page."""
    _book.next_page()
    _tidy()


def _tidy() -> None:
    """If the interpreter has collected since the last time, part pages. Have it collect if that is due: it can't see
    how much memory the nodes of old objects keep.
    """
    if _book.young() is None:
        _book.young = weakref.ref(_Canary())
        part_pages()
    if _noted or len(_ended) >= _AT_ONCE:
        release_ended()
    ends = _book.ends + len(adopted.notes)
    is_due = ends >= _book.collect_ends_at or lib.pgr_tape_size(tape) >= _book.collect_at
    if not is_due or _book.is_collecting:  # in a finaliser, or in another thread
        return
    _book.is_collecting = True
    try:
        for _ in range(2):
            end_objects()
            check(lib.pgr_h_collect(tape))
            if not drop_dead():
                break
        _book.collect_at = max(_COLLECT_AT_LEAST, 2 * lib.pgr_tape_size(tape))
        _book.collect_ends_at = max(_ENDS_AT_LEAST, 2 * (_book.ends + len(adopted.notes)))
    finally:
        _book.is_collecting = False


def drop_dead() -> int:
    """Drop the notes of dead nodes; return of how many."""
    count = 0
    while handle := lib.pgr_h_next_dead(tape):
        adopted.notes.pop(handle, None)
        count += 1
    return count


def end_objects() -> bool:
    """Have the interpreter find all objects that have ended, and do what is left to do for them. Return whether they
    may have left something that ends now: finalisers run layer by layer.
    """
    if not LATE:
        return False
    before = _book.ends
    part_pages()
    gc.collect()
    part_pages()
    run_finalisers(again=False)
    return _book.ends < before
