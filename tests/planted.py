"""Plants faults in the C library, one after another, and sees whether the random programs find them.

python tests/planted.py [NAME ...]: copies the tree, changes one line, builds the extension there and runs
tests/test_random_programs.py, which must fail; and once with nothing changed, which must pass. Exit status 1 if not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """One change of one line."""

    kind: str
    file: str
    old: str
    new: str


FAULTS = {
    "unchanged": Fault("none", "collect.c", "", ""),
    "rhs not marked": Fault(
        "reachability",
        "collect.c",
        "            nodes[nodes[id].lhs].flags |= TAPE_LIVE;\n            nodes[nodes[id].rhs]",
        "            nodes[nodes[id].lhs].flags |= TAPE_LIVE;\n            nodes[nodes[id].lhs]",
    ),
    "held nodes not live": Fault(
        "reachability",
        "collect.c",
        "return (node->flags & (TAPE_HELD | TAPE_LIVE)) != 0;",
        "return (node->flags & TAPE_LIVE) != 0 || ((node->flags & TAPE_HELD) != 0 && node->lhs == 0);",
    ),
    "pop goes below names": Fault(
        "reachability",
        "tape.h",
        "    while (named > 0 && tape->nodes[named].slot == 0)\n        named--;",
        "    named -= named > 0;",
    ),
    "lhs not moved": Fault("sliding", "collect.c", "node.lhs = moved[node.lhs - first];", "(void)0;"),
    "rhs moved as lhs": Fault(
        "sliding", "collect.c", "node.rhs = moved[node.rhs - first];", "node.rhs = node.lhs != 0 ? node.lhs : 1;"
    ),
    "slots not moved": Fault("sliding", "collect.c", "tape->slots[node.slot].id = to;", "(void)0;"),
    "the dead keep their ids": Fault(
        "handle identity", "collect.c", "    s->id = 0;\n    s->is_dead = 1;", "    s->is_dead = 1;"
    ),
    "names are never kept": Fault(
        "handle identity", "tape.h", "    if (!s->is_kept) {", "    if (true || s->is_kept) {"
    ),
    "a node gets a second name": Fault(
        "handle identity",
        "handle.c",
        "    if (slot == 0)\n        return name",
        "    if (slot == 0 || tape->slots[slot].holds == 0)\n        return name",
    ),
    "the buried are not told": Fault("handle identity", "collect.c", "    tape->dead = slot;", "    tape->dead = 0;"),
    "leaves are overwritten": Fault(
        "accumulation",
        "backward.c",
        "        node->grad += adjoint;\n        if (x.custom",
        "        node->grad = adjoint;\n        if (x.custom",
    ),
    "second visits overwrite": Fault(
        "accumulation",
        "backward.c",
        "    } else {\n        node->grad += adjoint;\n    }",
        "    } else {\n        node->grad = adjoint;\n    }",
    ),
    "first visits accumulate": Fault(
        "accumulation",
        "backward.c",
        "        reach(m, x, node, from);\n        node->grad = adjoint;",
        "        reach(m, x, node, from);\n        node->grad += adjoint;",
    ),
}


def found(fault: Fault) -> str:
    """What the random programs make of a tree with a fault: 'passed', 'failed' or 'crashed'."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "build", "*.so", "__pycache__", "*.egg-info"))
        file = tree / "csrc" / fault.file
        text = file.read_text(encoding="utf-8")
        if fault.old:
            if text.count(fault.old) != 1:
                sys.exit(f"{fault.file} has {text.count(fault.old)} times: {fault.old!r}")
            file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(build, cwd=tree, check=True, env=environment, capture_output=True)
        # With its own metadata the package is found here, not where it may be installed.
        metadata = tree / "pygrad-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pygrad\nVersion: 0\n")
        test = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/test_random_programs.py"]
        try:
            status = subprocess.run(test, cwd=tree, env=environment, capture_output=True, timeout=300).returncode
        except subprocess.TimeoutExpired:
            return "hung"
        return {0: "passed", 1: "failed"}.get(status, f"crashed ({status})")


def main() -> int:
    """Run those that are named, or all."""
    wanted = sys.argv[1:] or list(FAULTS)
    wrong = 0
    for name in wanted:
        fault = FAULTS[name]
        result = found(fault)
        wrong += (result == "passed") != (name == "unchanged")
        print(f"{fault.kind:16} {name:32} {result}", flush=True)
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
