"""Neurons, layers and multi-layer perceptrons, with micrograd's signatures, reprs and order of parameters; and more.

All of it is scalar code over Values, so it runs both eagerly, `model(x)`, and recorded, `model.function()`.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Callable, Union

from pygrad._core.errors import shown
from pygrad._core.layer import call_in_scopes, dot, present_scope
from pygrad._core.scopes import each, series
from pygrad._learn.losses import binary_cross_entropy, cross_entropy, hinge, logsumexp, mse, softmax
from pygrad._learn.module import Module, Parameter
from pygrad.engine import Value

__all__ = [
    "MLP",
    "Embedding",
    "Layer",
    "LayerNorm",
    "Module",
    "Neuron",
    "Parameter",
    "RMSNorm",
    "Sequential",
    "Value",
    "binary_cross_entropy",
    "cross_entropy",
    "hinge",
    "logsumexp",
    "mse",
    "random",
    "seed",
    "softmax",
]

Nonlin = Union[bool, str]
Init = Union[str, Callable[[int, int], float]]

# The values of `nonlin`: the name in a neuron's repr, and the function.
_ACTIVATIONS: dict[Any, tuple[str, Callable[[Value], Value]]] = {
    "relu": ("ReLU", lambda v: v.relu()),
    "leaky_relu": ("LeakyReLU", lambda v: v.leaky_relu()),
    "tanh": ("Tanh", lambda v: v.tanh()),
    "sigmoid": ("Sigmoid", lambda v: v.sigmoid()),
    "softplus": ("Softplus", lambda v: v.softplus()),
    "silu": ("SiLU", lambda v: v.silu()),
    "gelu": ("GELU", lambda v: v.gelu()),
    "elu": ("ELU", lambda v: v.elu()),
    "sin": ("Sin", lambda v: v.sin()),
    "linear": ("Linear", lambda v: v),
}
_BY_NONLIN = {True: _ACTIVATIONS["relu"], False: _ACTIVATIONS["linear"], **_ACTIVATIONS}
_APPLY = {nonlin: apply for nonlin, (_, apply) in _BY_NONLIN.items()}


# The values of `init`: functions that draw one weight, given the numbers of inputs and outputs. Sources: Glorot &
# Bengio, AISTATS 2010, eq. 16; He et al., ICCV 2015, eq. 10.
_INITS: dict[str, Callable[[int, int], float]] = {
    "uniform": lambda _nin, _nout: random.uniform(-1, 1),
    "xavier": lambda nin, nout: random.uniform(-1, 1) * math.sqrt(6 / (nin + nout)),
    "he": lambda nin, _nout: random.gauss(0, math.sqrt(2 / nin)),
}


def seed(number: int) -> None:
    """Make parameters the same on every run. Calls `random.seed`, since Python's `random` draws them.

    >>> seed(1)
    >>> a = Neuron(1).w[0].data
    >>> seed(1)
    >>> a == Neuron(1).w[0].data
    True
    """
    random.seed(number)


def _activation(nonlin: Any) -> tuple[str, Callable[[Value], Value]]:
    """The table's row for `nonlin`. Raises ValueError for unknown names."""
    try:
        return _BY_NONLIN[nonlin]
    except (KeyError, TypeError):
        names = ", ".join(map(repr, _ACTIVATIONS))
        raise ValueError(f"nonlin={nonlin!r}: must be True, False or one of {names}") from None


def _size(module: Module, name: str, number: Any) -> int:
    """A count as an int. Raises TypeError unless it is a whole number, ValueError if it is negative."""
    where = f"{type(module).__name__}: {name}={shown(number)}"
    try:
        size = operator.index(number)
    except TypeError:
        raise TypeError(f"{where} is of type {type(number).__name__}: it must be a whole number, such as 3") from None
    if size < 0:
        raise ValueError(f"{where}: must not be negative")
    return size


def _refuse_inputs(module: Module, x: Any, width: int | None = None) -> None:
    """Raise TypeError unless inputs are a list, ValueError unless there are `width` of them."""
    try:
        iter(x)
    except TypeError:
        raise TypeError(f"{type(module).__name__} takes a list of inputs, not {shown(x)}: pass [x] for one") from None
    if hasattr(x, "__getitem__") and len(x) and hasattr(x[0], "__len__"):
        name, text = type(module).__name__, shown(x)
        raise ValueError(f"{name} takes one sample, not {text}: write [model(row) for row in X], or model.predict(X)")
    if width is not None and hasattr(x, "__len__") and len(x) != width:
        raise ValueError(f"{module!r} takes {width} inputs, not {len(x)}: pass as many as it was made for")


