"""Running programs. csrc/python/call.c's twin."""

from __future__ import annotations

from typing import Any, Callable

from pygrad._core.errors import check
from pygrad._core.portable.tape import stop
from pygrad._pgr import ffi, lib

_progress: Callable[[int, int], object] | None = None


def on_progress(f: Callable[[int, int], object] | None) -> None:
    """From now on, f(program's address, work done) is called now and then while programs run; None: nothing is."""
    global _progress
    _progress = f


def run(
    program: int,
    numbers: tuple[float, ...],
    arrays: tuple[Any, ...],
    results: tuple[Any, ...],
    count: int,
    workers: int,
) -> tuple[float, ...]:
    """Run the program at an address, as csrc/python/call.c does."""
    if any(memoryview(array).format not in ("d", "=d") for array in arrays):  # the second: not aligned
        raise TypeError("a program's arrays are C-contiguous float64")
    first, out = ffi.new("double[]", numbers), ffi.new("double[]", count)
    ins = [ffi.from_buffer("double[]", array) if memoryview(array).nbytes else ffi.NULL for array in arrays]
    outs = [ffi.from_buffer("double[]", array, require_writable=True) if array.size else ffi.NULL for array in results]
    options = ffi.new("pgr_run_options *", {"workers": workers, "stop": stop})
    raised: list[BaseException] = []
    if _progress is not None:
        report = _progress
        options.done = done = ffi.new("uint64_t *")

        def keep(_kind: type[BaseException], error: BaseException, _traceback: Any) -> None:
            raised.append(error)

        @ffi.callback("int(void *)", error=1, onerror=keep)  # type: ignore[untyped-decorator, unused-ignore]
        def stop_or_report(_context: Any) -> int:
            report(program, int(done[0]))
            return 0

        options.stop = stop_or_report
    status = lib.pgr_program_run(
        ffi.cast("pgr_program *", program),
        ffi.new("double *[]", [first, *ins]),
        ffi.new("double *[]", [out, *outs]),
        options,
    )
    if raised:
        raise raised[0]
    check(status)
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
