"""Calls of programs by instructions: steps of loops, and branches, are recorded on their own. See pgr_inner in pgr.h.

A step or a branch is a function of Values, its inputs. What else it uses, of the recordings around it, is captured: it
becomes an operand of the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from pygrad._core.errors import RecordingError, check, custom_operation, users_line
from pygrad._core.layer import TAPE, taken
from pygrad._pgr import ffi, lib
from pygrad._program.code import Called
from pygrad._record.recording import Group, Recording, is_lane, leaked, recordings
from pygrad._record.regions import captured
from pygrad.engine import Value, value_of

_NOWHERE = 2**32 - 1  # the array of inputs that are bound: elsewhere they are mistakes


class Traced:
    """A function of `count` Values, recorded on its own. group: of the vmap around it whose lanes it works on.

    beside: another program of the same call, which reads the same memory.
    """

    def __init__(
        self,
        function: Callable[[list[Value]], Sequence[Value]],
        count: int,
        group: Group | None,
        beside: Traced | None = None,
    ) -> None:
        around = recordings.stack[-1]
        self.recording = Recording(around)
        if beside is not None:
            self.recording.memory = beside.recording.memory
        self.group: Group | None = None
        with recordings.recorded(self.recording), recordings.at(0):
            if group is not None:
                self.recording.is_in_lanes = True
                self.group = self.recording.within = Group(self.recording, group.number, group.count)
            op, array = (lib.PGR_OP_INPUT, _NOWHERE) if group is None else (lib.PGR_OP_LANE, group.number)
            made = [value_of(lib.pgr_h_input(TAPE, op, array << 32 | _NOWHERE - k)) for k in range(count + 1)]
            self.inputs, self._witness = made[:-1], made[-1]  # something that differs from lane to lane
            if self.group is not None:
                self.group.places = [(self._witness, self, 0, 0)]  # type: ignore[list-item]
            self.outs = [value * 1.0 for value in function(self.inputs)]  # nodes of its own
        around.steps += [self.recording.start, Value(0.0)]
        if self.recording.prints:
            raise RecordingError(
                f"{users_line()}\ndebug_print is within a step of a loop, or a branch, which can't print: return the "
                "number, and print it outside"
            )
        own = {value._handle for value in made}
        found = {value._handle: value for value in captured(self.recording.start, self.outs)}
        found.update({value._handle: value for value in self.recording.late})
        self.captured = [value for handle, value in found.items() if handle not in own]
        self._called: dict[Any, Called] = {}

    def called(self, places: dict[int, int], first_input: int, lanes: Sequence[bool] | None) -> Called:
        """Its program. places: by the handle of a captured Value, its number among the call's operands; lanes: which
        of the operands are lanes, or None if the call is run once.
        """
        key = (tuple(sorted(places.items())), first_input, None if lanes is None else tuple(lanes))
        if key not in self._called:
            self._called[key] = self._build(places, first_input, lanes)
        return self._called[key]

    def _build(self, places: dict[int, int], first_input: int, lanes: Sequence[bool] | None) -> Called:
        wanted = [(value, places[value._handle]) for value in self.captured]
        wanted += [(value, first_input + k) for k, value in enumerate(self.inputs)]
        lane_inputs: list[tuple[int, int, int]] = []
        bindings = []
        if lanes is not None:
            wanted.append((self._witness, first_input if self.inputs else list(lanes).index(True)))
        for value, place in wanted:
            if lanes is not None and (place >= first_input or lanes[place]):
                bindings.append((value._handle, lib.PGR_OP_LANE, len(lane_inputs)))
                lane_inputs.append((1 + place, 0, 1))
            else:
                bindings.append((value._handle, lib.PGR_OP_INPUT, place))
        outs = self.outs
        if lanes is None:
            places_out = [(0, k, 0) for k in range(len(outs))]
        else:
            nothing = Value(0.0).pick(self._witness)  # of a lane: makes lanes of what is the same in all of them
            outs = [value if is_lane(value) else value - nothing for value in outs]
            places_out = [(1 + k, 0, 1) for k in range(len(outs))]
        groups = [(group.count, group.inputs) for group in self.recording.groups]
        if lanes is not None:
            assert self.group is not None
            groups = [(self.group.count, lane_inputs)]
        return built(self.recording, outs, places_out, groups, (bindings, lanes is not None or self.group is None))[0]


class Call:
    """A call in a recording. Results are made as they are asked for.

    kinds: see pgr_call in pgr.h; traced: the programs, whose captured Values are among the first operands, with these
    handles.
    """

    def __init__(
        self,
        recording: Recording,
        traced: Sequence[Traced],
        handles: Sequence[int],
        operands: Sequence[Value],
        steps: int,
        flags: int,
        counts: tuple[int, int, int, int],
    ) -> None:
        self.traced, self.operands = traced, list(operands)
        self.steps, self.flags, self.counts = steps, flags, counts
        self._places = {handle: place for place, handle in enumerate(handles)}
        self._recording, self._number = recording, len(recording.calls)
        recording.calls.append(self)
        given = [value._handle for value in operands]
        found = lib.pgr_h_chain(TAPE, len(given), given)
        check(-found if found < 0 else 0)
        self._chain = value_of(found) if found else None
        self._made: dict[int, Value] = {}

    def result(self, k: int) -> Value:
        if k not in self._made:
            chain = 0 if self._chain is None else self._chain._handle
            found = lib.pgr_h_result(TAPE, chain, self._number << 32 | k)
            check(-found if found < 0 else 0)
            (self._made[k],) = self._recording.owned([value_of(found)])
        return self._made[k]

    def programs(self, once: bool) -> list[Called]:
        """Its programs; once: the recording is built for single lanes."""
        lanes = [not once and is_lane(value) for value in self.operands]
        is_switch = bool(self.flags & lib.PGR_CALL_SWITCH)
        consts = lanes[1:] if is_switch else lanes[: self.counts[0]]
        return [traced.called(self._places, self.counts[0], consts if any(lanes) else None) for traced in self.traced]


class _Inner(NamedTuple):
    c: Any  # a pgr_inner
    alive: list[Any]
    called: list[Called]


def _inner(
    recording: Recording, roots: Sequence[Value], bindings: Sequence[Any], is_called: bool, once: bool
) -> _Inner:
    alive: list[Any] = [ffi.new("pgr_binding[]", bindings)]
    calls = ffi.new("pgr_recorded_call[]", max(1, len(recording.calls)))
    programs: list[Called] = []
    memory: list[tuple[int, int, int]] = []
    needed = recording.needed_calls(roots, [handle for handle, _, _ in bindings])
    for c, call, is_needed in zip(calls, recording.calls, needed):
        if not is_needed:
            continue  # no instruction will name it
        called = call.programs(once)
        first = len(programs)
        programs += called
        operands = ffi.new("pgr_handle[]", [value._handle for value in call.operands])
        alive.append(operands)
        places = call.traced[0].recording.memory
        if len(places) > lib.PGR_MAX_MEMORY:
            raise RecordingError(f"a step of a loop reads {len(places)} arrays; the limit is {lib.PGR_MAX_MEMORY}")
        c.call = (call.steps, call.flags, *call.counts, first, len(called), len(memory), len(places))
        c.operand_count, c.operands = len(call.operands), operands
        memory += places
    used = ffi.new("pgr_lane_input[]", memory)
    pointers = ffi.new("pgr_program *[]", [program.c for program in programs])
    alive += [calls, used, pointers]
    c = ffi.new(
        "pgr_inner *",
        (is_called, len(bindings), len(recording.calls), len(memory), len(programs), alive[0], calls, used, pointers),
    )
    return _Inner(c, alive, programs)


def built(
    recording: Recording,
    values: Sequence[Value],
    places: Sequence[tuple[int, int, int]],
    groups: Sequence[tuple[int, Sequence[tuple[int, int, int]]]],
    called: tuple[Sequence[Any], bool] | None = None,
) -> tuple[Called, list[Value]]:
    """The program that writes these Values to their places, and the Values from outside whose numbers calls read.

    Raises RecordingError if there can be none.

    groups: their lanes and inputs. called: of a program for calls, its bindings, and whether its lanes stay lanes.
    """
    bindings, keeps_lanes = called or ((), True)
    c_groups = ffi.new("pgr_lane_group[]", max(1, len(groups)))
    alive = []
    for group, (count, inputs) in zip(c_groups, groups):
        alive.append(ffi.new("pgr_lane_input[]", inputs))
        group.lanes, group.input_count, group.inputs = count, len(inputs), alive[-1]
    inner = _Inner(ffi.NULL, [], [])
    if recording.calls or recording.steps or called is not None:
        inner = _inner(recording, values, bindings, called is not None, not keeps_lanes)
    program, bad = ffi.new("pgr_program **"), ffi.new("pgr_handle *")
    arguments = (
        TAPE,
        recording.start._handle,
        len(values),
        [value._handle for value in values],
        ffi.new("pgr_output[]", [(0, *place) for place in places]),
        len(groups),
        c_groups,
        recording.new_array() if called is None else 2**31,
        inner.c,
        program,
        bad,
    )

    def build() -> None:
        status = lib.pgr_h_program_build(*arguments)
        _check(status, value_of(bad[0]) if bad[0] else None)  # we own its hold

    try:
        outside = taken(build, lambda: _captures(program[0]))
    except BaseException:
        lib.pgr_program_free(program[0])
        raise
    return Called(ffi.gc(program[0], lib.pgr_program_free), inner.called), outside


def _captures(program: Any) -> Sequence[int]:
    found = ffi.new("const pgr_handle **")
    count = lib.pgr_h_program_captures(program, found) if program else 0
    return found[0][0:count] if count else ()


def _check(status: int, bad: Value | None) -> None:
    if status == lib.PGR_ERR_UNKNOWN:
        raise leaked()
    if status == lib.PGR_ERR_OPAQUE:
        raise RecordingError(
            f"{custom_operation(bad)} is Python code, which cannot be recorded: "
            "grad and value_and_grad can do it with record=False, and so can backward()"
        )
    if status == lib.PGR_ERR_ARGUMENT:
        raise RecordingError(f"loops and branches are nested too deeply; the limit is {lib.PGR_MAX_DEPTH} levels")
    check(status)
