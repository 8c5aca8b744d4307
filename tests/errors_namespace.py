"""What the examples of docs/errors.md may use."""

from __future__ import annotations


def namespace():
    """Fresh names for one example."""
    import math
    import random

    import numpy as np

    import pygrad
    from pygrad import formula, nn, optim, plot

    nn.seed(1)
    names = {name: getattr(pygrad, name) for name in pygrad.__all__}
    return {
        **names,
        "math": math,
        "random": random,
        "np": np,
        "formula": formula,
        "nn": nn,
        "optim": optim,
        "plot": plot,
        "x": pygrad.Value(2.0, label="x"),
        "model": nn.MLP(2, [3, 1]),
    }
