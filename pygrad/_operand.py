"""The portable operand layer: csrc/python/operand.c's twin in Python, through cffi.

For interpreters that have no C number slots (PyPy), and to compare with: PYGRAD_OPERANDS=cffi. An
Operand is one hold on one node. What the user hangs on it is its __dict__, which goes back to the
node's name (`_notes`) when the object dies, and to the next object made for that node. A closure that
captures its own output is a cycle of Python objects here, which Python's collector finds by itself.
"""

from __future__ import annotations

import gc
import math
import platform
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from types import FrameType, MethodType, TracebackType
from typing import Any, Callable, ClassVar, NoReturn

from pygrad import _pgr
from pygrad._errors import check, fail, leave, refuse_operand, reject, unknown
from pygrad._numbers import as_number
from pygrad._ops import OPS, symbol_of
from pygrad._pgr import ffi, lib

tape = lib.pgr_tape_new(ffi.NULL)
if tape == ffi.NULL:
    raise MemoryError("no memory for a tape")

if hasattr(lib, "pgr_tape_use_gil"):
    check(lib.pgr_tape_use_gil(tape))
    _lock: Any = threading.RLock()
    _stop = ffi.addressof(lib, "pgr_stop_for_signal")
else:

    def _keep_raised(_kind: type[BaseException], error: BaseException, traceback: TracebackType) -> int:
        _pgr.__dict__["_stopped_by"] = error.with_traceback(traceback)  # as csrc/python/operand.c does
        return 1

    @ffi.def_extern(name="pgr_py_stop", error=1, onerror=_keep_raised)  # type: ignore[untyped-decorator, unused-ignore]
    def _let_signals_in(_context: Any) -> int:
        return 0

    check(lib.pgr_tape_use_mutex(tape))

    class _TapeLock:
        """The tape's own mutex: with another lock beside it, two threads could wait for each other."""

        def __enter__(self) -> None:
            lib.pgr_tape_lock(tape, 1)

        def __exit__(self, *_: object) -> None:
            lib.pgr_tape_lock(tape, 0)

    _lock = _TapeLock()
    _stop = lib.pgr_py_stop
    lib.pgr_tape_on_stop(tape, _stop, ffi.NULL)

# Without reference counts objects die late, when the interpreter's collector comes by.
_LATE = platform.python_implementation() != "CPython"

_collector = 0  # the thread in which it runs


def _collecting() -> bool:
    """Whether a __del__ that runs now may be that collector's doing."""
    return _LATE or (_collector != 0 and _collector == threading.get_ident())


def _watch_collector(phase: str, _info: dict[str, int]) -> None:
    global _collector
    _collector = threading.get_ident() if phase == "start" else 0


if not _LATE:
    gc.callbacks.append(_watch_collector)

_OBJECTS_AT_LEAST = 1 << 16
_objects_left = _OBJECTS_AT_LEAST


def _count_object() -> None:
    """Run a collector that comes late each time the objects have doubled: it does not know what they keep."""
    global _objects_left
    _objects_left -= 1
    if _objects_left <= 0:
        gc.collect()
        _objects_left = max(_OBJECTS_AT_LEAST, lib.pgr_tape_stat(tape).handles)


class _Thread(threading.local):
    scope = 0


_thread = _Thread()


def _present_scope() -> int:
    """Return the number of the thread's scope."""
    return _thread.scope


def _enter_scope(number: int) -> None:
    """From now on, what the thread records is in the scope of this number."""
    check(lib.pgr_tape_tag(tape, lib.PGR_TAG_SCOPE, number))
    _thread.scope = number


def _call_in_scopes(functions: list[Any], x: Any, first: int) -> list[Any]:
    """Return [f(x) for f in functions], each in a scope of its own: first, first + 1, ..."""
    before = _thread.scope
    call = _Call((first, len(functions), before))
    _calls.add(call)
    try:
        return [f(x) for f, _ in zip(functions, map(_enter_scope, range(first, first + len(functions))))]
    finally:
        _enter_scope(before)
        _calls.discard(call)


