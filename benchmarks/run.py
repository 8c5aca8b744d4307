"""Environments, processes, and the interleaved run."""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.peers import PEERS, PROBLEMS, PYGRAD, RIVALS, Peer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SEED = 20261123
TURN = 0.1  # seconds that a peer runs before the next one does, but at least one step
CHECKED_TERMS = 200  # of the expression, when gradients are compared


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


_installed: dict[str, tuple[Path | None, str]] = {}


def install(peer: Peer, environments: Path) -> tuple[Path | None, str]:
    """The peer's Python, in an environment made for it unless it is there; or None, and why not."""
    if peer.environment not in _installed:
        _installed[peer.environment] = _install(peer, environments / peer.environment)
    return _installed[peer.environment]


def _install(peer: Peer, folder: Path) -> tuple[Path | None, str]:
    python, ready = folder / "bin" / "python", folder / "ready"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    if peer.requires and (not ready.exists() or peer.requires == PYGRAD):
        say(f"installing {' '.join(peer.requires)}")
        variables = dict(os.environ)
        if peer.constraint:
            constraint = folder / "constraint.txt"
            constraint.write_text(peer.constraint + "\n")
            variables["PIP_CONSTRAINT"] = str(constraint)
        requires = [requirement.format(root=ROOT) for requirement in peer.requires]
        done = subprocess.run(
            [python, "-m", "pip", "install", "-q", *requires], env=variables, capture_output=True, text=True
        )
        if done.returncode != 0:
            # pip's own words come last; the build's, which say more, before them.
            why = [line.strip() for line in done.stderr.splitlines() if "rror: " in line or "error (" in line]
            why = [line for line in why if "subprocess-exited" not in line and "metadata-generation" not in line]
            # .. without the folder where pip built.
            said = re.sub(r" \(?/[^\s)]*\)?", "", why[-1]) if why else "pip failed"
            return None, "does not install: " + said[:160]
    ready.touch()
    return python, ""


