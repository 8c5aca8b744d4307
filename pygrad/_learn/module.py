"""Module: an object with parameters. It can be saved, called with other parameters, and run on arrays."""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from pygrad._core.layer import enter_scope, present_scope
from pygrad._core.scopes import PARAMETERS
from pygrad._core.trees import need_numpy, real_number, tree_leaves
from pygrad._learn import npz
from pygrad._learn.data import outputs_of, rows, with_shapes
from pygrad._record.function import Function, jit
from pygrad._record.vmap import vmap
from pygrad.engine import Value, as_value


def Parameter(data: Any, label: str = "") -> Value:  # noqa: N802
    """A Value that drawings show as a parameter; otherwise a leaf like any other.

    Raises TypeError for data that is not a number.

    >>> Parameter(0.5)
    Value(data=0.5, grad=0.0)
    """
    before = present_scope()
    enter_scope(PARAMETERS)
    try:
        return Value(data, label=label)
    finally:
        enter_scope(before)


class Module:
    """An object with parameters: Values in its attributes, and in lists, tuples, dicts and Modules there.

    Subclasses override `parameters`.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.w = Parameter(2.0)
    ...     def parameters(self):
    ...         return [self.w]
    >>> Scale().state_dict()
    {'w': 2.0}
    """

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def parameters(self) -> list[Value]:
        """Every parameter, in a fixed order."""
        return []

    def function(self) -> Callable[..., Any]:
        """A function of (parameters, *inputs) that calls the module with these parameters instead of its own.

        parameters: as many numbers or Values as in `parameters()`, as an array or in any nesting. Use it in recorded
        functions: `value_and_grad(lambda w, x: model.function()(w, x)...)`. The module is not changed.
        """
        own = self.parameters()

        def call(parameters: Any, *inputs: Any) -> Any:
            given = tree_leaves(parameters)
            if len(given) != len(own):
                raise ValueError(f"parameters: {len(given)} numbers; {type(self).__name__} has {len(own)}")
            new = [as_value(v) for v in given]
            return _replaced(self, dict(zip(own, new)), {})(*inputs)

        return call

    def predict(self, X: Any) -> Any:
        """The outputs for each row of X, as an array: shape (n, inputs) to (n,) or (n, outputs). Runs in C.

        Raises ValueError unless X has two dimensions and rows of the length that the module takes.
        """
        X = rows("X", X, (2,))
        if self not in _functions:
            _functions[self] = jit(vmap(self.function(), in_axes=(None, 0)))
        return outputs_of(with_shapes(_functions[self], "X", X)(numbers_of(self), X))

    def state_dict(self) -> dict[str, Any]:
        """The parameters' numbers by name, the path of a Value or list of Values: "layers.0.neurons.1.w"."""
        return {
            name: value.data if isinstance(value, Value) else [v.data for v in value]
            for name, value in named(self, self.parameters())
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict()`. Raises ValueError, with nothing changed, if names or sizes differ."""
        here = dict(named(self, self.parameters()))
        if set(here) != set(state):
            odd = sorted(set(here) ^ set(state))
            raise ValueError(
                f"not the state of this {type(self).__name__}: {odd[0]!r} is in only one of the two; "
                "build the module as it was when saved"
            )
        pairs: list[tuple[Value, float]] = []
        for name, value in here.items():
            try:
                numbers = [real_number(x, name) for x in tree_leaves(state[name])]
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
        """Write the state to a NumPy .npz file: one array per name of `state_dict()`."""
        np = need_numpy()
        npz.write(path, {name: np.array(x, dtype=float) for name, x in self.state_dict().items()})

    def load(self, path: str | os.PathLike[str]) -> None:
        """Load a state written by `save`; safe for any file.

        Raises ValueError, with nothing changed, if it is damaged or another module's.
        """
        self.load_state_dict(npz.read(path, len(self.parameters())))


def _replaced(x: Any, new: Mapping[Value, Value], seen: dict[int, Any]) -> Any:
    """A copy of `x` with the Values in `new` replaced; parts without such Values are not copied."""
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


def named(x: Any, parameters: list[Value], path: str = "") -> Iterator[tuple[str, Any]]:
    """(name, Value or list of Values) for the parameters in `x`."""
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
    if rest:  # kept where named() does not look
        yield "parameters", rest


_functions: weakref.WeakKeyDictionary[Module, Function] = weakref.WeakKeyDictionary()


def numbers_of(model: Module) -> Any:
    """The parameters' numbers, as an array. Raises ValueError if there are no parameters."""
    numbers = need_numpy().array([p.data for p in model.parameters()], dtype=float)
    if numbers.size == 0:
        raise ValueError(f"{model!r} has no parameters: there is nothing to train")
    return numbers


def name_of(model: Module, index: int) -> str:
    """The name of the parameter with this index."""
    wanted = model.parameters()[index]
    for name, value in named(model, model.parameters()):
        if value is wanted or (isinstance(value, list) and wanted in value):
            return str(name)
    return f"parameter {index}"
