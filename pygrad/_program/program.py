"""Program: a recorded function as C runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Union

from pygrad._core.errors import check
from pygrad._core.files import write
from pygrad._core.layer import TAPE, plan_items, run, structure_kinds
from pygrad._core.text import visible
from pygrad._core.trees import as_float64, kinds_in, need_numpy, refuse_values, tree_flatten, tree_unflatten
from pygrad._pgr import ffi, lib
from pygrad._program import c_source, listing, memory
from pygrad._program.code import Code, Leaf, ProgramStats
from pygrad._program.files import from_bytes, to_bytes
from pygrad.engine import Value

Path_ = Union[str, "os.PathLike[str]"]


class Program:
    """A recorded function, compiled to run in C. Immutable: many threads may run one program.

    print(program) lists its instructions, `pygrad.draw_dot` draws them, `to_c` writes them as C.

    >>> from pygrad import jit
    >>> program = jit(lambda x: x * x).program(2.0)
    >>> program(3.0)
    9.0
    """

    def __init__(self, code: Code, again: Callable[[], list[str] | None] | None = None) -> None:
        """`again` records the function once more and returns the line of each instruction."""
        self.code = code
        self._again = again
        self._captured_handles = ffi.new("pgr_handle[]", [value._handle for value in code.captured])
        self._address = int(ffi.cast("uintptr_t", code.c))

    @property
    def stats(self) -> ProgramStats:
        """The program's size."""
        return self.code.stats

    @property
    def arguments(self) -> list[Leaf]:
        """The input scalars and arrays, in order, with their names and shapes."""
        return self.code.arguments

    @property
    def results(self) -> list[Leaf]:
        """The result scalars and arrays, in order, with their places and shapes."""
        return self.code.results

    def __repr__(self) -> str:
        stats = self.stats
        lanes = f", {stats.lane_registers} registers of {stats.block} lanes" if stats.block else ""
        return f"<Program of {stats.instructions} instructions from {stats.nodes} nodes, {stats.dots} dots{lanes}>"

    def __str__(self) -> str:
        return self.listing(200)

    def listing(self, limit: int | None = None) -> str:
        """The instructions as text, at most `limit` of them, each with its line of your code.

        Those of loops' steps and of branches follow, as programs 1, 2, ..
        """
        return listing.listing(self.code, self.lines(), limit)

    def lines(self) -> list[str] | None:
        """'file:line' for each instruction, found by recording the function again; None if the function is gone."""
        lines = None if self._again is None else self._again()
        return lines if lines is not None and len(lines) == self.stats.instructions else None

    def to_c(self, name: str) -> str:
        """The program as a C99 file that needs only libm, with `void name(const double *in, double *out)`.

        `in` holds the arguments' numbers and arrays one after another, `out` the results'; a comment in the file gives
        their places. `in` and `out` must not overlap. Values from outside that the function reads come last in `in`.
        Steps of loops and branches are static functions; within lanes, these compute one lane. Loops over lanes have
        OpenMP's `simd`: gcc vectorises them with -O3 -fopenmp-simd -ffast-math. Link without -ffast-math, which may
        flush the subnormal numbers of the whole process to zero. Raises ValueError if `name` is not a C identifier.
        """
        return c_source.to_c(self.code, name)

    # ---- Running ----

    def __call__(self, *args: Any, workers: int = 1) -> Any:
        """The result for these arguments. Raises ValueError unless they have the recorded structure and shapes."""
        refuse_values(args, "the program")
        given, structure = tree_flatten(args)
        if structure != self.code.structure_in:
            wanted = ", ".join(f"{visible(leaf.name)} {leaf.shape or ''}".strip() for leaf in self.arguments)
            raise ValueError(f"the program takes arguments structured and shaped as {wanted}")
        return self.run(given, workers)

    def plan(self, workers: int, reads: tuple[Any, ...] = ()) -> Any:
        """The plan by which _call runs it if `reads` hold (see csrc/python/call.c, reads.h); None if _call can't."""
        kinds = kinds_in(self.code.structure_in) | kinds_in(self.code.structure_out)
        if self.code.captured or self.code.prints or not kinds.issubset(structure_kinds()):
            return None
        scalars_in, scalars_out = self.code.shapes_in.count(None), self.code.shapes_out.count(None)
        arrays_out = tuple([shape for shape in self.code.shapes_out if shape is not None])
        np = need_numpy() if any(shape is not None for shape in (*self.code.shapes_in, *self.code.shapes_out)) else None
        items = {
            "PROGRAM": self._address,
            "IN": self.code.structure_in,
            "OUT": self.code.structure_out,
            "NUMBERS_IN": scalars_in,
            "ARRAYS_IN": len(self.code.shapes_in) - scalars_in,
            "NUMBERS_OUT": scalars_out,
            "SHAPES": arrays_out,
            "EMPTY": None if np is None else self._new(),
            "ARRAY_TYPE": object if np is None else np.ndarray,
            "CONSTANTS": self.code.constants,
            "WORKERS": workers,
            "READS": reads,
            "OWNER": self.code.c,
        }
        return tuple([items[name] for name in plan_items()])

    def _new(self) -> Any:
        """The function that allocates results: zeroed if a loaded program may leave parts unwritten."""
        np = need_numpy()
        return (
            np.zeros if self.code.is_loaded else memory.empty if memory.is_worth_it(self.code.shapes_out) else np.empty
        )

    def run(self, args: Sequence[Any], workers: int = 1) -> Any:
        """Run on the arguments' scalars and arrays, in order."""
        numbers = tuple([x for shape, x in zip(self.code.shapes_in, args) if shape is None])
        arrays = [as_float64(x, aligned=False) for shape, x in zip(self.code.shapes_in, args) if shape is not None]
        arrays += self.code.constants
        if self.code.captured:
            read = ffi.new("double[]", len(self.code.captured))
            check(lib.pgr_h_read(TAPE, len(self.code.captured), self._captured_handles, read))
            arrays.append(memoryview(ffi.buffer(read)).cast("d"))
        results = tuple([self._new()(shape) for shape in self.code.shapes_out if shape is not None])
        out = iter(run(self._address, numbers, tuple(arrays), results, self.code.shapes_out.count(None), workers))
        array = iter(results)
        leaves = iter([next(out if shape is None else array) for shape in self.code.shapes_out])
        result = tree_unflatten(self.code.structure_out, leaves)
        for printed, structure in self.code.prints:
            printed.write(tree_unflatten(structure, leaves))
        return result

    def save(self, path: Path_) -> None:
        """Write the program to a file, for Program.load.

        Raises ValueError if the program reads Values from outside, which another process does not have (pass them as
        arguments), if it prints, or if its arguments or results hold classes: a file can't hold these.
        """
        if self.code.prints:
            raise ValueError(
                "the program prints by debug_print, which a file cannot hold: leave it out, or pickle the program"
            )
        if self.code.captured:
            raise ValueError(
                f"the program reads {len(self.code.captured)} Values from outside of the function, which a file cannot "
                "hold: pass them as arguments"
            )
        write(path, to_bytes(self.code))

    @staticmethod
    def load(path: Path_) -> Program:
        """The program in a file written by `save`. Safe for any file; raises ValueError for a damaged one."""
        return Program(from_bytes(Path(path).read_bytes(), str(path)))

    def recorded_by(self, again: Callable[[], list[str] | None]) -> Program:
        """The same program with a way to find its lines; see __init__."""
        return Program(self.code, again)

    def __reduce__(self) -> tuple[Any, ...]:
        nodes: list[Any] = []
        return _unpickled, (to_bytes(self.code, nodes), self.code.captured, nodes, self.code.prints)


def _unpickled(
    data: bytes, captured: Sequence[Value], nodes: Sequence[Any] = (), prints: Sequence[Any] = ()
) -> Program:
    return Program(from_bytes(data, "the pickle", captured, nodes, prints))
