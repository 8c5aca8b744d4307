"""The command line: what it prints and writes, and its messages to mistakes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

import pygrad
from pygrad._cli import cli, demo
from pygrad._cli.cli import main
from pygrad._views.drawing import find_renderer

needs_renderer = pytest.mark.skipif(find_renderer() is None, reason="nothing to render graphs with")
missing = [package for name, package in demo.NEEDS.items() if importlib.util.find_spec(name) is None]
needs_demo = pytest.mark.skipif(bool(missing), reason=f"the demo needs {', '.join(missing)}")


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def mistake(capsys, *argv):
    """The message to a user's mistake, without its prefix; checks its form."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("pygrad: error: ")
    assert "Traceback" not in captured.err
    return captured.err[len("pygrad: error: ") : -1]


# ---- draw ------------------------------------------------------------------------------------------


def test_draw_prints_the_value_and_the_gradient_of_each_variable(capsys):
    assert main(["draw", "x*w + b", "b=0.5", "x=2", "w=-3", "-o", "g.dot"]) == 0
    assert capsys.readouterr().out == (
        "x*w + b = -5.5\n\nvariable  value  gradient\nx           2.0      -3.0\nw          -3.0       2.0\n"
        "b           0.5       1.0\n\nIts graph: g.dot\n"
    )


