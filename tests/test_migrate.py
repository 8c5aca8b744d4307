"""`pygrad migrate`: what it changes, leaves alone and reports; migrated programs run as before."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pygrad._cli.cli import main
from pygrad._cli.migrate import examine


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def migrated(before, name="a.py"):
    """A program's text after `pygrad migrate --write`."""
    Path(name).write_bytes(before.encode())
    main(["migrate", "--write", name])
    return Path(name).read_bytes().decode()


def notes(before, name="a.py"):
    """The report about a program: {line: text}."""
    Path(name).write_bytes(before.encode())
    found = examine(Path(name))
    assert not found.errors
    return {int(line.split(":")[1]): line.split(": ", 1)[1] for line in found.advice()}


# ---- Imports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import micrograd", "import pygrad"),
        ("import micrograd.engine", "import pygrad.engine"),
        ("import micrograd.engine as mg\nmg.Value(1)", "import pygrad.engine as mg\nmg.Value(1)"),
        ("from micrograd.engine import Value", "from pygrad.engine import Value"),
        ("from micrograd.engine import Value as V, Value", "from pygrad.engine import Value as V, Value"),
        ("from micrograd import nn, engine as e", "from pygrad import nn, engine as e"),
        (
            "from micrograd.nn import (\n    MLP,  # of\n    Layer,)",
            "from pygrad.nn import (\n    MLP,  # of\n    Layer,)",
        ),
        ("from micrograd.nn import *", "from pygrad.nn import *"),
        ("from \\\n  micrograd . nn import MLP", "from \\\n  pygrad . nn import MLP"),
        (
            "import os, micrograd.engine , micrograd.nn as n, sys; import micrograd # micrograd",
            "import os, pygrad.engine , pygrad.nn as n, sys; import pygrad # micrograd",
        ),
        ("import micrograd.nn\nmicrograd.nn.MLP(2, [1])", "import pygrad.nn\npygrad.nn.MLP(2, [1])"),
        (
            "def f(x=1):\n\timport micrograd.engine\n\tif x: import micrograd; return micrograd.engine.f(micrograd=x)",
            "def f(x=1):\n\timport pygrad.engine\n\tif x: import pygrad; return pygrad.engine.f(micrograd=x)",
        ),
        (
            "try:\n    from micrograd.engine import Value\nexcept ImportError:\n    Value = None",
            "try:\n    from pygrad.engine import Value\nexcept ImportError:\n    Value = None",
        ),
        (
            "import micrograd\n'é'; x.micrograd = micrograd.y; f'é{micrograd.z!r:>{micrograd.w}}'",
            "import pygrad\n'é'; x.micrograd = pygrad.y; f'é{pygrad.z!r:>{pygrad.w}}'",
        ),
        (
            "def f():\n    global micrograd\n    import micrograd\ndel micrograd",
            "def f():\n    global pygrad\n    import pygrad\ndel pygrad",
        ),
        (
            "def f():\n  import micrograd\n  def g():\n    nonlocal micrograd; import micrograd",
            "def f():\n  import pygrad\n  def g():\n    nonlocal pygrad; import pygrad",
        ),
        (
            "import pygrad\nimport micrograd\nmicrograd.x is pygrad.x",
            "import pygrad\nimport pygrad\npygrad.x is pygrad.x",
        ),
        ("#\f\nimport micrograd\n'\x0b\x1c\u2028'; micrograd.x", "#\f\nimport pygrad\n'\x0b\x1c\u2028'; pygrad.x"),
    ],
)
def test_imports_and_uses_are_renamed(before, after):
    assert migrated(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "try:\n    import micrograd.nn, os\nexcept ImportError:\n    micrograd = None",
            "try:\n    import pygrad.nn, pygrad as micrograd, os\nexcept ImportError:\n    micrograd = None",
        ),
        (
            "import micrograd\ndef f(micrograd): return micrograd + 1\nmicrograd.engine",
            "import pygrad as micrograd\ndef f(micrograd): return micrograd + 1\nmicrograd.engine",
        ),
        ("import micrograd\npygrad = 3\nmicrograd.x", "import pygrad as micrograd\npygrad = 3\nmicrograd.x"),
        ("import micrograd\nclass pygrad: pass", "import pygrad as micrograd\nclass pygrad: pass"),
        ("import micrograd as micrograd", "import pygrad as micrograd"),
        ("import micrograd\nfrom x import *\npygrad", "import pygrad as micrograd\nfrom x import *\npygrad"),
    ],
)
def test_a_name_that_stands_for_something_else_too_stays(before, after):
    assert migrated(before) == after


