"""A plain Python scalar Value that stores its partials: what a careful program without a library does.

Here to be measured; the other peers are installed from PyPI.
"""

import math


class Value:
    """A number with a gradient, in as little Python as it takes."""

    __slots__ = ("_operands", "_partials", "data", "grad")

    def __init__(self, data, operands=(), partials=()):
        self.data = data
        self.grad = 0.0
        self._operands = operands
        self._partials = partials

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def exp(self):
        e = math.exp(self.data)
        return Value(e, (self,), (e,))

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def tanh(self):
        t = math.tanh(self.data)
        return Value(t, (self,), (1.0 - t * t,))

    def relu(self):
        return Value(max(0.0, self.data), (self,), (float(self.data > 0.0),))

    def __neg__(self):
        return self * -1.0

    def __radd__(self, other):
        return self + other

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return other + (-self)

    def __rmul__(self, other):
        return self * other

    def __truediv__(self, other):
        return self * other**-1

    def __rtruediv__(self, other):
        return other * self**-1

    def backward(self):
        order = []
        visited = set()

        def visit(v):
            if v not in visited:
                visited.add(v)
                for operand in v._operands:
                    visit(operand)
                order.append(v)

        visit(self)
        self.grad = 1.0
        for v in reversed(order):
            for operand, partial in zip(v._operands, v._partials):
                operand.grad += partial * v.grad
