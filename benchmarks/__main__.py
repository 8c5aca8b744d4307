"""python -m benchmarks: pygrad beside everyone a user could pick instead, in one interleaved run.

Each peer gets a virtual environment and a process of its own; gradients are compared before anything is timed.
Writes RESULTS.md, results.json and ns_per_node.svg beside this file (--out: elsewhere).
"""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path

from benchmarks import report
from benchmarks.peers import FAST, PEERS, RIVALS
from benchmarks.run import HERE, ROOT, building, grow, in_c, interleave, named, operations, recorded

WORKLOADS = ("expression", "mlp", "transformer", "growth", "operation", "recorded", "c")


def first_names() -> list[str]:
    """Frequent US census first names of seven letters, so that every step has as many nodes (PyPI package names)."""
    text = (resources.files("names") / "dist.female.first").read_text()
    return [name.lower() for name, *_ in map(str.split, text.splitlines()) if len(name) == 7][:100]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="run this part only; may be repeated")
    parser.add_argument("--peers", help="comma-separated names; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds and small graphs: a look, not a measurement")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "benchmarks", help="where venvs are made")
    parser.add_argument("--out", type=Path, default=HERE, help="where results are written")
    args = parser.parse_args()
    parts = args.only or WORKLOADS
    peers = PEERS if args.peers is None else named([name.strip() for name in args.peers.split(",")])
    if not peers:
        parser.error(f"no such peers: {args.peers}; there are {', '.join(peer.name for peer in PEERS)}")
    rounds, budget = (3, 1.0) if args.quick else (15, 15.0)
    environments = args.environments
    results: dict[str, object] = {"machine": report.machine(), "quick": args.quick, "rounds": rounds}
    if "expression" in parts:
        for function in ("tanh", "relu"):
            options = {"terms": 1_000 if args.quick else 20_000, "function": function}
            results[f"expression, {function}"] = interleave(environments, peers, "expression", options, rounds, budget)
    if "mlp" in parts:
        for title, options in (("generic code", {}), ("own nn", {"nn": True})):
            results[f"mlp, {title}"] = interleave(environments, peers, "mlp", options, rounds, budget)
    if "transformer" in parts:
        some = [*peers, FAST] if any(peer.adapter == "Pygrad" for peer in peers) else peers
        results["transformer"] = interleave(environments, some, "transformer", {"names": first_names()}, rounds, budget)
    if "growth" in parts:
        sizes = [10**k for k in range(3, 6 if args.quick else 8)]
        results["growth"] = grow(environments, peers, sizes, rounds, budget / 3)
    if "operation" in parts:
        few = [peer for peer in peers if peer.adapter in ("Pygrad", "Micrograd", "Plain") and peer.gc]
        results["operation"] = operations(environments, few, args.quick)
    if "recorded" in parts:
        rivals = [rival.name for rival in RIVALS.values() if args.peers is None or rival.name in args.peers]
        results["recorded"] = recorded(environments, rivals, rounds, budget)
        results["building"] = building(environments, [10**k for k in range(4, 6 if args.quick else 8)])
    if "c" in parts:
        results["c"] = in_c(args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (args.out / "RESULTS.md").write_text(report.text(results))
    if "expression, tanh" in results:
        report.plot(results, args.out / "ns_per_node.svg")
    print(f"wrote {args.out / 'RESULTS.md'}")


if __name__ == "__main__":
    main()