@pytest.mark.parametrize(
    "program",
    [
        "from .micrograd import Value\nfrom . import micrograd\nmicrograd.x",
        "import mymicrograd, micrograd2.engine, my.micrograd",
        "x = 'import micrograd'  # import micrograd\n",
        "micrograd = 3\n",
        "",
        "# from micrograd.engine import Value",
    ],
)
def test_programs_without_micrograd_are_not_touched(program, capsys):
    path = Path("a.py")
    path.write_bytes(program.encode())
    before = path.stat()
    assert main(["migrate", "a.py"]) == main(["migrate", "--write", "a.py"]) == 0
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == (
        program.encode(),
        before.st_ino,
        before.st_mtime_ns,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"import micrograd\r\n'''a\r\n\r'''\rmicrograd.x\r\n", b"import pygrad\r\n'''a\r\n\r'''\rpygrad.x\r\n"),
        (b"\xef\xbb\xbfimport micrograd\n", b"\xef\xbb\xbfimport pygrad\n"),
        (
            b"# -*- coding: latin-1 -*-\n'\xe9'; import micrograd; micrograd.\xe9 #\xff",
            b"# -*- coding: latin-1 -*-\n'\xe9'; import pygrad; pygrad.\xe9 #\xff",
        ),
        (
            b"#!/usr/bin/python\n# vim: set fileencoding=cp1251 :\nimport micrograd # \xcf",
            b"#!/usr/bin/python\n# vim: set fileencoding=cp1251 :\nimport pygrad # \xcf",
        ),
    ],
)
def test_line_ends_and_encodings_are_kept(before, after):
    Path("a.py").write_bytes(before)
    assert main(["migrate", "--write", "a.py"]) == 0
    assert Path("a.py").read_bytes() == after


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"x = (\nimport micrograd", r"a\.py:\d: does not parse: "),
        (b"import micrograd\n\xff", "a.py: cannot be read: "),
        (b"# coding: nonsense\nimport micrograd", "a.py: cannot be read: "),
        (b"import micrograd\n\0", "a.py:"),
        (b"import micrograd\nx = " + b"(" * 500 + b")" * 500, "a.py"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_and_the_others_are_changed(content, why, capsys):
    Path("a.py").write_bytes(content)
    Path("b.py").write_text("import micrograd")
    assert main(["migrate", "--write", "."]) == 1
    error = capsys.readouterr().err
    assert re.match(f"pygrad: error: {why}", error) and error.count("\n") == 1
    assert Path("a.py").read_bytes() == content
    assert Path("b.py").read_text() == "import pygrad"


# ---- Files and the command -------------------------------------------------------------------------


def test_without_write_a_unified_diff_is_shown_and_nothing_changed(capsys):
    Path("a.py").write_text("import os\nimport micrograd\nx = 3\n")
    assert main(["migrate", "a.py"]) == 1
    assert capsys.readouterr().out == (
        "--- a.py\n+++ a.py\n@@ -1,3 +1,3 @@\n import os\n-import micrograd\n+import pygrad\n x = 3\n"
        "1 of 1 file would change: --write changes them\n"
    )
    assert Path("a.py").read_text() == "import os\nimport micrograd\nx = 3\n"
    assert main(["migrate", "--write", "a.py"]) == 0
    assert capsys.readouterr().out == "a.py: changed\n1 of 1 file changed\n"
    assert main(["migrate", "a.py"]) == 0


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs patch")
def test_the_diff_is_one_that_patch_applies(capsys):
    text = "import micrograd\n" + "x = 1\n" * 20 + "micrograd.engine"
    Path("a.py").write_text(text)
    main(["migrate", "a.py"])
    diff = capsys.readouterr().out.rpartition("1 of 1")[0]
    done = subprocess.run(["patch", "-p0"], input=diff, text=True, capture_output=True)
    assert done.returncode == 0, done
    assert Path("a.py").read_text() == text.replace("micrograd", "pygrad")


def test_folders_are_looked_through_but_for_those_of_others(capsys):
    for name in ("a.py", "b/c.py", "b/d.txt", ".git/e.py", "env/f.py", "lib/site-packages/g.py", "b/__pycache__/h.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("import micrograd")
    Path("env/pyvenv.cfg").write_text("")
    Path("link.py").symlink_to("a.py")
    assert main(["migrate", "--write", ".", "a.py", "b/d.txt"]) == 0
    assert capsys.readouterr().out == "a.py: changed\nb/c.py: changed\nb/d.txt: changed\n3 of 3 files changed\n"
    assert Path("link.py").is_symlink()
    assert Path("env/f.py").read_text() == Path(".git/e.py").read_text() == "import micrograd"


def test_a_path_that_is_not_there_is_told_before_anything_is_changed(capsys):
    Path("a.py").write_text("import micrograd")
    assert main(["migrate", "--write", "a.py", "nowhere"]) == 2
    assert capsys.readouterr().err == "pygrad: error: nowhere: no such file or folder\n"
    assert Path("a.py").read_text() == "import micrograd"


def test_a_folder_that_cannot_be_written_to_is_told(capsys, monkeypatch):
    Path("a.py").write_text("import micrograd")
    monkeypatch.setattr("pygrad._cli.cli.write", lambda path, data: Path("nowhere/x").write_bytes(data))
    assert main(["migrate", "--write", "a.py"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(capsys):
    Path("a.py").write_text("import micrograd # \x1b[31m\x07")
    main(["migrate", "a.py"])
    out = capsys.readouterr().out
    assert "\\x1b[31m\\x07" in out and not re.search("[\x00-\x08\x0b-\x1f]", out)


# ---- Notebooks -------------------------------------------------------------------------------------


def notebook(*cells, **extra):
    made = [
        {
            "cell_type": kind,
            "metadata": {},
            "source": source,
            **({"execution_count": 1, "outputs": [{"text": ["import micrograd\n"]}]} if kind == "code" else {}),
        }
        for kind, source in cells
    ]
    return {
        "cells": made,
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
        **extra,
    }


CELLS = [
    ("markdown", ["import micrograd"]),
    ("code", ["%matplotlib inline\n", "import micrograd.engine  # é\n", "from micrograd.nn import MLP"]),
    ("code", "%%time\nx = micrograd.engine.Value(1.0)\ny = (x\n  % 3)\ns = '''\n!ls\n'''\nfiles = !ls\nx?"),
    ("code", []),
    ("code", ["if x:\n", "    !echo it's \\\n", "   more\n", "    %cd foo\n", "else:\n", "    micrograd.nn\n"]),
    ("code", "%%html\n<a href='x'>it's</a>"),
    ("raw", "import micrograd"),
]


@pytest.mark.parametrize(
    "style",
    [
        {"indent": 1, "ensure_ascii": False},
        {"indent": 2},
        {"separators": (",", ":")},
        {"indent": "\t", "sort_keys": True},
    ],
)
def test_a_notebooks_cells_are_one_program_and_its_json_keeps_its_form(style):
    cells = notebook(*CELLS)
    before = json.dumps(cells, **style) + "\n"
    text = migrated(before, "a.ipynb")
    for cell in cells["cells"]:
        if cell["cell_type"] == "code":
            source = cell["source"]
            cell["source"] = (
                source.replace("micrograd", "pygrad")
                if isinstance(source, str)
                else [line.replace("micrograd", "pygrad") for line in source]
            )
    assert text == json.dumps(cells, **style) + "\n" != before


def test_notebooks_of_version_3_crlf_and_a_mark_are_read():
    cells = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["import micrograd\n", "micrograd.x"]}]}]}
    text = "\ufeff" + json.dumps(cells, indent=1).replace("\n", "\r\n")
    assert migrated(text, "a.ipynb") == text.replace("micrograd", "pygrad")


