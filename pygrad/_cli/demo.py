"""The demo: draw the neuron of the micrograd lecture; train micrograd's demo, an MLP on two moons."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pygrad._core.files import write
from pygrad._playground import playground
from pygrad._views.draw import draw_dot, trace
from pygrad.engine import Value
from pygrad.nn import MLP

# Packages that the moons need besides pygrad: import name, name on PyPI.
NEEDS = {"matplotlib": "matplotlib", "numpy": "numpy", "sklearn": "scikit-learn", "tqdm": "tqdm"}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A text table: the first column aligned left, the others right; floats in full precision."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = (
        "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def neuron() -> Value:
    """The lecture's neuron, tanh(x1*w1 + x2*w2 + b), with every node labelled. Not yet differentiated."""
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    b = Value(6.8813735870195432, label="b")
    x1w1 = x1 * w1
    x1w1.label = "x1*w1"
    x2w2 = x2 * w2
    x2w2.label = "x2*w2"
    x1w1x2w2 = x1w1 + x2w2
    x1w1x2w2.label = "x1*w1 + x2*w2"
    n = x1w1x2w2 + b
    n.label = "n"
    o = n.tanh()
    o.label = "o"
    return o


def show_neuron(out: Path) -> bool:
    """Differentiate the neuron, print its nodes, write out/neuron.svg. Returns False if there is no renderer."""
    o = neuron()
    o.backward()
    print("A neuron: o = tanh(x1*w1 + x2*w2 + b)\n")
    print(table(("", "data", "grad"), ((v.label, v.data, v.grad) for v in trace(o)[0])))
    path = out / "neuron.svg"
    try:
        picture = draw_dot(o).pipe(format="svg", quiet=True)
    except RuntimeError as error:  # says what to install
        print(f"pygrad: {error}", file=sys.stderr)
        return False
    write(path, picture)
    print(f"\nIts graph: {path}")
    return True


class Trained(NamedTuple):
    """A training's result: loss and accuracy of the last step, before its update, and the seconds it took."""

    model: MLP
    X: Any  # (n, 2) array of points
    y: Any  # (n,) array of -1 and +1
    loss: float
    accuracy: float
    seconds: float


def moons(seed: int) -> tuple[Any, Any, MLP]:
    """The demo's points, their classes -1 and 1, and its network before training."""
    import numpy as np
    from sklearn.datasets import make_moons

    np.random.seed(seed)
    random.seed(seed)
    X, y = make_moons(n_samples=100, noise=0.1)
    return X, y * 2 - 1, MLP(2, [16, 16, 1])


def train(steps: int, seed: int) -> Trained:
    """Train as micrograd's demo notebook does: 100 points, max-margin loss with L2, a learning rate that decays.

    Returns the loss and accuracy of the last step, before its update, as the notebook prints them.
    """
    from tqdm import tqdm

    X, y, model = moons(seed)

    def loss() -> tuple[Value, float]:
        inputs = [list(map(Value, row)) for row in X]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * score).relu() for yi, score in zip(y, scores)]
        data_loss = sum(losses) * (1.0 / len(losses))
        reg_loss = 1e-4 * sum(p * p for p in model.parameters())
        right = [(yi > 0) == (score.data > 0) for yi, score in zip(y, scores)]
        return data_loss + reg_loss, sum(right) / len(right)

    start = time.perf_counter()
    progress = tqdm(range(steps), unit="step")
    for k in progress:
        total_loss, accuracy = loss()
        model.zero_grad()
        total_loss.backward()
        learning_rate = 1.0 - 0.9 * k / steps
        for p in model.parameters():
            p.data -= learning_rate * p.grad
        progress.set_postfix(loss=f"{total_loss.data:.4f}", accuracy=f"{accuracy:.0%}", refresh=False)
    progress.close()
    return Trained(model, X, y, total_loss.data, accuracy, time.perf_counter() - start)


