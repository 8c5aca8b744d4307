"""A language model
================

A character-level GPT, written over scalars, learns US census first names, then invents new ones.

You will see the loss fall from 3.3 (a guess among 27 letters) to about 2.2, then twenty invented names. The model is
ordinary Python over numbers. `--eager` runs it on Values, step by step, as with micrograd; otherwise the same
functions are recorded once per length of name and run in C, three times as fast.

Run it with::

    python examples/gpt.py [--eager] [--steps 1000]

One layer, 16 wide, 4 heads, a ReLU MLP four times as wide, RMSNorm, learnt positions, Adam. Sources: Radford et al.
2019 (GPT-2); Zhang & Sennrich 2019 (RMSNorm). The names are PyPI's package `names`: US census, 1990. Needs
pip install 'pygrad-engine[examples]'.
"""

import argparse
import random
from importlib import resources
from time import perf_counter

import numpy as np

from pygrad import Value, dot, jit, value_and_grad
from pygrad.nn import cross_entropy, softmax
from pygrad.optim import Adam

WIDTH, HEADS, CONTEXT, HIDDEN = 16, 4, 16, 64
LETTERS = ".abcdefghijklmnopqrstuvwxyz"  # the dot begins and ends a name
SHAPES = {
    "token": (len(LETTERS), WIDTH),
    "position": (CONTEXT, WIDTH),
    "query": (WIDTH, WIDTH),
    "key": (WIDTH, WIDTH),
    "value": (WIDTH, WIDTH),
    "out": (WIDTH, WIDTH),
    "up": (HIDDEN, WIDTH),
    "down": (WIDTH, HIDDEN),
    "logits": (len(LETTERS), WIDTH),
}


# %%
# The model
# ---------
#
# Ordinary Python over scalars: attention, a ReLU layer, and the loss of a name.


def linear(w, x):
    return [dot(row, x) for row in w]


def norm(x):
    scale = (dot(x, x) * (1 / len(x)) + 1e-5) ** -0.5
    return [v * scale for v in x]


def attend(q, keys, values):
    """One head: compare q with all keys so far, and average the values by the result."""
    scale = len(q) ** -0.5
    weights = softmax([dot(q, k) * scale for k in keys])
    return [dot(weights, column) for column in zip(*values)]


def next_logits(m, letter, position, keys, values):
    """The logits of the letter after this one. Appends this letter's keys and values for attention."""
    x = norm([a + b for a, b in zip((dot(column, letter) for column in zip(*m["token"])), m["position"][position])])
    h = norm(x)
    q = linear(m["query"], h)
    keys.append(linear(m["key"], h))
    values.append(linear(m["value"], h))
    heads = []
    for i in range(0, WIDTH, WIDTH // HEADS):
        part = slice(i, i + WIDTH // HEADS)
        heads += attend(q[part], [k[part] for k in keys], [v[part] for v in values])
    x = [a + b for a, b in zip(x, linear(m["out"], heads))]
    hidden = [v.relu() for v in linear(m["up"], norm(x))]
    x = [a + b for a, b in zip(x, linear(m["down"], hidden))]
    return linear(m["logits"], x)


def loss(m, letters):
    """The mean of -log p(next letter) over one name, given as one-hot rows."""
    keys, values = [], []
    pairs = list(zip(letters, letters[1:]))[:CONTEXT]
    losses = [cross_entropy(next_logits(m, a, i, keys, values), b) for i, (a, b) in enumerate(pairs)]
    return sum(losses) * (1 / len(losses))


def one_hot(name):
    return np.eye(len(LETTERS))[[LETTERS.index(c) for c in f".{name}."]]


def first_names():
    text = (resources.files("names") / "dist.female.first").read_text() + (
        resources.files("names") / "dist.male.first"
    ).read_text()
    names = sorted({line.split()[0].lower() for line in text.splitlines() if line.strip()})
    random.Random(0).shuffle(names)
    return names


def eager_step(m, letters):
    """Loss and gradient by Values: micrograd's way."""
    values = {name: [[Value(x) for x in row] for row in w] for name, w in m.items()}
    total = loss(values, letters.tolist())
    total.backward()
    return total.data, {name: np.array([[v.grad for v in row] for row in rows]) for name, rows in values.items()}


# %%
# Training and sampling
# ---------------------
#
# One recorded function for each length of name.


def train(steps, eager=False, seed=42):
    """The trained matrices, and the loss of each step, one name per step."""
    rng = np.random.default_rng(seed)
    m = {name: rng.normal(0.0, 0.08, shape) for name, shape in SHAPES.items()}
    optimizer = Adam(m, lr=0.01, betas=(0.9, 0.95))
    step = eager_step if eager else value_and_grad(loss)
    names, losses = first_names(), []
    for k in range(steps):
        value, grads = step(m, one_hot(names[k % len(names)]))
        optimizer.lr = 0.01 * (1 - k / steps)
        optimizer.step(grads)
        losses.append(value)
    return m, losses


def sample(m, count, seed=0, temperature=0.7):
    """New names, letter by letter."""
    rng = np.random.default_rng(seed)

    @jit
    def probabilities(m, letters):
        keys, values = [], []
        logits = [next_logits(m, letter, i, keys, values) for i, letter in enumerate(letters)][-1]
        return softmax([v * (1 / temperature) for v in logits])

    made = []
    for _ in range(count):
        name = ""
        while len(name) < CONTEXT - 1:
            p = np.array(probabilities(m, one_hot(name)[:-1]))
            letter = LETTERS[rng.choice(len(LETTERS), p=p / p.sum())]
            if letter == ".":
                break
            name += letter
        made.append(name)
    return made


# %%
# The picture
# -----------


def draw(losses, path):
    """The loss of each name, and the mean of fifty."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 3.2))
    ax.plot(losses, linewidth=0.4, alpha=0.6, label="of one name")
    ax.plot(np.arange(49, len(losses)), np.convolve(losses, np.full(50, 0.02), mode="valid"), label="mean of 50")
    ax.set(xlabel="step", ylabel="loss")
    ax.legend()
    figure.tight_layout()
    figure.savefig(path)


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--picture")
    args = parser.parse_args()
    start = perf_counter()
    m, losses = train(args.steps, args.eager)
    seconds = perf_counter() - start
    tenth = max(1, len(losses) // 10)
    for k in range(0, len(losses), tenth):
        print(f"steps {k + 1:5} to {k + len(losses[k : k + tenth]):5}: loss {np.mean(losses[k : k + tenth]):.3f}")
    print(f"{args.steps} steps in {seconds:.2f} s, {1e3 * seconds / args.steps:.2f} ms a step")
    print(" ".join(sample(m, 20)))
    if args.picture:
        draw(losses, args.picture)


if __name__ == "__main__":
    main()