def test_notebooks_in_other_languages_and_with_no_code_are_left_alone():
    for cells in (
        notebook(("code", "import micrograd"), metadata={"kernelspec": {"language": "julia"}}),
        notebook(("markdown", "import micrograd")),
    ):
        assert migrated(json.dumps(cells), "a.ipynb") == json.dumps(cells)


def test_magics_that_name_micrograd_are_named_and_keep_their_names_valid(capsys):
    cells = notebook(
        ("code", "!pip install micrograd"),
        ("code", "%pip install -q \\\n  micrograd\nimport micrograd.engine"),
        ("code", "%%bash\npip install micrograd"),
    )
    text = migrated(json.dumps(cells), "a.ipynb")
    assert "import pygrad.engine" in text and "as micrograd" not in text
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        f"a.ipynb:cell {place}: '{line}' names micrograd and is left alone: {hint}"
        for place, line, hint in (
            ("1:1", "!pip install micrograd", "install pygrad there, as its README says"),
            ("2:2", "%pip install -q \\\\ micrograd", "install pygrad there, as its README says"),
            ("3:2", "pip install micrograd", "install pygrad there, as its README says"),
        )
    ]
    cells = notebook(("code", "import micrograd.engine"), ("code", "%timeit micrograd.engine.Value(1.0) * 2"))
    assert "import pygrad.engine, pygrad as micrograd" in migrated(json.dumps(cells), "a.ipynb")


