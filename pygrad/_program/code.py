"""The parts of programs: the code that C runs, and the meaning of its arrays and numbers."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from pygrad._core.trees import tree_map, tree_paths, tree_shapes
from pygrad._pgr import ffi, lib

# The parts that are arrays, in file order: their counts, and the C types of their elements.
ARRAYS = {
    "instructions": ("instruction_count", "pgr_instruction"),
    "args": ("arg_count", "uint32_t"),
    "dots": ("dot_count", "pgr_program_dot"),
    "segments": ("segment_count", "pgr_segment"),
    "constants": ("constant_count", "double"),
    "inputs": ("input_count", "pgr_uniform_input"),
    "outputs": ("output_count", "pgr_output"),
    "lane_inputs": ("lane_input_count", "pgr_lane_input"),
    "group_first_input": ("group_count", "uint32_t"),  # one element more than the count
    "group_lanes": ("group_count", "uint64_t"),
    "calls": ("call_count", "pgr_call"),
    "memory": ("memory_count", "pgr_lane_input"),
}
COUNTS = [*dict.fromkeys(count for count, _ in ARRAYS.values())]
COUNTS += ["program_count", "uniform_registers", "lane_registers", "block", "nodes"]


def count_of(name: str, counts: Any) -> int:
    """The number of elements of one of these arrays."""
    return int(counts[ARRAYS[name][0]]) + (name == "group_first_input")


class ProgramStats(NamedTuple):
    """A program's size.

    nodes: of the recorded graph; instructions: left after optimising; dots: instructions that sum products; constants:
    numbers stored; uniform_registers: numbers in the workspace; lane_registers: numbers in it per lane of a vmap;
    block: lanes that run together; bytes: of the program itself.
    """

    nodes: int
    instructions: int
    dots: int
    segments: int
    constants: int
    uniform_registers: int
    lane_registers: int
    block: int
    bytes: int


class Leaf(NamedTuple):
    """A scalar (shape None) or an array among a program's arguments or results."""

    name: str
    shape: tuple[int, ...] | None

    @property
    def size(self) -> int:
        return math.prod(self.shape or ())


