"""How far an eager operation is from the least that an extension type can do: see c/floor.c.

python benchmarks/floor.py [--turns 41] [--json]

In turns, on this thread's time: nanoseconds a node of `s = s + (x * w + b).tanh()`, loop included; and nanoseconds of
single statements, an empty loop taken off. Medians; in brackets the ratio to the floor. The other columns are floors,
too: objects without records; with attributes that users set; and with a quick lookup of `data` as well.
"""

import argparse
import gc
import importlib.util
import json
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from time import thread_time_ns

import pygrad

STATEMENTS = ("a + b", "a * b", "a.tanh()", "a.data")
TERMS, LOOPS = 2_000, 8_000
NODES_A_TERM = 4


def compiled():
    """The extension module of c/floor.c."""
    source = Path(__file__).parent / "c" / "floor.c"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / f"floor{sysconfig.get_config_var('EXT_SUFFIX')}"
        include = f"-I{sysconfig.get_path('include')}"
        subprocess.run(["cc", "-O3", "-shared", "-fPIC", include, "-o", library, source, "-lm"], check=True)
        spec = importlib.util.spec_from_file_location("floor", library)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def expression(make):
    """A loop over the tanh expression, with the interpreter's specialisations for one type."""
    scope = {}
    exec(
        "def run(x, w, b, s, terms):\n for _ in range(terms):\n  s = s + (x * w + b).tanh()\n return s",
        scope,
    )
    run = scope["run"]
    numbers = [make(v) for v in (0.5, 0.3, 0.1, 0.0)]
    return lambda: run(*numbers, TERMS)


def loop(make, statement):
    scope = {}
    exec(f"def run(a, b, loops):\n for _ in loops:\n  {statement}", scope)
    run = scope["run"]
    a, b = make(0.5), make(0.25)
    return lambda: run(a, b, range(LOOPS))


def in_turns(runs, turns):
    """Medians of each run's times in ns."""
    times = [[] for _ in runs]
    for _ in range(turns):
        for run, row in zip(runs, times):
            start = thread_time_ns()
            run()
            row.append(thread_time_ns() - start)
    return [sorted(row)[turns // 2] for row in times]


def measure(turns):
    """{what: {type: ns}}; of statements, without the loop."""
    floor = compiled()
    makers = {
        "pygrad": pygrad.Value,
        "floor": floor.Floor,
        "object": floor.Bare,
        "rich": floor.Rich,
        "direct": floor.Direct,
    }
    wanted = sum(((pygrad.Value(0.5) * 0.3 + 0.1).tanh().data for _ in range(10)), 0.0)
    for name in ("floor", "rich", "direct"):
        x, w, b = (makers[name](v) for v in (0.5, 0.3, 0.1))
        assert sum((x * w + b).tanh().data for _ in range(10)) == wanted, name
    times = in_turns([expression(make) for make in makers.values()], turns)
    results = {"expression": {name: t / (NODES_A_TERM * TERMS) for name, t in zip(makers, times)}}
    for statement in STATEMENTS:
        runs = [loop(pygrad.Value, "pass"), *(loop(make, statement) for make in makers.values())]
        empty, *times = in_turns(runs, turns)
        results[statement] = {name: (t - empty) / LOOPS for name, t in zip(makers, times)}
    return results


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=41)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    gc.disable()
    results = measure(options.turns)
    if options.json:
        print(json.dumps(results))
        return
    print(f"{'':12} {'pygrad':>14} {'floor':>8} {'object only':>12} {'attributes':>12} {'own lookup':>12}")
    for what, row in results.items():
        ratio = row["pygrad"] / row["floor"]
        print(
            f"{what:12} {row['pygrad']:6.1f} ({ratio:4.2f} x) {row['floor']:8.1f} {row['object']:12.1f} "
            f"{row['rich']:12.1f} {row['direct']:12.1f}"
        )


if __name__ == "__main__":
    main()
