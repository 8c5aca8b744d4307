"""A node's place in the graph: `_prev`, its steps, read and changed. csrc/python's prev.c, symbol.c and step.c."""

from __future__ import annotations

import sys
import threading
import weakref
from types import SimpleNamespace, TracebackType
from typing import Any, Callable

from pygrad import _pgr
from pygrad._core.errors import check, lost, reject
from pygrad._core.operand_set import wrap_changes
from pygrad._core.portable.objects import as_number, of, own_of
from pygrad._core.portable.registry import end_objects, give_end, run_finalisers
from pygrad._core.portable.slots import Slots, adopted, attributes_of
from pygrad._core.portable.tape import LATE, tape, unlocked
from pygrad._pgr import ffi, lib

_changes = _settled = 0  # changes of `_prev` sets: how many happened, how many are on the tape


def note_change() -> None:
    """Count a change of a set that `_prev` returned."""
    global _changes
    _changes += 1


# By id: the objects with a `_kept`; of those that end late, the ones whose set has changed.
walked: dict[int, weakref.ref[Slots]] = {}


def is_operation(op: int) -> bool:
    """Whether an op is of the table, not one of the tape's own."""
    return bool(op >= lib.PGR_OP_FIRST)


def held_operands(value: Slots) -> list[int]:
    """The operands' handles; the caller owns a hold on each."""
    handles = ffi.new("pgr_handle[2]")
    count = lib.pgr_h_operands(tape, value._handle, 2, handles)
    if count > 2:
        for extra in handles:
            lib.pgr_h_release(tape, extra, 0)
        handles = ffi.new("pgr_handle[]", count)
        count = lib.pgr_h_operands(tape, value._handle, count, handles)
    check(-count if count < 0 else 0)
    return list(handles[0:count])


def operands_of(value: Slots) -> list[Any]:
    """The operands, as they are on the tape."""
    rest = iter(held_operands(value))
    try:
        return [of(handle) for handle in rest]
    except BaseException:
        for handle in rest:
            lib.pgr_h_release(tape, handle, 0)
        raise


def values_of(where: str, values: Any) -> tuple[Any, ...]:
    if isinstance(values, str):
        reject(where, values)
    try:
        operands = tuple(values)
    except TypeError:
        reject(where, values)
    for operand in operands:
        if not isinstance(operand, Slots):
            reject(where, operand)
    return operands


def local_grad(value: Any) -> float:
    number = as_number(value)
    return reject("local_grads", value) if number is None else number


def owned(set_type: type[set[Any]]) -> type[set[Any]]:
    """Sets for `_prev` of objects that end late: they have their objects noted when they change, not before. Noted
    objects that keep each other in sets, as those of a walked graph do, would end one at a collection.
    """

    class OwnedSet(set_type):  # type: ignore[misc, valid-type]
        __slots__ = ("owner",)

    def telling(change: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *args: Any) -> Any:
            owner = getattr(self, "owner", None)
            value = None if owner is None else owner()
            if value is not None and value._kept is self:
                _walk(value)
            return change(self, *args)

        return method

    wrap_changes(OwnedSet, telling)
    return OwnedSet


if LATE:
    adopted.set_of = owned


def keep_prev(value: Slots, values: Any) -> None:
    value._kept = values
    if LATE and type(values) is adopted.set_type and not hasattr(values, "owner"):
        values.owner = weakref.ref(value)  # type: ignore[attr-defined]
        walked.pop(id(value), None)
        _doubtful.discard(id(value))
        return
    _walk(value)
    owner = getattr(values, "owner", None)
    if owner is not None and owner() is not None:  # another node's set, too
        _walk(owner())


def _walk(value: Slots) -> None:
    give_end(value)
    values = value._kept
    walked[id(value)] = weakref.ref(value)
    if _is_strange(values):
        _doubtful.add(id(value))
    else:
        _doubtful.discard(id(value))


# Ids of those that every pass must visit: `_kept` may change silently, or can't be settled yet.
_doubtful: set[int] = set()


def do_nothing() -> None:
    """No step."""


def _is_strange(kept: Any) -> bool:
    return type(kept) is not adopted.set_type and isinstance(kept, (set, list))


def settle(value: Slots) -> None:
    """Make the contents of the node's `_prev` set its operands."""
    kept = value._kept
    if not isinstance(kept, (set, list)) or not lib.pgr_h_alive(tape, value._handle):
        return  # only sets and lists can change
    # Compare handles: while a function is recorded, == records nodes.
    present, wanted = held_operands(value), [getattr(v, "_handle", 0) for v in kept]
    for handle in present:
        lib.pgr_h_release(tape, handle, 0)
    if wanted != present if isinstance(kept, list) else set(wanted) != set(present):
        set_operands(value, kept)


def settle_at_end(value: Slots) -> None:
    walked.pop(id(value), None)
    _doubtful.discard(id(value))
    try:
        if LATE or _changes != _settled or _is_strange(value._kept):  # late, _await_ends may have given it up
            settle(value)
    except Exception as error:
        if LATE:  # so would the finaliser be
            what = {"exc_type": type(error), "exc_value": error, "exc_traceback": error.__traceback__}
            sys.unraisablehook(SimpleNamespace(**what, err_msg="Exception ignored in", object=value))
        else:
            _Unraisable(error)


