"""Value: a number that remembers how it was made, as in karpathy/micrograd, on a tape in C.

This module is the facade: everything that is not hot, on top of the C library, through cffi. Operators and methods
record nodes and are hot, so they live one layer below: the compiled type of csrc/python/operand.c on CPython, its
twin in _core/portable elsewhere and under PYGRAD_OPERANDS=cffi. Both behave alike.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Set
from typing import Any, Callable, NamedTuple, NoReturn

from pygrad._core import anomaly
from pygrad._core.errors import check, fail, leave, refuse_operand, reject, shown, unknown
from pygrad._core.layer import TAPE, Operand, adopt, finish, node_values, note_change, notes
from pygrad._core.numbers import PLAIN, as_number
from pygrad._core.operand_set import operand_set
from pygrad._core.ops import OPS, TABLE
from pygrad._pgr import ffi, lib

__all__ = ["Value"]  # as in micrograd; the package exports the rest


def _partials(value: Value) -> tuple[float, ...]:
    """Partial derivatives by the operands, at their current numbers."""
    operands, handle = value._operands(), value._handle
    if operands and lib.pgr_h_op(TAPE, handle) == lib.PGR_OP_CUSTOM:
        raise AttributeError(f"{shown(value)} has no _local_grads: its step is a function, _backward()")
    partials = ffi.new("double[2]")
    lib.pgr_h_partials(TAPE, handle, partials)
    return tuple(partials[0 : len(operands)])


def _micro(value: Value, operands: Any, grads: Any) -> None:
    """Turn the node into one of microgpt's: operands, and a local gradient for each."""
    value._prev = operands
    value._own.pop("_pygrad_step", None)
    value._own.pop("_backward", None)
    value._own["_local_grads"] = grads