class Print(NamedTuple):
    """A debug_print: its text, how many lanes print a line each (None: it is in no lane), and the slices that it is in.

    slices: their numbers, those of the vmaps around it, the outermost first; None in place of the lane's number.
    conditions: for each number and array, whether it is a condition, which is printed as True or False.
    """

    text: str
    lanes: int | None
    slices: tuple[int | None, ...]
    conditions: tuple[bool, ...]

    def write(self, given: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        """Print the text with (arguments, arguments by name), numbers and arrays."""
        for lane in range(self.lanes or 1):
            row = given if self.lanes is None else tree_map(lambda x: _item(x, lane), given)  # noqa: B023
            row = self.with_truth(row)
            numbers = ", ".join([str(lane if i is None else i) for i in self.slices])
            start = f"lane {numbers}: " if numbers else ""
            sys.stdout.write(f"{start}{self.text.format(*row[0], **row[1])}\n")

    def with_truth(self, given: Any) -> Any:
        """The arguments with bools in place of the numbers of conditions."""
        rest = iter(self.conditions)
        return tree_map(lambda x: x if not next(rest) else x != 0.0, given)


def _item(x: Any, lane: int) -> Any:
    return float(x[lane]) if x.ndim == 1 else x[lane]


class Called(NamedTuple):
    """A C program that another one calls, and those that it calls itself."""

    c: Any
    called: list[Called]


def parts_of(c: Any) -> Any:
    """A C program's parts."""
    parts = ffi.new("pgr_program_parts *")
    lib.pgr_program_to_parts(c, parts)
    return parts


def array_bytes(c: Any, called: Sequence[Called]) -> list[bytes]:
    """The numbers of each of ARRAYS of a C program, as bytes, and of those that it calls."""
    parts = parts_of(c)
    counts = {name: getattr(parts, name) for name in COUNTS}
    arrays = []
    for name, (_, kind) in ARRAYS.items():
        array, count = getattr(parts, name), count_of(name, counts)
        if kind in ("pgr_lane_input", "pgr_call"):  # their padding is arbitrary
            fields = [field for field, _ in ffi.typeof(kind).fields]
            array = ffi.new(f"{kind}[]", [[getattr(x, field) for field in fields] for x in array[0:count]])
        arrays.append(bytes(ffi.buffer(array, count * ffi.sizeof(kind))) if count else b"")
    return arrays + [part for program in called for part in array_bytes(program.c, program.called)]


class Code:
    """A C program and the meaning of its numbers: arguments, results, constants, Values from outside."""

    def __init__(
        self,
        c: Any,
        structures: tuple[Any, Any],
        constants: Sequence[Any] = (),
        captured: Sequence[Any] = (),
        names: Sequence[str] | None = None,
        is_loaded: bool = False,
        prints: Sequence[tuple[Print, Any]] = (),
        called: Sequence[Called] = (),
    ) -> None:
        """prints: what is printed after a run, and the structures of numbers that follow the results for that.

        called: the programs that it calls, which must live as long.
        """
        self.c = c
        self.called = tuple(called)
        self.structure_in, self.structure_out = structures
        self.prints = tuple(prints)
        self.constants = tuple(constants)
        self.captured = tuple(captured)
        self.names = [f"arg{i}" for i in range(len(self.structure_in) - 1)] if names is None else list(names)
        self.is_loaded = is_loaded  # a loaded program may leave elements of its results unwritten
        self.shapes_in = tree_shapes(self.structure_in)
        self.shapes_out = tree_shapes(("tuple", self.structure_out, *[structure for _, structure in self.prints]))

    @property
    def stats(self) -> ProgramStats:
        """The program's size."""
        stats = lib.pgr_program_stat(self.c)
        return ProgramStats(*(getattr(stats, name) for name in ProgramStats._fields))

    @property
    def arguments(self) -> list[Leaf]:
        """The input scalars and arrays, in order, with their names and shapes."""
        parts = zip(self.names, self.structure_in[1:])
        return [Leaf(name + path, shape) for name, part in parts for path, shape in tree_paths(part)]

    @property
    def results(self) -> list[Leaf]:
        """The result scalars and arrays, in order, with their places and shapes; then what is printed."""
        parts = [
            ("result", self.structure_out),
            *[(f"printed[{i}]", given) for i, (_, given) in enumerate(self.prints)],
        ]
        return [Leaf(name + path, shape) for name, part in parts for path, shape in tree_paths(part)]

    def parts(self) -> Any:
        """The program's parts, a pgr_program_parts (see csrc/pgr.h); valid as long as the program lives."""
        return parts_of(self.c)

    def sizes(self) -> tuple[list[int], list[int]]:
        """The lengths of the input arrays, and of the result arrays. The first of each holds the scalars."""
        inputs = [self.shapes_in.count(None), *(math.prod(shape) for shape in self.shapes_in if shape is not None)]
        outputs = [self.shapes_out.count(None), *(math.prod(shape) for shape in self.shapes_out if shape is not None)]
        inputs += [constant.size for constant in self.constants]
        return [*inputs, len(self.captured)] if self.captured else inputs, outputs

    def arrays(self) -> tuple[list[list[Leaf]], list[list[Leaf]]]:
        """The leaves in each array that C reads, and in each that it writes. The first of each holds the scalars."""
        sides = []
        for leaves in (self.arguments, self.results):
            scalars = [leaf for leaf in leaves if leaf.shape is None]
            sides.append([scalars, *([leaf] for leaf in leaves if leaf.shape is not None)])
        sides[0] += [[Leaf(f"constant{i}", constant.shape)] for i, constant in enumerate(self.constants)]
        outside = [Leaf(getattr(value, "label", "") or f"outside{i}", None) for i, value in enumerate(self.captured)]
        return ([*sides[0], outside], sides[1])

    def content(self) -> tuple[Any, ...]:
        """All that results depend on, except the numbers of Values from outside. Equal contents, equal results."""
        constants = [(constant.shape, constant.tobytes()) for constant in self.constants]
        return (
            self.structure_in,
            self.structure_out,
            self.prints,
            array_bytes(self.c, self.called),
            constants,
            [value._handle for value in self.captured],
        )
