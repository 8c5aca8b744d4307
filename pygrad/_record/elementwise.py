"""NumPy's and SciPy's elementwise functions (ufuncs) on Values and numbers.

A row of csrc/ops/pgr_ops.h serves the ufuncs that have its name; `_ALSO` lists other names. The rest is composed of
rows here. Operators need no entry: NumPy's loops over objects call those of Value.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, Callable

from pygrad._core.layer import TAPE
from pygrad._core.ops import OPERATIONS, Operation
from pygrad._pgr import lib
from pygrad.engine import Value, as_value
from pygrad.math import chosen

_ALSO = {
    "abs": ("absolute", "fabs"),
    "asin": ("arcsin",),
    "acos": ("arccos",),
    "atan": ("arctan",),
    "asinh": ("arcsinh",),
    "acosh": ("arccosh",),
    "atanh": ("arctanh",),
    "atan2": ("arctan2",),
    "max": ("maximum",),
    "min": ("minimum",),
    "sigmoid": ("expit",),
    "lgamma": ("gammaln",),
    "digamma": ("psi",),
}
# NumPy's own loops do what these rows do, faster; a comparison of eager Values is a bool.
_OPERATORS = {"add", "sub", "mul", "div", "pow", "powc", "neg", "mod", "less", "less_equal", "equal"}


def _of_row(row: Operation) -> Callable[..., Any]:
    name = row.name
    if row.is_binary:
        return lambda x, y: getattr(as_value(x), name)(y)
    return lambda x: getattr(as_value(x), name)()


def _decided(condition: Value) -> Any:
    """A row's 1 or 0 as a condition: a bool, unless it is not known yet."""
    return condition if lib.pgr_h_unknown(TAPE, condition._handle) else bool(condition.data)


def truth(x: Any) -> Any:
    """Whether `x` is not 0: a bool, or a recorded comparison."""
    return _negated(_decided(x.equal(0.0))) if isinstance(x, Value) else bool(x)


def _negated(condition: Any) -> Any:
    return _decided(condition.equal(0.0)) if isinstance(condition, Value) else not condition


def is_nan(x: Any) -> Any:
    return _negated(_decided(x.equal(x))) if isinstance(x, Value) else math.isnan(x)


def _is_infinite(x: Any) -> Any:
    return _decided(as_value(x).abs().equal(math.inf))


def _is_negative(x: Any) -> Any:
    """The sign bit: the angle of (-1, x) tells -0.0 from 0.0."""
    return as_value(x).atan2(-1.0) < 0.0


def _ceil(x: Any) -> Any:
    return -(-as_value(x)).floor()


def _truncated(x: Any) -> Any:
    x = as_value(x)
    return chosen(x < 0.0, _ceil(x), x.floor())


def _with_sign(x: Any, y: Any) -> Any:
    size = as_value(x).abs()
    return chosen(_is_negative(y), -size, size)


