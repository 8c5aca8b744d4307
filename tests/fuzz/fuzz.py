"""Fuzzes one target, guided by coverage: python tests/fuzz/fuzz.py formula -runs=1000000 -max_len=400.

Needs atheris (pip install atheris; Linux). Inputs that reach something new go to a folder that is named at the start;
those worth keeping belong into tests/fuzz/corpus, which the tests run again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pygrad"]):
    from targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\ntargets: {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    new = tempfile.mkdtemp(prefix=f"{name}-")
    print(f"new inputs: {new}")
    atheris.Setup([*sys.argv, new, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
