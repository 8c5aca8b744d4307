"""Writes the seeds of tests/fuzz/corpus, small programs, files and formulas: `python tests/fuzz/seeds.py`."""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pygrad import Program, cond, grad, jit, scan, value_and_grad, vmap, while_loop
from pygrad._learn.checkpoint import save
from pygrad._learn.history import Best, History
from pygrad._program.code import ARRAYS, count_of, parts_of
from pygrad._program.files import to_bytes
from pygrad.engine import ffi
from pygrad.nn import MLP
from pygrad.optim import Adam

CORPUS = Path(__file__).parent / "corpus"


def mean_loss(w, X, y):
    return vmap(lambda x, t: ((w[0] * x[0] + w[1] * x[1]).tanh() - t) ** 2, reduce="mean")(X, y)


def rows(w, x):
    return scan(lambda h, r: ((w * h + r).sum() if x.ndim > 1 else w * h + r, None), 0.5, x)[0]


def halved(x):
    return while_loop(lambda c: c > 0.1, lambda c: c * 0.5, x, max_steps=4)


def programs() -> dict[str, Program]:
    """Programs that together have every kind of instruction and segment."""
    X, y = np.ones((40, 2)), np.ones(40)
    return {
        "scalar": jit(lambda x: x.exp() + 2 * x).program(1.0),
        "neuron": value_and_grad(lambda x, w: (x * w + 0.5).tanh(), argnums=(0, 1)).program(1.0, 2.0),
        "dot": jit(lambda x, w: x @ w).program(np.ones(20), np.ones(20)),
        "alike": jit(lambda x: [v.sin() for v in x]).program(np.ones(12)),
        "lanes": jit(vmap(lambda x: x.relu() * x.sqrt())).program(np.ones(20)),
        "lane dot": jit(vmap(lambda x: x @ x)).program(np.ones((5, 4))),
        "sum": jit(mean_loss).program(np.ones(2), X, y),
        "gradient": grad(mean_loss).program(np.ones(2), X, y),
        "two groups": jit(
            lambda a, b: vmap(lambda x: x.sin(), reduce="sum")(a) * vmap(lambda x: x.max(0.5))(b)
        ).program(np.ones(17), np.ones(3)),
        "dict": jit(lambda d: {"k": d["a"] / d["b"], "l": [d["a"] ** 3]}).program({"a": 1.0, "b": np.ones(2)}),
        "loop": grad(rows).program(0.5, np.ones((3, 2))),
        "nested loops": jit(lambda c: scan(lambda c, _: (rows(c, np.ones(2)), None), c, None, length=2)[0]).program(
            0.5
        ),
        "loop of lanes": vmap(halved).program(np.ones(3)),
        "branches": jit(lambda x: cond(x > 0, lambda x: x.sin(), lambda x: x * x, x)).program(1.0),
        "branches of lanes": vmap(lambda x: cond(x > 0, lambda x: x.sin(), lambda x: x * x, x)).program(np.ones(3)),
        "constant": jit(lambda x: x * np.arange(3.0)).program(np.ones(3)),
    }


def parts(program: Program) -> bytes | None:
    """A program as fuzz_program.c reads it."""
    inside, outside = program.code.sizes()
    p = program.code.parts()
    if len(inside) > 3 or len(outside) > 3 or max(*inside, *outside) >= 512:
        return None
    return record(p, [*inside, *[0] * (3 - len(inside)), *outside, *[0] * (3 - len(outside))])


