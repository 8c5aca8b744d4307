"""Pictures: what is drawn is what the numbers are, into the Axes that are given."""

from __future__ import annotations

import math
import sys

import pytest

matplotlib = pytest.importorskip("matplotlib")
np = pytest.importorskip("numpy")
matplotlib.use("Agg")


@pytest.fixture
def plot(pg):
    return pg.plot


@pytest.fixture
def ax():
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    yield axes
    pyplot.close(figure)


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_a_tangent_has_the_slope_of_the_grad(pg, plot, ax):
    assert plot.tangent(lambda v: v.sin() * v, 1.2, ax) is ax
    drawn = lines(ax)
    (name,) = (name for name in drawn if name.startswith("slope"))
    (x0, y0), (x1, y1) = drawn[name]
    assert math.isclose((y1 - y0) / (x1 - x0), math.sin(1.2) + 1.2 * math.cos(1.2), rel_tol=1e-12)
    f = drawn["f"]
    assert np.allclose(f[:, 1], np.sin(f[:, 0]) * f[:, 0])
    gaps = plot.tangent(lambda v: v.log(), 0.5, width=4)
    assert np.isnan(lines(gaps)["f"][:, 1]).sum() > 100
    with pytest.raises(TypeError, match="must return a Value"):
        plot.tangent(lambda v: 3.0, 1.0, ax)


def test_a_boundary_lies_where_the_score_changes_sign(plot, ax):
    X = np.array([[-1.0, 0.0], [1.0, 0.5], [2.0, -1.0]])
    plot.decision_boundary(lambda points: points[:, 0] - 0.25, X, np.array([0, 1, 1]), ax, resolution=100)
    contours = [path for c in ax.collections if hasattr(c, "get_paths") for path in c.get_paths()]
    assert any(len(p.vertices) and np.allclose(p.vertices[:, 0], 0.25, atol=1e-9) for p in contours)
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        plot.decision_boundary(lambda p: p, X[:, :1], np.array([0, 1, 1]), ax)


def test_a_boundary_between_classes_and_of_models(pg, plot, ax):
    pg.nn.seed(1)
    X = np.array([[-1.0, 0.0], [1.0, 0.5], [2.0, -1.0]])
    plot.decision_boundary(pg.nn.MLP(2, [4, 3]), X, np.array([0, 1, 2]), ax, resolution=30)
    plot.decision_boundary(lambda p: np.where(p[:, 0] > 0, 1, 0), X, np.array([0, 1, 1]), ax, resolution=30)
    assert ax.get_xlabel() == "$x_1$"


def test_losses_by_epoch(plot, ax):
    plot.loss_history([3.0, 2.0, 1.0], ax)
    assert lines(ax)["training"].tolist() == [[1, 3], [2, 2], [3, 1]] and ax.get_yscale() == "log"
    assert plot.loss_history([1.0, -1.0]).get_yscale() == "linear"


def test_activations_and_gradients_by_layer(pg, plot, ax):
    pg.nn.seed(1)
    model = pg.nn.MLP(2, [8, 8, 1], nonlin="tanh")
    for p in model.layers[0].parameters():
        p.data *= 100
    loss = sum((model([0.1 * i, 1 - 0.1 * i]) for i in range(20)), pg.Value(0.0))
    with pytest.raises(ValueError, match="call backward"):
        plot.gradients(model, ax)
    loss.backward()
    plot.activations(loss, ax)
    outputs = [
        abs(r.data) > 0.97 for r in pg._views.table.node_table(loss) if r.op == "tanh" and r.scope.startswith("layer1")
    ]
    share = f"{sum(outputs) / len(outputs):.1%} saturated"
    names = lines(ax)
    assert len(outputs) == 160 and f"layer1 (tanh): {share}" in names and len(names) == 2
    figure = plot.gradients(model)
    assert set(lines(figure)) == {"layers.0", "layers.1", "layers.2"}
    with pytest.raises(ValueError, match="no activation functions"):
        plot.activations(pg.Value(1.0) + 2, ax)


def test_update_ratios(pg, plot, ax):
    pg.nn.seed(1)
    model = pg.nn.MLP(2, [4, 1])
    ratios = plot.UpdateRatios(model)
    data = [p.data for p in model.layers[0].parameters()]
    for p in model.parameters():
        p.data *= 1.01
    ratios.note()
    assert math.isclose(ratios.ratios["layers.0"][0], np.std(0.01 * np.array(data)) / np.std(1.01 * np.array(data)))
    assert ratios.plot(ax) is ax and len(lines(ax)) == 3


def test_without_matplotlib_the_error_says_what_to_install(pg, plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pygrad-engine\[plot\]"):
        plot.loss_history([1.0])
