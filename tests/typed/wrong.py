"""User code with a mistake on each line that ends in a number: type checkers must find them all. It is not run."""

import math

import numpy as np

import pygrad
from pygrad import Value, cond, custom_vjp, fori_loop, grad, jit, nn, scan, switch, value_and_grad, vmap, while_loop


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
scan(lambda c: (c, c), 1.0, np.ones(3))  # 20
scan(lambda c, r: c, 1.0, np.ones(3))  # 21
scan(lambda c, r: (c, r), 1.0, np.ones(3), checkpoint="all")  # 22
fori_loop(0, "3", lambda i, s: s + i, 1.0)  # 23
while_loop(lambda c: c > 1.0, lambda c: c, 1.0, max_steps="3")  # 24
cond(True, lambda a: a, f, 1.0, 2.0, 3.0)  # 25
switch(0, f, 1.0)  # 26
