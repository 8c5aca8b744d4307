"""Neurons, layers and multi-layer perceptrons, with micrograd's signatures, reprs and order of parameters; and more.

Everything here is scalar code over Values, so it runs eagerly, `model(x)`, and recorded, `model.function()`.
"""

from __future__ import annotations

import copy
import math
import operator
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Union

from pygrad import npz
from pygrad._errors import shown
from pygrad._files import replacing
from pygrad.engine import Value, _call_in_scopes, _enter_scope, _present_scope, dot
from pygrad.scopes import PARAMETERS, each, series
from pygrad.structures import leaves, need_numpy, real_number

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

# What `nonlin` may name: what a neuron's repr calls it, and what it does.
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


# What `init` may name: a number for a weight, from how many inputs and outputs its neuron has. Sources: Glorot &
# Bengio, AISTATS 2010, eq. 16; He et al., ICCV 2015, eq. 10.
_INITS: dict[str, Callable[[int, int], float]] = {
    "uniform": lambda _nin, _nout: random.uniform(-1, 1),
    "xavier": lambda nin, nout: random.uniform(-1, 1) * math.sqrt(6 / (nin + nout)),
    "he": lambda nin, _nout: random.gauss(0, math.sqrt(2 / nin)),
}


def seed(number: int) -> None:
    """Make what comes random here the same on every run: Python's `random.seed`, which parameters are drawn by."""
    random.seed(number)


def Parameter(data: Any, label: str = "") -> Value:  # noqa: N802
    """A Value that drawings show as a parameter; in all else like any other leaf."""
    before = _present_scope()
    _enter_scope(PARAMETERS)
    try:
        return Value(data, label=label)
    finally:
        _enter_scope(before)


