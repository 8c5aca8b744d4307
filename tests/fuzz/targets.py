"""What is fuzzed: each target takes bytes from a stranger, and raises only if something is wrong with pygrad."""

from __future__ import annotations

import contextlib
import io
import math
from pathlib import Path

from pygrad import nn
from pygrad.formula import FormulaError, parse
from pygrad.optim import Adam
from pygrad.program import from_bytes
from pygrad.training import History, _load

SMALL = 10_000  # numbers in a program's arguments and results, for it to be run


def formula(data: bytes) -> None:
    """A formula is a Value, or a FormulaError that says where; evaluating it raises what Python's math does."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse(text)
    except FormulaError as error:
        assert error.position is None or 0 <= error.position <= len(text), (text, error.position)
        assert str(error)
        return
    try:
        value = found.value(**dict.fromkeys(found.names, 0.5))
    except (ArithmeticError, ValueError):
        return
    value.backward()
    assert isinstance(value.data, float)


def program(data: bytes) -> None:
    """A file is a program, which then runs, or a ValueError."""
    try:
        found = from_bytes(data, "stranger")
    except ValueError:
        return
    leaves = (*found.arguments, *found.results)
    parts = found.parts()
    lanes = sum(parts.group_lanes[i] for i in range(parts.group_count))
    if sum(1 if leaf.shape is None else math.prod(leaf.shape) for leaf in leaves) + lanes <= SMALL:
        import numpy as np

        found.run([0.5 if leaf.shape is None else np.full(leaf.shape, 0.5) for leaf in found.arguments], 1)
    str(found)


_model = nn.MLP(2, [2, 1])


def state(data: bytes) -> None:
    """A file is a model's parameters, or a ValueError that leaves the model as it was."""
    before = [p.data for p in _model.parameters()]
    try:
        _model.load(io.BytesIO(data))
    except ValueError:
        assert [p.data for p in _model.parameters()] == before


def checkpoint(data: bytes) -> None:
    """A file is a training's checkpoint, or a ValueError."""
    import numpy as np

    w = np.array([p.data for p in _model.parameters()])
    with contextlib.suppress(ValueError):
        _load(io.BytesIO(data), w, Adam(w), History())


CORPUS_FOLDER = Path(__file__).with_name("corpus")
TARGETS = {"formula": formula, "program": program, "state": state, "checkpoint": checkpoint}
