"""Programs: recorded functions as C runs them, and as files.

A file is a line of text, a header in JSON and the program's numbers, little-endian. All of it is checked when it is
loaded: a file from a stranger gives an error or a program, and running that touches its own memory only.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

from pygrad._errors import RecordingError, check, custom_operation
from pygrad._files import write
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Value, _run, taken
from pygrad.recording import Array, Recording, as_value, is_lane, value_of
from pygrad.structures import as_float64, describe, elements, is_array, need_numpy, rebuild, refuse_values
from pygrad.text import visible

Path_ = Union[str, "os.PathLike[str]"]


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


class Leaf(NamedTuple):
    """A scalar (shape None) or an array among a program's arguments or results."""

    name: str
    shape: tuple[int, ...] | None

    @property
    def size(self) -> int:
        return math.prod(self.shape or ())


class Program:
    """A recorded function as C runs it. Immutable: one may run in many threads.

    print(program) lists its instructions, `pygrad.draw_dot` draws them; `to_c` writes them as C.
    """

    def __init__(
        self, c: Any, structures: tuple[Any, Any], constants: Sequence[Any] = (), captured: Sequence[Value] = ()
    ) -> None:
        self._c = c
        self._in, self._out = structures
        self._constants = tuple(constants)
        self._captured = tuple(captured)
        self._captured_handles = ffi.new("pgr_handle[]", [value._handle for value in captured])
        self._address = int(ffi.cast("uintptr_t", c))
        self._shapes_in, self._shapes_out = shapes(self._in), shapes(self._out)
        self._names: Sequence[str] = [f"arg{i}" for i in range(len(self._in) - 1)]
        self._is_strange = False  # it was loaded, and may leave elements of its results unwritten
        self._again: Callable[[], list[str] | None] | None = None

    def remember(self, function: Any, again: Callable[[], list[str] | None]) -> None:
        """What the function's arguments are called, and what records it again for the line of each instruction."""
        self._again = again
        try:
            names = [p.name for p in inspect.signature(function).parameters.values()]
        except (TypeError, ValueError):
            return
        if len(names) >= len(self._names):
            self._names = names[: len(self._names)]

    @property
    def stats(self) -> ProgramStats:
        """The program's size."""
        stats = lib.pgr_program_stat(self._c)
        return ProgramStats(*(getattr(stats, name) for name in ProgramStats._fields))

    @property
    def arguments(self) -> list[Leaf]:
        """The scalars and arrays that go in, in order, with their names and shapes."""
        parts = zip(self._names, self._in[1:])
        return [Leaf(name + path, shape) for name, part in parts for path, shape in _paths(part)]

    @property
    def results(self) -> list[Leaf]:
        """The scalars and arrays that come out, in order, with their places and shapes."""
        return [Leaf("result" + path, shape) for path, shape in _paths(self._out)]

    def __repr__(self) -> str:
        stats = self.stats
        lanes = f", {stats.lane_slots} slots of {stats.block} lanes" if stats.block else ""
        return f"<Program of {stats.instructions} instructions from {stats.nodes} nodes, {stats.dots} dots{lanes}>"

    def __str__(self) -> str:
        return self.listing(200)

    def listing(self, limit: int | None = None) -> str:
        """The instructions as text, at most `limit` of them, each with the line of code that it comes from."""
        from pygrad.listing import listing

        return listing(self, limit)

    def lines(self) -> list[str] | None:
        """For each instruction 'file:line' of the function, which is recorded again to know; None if that is gone."""
        lines = None if self._again is None else self._again()
        return lines if lines is not None and len(lines) == self.stats.instructions else None

    def to_c(self, name: str) -> str:
        """The program as a C99 file that needs nothing but libm, with `void name(const double *in, double *out)`.

        `in` has the arguments' numbers and arrays one after the other, `out` the results'; the file says where each
        is. Values from outside that the function reads come last in `in`. ValueError if name is no C identifier.
        """
        from pygrad.c_source import to_c

        return to_c(self, name)

    # ---- Running it ----

    def __call__(self, *args: Any, workers: int = 1) -> Any:
        """The result for arguments of the structure and shapes that it was recorded for; else ValueError."""
        refuse_values(args, "the program")
        given: list[Any] = []
        structure = describe(args, given)
        if structure != self._in:
            wanted = ", ".join(f"{visible(leaf.name)} {leaf.shape or ''}".strip() for leaf in self.arguments)
            raise ValueError(f"the program is for other arguments, structured and shaped as {wanted}")
        return self.run(given, workers)

    def plan(self, workers: int) -> Any:
        """What _call needs for running it (see csrc/python/call.c); None where it cannot."""
        if self._captured:
            return None
        scalars_in, scalars_out = self._shapes_in.count(None), self._shapes_out.count(None)
        arrays_out = tuple([shape for shape in self._shapes_out if shape is not None])
        np = need_numpy() if any(shape is not None for shape in (*self._shapes_in, *self._shapes_out)) else None
        return (
            self._address,
            self._in,
            self._out,
            scalars_in,
            len(self._shapes_in) - scalars_in,
            scalars_out,
            arrays_out,
            None if np is None else self._new(),
            object if np is None else np.ndarray,
            self._constants,
            workers,
            self._c,  # which has to live as long
        )

    def _new(self) -> Any:
        """What makes an array for results: of zeros where a stranger's program may leave some of it as it was."""
        np = need_numpy()
        return np.zeros if self._is_strange else np.empty

    def run(self, args: Sequence[Any], workers: int = 1) -> Any:
        """The result for the arguments' scalars and arrays, in order."""
        numbers = tuple([x for shape, x in zip(self._shapes_in, args) if shape is None])
        arrays = [as_float64(x) for shape, x in zip(self._shapes_in, args) if shape is not None]
        arrays += self._constants
        if self._captured:
            read = ffi.new("double[]", len(self._captured))
            check(lib.pgr_h_read(TAPE, len(self._captured), self._captured_handles, read))
            arrays.append(memoryview(ffi.buffer(read)).cast("d"))
        results = tuple([self._new()(shape) for shape in self._shapes_out if shape is not None])
        out = iter(_run(self._address, numbers, tuple(arrays), results, self._shapes_out.count(None), workers))
        array = iter(results)
        return rebuild(self._out, iter([next(out if shape is None else array) for shape in self._shapes_out]))

    # ---- What it is made of ----

    def parts(self) -> Any:
        """The program's parts, a pgr_program_parts (see csrc/pgr.h), which are there as long as the program."""
        parts = ffi.new("pgr_program_parts *")
        lib.pgr_program_to_parts(self._c, parts)
        return parts

    def sizes(self) -> tuple[list[int], list[int]]:
        """How many numbers the arrays have that go in, and those that come out. The first holds the scalars."""
        inputs = [self._shapes_in.count(None), *(math.prod(shape) for shape in self._shapes_in if shape is not None)]
        outputs = [self._shapes_out.count(None), *(math.prod(shape) for shape in self._shapes_out if shape is not None)]
        inputs += [constant.size for constant in self._constants]
        return [*inputs, len(self._captured)] if self._captured else inputs, outputs

    def content(self) -> tuple[Any, ...]:
        """All that results depend on but the numbers of Values from outside: equal programs compute the same."""
        constants = [(constant.shape, constant.tobytes()) for constant in self._constants]
        return self._in, self._out, _array_bytes(self.parts()), constants, [value._handle for value in self._captured]

    def save(self, path: Path_) -> None:
        """Writes the program to a file, for Program.load.

        ValueError if it reads Values from outside, which another process does not have: pass them as arguments.
        """
        if self._captured:
            raise ValueError(
                f"the program reads {len(self._captured)} Values from outside of the function, which a file cannot "
                "hold: pass them as arguments"
            )
        write(path, _to_bytes(self))

    @staticmethod
    def load(path: Path_) -> Program:
        """The program in a file that `save` has written. ValueError if it is none, or is damaged; safe for any file."""
        return from_bytes(Path(path).read_bytes(), str(path))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (_to_bytes(self), self._captured)


