"""Both operand layers, one behaviour: the fixtures that run every test of Value over both.

The package is loaded twice, once for each layer, over the one extension module; the fixture puts the
layer's copy in sys.modules for the length of a test, so that pickle and imports see it too.
"""

from __future__ import annotations

import gc
import importlib
import os
import platform
import random
import sys
from pathlib import Path

import pytest
from browser import chromium  # noqa: F401  (a fixture)
from helpers import COUNTS

LAYERS = ["compiled", "cffi"] if platform.python_implementation() == "CPython" else ["cffi"]


def _ours():
    return [name for name in sys.modules if name == "pygrad" or (name.startswith("pygrad.") and name != "pygrad._pgr")]


def _load(layer):
    for name in _ours():
        del sys.modules[name]
    os.environ["PYGRAD_OPERANDS"] = layer
    package = importlib.import_module("pygrad")
    folder = Path(package.__file__).parent
    for file in folder.rglob("*.py"):
        parts = file.relative_to(folder).with_suffix("").parts
        if not {"portable", "sklearn", "_pyinstaller", "__main__", "__init__"} & {
            *parts
        }:  # some need scikit-learn or PyInstaller
            try:
                importlib.import_module(".".join(("pygrad", *parts)))
            except ModuleNotFoundError as error:
                if error.name != "numpy":  # only some modules need NumPy, and so do tests, which are skipped without it
                    raise
    assert package._core.layer.OPERANDS == layer
    sys.modules["pygrad._program.memory"]._FEWEST = 1  # every test of arrays is one of memory that is used again
    return {name: sys.modules[name] for name in _ours()}


_before = os.environ.get("PYGRAD_OPERANDS")
_copies = {layer: _load(layer) for layer in reversed(LAYERS)}  # the first layer stays imported
os.environ.pop("PYGRAD_OPERANDS")
if _before is not None:
    os.environ["PYGRAD_OPERANDS"] = _before


@pytest.fixture(autouse=True, scope="module")
def _collections_look_at_new_objects_only():
    """Freeze what exists, mostly libraries: thousands of tests collect, and need not look at it each time."""
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()


def pytest_collection_modifyitems(items):
    """Pages are the same over both operand layers: a browser looks at those of one."""

    def is_again(item):
        layer = item.callspec.params.get("pg", LAYERS[0]) if hasattr(item, "callspec") else LAYERS[0]
        return "chromium" in getattr(item, "fixturenames", ()) and layer != LAYERS[0]

    items[:] = [item for item in items if not is_again(item)]


_left = [0]  # nodes on the tape after the last collection between tests


@pytest.fixture(params=LAYERS)
def pg(request, monkeypatch):
    """The package `pygrad`, over one operand layer."""
    for name, module in _copies[request.param].items():
        monkeypatch.setitem(sys.modules, name, module)
    package = sys.modules["pygrad"]
    yield package
    lib, tape = package._core.layer.lib, package._core.layer.TAPE
    if COUNTS or lib.pgr_tape_size(tape) != _left[0]:  # PyPy looks at all objects there are: 0.3 s in the whole suite
        package.collect()
        _left[0] = lib.pgr_tape_size(tape)
    lib.pgr_tape_limits(tape, 1 << 14, 2**32 - 2)  # after a test with a large tape


@pytest.fixture
def Value(pg):
    return pg.Value


@pytest.fixture
def rng(request):
    """A random.Random; its seed is printed, and SEED=... runs it again."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={seed}")
    return random.Random(seed)
