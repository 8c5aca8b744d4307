"""custom_op: define an operation by its function and its vector-Jacobian product (vjp)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, Union

from pygrad._core.errors import RecordingError, reject, users_line
from pygrad._core.trees import real_number
from pygrad.engine import Value

Adjoints = Union[float, None, Sequence[Union[float, None]]]


class CustomOp:
    """An operation on Values made by `custom_op`. Call it with Values and numbers; it records one node."""

    def __init__(self, forward: Callable[..., float], vjp: Callable[..., Adjoints], name: str) -> None:
        self.forward = forward
        self.vjp = vjp
        self.name = name

    def __repr__(self) -> str:
        return f"<custom_op {self.name}>"

    def __call__(self, *args: Any) -> Value:
        operands = tuple(arg if isinstance(arg, Value) else self._constant(arg) for arg in args)
        try:
            numbers = [operand.data for operand in operands]
        except RecordingError:
            raise RecordingError(
                f"{users_line()}\nThe custom operation {self.name} is Python code, which needs its operands' values: "
                "it cannot be recorded, but a custom_vjp can. grad and value_and_grad can do it with record=False, and "
                "so can backward()"
            ) from None
        result = self.forward(*numbers)
        value = Value(result, operands, self.name)
        value._own["_custom"] = self
        return value

    def _constant(self, number: Any) -> Value:
        try:
            return Value(number)
        except TypeError:
            reject(self.name if self.name.isidentifier() else "custom_op", number)

    def push(self, value: Value) -> None:
        """Add the vjp of `value`'s grad to its operands' grads."""
        operands = value._operands()
        given: Any = self.vjp(value.grad, value.data, *(operand.data for operand in operands))
        is_one = not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray))
        adjoints = (given,) if is_one else given
        if len(adjoints) != len(operands):
            raise ValueError(
                f"the vjp of {self.name} returned {len(adjoints)} adjoints for {len(operands)} operands: "
                "return one for each, None where there is none"
            )
        for operand, adjoint in zip(operands, adjoints):
            if adjoint is not None:
                operand.grad += real_number(adjoint, f"the vjp of {self.name}")


def custom_op(forward: Callable[..., float], vjp: Callable[..., Adjoints], name: str | None = None) -> CustomOp:
    """Make an operation on Values from plain functions of floats.

    forward(*inputs) -> float: the value.
    vjp(grad, output, *inputs) -> one adjoint per input: grad * d(output)/d(input), or None for no gradient; with one
    input, a plain float is enough. All are floats: the output's grad, its value, the inputs.
    name: shown in graphs; forward's name by default.

    Exceptions of either function pass through; if forward raises, nothing is recorded.
    Source: the vjp of Griewank & Walther, Evaluating Derivatives, ch. 3.2, with the signature of autograd and JAX.

    >>> square = custom_op(lambda x: x * x, lambda g, y, x: g * 2 * x, "square")
    >>> x = Value(3.0)
    >>> square(x).backward(); x.grad
    6.0
    """
    for argument, function in (("forward", forward), ("vjp", vjp)):
        if not callable(function):
            raise TypeError(f"custom_op: {argument} must be a function, not {function!r}")
    return CustomOp(forward, vjp, name or str(getattr(forward, "__name__", "custom")))