class _Call(tuple[int, int, int]):
    """A call of _call_in_scopes under way: the first of its scopes, how many, the scope before."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


_calls: set[_Call] = set()


def _active_scopes() -> list[tuple[int, int, int]]:
    """Return the calls of _call_in_scopes under way, in all threads."""
    return list(_calls)


# What a node's object is, and what belongs to it while it has none, change together, with _lock.
_objects: dict[int, weakref.ref[Operand]] = {}
_notes: dict[int, dict[str, Any]] = {}
_value_type: type[Any]


def _adopt(value_type: type[Any], notes: dict[int, dict[str, Any]], *used: Any) -> None:
    """Make results of `value_type`, Operand's subclass, from now on; the rest is for C, but for the type of sets."""
    global _value_type, _notes, _set_type
    _value_type, _notes, _set_type = value_type, notes, used[-1]


_set_type: type[set[Any]]
_changes = _settled = 0  # of sets that `_prev` gave: how many there were, how many the tape knows of


def _note_change() -> None:
    """Count a change of a set that `_prev` gave."""
    global _changes
    _changes += 1


def _as_number(value: Any) -> float | None:
    """The number that `value` is, or None."""
    if isinstance(value, Operand):
        return unknown("float") if lib.pgr_h_unknown(tape, value._handle) else None
    return as_number(value)


def _drop_dead() -> None:
    """Let go of what belonged to nodes that have died."""
    while handle := lib.pgr_h_next_dead(tape):
        _notes.pop(handle, None)


def _registered(handle: int) -> Any:
    """The object of a handle, or None: not one whose __del__ has taken it off the registry meanwhile."""
    reference = _objects.get(handle)
    value = None if reference is None else reference()
    return value if _objects.get(handle) is reference else None


def _is_ending(handle: int) -> bool:
    """Whether the old object's weak reference is dead already, and the finaliser, in another thread, has yet to bring
    its notes: the collector's __del__, or an _End.
    """
    reference = _objects.get(handle)
    is_dead = reference is not None and reference() is None
    return bool(is_dead and not _LATE and _collector != threading.get_ident())


_ENDS_WITHIN = 1.0  # seconds: a finaliser that Ctrl-C has ended brings nothing


def _check_alive(value: Operand) -> None:
    """Raise ReferenceError if a value's node is gone: a finaliser may save an object whose node has died."""
    if not lib.pgr_h_alive(tape, value._handle):
        check(lib.PGR_ERR_HANDLE)


def _wrap(handle: int, kind: type[Any] | None = None, new: Callable[..., Any] = object.__new__) -> Any:
    """A new object for a handle that has none, taking over one hold."""
    value = new(_value_type if kind is None else kind)
    value._handle, value._kept, value._made = handle, None, False
    _objects[handle] = weakref.ref(value)
    if _LATE:
        _count_object()
    return value


def _leave(handle: int, notes: dict[str, Any], ended: object = None) -> None:
    """Give back what an object held that has come to its end."""
    other = _registered(handle)
    if other is None or other is ended:
        _objects.pop(handle, None)
        if notes:
            _notes[handle] = notes
    else:  # it was finalised late: the node has a new object already
        for name, value in notes.items():
            if name != "__class__":
                _own_of(other).setdefault(name, value)
    # Called by the cyclic collector, the object may live on, in a closure that has just gone to
    # `_notes`; then its handle must stay good for as long as its node lives.
    lib.pgr_h_release(tape, handle, bool(notes) or _collecting())


# ---- The graph, changed by programs: csrc/python/prev.c, symbol.c and step.c -----------------------------

_walked: dict[int, weakref.ref[Operand]] = {}  # by id, the objects that have a `_kept`


def _is_leaf(op: int) -> bool:
    return bool(op < lib.PGR_OP_FIRST and op != lib.PGR_OP_CUSTOM)


def _held_operands(value: Operand) -> list[int]:
    """The operands' handles, each with a hold for the caller."""
    handles = ffi.new("pgr_handle[2]")
    count = lib.pgr_h_operands(tape, value._handle, 2, handles)
    if count > 2:
        for extra in handles:
            lib.pgr_h_release(tape, extra, 0)
        handles = ffi.new("pgr_handle[]", count)
        count = lib.pgr_h_operands(tape, value._handle, count, handles)
    check(-count if count < 0 else 0)
    return list(handles[0:count])


def _operands_of(value: Operand) -> list[Any]:
    """The operands, as they are on the tape."""
    rest = iter(_held_operands(value))
    try:
        return [Operand._of(handle) for handle in rest]
    except BaseException:
        for handle in rest:
            lib.pgr_h_release(tape, handle, 0)
        raise


