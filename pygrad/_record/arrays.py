"""Arrays while a function is recorded. An argument is an Array: it makes Values for elements when these are used, and
hands a vmap their slices as lanes without making any. What is computed from it is an array of Values.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Iterator
from typing import Any, Callable

from pygrad import math
from pygrad._core.errors import unknown
from pygrad._core.trees import Tracer, is_array, need_numpy, tree_map
from pygrad._record.recording import Constant, Elements, Group, Lanes, Recording, Source, lane_sum, recordings
from pygrad._record.refusals import NO_AT, refusals, refuse_change
from pygrad.engine import Value, as_value


def with_scalars(record: Callable[[], Any]) -> Any:
    """record(), and if NumPy refuses a Value, once more with ufuncs of scalars, such as np.maximum(x, 0.0).

    These stay, once they were tried: they cost 0.6 us for each product with a scalar of NumPy's on the left.
    """
    with refusals():
        if hasattr(Value, "__array_ufunc__") or "numpy" not in sys.modules:
            return record()
        with contextlib.suppress(TypeError):
            return record()
        Value.__array_ufunc__ = _scalar_ufunc  # type: ignore[attr-defined]
        return record()


# By ufunc: what a number on the left needs, which comes here because NumPy's scalars have operators of their own.
_REFLECTED = {
    "add": Value.__radd__,
    "subtract": Value.__rsub__,
    "multiply": Value.__rmul__,
    "divide": Value.__rtruediv__,
    "power": Value.__rpow__,
    "remainder": Value.__rmod__,
    "floor_divide": Value.__rfloordiv__,
    "divmod": Value.__rdivmod__,
    "less": Value.__gt__,
    "less_equal": Value.__ge__,
    "greater": Value.__lt__,
    "greater_equal": Value.__le__,
    "equal": Value.__eq__,
    "not_equal": Value.__ne__,
}


def _scalar_ufunc(self: Value, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
    np = sys.modules["numpy"]
    left = inputs[0]
    if isinstance(left, np.generic) and len(inputs) == 2 and inputs[1] is self:
        reflected = _REFLECTED.get(ufunc.__name__)
        if reflected is not None and method == "__call__" and not keywords:
            return reflected(self, left)
    if recordings.stack or recordings.eager:
        return _values_type().__array_ufunc__(None, ufunc, method, *map(_plain, inputs), **keywords)
    # As without this method: NumPy's own loop over objects.
    return getattr(ufunc, method)(*[np.asarray(x) if isinstance(x, Value) else x for x in inputs], **keywords)


def _scalar_function(_: Value, function: Any, types: Any, args: Any, keywords: Any) -> Any:
    if not (recordings.stack or recordings.eager):
        return function._implementation(*args, **keywords)
    np = need_numpy()
    # As arrays, since NumPy would try a Value's own methods, such as max.
    args = tuple([np.asarray(x, dtype=object).view(_values_type()) if isinstance(x, Value) else x for x in args])
    return Array.__array_function__(None, function, types, args, keywords)  # type: ignore[arg-type]


Value.__array_function__ = _scalar_function  # type: ignore[attr-defined]


@functools.cache
def _values_type() -> Any:
    from pygrad._record.values import Values

    return Values


def object_array(values: list[Any], shape: tuple[int, ...]) -> Any:
    """An array of Values. Within a transform, NumPy's functions of it are ours."""
    np = need_numpy()
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return of_values(array.reshape(shape))


def of_values(array: Any) -> Any:
    """An array of Values as one of ours, within a transform."""
    return array.view(_values_type()) if recordings.stack or recordings.eager else array


math.of_values = of_values


# Offsets of all elements in order, by id, as long as there are views of them.
_all_offsets: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def _is_regular(view: Any) -> bool:
    """Whether offsets lie in memory as they count, so that along each axis they grow by a constant."""
    return view.base is not None and _all_offsets.get(id(view.base)) is view.base