class _Unraisable:
    """Reports an exception in a __del__ that must go on: its own __del__ raises it."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def put_operands(value: Any, operands: tuple[Any, ...]) -> None:
    """Replace a node's operands on the tape."""
    handles = [operand._handle for operand in operands]
    status = lib.pgr_h_set_operands(tape, value._handle, len(handles), handles)
    for _ in range(3 if LATE and not lib.pgr_is_recording() else 0):
        if status == lib.PGR_ERR_UNKNOWN:  # perhaps because of Values that a recording has left
            end_objects()
            status = lib.pgr_h_set_operands(tape, value._handle, len(handles), handles)
    check(status)


def set_operands(value: Any, values: Any) -> tuple[Any, ...]:
    """Replace a node's operands; it keeps its step."""
    operands = values_of("_prev", values)
    own, op = own_of(value), lib.pgr_h_op(tape, value._handle)
    check(-op if op < 0 else 0)
    symbol, past = value._op, (op, *operands_of(value), lib.pgr_h_param(tape, value._handle))
    put_operands(value, operands)
    if is_operation(op):
        own["_op"], own["_pygrad_step"] = symbol, past
    return operands


def has_past(own: dict[str, Any]) -> bool:
    """Whether set_operands saved the node's step: (op, operands, parameter)."""
    past = own.get("_pygrad_step")
    if type(past) is not tuple or not 3 <= len(past) <= 4 or type(past[0]) is not int or type(past[-1]) is not float:
        return False
    return lib.PGR_OP_FIRST <= past[0] < lib.pgr_op_count() and all(isinstance(v, Slots) for v in past[1:-1])


def custom_step(value: Any) -> None:
    """Run a custom node's step, unless it is a function assigned to `_backward`."""
    own = attributes_of(value)
    if "_custom" in own:
        own["_custom"].push(value)
    elif has_past(own):
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
        for operand, number in zip(operands_of(value), own["_local_grads"]):
            check(lib.pgr_h_add_grad(tape, operand._handle, grad * number))


def _make_step(op: int) -> Callable[[Any], None]:
    """A function that runs one step of a Value's node as `op`, even if the node has changed since."""

    def _backward(value: Any) -> None:
        if lib.pgr_h_unknown(tape, value._handle):
            check(lib.PGR_ERR_UNKNOWN)
        if op == lib.PGR_OP_CUSTOM or (is_operation(op) and has_past(attributes_of(value))):
            custom_step(value)
        elif is_operation(op):
            check(lib.pgr_h_push_as(tape, value._handle, op))

    return _backward


STEPS = [_make_step(op) for op in range(lib.pgr_op_count())]


# ---- Custom operations' functions, called from the sweep -----------------------------------------

# Their exceptions, by thread, since C can't carry them. Kept in the extension module, which all copies share.
_raised = _pgr.__dict__.setdefault("_raised", threading.local())


def _keep(_kind: type[BaseException], error: BaseException, traceback: TracebackType) -> None:
    _raised.error = error.with_traceback(traceback)


# Ctrl-C may come before the function's first line: onerror catches that, too.
@ffi.def_extern(name="pgr_py_custom", error=1, onerror=_keep)  # type: ignore[untyped-decorator, unused-ignore]
def _on_custom(_context: Any, _tape: Any, node: int) -> int:
    handle = lib.pgr_h_hold(tape, node)
    check(-handle if handle < 0 else 0)
    value = of(handle)
    own = attributes_of(value)
    with unlocked:  # the function may wait for another thread
        if "_backward" in own:
            own["_backward"]()
        else:
            custom_step(value)
    return 0


def check_sweep(status: int) -> None:
    if status != lib.PGR_ERR_CUSTOM:
        check(status)
        return
    raise _raised.__dict__.pop("error", None) or lost()


lib.pgr_tape_on_custom(tape, lib.pgr_py_custom, ffi.NULL)


def are_settled() -> bool:
    """Whether all changes of sets are on the tape."""
    return _changes == _settled and not _doubtful


def settle_all(root: Slots) -> None:
    """Apply changed sets of operands to the tape. Raises errors that concern `root`."""
    global _settled
    changes = _changes
    if are_settled():
        return
    if LATE:
        _await_ends()
    # If no change was counted, only the doubtful ones can differ.
    seen = None if changes != _settled else list(_doubtful)
    before, left = -1, len(walked)
    while left and left != before:  # one set's cycle may vanish when another set is settled
        before, left = left, _settle_each(root, seen, False)
    _settled = changes
    if left:
        _settle_each(root, seen, True)


def _await_ends() -> None:
    """Have objects that have ended settle their sets: what is counted as settled here, they would not look at."""
    for again in (False, True):
        if not any(reference() is None for reference in list(walked.values())):
            return
        run_finalisers(again)
    for key, reference in list(walked.items()):
        if reference() is None:  # Ctrl-C ended the finaliser, or another brought the object back
            walked.pop(key, None)


def _settle_each(root: Slots, seen: list[int] | None, is_last: bool) -> int:
    """Visit changed sets once; return how many can't be settled. The last pass raises errors that concern `root`."""
    left = 0
    for key in list(walked) if seen is None else seen:
        reference = walked.get(key)
        value = None if reference is None else reference()
        if value is None:
            continue
        try:
            settle(value)
            if not _is_strange(value._kept):
                _doubtful.discard(key)
        except Exception:  # busy in another thread, or a cycle: reported to roots above it
            left += 1
            _doubtful.add(key)
            if is_last and lib.pgr_h_is_made_from(tape, root._handle, value._handle):
                raise
    return left