def shapes(structure: Any) -> list[Any]:
    """The shape of each leaf, None for a scalar."""
    return [shape for _, shape in _paths(structure)]


def _paths(structure: Any) -> Iterator[tuple[str, Any]]:
    """For each leaf how it is reached, as Python writes it, and its shape."""
    if structure == "scalar":
        yield "", None
    elif structure[0] == "array":
        yield "", structure[1]
    else:
        keys = structure[1] if structure[0] == "dict" else range(len(structure) - 1)
        for key, part in zip(keys, structure[2 if structure[0] == "dict" else 1 :]):
            for path, shape in _paths(part):
                yield f"[{key!r}]{path}", shape


def build(recording: Recording, structure: Any, result: Any) -> Program:
    """The program for a recorded function's result. RecordingError if it cannot be one."""
    out: list[Any] = []
    out_structure = describe(result, out)
    values: list[Value] = []
    places: list[tuple[int, int, int]] = []  # array, offset, stride from lane to lane
    array, scalar = 1, 0
    for leaf in out:
        layout = leaf.lane_layout() if isinstance(leaf, Array) else None
        if layout is not None:
            # Lanes are written by lanes: one that is the same in all becomes a lane by taking nothing of one away. If
            # it were added, -0.0 would become 0.0.
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
    bad_value = value_of(bad[0]) if bad[0] else None  # whose hold it takes over
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
    captured = taken(handles[0][0:count])  # Values from outside, whose numbers are read at every call
    constants = [constant for _, constant in sorted(recording.constants.items())]
    return Program(c, (structure, out_structure), constants, captured)