class Neuron(Module):
    """nonlin(w . x + b), with nin weights drawn from uniform(-1, 1) by Python's `random`, and b = 0.

    nonlin: True or 'relu', False or 'linear', 'tanh', 'sigmoid', 'softplus', 'leaky_relu', 'silu', 'gelu', 'elu',
    'sin'. init: 'uniform' as above, 'xavier' (Glorot), 'he', or a function of (nin, nout) that draws one weight; nout
    is the number of outputs in the layer. Called with a list of nin numbers or Values; returns one Value. Raises
    ValueError for another number of inputs, and for an unknown nonlin or init.

    >>> Neuron(2, nonlin="tanh")
    TanhNeuron(2)
    """

    def __init__(self, nin: int, nonlin: Nonlin = True, init: Init = "uniform", nout: int = 1) -> None:
        draw = _INITS.get(init) if isinstance(init, str) else init
        if not callable(draw):
            raise ValueError(f"init={init!r}: must be a function or one of {', '.join(map(repr, _INITS))}")
        _activation(nonlin)
        count = _size(self, "nin", nin)
        self.w = [Parameter(draw(nin, nout)) for _ in range(count)]
        self.b = Parameter(0)
        self.nonlin = nonlin

    def __call__(self, x: Iterable[Any]) -> Value:
        nonlin = self.nonlin
        result: Value
        try:
            if nonlin is False:
                result = dot(self.w, x, self.b)
            elif nonlin is True:
                result = dot(self.w, x, self.b).relu()
            else:
                try:  # look it up before recording: an assigned one may be wrong
                    apply = _APPLY[nonlin]
                except (KeyError, TypeError):
                    apply = _activation(nonlin)[1]
                result = apply(dot(self.w, x, self.b))
        except (TypeError, ValueError):
            _refuse_inputs(self, x, len(self.w))
            raise
        return result

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f"{_activation(self.nonlin)[0]}Neuron({len(self.w)})"


class Layer(Module):
    """nout neurons on the same nin inputs. Called with nin inputs; returns a list, or one Value if nout is 1.

    Raises ValueError if called with another number of inputs.

    >>> layer = Layer(2, 3)
    >>> len(layer([1.0, 2.0])), len(layer.parameters())
    (3, 9)
    """

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        count = _size(self, "nout", nout)
        self.neurons = [Neuron(nin, nout=nout, **kwargs) for _ in range(count)]

    def __call__(self, x: Iterable[Any]) -> Any:
        try:
            x = x if isinstance(x, (list, tuple)) else list(x)
        except TypeError:
            _refuse_inputs(self, x)
            raise
        out = call_in_scopes(self.neurons, x, series(present_scope(), "neuron", len(self.neurons)).start)
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(str(n) for n in self.neurons)}]"


class MLP(Module):
    """Layers of nouts[0], nouts[1], ... neurons on nin inputs; the last layer is linear, the others `nonlin`.

    Raises ValueError if called with another number of inputs.

    >>> MLP(2, [3, 1])
    MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2), ReLUNeuron(2)], Layer of [LinearNeuron(3)]]
    """

    def __init__(self, nin: int, nouts: Sequence[int], nonlin: Nonlin = True, init: Init = "uniform") -> None:
        try:
            sizes = list(nouts)
        except TypeError:
            a, b = shown(nin), shown(nouts)
            raise TypeError(f"MLP({a}, {b}): the sizes of the layers must be a list: MLP({a}, [{b}])") from None
        sz = [_size(self, "nin", nin), *(_size(self, f"nouts[{i}]", n) for i, n in enumerate(sizes))]
        last = len(sizes) - 1
        self.layers = [
            Layer(sz[i], sz[i + 1], nonlin=nonlin if i != last else False, init=init) for i in range(len(sizes))
        ]

    def __call__(self, x: Iterable[Any]) -> Any:
        with closing(each("layer", self.layers)) as layers:
            for layer in layers:
                x = [x] if isinstance(x, Value) else x  # after a layer of one neuron
                x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"


