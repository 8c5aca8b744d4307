"""Handwritten digits
==================

A network of 2,410 scalar parameters reads scikit-learn's 1,797 real images.

You will see the loss and the accuracy on 360 test images, above 96 %, after about a tenth of a second, and some of
the digits that it gets wrong.

Run it with::

    python examples/digits.py

Needs scikit-learn: pip install 'pygrad-engine[sklearn]'.
"""

import argparse
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pygrad import fit
from pygrad.nn import MLP, seed

# %%
# The data and the training
# -------------------------


def data():
    """Training and test images, 64 numbers from 0 to 1 each, and their digits."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16.0, y, test_size=0.2, random_state=0, stratify=y)


def train(epochs=40, progress=False):
    """The model, its history, and its accuracy on the test images."""
    train_X, test_X, train_y, test_y = data()
    seed(0)
    model = MLP(64, [32, 10], init="he")
    history = fit(
        model, train_X, train_y, loss="cross_entropy", optimizer="adam", lr=3e-3, epochs=epochs, progress=progress
    )
    return model, history, float((model.predict(test_X).argmax(axis=1) == test_y).mean())


def show(image):
    """An image as eight lines of text."""
    return ["".join(" .:-=+*%@"[min(8, int(v * 9))] * 2 for v in row) for row in image.reshape(8, 8)]


# %%
# The picture
# -----------


def draw(X, y, answers, path):
    """All images that the network gets wrong."""
    from matplotlib import pyplot

    wrong = np.flatnonzero(answers != y)[:12]
    figure, axes = pyplot.subplots(2, 6, figsize=(8, 3.2))
    for ax in axes.ravel():
        ax.axis("off")
    for ax, i in zip(axes.ravel(), wrong):
        ax.imshow(X[i].reshape(8, 8), cmap="gray_r")
        ax.set_title(f"is {y[i]}, read as {answers[i]}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--progress", action="store_true", help="a progress bar, which needs tqdm")
    parser.add_argument("--picture")
    args = parser.parse_args()
    start = perf_counter()
    model, history, accuracy = train(args.epochs, args.progress)
    print(f"{len(model.parameters())} parameters, {history}, {perf_counter() - start:.2f} s in all")
    print(f"test accuracy {accuracy:.1%}")
    _, X, _, y = data()
    answers = model.predict(X).argmax(axis=1)
    wrong = np.flatnonzero(answers != y)[:3]
    if wrong.size:
        print("   ".join(f"read as {answers[i]}, is {y[i]}".ljust(16) for i in wrong))
        for lines in zip(*(show(X[i]) for i in wrong)):
            print("   ".join(lines))
    if args.picture:
        draw(X, y, answers, args.picture)


if __name__ == "__main__":
    main()
