"""The layout: every file knows only files below it, by includes and symbols in csrc, by imports in pygrad.

And no file, function or line is too long to be read at once.
"""

from __future__ import annotations

import ast
import os
import pkgutil
import platform
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
FLOORS = ("ops", "tape", "graph", "program", "api", "python", "wasm")  # from the ground up

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


@pytest.mark.skipif("LONG" not in os.environ, reason="compiles all of csrc: LONG=1, as .ci/run does")
@pytest.mark.skipif(shutil.which("nm") is None or shutil.which("cc") is None, reason="needs cc and nm")
def test_calls_lead_down(tmp_path):
    """Between files, by the symbols that their objects define and lack."""
    is_cpython = platform.python_implementation() == "CPython"
    sources = [path for path in CSRC.rglob("*.c") if is_cpython or path.parent.name != "python"]
    command = ["cc", "-c", "-O0", "-DNDEBUG", f"-I{CSRC}", f"-I{sysconfig.get_path('include')}"]
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


# ---- What a reader can hold -----------------------------------------------------------------------

LINES, FUNCTION_LINES, BRANCHES, COLUMNS = 500, 60, 20, 120
LONG = {"pgr.h": "the one public header, which is the manual"}  # by file: why it may be longer


def code_of(text):
    """C without its comments and the contents of its strings, line for line."""
    blank = lambda found: re.sub(r"[^\n]", " ", found[0])  # noqa: E731
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", blank, text, flags=re.DOTALL)


def functions(text):
    """(name, lines, branches) of each function: braces after a parenthesis, outside of other braces."""
    code = code_of(text)
    no_macros = re.sub(
        r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda found: re.sub(r"[^\n]", " ", found[0]), code, flags=re.MULTILINE
    )
    found, depth, start, name = [], 0, None, ""
    for brace in re.finditer(r"[{}]", no_macros):
        at = brace.start()
        if brace[0] == "{":
            before = no_macros[max(no_macros.rfind(end, 0, at) for end in ";}") + 1 : at]
            if depth == 0 and before.rstrip().endswith(")"):
                start = at - len(before.lstrip())
                name = re.findall(r"(\w+)\s*\(", before)[0]
            depth += 1
        else:
            depth -= 1
            if depth == 0 and start is not None:
                body = code[start : at + 1]
                # Branches of macros that are defined within count, their braces don't.
                found.append((name, body.count("\n") + 1, len(re.findall(r"\b(?:if|for|while|case)\b|\?", body))))
                start = None
    assert depth == 0
    return found


def too_much(file, text):
    """What is too long in a file of C."""
    lines = text.splitlines()
    found = [f"{file}:{i}: {len(line)} columns" for i, line in enumerate(lines, 1) if len(line) > COLUMNS]
    if len(lines) > LINES and file not in LONG:
        found.append(f"{file}: {len(lines)} lines")
    for name, length, branches in functions(text) if file != "pgr.h" else ():  # which only declares
        if length > FUNCTION_LINES or branches > BRANCHES:
            found.append(f"{file}: {name}: {length} lines, {branches} branches")
    return found


EXAMPLE = """#define PAIR(x) do { \\
        if (x) { \\
    } while (0)
typedef struct { int a; } pair; /* if (x) { */
static const int a[] = {1, 2};
static int one(int x) { return x ? 1 : '{'; }
static int many(int x,
                const char *y)
{
    for (;;)
        if (x && *y) { /* } while */
#define A(x) if (x)
            y = "while } { ?";
        }
}
"""


def test_functions_are_measured():
    assert functions(EXAMPLE) == [("one", 1, 1), ("many", 9, 3)]
    assert too_much("a.c", EXAMPLE) == []
    assert too_much("a.c", EXAMPLE.replace("A(x) if (x)", f"A(x) if (x){' if (x)' * 18}")) == [
        "a.c:12: 145 columns",
        "a.c: many: 9 lines, 21 branches",
    ]
    assert too_much("a.c", EXAMPLE.replace("for", "\n" * 53 + "for")) == ["a.c: many: 62 lines, 3 branches"]
    assert too_much("a.c", "\n" * 501) == ["a.c: 501 lines"]


