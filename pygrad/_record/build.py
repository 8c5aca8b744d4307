"""Building: turn a recording and the function's result into a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from pygrad._core.errors import RecordingError, check, custom_operation
from pygrad._core.layer import TAPE, taken
from pygrad._core.trees import elements, is_array, tree_flatten
from pygrad._pgr import ffi, lib
from pygrad._program.code import Code
from pygrad._program.program import Program
from pygrad._record.arrays import Array
from pygrad._record.recording import Recording, is_lane
from pygrad.engine import Value, as_value, value_of


def build(
    recording: Recording,
    structure: Any,
    result: Any,
    names: Sequence[str] | None = None,
    again: Callable[[], list[str] | None] | None = None,
) -> Program:
    """The program that computes a recorded function's result. Raises RecordingError if there can be none."""
    out, out_structure = tree_flatten(result)
    values: list[Value] = []
    places: list[tuple[int, int, int]] = []  # array, offset, stride from lane to lane
    array, scalar = 1, 0
    for leaf in out:
        layout = leaf.lane_layout() if isinstance(leaf, Array) else None
        if layout is not None:
            # Only lanes can be written as lanes. Subtracting a lane's zero makes one of a Value that is the same in all
            # lanes; adding it would turn -0.0 into 0.0.
            nothing = Value(0.0).pick(layout[0].group.witness())
            values += [value if is_lane(value) else value - nothing for value, _, _ in layout[1]]
            places += [(array, place, stride) for _, place, stride in layout[1]]
        elif is_array(leaf):
            here = elements(leaf)
            values += [as_value(x) for x in here]
            places += [(array, k, 0) for k in range(len(here))]
        else:
            values.append(as_value(leaf))
            places.append((0, scalar, 0))
            scalar += 1
            continue
        array += 1
    outputs = ffi.new("pgr_output[]", [(0, *place) for place in places])
    groups = ffi.new("pgr_lane_group[]", max(1, len(recording.groups)))
    alive = []
    for group, given in zip(groups, recording.groups):
        alive.append(ffi.new("pgr_lane_input[]", given.inputs))
        group.lanes, group.input_count, group.inputs = given.count, len(given.inputs), alive[-1]
    program, bad = ffi.new("pgr_program **"), ffi.new("pgr_handle *")
    status = lib.pgr_h_program_build(
        TAPE,
        recording.start._handle,
        len(values),
        [value._handle for value in values],
        outputs,
        len(recording.groups),
        groups,
        recording.new_array(),
        program,
        bad,
    )
    bad_value = value_of(bad[0]) if bad[0] else None  # we own its hold
    if status == lib.PGR_ERR_UNKNOWN:
        raise RecordingError(
            "a Value of a function that was recorded before is used: it has no value outside of that function. "
            "Return it from there"
        )
    if status == lib.PGR_ERR_OPAQUE:
        raise RecordingError(
            f"{custom_operation(bad_value)} is Python code, which cannot be recorded: "
            "grad and value_and_grad can do it with record=False, and so can backward()"
        )
    check(status)
    c = ffi.gc(program[0], lib.pgr_program_free)
    handles = ffi.new("const pgr_handle **")
    count = lib.pgr_h_program_captures(c, handles)
    captured = taken(handles[0][0:count])  # Values from outside: every call reads their numbers
    constants = [constant for _, constant in sorted(recording.constants.items())]
    return Program(Code(c, (structure, out_structure), constants, captured, names), again)
