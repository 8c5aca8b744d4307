"""The engine of the pages, pygrad/_views/web/engine.wasm, is built from these sources."""

from __future__ import annotations

import importlib.util
import json
import math
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


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_pages_write_numbers_as_python_does(rng):
    numbers = [
        0.0,
        -0.0,
        1e16,
        1e15,
        123456.5,
        2.5,
        0.5,
        1e-4,
        1e-5,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        -math.inf,
    ]
    numbers += [rng.choice((-1, 1)) * rng.random() * 10.0 ** rng.randint(-12, 20) for _ in range(2000)]
    numbers += [rng.randint(-(10**7), 10**7) / 2 ** rng.randint(0, 12) for _ in range(2000)]  # often halfway
    cases = [[repr(x), rng.randint(1, 17)] for x in numbers]
    script = (ROOT / "pygrad" / "_views" / "web" / "numbers.js").read_text(encoding="utf-8") + (
        "const cases = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "const x = (text) => text === 'inf' ? Infinity : text === '-inf' ? -Infinity : Number(text);"
        "console.log(JSON.stringify(cases.map(([text, p]) => [exact(x(text)), general(x(text), p)])))"
    )
    found = subprocess.run(["node", "-e", script], input=json.dumps(cases), capture_output=True, text=True, check=True)
    wrong = [
        (text, p, shown)
        for (text, p), shown in zip(cases, json.loads(found.stdout))
        if shown != [text, f"{float(text):.{p}g}"]
    ]
    assert wrong == []