def test_files_and_functions_of_c_can_be_held():
    files = {path.relative_to(CSRC).as_posix(): path.read_text(encoding="utf-8") for path in CSRC.rglob("*.[ch]")}
    assert [wrong for file, text in sorted(files.items()) for wrong in too_much(file, text)] == []
    assert sum(len(functions(text)) for file, text in files.items() if file != "pgr.h") > 500
    assert all(len(files[file].splitlines()) > LINES for file in LONG)  # otherwise, delete the exception


# ---- Python ------------------------------------------------------------------------------------------

PACKAGE = ROOT / "pygrad"
PYTHON_FLOORS = (  # from the ground up
    *("_pgr", "_core", "engine", "math", "_custom", "_gradcheck", "_program", "_record", "_views"),
    *("optim", "_learn", "nn", "_playground", "plot", "formula", "scipy", "sklearn", "__init__", "_cli", "__main__"),
    "_pyinstaller",  # imports nothing of the package
)


def python_files():
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}


def imported(tree, files):
    """The files of pygrad that a file imports, at its head or within functions."""
    modules = {file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): file for file in files}
    modules = {f"pygrad.{module}": file for module, file in modules.items()}
    modules.update({"pygrad.__init__": "__init__.py", "pygrad": "__init__.py", "pygrad._pgr": "_pgr.py"})
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {modules[alias.name] for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            found |= {modules.get(f"{node.module}.{alias.name}", modules[node.module]) for alias in node.names}
    return found


def test_imports_are_found():
    files = ["__init__.py", "engine.py", "_core/__init__.py", "_core/ops.py"]
    text = "import pygrad.engine\ndef f():\n  from pygrad._core import ops\n  from pygrad import _pgr\nimport os"
    assert imported(ast.parse(text), files) == {"engine.py", "_core/ops.py", "_pgr.py"}
    assert imported(ast.parse("from pygrad import Value"), files) == {"__init__.py"}


def test_imports_lead_down():
    files = python_files()
    arrows = {file: imported(tree, files) for file, tree in files.items()}
    floor = {file: re.split(r"[/.]", file)[0] for file in {*files, "_pgr.py"}}
    assert set(floor.values()) == set(PYTHON_FLOORS)
    assert circles(arrows) == []
    by_floor = {f"{floor[file]}/{file}": {f"{floor[x]}/{x}" for x in others} for file, others in arrows.items()}
    assert upward(by_floor, PYTHON_FLOORS) == []


def test_public_modules_are_those_of_the_docs():
    public = {module.name for module in pkgutil.iter_modules([str(PACKAGE)]) if not module.name.startswith("_")}
    assert public == {"engine", "formula", "math", "nn", "optim", "plot", "scipy", "sklearn"}
    text = "".join(path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md")))
    assert all(f"pygrad.{name}" in text for name in public)


def test_the_package_lists_what_is_public(pg):
    assert dir(pg) == pg.__all__ == sorted(pg.__all__)
    assert all(getattr(pg, name) is not None for name in pg.__all__)
    choice = next(node for node in python_files()["__init__.py"].body if isinstance(node, ast.If))
    modules, *typed = [node for node in choice.body if isinstance(node, ast.ImportFrom)]
    assert {a.name for a in modules.names} == pg._MODULES
    found = {node.module.removeprefix("pygrad."): tuple(a.name for a in node.names) for node in typed}
    signatures = found.pop("_record.signatures")  # types of what other modules define
    assert {name for home, names in pg._HOMES.items() if home not in found for name in names} == {*signatures}
    assert found == {home: names for home, names in pg._HOMES.items() if home in found}
    assert all(a.asname == a.name for node in (modules, *typed) for a in node.names)  # re-exported to type checkers


def statements(function):
    """(lines, branches) of a function without its signature and docstring; functions within it count."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    kinds = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.comprehension)
    branches = sum(isinstance(node, kinds) for part in body for node in ast.walk(part))
    return (body[-1].end_lineno - body[0].lineno + 1 if body else 0), branches


def test_statements_are_counted():
    text = 'def f(x):\n  """Doc."""\n  def g():\n    if x: pass\n  if x:\n    return 1 if x and y else 2\n  return g\n'
    assert statements(ast.parse(text).body[0]) == (5, 3)


def test_python_can_be_read_at_once():
    for file, tree in python_files().items():
        length = len((PACKAGE / file).read_text("utf-8").splitlines())
        assert length <= LINES, f"{file} has {length} lines"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                lines, branches = statements(node)
                assert lines <= FUNCTION_LINES and branches <= BRANCHES, f"{file}: {node.name} {lines} {branches}"