class Sequential(Module):
    """Modules and functions, applied one after another. Raises TypeError for a step that is not callable.

    >>> Sequential(Layer(2, 2), softmax, Layer(2, 1))
    Sequential of [Layer of [ReLUNeuron(2), ReLUNeuron(2)], softmax, Layer of [ReLUNeuron(2)]]
    """

    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        for step in steps:
            if not callable(step):
                raise TypeError(
                    f"Sequential: {step!r} is of type {type(step).__name__}; steps are modules or functions"
                )
        self.steps = list(steps)

    def __call__(self, x: Any) -> Any:
        with closing(each("step", self.steps)) as steps:
            for step in steps:
                x = step([x] if isinstance(x, Value) else x)
        return x

    def parameters(self) -> list[Value]:
        return [p for step in self.steps if hasattr(step, "parameters") for p in step.parameters()]

    def __repr__(self) -> str:
        return f"Sequential of [{', '.join(getattr(step, '__name__', None) or repr(step) for step in self.steps)}]"


class Embedding(Module):
    """A vector of `width` parameters for each of `count` symbols, drawn from a normal distribution.

    Called with a symbol's number, 0 .. count-1, or with a one-hot list of `count` numbers, which recorded functions
    need. Raises IndexError for a number out of range, ValueError for a list of another length.

    >>> len(Embedding(27, 10)(3))
    10
    """

    def __init__(self, count: int, width: int, scale: float = 1.0) -> None:
        self.rows = [[Parameter(random.gauss(0, scale)) for _ in range(width)] for _ in range(count)]

    def __call__(self, symbol: Any) -> list[Value]:
        if hasattr(symbol, "__index__") and getattr(symbol, "ndim", 0) == 0:
            number = symbol.__index__()
            if not 0 <= number < len(self.rows):
                raise IndexError(f"symbol {number}: there are {len(self.rows)}, from 0 on")
            return list(self.rows[number])
        return [dot(column, symbol) for column in zip(*self.rows)]

    def parameters(self) -> list[Value]:
        return [v for row in self.rows for v in row]

    def __repr__(self) -> str:
        return f"Embedding({len(self.rows)}, {len(self.rows[0]) if self.rows else 0})"


class RMSNorm(Module):
    """x[i] * w[i] / sqrt(mean(x**2) + eps), w from 1. Source: Zhang & Sennrich, NeurIPS 2019, eq. 4.

    Raises ValueError for another number of inputs.

    >>> [round(v.data, 3) for v in RMSNorm(2)([3.0, 4.0])]
    [0.849, 1.131]
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.w = [Parameter(1.0) for _ in range(width)]
        self.eps = eps

    def __call__(self, x: Sequence[Any]) -> list[Value]:
        scale = (dot(x, x) * (1 / len(x)) + self.eps) ** -0.5
        return [v * scale * w for v, w in zip(_as_long(x, self.w), self.w)]

    def parameters(self) -> list[Value]:
        return list(self.w)

    def __repr__(self) -> str:
        return f"RMSNorm({len(self.w)})"


class LayerNorm(Module):
    """(x[i] - mean) * w[i] / sqrt(variance + eps) + b[i], w from 1 and b from 0. Source: Ba et al., 2016, eq. 4.

    Raises ValueError for another number of inputs.

    >>> [round(v.data, 3) for v in LayerNorm(2)([3.0, 5.0])]
    [-1.0, 1.0]
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.w = [Parameter(1.0) for _ in range(width)]
        self.b = [Parameter(0.0) for _ in range(width)]
        self.eps = eps

    def __call__(self, x: Sequence[Any]) -> list[Value]:
        mean = sum(x) * (1 / len(x))
        centred = [v - mean for v in _as_long(x, self.w)]
        scale = (dot(centred, centred) * (1 / len(x)) + self.eps) ** -0.5
        return [v * scale * w + b for v, w, b in zip(centred, self.w, self.b)]

    def parameters(self) -> list[Value]:
        return [*self.w, *self.b]

    def __repr__(self) -> str:
        return f"LayerNorm({len(self.w)})"


def _as_long(x: Sequence[Any], w: Sequence[Any]) -> Sequence[Any]:
    if len(x) != len(w):
        raise ValueError(f"{len(x)} inputs for a norm of {len(w)}: its width must be the number of inputs")
    return x