def scores(model: MLP, points: Any) -> Any:
    """The model's outputs, shape (n,), for points of shape (n, 2): ReLU layers in NumPy, without a graph."""
    import numpy as np

    for layer in model.layers:
        w = np.array([[weight.data for weight in neuron.w] for neuron in layer.neurons])
        b = np.array([neuron.b.data for neuron in layer.neurons])
        points = points @ w.T + b
        if layer.neurons[0].nonlin:
            points = np.maximum(points, 0.0)
    return points[:, 0]


def draw_moons(trained: Trained, path: Path) -> None:
    """Write a PNG of the points, the model's score behind them, and the line where the score is 0."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    X, y = trained.X, trained.y
    low, high = X.min(axis=0) - 0.5, X.max(axis=0) + 0.5
    xx, yy = np.meshgrid(np.linspace(low[0], high[0], 400), np.linspace(low[1], high[1], 300))
    score = scores(trained.model, np.column_stack([xx.ravel(), yy.ravel()])).reshape(xx.shape)
    reach = max(1.0, math.ceil(np.percentile(np.abs(score), 90)))

    figure = Figure(figsize=(8, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    levels = np.linspace(-reach, reach, 21)
    filled = axes.contourf(xx, yy, score, levels, cmap="RdBu", extend="both")
    figure.colorbar(filled, ax=axes, label="the network's score", ticks=np.linspace(-reach, reach, 5))
    axes.contour(xx, yy, score, [-1.0, 1.0], colors="black", linewidths=0.8, linestyles="dotted")
    axes.contour(xx, yy, score, [0.0], colors="black", linewidths=1.8)
    axes.plot([], [], color="black", linewidth=1.8, label="decision boundary, score 0")
    axes.plot([], [], color="black", linewidth=0.8, linestyle="dotted", label="margin, score ±1")
    for label, colour in ((-1, "#b2182b"), (1, "#2166ac")):
        mine = y == label
        name = f"class {label:+d}".replace("-", "\N{MINUS SIGN}")
        axes.scatter(
            X[mine, 0], X[mine, 1], s=38, color=colour, edgecolors="white", linewidths=0.8, label=name, zorder=3
        )
    axes.set(xlabel="$x_1$", ylabel="$x_2$")
    axes.set_title(f"Two moons, MLP(2, [16, 16, 1]): loss {trained.loss:.4f}, accuracy {trained.accuracy:.0%}")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def show_moons(steps: int, seed: int, out: Path) -> None:
    """Train on the moons, print the result, write out/moons.png."""
    print(f"\nTwo moons: an MLP(2, [16, 16, 1]) learns 100 points in {steps} steps\n")
    trained = train(steps, seed)
    print(f"step {steps - 1}: loss {trained.loss}, accuracy {trained.accuracy:.0%}")
    print(f"training took {trained.seconds:.2f} s")
    draw_moons(trained, out / "moons.png")
    print(f"\nIts decision boundary: {out / 'moons.png'}")


def play(steps: int, seed: int, path: Path) -> int:
    """Write the page that trains the demo's network. Returns 0, or 1 if a package is missing."""
    missing = [NEEDS[name] for name in ("numpy", "sklearn") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"pygrad play needs {', '.join(missing)}: pip install 'pygrad-engine[demo]'", file=sys.stderr)
        return 1
    X, y, model = moons(seed)
    playground(model, X.tolist(), y.tolist(), path, steps=steps)
    print(f"Open this page in a browser: {path}")
    return 0


def run(steps: int, seed: int, out: Path) -> int:
    """Run the whole demo; its files go to `out`, which is created. Returns 0, or 1 if a package is missing."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = show_neuron(out)
    missing = [package for name, package in NEEDS.items() if importlib.util.find_spec(name) is None]
    if missing:
        print(f"pygrad demo needs {', '.join(missing)}: pip install 'pygrad-engine[demo]'", file=sys.stderr)
        return 1
    sys.stdout.flush()  # before the progress bar on stderr
    show_moons(steps, seed, out)
    return 0 if drawn else 1
