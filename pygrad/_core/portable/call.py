"""Running programs. csrc/python/call.c's twin."""

from __future__ import annotations

from typing import Any

from pygrad._core.errors import check
from pygrad._core.portable.tape import stop
from pygrad._pgr import ffi, lib


def run(
    program: int,
    numbers: tuple[float, ...],
    arrays: tuple[Any, ...],
    results: tuple[Any, ...],
    count: int,
    workers: int,
) -> tuple[float, ...]:
    """Run the program at an address, as csrc/python/call.c does."""
    if any(memoryview(array).format != "d" for array in arrays):
        raise TypeError("a program's arrays are C-contiguous float64")
    first, out = ffi.new("double[]", numbers), ffi.new("double[]", count)
    ins = [ffi.from_buffer("double[]", array) if memoryview(array).nbytes else ffi.NULL for array in arrays]
    outs = [ffi.from_buffer("double[]", array, require_writable=True) if array.size else ffi.NULL for array in results]
    check(
        lib.pgr_program_run(
            ffi.cast("pgr_program *", program),
            ffi.new("double *[]", [first, *ins]),
            ffi.new("double *[]", [out, *outs]),
            ffi.new("pgr_run_options *", {"workers": workers, "stop": stop}),
        )
    )
    return tuple(out)


def call(_plan: tuple[Any, ...], _args: tuple[Any, ...]) -> Any:
    """CPython's fast path for planned programs; this layer has none."""
    return NotImplemented


def plan_items() -> tuple[str, ...]:
    """The names of a plan's items: none, since there are no plans here."""
    return ()


def structure_kinds() -> tuple[str, ...]:
    """The kinds of structures that plans may have, but scalars: none, likewise."""
    return ()
