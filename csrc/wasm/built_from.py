"""What the engine of the pages is built from: a hash of its sources, without their comments and blanks.

make -C csrc/wasm writes it into engine.wasm; tests/test_engine_in_pages.py compares it with the sources.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parent.parent
FILES = ("pgr.h", "ops/*", "tape/*.h", "tape/tape.c", "tape/backward.c", "tape/collect.c", "tape/slots.c")
FILES = (*FILES, "tape/tags.c", "wasm/page.c", "wasm/Makefile")


def built_from() -> str:
    found = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in CSRC.glob(pattern)}):
        text = re.sub(r"/\*.*?\*/", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        found.update(f"{path.name} {' '.join(text.split())}\n".encode())
    return found.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(built_from())
