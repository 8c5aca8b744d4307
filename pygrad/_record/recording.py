"""The state of a recording: the function's inputs, its groups of lanes, and the sources of its arrays' elements."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Generic, Protocol, TypeVar

from pygrad._core.errors import RecordingError, check, users_line
from pygrad._core.layer import TAPE, taken
from pygrad._core.trees import need_numpy
from pygrad._pgr import ffi, lib
from pygrad.engine import Value, as_value, value_of

T = TypeVar("T")


class Level:
    """One derivative: it takes a call with a rule by the rule, unless a derivative within it has already done so.

    cuts: Values that it takes as variables, or constants, whatever they are made from.
    """

    def __init__(self, regions: list[Any]) -> None:
        self._regions, self._first, self.token = regions, len(regions), object()
        self.cuts: Sequence[Value] = ()

    def regions(self) -> list[Any]:
        """The calls with rules since it began: see regions.py."""
        return self._regions[self._first :]


class Recordings(threading.local):
    """The active recordings of a thread, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Recording] = []
        self.eager = 0  # depth of active transforms with record=False
        self.deriving = 0  # depth of active functions that are being differentiated
        self.slices: list[int | None] = []  # of the vmaps under way, the innermost last; None: all, as lanes
        self.regions: list[Any] = []  # the calls with rules in them
        self.plain = False  # a rule's own function runs, for no derivative that is active

    def recorded(self, recording: Recording) -> _Until[None]:
        """Context while a function is recorded."""
        until = _Until(self.state(), None)
        self.stack.append(recording)
        lib.pgr_set_recording(1)
        return until

    def derived(self) -> _Until[Level]:
        """Context while a function runs that is differentiated afterwards."""
        return self.at(self.deriving + 1)

    def at(self, deriving: int) -> _Until[Level]:
        """Context while a function runs that so many derivatives see."""
        before = self.state()
        if not self.deriving:
            self.regions = []
        self.deriving, self.plain = deriving, not deriving
        return _Until(before, Level(self.regions))

    def state(self) -> tuple[Any, ...]:
        return len(self.stack), self.eager, self.deriving, len(self.slices), self.regions, self.plain

    def restore(self, state: tuple[Any, ...]) -> None:
        depth, self.eager, self.deriving, slices, self.regions, self.plain = state
        for recording in self.stack[depth:]:
            recording.is_over = True
        del self.stack[depth:], self.slices[slices:]
        lib.pgr_set_recording(depth > 0)

    def restored(self, function: Callable[[], T]) -> T:
        """function(), after which all is as before, even if Ctrl-C came at the edge of a context, which then stays."""
        before = self.state()
        try:
            try:
                return function()
            finally:
                self.restore(before)
        finally:  # in case Ctrl-C stopped the first
            self.restore(before)


recordings = Recordings()


