"""The engine of the pages, pygrad/_views/web/engine.wasm, is built from these sources."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WASM = ROOT / "csrc" / "wasm"

pytestmark = pytest.mark.skipif(not WASM.is_dir(), reason="looks at the sources")


def test_the_engine_is_built_from_these_sources():
    spec = importlib.util.spec_from_file_location("built_from", WASM / "built_from.py")
    built_from = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(built_from)
    engine = (ROOT / "pygrad" / "_views" / "web" / "engine.wasm").read_bytes()
    found = re.search(rb"built from ([0-9a-f]{64})", engine)
    assert found is not None and found[1].decode() == built_from.built_from(), (
        "csrc has changed since pygrad/_views/web/engine.wasm was built: make -C csrc/wasm "
        "(Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32)"
    )


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_engine_imports_nothing():
    script = (
        "const m = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));"
        "console.log(WebAssembly.Module.imports(m).length, WebAssembly.Module.exports(m).length)"
    )
    engine = ROOT / "pygrad" / "_views" / "web" / "engine.wasm"
    imports, exports = subprocess.check_output(["node", "-e", script, engine], text=True).split()
    assert imports == "0" and int(exports) > 20
