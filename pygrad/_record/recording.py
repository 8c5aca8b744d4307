"""Recording: the placeholders for a function's arguments while it is called once, and the state of that call.

Scalars are Values without a value (pgr_input). Arrays are Arrays: they make Values for elements when these are used,
and hand a vmap their slices as lanes without making any.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from pygrad._core.errors import RecordingError, check, users_line
from pygrad._core.layer import TAPE, taken
from pygrad._core.trees import Tracer, is_array, need_numpy, tree_map
from pygrad._pgr import ffi, lib
from pygrad.engine import Value, as_value, value_of


class Level:
    """One derivative: it takes a call with a rule by the rule, unless a derivative within it has already done so.

    regions: the calls with rules so far (see regions.py), shared with the derivatives around it. cuts: Values that it
    takes as variables, or constants, whatever they are made from.
    """

    def __init__(self, regions: list[Any]) -> None:
        self.regions, self.token = regions, object()
        self.cuts: Sequence[Value] = ()


class Recordings(threading.local):
    """The active recordings of a thread, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Recording] = []
        self.eager = 0  # depth of active transforms with record=False
        self.deriving = 0  # depth of active functions that are being differentiated
        self.regions: list[Any] = []  # the calls with rules in them
        self.plain = False  # a rule's own function runs, for no derivative that is active

    @contextlib.contextmanager
    def recorded(self, recording: Recording) -> Iterator[None]:
        """Context while a function is recorded."""
        self.stack.append(recording)
        lib.pgr_set_recording(1)
        try:
            yield
        finally:
            self.stack.pop()
            lib.pgr_set_recording(bool(self.stack))

    @contextlib.contextmanager
    def derived(self) -> Iterator[Level]:
        """Context while a function runs that is differentiated afterwards."""
        with self.at(self.deriving + 1):
            yield Level(self.regions)

    @contextlib.contextmanager
    def at(self, deriving: int) -> Iterator[None]:
        """Context while a function runs that so many derivatives see."""
        before = self.deriving, self.regions, self.plain
        if not self.deriving:
            self.regions = []
        self.deriving, self.plain = deriving, not deriving
        try:
            yield
        finally:
            self.deriving, self.regions, self.plain = before


recordings = Recordings()


class Group:
    """The lanes of one vmap."""

    def __init__(self, recording: Recording, number: int, count: int) -> None:
        self.recording, self.number, self.count = recording, number, count
        self.inputs: list[tuple[int, int, int]] = []  # by index: array, offset, stride
        # The function's input lanes, each with its elements: source, offset, stride.
        self.places: list[tuple[Value, Source, int, int]] = []

    def take(self, source: Source, offset: int, stride: int) -> Value:
        """A Value whose lanes are these elements."""
        value = source.lane(self, offset, stride)
        self.places.append((value, source, offset, stride))
        return value

    def witness(self) -> Value:
        """A Value that may differ from lane to lane."""
        found = next((value for value, *_ in self.places if is_lane(value)), None)
        if found is None:  # all inputs are the same in all lanes
            found = self.take(Constant(self.recording, [0.0]), 0, 0)
        return found


class Recording:
    """State of one recording: the function's inputs and its groups of lanes."""

    def __init__(self) -> None:
        self.start = Value(0.0)  # the recording's nodes come after this one
        self.groups: list[Group] = []
        self.within: Group | None = None  # the vmap whose function is running
        self.constants: dict[int, Any] = {}  # mapped arrays from outside, by number
        self.arrays = 1  # numbers in use: array 0 holds the scalars

    def scalar(self, array: int, offset: int) -> Value:
        return value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_INPUT, array << 32 | offset))

    def new_array(self) -> int:
        self.arrays += 1
        return self.arrays - 1

    def new_group(self, count: int) -> Group:
        self.groups.append(Group(self, len(self.groups), count))
        return self.groups[-1]

    def lane(self, group: Group, array: int, offset: int, stride: int) -> Value:
        group.inputs.append((array, offset, stride))
        return value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_LANE, group.number << 32 | (len(group.inputs) - 1)))

    def lane_values(self, count: int, roots: list[Value], lanes: list[int]) -> list[list[Value]]:
        """The roots, which belong to vmaps of `count` lanes, for each lane: recorded again, one by one."""
        places = [place for group in self.groups if group.count == count for place in group.places]
        handles = [value._handle for value, *_ in places]
        used = ffi.new("uint8_t[]", len(places))
        root_handles = [root._handle for root in roots]
        check(lib.pgr_h_lane_places(TAPE, len(places), handles, len(roots), root_handles, used))
        places = [place for place, is_used in zip(places, used) if is_used]
        given = [source.elements([offset + stride * lane for lane in lanes]) for _, source, offset, stride in places]
        values = [values[k]._handle for k in range(len(lanes)) for values in given]
        handles = [value._handle for value, *_ in places]
        out = ffi.new("pgr_handle[]", len(lanes) * len(roots))
        check(
            lib.pgr_h_lane_values(
                TAPE, len(places), handles, len(roots), root_handles, len(lanes), values or ffi.NULL, out
            )
        )
        flat = taken(out)
        return [flat[k * len(roots) : (k + 1) * len(roots)] for k in range(len(lanes))]