def _log_sum(x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)), with all derivatives where x = y; an infinite y adds nothing to, or hides, x."""
    x, y = as_value(x), as_value(y)
    return chosen(_is_infinite(y), x.max(y), y + (x - y).softplus())


def _log2_sum(x: Any, y: Any) -> Any:
    return _log_sum(x * math.log(2.0), y * math.log(2.0)) / math.log(2.0)


def _step(x: Any, at_zero: Any) -> Any:
    x = as_value(x)
    return chosen(is_nan(x), x, chosen(x < 0.0, 0.0, chosen(x > 0.0, 1.0, at_zero)))


def _times_log(log: str, least: float) -> Callable[[Any, Any], Any]:
    """The product x * log(y), but 0 where x is 0 and the logarithm is not finite; nan if y is."""

    def product(x: Any, y: Any) -> Any:
        x, y = as_value(x), as_value(y)
        is_nothing = _decided(x.equal(0.0)) & ((y <= least) | _decided(y.equal(math.inf)))
        return chosen(is_nothing, 0.0, x * getattr(as_value(chosen(is_nothing, 1.0, y)), log)())

    return product


def _scaled(factor: float) -> Callable[[Any], Any]:
    return lambda x: x * factor


def _inverted(condition: Any) -> Any:
    return ~condition if isinstance(condition, Value) else not condition


_COMPOSED: dict[str, Callable[..., Any]] = {
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "invert": _inverted,
    "logical_not": lambda x: _negated(truth(x)),
    "logical_and": lambda x, y: truth(x) & truth(y),
    "logical_or": lambda x, y: truth(x) | truth(y),
    "logical_xor": lambda x, y: truth(x) ^ truth(y),
    "isnan": is_nan,
    "isinf": _is_infinite,
    "isfinite": lambda x: as_value(x).abs() < math.inf,
    "signbit": _is_negative,
    "copysign": _with_sign,
    "conjugate": lambda x: x,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "float_power": lambda x, y: x**y,
    "ceil": _ceil,
    "trunc": _truncated,
    "floor_divide": lambda x, y: as_value(x) // y,
    "fmod": lambda x, y: _with_sign(as_value(x).abs() % as_value(y).abs(), x),
    "divmod": lambda x, y: divmod(as_value(x), y),
    "modf": lambda x: (x - _truncated(x), _truncated(x)),
    "fmax": lambda x, y: chosen(is_nan(x), y, chosen(is_nan(y), x, as_value(x).max(y))),
    "fmin": lambda x, y: chosen(is_nan(x), y, chosen(is_nan(y), x, as_value(x).min(y))),
    "clip": lambda x, low, high: as_value(x).max(low).min(high),
    "deg2rad": _scaled(math.pi / 180.0),
    "radians": _scaled(math.pi / 180.0),
    "rad2deg": _scaled(180.0 / math.pi),
    "degrees": _scaled(180.0 / math.pi),
    "logaddexp": _log_sum,
    "logaddexp2": _log2_sum,
    "heaviside": _step,
    "xlogy": _times_log("log", 0.0),
    "xlog1py": _times_log("log1p", -1.0),
}

SCALARS: dict[str, Callable[..., Any]] = {
    name: _of_row(row)
    for row in OPERATIONS
    if row.name not in _OPERATORS and not row.has_param
    for name in (row.name, *_ALSO.get(row.name, ()))
}
SCALARS.update(_COMPOSED)

_IDENTITY = {"logical_and": True, "logical_or": False, "logical_xor": False, "logaddexp": -math.inf}
_CONDITIONS = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "invert", "signbit"}
_CONDITIONS |= {name for name in _COMPOSED if name.startswith(("logical", "is"))}


@functools.cache
def _on_objects(name: str, operands: int) -> Any:
    import numpy as np

    function = SCALARS[name]
    results = 2 if name in ("divmod", "modf") else 1
    identity = {"identity": _IDENTITY[name]} if name in _IDENTITY else {}
    return np.frompyfunc(function, operands, results, **identity)


def apply(ufunc: Any, method: str, inputs: list[Any], keywords: dict[str, Any]) -> Any:
    """A ufunc, or its method such as reduce, on arrays of Values, with NumPy's keywords."""
    name, shape = ufunc.__name__, None
    if name not in SCALARS:
        return getattr(ufunc, method)(*inputs, **keywords)
    if method == "reduce" and name not in _IDENTITY:
        inputs, keywords, shape = _along_one_axis(*inputs, **keywords)
    result = getattr(_on_objects(name, ufunc.nin), method)(*inputs, **keywords)
    if shape is not None:
        result = result.reshape(shape)
    return _known(result) if name in _CONDITIONS else result


def _along_one_axis(a: Any, axis: Any = 0, **keywords: Any) -> tuple[list[Any], dict[str, Any], Any]:
    """Arguments for a reduction along one axis, which is all that NumPy does for a Python function, and a shape."""
    import numpy as np

    a = np.asarray(a, dtype=object)
    axes = range(a.ndim) if axis is None else [i % a.ndim for i in axis] if isinstance(axis, tuple) else [axis]
    if len(axes) == 1 or keywords.get("where", True) is not True:
        return [a], {"axis": axis, **keywords}, None
    rest = [i for i in range(a.ndim) if i not in axes]
    keeps = keywords.pop("keepdims", False)
    shape = [1 if i in axes else n for i, n in enumerate(a.shape)]
    joined = a.transpose([*rest, *axes]).reshape([a.shape[i] for i in rest] + [-1])
    return [joined], {"axis": -1, "keepdims": keeps, **keywords}, shape if keeps else None


def _known(result: Any) -> Any:
    """Conditions as an array of bools, if all are known: it can be an index."""
    if not hasattr(result, "dtype") or any(isinstance(x, Value) for x in result.flat):
        return result
    return result.astype(bool)
