"""The examples in docstrings run and print what they say, and every public callable has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import pygrad

pytest.importorskip("numpy")  # some examples need these
pytest.importorskip("networkx")
pyplot = pytest.importorskip("matplotlib.pyplot")
pyplot.switch_backend("Agg")


def _modules():
    """Every module but the portable layer's, whose import would replace the compiled layer's callbacks."""
    folder = Path(pygrad.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        if not {"portable", "_pyinstaller", "__init__", "__main__"} & {*parts}:
            try:
                yield importlib.import_module(".".join(("pygrad", *parts)))
            except ImportError:
                if parts != ("sklearn",):  # which needs scikit-learn
                    raise


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    dot = doctest.DocTestParser().get_doctest(pygrad.dot.__doc__, {}, "pygrad.dot", None, None)
    yield pytest.param(dot, id="pygrad.dot")  # compiled: the finder passes it by
    for module in [pygrad, *_modules()]:
        for test in finder.find(module):
            if test.examples:
                yield pytest.param(test, id=test.name)


EXAMPLES = list(_examples())


@pytest.mark.parametrize("test", EXAMPLES)
def test_examples_in_docstrings_print_what_they_say(test, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    runner.run(test, out=told.append, clear_globs=False)
    pyplot.close("all")
    assert runner.failures == 0, "".join(told)


PUBLIC = ["", ".formula", ".math", ".nn", ".optim", ".plot", ".scipy.special", ".scipy.stats.norm", ".sklearn"]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_callable_has_an_example(name):
    if name == ".sklearn":
        pytest.importorskip("sklearn")
    module = importlib.import_module(f"pygrad{name}")
    public = {key: getattr(module, key) for key in module.__all__}
    without = {key for key, x in public.items() if callable(x) and not _has_one(x)}
    assert without == set()


def _has_one(x):
    return bool(doctest.DocTestParser().get_examples(x.__doc__ or ""))