class Process:
    """A peer's worker process."""

    def __init__(self, peer: Peer, python: Path) -> None:
        self.peer = peer
        self.lacks = ""
        self.spent = 0.0
        self.times: list[dict[str, float]] = []
        self._worker = subprocess.Popen(
            [python, "-W", "ignore", HERE / "worker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **peer.variables},
        )

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """The answer to one command; what goes wrong is remembered as what the peer lacks."""
        if self.lacks:
            return {}
        assert self._worker.stdin is not None and self._worker.stdout is not None
        try:
            self._worker.stdin.write(json.dumps({"do": do, **command}) + "\n")
            self._worker.stdin.flush()
            line = self._worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process crashed"}
        if "lacks" in answer:
            self.lacks = "lacks: " + answer["lacks"]
        elif "error" in answer:
            self.lacks = answer["error"]
        return answer

    def setup(self, workload: str, options: dict[str, Any]) -> None:
        self.ask("setup", adapter=self.peer.adapter, workload=workload, options=options, gc=self.peer.gc)

    def close(self) -> None:
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.kill()
        self._worker.wait()


def differs(result: list[float], expected: list[float], tolerance: float) -> str:
    """What is wrong with a result, if anything is."""
    if len(result) != len(expected):
        return f"gives {len(result)} numbers, not {len(expected)}"
    scale = max(abs(x) for x in expected) or 1.0
    worst = max(abs(a - b) for a, b in zip(result, expected)) / scale
    return "" if worst <= tolerance else f"its gradient differs by {worst:.1e} of the largest"


def middle(steps: list[dict[str, float]]) -> dict[str, float]:
    """The step of a turn whose total is the median."""
    return sorted(steps, key=total)[len(steps) // 2]


def interleave(
    environments: Path,
    peers: list[Peer],
    workload: str,
    common: dict[str, Any],
    rounds: int,
    budget: float,
    seed: int = SEED,
) -> dict[str, Any]:
    """One workload in all peers, turn by turn, `rounds` times, a turn's median step counting.

    A peer that has spent `budget` seconds sits out.

    The first peer that can run it gives the result that the others' are compared with before anything is timed.
    """
    say(f"{workload} {({k: v for k, v in common.items() if k != 'names'}) or ''}")
    rows: dict[str, Any] = {}
    running: list[Process] = []
    expected: list[float] = []
    for peer in peers:
        python, why = install(peer, environments)
        if python is None:
            rows[peer.name] = {"lacks": why}
            continue
        process = Process(peer, python)
        options = {**common, **peer.options}
        process.setup(workload, {**options, "terms": CHECKED_TERMS} if "terms" in options else options)
        result = process.ask("result").get("result")
        if result is not None:
            expected = expected or result
            process.lacks = differs(result, expected, peer.tolerance)
        if "terms" in options:
            process.setup(workload, {**options, "terms": min(options["terms"], peer.most_nodes // 40)})
        else:
            process.setup(workload, options)
        running.append(process)
    take_turns(running, rounds, budget, seed)
    for process in running:
        process.close()
        name = process.peer.name
        rows[name] = {"lacks": process.lacks} if process.lacks else {"times": process.times}
        if "terms" in common:
            rows[name]["nodes"] = 4 * min(common["terms"], process.peer.most_nodes // 40)
        say(f"  {name}: {process.lacks or f'{1e3 * statistics.median(map(total, process.times)):.3g} ms'}")
    return rows


def take_turns(running: list[Process], rounds: int, budget: float, seed: int) -> None:
    """Turn by turn, in an order drawn anew for each round; who has spent `budget` seconds sits out."""
    order = random.Random(seed)
    for _ in range(rounds):
        for process in order.sample(running, len(running)):
            if process.lacks or (process.times and process.spent > budget):
                continue
            start = perf_counter()
            turn = process.ask("turn", seconds=TURN)
            process.spent += perf_counter() - start
            if not process.lacks:
                process.times.append(middle(turn["steps"]))


def recorded(environments: Path, names: list[str], rounds: int, budget: float) -> dict[str, Any]:
    """{problem: {rival: {...}}}: the problems of recorded.py, those of `names` among the rivals, interleaved."""
    rows: dict[str, Any] = {}
    for problem, (rivals, operations) in PROBLEMS.items():
        say(f"recorded functions: {problem}")
        rows[problem] = {"operations": operations, "rivals": {}}
        running, expected = [], []
        for rival in rivals:
            peer = RIVALS[rival]
            if peer.name not in names:
                continue
            python, why = install(peer, environments)
            if python is None:
                rows[problem]["rivals"][peer.name] = {"lacks": why}
                continue
            process = Process(peer, python)
            process.ask("setup", rival=rival, problem=problem, seed=SEED)
            result = process.ask("result").get("result")
            if result is not None:
                expected = expected or result
                process.lacks = differs(result, expected, peer.tolerance)
            running.append(process)
        take_turns(running, rounds, budget, SEED)
        for process in running:
            process.close()
            row = {"lacks": process.lacks} if process.lacks else {"times": process.times}
            rows[problem]["rivals"][process.peer.name] = row
            median = 0.0 if process.lacks else 1e6 * statistics.median(map(total, process.times))
            say(f"  {process.peer.name}: {process.lacks or f'{median:.4g} us'}")
    return rows


def building(environments: Path, sizes: list[int]) -> dict[str, Any]:
    """What it costs pygrad to record and to build."""
    say("recording and building")
    python, why = install(RIVALS["Pygrad"], environments)
    if python is None:
        return {"lacks": why}
    process = Process(RIVALS["Pygrad"], python)
    answer = process.ask("building", sizes=sizes)
    process.close()
    return answer.get("building", {"lacks": process.lacks})


PHASES = ("forward", "backward", "update", "free")


def total(times: dict[str, float]) -> float:
    return sum(times[phase] for phase in PHASES)


def grow(environments: Path, peers: list[Peer], sizes: list[int], rounds: int, budget: float) -> dict[str, Any]:
    """{peer: {nodes: {...}}}: ns a node by size, interleaved, and bytes a node of each size in a fresh process."""
    say("growth")
    rows: dict[str, Any] = {}
    running: list[Process] = []
    for peer in peers:
        python, why = install(peer, environments)
        rows[peer.name] = {"lacks": why}
        if python is None:
            continue
        nodes = max(size for size in sizes if size <= peer.most_nodes)
        fresh = Process(peer, python)
        fresh.setup("growth", {"terms": nodes // 4})
        more = fresh.ask("step").get("bytes", 0)
        fresh.close()
        if fresh.lacks:
            rows[peer.name] = {"lacks": fresh.lacks}
        else:
            rows[peer.name] = {"bytes_a_node": more / nodes, "bytes_nodes": nodes, "ns": {}}
            running.append(Process(peer, python))
    for size in sizes:
        taking_part = [process for process in running if size <= process.peer.most_nodes and not process.lacks]
        for process in taking_part:
            process.setup("growth", {"terms": size // 4})
            process.times, process.spent = [], 0.0
        for _ in range(rounds):
            for process in taking_part:
                if process.times and process.spent > budget:
                    continue
                start = perf_counter()
                turn = process.ask("turn", seconds=TURN)
                process.spent += perf_counter() - start
                if not process.lacks:
                    process.times.append(middle(turn["steps"]))
        for process in taking_part:
            row = rows[process.peer.name]
            if process.lacks:
                row["lacks"] = process.lacks
            else:
                row["ns"][size] = {
                    phase: 1e9 * statistics.median(t[phase] for t in process.times) / size for phase in PHASES
                }
        say(f"  {size} nodes")
    for process in running:
        process.close()
    return rows


def operations(environments: Path, peers: list[Peer], quick: bool) -> dict[str, Any]:
    say("operations")
    rows: dict[str, Any] = {}
    for peer in peers:
        python, why = install(peer, environments)
        if python is not None:
            process = Process(peer, python)
            answer = process.ask("operations", adapter=peer.adapter, quick=quick)
            rows[peer.name] = answer.get("operations", {"lacks": process.lacks})
            process.close()
        else:
            rows[peer.name] = {"lacks": why}
    return rows


def in_c(quick: bool) -> dict[str, Any]:
    """The C micro-benchmarks, built and run by their Makefile; {} with a word where they can't be."""
    say("C micro-benchmarks")
    arguments = f"ARGS=--json{' --quick' if quick else ''}"
    done = subprocess.run(["make", "-s", "-C", HERE / "c", "run", arguments], capture_output=True, text=True)
    if done.returncode != 0:
        return {"lacks": done.stderr.strip().splitlines()[-1]}
    result: dict[str, Any] = json.loads(done.stdout)
    result["absent"] = [line.split(":")[0] for line in done.stderr.splitlines() if line.endswith("not installed")]
    return result


def named(names: list[str]) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in names]