@pytest.mark.parametrize(
    "content",
    ["micrograd", "[1, 'micrograd']", '["micrograd"]', '{"cells": ["micrograd"]}', '{"cells": 3.5, "micrograd": 1}'],
)
def test_files_that_are_no_notebooks_are_told(content, capsys):
    Path("a.ipynb").write_text(content)
    assert main(["migrate", "."]) == 1
    assert capsys.readouterr().err.startswith("pygrad: error: a.ipynb: not a notebook: ")


def test_a_cell_that_does_not_parse_is_told_and_the_others_are_changed(capsys):
    cells = notebook(("code", "import micrograd"), ("code", "x = (\nmicrograd.x"), ("code", "micrograd.y"))
    text = migrated(json.dumps(cells), "a.ipynb")
    assert re.fullmatch(r"pygrad: error: a.ipynb:cell 2:\d: does not parse: [^\n]*\n", capsys.readouterr().err)
    # The second cell still finds the name.
    assert [cell["source"] for cell in json.loads(text)["cells"]] == [
        "import pygrad as micrograd",
        "x = (\nmicrograd.x",
        "micrograd.y",
    ]


# ---- What is reported ------------------------------------------------------------------------------

HEAD = "from micrograd.engine import Value\nfrom micrograd.nn import MLP\na = Value(1.0); b = Value(2.0)\n"  # 3 lines


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("importlib.import_module('micrograd.engine')", "left alone"),
        ("sys.modules['micrograd']", "left alone"),
        ("exec('from micrograd.nn import MLP')", "left alone"),
        ("os.system('pip install micrograd')", "install pygrad there"),
        ("def f(x: 'micrograd.engine.Value'): pass", "left alone"),
        ("from micrograd import *", "import the names that are used"),
        ("from micrograd.engine import Tensor", "pygrad.engine has no Tensor"),
        ("import micrograd.layers", "pygrad.layers does not exist"),
        ("from micrograd import layers", "pygrad has no layers"),
        ("if a._op == '-': pass", "one node each"),
        ("if a._op in ('+', '*'): pass", "one node each"),
        ("f = table[a._op]", "one node each"),
        ("a.backward(); a.backward()", "second backward()"),
        ("for _ in range(3): a.backward()", "second backward()"),
        ("Value('2')", "raises TypeError"),
        ("Value([1, 2])", "raises TypeError"),
        ("Value(1 + 2j)", "raises TypeError"),
        ("Value(Fraction(1, 3))", "Fraction to float64"),
        ("Value(2**0 + 9007199254740993)", "53 bits"),
        ("xs[a.data]", "int(v.data)"),
        ("range(a.data)", "int(v.data)"),
        ("isinstance(a.data, int)", "int(v.data)"),
        ("assert repr(a) == 'Value(data=1, grad=0)'", "float64"),
        ("MLP(2, [1])([1.0, 2.0, 3.0])", "3 inputs for 2"),
        ("m = MLP(3, [1]); m([1.0, 2.0])", "2 inputs for 3"),
        ("try: pass\nexcept RecursionError: pass", "does not recurse"),
    ],
)
def test_what_behaves_otherwise_is_named_with_its_line(line, word):
    found = notes(HEAD + line)
    assert len(found) == 1
    (number, text), *_ = found.items()
    assert number == 4 + line.count("\n") and word in text


