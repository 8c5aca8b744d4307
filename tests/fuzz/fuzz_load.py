#!/usr/bin/env python3
"""Any bytes as a file that pygrad loads, or as the arguments of a pickle: loaded, or refused as documented.

The first byte says which: P a program; H a program, with the right length of its header; Z a module's .npz; N one made
from entries, with the right checksums; C and K the same for checkpoints; R the arguments of pygrad.engine._restore, as
JSON.

`python tests/fuzz/fuzz_load.py -runs=1000000 tests/fuzz/corpus/load` (atheris); `check` alone needs nothing.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import tempfile
import zipfile
from pathlib import Path

MOST_NUMBERS = 100_000  # in the arguments and results of a program; larger ones are not run
FILE = Path("fuzz_load.file")  # what is written and loaded


def check(data: bytes) -> str:
    """One input. Returns 'refused', 'loaded', 'run', or 'none' if the first byte is not one of these."""
    kinds = {b"P": _program, b"H": _header, b"Z": _module, b"N": _module, b"C": _checkpoint, b"K": _checkpoint}
    kind, rest = data[:1], data[1:]
    if kind == b"R":
        return _restore(rest)
    if kind not in kinds:
        return "none"
    if kind in b"NK":
        rest = _zipped(rest)
    try:
        return kinds[kind](rest)
    except ValueError as error:
        assert 0 < len(str(error)) < 5000, f"a message of {len(str(error))} characters"
        return "refused"


def _program(data: bytes) -> str:
    from pygrad import Program

    FILE.write_bytes(data)
    try:
        program = Program.load(FILE)
    except ValueError as error:
        assert str(error).startswith(f"{FILE}: not a program, or a damaged one"), error
        raise
    inside, outside = program.code.sizes()
    repr(program)
    if sum(inside) + sum(outside) > MOST_NUMBERS or program.stats.instructions > 5000:
        return "loaded"
    program.listing(50)
    program.to_c("f")
    parts = program.code.parts()
    lanes = [parts.group_lanes[i] for i in range(parts.group_count)]
    if (
        max([0, *lanes]) * (program.stats.instructions + sum(parts.dots[i].count for i in range(parts.dot_count)))
        > 10**6
    ):
        return "loaded"
    import numpy as np

    program.run([1.0 if leaf.shape is None else np.ones(leaf.shape) for leaf in program.arguments])
    return "run"


def _header(data: bytes) -> str:
    from pygrad._program.files import _MAGIC

    length = min(int.from_bytes(data[:2], "little"), len(data[2:]))
    return _program(_MAGIC + f"{length}\n".encode() + data[2:])


def _zipped(data: bytes) -> bytes:
    """A .npz of entries: the length of a name, the name, the length of the contents (two bytes), the contents."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        while data:
            end = 1 + data[0]
            name = data[1:end].decode("latin-1")
            size = int.from_bytes(data[end : end + 2], "little")
            if name not in archive.namelist():
                archive.writestr(zipfile.ZipInfo(name), data[end + 2 : end + 2 + size])
            data = data[end + 2 + size :]
    return file.getvalue()


def _module(data: bytes) -> str:
    from pygrad.nn import MLP

    if not _MODELS:
        _MODELS.append(MLP(2, [2, 1]))
    model = _MODELS[0]
    FILE.write_bytes(data)
    before = [p.data for p in model.parameters()]
    try:
        model.load(FILE)
    except ValueError:
        assert [p.data for p in model.parameters()] == before
        raise
    for p in model.parameters():
        p.data = 0.5
    return "loaded"


_MODELS: list = []


def _checkpoint(data: bytes) -> str:
    import numpy as np

    from pygrad._learn.checkpoint import load
    from pygrad._learn.history import History
    from pygrad.optim import Adam

    w = np.zeros(9)
    optimizer, history = Adam(w), History()
    before = optimizer.state_dict()
    FILE.write_bytes(data)
    try:
        epoch, (best, best_epoch, best_w) = load(FILE, w, optimizer, history)
    except ValueError as error:
        assert str(FILE) in str(error), error
        assert optimizer.state_dict() == before and not w.any() and not history.loss
        raise
    assert len(history.loss) == len(history.seconds) == epoch and 0 <= best_epoch < max(1, epoch)
    assert isinstance(best, float) and best_w.shape == w.shape and best_w.dtype == float
    optimizer.step(np.ones(9))  # passes the settings to C
    return "loaded"


def _restore(data: bytes) -> str:
    """Arguments of _restore as JSON: "Value" and "a", "b" stand for the class and two Values."""
    from pygrad import collect
    from pygrad.engine import Value, _restore, tape_stats

    try:
        arguments = json.loads(data)
    except (ValueError, RecursionError):
        return "none"
    if not isinstance(arguments, list) or len(arguments) != 6:
        return "none"
    known = {"Value": Value, "dict": dict, "a": Value(2.0), "b": Value(-3.0)}

    def of(x):
        return known.get(x, x) if isinstance(x, str) else tuple(map(of, x)) if isinstance(x, list) else x

    kind, name, number, grad, operands, param = (math.nan if x is None else of(x) for x in arguments)
    before = tape_stats()
    try:
        value = _restore(kind, None, name, number, grad, operands, param)
    except (ValueError, TypeError) as error:
        assert 0 < len(str(error)) < 5000
        after = tape_stats()  # Python's collector may have freed what earlier inputs left
        assert after.nodes <= before.nodes and after.handles <= before.handles, "something is left on the tape"
        return "refused"
    assert isinstance(value.data, float) and repr(value) and isinstance(value._op, str)
    value.backward()
    copy = _restore(*value.__reduce_ex__(4)[1])
    assert copy._op == value._op and len(copy._operands()) == len(value._operands())
    if tape_stats().nodes > 10_000:
        collect()
    return "run"


def _once(data: bytes) -> None:
    check(data)


if __name__ == "__main__":
    import atheris

    ours = [
        "pygrad._program.files",
        "pygrad._learn.npz",
        "pygrad.nn",
        "pygrad._learn.checkpoint",
        "pygrad.optim",
        "pygrad.engine",
    ]
    with atheris.instrument_imports(include=ours):
        import pygrad._learn.fit  # noqa: F401
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        FILE = Path(folder) / "file"
        atheris.Setup(sys.argv, _once)
        atheris.Fuzz()
