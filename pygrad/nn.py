"""Neurons, layers and multi-layer perceptrons, with micrograd's signatures, reprs and order of parameters."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, Union

from pygrad.engine import Value, dot

Nonlin = Union[bool, str]

# What `nonlin` may name, and what a neuron's repr calls it.
_ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "sin": "Sin",
    "linear": "Linear",
}


class Module:
    """Something with parameters."""

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def parameters(self) -> list[Value]:
        """Every parameter, in a fixed order."""
        return []


class Neuron(Module):
    """nonlin(w . x + b), with nin weights drawn from uniform(-1, 1) by Python's `random`, and b = 0.

    nonlin: True or 'relu', False or 'linear', 'tanh', 'sigmoid', 'softplus', 'leaky_relu', 'sin'.
    """

    def __init__(self, nin: int, nonlin: Nonlin = True) -> None:
        name = {True: "relu", False: "linear"}[nonlin] if isinstance(nonlin, bool) else nonlin
        if not isinstance(name, str) or name not in _ACTIVATIONS:
            raise ValueError(f"nonlin={nonlin!r}: must be True, False or one of {', '.join(map(repr, _ACTIVATIONS))}")
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(0)
        self.nonlin = name

    def __call__(self, x: Iterable[Any]) -> Value:
        act: Value = dot(self.w, x, self.b)
        if self.nonlin == "linear":
            return act
        result: Value = getattr(act, self.nonlin)()
        return result

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f"{_ACTIVATIONS[self.nonlin]}Neuron({len(self.w)})"


class Layer(Module):
    """nout neurons on the same nin inputs. Called with nin inputs; a list, or the one output if nout is 1."""

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]

    def __call__(self, x: Iterable[Any]) -> Any:
        x = x if isinstance(x, (list, tuple)) else list(x)
        out = [n(x) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(str(n) for n in self.neurons)}]"


class MLP(Module):
    """Layers of nouts[0], nouts[1], ... neurons on nin inputs; the last layer is linear, the others `nonlin`."""

    def __init__(self, nin: int, nouts: Sequence[int], nonlin: Nonlin = True) -> None:
        sz = [nin, *nouts]
        last = len(nouts) - 1
        self.layers = [Layer(sz[i], sz[i + 1], nonlin=nonlin if i != last else False) for i in range(len(nouts))]

    def __call__(self, x: Iterable[Any]) -> Any:
        for layer in self.layers:
            x = [x] if isinstance(x, Value) else x  # after a layer of one neuron
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"