class Value(Operand):
    """A scalar, float64, that remembers how it was made.

    Value(data, _children=(), _op='', label=''), or Value(data, children, local_grads)

    data is a real number, or an object with __float__ or __index__; anything else raises TypeError. These record a
    node: the operators + - * / % ** (with Values and numbers, reflected too), unary -, abs, and a method for each row
    of csrc/ops/pgr_ops.h (exp, log, tanh, relu, ...). They raise what Python's floats and `math` raise for the same
    numbers (ZeroDivisionError, ValueError, OverflowError), and then record nothing. < <= > >= compare by value; == and
    hash compare nodes by identity. Attributes that you set belong to the node. local_grads holds one number per child:
    the child's grad grows by it times the node's grad. Without local_grads, assign `_backward`.

    >>> x = Value(3.0)
    >>> (x * x + x).backward()
    >>> x
    Value(data=3.0, grad=7.0)

    Source: Griewank & Walther, Evaluating Derivatives (2nd ed., 2008), ch. 3.
    """

    __slots__ = ()

    label: str = ""

    @property
    def _children(self) -> tuple[Value, ...]:
        """The operands, as a tuple in order; microgpt calls it `_prev`."""
        own: tuple[Value, ...] | None = self._own.get("_children")
        return tuple(self._operands()) if own is None else own

    @_children.setter
    def _children(self, values: Any) -> None:
        if isinstance(values, (tuple, list)) and all(isinstance(v, Value) for v in values):
            given = self._own.get("_local_grads")
            _micro(self, tuple(values), _partials(self) if given is None else given)
        else:
            self._own["_children"] = values  # a subclass may use the name for something else

    @property
    def _local_grads(self) -> tuple[float, ...]:
        """Partial derivatives by the operands: as given, else computed from the operands' current numbers.

        Raises AttributeError for a custom operation, whose step is a function.
        """
        own: tuple[float, ...] | None = self._own.get("_local_grads")
        return _partials(self) if own is None else own

    @_local_grads.setter
    def _local_grads(self, numbers: Any) -> None:
        if isinstance(numbers, (tuple, list)) and all(isinstance(x, (int, float)) for x in numbers):
            _micro(self, tuple(self._operands()), tuple(map(float, numbers)))
        else:
            self._own["_local_grads"] = numbers

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Derive operators from a subclass's own, as micrograd does: `0 + v` calls its `__add__`."""
        super().__init_subclass__(**keywords)
        own = {name for base in cls.__mro__[: cls.__mro__.index(Value)] for name in vars(base)}
        for name, parts, function in _MADE_OF:
            if name not in own and own & parts:
                setattr(cls, name, function)

    __array_priority__ = -1.0  # NumPy scalars leave operators to Value; arrays work elementwise

    def conjugate(self) -> Value:
        """The Value itself: numpy.vdot and numpy.conj look for it."""
        return self

    def backward(self, check: bool = False) -> None:
        """Add d(self)/d(leaf) to `leaf.grad` for every leaf below; overwrite the grads of inner nodes.

        Sets this Value's own grad to 1. Scalars, float64. Leaves accumulate: a second call doubles their grads, so set
        them to 0 before the next step. Passes on exceptions of custom operations; after one, and after Ctrl-C, the
        grads are incomplete.
        check: stop at the first inf or nan with a FloatingPointError that names its origin. Non-finite data is found
        before anything changes. At a non-finite grad, the grads above it are complete and those below incomplete.
        Takes about 2.5 times as long. detect_anomaly also names the line of code that made the node.
        Source: Griewank & Walther, Evaluating Derivatives, ch. 3.2.

        >>> x = Value(2.0)
        >>> (x ** 3).backward()
        >>> x.grad
        12.0
        """
        bad = self._sweep(check or anomaly.contexts > 0)
        if bad is not None:
            anomaly.not_finite(bad)

    # Conditions: while a function is recorded, comparisons return Values that will be 1 or 0.

    def __and__(self, other: Any) -> Any:
        return _combined(self, other, lambda both: both.equal(2.0))

    def __or__(self, other: Any) -> Any:
        return _combined(self, other, lambda both: both.equal(0.0).equal(0.0))

    def __xor__(self, other: Any) -> Any:
        return _combined(self, other, lambda both: both.equal(1.0))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Any:
        if not is_condition(self):
            raise TypeError("bad operand type for unary ~: this Value is not a comparison; use x == 0 for 'x is zero'")
        return self.equal(0.0)

    def __floordiv__(self, other: Any) -> Any:
        rest = self.__mod__(other)
        return rest if rest is NotImplemented else _quotient(self, other, rest)

    def __rfloordiv__(self, other: Any) -> Any:
        rest = self.__rmod__(other)
        return rest if rest is NotImplemented else _quotient(other, self, rest)

    def __divmod__(self, other: Any) -> Any:
        rest = self.__mod__(other)
        return rest if rest is NotImplemented else (self.__floordiv__(other), rest)

    def __rdivmod__(self, other: Any) -> Any:
        rest = self.__rmod__(other)
        return rest if rest is NotImplemented else (self.__rfloordiv__(other), rest)

    def __repr__(self) -> str:
        try:
            if lib.pgr_h_unknown(TAPE, self._handle):
                return "Value(without a value: a function is being recorded)"
            return f"Value(data={self.data}, grad={self.grad})"
        except ReferenceError:
            return "Value(without a node: its graph was dropped)"

    def __format__(self, spec: str) -> str:
        if spec and lib.pgr_h_unknown(TAPE, self._handle):
            unknown("format")
        return format(self.data, spec) if spec else repr(self)

    def __round__(self, ndigits: int | None = None) -> NoReturn:
        leave("round", self, lib.pgr_h_unknown(TAPE, self._handle))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """For Jupyter: the graph, if it is small enough to read (see draw.SHOWN_AT_MOST)."""
        return display(self)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        """For copy and pickle: this node, after everything below it (see _Below)."""
        if type(self).__reduce__ is not object.__reduce__:  # the subclass defines one
            return self.__reduce__()  # type: ignore[return-value]
        handle = self._handle
        operands = tuple(self._operands())
        op, param = lib.pgr_h_op(TAPE, handle), lib.pgr_h_param(TAPE, handle)
        notes = {name: x for name, x in self._own.items() if name not in _SHOWN}
        past = notes.get("_pygrad_step")
        below = _Below(self) if (operands or past) and handle not in _flat() else None
        if type(past) is tuple and past and type(past[0]) is int and 0 <= past[0] < len(TABLE):
            notes["_pygrad_step"] = (TABLE[past[0]].name, *past[1:])  # operation numbers change between versions
        return _restore, (type(self), below, TABLE[op].name, self.data, self.grad, operands, param), notes or None

    def __setstate__(self, notes: dict[str, Any]) -> None:
        """Restore the attributes that __reduce_ex__ saved."""
        past = notes.get("_pygrad_step")
        if type(past) is tuple and past and type(past[0]) is str and past[0] in OPS:
            notes = {**notes, "_pygrad_step": (OPS[past[0]], *past[1:])}
        self._own.update(notes)


