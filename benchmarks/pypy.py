"""pygrad beside micrograd on PyPy, in one interleaved run: pypy3 benchmarks/pypy.py, where both are installed.

Two processes take turns of half a second, over the expression of 20,000 terms and the MLP's training step. The first
turns, in which the compiler works, do not count; gradients are compared first. A step takes what its forward, backward
and update take, with all collections of the interpreter that fall into it, so means tell more than medians. Fails where
pygrad is less than three times as fast by the mean.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean, median

HERE = Path(__file__).parent
LIBRARIES = ("micrograd", "pygrad")
WORKLOADS = {"expression": 80_000, "mlp": 65_000}  # operations of a step
TURNS, WARM_UP, AT_LEAST = int(os.environ.get("TURNS", 24)), 8, 3.0


class Peer:
    def __init__(self, adapter, workload):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ask(do="setup", adapter=adapter, workload=workload, options={}, gc=True)

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer or "lacks" in answer:
            raise RuntimeError(answer)
        return answer

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def compare(workload):
    """Nanoseconds an operation of each library, by steps."""
    peers = {library: Peer(library.capitalize(), workload) for library in LIBRARIES}
    theirs, ours = (peers[library].ask(do="result")["result"] for library in LIBRARIES)
    if any(abs(a - b) > 1e-9 * max(1e-3, abs(a)) for a, b in zip(theirs, ours)):
        raise RuntimeError(f"{workload}: gradients differ")
    found = {library: [] for library in LIBRARIES}
    for turn in range(TURNS):
        for library, peer in peers.items():
            steps = peer.ask(do="turn", seconds=0.5)["steps"]
            if turn >= WARM_UP:
                seconds = (sum(step[part] for part in ("forward", "backward", "update", "free")) for step in steps)
                found[library] += [1e9 * s / WORKLOADS[workload] for s in seconds]
    for peer in peers.values():
        peer.end()
    return found


def main():
    print(platform.python_implementation(), platform.python_version())
    print("| ns an operation | micrograd | pygrad | times as fast: mean | median |\n|---|---|---|---|---|")
    is_fast = True
    for workload in WORKLOADS:
        theirs, ours = compare(workload).values()
        ratio = mean(theirs) / mean(ours)
        is_fast &= ratio >= AT_LEAST
        medians = median(theirs) / median(ours)
        print(f"| {workload} | {mean(theirs):.0f} | {mean(ours):.0f} | {ratio:.1f} | {medians:.1f} |", flush=True)
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
