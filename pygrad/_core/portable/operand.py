"""Operand: the type that Value is a subclass of. csrc/python's object.c and construct.c, and their twin."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from types import MethodType
from typing import Any, Callable, ClassVar, NoReturn

from pygrad._core.errors import check, leave, reject, unknown
from pygrad._core.ops import OPERATIONS, OPS, symbol_of
from pygrad._core.portable.objects import (
    ALONE,
    End,
    as_number,
    check_alive,
    leave as give_back,
    of,
    own_of,
    references,
    set_own,
)
from pygrad._core.portable.operators import CONDITIONS, compare_unknown, comparison, is_unknown, method, operator
from pygrad._core.portable.place import (
    STEPS,
    are_settled,
    check_sweep,
    do_nothing,
    is_operation,
    keep_prev,
    local_grad,
    operands_of,
    put_operands,
    set_operands,
    settle_all,
    settle_at_end,
    values_of,
    walked,
)
from pygrad._core.portable.registry import LateEnd, drop_dead, give_end, made_room, objects, put_on_page, unwatch
from pygrad._core.portable.slots import Slots, adopted, attributes_of
from pygrad._core.portable.tape import LATE, collecting, lock, tape
from pygrad._pgr import ffi, lib

_FIELDS = frozenset(Slots.__slots__)


class Operand(Slots):
    """A node's object, with the operators. See `pygrad.Value`."""

    __slots__ = ()
    neg: ClassVar[Callable[[Any], Any]]  # these and the other rows of the table are set below
    abs: ClassVar[Callable[[Any], Any]]
    __array_priority__: ClassVar[float]

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        # A subclass may define __init__: its object is a leaf until Operand.__init__ runs.
        value = object.__new__(cls)
        value._handle, value._kept = 0, None
        if LATE:
            value._end = value._page = None
        value._made = cls is adopted.value_type and bool(args or keywords)
        if value._made:
            value._make(*args, **keywords)
        else:
            value._bind(lib.pgr_h_leaf(tape, lib.PGR_OP_LEAF, math.nan))  # until __init__ sets a number
            if cls is not adopted.value_type:
                give_end(value)
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
        number = data if type(data) is float else as_number(data)
        if number is None:
            reject("Value", data)
        _children = children if isinstance(_children, tuple) and not _children else _children
        if local_grads is None and isinstance(_op, (tuple, list)):
            local_grads, _op = _op, ""
        for where, text in (("_op", _op), ("label", label)):
            if not isinstance(text, str):
                reject(where, text)
        operands = values_of("_children", _children)
        grads = None if local_grads is None else tuple(map(local_grad, tuple(local_grads)))
        if grads is not None and len(grads) != len(operands):
            raise ValueError(
                f"Value: {len(operands)} operands and {len(grads)} local gradients; their numbers must be equal"
            )
        is_leaf = not (operands or _op)
        if self._handle:
            self._change(is_leaf, number, operands)
        elif is_leaf:
            handle = lib.pgr_h_leaf(tape, lib.PGR_OP_LEAF, number)
            self._bind(lib.pgr_h_leaf(tape, lib.PGR_OP_LEAF, number) if made_room(-handle) else handle)
        else:
            self._bind(lib.pgr_h_custom(tape, number, len(operands), [operand._handle for operand in operands]))
        if not is_leaf:
            if _op:
                self._op = _op
            if grads is not None:
                own_of(self)["_local_grads"] = grads
        if label:
            self.label = label

    def _change(self, is_leaf: bool, number: float, operands: tuple[Any, ...]) -> None:
        """Change the node in place: a new number and operands. Results made from it stay connected."""
        for name in ("_op", "_backward", "_local_grads", "_pygrad_step"):
            own_of(self).pop(name, None)
        self._kept = None
        walked.pop(id(self), None)
        if not (is_leaf and lib.pgr_h_op(tape, self._handle) == lib.PGR_OP_LEAF):
            put_operands(self, operands)
        if is_leaf:
            check(lib.pgr_h_set_op(tape, self._handle, lib.PGR_OP_LEAF))
        check(lib.pgr_h_set_data(tape, self._handle, number))
        check(lib.pgr_h_set_grad(tape, self._handle, 0.0))

    def _bind(self, handle: int) -> None:
        """Take the hold on a new node, and release the one on the old node."""
        if handle < 0:
            check(-handle)
        old = self._handle
        is_plain = LATE and not isinstance(self._end, LateEnd)
        if is_plain and old:
            unwatch(self)
        self._handle = handle
        if is_plain:
            put_on_page(self, handle)
        else:
            objects[handle] = weakref.ref(self)
        if old:
            objects.pop(old, None)
            lib.pgr_h_release(tape, old, 0)

    def _ended(self) -> None:
        handle, notes = getattr(self, "_handle", 0), attributes_of(self)
        if not handle:
            return  # interrupted during construction
        if self._kept is not None:
            settle_at_end(self)
        if type(self) is not adopted.value_type:
            notes["__class__"] = type(self)
        late = collecting()
        if not (notes or late):  # the usual case, without the lock
            objects.pop(handle, None)
            if references(self) == ALONE:
                lib.pgr_h_release(tape, handle, 0)
                return
        if notes:
            drop_dead()
        with lock:
            if not late and references(self) > ALONE:
                # Another thread has just taken it from the registry. It lives on, but Python won't call __del__ again.
                notes.pop("__class__", None)
                self._end = End(handle, notes)
                objects.setdefault(handle, weakref.ref(self))
                return
            give_back(handle, notes, self)

    if LATE:

        def __setattr__(self, name: str, value: Any) -> None:
            if name != "grad" and name != "data" and name not in _FIELDS:
                give_end(self)
            object.__setattr__(self, name, value)
    else:
        __del__ = _ended

    _of = staticmethod(of)

    @property
    def _own(self) -> dict[str, Any]:
        """The attributes that users set."""
        return own_of(self)

    @property
    def __dict__(self) -> dict[str, Any]:
        own = own_of(self)
        own.update(data=self.data, grad=self.grad, _op=self._op, _prev=self._prev)
        return own

    @__dict__.setter
    def __dict__(self, own: dict[str, Any]) -> None:
        set_own(self, own)

    # ---- The graph: csrc/python/prev.c, symbol.c, step.c

    def _settle(self) -> None:
        """Apply changed sets of operands to the tape, below here."""
        settle_all(self)

    def _operands(self) -> list[Any]:
        """The operands in order, with repeats; parameters do not count."""
        self._settle()
        return operands_of(self)

    @property
    def _prev(self) -> Any:
        """The operands, as the node's own set: changing or assigning it changes the graph."""
        if self._kept is None:
            operands = adopted.set_type(operands_of(self))
            with lock:
                if self._kept is None:  # no other thread was faster
                    keep_prev(self, operands)
        return self._kept

    @_prev.setter
    def _prev(self, values: Any) -> None:
        values = adopted.set_type() if values is None else values
        values = values if isinstance(values, (set, frozenset, list)) else values_of("_prev", values)
        try:
            operands = set_operands(self, values)
        except ValueError:
            if are_settled():
                raise
            self._settle()  # an earlier change of another set may have cut the cycle
            operands = set_operands(self, values)
        keep_prev(self, values if isinstance(values, (set, frozenset, list)) else operands)

    @_prev.deleter
    def _prev(self) -> None:
        raise AttributeError("a Value's _prev can't be deleted; _prev = set() cuts the graph")

    @property
    def _op(self) -> Any:
        """The operation that made this node: '+', 'tanh', '**2'; '' for a leaf."""
        own, op = attributes_of(self), lib.pgr_h_op(tape, self._handle)
        check(-op if op < 0 else 0)
        if "_op" in own:
            return own["_op"]
        return symbol_of(op, lib.pgr_h_param(tape, self._handle))

    @_op.setter
    def _op(self, symbol: Any) -> None:
        own_of(self)["_op"] = symbol

    @_op.deleter
    def _op(self) -> None:
        if own_of(self).pop("_op", None) is None:
            raise AttributeError("_op")

    @property
    def _backward(self) -> Any:
        """One step of backward: calling it adds this node's contributions to its operands' grads.

        Assign a function of no arguments to make the node a custom operation, as in micrograd.
        """
        own = attributes_of(self).get("_backward")
        if own is not None:
            return own
        op = lib.pgr_h_op(tape, self._handle)
        check(-op if op < 0 else 0)
        return MethodType(STEPS[op], self)

    @_backward.setter
    def _backward(self, function: Any) -> None:
        if function is None:  # drop a closure
            function = do_nothing
        if not callable(function):
            reject("_backward", function)
        own, op = own_of(self), lib.pgr_h_op(tape, self._handle)
        check(-op if op < 0 else 0)
        if is_operation(op):  # keep its symbol and step, with its current operands
            set_operands(self, operands_of(self))
        own["_backward"] = function
        check(lib.pgr_h_set_op(tape, self._handle, lib.PGR_OP_CUSTOM))

    @_backward.deleter
    def _backward(self) -> None:
        raise AttributeError("a Value's _backward can't be deleted")

    def _sweep(self, checked: bool) -> Any:
        """Run the reverse sweep from here. A checked one returns the Value where it found inf or nan, else None."""
        self._settle()
        if not checked:
            check_sweep(lib.pgr_h_backward(tape, self._handle))
            return None
        bad = ffi.new("pgr_handle *")
        status = lib.pgr_h_backward_checked(tape, self._handle, bad)
        if status != lib.PGR_ERR_NOT_FINITE:
            check_sweep(status)
            return None
        return Operand._of(bad[0])

    @property
    def data(self) -> float:
        """The number, a float64. Settable on any node."""
        data: float = lib.pgr_h_data(tape, self._handle)
        if data != data:
            if lib.pgr_h_unknown(tape, self._handle):
                unknown("data")
            check_alive(self)
        return data

    @data.setter
    def data(self, value: Any) -> None:
        number = as_number(value)
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
            check_alive(self)
        return grad

    @grad.setter
    def grad(self, value: Any) -> None:
        number = 0.0 if value is None else as_number(value)
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

    # math's functions and NumPy call __float__: the graph would end there silently.
    def __float__(self) -> NoReturn:
        leave("float", self, lib.pgr_h_unknown(tape, self._handle))

    if LATE:
        __complex__ = __float__  # PyPy's complex() does not call that

    def __int__(self) -> NoReturn:
        leave("int", self, lib.pgr_h_unknown(tape, self._handle))

    def __bool__(self) -> bool:
        is_condition = lib.pgr_is_recording() and lib.pgr_h_op(tape, self._handle) in CONDITIONS
        if is_condition or lib.pgr_h_unknown(tape, self._handle):
            unknown("if")
        return True

    # A node may have a second object while a closure keeps an old one alive (see the package's docstring).
    def __eq__(self, other: object) -> Any:
        if lib.pgr_is_recording() or is_unknown(self, other):
            return compare_unknown("==", self, other)
        return self._handle == other._handle if isinstance(other, Operand) else NotImplemented

    def __ne__(self, other: object) -> Any:
        if lib.pgr_is_recording() or is_unknown(self, other):
            return compare_unknown("!=", self, other)
        return self._handle != other._handle if isinstance(other, Operand) else NotImplemented

    def __hash__(self) -> int:
        if lib.pgr_h_unknown(tape, self._handle):
            unknown("hash")
        return hash(self._handle)


for _row in OPERATIONS:
    setattr(Operand, _row.name, method(_row))
for _name, _symbol, _with_number in (
    ("add", "+", "add"),
    ("sub", "-", "sub"),
    ("mul", "*", "mul"),
    ("truediv", "/", "div"),
    ("mod", "%", "mod"),
    ("pow", "**", "powc"),
):
    _plain = "div" if _name == "truediv" else _name
    _forward, _reflected = operator(_symbol, OPS[_plain], OPS[_with_number])
    setattr(Operand, f"__{_name}__", _forward)
    setattr(Operand, f"__r{_name}__", _reflected)
for _name, _symbol in (("__lt__", "<"), ("__le__", "<="), ("__gt__", ">"), ("__ge__", ">=")):
    setattr(Operand, _name, comparison(_name, _symbol))