# ---- As bytes ------------------------------------------------------------------------------------

_MAGIC = b"pygrad program 1\n"
# The parts that are arrays, in the order in which they are written: their counts, and the C types of their elements.
_ARRAYS = {
    "instructions": ("instruction_count", "pgr_instruction"),
    "args": ("arg_count", "uint32_t"),
    "dots": ("dot_count", "pgr_program_dot"),
    "segments": ("segment_count", "pgr_segment"),
    "constants": ("constant_count", "double"),
    "inputs": ("input_count", "pgr_uniform_input"),
    "outputs": ("output_count", "pgr_output"),
    "lane_inputs": ("lane_input_count", "pgr_lane_input"),
    "group_first_input": ("group_count", "uint32_t"),  # and one more
    "group_lanes": ("group_count", "uint64_t"),
}
_COUNTS = [*dict.fromkeys(count for count, _ in _ARRAYS.values()), "uniform_slots", "lane_slots", "block", "nodes"]


def _count(name: str, counts: Any) -> int:
    return int(counts[_ARRAYS[name][0]]) + (name == "group_first_input")


def _to_bytes(program: Program) -> bytes:
    if sys.byteorder != "little":
        raise NotImplementedError("programs are saved by little-endian machines only")
    parts = program.parts()
    header = {
        "counts": {name: getattr(parts, name) for name in _COUNTS},
        # Operations by name: their numbers may be others in another version.
        "operations": {i: ffi.string(lib.pgr_op_row(i).name).decode() for i in range(lib.pgr_op_count())},
        "arguments": program._in,
        "results": program._out,
        "names": list(program._names),
        "constants": [constant.shape for constant in program._constants],
        "outside": len(program._captured),
    }
    for key in (*_keys(program._in), *_keys(program._out)):
        if type(key) not in (str, int, float):
            raise ValueError(
                f"the program cannot be saved: the key {key!r} is of type {type(key).__name__}; in files keys are "
                "str, int or float"
            )
    text = json.dumps(header).encode()
    arrays = [*_array_bytes(parts), *[constant.tobytes() for constant in program._constants]]
    return b"".join([_MAGIC, f"{len(text)}\n".encode(), text, *arrays])


def _array_bytes(parts: Any) -> list[bytes]:
    counts = {name: getattr(parts, name) for name in _COUNTS}
    arrays = []
    for name, (kind, array) in {name: (kind, getattr(parts, name)) for name, (_, kind) in _ARRAYS.items()}.items():
        count = _count(name, counts)
        if name == "lane_inputs":  # without what happens to be in their padding
            array = ffi.new(f"{kind}[]", [(x.array, x.offset, x.stride) for x in array[0:count]])
        arrays.append(bytes(ffi.buffer(array, count * ffi.sizeof(kind))) if count else b"")
    return arrays


def _keys(structure: Any) -> Iterator[Any]:
    """The keys of all dicts in a structure."""
    if structure != "scalar" and structure[0] != "array":
        if structure[0] == "dict":
            yield from structure[1]
        for part in structure[2 if structure[0] == "dict" else 1 :]:
            yield from _keys(part)


def _unpickled(data: bytes, captured: Sequence[Value]) -> Program:
    return from_bytes(data, "the pickle", captured)


def from_bytes(data: bytes, where: str, captured: Sequence[Value] = ()) -> Program:
    """The program that the bytes stand for. ValueError, naming `where`, if they stand for none."""
    try:
        return _from_bytes(data, captured)
    except _DamagedError as damage:
        raise ValueError(f"{where}: not a program, or a damaged one: {damage}") from None


class _DamagedError(Exception):
    pass


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise _DamagedError(what)


