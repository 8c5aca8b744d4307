"""Functions like those of Python's `math`, on numbers, Values and arrays of them; and branches that can be recorded.

Each row of csrc/ops/pgr_ops.h that is not an operator is a function here (exp, log, sqrt, tanh, relu, hypot, ...). On
numbers they return Values. `where`, `maximum`, `minimum` and `clip` replace branches while a function is recorded,
when a Value has no number yet.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any, Callable

from pygrad._core.ops import OPERATIONS, Operation
from pygrad._pgr import ffi, lib
from pygrad.engine import Value, as_value

__all__ = ["clip", "maximum", "minimum", "where"]


def _elementwise(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, elementwise if an argument is an array."""
    if "numpy" in sys.modules:
        np = sys.modules["numpy"]
        if any(hasattr(x, "__array__") and getattr(x, "ndim", 0) > 0 for x in args):
            return of_values(np.frompyfunc(function, len(args), 1)(*(np.asanyarray(x, dtype=object) for x in args)))
    return function(*args)


def of_values(array: Any) -> Any:
    """An array that was made of Values. Recorded functions replace this with arrays that NumPy hands them."""
    return array


def _function(row: Operation) -> Callable[..., Any]:
    name = row.name
    if row.is_binary:

        def binary(a: Any, b: Any, /) -> Any:
            return _elementwise(lambda x, y: getattr(as_value(x), name)(y), a, b)

        made: Callable[..., Any] = binary
    elif row.has_param:

        def with_param(a: Any, /, *param: float) -> Any:
            return _elementwise(lambda x: getattr(as_value(x), name)(*param), a)

        made = with_param
    else:

        def unary(a: Any, /) -> Any:
            return _elementwise(lambda x: getattr(as_value(x), name)(), a)

        made = unary
    made.__name__ = made.__qualname__ = name
    made.__doc__ = row.doc + _example(row)
    return made


def _example(row: Operation) -> str:
    """The rest of a function's docstring: its arguments, the error outside of its domain, an example."""
    a, b = {"polygamma": (1.0, 0.5), "acosh": (1.5, 2.0)}.get(row.name, (0.5, 2.0))
    arguments, numbers = "`a` is", f"{a}"
    if row.is_binary:
        arguments, numbers = "`a` and `b` are each", f"{a}, {b}"
    elif row.has_param:
        arguments, b = f"`b` is a number, by default {row.param_default}; `a` is", row.param_default
    text = f"\n\n{arguments} a number, a Value or an array; on arrays, it works elementwise."
    if row.rule:
        error = "ZeroDivisionError" if "divisor" in row.rule else "ValueError"
        end = "" if row.rule.endswith("...") else "."
        text += f"\nRaises {error}: {row.rule}{end} Recorded functions return nan or inf instead."
    result = ffi.new("double *")
    if lib.pgr_op_value(row.op, a, b, result) == lib.PGR_OK:
        text += f"\n\n>>> {row.name}({numbers}).data\n{result[0]!r}"
    return text


def _define() -> None:
    hidden = {"add", "sub", "mul", "div", "pow", "powc", "neg", "pick", "keep", "gate"}
    for row in OPERATIONS:
        if row.name not in hidden:
            globals()[row.name] = _function(row)
            if not hasattr(builtins, row.name):  # a star import must not shadow abs, min and max
                __all__.append(row.name)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`; elementwise on arrays.

    A condition is a comparison, or comparisons combined by & | ^ ~: a bool, or a Value while a function is recorded.
    Other numbers count as true unless they are 0, as in Python. Both a and b are computed. A nan or inf gradient on the
    side not taken is dropped, except for 0 * inf inside that side.

    >>> x = Value(-2.0)
    >>> where(x > 0, x, 0.1 * x).data
    -0.2
    """
    return _elementwise(chosen, condition, a, b)


def chosen(condition: Any, a: Any, b: Any) -> Any:
    """`where` for scalars."""
    if isinstance(condition, Value):
        return condition.keep(a) + condition.equal(0.0).keep(b)
    return a if condition else b


def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b, elementwise on arrays; equal operands share the gradient.

    Raises TypeError if an argument is not a number.

    >>> maximum(Value(1.0), 3.0).data
    3.0
    """
    return _elementwise(lambda x, y: as_value(x).max(y), a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b, elementwise on arrays; equal operands share the gradient.

    Raises TypeError if an argument is not a number.

    >>> minimum(Value(1.0), 3.0).data
    1.0
    """
    return _elementwise(lambda x, y: as_value(x).min(y), a, b)


def clip(x: Any, low: Any, high: Any) -> Any:
    """`x` limited to [low, high], elementwise on arrays.

    Raises TypeError if an argument is not a number.

    >>> clip(Value(7.0), 0.0, 1.0).data
    1.0
    """
    return minimum(maximum(x, low), high)


_define()
