"""The lecture
===========

From one neuron, by hand and by backward(), to a network that learns four points, with all graphs.

You will see a neuron's gradients from the chain rule, one node at a time, and the same numbers from backward(); then
a network's loss on four points falling to nearly 0, and its outputs. The graphs go to the folder that you name:
neuron.svg before and after, and one training example's.

Run it with::

    python examples/lecture.py [--folder lecture]

After Andrej Karpathy's lecture on micrograd, whose numbers these are.
"""

import argparse
import math
from pathlib import Path

from pygrad import Value, draw_dot
from pygrad.nn import MLP, seed

XS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
YS = [1.0, -1.0, -1.0, 1.0]


# %%
# A neuron, by hand
# -----------------


def neuron():
    """tanh(x1*w1 + x2*w2 + b) with every step named; its Values by name."""
    x1, x2 = Value(2.0, label="x1"), Value(0.0, label="x2")
    w1, w2 = Value(-3.0, label="w1"), Value(1.0, label="w2")
    b = Value(6.8813735870195432, label="b")
    x1w1, x2w2 = x1 * w1, x2 * w2
    total = x1w1 + x2w2
    n = total + b
    o = n.tanh()
    named = {"x1": x1, "x2": x2, "w1": w1, "w2": w2, "b": b, "x1w1": x1w1, "x2w2": x2w2, "total": total, "n": n, "o": o}
    for name, value in named.items():
        value.label = name
    return named


def by_hand(v):
    """The chain rule, from the result backwards; sets every grad."""
    v["o"].grad = 1.0
    v["n"].grad = (1 - v["o"].data ** 2) * v["o"].grad  # d tanh(n)/dn = 1 - tanh(n)**2
    v["b"].grad = v["total"].grad = v["n"].grad  # a sum passes its grad on
    v["x1w1"].grad = v["x2w2"].grad = v["total"].grad
    for x, w, product in (("x1", "w1", "x1w1"), ("x2", "w2", "x2w2")):  # a product: times the other factor
        v[x].grad = v[w].data * v[product].grad
        v[w].grad = v[x].data * v[product].grad


# %%
# A network that learns four points
# ---------------------------------


def train(steps=60, rate=0.1):
    """An MLP of two layers of four on the four points: the model, and its loss at each step."""
    seed(1337)
    model = MLP(3, [4, 4, 1], nonlin="tanh")
    losses = []
    for _ in range(steps):
        loss = sum((model(x) - y) ** 2 for x, y in zip(XS, YS))
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= rate * p.grad
        losses.append(loss.data)
    return model, losses


# %%
# Run it
# ------


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("lecture"))
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    hand, engine = neuron(), neuron()
    draw_dot(engine["o"]).render(args.folder / "neuron", cleanup=True)
    by_hand(hand)
    engine["o"].backward()
    draw_dot(engine["o"]).render(args.folder / "neuron_backward", cleanup=True)
    print(f"o = {engine['o'].data:.6f}")
    print(f"{'':6}{'by hand':>12}{'backward()':>12}")
    for name in ("x1", "w1", "x2", "w2", "b"):
        print(f"{name:6}{hand[name].grad:12.6f}{engine[name].grad:12.6f}")
    model, losses = train()
    count, first, last = len(model.parameters()), losses[0], losses[-1]
    print(f"{count} parameters; loss {first:.3f} at first, {last:.5f} after {len(losses)} steps")
    print("answers", [f"{model(x).data:+.3f}" for x in XS], "for", YS)
    one = (model(XS[0]) - YS[0]) ** 2
    one.backward()
    draw_dot(one).render(args.folder / "network", cleanup=True)
    print(f"graphs: {', '.join(sorted(str(p) for p in args.folder.glob('*.svg')))}")
    assert math.isclose(engine["w1"].grad, 1.0, abs_tol=1e-9)


if __name__ == "__main__":
    main()