class _Until(Generic[T]):
    """Context at whose end `recordings` is as it was before; `with` gives `value`."""

    def __init__(self, before: tuple[Any, ...], value: T) -> None:
        self._before, self._value = before, value

    def __enter__(self) -> T:
        return self._value

    def __exit__(self, *_: object) -> None:
        recordings.restore(self._before)


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

    def __init__(self, outer: Recording | None = None) -> None:
        """outer: the recording in which this one, of a step or a branch, takes place."""
        self.start = Value(0.0)  # the recording's nodes come after this one
        self.outer = outer
        self.groups: list[Group] = []
        self.calls: list[Any] = []  # see calls.py
        self.memory: list[tuple[int, int, int]] = []  # its arrays, of the outer's: array, offset, stride between steps
        self.late: list[Value] = []  # of recordings around this one, made while it took place
        self.own: list[Value] = []  # its inputs, lanes and results of calls, made while one within it took place
        self.steps: list[Value] = []  # the first and the last node of each recording within it
        self.is_over = False
        # Whether it is of a step that is run for lanes, or within one: those read no arrays.
        self.is_in_lanes: bool = outer is not None and outer.is_in_lanes
        self.within: Group | None = None  # the vmap whose function is running
        self.constants: dict[int, Any] = {}  # mapped arrays from outside, by number ..
        self.of_steps: dict[Any, int] = {}  # .. and the numbers of those that steps map, by what they hold
        self.prints: list[tuple[Any, Any]] = []  # debug_print: what, and its arguments
        self.arrays = 1  # numbers in use: array 0 holds the scalars

    def scalar(self, array: int, offset: int) -> Value:
        return self.scalars(array, [offset])[0]

    def scalars(self, array: int, offsets: Iterable[int]) -> list[Value]:
        make, op, first = lib.pgr_h_input, lib.PGR_OP_INPUT, array << 32
        return self.owned([value_of(make(TAPE, op, first | offset)) for offset in offsets])

    def owned(self, values: list[Value]) -> list[Value]:
        """Values that stand for numbers of this recording."""
        if self.is_over:
            raise leaked()
        if recordings.stack and recordings.stack[-1] is not self:
            self.own += values
        return values

    def needed_calls(self, roots: Sequence[Value], cuts: Sequence[int]) -> list[bool]:
        """Which of the calls the roots are made from, not through the cuts; RecordingError if a Value has leaked."""
        count = len(self.calls)
        if not count and not self.steps:
            return []
        flags = ffi.new("uint8_t[]", max(1, count))
        lists = [[value._handle for value in values] for values in (roots, self.steps, self.own)]
        given = [ffi.new("pgr_handle[]", handles) for handles in (lists[0], cuts, lists[1], lists[2])]
        places = ffi.new("pgr_places *", (len(roots), len(cuts), len(self.steps) // 2, len(self.own), *given))
        status = lib.pgr_h_needed_calls(TAPE, self.start._handle, places, count, flags)
        if status == lib.PGR_ERR_UNKNOWN:
            raise leaked()
        check(status)
        return [bool(flags[k]) for k in range(count)]

    def new_array(self) -> int:
        self.arrays += 1
        return self.arrays - 1

    def memory_of(self, array: int, offset: int, stride: int) -> int:
        """The number here of an array of the outer recording, which begins at offset, and moves on at every step."""
        assert self.outer is not None
        place = (array, offset, stride)
        if place not in self.memory:
            self.memory.append(place)
            self.new_array()
        return 1 + self.memory.index(place)

    def imported(self, array: int, owner: Recording) -> int:
        """The number here of an array of a recording around this one."""
        if owner is self:
            return array
        if self.outer is None:
            raise leaked()
        return self.memory_of(self.outer.imported(array, owner), 0, 0)

    def new_group(self, count: int) -> Group:
        self.groups.append(Group(self, len(self.groups), count))
        return self.groups[-1]

    def lane(self, group: Group, array: int, offset: int, stride: int) -> Value:
        group.inputs.append((array, offset, stride))
        number = group.number << 32 | (len(group.inputs) - 1)
        return self.owned([value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_LANE, number))])[0]

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
        sizes = len(places), handles, len(roots), root_handles, len(lanes)
        flat = taken(lambda: check(lib.pgr_h_lane_values(TAPE, *sizes, values or ffi.NULL, out)), lambda: out)
        return [flat[k * len(roots) : (k + 1) * len(roots)] for k in range(len(lanes))]


def leaked() -> RecordingError:
    """What a Value or an array of a step raises outside of it."""
    return RecordingError(
        f"{users_line()}\na Value of a function that was recorded before, or of a step or a branch, is used: it has no "
        "value outside of that function. Return it from there"
    )


def note_late(recording: Recording, values: Iterable[Value]) -> None:
    """Tell recordings within this one of Values that were made for it now: they are not part of them."""
    stack = recordings.stack
    if stack and stack[-1] is not recording and recording in stack:
        values = list(values)
        for inner in stack[stack.index(recording) + 1 :]:
            inner.late += values


# ---- Sources of elements ---------------------------------------------------------------------------------------


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

    def __init__(self, recording: Recording, number: int | None = None) -> None:
        self.recording, self.number = recording, recording.new_array() if number is None else number
        self._elements: dict[int, Value] = {}
        self._lanes: dict[tuple[Group, int, int], Value] = {}

    def elements(self, offsets: list[int]) -> list[Value]:
        made = self._elements
        missing = dict.fromkeys([offset for offset in offsets if offset not in made])
        if missing:
            new = self.recording.scalars(self.number, missing)
            note_late(self.recording, new)
            made.update(zip(missing, new))
        return [made[offset] for offset in offsets]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        return not recordings.stack[-1].is_in_lanes

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        key = (group, offset, stride)
        if key not in self._lanes:
            number = group.recording.imported(self.number, self.recording)
            self._lanes[key] = group.recording.lane(group, number, offset, stride)
        return self._lanes[key]


class Constant(Argument):
    """An array of numbers from outside."""

    def __init__(self, recording: Recording, array: Any) -> None:
        root = recording
        while root.outer is not None:
            root = root.outer
        self._array = need_numpy().array(array, dtype="d", order="C")
        key = None if root is recording else (self._array.shape, self._array.tobytes())
        super().__init__(root, root.of_steps.get(key))
        if key is not None:  # steps are traced many times, and read few arrays
            root.of_steps[key] = self.number
        root.constants[self.number] = self._array

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
            note_late(self.recording, [value for row in made for value in row])
        return [self._made[lane][k] for lane, k in where]

    def _where(self, offset: int) -> tuple[int, int]:
        lane = offset % (self.stride * self.group.count) // self.stride  # the lanes are one axis of the array
        return lane, self.place[offset - lane * self.stride]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        is_here = recordings.stack[-1] is self.recording
        return is_here and stride == self.stride and count == self.group.count and offset in self.place

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        return passed(self.values[self.place[offset]], group)
