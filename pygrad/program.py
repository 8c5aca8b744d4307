"""Programs: recorded functions as C runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from pygrad._errors import RecordingError, check
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Value, _run
from pygrad.recording import Lanes, Recording, value_of
from pygrad.structures import as_float64, describe, elements, is_array, need_numpy, rebuild


class ProgramStats(NamedTuple):
    """How large a program is.

    nodes: of the recorded graph; instructions: what is left of them; dots: of those, sums of products; constants:
    numbers that are kept; uniform_slots: numbers in the workspace; lane_slots: the same for each lane of a vmap,
    `block` of which are worked on together; bytes: of the program itself.
    """

    nodes: int
    instructions: int
    dots: int
    segments: int
    constants: int
    uniform_slots: int
    lane_slots: int
    block: int
    bytes: int


class Program:
    """A recorded function as C runs it. Immutable: one may run in many threads."""

    def __init__(
        self, c: Any, structures: tuple[Any, Any], constants: Sequence[Any] = (), captured: Sequence[Value] = ()
    ) -> None:
        self._c = c
        self._in, self._out = structures
        self._constants = tuple(constants)
        self._captured = tuple(captured)
        self._captured_handles = ffi.new("pgr_handle[]", [value._handle for value in captured])
        self._address = int(ffi.cast("uintptr_t", c))
        self._shapes_in, self._shapes_out = _shapes(self._in), _shapes(self._out)
        self._again: Callable[[tuple[Any, ...]], Program] | None = None
        self._function: Any = None

    def remember(self, again: Callable[[tuple[Any, ...]], Program], function: Any) -> None:
        """What records the function again, and the function: for listings with its lines."""
        self._again, self._function = again, function

    @property
    def stats(self) -> ProgramStats:
        """The program's size."""
        stats = lib.pgr_program_stat(self._c)
        return ProgramStats(*(getattr(stats, name) for name in ProgramStats._fields))

    def __repr__(self) -> str:
        stats = self.stats
        lanes = f", {stats.lane_slots} slots of {stats.block} lanes" if stats.block else ""
        return f"<Program of {stats.instructions} instructions from {stats.nodes} nodes, {stats.dots} dots{lanes}>"

    def __call__(self, *args: Any, workers: int = 1) -> Any:
        """The result for arguments of the structure and shapes that it was recorded for; else ValueError."""
        given: list[Any] = []
        structure = describe(args, given)
        if structure != self._in:
            raise ValueError(f"the program is for arguments structured as {self._in[1:]}, not {structure[1:]}")
        return self.run([x.data if isinstance(x, Value) else x for x in given], workers)

    def plan(self, workers: int) -> Any:
        """What _call needs for running it (see csrc/pyprogram.c); None where it cannot."""
        if self._captured:
            return None
        scalars_in, scalars_out = self._shapes_in.count(None), self._shapes_out.count(None)
        shapes = tuple([shape for shape in self._shapes_out if shape is not None])
        np = need_numpy() if any(shape is not None for shape in (*self._shapes_in, *self._shapes_out)) else None
        return (
            self._address,
            self._in,
            self._out,
            scalars_in,
            len(self._shapes_in) - scalars_in,
            scalars_out,
            shapes,
            None if np is None else np.empty,
            object if np is None else np.ndarray,
            self._constants,
            workers,
            self._c,  # which has to live as long
        )

    def run(self, args: Sequence[Any], workers: int = 1) -> Any:
        """The result for the arguments' scalars and arrays, in order."""
        numbers = tuple([x for shape, x in zip(self._shapes_in, args) if shape is None])
        arrays = [as_float64(x) for shape, x in zip(self._shapes_in, args) if shape is not None]
        arrays += self._constants
        if self._captured:
            read = ffi.new("double[]", len(self._captured))
            check(lib.pgr_h_read(TAPE, len(self._captured), self._captured_handles, read))
            arrays.append(memoryview(ffi.buffer(read)).cast("d"))
        results = tuple([need_numpy().empty(shape) for shape in self._shapes_out if shape is not None])
        out = iter(_run(self._address, numbers, tuple(arrays), results, self._shapes_out.count(None), workers))
        array = iter(results)
        return rebuild(self._out, iter([next(out if shape is None else array) for shape in self._shapes_out]))


def _shapes(structure: Any) -> list[Any]:
    """The shape of each leaf, None for a scalar."""
    if structure == "scalar":
        return [None]
    if structure[0] == "array":
        return [structure[1]]
    return [shape for part in structure[2 if structure[0] == "dict" else 1 :] for shape in _shapes(part)]


def build(recording: Recording, structure: Any, result: Any) -> Program:
    """The program for a recorded function's result."""
    out: list[Any] = []
    out_structure = describe(result, out)
    values: list[Value] = []
    places: list[tuple[int, int, int]] = []  # array, offset, stride from lane to lane
    array, scalar = 1, 0
    for leaf in out:
        if isinstance(leaf, Lanes):
            values += leaf.values
            places += [(array, k, len(leaf.values)) for k in range(len(leaf.values))]
        elif is_array(leaf):
            here = elements(leaf)
            values += [x if isinstance(x, Value) else Value(x) for x in here]
            places += [(array, k, 0) for k in range(len(here))]
        else:
            values.append(leaf if isinstance(leaf, Value) else Value(leaf))
            places.append((0, scalar, 0))
            scalar += 1
            continue
        array += 1
    outputs = ffi.new("pgr_output[]", [(0, *place) for place in places])
    groups = ffi.new("pgr_lane_group[]", max(1, len(recording.groups)))
    alive = []
    for group, (lanes, inputs) in zip(groups, recording.groups):
        alive.append(ffi.new("pgr_lane_input[]", inputs))
        group.lanes, group.input_count, group.inputs = lanes, len(inputs), alive[-1]
    program = ffi.new("pgr_program **")
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
    )
    if status == lib.PGR_ERR_OP:
        raise RecordingError(
            "values of two different vmaps meet, or a custom operation depends on an input: neither can be recorded"
        )
    check(status)
    c = ffi.gc(program[0], lib.pgr_program_free)
    ids = ffi.new("const pgr_id **")
    # Values from outside, whose numbers are read at every call.
    captured = [value_of(lib.pgr_h_hold(TAPE, ids[0][i])) for i in range(lib.pgr_program_captures(c, ids))]
    constants = [constant for _, constant in sorted(recording.constants.items())]
    return Program(c, (structure, out_structure), constants, captured)