def _values_of(where: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str):
        reject(where, values)
    try:
        operands = tuple(values)
    except TypeError:
        reject(where, values)
    for operand in operands:
        if not isinstance(operand, Operand):
            reject(where, operand)
    return operands


def _local_grad(value: Any) -> float:
    number = _as_number(value)
    return reject("local_grads", value) if number is None else number


def _keep_prev(value: Operand, values: Any) -> None:
    value._kept = values
    _walked[id(value)] = weakref.ref(value)
    if _is_strange(values):
        _strange.add(id(value))
    else:
        _strange.discard(id(value))


_strange: set[int] = set()  # by id, those of them whose `_kept` may change without a word


def _do_nothing() -> None:
    """No step."""


def _is_strange(kept: Any) -> bool:
    return type(kept) is not _set_type and isinstance(kept, (set, list))


def _settle(value: Operand) -> None:
    """What has been done to the set that `_prev` gave becomes the node's operands."""
    kept = value._kept
    if not isinstance(kept, (set, list)) or not lib.pgr_h_alive(tape, value._handle):
        return  # others can't change
    # By handle: while a function is recorded, == makes nodes.
    present, wanted = _held_operands(value), [getattr(v, "_handle", 0) for v in kept]
    for handle in present:
        lib.pgr_h_release(tape, handle, 0)
    if wanted != present if isinstance(kept, list) else set(wanted) != set(present):
        _set_operands(value, kept)


def _settle_at_end(value: Operand) -> None:
    _walked.pop(id(value), None)
    _strange.discard(id(value))
    try:
        if _changes != _settled or _is_strange(value._kept):
            _settle(value)
    except Exception as error:
        _Unraisable(error)


class _Unraisable:
    """Says what went wrong in a __del__ that has more to do."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def _set_operands(value: Operand, values: Any) -> tuple[Any, ...]:
    """Make some Values a node's operands; its step stays what it was."""
    operands = _values_of("_prev", values)
    own, op = _own_of(value), lib.pgr_h_op(tape, value._handle)
    check(-op if op < 0 else 0)
    symbol, past = value._op, (op, *_operands_of(value), lib.pgr_h_param(tape, value._handle))
    handles = [operand._handle for operand in operands]
    check(lib.pgr_h_set_operands(tape, value._handle, len(handles), handles))
    if not _is_leaf(op) and op != lib.PGR_OP_CUSTOM:
        own["_op"], own["_pygrad_step"] = symbol, past
    return operands


def _has_past(own: dict[str, Any]) -> bool:
    """Whether _set_operands has written down what a node's step was: (op, operands, parameter)."""
    past = own.get("_pygrad_step")
    if type(past) is not tuple or not 3 <= len(past) <= 4 or type(past[0]) is not int or type(past[-1]) is not float:
        return False
    return lib.PGR_OP_FIRST <= past[0] < lib.pgr_op_count() and all(isinstance(v, Operand) for v in past[1:-1])


def _custom_step(value: Any) -> None:
    """A custom node's step, but for a function of the user's own."""
    own = _own_of(value)
    if "_custom" in own:
        own["_custom"].push(value)
    elif _has_past(own):
        op, *operands, param = own["_pygrad_step"]
        a, b = operands[0], operands[1]._handle if len(operands) > 1 else 0
        if param == param:
            b = lib.pgr_h_leaf(tape, lib.PGR_OP_CONST, param)
            check(-b if b < 0 else 0)
        try:
            check(lib.pgr_h_push_into(tape, value._handle, op, a._handle, b))
        finally:
            if param == param:
                lib.pgr_h_release(tape, b, 0)
    elif type(own.get("_local_grads")) is tuple:
        grad = value.grad
        for operand, number in zip(_operands_of(value), own["_local_grads"]):
            check(lib.pgr_h_add_grad(tape, operand._handle, grad * number))


def _make_step(op: int) -> Callable[[Any], None]:
    """One step of a Value's node as `op`, which it was when this was asked for."""

    def _backward(value: Any) -> None:
        if lib.pgr_h_unknown(tape, value._handle):
            check(lib.PGR_ERR_UNKNOWN)
        if _is_leaf(op):
            return
        if op == lib.PGR_OP_CUSTOM or _has_past(_own_of(value)):
            _custom_step(value)
        else:
            check(lib.pgr_h_push_as(tape, value._handle, op))

    return _backward


_STEPS = [_make_step(op) for op in range(lib.pgr_op_count())]


