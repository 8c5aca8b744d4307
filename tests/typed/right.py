"""User code that type checkers must accept, and that runs: tests/test_types.py."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import pygrad
from pygrad import (
    Value,
    checkpoint,
    cond,
    custom_jvp,
    custom_root,
    fori_loop,
    grad,
    hessian,
    hvp,
    jacobian,
    jit,
    jvp,
    linearize,
    math,
    nn,
    optim,
    scan,
    switch,
    value_and_grad,
    vjp,
    vmap,
    while_loop,
)

Array = NDArray[np.float64]

# Values, as in micrograd.
a, b = Value(2.0, label="a"), Value(-3)
c = (a * b + 10).tanh() / 2 - 1.0 / (b**2 + a)
c.label = "c"
c.backward()
slope: float = a.grad
a.data -= 0.1 * a.grad
a.grad = 0.0
parents: set[Value] = c._prev
text: str = f"{c.data:.3f} {c}"
largest: Value = max([a, b], key=lambda v: v.data)
total: Value = math.exp(a) + math.maximum(a, 3.0) + a.max(b)
wide: Array = np.array([1.0, 2.0, 3.0])

# A model and its training.
model = nn.MLP(2, [4, 1])
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    loss = sum((model([x, 1.0]) - 1.0) ** 2 for x in (0.5, -0.5)) + Value(0.0)
    model.zero_grad()
    loss.backward()
    optimizer.step()


# Recorded functions keep their signature.
def wave(x: float, k: float = 2.0, *, shift: float = 0.0) -> Value:
    return math.sin(k * x + shift) * math.exp(-x)


def energy(w: Array, x: Array, scale: float = 1.0) -> float:
    total: float = ((w * x) ** 2).sum()
    return total * scale


class Line(NamedTuple):
    slope: float
    start: float

    def at(self, x: float) -> float:
        return self.slope * x + self.start


@dataclass
class Spring:
    k: float
    rest: float = 1.0

    @jit
    def energy(self, x: float) -> float:
        return 0.5 * self.k * (x - self.rest) ** 2


fast = jit(wave)
y: float = fast(0.5)
y = fast(0.5, 3.0, shift=0.1)
first: float = grad(wave)(0.5, shift=0.2)
value, gradient = value_and_grad(energy)(wide, wide, scale=2.0)
value += 1.0
wide = wide - 0.1 * gradient
both = grad(energy, argnums=(0, 1))(wide, wide)
line = grad(lambda p: p.at(2.0) ** 2)(Line(1.0, 2.0))
p = Line(1.0, 2.0)


def squared(p: Line, x: float) -> float:
    return p.at(x) ** 2


p = grad(squared)(p, 3.0)
start: float = grad(squared)(p, 3.0).start
lanes = vmap(wave)(wide)
lanes = lanes * 2.0
mean: float = vmap(squared, in_axes=(None, 0), reduce="mean")(p, wide)
rows = vmap(energy, in_axes=(None, 0))(wide, np.ones((4, 3)))
shape: tuple[int, ...] = rows.shape
curvature = hessian(energy)(wide, wide)
product: Array = hvp(energy)(wide, wide, wide, 0.5)
matrix = jacobian(energy, argnums=1)(wide, wide)
primal, tangent = jvp(wave, (0.5,), (1.0,))
primal += tangent
result, pullback = vjp(wave, 0.5)
gradients = pullback(1.0)
result, push = linearize(squared, p, 1.0)
spring = Spring(2.0)
stored: float = spring.energy(3.0)


@jit(static_argnames="n")
def power(x: float, n: int) -> float:
    result = 1.0
    for _ in range(n):
        result = result * x
    return result


@grad
def cubed(x: float) -> float:
    return power(x, 3)


@custom_jvp
def log1pexp(x: float, scale: float = 1.0) -> Value:
    return math.log(1.0 + math.exp(scale * x))


@log1pexp.defjvp
def log1pexp_rule(primals: tuple[Value, Value], tangents: tuple[Value, Value]) -> tuple[Value, Value]:
    x, scale = primals
    y: Value = math.log(1.0 + math.exp(scale * x))
    return y, math.sigmoid(scale * x) * (scale * tangents[0] + x * tangents[1])


steep: float = grad(log1pexp)(0.5, scale=2.0)
root: float = grad(lambda a: custom_root(lambda x: x * x - a, 1.0, lambda f, x: a.sqrt()))(4.0)
y = power(2.0, n=3) + cubed(2.0)
number = jit(lambda x: x * x)(3.0)
doubled = pygrad.tree_map(lambda x: 2 * x, {"a": 1.0})
program = fast.program(1.0)
program.save


def weighed(state: tuple[float, Array], row: Array) -> tuple[tuple[float, Array], float]:
    total, kept = state
    return (total + row.sum(), kept * row), total


def walk(x: float, rows: Array) -> float:
    (total, kept), totals = scan(weighed, (x, np.ones(3)), rows, reverse=True, checkpoint=4)
    last, squares = scan(lambda c, _: (c * 2.0, c * c), total + kept[0], length=3)
    start: float = last + totals.sum()
    grown = fori_loop(0, 5, lambda i, y: math.sin(y * x) + i, start)
    halved = while_loop(lambda c: c > 1.0, lambda c: c / 2.0, grown, max_steps=9)
    chosen = cond(halved > x, lambda a, b: a * b, lambda a, b: a, halved, grown)
    first: float = squares[0]
    turned: float = switch(x, [lambda a: a, lambda a: -a], first)
    return chosen + turned + checkpoint(squared)(p, x)


walked: float = jit(walk)(1.0, np.ones((2, 3)))
print(program.stats.instructions > 0, round(power(2.0, 3), 3))