def test_draw_writes_a_page_with_the_formula(capsys, tmp_path):
    assert main(["draw", "tanh(x*w)", "x=2", "w=3", "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"text":"tanh(x*w)"' in page and "other formulas: " in capsys.readouterr().out


def test_play_writes_the_page_that_trains(capsys, monkeypatch, tmp_path):
    pytest.importorskip("sklearn")
    path = tmp_path / "play.html"
    assert main(["play", "--steps", "7", "--seed", "3", "-o", str(path)]) == 0
    assert '"steps":7' in path.read_text(encoding="utf-8") and str(path) in capsys.readouterr().out
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert main(["play", "-o", str(path)]) == 1
    assert "pygrad play needs numpy, scikit-learn" in capsys.readouterr().err


def test_draw_without_variables(capsys):
    assert main(["draw", "2 + 3", "-o", "g.dot"]) == 0
    assert capsys.readouterr().out == "2 + 3 = 5.0\n\nIts graph: g.dot\n"


@pytest.mark.parametrize("name", ["g.dot", "g.gv", "G.DOT"])
def test_draw_writes_text_without_a_renderer(name, monkeypatch, tmp_path):
    monkeypatch.setattr("pygrad._views.drawing.find_renderer", lambda: None)
    assert main(["draw", "tanh(x)", "x=2", "-o", name]) == 0
    source = (tmp_path / name).read_text(encoding="utf-8")
    assert source.startswith("digraph")
    assert "tanh" in source


@needs_renderer
@pytest.mark.parametrize(
    ("arguments", "name", "start"),
    [
        ([], "graph.svg", b"<?xml"),
        (["-o", "a.svg"], "a.svg", b"<?xml"),
        (["-o", "a.png"], "a.png", b"\x89PNG"),
        (["-o", "a"], "a", b"<?xml"),
        (["-o", "a.gv", "--format", "png"], "a.gv", b"\x89PNG"),
        (["--output=a.svg"], "a.svg", b"<?xml"),
        (["--format", "png"], "graph.png", b"\x89PNG"),
        (["--format", "gv"], "graph.gv", b"digraph"),
    ],
)
def test_draw_writes_the_format_asked_for(arguments, name, start, tmp_path):
    assert main(["draw", "x*x", "x=2", *arguments]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("formula", ["-x", "-x + 4", "--x", " -x", "-o*x"])
def test_a_formula_may_start_with_a_minus(formula, capsys):
    given = ["o=1"] if "o" in formula else []
    before = ["--"] if formula.startswith("--") else []
    assert main(["draw", "-o", "g.dot", *before, formula, "x=2", *given]) == 0
    assert capsys.readouterr().out.startswith(formula.strip() + " = ")


def test_constants_can_be_given(capsys):
    assert main(["draw", "e*x", "x=3", "e=2", "-o", "g.dot"]) == 0
    assert re.search(r"^e +2\.0 +3\.0$", capsys.readouterr().out, re.MULTILINE)


def test_names_are_normalised_as_in_formulas(capsys):
    assert main(["draw", "\N{MICRO SIGN}*2", "\N{MICRO SIGN}=3", "-o", "g.dot"]) == 0
    assert " = 6.0\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x*y", "x=2"], "no value for y (given: x)\n  x*y\n    ^"),
        (["x", "x=2", "y=3"], "y is not in the formula (its variables: x)"),
        (["x", "x=abc"], "x=abc: 'abc' is not a number"),
        (["x", "x="], "x=: '' is not a number"),
        (["x", "x=1e999"], "x=1e999: must be a finite float64"),
        (["x", "x=nan"], "x=nan: must be a finite float64"),
        (["x", "x"], "'x' is not of the form NAME=NUMBER"),
        (["x", "=2"], "'=2' is not of the form NAME=NUMBER"),
        (["x", "2=2"], "'2=2' is not of the form NAME=NUMBER"),
        (["x", "if=2"], "'if=2' is not of the form NAME=NUMBER"),
        (["x", "x=1", "x=2"], "x is given twice"),
        (["log(x)", "x=-1"], "log(-1.0): the argument must be positive"),
        (["1/x", "x=0"], "1.0 / 0.0: the divisor must not be zero"),
        (["9**9**9"], "9.0 ** 387420489.0: the result is too large for a float64"),
        (
            ["x", "x=1", "-o", "g.txt"],
            "g.txt: can't write .txt files, only svg, png, pdf, dot, gv, html; or use --format",
        ),
        ([" x # 2", "x=1"], "'#' can't be in a formula\n  x # 2\n    ^"),
        (["x*exp(1, x)", "x=1"], "exp takes 1 argument, not 2\n  x*exp(1, x)\n    ^"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_place(arguments, message, capsys):
    assert mistake(capsys, "draw", *arguments) == message


def test_the_place_of_a_mistake_is_shown_in_a_long_formula(capsys):
    lines = mistake(capsys, "draw", "x+" * 100 + "foo(x)" + "+x" * 100, "x=1").splitlines()
    assert lines[1][lines[2].index("^") :].startswith("foo(x)")
    assert len(lines[1]) < 130


def test_a_folder_that_is_not_there_is_told(capsys):
    assert main(["draw", "x", "x=1", "-o", "nowhere/g.dot"]) == 2
    assert re.fullmatch(r"pygrad: error: nowhere.g\.dot: [^\n]*\n", capsys.readouterr().err)


def test_no_renderer_is_told_with_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("pygrad._views.drawing.find_renderer", lambda: None)
    assert main(["draw", "x", "x=1"]) == 1
    assert re.fullmatch(r"pygrad: error: [^\n]*pip install 'pygrad-engine\[draw\]'[^\n]*\n", capsys.readouterr().err)


def test_a_renderer_that_fails_is_told_in_one_line(capsys, monkeypatch):
    class Failing:
        def pipe(self, **_):
            raise subprocess.CalledProcessError(1, ["dot"], stderr=b'Format: "pdf" not recognized.\nmore')

    monkeypatch.setattr(cli, "draw_dot", lambda _: Failing())
    assert main(["draw", "x", "x=1", "--format", "pdf"]) == 1
    assert capsys.readouterr().err == 'pygrad: error: the renderer failed: Format: "pdf" not recognized.\n'


# ---- The command as a whole ------------------------------------------------------------------------


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pygrad {pygrad.__version__}\n"
    for argv in (["--help"], ["draw", "--help"], ["demo", "-h"], ["migrate", "-h"]):
        assert main(argv) == 0
        assert capsys.readouterr().out.startswith("usage: pygrad")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["foo"],
        ["draw"],
        ["draw", "x", "--fmt", "png"],
        ["draw", "x", "--format", "bmp"],
        ["demo", "--steps", "0"],
        ["demo", "--steps", "many"],
        ["demo", "--seed", "-1"],
        ["demo", "--seed", str(2**32)],
        ["migrate"],
        ["migrate", "nowhere"],
    ],
)
def test_wrong_arguments_are_told_in_one_line(argv, capsys):
    assert "\n" not in mistake(capsys, *argv)