class _End:
    """Stands in for the __del__ of an object whose own has been called already."""

    def __init__(self, handle: int, notes: dict[str, Any]) -> None:
        self.handle, self.notes = handle, notes

    def __del__(self) -> None:
        with _lock:
            _leave(self.handle, self.notes)


class _Probe:
    """How many references there are in the __del__ of an object that nobody has."""

    seen = 0

    def __del__(self) -> None:
        with _lock:
            _Probe.seen = _references(self)


_references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: 0)
_Probe()
_ALONE = _Probe.seen


# ---- Custom operations' functions, called from the sweep -----------------------------------------

# What they raise, by thread, since C can't carry it; with the extension module, which copies of this one share.
_raised = _pgr.__dict__.setdefault("_raised", threading.local())


def _keep(_kind: type[BaseException], error: BaseException, traceback: TracebackType) -> None:
    _raised.error = error.with_traceback(traceback)


# Ctrl-C may come before the first line: onerror gets that, too.
@ffi.def_extern(name="pgr_py_custom", error=1, onerror=_keep)  # type: ignore[untyped-decorator, unused-ignore]
def _on_custom(_context: Any, _tape: Any, node: int) -> int:
    handle = lib.pgr_h_hold(tape, node)
    check(-handle if handle < 0 else 0)
    value = Operand._of(handle)
    own = _own_of(value)
    if "_backward" in own:
        own["_backward"]()
    else:
        _custom_step(value)
    return 0


lib.pgr_tape_on_custom(tape, lib.pgr_py_custom, ffi.NULL)


def _check_sweep(status: int) -> None:
    if status != lib.PGR_ERR_CUSTOM:
        check(status)
        return
    # The two that can leave no room for keeping them: at the end of the stack, and twice at once.
    lost = RecursionError("maximum recursion depth exceeded") if _is_deep() else KeyboardInterrupt()
    raise _raised.__dict__.pop("error", lost)


def _is_deep() -> bool:
    frame: FrameType | None = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth > sys.getrecursionlimit() - 50


class _Slots:
    __slots__ = ("__dict__", "__weakref__", "_end", "_handle", "_kept", "_made")
    _handle: int
    _end: _End
    _made: bool  # by __new__, so that __init__ finds nothing to do
    _kept: Any  # what `_prev` gives; None until it is asked for


_own_of: Callable[[_Slots], dict[str, Any]] = _Slots.__dict__["__dict__"].__get__
_set_own: Callable[[_Slots, dict[str, Any]], None] = _Slots.__dict__["__dict__"].__set__


