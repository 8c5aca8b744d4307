"""A plain model of Values: nodes that keep their operands, and a reverse sweep without recursion.

As in pygrad, leaves accumulate, the grads of interior nodes are overwritten, partials use the operands' current
numbers, and a node's own number stays until it is set.
"""

from __future__ import annotations

import itertools
import math

_count = itertools.count()


class Node:
    """One number, and how it was made."""

    def __init__(self, data, op="", operands=(), param=None):
        self.data, self.op, self.operands, self.param = data, op, tuple(operands), param
        self.grad = 0.0
        self.label = ""
        self.order = next(_count)

    def partials(self):
        """The partial derivatives by the operands, in order."""
        x = [operand.data for operand in self.operands]
        v = self.data
        if self.op == "sum_of_squares":  # the custom operation of the tests
            return [2 * a for a in x]
        return {
            "add": lambda: (1.0, 1.0),
            "sub": lambda: (1.0, -1.0),
            "mul": lambda: (x[1], x[0]),
            "div": lambda: (1 / x[1], -v / x[1]),
            "tanh": lambda: (1 - v * v if v * v <= 0.5 else _sech2(x[0]),),
            "exp": lambda: (v,),
            "mod": lambda: (1.0, -math.floor(x[0] / x[1] - v / x[1] + 0.5)),
            "asinh": lambda: (1 / math.hypot(1.0, x[0]),),
            "floor": lambda: (0.0,),
            "sin": lambda: (math.cos(x[0]),),
            "relu": lambda: (float(v > 0),),
            "neg": lambda: (-1.0,),
            "powc": lambda: (self.param * x[0] ** (self.param - 1) if self.param else 0.0,),
            "twice": lambda: (2.0,),
        }[self.op]()

    def below(self):
        """Every node that this one was made from, and itself, results before operands."""
        found, todo = {self}, [self]
        while todo:
            for operand in todo.pop().operands:
                if operand not in found:
                    found.add(operand)
                    todo.append(operand)
        return sorted(found, key=lambda node: -node.order)

    def backward(self):
        """The reverse sweep."""
        nodes = self.below()
        for node in nodes:
            if node.operands:
                node.grad = 0.0
        self.grad = 1.0
        for node in nodes:
            for operand, partial in zip(node.operands, node.partials() if node.operands else ()):
                operand.grad += node.grad * partial


def _sech2(a):
    e = math.exp(-2 * abs(a))
    return 4 * e / (1 + e) ** 2


VALUES = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "mod": lambda a, b: a % b,
    "tanh": math.tanh,
    "exp": math.exp,
    "asinh": math.asinh,
    "floor": lambda a: float(math.floor(a)),
    "sin": math.sin,
    "relu": lambda a: max(a, 0.0),
    "neg": lambda a: -a,
}
