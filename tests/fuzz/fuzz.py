"""Fuzzes one target, guided by coverage: python tests/fuzz/fuzz.py formula -runs=1000000 -max_len=2000.

Needs atheris (pip install atheris; Linux). What it finds of interest goes to a folder of its own, not to the corpus,
which is kept small: -merge=1 tests/fuzz/corpus/formula NEW adds to it what covers more.
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
    folders = [] if any(arg.startswith("-merge") for arg in sys.argv) else [tempfile.mkdtemp(), str(CORPUS / name)]
    atheris.Setup([*sys.argv, *folders], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