class Operand(_Slots):
    """A node's object, with the operators. See `pygrad.Value`."""

    __slots__ = ()
    neg: ClassVar[Callable[[Any], Any]]  # these and the other rows of the table are set below
    abs: ClassVar[Callable[[Any], Any]]
    __array_priority__: ClassVar[float]

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        # Subclasses may have an __init__ of their own: theirs is a leaf until Operand.__init__ comes.
        value = object.__new__(cls)
        value._handle, value._kept = 0, None
        value._made = cls is _value_type and bool(args or keywords)
        if value._made:
            value._make(*args, **keywords)
        else:
            value._bind(lib.pgr_h_leaf(tape, lib.PGR_OP_LEAF, 0.0))
        return value

    def __init__(self, *args: Any, **keywords: Any) -> None:
        if not self._made:
            self._make(*args, **keywords)
        self._made = False

    def _make(
        self,
        data: Any,
        _children: Iterable[Any] = (),
        _op: Any = "",
        label: str = "",
        *,
        children: Iterable[Any] = (),
        local_grads: Any = None,
    ) -> None:
        number = data if type(data) is float else _as_number(data)
        if number is None:
            reject("Value", data)
        _children = children if isinstance(_children, tuple) and not _children else _children
        if local_grads is None and isinstance(_op, (tuple, list)):
            local_grads, _op = _op, ""
        for where, text in (("_op", _op), ("label", label)):
            if not isinstance(text, str):
                reject(where, text)
        operands = _values_of("_children", _children)
        grads = None if local_grads is None else tuple(map(_local_grad, tuple(local_grads)))
        if grads is not None and len(grads) != len(operands):
            raise ValueError(
                f"Value: {len(operands)} operands and {len(grads)} local gradients; there must be as many of each"
            )
        is_leaf = not (operands or _op)
        if self._handle:
            self._change(is_leaf, number, operands)
        elif is_leaf:
            self._bind(lib.pgr_h_leaf(tape, lib.PGR_OP_LEAF, number))
        else:
            self._bind(lib.pgr_h_custom(tape, number, len(operands), [operand._handle for operand in operands]))
        if not is_leaf:
            if _op:
                self._op = _op
            if grads is not None:
                _own_of(self)["_local_grads"] = grads
        if label:
            self.label = label

    def _change(self, is_leaf: bool, number: float, operands: tuple[Any, ...]) -> None:
        """Make the node anew: what was made from it is now made from these operands."""
        for name in ("_op", "_backward", "_local_grads", "_pygrad_step"):
            _own_of(self).pop(name, None)
        self._kept = None
        _walked.pop(id(self), None)
        if not (is_leaf and lib.pgr_h_op(tape, self._handle) == lib.PGR_OP_LEAF):
            handles = [operand._handle for operand in operands]
            check(lib.pgr_h_set_operands(tape, self._handle, len(handles), handles))
        if is_leaf:
            check(lib.pgr_h_set_op(tape, self._handle, lib.PGR_OP_LEAF))
        check(lib.pgr_h_set_data(tape, self._handle, number))
        check(lib.pgr_h_set_grad(tape, self._handle, 0.0))

    def _bind(self, handle: int) -> None:
        """Take over the hold on a new node, and give back the one on the node before."""
        if handle < 0:
            check(-handle)
        if _LATE:
            _count_object()
        old, self._handle = self._handle, handle
        _objects[handle] = weakref.ref(self)
        if old:
            _objects.pop(old, None)
            lib.pgr_h_release(tape, old, 0)

    def __del__(self) -> None:
        handle, notes = getattr(self, "_handle", 0), _own_of(self)
        if not handle:
            return  # interrupted while it was made
        if self._kept is not None:
            _settle_at_end(self)
        if type(self) is not _value_type:
            notes["__class__"] = type(self)
        collecting = _collecting()
        if not (notes or collecting):  # the usual case, without the lock
            _objects.pop(handle, None)
            if _references(self) == _ALONE:
                lib.pgr_h_release(tape, handle, 0)
                return
        if notes:
            _drop_dead()
        with _lock:
            if not collecting and _references(self) > _ALONE:
                # Another thread has just taken it from the registry. It lives on, but __del__ is not called again.
                notes.pop("__class__", None)
                self._end = _End(handle, notes)
                _objects.setdefault(handle, weakref.ref(self))
                return
            _leave(handle, notes, self)

    @staticmethod
    def _of(handle: int) -> Any:
        """Return the Value of a handle, taking over one hold."""
        if not lib.pgr_h_alive(tape, handle):
            check(lib.PGR_ERR_HANDLE)
        begun = 0.0
        while True:
            with _lock:
                value = _registered(handle)
                if value is not None:
                    break
                if not _is_ending(handle) or (begun and time.monotonic() - begun > _ENDS_WITHIN):
                    notes = _notes.get(handle)
                    value = _wrap(handle, None if notes is None else notes.get("__class__"))
                    if notes is not None:
                        notes.pop("__class__", None)
                        _set_own(value, notes)  # first, lest Ctrl-C come between
                        _notes.pop(handle, None)
                    return value
            begun = begun or time.monotonic()
            time.sleep(0)
        lib.pgr_h_release(tape, handle, 0)  # the object has one already
        return value

    @property
    def _own(self) -> dict[str, Any]:
        """The attributes that the user has set."""
        return _own_of(self)

    @property
    def __dict__(self) -> dict[str, Any]:
        own = _own_of(self)
        own.update(data=self.data, grad=self.grad, _op=self._op, _prev=self._prev)
        return own

    @__dict__.setter
    def __dict__(self, own: dict[str, Any]) -> None:
        _set_own(self, own)

    # ---- The graph: csrc/python/place.c

    def _settle(self) -> None:
        """Let changed sets of operands show on the tape, below here."""
        global _settled
        changes, are_all = _changes, True
        if changes == _settled and not _strange:
            return
        for reference in list(_walked.values()):
            value = reference()
            if value is not None:
                try:
                    _settle(value)
                except (
                    Exception
                ):  # another thread's pass goes through it, or it can't be: that concerns whoever is above
                    are_all = False
                    if lib.pgr_h_is_made_from(tape, self._handle, value._handle):
                        raise
        if are_all:
            _settled = changes

    def _operands(self) -> list[Any]:
        """The operands in order, with repeats; a parameter is none."""
        self._settle()
        return _operands_of(self)

    @property
    def _prev(self) -> Any:
        """The operands, a set that is the Value's own: changed or assigned, it changes the graph."""
        if self._kept is None:
            operands = _set_type(_operands_of(self))
            with _lock:
                if self._kept is None:  # no other thread was quicker
                    _keep_prev(self, operands)
        return self._kept

    @_prev.setter
    def _prev(self, values: Any) -> None:
        values = _set_type() if values is None else values
        operands = _set_operands(self, values)
        _keep_prev(self, values if isinstance(values, (set, frozenset, list)) else operands)

    @_prev.deleter
    def _prev(self) -> None:
        raise AttributeError("a Value's _prev can't be deleted; _prev = set() cuts the graph")

    @property
    def _op(self) -> Any:
        """The operation that made this node: '+', 'tanh', '**2'; '' for a leaf."""
        own, op = _own_of(self), lib.pgr_h_op(tape, self._handle)
        check(-op if op < 0 else 0)
        if "_op" in own:
            return own["_op"]
        return symbol_of(op, lib.pgr_h_param(tape, self._handle))

    @_op.setter
    def _op(self, symbol: Any) -> None:
        _own_of(self)["_op"] = symbol

    @_op.deleter
    def _op(self) -> None:
        if _own_of(self).pop("_op", None) is None:
            raise AttributeError("_op")

    @property
    def _backward(self) -> Any:
        """One step of backward: called, adds what this node's grad gives its operands to their grads.

        Assign a function of no arguments to make the node a custom operation, as in micrograd.
        """
        own = _own_of(self).get("_backward")
        if own is not None:
            return own
        op = lib.pgr_h_op(tape, self._handle)
        check(-op if op < 0 else 0)
        return MethodType(_STEPS[op], self)

    @_backward.setter
    def _backward(self, function: Any) -> None:
        if function is None:  # to be rid of a closure
            function = _do_nothing
        if not callable(function):
            reject("_backward", function)
        own, op = _own_of(self), lib.pgr_h_op(tape, self._handle)
        check(-op if op < 0 else 0)
        if (
            not _is_leaf(op) and op != lib.PGR_OP_CUSTOM
        ):  # its symbol and its step stay, with the operands that it has now
            _set_operands(self, _operands_of(self))
        own["_backward"] = function
        check(lib.pgr_h_set_op(tape, self._handle, lib.PGR_OP_CUSTOM))

    @_backward.deleter
    def _backward(self) -> None:
        raise AttributeError("a Value's _backward can't be deleted")

    def _sweep(self, checked: bool) -> Any:
        """The reverse sweep from here; the Value at which a checked one has found inf or nan, else None."""
        self._settle()
        if not checked:
            _check_sweep(lib.pgr_h_backward(tape, self._handle))
            return None
        bad = ffi.new("pgr_handle *")
        status = lib.pgr_h_backward_checked(tape, self._handle, bad)
        if status != lib.PGR_ERR_NOT_FINITE:
            _check_sweep(status)
            return None
        return Operand._of(bad[0])

    @property
    def data(self) -> float:
        """The number, a float64. Settable on any node."""
        data: float = lib.pgr_h_data(tape, self._handle)
        if data != data:
            if lib.pgr_h_unknown(tape, self._handle):
                unknown("data")
            _check_alive(self)
        return data

    @data.setter
    def data(self, value: Any) -> None:
        number = _as_number(value)
        if number is None:
            reject("data", value)
        if lib.pgr_h_unknown(tape, self._handle):
            unknown("data =")
        check(lib.pgr_h_set_data(tape, self._handle, number))

    @property
    def grad(self) -> float:
        """d(root)/d(self) after root.backward(). Settable on any node."""
        if lib.pgr_h_unknown(tape, self._handle):
            unknown("grad")
        grad: float = lib.pgr_h_grad(tape, self._handle)
        if grad != grad:
            _check_alive(self)
        return grad

    @grad.setter
    def grad(self, value: Any) -> None:
        number = 0.0 if value is None else _as_number(value)
        if number is None:
            reject("grad", value)
        if lib.pgr_h_unknown(tape, self._handle):
            unknown("grad =")
        check(lib.pgr_h_set_grad(tape, self._handle, number))

    def __pos__(self) -> Any:
        return self

    def __neg__(self) -> Any:
        return self.neg()

    def __abs__(self) -> Any:
        return self.abs()

    # math's functions and NumPy ask for a float: the graph would end there without a word.
    def __float__(self) -> NoReturn:
        leave("float", self, lib.pgr_h_unknown(tape, self._handle))

    def __int__(self) -> NoReturn:
        leave("int", self, lib.pgr_h_unknown(tape, self._handle))

    def __bool__(self) -> bool:
        is_condition = lib.pgr_is_recording() and lib.pgr_h_op(tape, self._handle) in _CONDITIONS
        if is_condition or lib.pgr_h_unknown(tape, self._handle):
            unknown("if")
        return True

    # A node may have a second object while a closure keeps an old one (see the module's text).
    def __eq__(self, other: object) -> Any:
        if lib.pgr_is_recording() or _is_unknown(self, other):
            return _compare_unknown("==", self, other)
        return self._handle == other._handle if isinstance(other, Operand) else NotImplemented

    def __ne__(self, other: object) -> Any:
        if lib.pgr_is_recording() or _is_unknown(self, other):
            return _compare_unknown("!=", self, other)
        return self._handle != other._handle if isinstance(other, Operand) else NotImplemented

    def __hash__(self) -> int:
        if lib.pgr_h_unknown(tape, self._handle):
            unknown("hash")
        return hash(self._handle)