def _from_bytes(data: bytes, captured: Sequence[Value]) -> Program:
    _need(data.startswith(_MAGIC), f"it does not begin with {_MAGIC.decode().strip()!r}")
    if sys.byteorder != "little":
        raise NotImplementedError("programs are loaded by little-endian machines only")
    end = data.find(b"\n", len(_MAGIC), len(_MAGIC) + 12)
    length = data[len(_MAGIC) : end]
    _need(end > 0 and length.isdigit(), "the header has no length")
    at = end + 1 + int(length)
    _need(at <= len(data), "the header is cut off")
    try:
        header = json.loads(data[end + 1 : at])
    except (ValueError, RecursionError):
        raise _DamagedError("the header is not JSON") from None
    _need(isinstance(header, dict), "the header is no object")
    counts = header.get("counts")
    _need(isinstance(counts, dict) and set(counts) == set(_COUNTS), "the header has no counts")
    _need(all(_is_count(x, 2**32) for x in counts.values()), "a count is no number")
    parts = ffi.new("pgr_program_parts *", counts)
    alive = []
    for name, (_, kind) in _ARRAYS.items():
        count = _count(name, counts)
        size = count * ffi.sizeof(kind)
        _need(at + size <= len(data), f"{name} are cut off")
        array = ffi.new(f"{kind}[]", count)
        ffi.memmove(array, data[at : at + size], size)
        alive.append(array)
        setattr(parts, name, array)
        at += size
    _renumber(alive[0], header.get("operations"))
    structures = tuple([_structure(header.get(name)) for name in ("arguments", "results")])
    _need(structures[0][0] == "tuple", "the arguments are no tuple")
    constants = []
    constant_shapes = header.get("constants")
    _need(isinstance(constant_shapes, list), "the constants have no shapes")
    for shape in map(_shape, constant_shapes):
        size = 8 * math.prod(shape)
        _need(at + size <= len(data), "constants are cut off")
        constants.append(need_numpy().frombuffer(data[at : at + size], dtype="<f8").reshape(shape))
        at += size
    _need(at == len(data), f"{len(data) - at} bytes follow its end")
    _need(header.get("outside") == len(captured), "the Values that it reads are not with it")
    names = header.get("names")
    _need(
        isinstance(names, list) and len(names) == len(structures[0]) - 1 and all(isinstance(n, str) for n in names),
        "its arguments have no names",
    )
    program = Program(ffi.NULL, structures, constants, captured)  # what follows needs its sizes
    in_sizes, out_sizes = program.sizes()
    c = ffi.new("pgr_program **")
    status = lib.pgr_program_from_parts(parts, len(in_sizes), in_sizes, len(out_sizes), out_sizes, c)
    _need(status != lib.PGR_ERR_PROGRAM, "its instructions are none, or reach beyond its slots and arrays")
    check(status)
    program = Program(ffi.gc(c[0], lib.pgr_program_free), structures, constants, captured)
    program._names = names
    program._is_strange = True
    return program


def _is_count(x: Any, limit: int) -> bool:
    return type(x) is int and 0 <= x < limit


def _renumber(instructions: Any, names: Any) -> None:
    """Gives operations the numbers that they have here."""
    _need(isinstance(names, dict), "the header has no operations")
    here = {ffi.string(lib.pgr_op_row(i).name).decode(): i for i in range(lib.pgr_op_count())}
    numbers = {}
    for number, name in names.items():
        _need(number.isascii() and number.isdigit() and len(number) < 4, "an operation has no number")
        numbers[int(number)] = here.get(name) if isinstance(name, str) else None
    if all(number == new for number, new in numbers.items()):
        return
    for instruction in instructions:
        if instruction.op < lib.PGR_PROGRAM_DOT:
            new = numbers.get(instruction.op)
            _need(new is not None, f"this version does not know the operation {names.get(str(instruction.op))!r}")
            instruction.op = new


def _shape(x: Any) -> tuple[int, ...]:
    _need(isinstance(x, list) and len(x) <= 32 and all(_is_count(n, 2**48) for n in x), "a shape is none")
    _need(math.prod(x) < 2**48, "a shape is too large")
    return tuple(x)


def _structure(x: Any, depth: int = 0) -> Any:
    """A structure as `describe` makes them, of what JSON makes of it."""
    if x == "scalar":
        return "scalar"
    _need(depth < 100, "arguments or results are nested too deeply")
    _need(isinstance(x, list) and len(x) > 0, "a structure is none")
    kind = x[0]
    if kind == "array":
        _need(len(x) == 2, "a structure is none")
        return ("array", _shape(x[1]))
    if kind == "dict":
        _need(len(x) > 1 and isinstance(x[1], list) and len(x[1]) == len(x) - 2, "a structure is none")
        _need(all(type(key) in (str, int, float) for key in x[1]), "a key is none")
        return ("dict", tuple(x[1]), *[_structure(part, depth + 1) for part in x[2:]])
    _need(kind in ("list", "tuple"), "a structure is none")
    return (kind, *[_structure(part, depth + 1) for part in x[1:]])