# ---- Arrays ---------------------------------------------------------------------------------------


def is_lane(value: Value) -> bool:
    """Whether a Value may differ from lane to lane of a vmap."""
    return int(lib.pgr_h_unknown(TAPE, value._handle)) == 2


def passed(value: Value, group: Group) -> Value:
    """A lane, moved into another group with as many lanes."""
    return value_of(lib.pgr_h_lane_pass(TAPE, value._handle, group.number)) if is_lane(value) else value


def lane_sum(value: Value, group: Group) -> Value:
    return value_of(lib.pgr_h_lane_sum(TAPE, value._handle, group.witness()._handle))


class Source(Protocol):
    """Where an Array takes its elements from, by offset."""

    def elements(self, offsets: list[int]) -> list[Value]:
        """The Values of the elements at these offsets."""
        ...

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        """Whether the elements at offset, offset + stride, ... can be lanes."""
        ...

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        """A Value whose lanes are those elements."""
        ...


class Argument:
    """An array argument of the function."""

    def __init__(self, recording: Recording) -> None:
        self._recording, self._number = recording, recording.new_array()
        self._elements: dict[int, Value] = {}
        self._lanes: dict[tuple[int, int, int], Value] = {}

    def elements(self, offsets: list[int]) -> list[Value]:
        made = self._elements
        for offset in offsets:
            if offset not in made:
                made[offset] = self._recording.scalar(self._number, offset)
        return [made[offset] for offset in offsets]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        return True

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        key = (group.number, offset, stride)
        if key not in self._lanes:
            self._lanes[key] = self._recording.lane(group, self._number, offset, stride)
        return self._lanes[key]


class Constant(Argument):
    """An array of numbers from outside."""

    def __init__(self, recording: Recording, array: Any) -> None:
        super().__init__(recording)
        self._array = need_numpy().array(array, dtype="d", order="C")
        recording.constants[self._number] = self._array

    def elements(self, offsets: list[int]) -> list[Value]:
        flat = self._array.ravel()
        return [Value(flat[offset]) for offset in offsets]


class Elements:
    """An array of Values and numbers."""

    def __init__(self, array: Any) -> None:
        self._flat = array.ravel()

    def elements(self, offsets: list[int]) -> list[Value]:
        return [as_value(self._flat[offset]) for offset in offsets]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        return False

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        raise NotImplementedError


class Lanes:
    """An unreduced result of a vmap: a Value for each place of a slice. A Value may be the same in all lanes.

    Place k of lane i is the element at offsets[k] + i * stride.
    """

    def __init__(
        self, recording: Recording, group: Group, offsets: list[int], stride: int, values: list[Value]
    ) -> None:
        self.recording, self.group, self.stride, self.values = recording, group, stride, values
        self.place = {offset: k for k, offset in enumerate(offsets)}
        self.offsets = offsets
        self._made: dict[int, list[Value]] = {}  # by lane

    def elements(self, offsets: list[int]) -> list[Value]:
        where = [self._where(offset) for offset in offsets]
        missing = sorted({lane for lane, _ in where} - self._made.keys())
        if missing:
            made = self.recording.lane_values(self.group.count, self.values, missing)
            self._made.update(zip(missing, made))
        return [self._made[lane][k] for lane, k in where]

    def _where(self, offset: int) -> tuple[int, int]:
        lane = offset % (self.stride * self.group.count) // self.stride  # the lanes are one axis of the array
        return lane, self.place[offset - lane * self.stride]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        return stride == self.stride and count == self.group.count and offset in self.place

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        return passed(self.values[self.place[offset]], group)


class Copy:
    """A copy of an array to differentiate by. Elements and lanes are copied when they are used."""

    def __init__(self, array: Array, along: Array | None = None) -> None:
        self.array, self.along = array, along  # both must be able to supply a lane
        self.made: dict[int, Value] = {}
        self.made_lanes: dict[tuple[int, int, int], tuple[Group, Value]] = {}  # by count, offset, stride

    def elements(self, offsets: list[int]) -> list[Value]:
        missing = [offset for offset in dict.fromkeys(offsets) if offset not in self.made]
        for offset, value in zip(missing, self.array.elements(missing)):
            self.made[offset] = value * 1.0
        return [self.made[offset] for offset in offsets]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        return all(a is None or a.lanes_of(offset, stride, count) is not None for a in (self.array, self.along))

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        key = (group.count, offset, stride)
        if key not in self.made_lanes:
            value = self.array.lane(group, offset, stride) * 1.0
            if not is_lane(value):  # the same in all lanes, but each lane needs its own derivative
                value = value - Value(0.0).pick(group.witness())
            self.made_lanes[key] = (group, value)
        home, value = self.made_lanes[key]
        return value if home is group else passed(value, group)