@pytest.mark.parametrize(
    "line",
    [
        "if a._op == 'ReLU' or a._op == '' or a._op: pass",
        "if a._op == other: pass",
        "f = {'+': 1, '-': 2, '*': 3, '/': 4}[a._op]",
        "if a._op == '+': pass\nelif a._op in '-/' or a._op == '-' or a._op == '/': pass",
        "a.backward(); b.backward()",
        "a.backward(); a = a * 2; a.backward()",
        "for x in (a, b): x.backward()",
        "for _ in range(3):\n    y = a * b\n    y.backward()",
        "for _ in range(3):\n    def f(y): y.backward()",
        "if a: a.backward()\nelse: a.backward()",
        "Value(2); Value(-3); Value(x); Value(float('2')); Value(random.uniform(-1, 1)); Value(data=1.0)",
        "xs[data]; range(data); range(len(a.data)); xs[i.index]; isinstance(a.data, float)",
        "f'Value(data={a.data})'; print('Values')",
        "MLP(2, [1])([1.0, 2.0]); MLP(2, [1])(x); MLP(n, [1])([1.0]); MLP(2, [1])([*x])",
        "m = MLP(3, [1]); m = MLP(2, [1]); m([1.0, 2.0])",
        "from micrograd.nn import random, Module, Value as V",
        "'''Written after micrograd, of which much comes from micrograd.'''",
        "sys.setrecursionlimit(10**6)",
    ],
)
def test_what_behaves_alike_is_not_named(line):
    assert notes(HEAD + line) == {}


OWN = """class Node(object):
    def __init__(self, data, _children=()):
        self.data, self.grad, self._prev = data, 0, set(_children)
        self._backward = lambda: None
    def __repr__(self):
        return "Value(data=" + str(self.data)
    def backward(self):
        for v in (self, *self._prev):
            v._backward(); assert v._op == "+"
"""


def test_a_value_of_ones_own_is_named_and_nothing_within_it():
    own = (
        "defines a Value of its own, class Node: delete it and import pygrad's: from pygrad.engine import Value as Node"
    )
    assert notes(OWN) == {1: own}
    assert main(["migrate", "a.py"]) == 0
    assert list(notes(OWN + "a._op == '-'")) == [1, 10]
    for other in ("(Value)", "(nn.Module)"):
        assert notes(OWN.replace("(object)", other)) == {}
    microgpt = (
        "class Value:\n  def backward(self):\n    for c, g in zip(self._children, self._local_grads): c.grad += g"
    )
    assert notes(microgpt)[1].endswith("from pygrad.engine import Value")


# ---- Migrated programs -----------------------------------------------------------------------------

PROGRAM = """
import random
import micrograd.engine, micrograd.nn as nn
from micrograd.engine import Value

random.seed(3)
model = nn.MLP(2, [4, 1])
for step in range(5):
    loss = micrograd.engine.Value(0.0)
    for x, y in (([0.5, -1.0], 1.0), ([2.0, 0.25], -1.0)):
        loss = loss + (model([Value(v) for v in x]) - y) ** 2
    model.zero_grad()
    loss.backward()
    for p in model.parameters():
        p.data -= 0.05 * p.grad
    print(step, round(loss.data, 9), round(sum(p.grad for p in model.parameters()), 9))
print(model, loss._op, len(loss._prev))
"""


def test_a_migrated_program_prints_what_it_printed(capsys):
    def output(name, *hidden):
        code = f"import sys\nfor m in {hidden}: sys.modules[m] = None\n"
        code += f"exec(compile(open({name!r}).read(), {name!r}, 'exec'))"
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    Path("a.py").write_text(PROGRAM)
    cells = [("code", part) for part in PROGRAM.split("\n\n")]
    Path("b.ipynb").write_text(json.dumps(notebook(*cells)))
    before = output("a.py", "pygrad")
    assert before.count("\n") == 6
    assert main(["migrate", "--write", "."]) == 0
    Path("b.py").write_text("\n\n".join(cell["source"] for cell in json.loads(Path("b.ipynb").read_text())["cells"]))
    assert output("a.py", "micrograd") == output("b.py", "micrograd") == before


def test_micrograds_own_tests_are_migrated():
    text = (Path(__file__).parent / "micrograd_test_engine.py").read_text(encoding="utf-8")
    before = text.replace("from pygrad", "from micrograd")
    assert before != text
    assert migrated(before) == text