def _quotient(x: Any, y: Any, rest: Value) -> Any:
    """The quotient x // y, given x % y; its derivative is 0. In a program, 0 as the divisor gives what x / 0 does."""
    if not lib.pgr_h_unknown(TAPE, rest._handle):
        return ((x - rest) / y).rint()
    if not isinstance(y, Value):
        return ((x - rest) / y).rint() if y else (x * math.inf).detach()
    by_zero = y.equal(0.0)
    return by_zero.keep((x / y).detach()) + by_zero.equal(0.0).keep(((x - rest) / y).rint())


def as_value(x: Any) -> Value:
    """`x` if it is a Value, else a new Value of it."""
    return x if isinstance(x, Value) else Value(x)


def value_of(handle: int) -> Value:
    """The Value of a handle that C returned. A negative handle is a status, and raises its exception."""
    if handle < 0:
        check(-handle)
    value: Value = Operand._of(handle)
    return value


_SHOWN = {"data", "grad", "_prev"}  # in vars(v), next to the attributes that users set

_CONDITIONS = {OPS[name] for name in ("less", "less_equal", "equal")}  # what comparisons record


def is_condition(x: Any) -> bool:
    """Whether `x` is a bool or a recorded comparison."""
    if isinstance(x, Value):
        op = lib.pgr_h_op(TAPE, x._handle)
        return op in _CONDITIONS or (op == lib.PGR_OP_LANE_PASS and is_condition(x._operands()[0]))
    return isinstance(x, bool) or type(x).__name__ in ("bool_", "bool")


def _combined(x: Value, y: Any, test: Callable[[Value], Any]) -> Any:
    """A condition made of two others: `test` of their sum, the number that hold."""
    if not (is_condition(x) and is_condition(y)):
        return NotImplemented
    return test(x + float(y) if not isinstance(y, Value) else x + y)


