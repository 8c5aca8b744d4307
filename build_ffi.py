"""Builds pygrad._pgr: the C library and, through cffi (API mode), its interface to Python.

What cffi reads is cut out of the C headers, between their markers, so nothing is declared twice.
Set PYGRAD_SANITIZE=1 for a build with AddressSanitizer and UBSan, PYGRAD_COVERAGE=1 for one that counts lines.
"""

import os
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
CSRC = Path("csrc")  # setuptools wants paths relative to setup.py
CPYTHON = platform.python_implementation() == "CPython"

CALLED_FROM_C = """
extern "Python" int pgr_py_custom(void *ctx, pgr_tape *tape, pgr_handle node);
extern "Python" int pgr_py_stop(void *ctx);
"""


def declarations(header: str) -> str:
    """The parts of a header between its cdef markers."""
    text = (ROOT / CSRC / header).read_text(encoding="utf-8")
    found = re.findall(r"/\* cdef: begin \*/(.*?)/\* cdef: end \*/", text, re.DOTALL)
    if not found:
        raise ValueError(f"csrc/{header} has no cdef markers")
    return "".join(found)


def compiler_options() -> "dict[str, list[str]]":
    if os.name == "nt":
        return {"extra_compile_args": ["/std:c11", "/O2"]}
    # No contraction into fused multiply-adds: the same numbers on every machine.
    options = ["-std=c11", "-fvisibility=hidden", "-ffp-contract=off"]
    if os.environ.get("PYGRAD_SANITIZE"):
        sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        return {
            "extra_compile_args": [*options, *sanitizers, "-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer"],
            "extra_link_args": sanitizers,
        }
    if os.environ.get("PYGRAD_COVERAGE"):  # without optimisation, which merges lines; threads count, too
        counting = ["--coverage", "-fprofile-update=atomic", "-O0", "-UNDEBUG"]
        return {"extra_compile_args": [*options, *counting], "extra_link_args": ["--coverage"]}
    return {"extra_compile_args": [*options, *branch_options(), "-O3", "-DNDEBUG"]}


def branch_options() -> "list[str]":
    """Keeps branches within 32 bytes, if the assembler can: a loop across them took 1.8 times as long on an Intel."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    option = "-Wa,-mbranches-within-32B-boundaries"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        command = [*compiler, option, "-x", "c", "-c", "-o", str(Path(folder) / "empty.o"), os.devnull]
        try:
            return [option] if subprocess.run(command, capture_output=True).returncode == 0 else []
        except OSError:
            return []


def libraries() -> "list[str]":
    """libm, threads, and dlopen for glibc's vectorised functions (csrc/program/veclib.c)."""
    if os.name == "nt":
        return []
    return ["m", "pthread", *(["dl"] if sys.platform == "linux" else [])]


headers = ["pgr.h", *(["python/module.h"] if CPYTHON else [])]
sources = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / CSRC).rglob("*.c")
    if path.parent.name != "wasm" and (CPYTHON or path.parent.name != "python")
)

ffibuilder = FFI()
for header in headers:
    ffibuilder.cdef(declarations(header))
ffibuilder.cdef(CALLED_FROM_C)
ffibuilder.set_source(
    "pygrad._pgr",
    "".join(f'#include "{header}"\n' for header in headers),
    sources=sources,
    include_dirs=[str(CSRC)],
    libraries=libraries(),
    py_limited_api=False,  # csrc/python reads CPython's own structures
    define_macros=[("_CFFI_NO_LIMITED_API", None)],
    **compiler_options(),
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