def record(p: Any, sizes: list[int]) -> bytes:
    """Parts, and those of the programs that are called, whose arrays have any sizes."""
    counts = [p.instruction_count, p.arg_count, p.dot_count, p.segment_count, p.constant_count, p.input_count]
    counts += [p.output_count, p.lane_input_count, p.group_count, p.uniform_registers, p.lane_registers, p.block, 0]
    arrays = b""
    for name, (count, kind) in ARRAYS.items():
        if name == "calls" and p.call_count:
            arrays += struct.pack("<3H", p.call_count, p.memory_count, p.program_count)
        size = count_of(name, {count: getattr(p, count)}) * ffi.sizeof(kind)
        arrays += bytes(ffi.buffer(getattr(p, name), size)) if size else b""
    for i in range(p.program_count):
        arrays += record(parts_of(p.programs[i]), [64] * 6)
    return struct.pack("<20H", *counts, p.call_count > 0, *sizes) + arrays


FORMULAS = [
    "tanh(x*w + b)",
    "2**-x + pi/(e - 1.5e3)",
    "max(min(x, y), -.5)",
    "leaky_relu(x, 0.3) ** 2 ** -1",
    "atan2(x, y) / sqrt(abs(-x)) - +y",
    "((((x))))",
    "-" * 60 + "x",
    "1e308 * 10",
    "0x10 + 1_000 + 0b1",
    "log(-1)",
    "x^2",
    "x if y else z",
    "f'{x}'",
    "(x := 2)",
    "[i for i in x]",
    "lambda: 0",
    "\u03c0r * \uff58",
    "1j + 'a' \"b\"",
    "exp(x, y=2, *z)",
    "x\t+\ny\x0c\\",
    "9" * 400,
    "1/0 + 0**-1",
]


def entries(path: Path) -> bytes:
    """An .npz file as fuzz_load.py makes one: name, length, bytes of each entry."""
    import zipfile

    with zipfile.ZipFile(path) as file:
        return b"".join(
            bytes([len(i.filename)]) + i.filename.encode() + struct.pack("<H", i.file_size) + file.read(i)
            for i in file.infolist()
        )


def main() -> None:
    """All of them."""
    for kind in ("formula", "program", "load"):
        (CORPUS / kind).mkdir(parents=True, exist_ok=True)
    for i, formula in enumerate(FORMULAS):
        (CORPUS / "formula" / f"seed{i:02}").write_text(formula)
    load = {}
    for name, program in programs().items():
        as_parts = parts(program)
        if as_parts is not None:
            (CORPUS / "program" / f"seed {name}".replace(" ", "_")).write_bytes(as_parts)
        data = to_bytes(program.code)
        _, length, rest = data.split(b"\n", 2)
        load[f"program {name}"] = b"P" + data
        if name in ("scalar", "lanes", "dict", "constant"):
            header, arrays = rest[: int(length)], rest[int(length) :]
            load[f"header {name}"] = b"H" + struct.pack("<H", len(header)) + header + arrays
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.npz"
        random.seed(0)
        model = MLP(2, [2, 1])
        model.save(path)
        load["npz"], load["npz entries"] = b"Z" + path.read_bytes(), b"N" + entries(path)
        w = np.array([p.data for p in model.parameters()])
        history = History()
        history.loss, history.seconds = [1.0, 0.5], [0.1, 0.2]
        save(path, w, Adam(w), history, 2, Best(0.5, 1, w))
        load["checkpoint"], load["checkpoint entries"] = b"C" + path.read_bytes(), b"K" + entries(path)
    for i, what in enumerate(
        [
            ["Value", "add", 1.0, 0.5, ["a", "b"], 0.0],
            ["Value", "tanh", 1.0, 0.5, ["a"], 0.0],
            ["Value", "leaky_relu", 1.0, 0.5, ["a"], 0.25],
            ["Value", "leaf", 1.0, 0.5, [], None],
            ["Value", "custom", 1.0, 0.5, ["a", "a", "b"], 0],
            ["dict", "pair", "x", [], [2, None], {}],
        ]
    ):
        load[f"restore {i}"] = b"R" + json.dumps(what).encode()
    for name, data in load.items():
        (CORPUS / "load" / f"seed {name}".replace(" ", "_")).write_bytes(data)
    print(*(f"{len(list(folder.iterdir()))} files in {folder}" for folder in sorted(CORPUS.iterdir())), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