def _reflected(plain: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """A subclass's reflected operator. Python tries it before the plain operator of a Value on the left."""
    return lambda self, other: plain(other, self) if isinstance(other, Value) else function(self, other)


# micrograd builds these operators from others: subclasses that define one of the parts get them.
_MADE_OF: list[tuple[str, set[str], Callable[..., Any]]] = [
    ("__radd__", {"__add__"}, _reflected(Operand.__add__, lambda self, other: self + other)),
    ("__rmul__", {"__mul__"}, _reflected(Operand.__mul__, lambda self, other: self * other)),
    ("__neg__", {"__mul__"}, lambda self: self * -1),
    ("__sub__", {"__add__", "__neg__", "__mul__"}, lambda self, other: self + (-other)),
    ("__rsub__", {"__add__", "__neg__", "__mul__"}, lambda self, other: other + (-self)),
    ("__truediv__", {"__mul__", "__pow__"}, lambda self, other: self * other**-1),
    ("__rtruediv__", {"__mul__", "__pow__"}, lambda self, other: other * self**-1),
]


def display(value: Value) -> dict[str, str]:
    """For Jupyter. The package replaces this with its drawings, since those modules import this one."""
    return {"text/plain": repr(value)}


# ---- Copying and pickling ------------------------------------------------------------------------

_flattening = threading.local()


def _flat() -> set[int]:
    """Handles of nodes whose operands an active _Below saves before them."""
    try:
        handles: set[int] = _flattening.handles
    except AttributeError:
        handles = _flattening.handles = set()
    return handles


def _past_operands(value: Value) -> list[Value]:
    """The operands that a node was recorded with, to which its step still goes, if it was given others."""
    past = value._own.get("_pygrad_step")
    return [x for x in past if isinstance(x, Value)] if type(past) is tuple else []


def _below(root: Value) -> list[Value]:
    """The Values below `root`, each after all that its step goes to: a copy must not be made before them."""
    order: dict[int, Value] = {}
    begun: set[int] = set()
    stack = [(root, False)]
    while stack:
        value, is_ready = stack.pop()
        if is_ready:
            order.setdefault(value._handle, value)
        elif value._handle not in begun and value._handle not in order:
            begun.add(value._handle)
            for below, _ in reversed(node_values(value)):
                stack.append((below, True))
                stack.extend((x, False) for x in _past_operands(below))
    return [value for value in order.values() if value is not root]


class _Below:
    """Everything below a root, operands first, so that copy and pickle never recurse.

    They see a list that is extended item by item, and the copy is thrown away. They keep the list until they are
    done; until then its nodes are saved without a _Below.
    """

    _handles: Set[int] = frozenset()  # in case memory runs out before they are known

    def __init__(self, root: Value | None = None) -> None:
        self._values = [] if root is None else _below(root)
        self._flat = _flat()  # this thread's: another thread's collector may delete the object
        self._handles = {value._handle for value in self._values} - self._flat
        self._flat.update(self._handles)

    def __del__(self) -> None:
        if self._handles:
            self._flat.difference_update(self._handles)

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return _Below, (), None, iter(self._values)

    def append(self, value: Value) -> None: ...

    def extend(self, values: list[Value]) -> None: ...


def _restore(
    kind: type[Value], _below: Any, name: str, data: float, grad: float, operands: tuple[Value, ...], param: float
) -> Value:
    """Make the node that __reduce_ex__ described. Raises TypeError or ValueError, and then leaves the tape alone."""
    op = OPS.get(name) if isinstance(name, str) else None
    internal = range(lib.PGR_OP_CUSTOM + 1, lib.PGR_OP_FIRST)
    if not (isinstance(kind, type) and issubclass(kind, Value)) or op is None or op in internal:
        raise ValueError(f"not a node of this version of pygrad: {kind!r}, {name!r}")
    for what, number in (("data", data), ("grad", grad), ("param", param)):
        if type(number) is not float and (isinstance(number, bool) or type(number) is not int or abs(number) > 2**53):
            raise TypeError(f"a node of {name!r} can't have {what} = {shown(number)}: it must be a float")
    if not isinstance(operands, tuple) or not all(isinstance(operand, Value) for operand in operands):
        raise TypeError(f"a node of {name!r} can't have {shown(operands)} as operands: it takes a tuple of Values")
    if op != lib.PGR_OP_CUSTOM and len(operands) != TABLE[op].operands:
        raise ValueError(f"a node of {name!r} can't have {len(operands)} operands")
    if TABLE[op].has_param:
        operands = (*operands, Value(param))
    value = Value(data, operands) if kind is Value else kind.__new__(kind)
    if kind is not Value:
        Value.__init__(value, data, operands)
    value._own.pop("_op", None)
    check(lib.pgr_h_set_op(TAPE, value._handle, op))
    value.grad = grad
    return value


# ---- The tape as a whole -------------------------------------------------------------------------


class TapeStats(NamedTuple):
    """The tape's size: nodes, nodes reserved, live Values, nodes at which it collects, bytes, collections so far."""

    nodes: int
    capacity: int
    handles: int
    collect_at: int
    bytes: int
    collections: int


def tape_stats() -> TapeStats:
    """The tape's size, including garbage that is not collected yet.

    >>> x = Value(1.0)
    >>> tape_stats().handles > 0
    True
    """
    finish()
    stats = lib.pgr_tape_stat(TAPE)
    return TapeStats(*(getattr(stats, name) for name in TapeStats._fields))


adopt(
    value_type=Value,
    notes=notes,
    fail=fail,
    reject=reject,
    unknown=unknown,
    leave=leave,
    refuse_operand=refuse_operand,
    as_number=as_number,
    plain_numbers=PLAIN,
    set_type=operand_set(note_change),
)

# NumPy looks methods of object arrays up by its own names.
for _name in ("asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh"):
    setattr(Value, f"arc{_name[1:]}", getattr(Value, _name))
del _name
