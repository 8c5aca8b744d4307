"""Two moons
=========

A network learns to tell two moons apart, and its decision boundary forms.

You will see one picture with six panels: the points, and the boundary before training and after 5, 10, 20, 50 and 100
epochs. The loss falls from about 1 to nearly 0, and all hundred points end on the right side. This is micrograd's
demo, trained by `fit`.

Run it with::

    python examples/moons.py [--picture moons.png]

Needs scikit-learn (the points) and matplotlib: pip install 'pygrad-engine[demo]'.
"""

import argparse

import numpy as np
from sklearn.datasets import make_moons

from pygrad import fit
from pygrad.nn import MLP, seed

EPOCHS = [0, 5, 10, 20, 50, 100]


# %%
# The points and the training
# ---------------------------


def points():
    X, y = make_moons(n_samples=100, noise=0.1, random_state=1)
    return X, 2.0 * y - 1.0


def train(until, model=None):
    """The model after each number of epochs in `until`, as (epochs, scores on a grid, loss)."""
    X, y = points()
    if model is None:
        seed(1337)
        model = MLP(2, [16, 16, 1])
    grid_x, grid_y = np.meshgrid(np.linspace(-1.5, 2.5, 81), np.linspace(-1.0, 1.5, 61))
    grid = np.column_stack([grid_x.ravel(), grid_y.ravel()])
    found, done = [], 0
    for epochs in until:
        history = fit(
            model, X, y, loss="hinge", optimizer="sgd", lr=0.5, epochs=epochs - done, batch_size=None, l2=1e-4
        )
        done = epochs
        scores = model.predict(X)
        loss = np.maximum(0, 1 - y * scores).mean()
        found.append((epochs, model.predict(grid).reshape(grid_x.shape), loss, (np.sign(scores) == y).mean()))
        assert history.stopped == "finished"
    return grid_x, grid_y, found


# %%
# The picture
# -----------


def draw(grid_x, grid_y, found, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    X, y = points()
    figure, axes = pyplot.subplots(2, 3, figsize=(10, 6), sharex=True, sharey=True)
    for ax, (epochs, scores, loss, accuracy) in zip(axes.ravel(), found):
        ax.contourf(grid_x, grid_y, np.tanh(scores), levels=np.linspace(-1, 1, 11), cmap="RdBu", alpha=0.7)
        ax.contour(grid_x, grid_y, scores, levels=[0], colors="black", linewidths=1)
        ax.scatter(*X.T, c=y, cmap="RdBu", edgecolors="black", s=15, linewidths=0.4)
        ax.set_title(f"{epochs} epochs: loss {loss:.3f}, {accuracy:.0%} right", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--picture", default="moons.png")
    args = parser.parse_args()
    grid_x, grid_y, found = train(EPOCHS)
    for epochs, _, loss, accuracy in found:
        print(f"{epochs:4} epochs: loss {loss:.4f}, {accuracy:.0%} right")
    draw(grid_x, grid_y, found, args.picture)
    print(f"picture: {args.picture}")


if __name__ == "__main__":
    main()
