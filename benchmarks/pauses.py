"""How long collections stop a program that keeps many nodes alive and makes a little garbage in every step.

python benchmarks/pauses.py [--live 10000000] [--nodes 3000000]

A step records ten nodes and drops the step before, as `loss = ...` in a loop does. Time is this thread's, since others
on the machine would count as pauses. Printed for each number of nodes alive: nanoseconds a node, on average and in the
median turn of a hundred steps, and the longest turn.

A collection of all nodes is due when there are twice as many as after the last one. That is a long pause, but a rare
one: where it falls into the measurement, as with --live 8300000, the longest turn is that pause.
"""

import argparse
import gc
import subprocess
import sys
from time import thread_time_ns

from pygrad import Value, tape_stats

NODES_A_STEP, STEPS_A_TURN = 10, 100


def step(x, w, b):
    """Ten nodes."""
    return ((x * w + b).tanh() * w + b).tanh() * w - b * x + w


def live_graph(nodes):
    """A root with so many nodes below it."""
    x = root = Value(0.5)
    for _ in range(nodes // 2):
        root = root * x + x
    return root


def live_values(nodes):
    """As many Values."""
    return [Value(0.5) for _ in range(nodes)]


def measure(live, nodes):
    """(mean, median: ns a node; longest turn in ms; collections), with `live` kept."""
    x, w, b = (Value(v) for v in (0.5, 0.3, 0.1))
    turns = []
    last = step(x, w, b)
    before = tape_stats().collections
    for _ in range(nodes // (NODES_A_STEP * STEPS_A_TURN)):
        start = thread_time_ns()
        for _ in range(STEPS_A_TURN):
            last = step(x, w, b)
        turns.append(thread_time_ns() - start)
    del last, live
    turns.sort()
    per_node = 1 / (NODES_A_STEP * STEPS_A_TURN)
    mean, median = sum(turns) / len(turns) * per_node, turns[len(turns) // 2] * per_node
    return mean, median, turns[-1] / 1e6, tape_stats().collections - before


MAKERS = {"graph": live_graph, "values": live_values}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", type=int, nargs="*", default=[0, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--nodes", type=int, default=3_000_000)
    parser.add_argument("--one", choices=MAKERS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one is None:
        print("alive                ns a node  median  longest turn  collections", flush=True)
        for live in options.live:
            for what in MAKERS:  # each in a process of its own: a tape remembers how large it was
                rest = ["--live", str(live), "--nodes", str(options.nodes), "--one", what]
                subprocess.run([sys.executable, __file__, *rest], check=True)
        return
    gc.disable()
    (live,) = options.live
    mean, median, longest, collections = measure(MAKERS[options.one](live), options.nodes)
    print(f"{live:>10,} {options.one:8} {mean:10.1f} {median:7.1f} {longest:10.2f} ms {collections:12}")


if __name__ == "__main__":
    main()
