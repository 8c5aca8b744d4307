"""Losses of one sample, and what they are made of: softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable

from pygrad._core.layer import dot
from pygrad.engine import Value, as_value


def logsumexp(xs: Iterable[Any]) -> Value:
    """log(sum(exp(x))), without overflow for large x: the largest is taken out first. ValueError if xs is empty."""
    values = [as_value(x) for x in xs]
    if not values:
        raise ValueError("logsumexp of nothing: it needs at least one Value or number")
    largest = values[0]
    for v in values[1:]:
        largest = largest.max(v)
    largest = largest.detach()
    return sum([(v - largest).exp() for v in values], Value(0.0)).log() + largest


def softmax(xs: Iterable[Any]) -> list[Value]:
    """exp(x) / sum(exp(x)) for each x, without overflow; they add up to 1. ValueError if xs is empty."""
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
    value = as_value(x)
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
