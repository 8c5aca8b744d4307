"""custom_op: an operation of the user's own, from its function and its vector-Jacobian product."""

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
                "it cannot be recorded. grad and value_and_grad can do it with record=False, and so can backward()"
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
        """Add to the grads of `value`'s operands what its own grad gives them."""
        operands = value._operands()
        given: Any = self.vjp(value.grad, value.data, *(operand.data for operand in operands))
        is_one = not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray))
        adjoints = (given,) if is_one else given
        if len(adjoints) != len(operands):
            raise ValueError(
                f"the vjp of {self.name} gave {len(adjoints)} adjoints for {len(operands)} operands: "
                "return one for each, None where there is none"
            )
        for operand, adjoint in zip(operands, adjoints):
            if adjoint is not None:
                operand.grad += real_number(adjoint, f"the vjp of {self.name}")


def custom_op(forward: Callable[..., float], vjp: Callable[..., Adjoints], name: str | None = None) -> CustomOp:
    """Make an operation on Values from plain functions of floats.

    forward(*inputs) -> float: the value.
    vjp(grad, output, *inputs) -> one adjoint for each input: grad * d(output)/d(input), or None for
        none; with one input a float will do. All are floats: grad is the output's grad, output its value.
    name: what the graph shows; forward's own name by default.

    Exceptions of either function pass through; when forward raises, nothing is recorded.

        sinc = custom_op(lambda x: math.sin(x) / x, lambda g, y, x: g * (math.cos(x) - y) / x, "sinc")
        y = sinc(Value(0.5))

    Source: the vjp of Griewank & Walther, Evaluating Derivatives, ch. 3.2, as autograd's and JAX's users know it.
    """
    for argument, function in (("forward", forward), ("vjp", vjp)):
        if not callable(function):
            raise TypeError(f"custom_op: {argument} must be a function, not {function!r}")
    return CustomOp(forward, vjp, name or str(getattr(forward, "__name__", "custom")))
