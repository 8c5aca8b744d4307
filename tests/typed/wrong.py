"""User code with a mistake on each line that ends in a number: type checkers must find them all. It is not run."""

import math

import numpy as np

import pygrad
from pygrad import Value, custom_vjp, grad, jit, nn, value_and_grad, vmap


def f(x: float, y: float = 1.0) -> float:
    return x * y


def pair(x: float) -> list[float]:
    return [x, x]


a = Value(1.0)
a.tahn()  # 1
a.dta = 3  # 2
math.tanh(a)  # 3
Value("2.0")  # 4
jit(f)()  # 5
jit(f)("one")  # 6
jit(f)(1.0, z=2.0)  # 7
text: str = grad(f)(1.0)  # 8
grad(pair)(1.0)  # 9
loss, slope = value_and_grad(f)(1.0)
loss.backward()  # 10
vmap(f, reduce="max")(np.ones(3), np.ones(3))  # 11
vmap(f)("points", "more")  # 12
pygrad.garad(f)  # 13
jit(3)  # 14
a.backward(retain_graph=True)  # 15
nn.MLP(2, 4)  # 16
a + "1"  # 17
a.grad += "1"  # 18
custom_vjp(f)(1.0, z=2.0)  # 19
