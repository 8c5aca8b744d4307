"""README.md and the guides of docs/: their code runs, and prints what they show.

A block of text is what the block of Python before it prints. Those run in an empty folder: each alone in the
README, those under one `##` heading one after another in a guide. In a console block, `$ pygrad ...` is run in process.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from helpers import COMPLETE

from pygrad._cli.cli import main
from pygrad._views.drawing import find_renderer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import blocks  # noqa: E402

GUIDES = ("arrays", "cluster", "command_line", "drawing", "loops", "micrograd", "recorded", "training")
PAGES = {"README": (ROOT / "README.md").read_text(encoding="utf-8")}
PAGES.update({name: (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in GUIDES})


def _programs():
    for page, text in PAGES.items():
        for title, program in blocks.programs(text, alone=page == "README"):
            yield pytest.param(program, id=f"{page}: {title}")


COMMANDS = [text for page in PAGES.values() for kind, text in blocks.BLOCK.findall(page) if kind == "console"]


@contextlib.contextmanager
def skipped_without_library():
    try:
        yield
    except ImportError as error:
        if COMPLETE or not re.search("numpy|NumPy|scipy|SciPy|dask|tqdm|sklearn", str(error)):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("program", list(_programs()))
def test_python_blocks_print_the_text_that_follows(program, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for source, output in program:
        if ".render(" in source and find_renderer() is None:
            pytest.skip("nothing to render graphs with")
        with skipped_without_library():
            blocks.run(source, namespace)
        assert blocks.rounded(capsys.readouterr().out) == blocks.rounded(output)


@pytest.mark.parametrize("block", COMMANDS)
def test_console_blocks_print_what_they_show(block, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command, _, expected = block.partition("\n")
    arguments = shlex.split(command)
    assert arguments[:2] == ["$", "pygrad"]
    if arguments[-1].endswith(".svg") and find_renderer() is None:
        pytest.skip("nothing to render graphs with")
    if arguments[2] == "play" and not COMPLETE:
        pytest.importorskip("sklearn")
    main(arguments[2:])
    captured = capsys.readouterr()
    assert blocks.rounded(captured.out + captured.err) == blocks.rounded(expected)


@pytest.mark.parametrize("page", PAGES)
def test_every_kind_of_block_is_known(page):
    found = blocks.BLOCK.findall(PAGES[page])
    assert {kind for kind, _ in found} <= {"console", "python", "sh", "text"}
    assert found and len(found) == PAGES[page].count("\n```") / 2


@pytest.mark.parametrize(
    "page",
    sorted([ROOT / "README.md", *ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/[a-z]*/*.md")]),
    ids=str,
)
def test_links_lead_somewhere(page):
    text = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)", text) + re.findall(r"^\[[^]]+\]: (\S+)$", text, re.MULTILINE):
        is_made = target == "gallery/index.rst"  # when the site is built
        assert is_made or target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_is_a_door():
    assert PAGES["README"].count("\n") <= 180


# ---- The table of differences, row by row, on both libraries ---------------------------------------


@pytest.fixture(params=["micrograd", "pygrad"])
def library(request):
    pytest.importorskip(f"{request.param}.engine")
    return request.param


@pytest.fixture
def engine(library):
    return importlib.import_module(f"{library}.engine").Value


def test_numbers_are_kept_by_micrograd_and_float64_in_pygrad(library, engine):
    assert type(engine(2).data) is {"micrograd": int, "pygrad": float}[library]
    if library == "pygrad":
        with pytest.raises(TypeError):
            engine("2")


def test_minus_and_divide_are_one_node_in_pygrad(library, engine):
    assert (engine(3.0) - engine(2.0))._op == {"micrograd": "+", "pygrad": "-"}[library]
    assert (engine(3.0) / engine(2.0))._op == {"micrograd": "*", "pygrad": "/"}[library]
    assert ((engine(5.0) / engine(49.0)).data == 5 / 49) is (library == "pygrad")
    assert (engine(5.0) / engine(49.0)).data == pytest.approx(5 / 49, rel=1e-15)


def test_backward_twice_compounds_in_micrograd_and_doubles_in_pygrad(library, engine):
    x = engine(3)
    y = x * x
    z = y * 2
    z.backward()
    assert x.grad == 12
    z.backward()
    assert x.grad == {"micrograd": 36, "pygrad": 24}[library]


def test_same_operand_twice_is_one_in_prev_of_both(engine):
    x = engine(1.0)
    assert (x + x)._prev == {x}


def test_same_operand_twice_has_two_edges_in_pygrad():
    pygrad = importlib.import_module("pygrad")
    x = pygrad.Value(1.0)
    y = x + x
    nodes, edges = pygrad.trace(y)
    assert type(nodes) is type(edges) is list
    assert nodes == [x, y]
    assert edges == [(x, y), (x, y)]


def test_long_chains_recurse_in_micrograd_only(library, engine):
    x = y = engine(1.0)
    for _ in range(5000):
        y = y + 1.0
    if library == "micrograd":
        with pytest.raises(RecursionError):
            y.backward()
    else:
        y.backward()
        assert x.grad == 1.0


@pytest.mark.parametrize("fn", [lambda a, b: a**b, lambda a, b: 2**b, lambda a, b: a < b])
def test_powers_and_comparisons_of_values_are_new(library, engine, fn):
    if library == "micrograd":
        with pytest.raises((AssertionError, TypeError)):
            fn(engine(2.0), engine(3.0))
    else:
        result = fn(engine(2.0), engine(3.0))
        assert getattr(result, "data", result) in (8.0, True)


def test_roots_of_negative_numbers_are_complex_in_micrograd_and_an_error_in_pygrad(library, engine):
    if library == "micrograd":
        assert isinstance((engine(-8.0) ** (1 / 3)).data, complex)
    else:
        with pytest.raises(ValueError, match=r"-8\.0"):
            engine(-8.0) ** (1 / 3)


@pytest.mark.parametrize("inputs", [[1.0], [1.0, 2.0, 3.0]])
def test_another_number_of_inputs_is_ignored_by_micrograd_and_an_error_in_pygrad(library, engine, inputs):
    model = importlib.import_module(f"{library}.nn").MLP(2, [1])
    if library == "micrograd":
        assert type(model(inputs)) is engine
    else:
        with pytest.raises(ValueError, match=f"takes 2 inputs, not {len(inputs)}"):
            model(inputs)


def test_equality_goes_by_identity_in_both(engine):
    v = engine(1.0)
    assert v == v
    assert v != engine(1.0)


def test_results_of_subclasses_are_plain_values_in_both(engine):
    class Mine(engine):
        pass

    assert type(Mine(1.0) + 1) is engine
    assert type(Mine(1.0) * Mine(2.0)) is engine
