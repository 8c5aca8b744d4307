"""Eager transformer: one training step of a character-level GPT over scalars, on US census first names.

One layer, 16 wide, 4 heads, RMS norm, a ReLU MLP four times as wide, learnt positions, cross-entropy, Adam: the
shape of Radford et al. 2019 (GPT-2) with Zhang & Sennrich 2019 (RMSNorm) in place of LayerNorm, one name a
step. Written over Values alone; with the option fast, linear layers go through the library's own dot and
the update through its own Adam.
"""

import random

SEED = 42
WIDTH, HEADS, CONTEXT, HIDDEN = 16, 4, 16, 64
LETTERS = ".abcdefghijklmnopqrstuvwxyz"  # the dot begins and ends a name
EXAMPLE = "barbara"
SCALE = 0.08  # of the normal distribution that parameters start from


def matrices():
    """Name, rows, columns of every parameter matrix, in order."""
    return [
        ("token", len(LETTERS), WIDTH),
        ("position", CONTEXT, WIDTH),
        ("query", WIDTH, WIDTH),
        ("key", WIDTH, WIDTH),
        ("value", WIDTH, WIDTH),
        ("out", WIDTH, WIDTH),
        ("up", HIDDEN, WIDTH),
        ("down", WIDTH, HIDDEN),
        ("logits", len(LETTERS), WIDTH),
    ]


def linear(dot, w, x):
    return [dot(row, x) for row in w]


def norm(x):
    mean = sum(v * v for v in x) * (1.0 / len(x))
    scale = (mean + 1e-5) ** -0.5
    return [v * scale for v in x]


def softmax(x):
    exps = [v.exp() for v in x]  # logits of so small a net stay small
    total = sum(exps)
    return [e / total for e in exps]


def attend(q, keys, values):
    """One head: q against all keys so far, and the values' average by that."""
    scale = len(q) ** -0.5
    weights = softmax([sum(a * b for a, b in zip(q, k)) * scale for k in keys])
    return [sum(w * v[j] for w, v in zip(weights, values)) for j in range(len(q))]


def name_loss(dot, m, name, one_hot=False):
    """The mean of -log p(next letter) over one name; with one_hot, its letters are rows with a one among zeros."""
    if one_hot:
        tokens = name[: CONTEXT + 1]
        columns = list(zip(*m["token"]))
    else:
        tokens = [LETTERS.index(c) for c in f".{name}."][: CONTEXT + 1]
    size = WIDTH // HEADS
    keys, values, losses = [], [], []
    for position, (token, target) in enumerate(zip(tokens, tokens[1:])):
        embedding = [dot(column, token) for column in columns] if one_hot else m["token"][token]
        x = norm([a + b for a, b in zip(embedding, m["position"][position])])
        h = norm(x)
        q = linear(dot, m["query"], h)
        keys.append(linear(dot, m["key"], h))
        values.append(linear(dot, m["value"], h))
        heads = []
        for i in range(0, WIDTH, size):
            part = slice(i, i + size)
            heads += attend(q[part], [k[part] for k in keys], [v[part] for v in values])
        x = [a + b for a, b in zip(x, linear(dot, m["out"], heads))]
        hidden = [v.relu() for v in linear(dot, m["up"], norm(x))]
        x = [a + b for a, b in zip(x, linear(dot, m["down"], hidden))]
        probabilities = softmax(linear(dot, m["logits"], x))
        losses.append(-(dot(probabilities, target) if one_hot else probabilities[target]).log())
    return sum(losses) * (1.0 / len(losses))


class Workload:
    """Options: names, the training set; fast."""

    nodes = None

    def __init__(self, options):
        rng = random.Random(SEED)
        self.names, self.fast = options["names"], options.get("fast", False)
        self.numbers = [rng.gauss(0.0, SCALE) for _, rows, columns in matrices() for _ in range(rows * columns)]
        self.step = 0
        self.m = [0.0] * len(self.numbers)
        self.v = [0.0] * len(self.numbers)

    def build(self, lib, leaves):
        if self.fast:
            if not hasattr(lib, "Adam"):
                from adapters import LacksError

                raise LacksError("a dot and an Adam of its own")
            self.adam = lib.Adam(leaves, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
        left = iter(leaves)
        return {name: [[next(left) for _ in range(n)] for _ in range(rows)] for name, rows, n in matrices()}

    def loss(self, lib, model):
        return name_loss(lib.fast_dot if self.fast else lib.dot, model, self.names[self.step % len(self.names)])

    def zero_grads(self, lib):
        (self.adam.zero_grad if self.fast else lib.zero_grads)()

    def update(self, lib, leaves, k):
        self.step += 1
        if self.fast:
            self.adam.step()
            return
        c1, c2 = 1.0 - 0.9**self.step, 1.0 - 0.95**self.step
        m, v = self.m, self.v
        for i, p in enumerate(leaves):
            g = p.grad
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.95 * v[i] + 0.05 * g * g
            p.data -= 0.01 * (m[i] / c1) / ((v[i] / c2) ** 0.5 + 1e-8)
