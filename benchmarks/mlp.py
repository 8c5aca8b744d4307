"""Eager MLP: a training step of micrograd's moons demo, MLP(2, [16, 16, 1]) on 100 points, SVM loss.

Option nn: the library's own `nn` in place of generic code. What is written in expressions as a number goes
through `lib.const`, once, for libraries that want Values only; sums start from their first term likewise.
"""

import math
import random

SEED = 1337
POINTS = 100
SIZES = (2, 16, 16, 1)


def moons():
    """Two interleaving half circles with noise, and their labels, -1 and 1."""
    rng = random.Random(SEED)
    X, y = [], []
    for i in range(POINTS):
        angle = math.pi * rng.random()
        upper = i % 2 == 0
        X.append(
            [
                (math.cos(angle) if upper else 1 - math.cos(angle)) + rng.gauss(0, 0.1),
                (math.sin(angle) if upper else 0.5 - math.sin(angle)) + rng.gauss(0, 0.1),
            ]
        )
        y.append(-1.0 if upper else 1.0)
    return X, y


class Neuron:
    """As in micrograd, with its parameters given."""

    def __init__(self, parameters, nonlin):
        *self.w, self.b = parameters
        self.nonlin = nonlin

    def __call__(self, x):
        act = sum((wi * xi for wi, xi in zip(self.w, x)), self.b)
        return act.relu() if self.nonlin else act


class MLP:
    def __init__(self, parameters):
        parameters = iter(parameters)
        self.layers = [
            [Neuron([next(parameters) for _ in range(nin + 1)], last != 1) for _ in range(last)]
            for nin, last in zip(SIZES, SIZES[1:])
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = [neuron(x) for neuron in layer]
        return x[0]


class Workload:
    """Options: nn."""

    nodes = None

    def __init__(self, options):
        rng = random.Random(SEED)
        self.X, self.y = moons()
        self.numbers = []
        for nin, nout in zip(SIZES, SIZES[1:]):
            for _ in range(nout):
                self.numbers += [*(rng.uniform(-1, 1) for _ in range(nin)), 0.0]
        if options.get("nn"):
            self.own_leaves = lambda: self.parameters

    def build(self, lib, leaves):
        if hasattr(self, "own_leaves"):
            if lib.MLP is None:
                from adapters import LacksError

                raise LacksError("an nn of its own over scalars")
            self.model = lib.MLP(SIZES[0], list(SIZES[1:]))
            for p, number in zip(self.model.parameters(), self.numbers):
                p.data = number
            self.parameters = self.model.parameters()
        else:
            self.model = MLP(leaves)
            self.parameters = leaves
        self.negated = [lib.const(-y) for y in self.y]
        self.one, self.share, self.decay = lib.const(1.0), lib.const(1.0 / POINTS), lib.const(1e-4)
        return self.model

    def loss(self, lib, model):
        leaf, one = lib.leaf, self.one
        inputs = [[leaf(x) for x in row] for row in self.X]
        scores = [model(x) for x in inputs]
        losses = [(one + y * score).relu() for y, score in zip(self.negated, scores)]
        data = sum(losses[1:], losses[0]) * self.share
        squares = [p * p for p in self.parameters]
        return data + self.decay * sum(squares[1:], squares[0])

    def update(self, lib, leaves, k):
        rate = 1.0 - 0.9 * min(k, 100) / 100
        for p in leaves:
            p.data -= rate * p.grad
