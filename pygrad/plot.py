"""Plots of training and of derivatives, with matplotlib: pip install 'pygrad-engine[plot]'.

Every function draws into `ax`, or into new Axes, and returns the Axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Callable

from pygrad._core.text import visible
from pygrad._core.trees import need_numpy, real_array
from pygrad._learn.history import axes, loss_history
from pygrad._learn.module import Module, named
from pygrad._views.table import node_table
from pygrad.engine import Value

__all__ = ["UpdateRatios", "activations", "decision_boundary", "gradients", "loss_history", "sparsity", "tangent"]

SATURATED = 0.97  # outputs of tanh beyond it have a derivative below 0.06
BINS_AT_MOST = 50


def decision_boundary(model: Any, X: Any, y: Any, ax: Any = None, resolution: int = 200) -> Any:
    """Plot points in the plane, and the boundaries between a classifier's regions.

    model: an object with `predict`, or a function, from points of shape (n, 2) to a score or class per point, shape
    (n,), or to a score per class, shape (n, classes). X: shape (n, 2). y: shape (n,), classes. resolution: points
    along each side. Raises ValueError for other shapes.

    >>> ax = decision_boundary(lambda points: points[:, 0], [[-1.0, 0.0], [1.0, 0.0]], [-1, 1])
    >>> len(ax.collections) > 0
    True
    """
    np = need_numpy()
    X, y = real_array(X, "decision_boundary: X"), np.asarray(y)
    if X.ndim != 2 or X.shape[1] != 2 or y.shape != X.shape[:1]:
        raise ValueError(f"decision_boundary: X must have shape (n, 2) and y (n,), not {X.shape} and {y.shape}")
    ax = axes(ax)
    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.15 * np.maximum(high - low, 1e-9)
    grid = np.meshgrid(*(np.linspace(a, b, resolution) for a, b in zip(low - margin, high + margin)))
    predict = getattr(model, "predict", model)
    scores = real_array(predict(np.column_stack([g.ravel() for g in grid])), "decision_boundary: the model's result")
    classes = np.unique(y)
    if scores.ndim == 2 and scores.shape[1] > 1:
        scores = scores.argmax(axis=1)
    scores = scores.reshape(grid[0].shape)
    found = np.unique(scores)
    if len(found) <= max(20, len(classes)):  # they are classes, not scores
        middles = (found[1:] + found[:-1]) / 2
        ax.contourf(*grid, scores, levels=[found[0] - 1, *middles, found[-1] + 1], cmap="coolwarm", alpha=0.35)
        if len(middles):
            ax.contour(*grid, scores, levels=middles, colors="black", linewidths=1.2)
    else:
        reach = float(np.percentile(np.abs(scores), 95)) or 1.0
        ax.contourf(*grid, scores, levels=np.linspace(-reach, reach, 21), cmap="coolwarm", alpha=0.6, extend="both")
        ax.contour(*grid, scores, levels=[0.0], colors="black", linewidths=1.5)
    ax.scatter(*X.T, c=np.searchsorted(classes, y), cmap="coolwarm", s=25, edgecolors="black", linewidths=0.5)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    return ax


def _plain(name: str) -> str:
    """A name with dollars escaped, since matplotlib reads text between dollars as a formula."""
    return visible(name).replace("$", r"\$")


def _curve(ax: Any, numbers: Sequence[float], label: str) -> None:
    np = need_numpy()
    finite = [x for x in numbers if math.isfinite(x)]
    odd = f", {len(numbers) - len(finite)} not finite" if len(finite) < len(numbers) else ""
    if finite:
        bins = max(5, min(BINS_AT_MOST, round(2 * math.sqrt(len(finite)))))
        density, edges = np.histogram(finite, bins=bins, density=len(set(finite)) > 1)
        ax.plot((edges[1:] + edges[:-1]) / 2, density, label=label + odd)


def activations(root: Value, ax: Any = None) -> Any:
    """Plot histograms of the layers' outputs in a graph recorded by pygrad.nn: one curve per scope `layer...`.

    They count the results of activation functions. For tanh, the legend adds the share beyond ±0.97, where almost no
    gradient passes. Raises ValueError without layers. Source: A. Karpathy, Building makemore part 3 (2022).

    >>> from pygrad.nn import MLP
    >>> len(activations(MLP(2, [8, 8, 1], nonlin="tanh")([1.0, 2.0])).lines)
    2
    """
    by_layer: dict[str, list[float]] = {}
    ops: dict[str, set[str]] = {}
    for row in node_table(root):
        layer, _, neuron = row.scope.rpartition("/")
        if neuron.startswith("neuron") and row.kind == "operation" and row.op not in ("*", "+"):
            by_layer.setdefault(layer or "layer", []).append(row.data)
            ops.setdefault(layer or "layer", set()).add(row.op)
    if not by_layer:
        raise ValueError("activations: the graph has no activation functions in the scopes of layers")
    ax = axes(ax)
    for layer, numbers in by_layer.items():
        label = f"{_plain(layer)} ({', '.join(sorted(ops[layer]))})"
        if ops[layer] == {"tanh"}:
            label += f": {sum(abs(x) > SATURATED for x in numbers) / len(numbers):.1%} saturated"
        elif ops[layer] == {"ReLU"}:
            label += f": {sum(x == 0 for x in numbers) / len(numbers):.1%} at 0"
        _curve(ax, numbers, label)
    ax.set(xlabel="activation", ylabel="density")
    ax.legend()
    return ax


def _layers(model: Module) -> dict[str, list[Value]]:
    """A model's parameters by layer: by the part of their names before `.neurons`."""
    found: dict[str, list[Value]] = {}
    for name, value in named(model, model.parameters()):
        found.setdefault(name.partition(".neurons")[0], []).extend([value] if isinstance(value, Value) else value)
    return found


