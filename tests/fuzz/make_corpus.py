"""Writes the valid files that fuzzing starts from, next to what it has found: python tests/fuzz/make_corpus.py."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from pygrad import grad, jit, value_and_grad, vmap
from pygrad.math import tanh, where
from pygrad.nn import MLP
from pygrad.optim import Adam
from pygrad.training import History, _save

CORPUS = Path(__file__).with_name("corpus")
FORMULAS = [
    "tanh(x*w + b)",
    "-x**2 + +y",
    "max(x, y)/hypot(1e-3, z)",
    "1_000*0x10",
    "sin(cos(tan(x)))",
    "leaky_relu(x, 0.1)",
]


def main() -> None:
    for name in ("formula", "program", "state", "checkpoint"):
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(FORMULAS):
        (CORPUS / "formula" / f"seed{i}").write_text(text)
    points = np.linspace(0, 1, 6).reshape(3, 2)
    programs = [
        jit(lambda x, y: where(x < y, x * y, tanh(x))).program(0.5, 2.0),
        value_and_grad(lambda d: d["a"] @ d["b"] + 3).program({"a": np.ones(2), "b": np.ones(2)}),
        grad(lambda w, X: vmap(lambda w, x: tanh(w @ x), (None, 0), reduce="mean")(w, X)).program(np.ones(2), points),
        vmap(lambda x: [x[0] ** 2, x[1]]).program(points),
    ]
    for i, program in enumerate(programs):
        program.save(CORPUS / "program" / f"seed{i}")
    random.seed(1)
    model = MLP(2, [2, 1])
    model.save(CORPUS / "state" / "seed0")
    w = np.array([p.data for p in model.parameters()])
    adam = Adam(w)
    adam.step(w)
    file = CORPUS / "checkpoint" / "seed0"
    history = History()
    history.loss, history.seconds = [1.0], [0.5]
    _save(file, w, adam, history, 1, (1.0, 0, w))
    json.loads(str(np.load(file, allow_pickle=False)["text"]))


if __name__ == "__main__":
    main()
