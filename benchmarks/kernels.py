"""What recorded functions take in C, with each set of instructions that this processor has, beside C by hand.

python benchmarks/kernels.py [--turns 41]

Calls pgr_program_run, with memory that is there already: no Python, no new arrays. Turns of about a hundredth of a
second, results compared first; least and median microseconds. In brackets: the least as a multiple of that by hand.
"""

import argparse
import statistics
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import recorded

import pygrad
from pygrad._pgr import ffi, lib

SETS = {"SSE2, NEON": lib.PGR_KERNELS_PLAIN, "AVX2": lib.PGR_KERNELS_AVX2, "AVX-512": lib.PGR_KERNELS_AVX512}
TURN = 10_000_000  # ns
TOLERANCE = 1e-9
HAND = "by hand"


def functions():
    """(problem, function, arguments), for each problem."""
    peer = recorded.Pygrad()
    for problem in ("moons", "greeks", "batch", "batch_gradient"):
        yield problem, getattr(peer, f"_{problem}")(), recorded.data(problem, 1)
    x, _ = recorded.data("rosenbrock_gradient", 1)
    yield "rosenbrock", pygrad.value_and_grad(recorded.rosenbrock), (x,)
    x, steps = recorded.data("random", 1)
    yield "random", pygrad.value_and_grad(lambda x: recorded.random_expression(x, steps)), (x,)


def in_c(program, args, kernels):
    """A call of the program by one set, and the arrays that it writes."""
    code = program.code
    leaves = [np.ascontiguousarray(x) for x in arrays_in(args)]
    results = [np.empty(shape) for shape in code.shapes_out if shape is not None]
    numbers = np.empty(code.shapes_out.count(None))
    ins = [ffi.from_buffer("double[]", x) for x in (np.empty(0), *leaves, *code.constants)]
    outs = [ffi.from_buffer("double[]", x) for x in (numbers, *results)]
    given, taken = ffi.new("const double *[]", ins), ffi.new("double *[]", outs)
    options = ffi.new("pgr_run_options *", {"kernels": kernels})
    keep = leaves, ins, outs

    def run():
        lib.pgr_program_run(code.c, given, taken, options)

    run.keep = keep
    return run, [numbers, *results]


def arrays_in(args):
    return [args] if isinstance(args, np.ndarray) else [x for part in args for x in arrays_in(part)]


def by_hand(peer, problem, args):
    """A call of the C by hand, and what it gives; None if there is none. The peer holds its memory."""
    make = getattr(peer, problem, None)
    if make is None:
        return None
    run = make(*args)
    return run, run()


def is_there(name):
    """Whether the processor has this set; without a list of what it has, only the first is taken."""
    flags = {"AVX2": {"avx2", "fma"}, "AVX-512": {"avx512f", "avx512dq", "avx512vl"}}
    try:
        return flags.get(name, set()).issubset(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return name not in flags


def in_turns(runs, turns):
    """Microseconds of each run, in turns."""
    counts = {}
    for name, run in runs.items():
        run()
        counts[name] = max(1, TURN // taken_by(run, 3))
    times = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            times[name].append(taken_by(run, counts[name]) / 1e3)
    return times


def taken_by(run, count):
    """Nanoseconds of a run, in a row of `count`."""
    start = perf_counter_ns()
    for _ in range(count):
        run()
    return (perf_counter_ns() - start) // count


def compare(problem, results):
    (first, expected), *others = ((name, np.array(recorded.flat(result))) for name, result in results.items())
    for name, result in others:
        error = np.abs(result - expected).max() / np.abs(expected).max()
        if not error < TOLERANCE:
            raise SystemExit(f"{problem}: {name} differs from {first} by {error:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=41)
    turns = parser.parse_args().turns
    sets = {name: kernels for name, kernels in SETS.items() if is_there(name)}
    print(f"{'':12s}" + "".join(f"{name:>28s}" for name in (*sets, HAND)))
    for problem, function, args in functions():
        program = function.program(*args)
        made = {name: in_c(program, args, kernels) for name, kernels in sets.items()}
        peer = recorded.Hand()
        hand = by_hand(peer, problem, args)
        if hand is not None:
            made[HAND] = hand
        for run, _ in made.values():
            run()
        compare(problem, {name: result for name, (_, result) in made.items()})
        times = in_turns({name: run for name, (run, _) in made.items()}, turns)
        least = min(times[HAND]) if HAND in times else None
        print(f"{problem:12s}" + "".join(cell(times[name], least) for name in times))


def cell(times, least):
    ratio = "" if least is None else f" ({min(times) / least:.2f})"
    return f"{f'{min(times):.1f}, {statistics.median(times):.1f}{ratio}':>28s}"


if __name__ == "__main__":
    main()
