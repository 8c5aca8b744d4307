"""Programs that look into the graph, on micrograd and on pygrad, turn by turn: python benchmarks/looking.py [NAME ...]

What goes through Python in both: walks over `_prev`, operations with closures of one's own, subclasses, loops over
parameters. Each program is one function of the module to use; results are compared before anything is timed. Needs
micrograd, as the tests do. Printed: the least time in ms of many turns, and micrograd's over pygrad's, above 1 where
pygrad is quicker.
"""

from __future__ import annotations

import math
import random
import sys
from time import perf_counter

ROUNDS = 40


def net(lib):
    """The loss of a net for one point: some 1,000 nodes. Its parameters, too."""
    random.seed(3)
    model = lib.nn.MLP(2, [16, 16, 1])
    return model([lib.Value(0.5), lib.Value(-1.5)]), model.parameters()


def expression(lib, terms=300):
    x, total = lib.Value(0.3), lib.Value(0.0)
    for _ in range(terms):
        total = total * 0.9 + x * x
    return total


def topological(root):
    """Micrograd's own, as learners copy it."""
    topo, visited = [], set()

    def build(v):
        if v not in visited:
            visited.add(v)
            for child in v._prev:
                build(child)
            topo.append(v)

    build(root)
    return topo


def walk_first(lib):
    root = expression(lib)
    start = perf_counter()
    order = topological(root)
    return perf_counter() - start, len(order)


def build_and_walk(lib):
    start = perf_counter()
    order = topological(expression(lib))
    return perf_counter() - start, len(order)


def walk_again(lib):
    root = expression(lib)
    topological(root)
    start = perf_counter()
    order = topological(root)
    return perf_counter() - start, len(order)


def walk_net_first(lib):
    root, _ = net(lib)
    start = perf_counter()
    order = topological(root)
    return perf_counter() - start, len(order)


def walk_net_again(lib):
    root, _ = net(lib)
    topological(root)
    start = perf_counter()
    order = topological(root)
    return perf_counter() - start, len(order)


def step_by_step(lib):
    """Backward by hand: one's own order, and each node's step."""
    root = expression(lib)
    order = topological(root)
    start = perf_counter()
    root.grad = 1
    for v in reversed(order):
        v._backward()
    return perf_counter() - start, sum(v.grad for v in order)


def read_all(lib):
    root = expression(lib)
    order = topological(root)
    start = perf_counter()
    data = grad = 0.0
    names = 0
    for v in order:
        data += v.data
        grad += v.grad
        names += len(v._op) > 0
    return perf_counter() - start, data + grad + names


def read_data(lib):
    v = lib.Value(0.5)
    start = perf_counter()
    for _ in range(20_000):
        v.data  # noqa: B018
    return perf_counter() - start, v.data


def closures(lib, terms=1000):
    """An operation of the user's own, as the lecture writes them."""
    Value = lib.Value

    def tanh(x):
        t = math.tanh(x.data)
        out = Value(t, (x,), "tanh")

        def _backward():
            x.grad += (1 - t * t) * out.grad

        out._backward = _backward
        return out

    def times(x, y):
        out = Value(x.data * y.data, (x, y), "*")

        def _backward():
            x.grad += y.data * out.grad
            y.grad += x.data * out.grad

        out._backward = _backward
        return out

    x = Value(0.3)
    start = perf_counter()
    for _ in range(terms // 200):
        root = Value(0.7)
        for _ in range(100):
            root = tanh(times(root, x))
        root.backward()
    return perf_counter() - start, x.grad


def subclass(lib):
    """A subclass that brings + and * of its own, with closures."""
    Value = lib.Value

    class Own(Value):
        def __add__(self, other):
            other = other if isinstance(other, Value) else Own(other)
            out = Own(self.data + other.data, (self, other), "+")

            def _backward():
                self.grad += out.grad
                other.grad += out.grad

            out._backward = _backward
            return out

        def __mul__(self, other):
            other = other if isinstance(other, Value) else Own(other)
            out = Own(self.data * other.data, (self, other), "*")

            def _backward():
                self.grad += other.data * out.grad
                other.grad += self.data * out.grad

            out._backward = _backward
            return out

    x = Own(0.3)
    start = perf_counter()
    for _ in range(5):
        root = Own(0.7)
        for _ in range(100):
            root = root * 0.9 + x
        root.backward()
    return perf_counter() - start, x.grad


def subclass_above(lib):
    """A subclass whose + and * call those of Value."""
    Value = lib.Value
    count = [0]

    class Own(Value):
        def __add__(self, other):
            count[0] += 1
            return super().__add__(other)

        def __mul__(self, other):
            count[0] += 1
            return super().__mul__(other)

    start = perf_counter()
    x, total = Own(0.3), Own(0.0)
    for _ in range(300):
        total = x * 0.9 + total
    total.backward()
    return perf_counter() - start, x.grad


def sgd(lib):
    """SGD, written as a loop over 369 parameters."""
    random.seed(5)
    parameters = [lib.Value(random.random()) for _ in range(369)]
    for p in parameters:
        p.grad = 0.25
    start = perf_counter()
    for _ in range(20):
        for p in parameters:
            p.data -= 0.01 * p.grad
        for p in parameters:
            p.grad = 0.0
    return perf_counter() - start, sum(p.data for p in parameters)


def closures_left(lib):
    """The same graph, 50 times over, each dropped after use."""
    total = 0.0
    start = perf_counter()
    for _ in range(20):
        total += closures(lib, 200)[1]
    return perf_counter() - start, total


PROGRAMS = {
    f.__name__: f
    for f in (
        walk_first, build_and_walk, walk_again, walk_net_first, walk_net_again, step_by_step, read_all, read_data,
        closures, closures_left, subclass, subclass_above, sgd,
    )
}  # fmt: skip


class Library:
    def __init__(self, name):
        engine = __import__(f"{name}.engine", fromlist=["Value"])
        self.nn = __import__(f"{name}.nn", fromlist=["MLP"])
        self.Value, self.name = engine.Value, name


def main(names):
    unknown = set(names) - set(PROGRAMS)
    if unknown:
        sys.exit(f"no program {min(unknown)}; there are: {', '.join(PROGRAMS)}")
    libraries = [Library("micrograd"), Library("pygrad")]
    sys.setrecursionlimit(10_000)
    print(f"{'program':16} {'micrograd':>10} {'pygrad':>10}  ratio")
    for name in names or PROGRAMS:
        program = PROGRAMS[name]
        results = [program(lib)[1] for lib in libraries]
        if not math.isclose(*results, rel_tol=1e-12):
            print(f"{name:16} differs: {results[0]!r}, {results[1]!r}")
            continue
        times = [[], []]
        for k in range(2 * ROUNDS):
            which = (k ^ (k >> 1)) % 2
            times[which].append(program(libraries[which])[0])
        a, b = (1e3 * min(t) for t in times)
        print(f"{name:16} {a:10.4f} {b:10.4f} {a / b:6.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