def test_an_interrupt_shows_no_traceback(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "pygrad: interrupted\n"


def test_python_dash_m_runs_it(tmp_path):
    def run(*argv):
        return subprocess.run([sys.executable, "-m", "pygrad", *argv], capture_output=True, text=True, timeout=60)

    done = run("draw", "x**2", "x=3", "-o", "g.dot")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("x**2 = 9.0\n")
    assert (tmp_path / "g.dot").exists()
    wrong = run("draw", "x**")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("pygrad: error: ")
    assert wrong.stdout == ""


# ---- demo ------------------------------------------------------------------------------------------


def test_the_neuron_has_the_gradients_of_the_lecture():
    o = demo.neuron()
    o.backward()
    grads = {v.label: v.grad for v in pygrad.trace(o)[0]}
    assert o.data == pytest.approx(0.7071067811865476)
    assert grads == pytest.approx(
        {"x1": -1.5, "x2": 0.5, "w1": 1.0, "w2": 0.0, "b": 0.5, "n": 0.5, "o": 1.0}
        | dict.fromkeys(["x1*w1", "x2*w2", "x1*w1 + x2*w2"], 0.5)
    )


def test_tables_align_their_columns():
    assert demo.table(("", "data"), [("a", 1.0), ("longer", -0.25)]) == "         data\na         1.0\nlonger  -0.25"


@needs_renderer
@needs_demo
@pytest.mark.filterwarnings("default")  # plotting libraries have warnings of their own
def test_demo_draws_the_neuron_and_learns_the_moons(capsys, tmp_path):
    assert main(["demo", "--steps", "2", "--out", "some/where"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^x1 +2\.0 +-1\.[45]\d*$", out, re.MULTILINE)
    loss, accuracy = re.search(r"^step 1: loss (\S+), accuracy (\d+)%$", out, re.MULTILINE).groups()
    # What micrograd itself gives.
    assert float(loss) == pytest.approx(1.723590533697202, rel=1e-9)
    assert int(accuracy) == 81
    assert re.search(r"^training took \d+\.\d\d s$", out, re.MULTILINE)
    assert (tmp_path / "some" / "where" / "neuron.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "some" / "where" / "moons.png").read_bytes().startswith(b"\x89PNG")


@needs_demo
@pytest.mark.filterwarnings("default")
def test_scores_in_numpy_agree_with_the_model():
    trained = demo.train(1, 1)
    assert demo.scores(trained.model, trained.X) == pytest.approx([trained.model(list(x)).data for x in trained.X])


def test_demo_without_its_packages_still_shows_the_neuron(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(demo, "NEEDS", {"sklearn": "scikit-learn", "tqdm": "tqdm"})
    monkeypatch.setattr("pygrad._views.drawing.find_renderer", lambda: None)
    assert main(["demo"]) == 1
    captured = capsys.readouterr()
    assert "x1*w1 + x2*w2" in captured.out
    no_renderer, needs = captured.err.splitlines()
    assert "pip install 'pygrad-engine[draw]'" in no_renderer
    assert needs == "pygrad demo needs scikit-learn, tqdm: pip install 'pygrad-engine[demo]'"
    assert list((tmp_path / "pygrad-demo").iterdir()) == []


def test_a_demo_folder_that_is_a_file_is_told(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    assert mistake(capsys, "demo", "--out", "taken").startswith("taken: ")