class Module:
    """Something with parameters: Values among its attributes, or in lists, tuples, dicts and Modules there."""

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def parameters(self) -> list[Value]:
        """Every parameter, in a fixed order."""
        return []

    def function(self) -> Callable[..., Any]:
        """A function of (parameters, *inputs): what the module gives for these in place of its own.

        parameters: as many numbers or Values as `parameters()`, in an array or nested as they like. For recorded
        functions: `value_and_grad(lambda w, x: model.function()(w, x)...)`. The module is not changed.
        """
        own = self.parameters()

        def call(parameters: Any, *inputs: Any) -> Any:
            given = leaves(parameters)
            if len(given) != len(own):
                raise ValueError(f"parameters: {len(given)} numbers; {type(self).__name__} has {len(own)}")
            new = [v if isinstance(v, Value) else Value(v) for v in given]
            return _replaced(self, dict(zip(own, new)), {})(*inputs)

        return call

    def predict(self, X: Any) -> Any:
        """The outputs for each row of X: shape (n, inputs) to (n,) or (n, outputs). Recorded; a NumPy array.

        ValueError if X has no two dimensions, or rows of another length than the module takes.
        """
        from pygrad.training import predict

        return predict(self, X)

    def state_dict(self) -> dict[str, Any]:
        """The parameters' numbers by name: where each Value or list of them is, "layers.0.neurons.1.w"."""
        return {
            name: value.data if isinstance(value, Value) else [v.data for v in value]
            for name, value in _named(self, self.parameters())
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict()` gave. ValueError, with nothing changed, if names or sizes are others."""
        named = dict(_named(self, self.parameters()))
        if set(named) != set(state):
            odd = sorted(set(named) ^ set(state))
            raise ValueError(
                f"not the state of this {type(self).__name__}: {odd[0]!r} is on one side only; "
                "it must be built as the one that was saved"
            )
        pairs: list[tuple[Value, float]] = []
        for name, value in named.items():
            try:
                numbers = [real_number(x, name) for x in leaves(state[name])]
            except TypeError:
                raise ValueError(f"{name}: every entry must be a real number") from None
            values = [value] if isinstance(value, Value) else value
            if len(numbers) != len(values):
                raise ValueError(
                    f"{name}: {len(numbers)} numbers for {len(values)} parameters: the sizes must be the same"
                )
            pairs += zip(values, numbers)
        for value, number in pairs:
            value.data = number

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a NumPy .npz file: an array for each name of `state_dict()`."""
        np = need_numpy()
        with replacing(path) as file:
            np.savez(file, **{name: np.array(x, dtype=float) for name, x in self.state_dict().items()})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over the state that `save` has written; safe for any file.

        ValueError, with nothing changed, if it is another module's, or damaged.
        """
        self.load_state_dict(npz.read(path, len(self.parameters())))


def _replaced(x: Any, new: Mapping[Value, Value], seen: dict[int, Any]) -> Any:
    """A copy of `x` with other Values for those in `new`; what holds none is the same object."""
    if isinstance(x, Value):
        return new.get(x, x)
    if id(x) in seen:
        return seen[id(x)]
    made: Any
    if isinstance(x, (list, tuple)):
        parts = [_replaced(y, new, seen) for y in x]
        same = all(a is b for a, b in zip(parts, x))
        made = x if same else type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    elif isinstance(x, dict):
        made = {key: _replaced(y, new, seen) for key, y in x.items()}
    elif isinstance(x, Module):
        made = seen[id(x)] = copy.copy(x)
        made.__dict__.update({key: _replaced(y, new, seen) for key, y in x.__dict__.items()})
    elif type(x).__name__ == "ndarray" and x.dtype == object:
        made = x.copy()
        for i, y in enumerate(x.flat):
            made.flat[i] = _replaced(y, new, seen)
    else:
        made = x
    seen[id(x)] = made
    return made


def _named(x: Any, parameters: list[Value], path: str = "") -> Iterator[tuple[str, Any]]:
    """(name, Value or list of Values) of the parameters in `x`."""
    wanted = set(parameters)
    found: set[Value] = set()

    def walk(x: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(x, Value):
            if x in wanted and x not in found:
                found.add(x)
                yield path, x
        elif isinstance(x, (list, tuple)) and x and all(isinstance(v, Value) for v in x):
            ours = [v for v in x if v in wanted and v not in found]
            found.update(ours)
            if ours:
                yield path, ours
        elif isinstance(x, (list, tuple)):
            for i, part in enumerate(x):
                yield from walk(part, f"{path}.{i}" if path else str(i))
        elif isinstance(x, (dict, Module)):
            for key, part in (x if isinstance(x, dict) else x.__dict__).items():
                yield from walk(part, f"{path}.{key}" if path else str(key))

    yield from walk(x, path)
    rest = [p for p in parameters if p not in found]
    if rest:  # kept in ways of the user's own
        yield "parameters", rest


def _activation(nonlin: Any) -> tuple[str, Callable[[Value], Value]]:
    """Its row of the table; ValueError if there is none."""
    try:
        return _BY_NONLIN[nonlin]
    except (KeyError, TypeError):
        names = ", ".join(map(repr, _ACTIVATIONS))
        raise ValueError(f"nonlin={nonlin!r}: must be True, False or one of {names}") from None


def _size(module: Module, name: str, number: Any) -> int:
    """How many there are to be; TypeError, ValueError if it is no whole number, or negative."""
    where = f"{type(module).__name__}: {name}={shown(number)}"
    try:
        size = operator.index(number)
    except TypeError:
        raise TypeError(f"{where} is of type {type(number).__name__}: it must be a whole number, such as 3") from None
    if size < 0:
        raise ValueError(f"{where}: must not be negative")
    return size


def _refuse_inputs(module: Module, x: Any, width: int | None = None) -> None:
    """Raise TypeError if inputs are no list, ValueError if there are not as many as `width`."""
    try:
        iter(x)
    except TypeError:
        raise TypeError(f"{type(module).__name__} takes a list of inputs, not {shown(x)}: pass [x] for one") from None
    if width is not None and hasattr(x, "__len__") and len(x) != width:
        raise ValueError(f"{module!r} takes {width} inputs, not {len(x)}: pass as many as it was made for")


class Neuron(Module):
    """nonlin(w . x + b), with nin weights drawn from uniform(-1, 1) by Python's `random`, and b = 0.

    nonlin: True or 'relu', False or 'linear', 'tanh', 'sigmoid', 'softplus', 'leaky_relu', 'silu', 'gelu', 'elu',
    'sin'. init: 'uniform' as above, 'xavier' (Glorot), 'he', or a function of (number of inputs, of outputs); nout
    counts the outputs.
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
                try:  # before recording: one that was assigned since may be wrong
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
    """nout neurons on the same nin inputs. Called with nin inputs; a list, or the one output if nout is 1."""

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        count = _size(self, "nout", nout)
        self.neurons = [Neuron(nin, nout=nout, **kwargs) for _ in range(count)]

    def __call__(self, x: Iterable[Any]) -> Any:
        try:
            x = x if isinstance(x, (list, tuple)) else list(x)
        except TypeError:
            _refuse_inputs(self, x)
            raise
        out = _call_in_scopes(self.neurons, x, series(_present_scope(), "neuron", len(self.neurons)).start)
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(str(n) for n in self.neurons)}]"


class MLP(Module):
    """Layers of nouts[0], nouts[1], ... neurons on nin inputs; the last layer is linear, the others `nonlin`."""

    def __init__(self, nin: int, nouts: Sequence[int], nonlin: Nonlin = True, init: Init = "uniform") -> None:
        try:
            sizes = list(nouts)
        except TypeError:
            a, b = shown(nin), shown(nouts)
            raise TypeError(f"MLP({a}, {b}): nouts must be a list, one size a layer: MLP({a}, [{b}])") from None
        sz = [_size(self, "nin", nin), *(_size(self, f"nouts[{i}]", n) for i, n in enumerate(sizes))]
        last = len(sizes) - 1
        self.layers = [
            Layer(sz[i], sz[i + 1], nonlin=nonlin if i != last else False, init=init) for i in range(len(sizes))
        ]

    def __call__(self, x: Iterable[Any]) -> Any:
        for layer in each("layer", self.layers):
            x = [x] if isinstance(x, Value) else x  # after a layer of one neuron
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"


class Sequential(Module):
    """Modules and functions, one after another: `Sequential(Layer(2, 8), norm, Layer(8, 1))`."""

    def __init__(self, *steps: Callable[[Any], Any]) -> None:
        for step in steps:
            if not callable(step):
                raise TypeError(
                    f"Sequential: {step!r} is of type {type(step).__name__}; steps are modules or functions"
                )
        self.steps = list(steps)

    def __call__(self, x: Any) -> Any:
        for step in each("step", self.steps):
            x = step([x] if isinstance(x, Value) else x)
        return x

    def parameters(self) -> list[Value]:
        return [p for step in self.steps if hasattr(step, "parameters") for p in step.parameters()]

    def __repr__(self) -> str:
        return f"Sequential of [{', '.join(getattr(step, '__name__', None) or repr(step) for step in self.steps)}]"


class Embedding(Module):
    """A vector of `width` parameters for each of `count` symbols, drawn from a normal distribution.

    Called with a symbol's number, 0 .. count-1, or with `count` numbers, a one among zeros, as recorded functions
    need it. IndexError for another number, ValueError for another length.
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
    """x[i] * w[i] / sqrt(mean(x**2) + eps), w from 1. Source: Zhang & Sennrich, NeurIPS 2019, eq. 4."""

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
    """(x[i] - mean) * w[i] / sqrt(variance + eps) + b[i], w from 1 and b from 0. Source: Ba et al., 2016, eq. 4."""

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
        raise ValueError(f"{len(x)} inputs for a norm of {len(w)}: its width must be that of its inputs")
    return x


# ---- Losses, of one sample ------------------------------------------------------------------------


def logsumexp(xs: Iterable[Any]) -> Value:
    """log(sum(exp(x))), without overflow for large x: the largest is taken out first. ValueError if xs is empty."""
    values = [x if isinstance(x, Value) else Value(x) for x in xs]
    if not values:
        raise ValueError("logsumexp of nothing: it needs at least one Value or number")
    largest = values[0]
    for v in values[1:]:
        largest = largest.max(v)
    largest = largest.detach()
    return sum([(v - largest).exp() for v in values], Value(0.0)).log() + largest


def softmax(xs: Iterable[Any]) -> list[Value]:
    """exp(x) / sum(exp(x)) for each x, without overflow; they add up to 1. ValueError if xs is empty."""
    values = [x if isinstance(x, Value) else Value(x) for x in xs]
    total = logsumexp(values)
    return [(v - total).exp() for v in values]


def _outputs(y: Any) -> list[Any]:
    return [y] if isinstance(y, Value) or not hasattr(y, "__len__") else list(y)


def _only(loss: str, output: Any) -> Any:
    outputs = _outputs(output)
    if len(outputs) != 1:
        raise ValueError(f"{loss}: {len(outputs)} outputs; it is for models of one")
    return outputs[0]


def mse(output: Any, target: Any) -> Value:
    """The mean of (output - target)**2 over one or more outputs and as many targets; ValueError if they differ."""
    outputs, targets = _outputs(output), _outputs(target)
    if len(outputs) != len(targets):
        raise ValueError(f"mse: {len(outputs)} outputs and {len(targets)} targets; there must be as many of each")
    errors = [o - t for o, t in zip(outputs, targets)]
    return dot(errors, errors) * (1 / len(errors))


def cross_entropy(logits: Sequence[Any], target: Any) -> Value:
    """-log of the probability that softmax(logits) gives the target, a class's number, or the classes' probabilities.

    ValueError for a class that there is not, or for as many probabilities.
    """
    if hasattr(target, "__index__") and getattr(target, "ndim", 0) == 0:
        number = target.__index__()
        if not 0 <= number < len(logits):
            raise ValueError(f"cross_entropy: class {number}; there are {len(logits)} logits, for classes from 0 on")
        loss: Value = logsumexp(logits) - logits[number]
        return loss
    if not hasattr(target, "__len__") or len(target) != len(logits):
        raise ValueError(f"cross_entropy: the target must be a class's number or {len(logits)} probabilities")
    soft: Value = logsumexp(logits) * sum(target) - dot(target, logits)
    return soft


def binary_cross_entropy(logit: Any, target: Any) -> Value:
    """-log of the probability that sigmoid(logit) gives the target, 0 or 1 (or between), without overflow."""
    x = _only("binary_cross_entropy", logit)
    value = x if isinstance(x, Value) else Value(x)
    loss: Value = value.softplus() - target * value
    return loss


def hinge(score: Any, target: Any) -> Value:
    """max(0, 1 - target * score), for targets -1 and 1."""
    x = _only("hinge", score)
    value: Value = (1 - target * x).relu()
    return value


LOSSES: dict[str, Callable[[Any, Any], Value]] = {
    "mse": mse,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "hinge": hinge,
}
