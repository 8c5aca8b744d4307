"""One operation in a loop, the bare loop taken off, beside the same on Python's own floats."""

import math
from time import perf_counter

LOOPS, LOOPS_OF_A_LOOK = 200_000, 2_000
REPEATS = 9

# What is done, on Values a, b; on floats x, y (an object o where it takes attributes).
SNIPPETS = [
    ("a + b", "x + y"),
    ("a * b", "x * y"),
    ("a * 2.0", "x * 2.0"),
    ("2 * a", "2 * x"),
    ("a ** 2", "x ** 2"),
    ("-a", "-x"),
    ("a.tanh()", "tanh(x)"),
    ("a < b", "x < y"),
    ("a.data", "o.data"),
    ("a.grad = 0.0", "o.grad = 0.0"),
    ("a.data -= 0.0 * a.grad", "o.data -= 0.0 * o.grad"),
    ("Value(0.5)", "Float(0.5)"),
    ("sum(v for v in tens_of_a)", "sum(v for v in tens_of_x)"),
]


class Holder:
    """An object with a float, as Python has it."""

    __slots__ = ("data", "grad")

    def __init__(self, data):
        self.data = data
        self.grad = 0.0


def loop(statement):
    scope = {}
    exec(f"def run(names, loops):\n {unpack}\n for _ in loops:\n  {statement}", scope)
    return scope["run"]


unpack = "a, b, x, y, o, tanh, Value, Float, tens_of_a, tens_of_x = names"


def measure(lib, quick):
    """{snippet: (ns of Values, ns of floats)}, medians of interleaved repeats; None where it is not there."""
    a, b = lib.Value(0.5), lib.Value(0.25)
    names = (a, b, 0.5, 0.25, Holder(0.5), math.tanh, lib.Value, Holder, [a] * 10, [0.5] * 10)
    empty = loop("pass")
    results, loops = {}, LOOPS_OF_A_LOOK if quick else LOOPS
    for of_values, of_floats in SNIPPETS:
        rows = [empty, loop(of_values), loop(of_floats)]
        times = [[], [], []]
        try:
            for _ in range(REPEATS):
                for run, row in zip(rows, times):
                    start = perf_counter()
                    run(names, range(loops))
                    row.append(perf_counter() - start)
        except (TypeError, AttributeError):
            results[of_values] = None
            continue
        bare, values, floats = (1e9 * sorted(row)[REPEATS // 2] / loops for row in times)
        results[of_values] = (values - bare, floats - bare)
    return results
