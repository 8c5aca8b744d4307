"""Samples and targets as arrays of finite numbers, and the errors for all others."""

from __future__ import annotations

from typing import Any, Callable

from pygrad._core.trees import need_numpy, real_array
from pygrad._learn.losses import TARGETS


def rows(name: str, X: Any, ndim: tuple[int, ...]) -> Any:
    """`X` as an array of finite numbers, one row per sample."""
    np = need_numpy()
    try:
        array = real_array(X, name)
    except ValueError:
        raise ValueError(f"{name}: all rows must have one length") from None
    if array.ndim not in ndim:
        wanted = " or ".join(map(str, ndim))
        raise ValueError(f"{name} has shape {array.shape}: it must have {wanted} dimensions, samples first")
    if len(array) == 0:
        raise ValueError(f"{name} is empty: there is no sample")
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"{name}: sample {row} has a nan or an infinity: {array[row]}")
    return array


def one_hot(y: Any, classes: int | None, name: str = "y") -> Any:
    """Class numbers as one-hot rows. Raises ValueError for labels that are not classes."""
    np = need_numpy()
    numbers = np.asarray(y)
    if numbers.ndim != 1 or not np.all(numbers == np.floor(numbers)):
        raise ValueError(f"{name}: labels must be whole numbers, one per sample; the shape is {numbers.shape}")
    if classes is not None and (numbers.min() < 0 or numbers.max() >= classes):
        row = int(np.argmax((numbers < 0) | (numbers >= classes)))
        there = f"there are {classes} classes, from 0 on"
        if classes == 1:
            there = "the model has 1 output: one for each class, or loss='binary_cross_entropy'"
        raise ValueError(f"{name}: sample {row} has the label {numbers[row]}; {there}")
    return np.eye(classes)[numbers.astype(int)]


def need_targets(loss: Any, y: Any, name: str = "y") -> Any:
    """`y`, if its numbers are targets of the loss. Raises ValueError if not."""
    if not isinstance(loss, str) or loss not in TARGETS:
        return y
    is_target, these = TARGETS[loss]
    right = is_target(y).reshape(len(y), -1).all(axis=1)
    if not right.all():
        row = int(need_numpy().argmin(right))
        raise ValueError(f"{name}: sample {row} has the target {y[row]}; targets of {loss} are {these}")
    return y


def outputs_of(result: Any) -> Any:
    """A module's outputs for many samples, numbers or lists of numbers, as one array."""
    np = need_numpy()
    return np.stack(result, axis=-1) if isinstance(result, (list, tuple)) else result


def with_shapes(function: Callable[..., Any], name: str, X: Any) -> Callable[..., Any]:
    """`function`, with errors about a sample's length that name the argument."""

    def run(*args: Any) -> Any:
        try:
            return function(*args)
        except ValueError as error:
            raise ValueError(
                f"{name} has samples of shape {X.shape[1:]}, which the model does not take: {error}"
            ) from None

    return run


def split(X: Any, y: Any, validation: tuple[Any, Any] | float | None) -> tuple[Any, Any, tuple[Any, Any] | None]:
    """(X, y, validation data or None): see fit. Raises ValueError unless samples and targets fit together."""
    X, y = rows("X", X, (2,)), rows("y", y, (1, 2))
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} samples and y {len(y)}; their numbers must be equal")
    if validation is None:
        return X, y, None
    if not isinstance(validation, (int, float)):
        return X, y, (rows("validation's X", validation[0], (2,)), rows("validation's y", validation[1], (1, 2)))
    if not 0 < validation < 1:
        raise ValueError(f"validation={validation!r}: as a share it must lie between 0 and 1")
    cut = len(X) - max(1, round(validation * len(X)))
    if cut < 1:
        raise ValueError(f"validation={validation!r} leaves none of {len(X)} samples to train on")
    return X[:cut], y[:cut], (X[cut:], y[cut:])