class Array(Tracer):
    """An array while a function is recorded: elements of a source, by their offsets.

    Everything that it does not define is left to the NumPy array of its Values, `__array__()`.
    """

    __array_priority__ = 100.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, source: Source, view: Any) -> None:
        self.source, self.view = source, view
        self.shape, self.ndim = tuple(view.shape), int(view.ndim)

    def __repr__(self) -> str:
        return f"Array(of shape {self.shape}, without numbers: a function is being recorded)"

    def __format__(self, spec: str) -> str:
        if spec:
            unknown("format")
        return repr(self)

    @staticmethod
    def of(source: Source, shape: tuple[int, ...]) -> Array:
        np = need_numpy()
        count = int(np.prod(shape, dtype=np.int64))
        offsets = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)  # half the memory takes half the time
        _all_offsets[id(offsets)] = offsets
        return Array(source, offsets.reshape(shape))

    @property
    def T(self) -> Array:  # noqa: N802
        return Array(self.source, self.view.T)

    # As NumPy has it: of one element, which has no number, or of several, which have no truth.

    def __bool__(self) -> bool:
        return bool(self.__array__())

    def __float__(self) -> float:
        return float(self.__array__())

    def __int__(self) -> int:
        return int(self.__array__())

    @property
    def dtype(self) -> Any:
        return need_numpy().dtype(float)

    @property
    def size(self) -> int:
        return int(self.view.size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        try:
            view = self.view[index]
        except IndexError as error:
            from pygrad._record import functions

            functions.refuse_index(index, error)
            raise
        return Array(self.source, view) if getattr(view, "ndim", 0) else self.source.elements([int(view)])[0]

    def __setitem__(self, index: Any, value: Any) -> None:
        refuse_change()

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        array = object_array(self.source.elements(self.view.ravel().tolist()), self.shape)
        array.flags.writeable = bool(copy)  # what is written to it would be lost
        return array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method == "at" or any(isinstance(x, Array) for x in keywords.get("out", ())):
            refuse_change()
        found = None if method != "__call__" or keywords else _in_lanes(ufunc, inputs)
        if found is not None:
            return found
        return _values_type().__array_ufunc__(None, ufunc, method, *map(_plain, inputs), **keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        if args and isinstance(args[0], Array):
            name, more = function.__name__, args[1:]
            if name in ("sum", "mean"):
                return getattr(args[0], name)(*more, **keywords)
            if name in _MOVES and not any(isinstance(x, (Array, Value)) for x in more):
                return args[0]._moved(function, *more, **keywords)
        args, keywords = _plain_within(args), {name: _plain_within(x) for name, x in keywords.items()}
        try:
            return _values_type().__array_function__(None, function, types, args, keywords)
        except ValueError as error:
            if "read-only" in str(error):
                refuse_change()
            raise

    def _moved(self, function: Any, *args: Any, **keywords: Any) -> Any:
        """What `function`, which moves elements only, makes of the array."""
        views = function(self.view, *args, **keywords)
        if isinstance(views, (list, tuple)):
            return [Array(self.source, view) for view in views]
        return Array(self.source, views)

    def sum(self, axis: Any = None, **keywords: Any) -> Any:
        """A vmap's result is added up over lanes, as by its reduce=."""
        totals = None if keywords.keys() - {"keepdims"} else self._lane_totals(axis)
        if totals is None:
            return self.__array__().sum(axis, **keywords)
        return totals.sum(axis, **keywords)

    def mean(self, axis: Any = None, **keywords: Any) -> Any:
        totals = None if keywords.keys() - {"keepdims"} else self._lane_totals(axis)
        if totals is None:
            return self.__array__().mean(axis, **keywords)
        total = totals.sum(axis, **keywords)
        return total / (self.size // max(1, int(need_numpy().size(total))))

    def _lane_totals(self, axis: Any) -> Any:
        """The array with its axis of lanes added up, to length 1; None if it has none, or `axis` leaves it."""
        layout = self.lane_layout() if recordings.stack and recordings.stack[-1].within is None else None
        if layout is None:
            return None
        lanes, found = layout
        count = lanes.group.count
        at = axis_of(self.shape, count, found[0][2])
        axes = (
            range(self.ndim)
            if axis is None
            else [x % self.ndim for x in (axis if isinstance(axis, tuple) else (axis,))]
        )
        if at is None or at not in axes or any(step != found[0][2] for _, _, step in found):
            return None
        rest = sorted(found, key=lambda one: one[1])
        shape = (*self.shape[:at], 1, *self.shape[at + 1 :])
        return object_array([lane_sum(value, lanes.group) for value, _, _ in rest], shape)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _MOVING_METHODS:
            return functools.partial(self._moved, getattr(need_numpy().ndarray, name))
        if name in _CHANGING_METHODS:
            refuse_change()
        if name == "at":
            raise AttributeError(NO_AT)
        return getattr(self.__array__(), name)

    # Places count the array's own elements, row by row:

    def elements(self, places: list[int]) -> list[Value]:
        flat = self.view.ravel()
        return self.source.elements([int(flat[place]) for place in places])

    def lanes_of(self, place: int, stride: int, count: int) -> tuple[int, int] | None:
        """(offset, stride) in the source of `count` elements from `place` on; None if they can't be lanes."""
        np = need_numpy()
        offsets = self.view.ravel()[place : place + (count - 1) * stride + 1 : stride]
        step = int(offsets[1] - offsets[0]) if count > 1 else 1
        if step <= 0 or not bool((offsets == offsets[0] + step * np.arange(count)).all()):
            return None
        first = int(offsets[0])
        return (first, step) if self.source.has_lane(first, step, count) else None

    def lane(self, group: Group, place: int, stride: int) -> Value:
        """A Value whose lanes are these elements."""
        found = self.lanes_of(place, stride, group.count)
        assert found is not None
        return group.take(self.source, *found)

    def _lane_or_element(self, group: Group, place: int, stride: int) -> Value | None:
        """A Value whose lanes are these elements, or the element that all of them are; None if there can be none."""
        offsets = self.view.ravel()[place : place + (group.count - 1) * stride + 1 : stride]
        if bool((offsets == offsets[0]).all()):
            return self.source.elements([int(offsets[0])])[0]
        return None if self.lanes_of(place, stride, group.count) is None else self.lane(group, place, stride)

    def slices(self, axis: int) -> tuple[Any, int] | None:
        """(offsets of the first slice along `axis`, stride from slice to slice) if they can be lanes."""
        np = need_numpy()
        view = np.moveaxis(self.view, axis, 0)
        stride = int((view[1] - view[0]).ravel()[0]) if len(view) > 1 and view[0].size else 1

        def steps() -> Any:
            return np.arange(len(view)).reshape(-1, *[1] * (view.ndim - 1)) * stride

        if stride <= 0 or not (_is_regular(view) or bool((view == view[0] + steps()).all())):
            return None
        possible = all(self.source.has_lane(offset, stride, len(view)) for offset in view[0].ravel().tolist())
        return (view[0], stride) if possible else None

    def lane_layout(self) -> tuple[Lanes, list[tuple[Value, int, int]]] | None:
        """A vmap's whole result, in any order: its Lanes, and (Value, place here, stride here) for each; else None."""
        np = need_numpy()
        lanes, flat = self.source, self.view.ravel()
        if not isinstance(lanes, Lanes) or flat.size != len(lanes.values) * lanes.group.count:
            return None
        if _is_regular(self.view) and self.view.flags.c_contiguous:  # as it was made
            return lanes, [(value, offset, lanes.stride) for offset, value in zip(lanes.offsets, lanes.values)]
        place = np.full(flat.size, -1)
        place[flat] = np.arange(flat.size)
        found = []
        for offset, value in zip(lanes.offsets, lanes.values):
            places = place[offset + lanes.stride * np.arange(lanes.group.count)]
            step = int(places[1] - places[0])
            if step <= 0 or places[0] < 0 or not bool((places == places[0] + step * np.arange(len(places))).all()):
                return None
            found.append((value, int(places[0]), step))
        return lanes, found


# Functions and methods that move elements, and compute nothing: an Array's view of offsets can go through them.
_MOVING_METHODS = {"reshape", "ravel", "flatten", "transpose", "swapaxes", "squeeze", "repeat", "take", "diagonal"}
_MOVES = {"reshape", "ravel", "transpose", "swapaxes", "squeeze", "repeat", "take", "diagonal", "moveaxis", "rollaxis"}
_MOVES |= {"permute_dims", "matrix_transpose", "expand_dims", "broadcast_to", "atleast_1d", "atleast_2d", "atleast_3d"}
_MOVES |= {"flip", "fliplr", "flipud", "rot90", "roll", "tile", "take_along_axis", "delete"}
_MOVES |= {"split", "array_split", "hsplit", "vsplit", "dsplit", "unstack"}


_CHANGING_METHODS = {"sort", "partition", "fill", "put", "itemset", "resize", "setfield", "setflags"}


def _plain(x: Any) -> Any:
    return x.__array__() if isinstance(x, Array) else x


def _in_lanes(ufunc: Any, inputs: tuple[Any, ...]) -> Array | None:
    """A ufunc of a vmap's whole result and of what has, or is broadcast to, its shape, lane by lane; else None."""
    base = next((x for x in inputs if isinstance(x, Array) and isinstance(x.source, Lanes)), None)
    recording = recordings.stack[-1] if recordings.stack else None
    if base is None or recording is None or recording.within is not None or ufunc.nout != 1 or ufunc.signature:
        return None
    layout = base.lane_layout()
    if layout is None or axis_of(base.shape, layout[0].group.count, layout[1][0][2]) is None:
        return None
    group, places, step = layout[0].group, [place for _, place, _ in layout[1]], layout[1][0][2]
    if any(other != step for _, _, other in layout[1]):
        return None
    np, columns = need_numpy(), []
    for x in inputs:
        column = [x] * len(places)
        if is_array(x) and x.ndim:
            if np.broadcast_shapes(x.shape, base.shape) != base.shape:
                return None
            array = as_array(recording, x)._moved(np.broadcast_to, base.shape)
            column = [array._lane_or_element(group, place, step) for place in places]
        elif not isinstance(x, (Value, float, int, np.generic)):
            return None
        if any(one is None for one in column):
            return None
        columns.append(object_array(column, (len(places),)))
    result = _values_type().__array_ufunc__(None, ufunc, "__call__", *columns)
    return Array.of(Lanes(recording, group, places, step, [as_value(x) for x in result]), base.shape)


def _plain_within(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return type(x)(map(_plain_within, x))
    return _plain(x)


def axis_of(shape: tuple[int, ...], count: int, stride: int) -> int | None:
    """The axis with this length and stride; None if there is none."""
    width = 1
    for axis in reversed(range(len(shape))):
        if width == stride and shape[axis] == count:
            return axis
        width *= shape[axis]
    return None


_OPERATORS = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide"}
_OPERATORS |= {"mod": "remainder", "divmod": "divmod", "pow": "power", "matmul": "matmul"}
_OPERATORS |= {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
_COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_COMPARISONS |= {"eq": "equal", "ne": "not_equal"}
_UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def _define_operators() -> None:
    """Give Array the operators of the array of its Values; of lanes they are ufuncs, which stay lanes if they can."""

    def operator(method: str, ufunc: str, is_reflected: bool = False) -> Any:
        def operate(self: Array, *others: Any) -> Any:
            if isinstance(self.source, Lanes) or any(isinstance(x, Array) for x in others):
                operands = (*others, self) if is_reflected else (self, *others)
                return getattr(need_numpy(), ufunc)(*operands)
            return getattr(self.__array__(), method)(*others)

        return operate

    for name, ufunc in {**_OPERATORS, **_COMPARISONS, **_UNARY}.items():
        setattr(Array, f"__{name}__", operator(f"__{name}__", ufunc))
        if name in _OPERATORS:
            setattr(Array, f"__r{name}__", operator(f"__r{name}__", ufunc, True))


_define_operators()


def as_array(recording: Recording, x: Any) -> Array:
    """Any array as an Array, whose slices can be lanes if possible."""
    if isinstance(x, Array):
        return x
    return Array.of(Elements(x) if x.dtype == object else Constant(recording, x), x.shape)


def like(x: Any, values: list[Any]) -> Any:
    """`values` in the structure of `x`, arrays as object arrays."""
    rest = iter(values)

    def fill(leaf: Any) -> Any:
        if not is_array(leaf):
            return next(rest)
        count = int(need_numpy().prod(leaf.shape, dtype=int))
        return object_array([next(rest) for _ in range(count)], leaf.shape)

    return tree_map(fill, x)