def _record(op: int, a: Operand, b: Operand | None = None) -> Any:
    handle = lib.pgr_h_record(tape, op, a._handle, 0 if b is None else b._handle)
    if handle < 0:
        fail(-handle, op, lib.pgr_h_data(tape, a._handle), 0.0 if b is None else lib.pgr_h_data(tape, b._handle))
    return _wrap(handle)


def _record_number(op: int, a: Operand, number: float, reflected: bool = False) -> Any:
    handle = lib.pgr_h_record_number(tape, op, a._handle, number, reflected)
    if handle < 0:
        data = lib.pgr_h_data(tape, a._handle)
        fail(-handle, op, *((number, data) if reflected else (data, number)))
    return _wrap(handle)


def _operator(symbol: str, op: int, with_number: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The method and the reflected method of a binary operator."""

    def forward(self: Operand, other: Any, modulus: None = None) -> Any:
        if modulus is not None:
            return NotImplemented
        if isinstance(other, Operand):
            return _record(op, self, other)
        number = _as_number(other)
        return refuse_operand(symbol, other) if number is None else _record_number(with_number, self, number)

    def reflected(self: Operand, other: Any, modulus: None = None) -> Any:
        if modulus is not None:
            return NotImplemented
        number = _as_number(other)
        return refuse_operand(symbol, other) if number is None else _record_number(op, self, number, True)

    return forward, reflected


_CONDITIONS = {OPS[name] for name in ("less", "less_equal", "equal")}
_COMPARISONS = {"<": ("less", False), ">": ("less", True), "<=": ("less_equal", False), ">=": ("less_equal", True)}


def _compare_unknown(symbol: str, a: Operand, b: Any) -> Any:
    """Record a comparison as a node, 1 or 0: what a condition is while a function is recorded."""
    name, swap = _COMPARISONS.get(symbol, ("equal", False))
    op = OPS[name]
    if isinstance(b, Operand):
        result = _record(op, b, a) if swap else _record(op, a, b)
    else:
        number = _as_number(b)
        if number is None:
            return NotImplemented if name == "equal" else refuse_operand(symbol, b)
        result = _record_number(op, a, number, swap)
    return _record_number(op, result, 0.0) if symbol == "!=" else result


def _is_unknown(a: Operand, b: Any) -> bool:
    return bool(lib.pgr_h_unknown(tape, a._handle) or (isinstance(b, Operand) and lib.pgr_h_unknown(tape, b._handle)))


def _comparison(name: str, symbol: str) -> Callable[[Operand, Any], Any]:
    by_value = getattr(float, name)

    def compare(self: Operand, other: Any) -> Any:
        if lib.pgr_is_recording() or _is_unknown(self, other):
            return _compare_unknown(symbol, self, other)
        number = other.data if isinstance(other, Operand) else _as_number(other)
        return refuse_operand(symbol, other) if number is None else by_value(self.data, number)

    return compare


def _method(name: str, op: int) -> Callable[..., Any]:
    row = lib.pgr_op_row(op)
    method: Callable[..., Any]
    if row.kind == lib.PGR_KIND_BINARY:

        def binary(self: Operand, other: Any, /) -> Any:
            if isinstance(other, Operand):
                return _record(op, self, other)
            number = _as_number(other)
            return reject(name, other) if number is None else _record_number(op, self, number)

        method = binary
    elif row.kind == lib.PGR_KIND_PARAM:
        default = None if math.isnan(row.param_default) else row.param_default

        def with_param(self: Operand, param: Any = default, /) -> Any:
            if param is None:
                raise TypeError(f"{name} takes one argument")
            number = None if isinstance(param, Operand) else _as_number(param)
            return reject(name, param) if number is None else _record_number(op, self, number)

        method = with_param
    else:

        def unary(self: Operand) -> Any:
            return _record(op, self)

        method = unary
    method.__name__ = name
    method.__doc__ = ffi.string(row.doc).decode()
    return method


for _name, _op in OPS.items():
    if _op >= lib.PGR_OP_FIRST:
        setattr(Operand, _name, _method(_name, _op))
for _name, _symbol, _with_number in (
    ("add", "+", "add"),
    ("sub", "-", "sub"),
    ("mul", "*", "mul"),
    ("truediv", "/", "div"),
    ("mod", "%", "mod"),
    ("pow", "**", "powc"),
):
    _plain = "div" if _name == "truediv" else _name
    _forward, _reflected = _operator(_symbol, OPS[_plain], OPS[_with_number])
    setattr(Operand, f"__{_name}__", _forward)
    setattr(Operand, f"__r{_name}__", _reflected)
for _name, _symbol in (("__lt__", "<"), ("__le__", "<="), ("__gt__", ">"), ("__ge__", ">=")):
    setattr(Operand, _name, _comparison(_name, _symbol))


def dot(ws: Iterable[Any], xs: Iterable[Any], b: Any = 0.0, /) -> Any:
    """B + ws[0]*xs[0] + ws[1]*xs[1] + ..., from left to right, recorded by one call.

    ws and xs are sequences of one length, of Values and numbers. Every product and sum is a node.
    Raises ValueError if the lengths differ, TypeError for what is no number; then nothing is recorded.
    """
    ws, xs = list(ws), list(xs)
    if len(ws) != len(xs):
        raise ValueError(f"dot: {len(ws)} weights and {len(xs)} inputs; there must be as many of each")
    if not ws and isinstance(b, Operand):
        return b
    numbers = [None if isinstance(x, Operand) else _as_number(x) for x in (*ws, *xs, b)]
    constants = []
    handles = []
    try:
        for x, number in zip((*ws, *xs, b), numbers):
            if number is not None:
                handle = lib.pgr_h_leaf(tape, lib.PGR_OP_CONST, number)
                check(-handle if handle < 0 else 0)
                constants.append(handle)
            elif isinstance(x, Operand):
                handle = x._handle
            else:
                reject("dot", x)
            handles.append(handle)
        n = len(ws)
        result = lib.pgr_h_dot(tape, n, handles[:n], handles[n : 2 * n], handles[-1])
        check(-result if result < 0 else 0)
    finally:
        for handle in constants:
            lib.pgr_h_release(tape, handle, 0)
    return Operand._of(result)


def _run(
    program: int,
    numbers: tuple[float, ...],
    arrays: tuple[Any, ...],
    results: tuple[Any, ...],
    count: int,
    workers: int,
) -> tuple[float, ...]:
    """Run the program at an address: see csrc/python/call.c, whose twin this is."""
    if any(memoryview(array).format != "d" for array in arrays):
        raise TypeError("a program's arrays are C-contiguous float64")
    first, out = ffi.new("double[]", numbers), ffi.new("double[]", count)
    ins = [ffi.from_buffer("double[]", array) if memoryview(array).nbytes else ffi.NULL for array in arrays]
    outs = [ffi.from_buffer("double[]", array, require_writable=True) if array.size else ffi.NULL for array in results]
    check(
        lib.pgr_program_run(
            ffi.cast("pgr_program *", program),
            ffi.new("double *[]", [first, *ins]),
            ffi.new("double *[]", [out, *outs]),
            ffi.new("pgr_run_options *", {"workers": workers, "stop": _stop}),
        )
    )
    return tuple(out)


def _call(_plan: tuple[Any, ...], _args: tuple[Any, ...]) -> Any:
    """Run a program as planned: CPython's short way, which there is none of here."""
    return NotImplemented
