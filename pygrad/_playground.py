"""playground: a page that trains a network, by pygrad's engine in the browser."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pygrad._views.pages import Page, assemble, refuse_pictures
from pygrad.nn import MLP

STEPS_AT_MOST = 100_000
SAMPLES_AT_MOST = 2_000
_SCRIPTS = ("theme", "numbers", "engine", "net", "playground")


def playground(
    model: MLP,
    X: Sequence[Sequence[float]],
    y: Sequence[float],
    path: str | os.PathLike[str] | None = "playground.html",
    *,
    steps: int = 100,
    l2: float = 1e-4,
) -> Page:
    """Write one HTML page that trains `model` on samples X, shape (n, 2), with classes y, -1 or 1, shape (n,).

    As in micrograd's demo, the loss is the max-margin loss of all samples plus l2 times the sum of squares of the
    parameters, and the step size of gradient descent falls from 1 to 0.1 over `steps`. The page begins with the model's
    current parameters. It shows decision boundary, loss curve, weights and gradients; in it you can change step size,
    L2, layers and activation. The losses are those of training in Python, to the last digits. The model is not changed.
    path: the file; None writes nothing, and the result displays itself in a notebook. Raises ValueError or TypeError
    for other models and samples.

    >>> from pygrad import nn
    >>> page = playground(nn.MLP(2, [4, 1]), [[0.0, 1.0], [1.0, 0.0]], [-1, 1], None)
    """
    refuse_pictures(path, "playground")
    if not isinstance(model, MLP):
        raise TypeError(f"playground: {model!r} is of type {type(model).__name__}; it trains an nn.MLP")
    sizes = [len(model.layers[0].neurons[0].w), *(len(layer.neurons) for layer in model.layers)] if model.layers else []
    if not sizes or sizes[0] != 2 or sizes[-1] != 1:
        raise ValueError(
            f"playground: the model must have 2 inputs and 1 output, as MLP(2, [16, 16, 1]); it is {model!r:.80}"
        )
    points = [[float(a) for a in point] for point in X]
    classes = [float(c) for c in y]
    if not points or len(points) != len(classes) or any(len(point) != 2 for point in points):
        shown = f"{len(points)} samples and {len(classes)} classes"
        raise ValueError(f"playground: {shown}; X must have shape (n, 2) and y shape (n,), with n of 1 or more")
    if len(points) > SAMPLES_AT_MOST:
        raise ValueError(
            f"playground: {len(points):,} samples, more than the {SAMPLES_AT_MOST:,} that a page trains on"
        )
    wrong = next((c for c in classes if c not in (-1.0, 1.0)), None)
    if wrong is not None:
        raise ValueError(f"playground: y has {wrong!r}; classes are -1 and 1: 2 * y - 1 converts 0 and 1")
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= STEPS_AT_MOST:
        raise ValueError(f"steps={steps!r}: must be an int from 1 to {STEPS_AT_MOST:,}")
    data = {
        "sizes": sizes,
        "nonlins": [_name(layer.neurons[0].nonlin) for layer in model.layers],
        "numbers": [p.data for p in model.parameters()],
        "X": points,
        "y": classes,
        "l2": float(l2),
        "steps": steps,
    }
    return assemble("playground", _SCRIPTS, data, f"Training: {sizes[0]} → {' → '.join(map(str, sizes[1:]))}", path)


def _name(nonlin: Any) -> str:
    return "relu" if nonlin is True else "linear" if nonlin is False else str(nonlin)
