"""docs/errors.md: each row's example raises its exception and message, and each `raise` in pygrad has a row."""

from __future__ import annotations

import ast
import gc
import importlib.util
import linecache
import math
import random
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import COUNTS

np = pytest.importorskip("numpy")

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "errors.md"


class Case(NamedTuple):
    code: str
    exception: str
    message: str
    advice: str


def cells(line):
    r"""The cells of a row of a Markdown table; \| is not a border."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def spans(cell):
    """The texts in backticks, as many as there need to be."""
    return [m[2].strip(" ") if len(m[1]) > 1 else m[2] for m in re.finditer(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", cell)]


def table():
    """Every row: the code is the last text in backticks of its first cell, with <br> between its lines."""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| what went wrong", "| ---")):
            what, exception, message, advice = cells(line)
            code = "\n".join(spans(what)).replace("\u00a0", " ")
            yield Case(code, exception.strip("`"), spans(message)[0], advice)


CASES = list(table())
PYTHONS_WORDS = {"parse('x +')", "parse('2x')", "nn.Layer(2)"}  # which differ before Python 3.10
CPYTHONS_WORDS = {"grad(lambda x: np.sum(x**2))([1.0, 2.0])"}
HAS_SCIPY = importlib.util.find_spec("scipy") is not None


def namespace(pg, monkeypatch):
    """The names that the examples use."""
    names = {"cli": "_cli.cli", "drawing": "_views.drawing", "formula": "formula", "nn": "nn", "optim": "optim"}
    modules = {name: sys.modules[f"pygrad.{home}"] for name, home in names.items()}
    return {
        **{name: getattr(pg, name) for name in pg.__all__},
        "pygrad": pg,
        "math": math,
        "random": random,
        "np": np,
        "nn": modules["nn"],
        "SGD": modules["optim"].SGD,
        "Adam": modules["optim"].Adam,
        "parse": modules["formula"].parse,
        "main": modules["cli"].main,
        "without_renderer": lambda: monkeypatch.setattr(modules["drawing"], "find_renderer", lambda: None),
        "__name__": "example",
    }


def outcome(pg, code, monkeypatch, tmp_path, capsys):
    """The exception's type, its message on one line, and the lines of pygrad in its traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange").write_bytes(b"hello")
    random.seed(0)
    linecache.clearcache()  # all examples have one name
    names = namespace(pg, monkeypatch)
    try:
        exec(compile(code, "example.py", "exec"), names)  # the examples are this repository's own
        if "main(" in code:
            status = eval(code, names)  # once more, for what it returns
            return f"exit {status}", " ".join(capsys.readouterr().err.split("\npygrad: error:")[0].split()), set()
    except BaseException as error:
        lines, cause = set(), error
        while cause is not None:
            traceback, cause = cause.__traceback__, cause.__context__
            while traceback is not None:
                lines.add((Path(traceback.tb_frame.f_code.co_filename), traceback.tb_lineno))
                traceback = traceback.tb_next
        message = str(error)
        if message.startswith("example.py:"):  # a RecordingError: the line of code
            message = message.partition("\n")[2]
        return type(error).__name__, " ".join(message.split()), lines
    return "nothing", "", set()


@pytest.mark.parametrize("case", CASES, ids=[case.code for case in CASES])
def test_the_table_says_what_is_raised(pg, case, monkeypatch, tmp_path, capsys):
    if case.code in PYTHONS_WORDS and sys.version_info < (3, 10):
        pytest.skip("Python 3.9 has other words for it")
    if case.code in CPYTHONS_WORDS and not COUNTS:
        pytest.skip("PyPy has other words for it")
    if not HAS_SCIPY and ("scipy" in case.code or "sparse=True" in case.code):
        pytest.skip("needs SciPy")
    exception, message, _ = outcome(pg, case.code, monkeypatch, tmp_path, capsys)
    assert (exception, message) == (case.exception, case.message)
    assert case.advice and len(message) > 15


