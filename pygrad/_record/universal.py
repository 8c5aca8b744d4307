"""Functions of scalars, made elementwise: on numbers they give numbers, on Values Values."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

from pygrad._core.trees import is_array, need_numpy
from pygrad._record.arrays import Array
from pygrad._record.function import Function, jit
from pygrad._record.recording import recordings
from pygrad._record.vmap import vmap
from pygrad.engine import Value
from pygrad.math import _elementwise


def has_values(*args: Any) -> bool:
    """Whether an argument is, or holds, Values; numbers that a function computes while it is recorded do not."""
    return any(
        isinstance(x, (Value, Array))
        or (is_array(x) and x.dtype == object)
        or (isinstance(x, (list, tuple)) and has_values(*x))
        for x in args
    )


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of scalars, broadcast over arrays as NumPy does. Numbers run as a program: inf and nan as in C."""
    one, many = jit(function), vmap(function)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def universal(*args: Any, **keywords: Any) -> Any:
        bound = signature.bind(*args, **keywords)
        bound.apply_defaults()
        given = [_plain(x) for x in bound.args]
        return _elementwise(function, *given) if has_values(*given) else _of_numbers(one, many, given)

    return universal


def _plain(x: Any) -> Any:
    return need_numpy().asarray(x) if isinstance(x, (list, tuple)) else x


def _of_numbers(one: Function, many: Function, args: list[Any]) -> Any:
    if not any(getattr(x, "ndim", 0) for x in args):
        return run(one, [float(x) for x in args])
    np = need_numpy()
    arrays = np.broadcast_arrays(*[np.asarray(x, dtype=float) for x in args])
    if not arrays[0].size:
        return np.empty(arrays[0].shape)
    return run(many, [x.ravel() for x in arrays]).reshape(arrays[0].shape)


def run(function: Function, args: list[Any]) -> Any:
    """The function of numbers, in whatever is under way."""
    if recordings.stack or recordings.eager:  # where it would run inline, and give Values
        return function.program(*args)(*args)
    return function(*args)
