"""Losses of one sample, and their parts: softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, Callable

from pygrad._core.layer import dot
from pygrad.engine import Value, as_value


def logsumexp(xs: Iterable[Any]) -> Value:
    """log(sum(exp(x))). Subtracts the largest x first, so it does not overflow. Raises ValueError if xs is empty.

    >>> round(logsumexp([1000.0, 1000.0]).data, 4)
    1000.6931
    """
    values = [as_value(x) for x in xs]
    if not values:
        raise ValueError("logsumexp of nothing: it needs at least one Value or number")
    largest = values[0]
    for v in values[1:]:
        largest = largest.max(v)
    largest = largest.detach()
    return sum([(v - largest).exp() for v in values], Value(0.0)).log() + largest


def softmax(xs: Iterable[Any]) -> list[Value]:
    """exp(x) / sum(exp(x)) for each x, without overflow; the sum is 1. Raises ValueError if xs is empty.

    >>> [round(v.data, 4) for v in softmax([2.0, 2.0])]
    [0.5, 0.5]
    """
    values = [as_value(x) for x in xs]
    total = logsumexp(values)
    return [(v - total).exp() for v in values]


def _outputs(y: Any) -> list[Any]:
    return [y] if isinstance(y, Value) or not hasattr(y, "__len__") else list(y)


def _only(loss: str, output: Any) -> Any:
    outputs = _outputs(output)
    if len(outputs) != 1:
        raise ValueError(f"{loss}: {len(outputs)} outputs; it is for models of one")
    return outputs[0]


# Losses for two classes: (whether a target is one, or those of an array are; which these are).
TARGETS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "binary_cross_entropy": (lambda t: (t >= 0.0) & (t <= 1.0), "0 and 1, or a probability between"),
    "hinge": (lambda t: abs(t) == 1.0, "-1 and 1; of 0 and 1, 2 * y - 1 makes them"),
}


def _need_target(loss: str, target: Any) -> None:
    """Unknown targets pass: fit has looked at them."""
    is_target, these = TARGETS[loss]
    if isinstance(target, Real) and not is_target(target):
        raise ValueError(f"{loss}: the target {target}; targets are {these}")


def mse(output: Any, target: Any) -> Value:
    """The mean of (output - target)**2 over outputs and targets. Raises ValueError if their numbers differ.

    >>> mse([Value(1.0), Value(2.0)], [0.0, 4.0]).data
    2.5
    """
    outputs, targets = _outputs(output), _outputs(target)
    if len(outputs) != len(targets):
        raise ValueError(f"mse: {len(outputs)} outputs and {len(targets)} targets; their numbers must be equal")
    errors = [o - t for o, t in zip(outputs, targets)]
    return dot(errors, errors) * (1 / len(errors))


def cross_entropy(logits: Sequence[Any], target: Any) -> Value:
    """-log(softmax(logits)[target]), where the target is a class number, or the probabilities of all classes.

    Raises ValueError for a class out of range, or a wrong number of probabilities.

    >>> round(cross_entropy([Value(1.0), Value(1.0)], 0).data, 4)
    0.6931
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
    """-log of the probability that sigmoid(logit) gives the target, from 0 to 1, without overflow.

    Raises ValueError for other targets.

    >>> round(binary_cross_entropy(Value(0.0), 1).data, 4)
    0.6931
    """
    x = _only("binary_cross_entropy", logit)
    _need_target("binary_cross_entropy", target)
    value = as_value(x)
    loss: Value = value.softplus() - target * value
    return loss


def hinge(score: Any, target: Any) -> Value:
    """max(0, 1 - target * score), for targets -1 and 1. Raises ValueError for others.

    >>> hinge(Value(0.25), 1).data
    0.75
    """
    x = _only("hinge", score)
    _need_target("hinge", target)
    value: Value = (1 - target * x).relu()
    return value


LOSSES: dict[str, Callable[[Any, Any], Value]] = {
    "mse": mse,
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "hinge": hinge,
}