def blocks():
    """The blocks of Python, each with the text that follows it."""
    text = TABLE.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```\n+(?:^```text\n(.*?)^```$)?", text, re.MULTILINE | re.DOTALL)


def test_the_blocks_print_the_text_that_follows(pg, capsys):
    names = {}
    assert len(blocks()) >= 4
    for code, printed in blocks():
        exec(code, names)
        assert capsys.readouterr().out == printed != ""


def test_a_first_mistake_leaves_the_tape_as_it_was(pg):
    nn, optim = sys.modules["pygrad.nn"], sys.modules["pygrad.optim"]
    model, x = nn.MLP(2, [2, 1]), pg.Value(1.0)
    for mistake in (
        lambda: pg.draw_dot(3.0),
        lambda: pg.trace([x]),
        lambda: nn.MLP(2, 4),
        lambda: nn.MLP(2, [3, "4"]),
        lambda: nn.Layer(2, 2.5),
        lambda: nn.Layer("2", 3),
        lambda: nn.Neuron(-1),
        lambda: model([1.0]),
        lambda: model([x, 2.0, x]),
        lambda: model(x),
        lambda: optim.SGD(model),
        lambda: optim.Adam([x, model]),
        lambda: optim.AdamW(model.parameters),
    ):
        gc.collect()  # what earlier errors keep in circles goes now, not in between
        before, state = pg.tape_stats(), random.getstate()
        with pytest.raises((TypeError, ValueError)):
            mistake()
        assert (pg.tape_stats(), random.getstate()) == (before, state)


# Statements without a row: text that they contain, and why.
WITHOUT_ROW = {
    "raise ImportError": "something is not installed; the message says what to install",
    "raise error": "the user's own",
    "raise raised[0]": "the same",
    "raise _UnseenError": "travel.py's own: the program is not pickled",
    "raise _DamagedError": "becomes the ValueError of a damaged file; tests/test_fuzz.py has them all",
    'raise ValueError("it has': "the same, of checkpoints",
    "a program's arrays are C-contiguous": "internal",
    "output array is read-only": "NumPy's own words; on CPython NumPy says them",
    'levels deep") from None': "of some versions of Python only; another row has the message",
    "the program cannot be written as C": "of damaged files, too",
    "raise AttributeError(name)": "Python's protocol, not a mistake",
    "raise NotImplementedError": "of machines that there are hardly any, and abstract methods",
    "raise argparse.ArgumentTypeError": "becomes a UsageError",
    "raise UsageError": "caught by main(), which prints it: the section on the command line has them",
    "raise SystemExit": "the end of the command",
    "raise MemoryError": "no mistake",
    'raise AttributeError("_op")': "Python's protocol, not a mistake",
    "raise AttributeError(f\"module 'pygrad'": "Python's own words",
    "raise self.error": "what a finaliser has met, which has its own row",
    "Path(found).stem}: {said": "depends on the machine: tests/test_draw.py has it",
    "takes one argument": "Python's own words for calls with too many arguments, which differ between the layers",
    "raise exception(text)": "statuses: below",
    "raise leaked()": "one message, which has rows",
    "are nested too deeply": "Python's own limit of recursion may come first: tests/test_called.py has it",
    "for Dask arrays it must be": "needs Dask: tests/test_dask.py has it",
    "is no node of trees here": "of pickles whose classes this process does not know: tests/test_travel.py has it",
}


def statements(pg):
    """Every raise in pygrad: its file, its lines, its text."""
    package = Path(pg.__file__).parent  # as it is installed
    others = {package / "sklearn.py"}  # which has its own tests, by scikit-learn's checks
    others |= {
        package / "_record" / "chunks.py",
        package / "_learn" / "cluster.py",
    }  # so have these: tests/test_dask.py
    if pg._core.layer.OPERANDS == "compiled":
        others |= {*(package / "_core" / "portable").glob("*.py")}
    for file in sorted(package.rglob("*.py")):
        if file not in others:
            text = file.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Raise):
                    yield file, range(node.lineno, node.end_lineno + 1), ast.get_source_segment(text, node)


@pytest.mark.skipif(not HAS_SCIPY, reason="some examples need SciPy")
def test_every_raise_has_a_row(pg, tmp_path, capsys):
    reached = set()
    for case in CASES:
        with pytest.MonkeyPatch.context() as patch:
            reached |= outcome(pg, case.code, patch, tmp_path, capsys)[2]
    missing = [
        f"{file.name}:{lines[0]}: {text}"
        for file, lines, text in statements(pg)
        if text != "raise" and not any(excused in text for excused in WITHOUT_ROW)
        if not any((file, line) in reached for line in lines)
    ]
    assert not missing, "\n" + "\n".join(missing)


def test_an_exception_that_c_could_not_keep_is_that_of_a_full_stack_or_ctrl_c(pg):
    errors, lib = pg._core.errors, pg._core.layer.lib
    with pytest.raises(KeyboardInterrupt):
        errors.fail(lib.PGR_ERR_STOPPED, 0, 0.0, 0.0)

    def deep():
        try:
            return deep()
        except RecursionError:
            pass  # and not here: for an exception within, PyPy may lack the room to note this one
        return errors.lost()

    assert isinstance(deep(), RecursionError)
