"""Helpers of several tests."""

from __future__ import annotations

import gc
import importlib.util
import math
import os
import platform
import subprocess
import sys
import tempfile

# How much longer things may take, and memory grow, where the sanitizers' runtimes are preloaded (.ci/nightly), or lines
# are counted (.ci/coverage).
SANITIZED = 10.0 if "asan" in os.environ.get("LD_PRELOAD", "") or "PYGRAD_COVERAGE" in os.environ else 1.0


# Whether Python counts references. Otherwise objects end when its collector finds them, and finalisers run in layers:
# what an object with a finaliser keeps ends at the next collection.
COUNTS = platform.python_implementation() == "CPython"


# Whether all libraries that tests use must be there. PyPy lacks wheels of SciPy's and of what needs it; and without
# NumPy, the tests that need it are skipped.
COMPLETE = COUNTS and importlib.util.find_spec("numpy") is not None


def end_dead_objects():
    """Has Python end objects that nothing refers to, in cycles too."""
    for _ in range(1 if COUNTS else 4):
        gc.collect()


def is_count(found: int, expected: int) -> bool:
    """Whether so many nodes are left. Where references are not counted, what tests before left may still go."""
    return found == expected if COUNTS else found <= expected


def close(a: float, b: float, tolerance: float) -> bool:
    """Equal within `tolerance`, relative above 1 and absolute below; nan equals nan."""
    return (math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= tolerance * max(1.0, abs(a), abs(b))


def gradcheck(fn, args, step=1e-6, tolerance=1e-7):
    """Compare fn's grads with central differences of `step` (relative above 1); fn takes and gives Values.

    The error of a central difference is about step**2 of truncation and 1e-16 / step of rounding, so
    `tolerance` must be larger than some 1e-9.
    """
    from pygrad import Value

    values = [Value(a) for a in args]
    fn(*values).backward()
    for i, value in enumerate(values):
        h = step * max(1.0, abs(args[i]))
        up, down = ([*args[:i], args[i] + sign * h, *args[i + 1 :]] for sign in (1, -1))
        numeric = (fn(*map(Value, up)).data - fn(*map(Value, down)).data) / (2 * h)
        assert close(value.grad, numeric, tolerance), f"d/d args[{i}] at {args}: {value.grad}, numerically {numeric}"


def run_python(code, layer, stack_megabytes=None):
    """The output of a program, run in its own process, away from the source tree."""

    def limit():
        import resource

        size = stack_megabytes << 20
        resource.setrlimit(resource.RLIMIT_STACK, (size, size))

    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tempfile.gettempdir(),
        preexec_fn=limit if stack_megabytes else None,
        # PyPy makes its nursery as large as the processor's cache, and memory is measured.
        env={"PYPY_GC_NURSERY": "4M", **os.environ, "PYGRAD_OPERANDS": layer},
    ).stdout


def neuron(pg):
    """tanh(x*w + b), after its backward pass."""
    x, w, b = pg.Value(2.0, label="x"), pg.Value(-3.0, label="w"), pg.Value(6.5, label="b")
    o = (x * w + b).tanh()
    o.label = "o"
    o.backward()
    return o