@functools.cache
def _values_type() -> Any:
    np = need_numpy()
    compare = {name: np.frompyfunc(getattr(operator, short), 2, 1) for name, short in _COMPARISONS.items()}

    class Values(np.ndarray):  # type: ignore[misc, name-defined, unused-ignore]
        """An array of Values without a value: comparisons are conditions, elementwise."""

        _of_values = True  # accepted by _core.numbers.array_fault

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **keywords: Any) -> Any:
            if out is not None:
                keywords["out"] = tuple([x.view(np.ndarray) if isinstance(x, Values) else x for x in out])
            plain = [_plain(x) for x in inputs]
            plain = [x.view(np.ndarray) if isinstance(x, Values) else x for x in plain]
            result = getattr(compare.get(ufunc.__name__, ufunc), method)(*plain, **keywords)
            if out is not None and len(out) == 1:
                return out[0]
            return result.view(Values) if isinstance(result, np.ndarray) and result.dtype == object else result

    return Values


_COMPARISONS = {
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}


def object_array(values: list[Any], shape: tuple[int, ...]) -> Any:
    """An array of Values. While a function is recorded, its comparisons are conditions."""
    np = need_numpy()
    array = np.empty(len(values), dtype=object)
    array[:] = values
    array = array.reshape(shape)
    return array.view(_values_type()) if recordings.stack else array


class Array(Tracer):
    """An array while a function is recorded: elements of a source, by their offsets.

    Everything that it does not define is left to the NumPy array of its Values, `__array__()`.
    """

    __array_priority__ = 100.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, source: Source, view: Any) -> None:
        self.source, self.view = source, view
        self.shape, self.ndim = tuple(view.shape), int(view.ndim)

    @staticmethod
    def of(source: Source, shape: tuple[int, ...]) -> Array:
        np = need_numpy()
        return Array(source, np.arange(int(np.prod(shape, dtype=int))).reshape(shape))

    @property
    def T(self) -> Array:  # noqa: N802
        return Array(self.source, self.view.T)

    @property
    def size(self) -> int:
        return int(self.view.size)

    def reshape(self, *shape: Any) -> Array:
        return Array(self.source, self.view.reshape(*shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        view = self.view[index]
        return Array(self.source, view) if getattr(view, "ndim", 0) else self.source.elements([int(view)])[0]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise RecordingError(
            f"{users_line()}\nA function is being recorded, and its arguments must not be changed: assign to a copy, "
            "x = 1 * x or np.array(x)"
        )

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return object_array(self.source.elements(self.view.ravel().tolist()), self.shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return getattr(ufunc, method)(*map(_plain, inputs), **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
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

    def slices(self, axis: int) -> tuple[Any, int] | None:
        """(offsets of the first slice along `axis`, stride from slice to slice) if they can be lanes."""
        np = need_numpy()
        view = np.moveaxis(self.view, axis, 0)
        stride = int((view[1] - view[0]).ravel()[0]) if len(view) > 1 and view[0].size else 1
        steps = np.arange(len(view)).reshape(-1, *[1] * (view.ndim - 1)) * stride
        if stride <= 0 or not bool((view == view[0] + steps).all()):
            return None
        possible = all(self.source.has_lane(offset, stride, len(view)) for offset in view[0].ravel().tolist())
        return (view[0], stride) if possible else None

    def lane_layout(self) -> tuple[Lanes, list[tuple[Value, int, int]]] | None:
        """A vmap's whole result, in any order: its Lanes, and (Value, place here, stride here) for each; else None."""
        np = need_numpy()
        lanes, flat = self.source, self.view.ravel()
        if not isinstance(lanes, Lanes) or flat.size != len(lanes.values) * lanes.group.count:
            return None
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


def _plain(x: Any) -> Any:
    return x.__array__() if isinstance(x, Array) else x


def _define_operators() -> None:
    """Give Array the operators of the array of its Values."""
    for name in ("add", "sub", "mul", "truediv", "mod", "pow", "matmul", "and", "or", "xor"):
        for reflected in ("", "r"):
            method = f"__{reflected}{name}__"
            setattr(Array, method, lambda self, other, m=method: getattr(self.__array__(), m)(_plain(other)))
    for method in ("__neg__", "__pos__", "__abs__", "__invert__"):
        setattr(Array, method, lambda self, m=method: getattr(self.__array__(), m)())
    for name in _COMPARISONS.values():
        method = f"__{name}__"
        setattr(Array, method, lambda self, other, m=method: getattr(self.__array__(), m)(_plain(other)))


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
