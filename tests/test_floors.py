"""The house: every file of csrc/ knows only files below it, by what it includes and by what it links to."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
FLOORS = ("ops", "tape", "graph", "program", "api", "python")  # from the ground up

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="looks at the sources")


def circles(arrows):
    """The circles among {file: files that it knows}: lists of files that know each other."""
    found, numbers, lowest, stack = [], {}, {}, []

    def visit(file):
        numbers[file] = lowest[file] = len(numbers)
        stack.append(file)
        for other in arrows.get(file, ()):
            if other not in numbers:
                visit(other)
                lowest[file] = min(lowest[file], lowest[other])
            elif other in stack:
                lowest[file] = min(lowest[file], numbers[other])
        if lowest[file] == numbers[file]:
            at = stack.index(file)
            circle = stack[at:]
            del stack[at:]
            if len(circle) > 1 or file in arrows.get(file, ()):
                found.append(sorted(circle))

    for file in arrows:
        if file not in numbers:
            visit(file)
    return found


def upward(arrows, floors):
    """The arrows that lead to a higher floor; files are paths, which begin with the floor's name."""
    height = {floor: i for i, floor in enumerate(floors)}
    return [
        f"{file} -> {other}"
        for file, others in arrows.items()
        for other in others
        if height[file.split("/")[0]] < height[other.split("/")[0]]
    ]


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert upward({"tape/a.c": {"ops/b.c", "api/c.c"}}, FLOORS) == ["tape/a.c -> api/c.c"]


def test_every_file_of_c_is_on_a_floor():
    files = {path.relative_to(CSRC).as_posix() for path in CSRC.rglob("*.[ch]")}
    assert {file.split("/")[0] for file in files} == {*FLOORS, "pgr.h"}


def test_includes_lead_down():
    arrows = {}
    for path in CSRC.rglob("*.[ch]"):
        file = path.relative_to(CSRC).as_posix()
        if file != "pgr.h":
            included = re.findall(r'#include "(.*)"', path.read_text(encoding="utf-8"))
            assert all((CSRC / other).is_file() for other in included), included
            arrows[file] = {other for other in included if other != "pgr.h"}
    assert circles(arrows) == []
    assert upward(arrows, FLOORS) == []
    assert not re.search(r'#include "', (CSRC / "pgr.h").read_text(encoding="utf-8"))


@pytest.mark.skipif(shutil.which("nm") is None or shutil.which("cc") is None, reason="needs cc and nm")
def test_calls_lead_down(tmp_path):
    """Between files, by the symbols that their objects define and lack."""
    is_cpython = platform.python_implementation() == "CPython"
    sources = [path for path in CSRC.rglob("*.c") if is_cpython or path.parent.name != "python"]
    command = ["cc", "-c", "-O1", "-DNDEBUG", f"-I{CSRC}", f"-I{sysconfig.get_path('include')}"]
    defined, lacking = {}, {}
    for source in sources:
        file = source.relative_to(CSRC).as_posix()
        target = tmp_path / (file.replace("/", "_") + ".o")
        if subprocess.run([*command, "-o", target, source], capture_output=True).returncode:
            pytest.skip(f"{file} does not compile here")
        lines = [line.split() for line in subprocess.check_output(["nm", target], text=True).splitlines()]
        defined.update({words[-1]: file for words in lines if words[-2] in "TDBRC"})
        lacking[file] = {words[-1] for words in lines if words[-2] == "U"}
    arrows = {file: {defined[symbol] for symbol in symbols if symbol in defined} for file, symbols in lacking.items()}
    assert len(defined) > 100
    assert circles(arrows) == []
    assert upward(arrows, FLOORS) == []