def gradients(model: Module, ax: Any = None) -> Any:
    """Plot histograms of the parameters' grads after backward(), one curve per layer. Raises ValueError if all are 0.

    >>> from pygrad.nn import MLP
    >>> model = MLP(2, [4, 1], nonlin="tanh")
    >>> model([1.0, 2.0]).backward()
    >>> len(gradients(model).lines)
    2
    """
    layers = {name: [p.grad for p in parameters] for name, parameters in _layers(model).items()}
    if not any(any(grads) for grads in layers.values()):
        raise ValueError("gradients: every grad is 0: call backward() first")
    ax = axes(ax)
    for name, grads in layers.items():
        _curve(ax, grads, name)
    ax.set(xlabel="grad", ylabel="density")
    ax.legend()
    return ax


class UpdateRatios:
    """The size of updates relative to the parameters, by layer: about 1e-3 is good.

    Call `note()` after each step, and `plot()` at the end. A ratio is the standard deviation of a step's update over
    that of the parameters. Source: A. Karpathy, Building makemore part 3 (2022).

    >>> from pygrad.nn import MLP
    >>> ratios = UpdateRatios(MLP(2, [4, 1]))
    >>> ratios.note()
    """

    def __init__(self, model: Module) -> None:
        self._layers = {name: ps for name, ps in _layers(model).items() if len(ps) > 1}
        self._before = self._data()
        self.ratios: dict[str, list[float]] = {name: [] for name in self._layers}

    def _data(self) -> dict[str, list[float]]:
        return {name: [p.data for p in parameters] for name, parameters in self._layers.items()}

    def note(self) -> None:
        """Compare the parameters with those at the last call."""
        now = self._data()
        for name, data in now.items():
            spread = _deviation(data)
            change = _deviation([a - b for a, b in zip(data, self._before[name])])
            self.ratios[name].append(change / spread if spread else math.nan)
        self._before = now

    def plot(self, ax: Any = None) -> Any:
        """Plot the ratios by step, on a logarithmic scale, and a line at 1e-3."""
        ax = axes(ax)
        for name, ratios in self.ratios.items():
            ax.plot(range(1, len(ratios) + 1), ratios, label=name)
        ax.axhline(1e-3, color="black", linewidth=0.8, linestyle="dotted")
        ax.set_yscale("log")
        ax.set(xlabel="step", ylabel="update : data")
        ax.legend()
        return ax


def _deviation(numbers: Sequence[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / len(numbers))


def tangent(fn: Callable[[Value], Any], x: float, ax: Any = None, width: float = 4.0) -> Any:
    """Plot a function of one number around x, and its tangent there, whose slope is the grad.

    fn: from a Value to a Value. width: of the interval drawn, centred on x. Where fn raises, the curve has a gap; at x
    the exception passes on.

    >>> len(tangent(lambda x: x ** 2, 3.0).lines)
    3
    """
    at = Value(x)
    y = fn(at)
    if not isinstance(y, Value):
        raise TypeError(f"tangent: fn must return a Value, not {type(y).__name__}")
    y.backward()
    xs = [x - width / 2 + width * k / 400 for k in range(401)]
    ys = []
    for point in xs:
        try:
            there = fn(Value(point))
            ys.append(there.data if isinstance(there, Value) else there)
        except (ArithmeticError, ValueError):
            ys.append(math.nan)
    ax = axes(ax)
    ax.plot(xs, ys, label="f")
    half = width / 4
    ends = [x - half, x + half]
    ax.plot(ends, [y.data + at.grad * (end - x) for end in ends], label=f"slope {at.grad:.4g} at {x:.4g}")
    ax.plot([x], [y.data], "o", color="black")
    ax.set(xlabel="x", ylabel="f(x)")
    ax.legend()
    return ax


def sparsity(matrix: Any, ax: Any = None) -> Any:
    """Plot where a matrix has entries: a SciPy one, such as pygrad.sparsity returns, or an array's nonzeros.

    matrix: shape (m, n). Raises TypeError for anything else.

    >>> ax = sparsity([[1.0, 0.0], [0.0, 2.0]])
    >>> ax.get_title()
    '2 of 4 entries'
    """
    np = need_numpy()
    found = matrix if hasattr(matrix, "tocoo") else np.asarray(matrix)
    if getattr(found, "ndim", 0) != 2:
        raise TypeError(
            f"sparsity: draws a matrix, not {type(matrix).__name__}: pygrad.sparsity(f, *args) finds one of f"
        )
    ax = axes(ax)
    m, n = found.shape
    count = found.nnz if hasattr(found, "nnz") else int(np.count_nonzero(found))
    ax.spy(found, markersize=max(0.6, min(8.0, 250 / max(m, n))), color="tab:blue")
    ax.set_title(f"{count:,} of {m * n:,} entries")
    ax.set_xlabel("argument")
    ax.set_ylabel("result")
    return ax
