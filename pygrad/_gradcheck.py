"""gradcheck: compare gradients with finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Callable

from pygrad._core.errors import shown
from pygrad._core.trees import is_array, need_numpy, real_number, tree_flatten, tree_leaves, tree_paths, tree_unflatten
from pygrad.engine import Value, as_value

__all__ = ["GradcheckError", "gradcheck"]


class GradcheckError(AssertionError):
    """Gradients differ from finite differences. The message is a table of the places and sizes.

    >>> from pygrad import custom_op, gradcheck
    >>> wrong = custom_op(lambda x: x * x, lambda g, y, x: g * x)
    >>> gradcheck(wrong, [3.0])
    Traceback (most recent call last):
    pygrad._gradcheck.GradcheckError: ...
    """


def gradcheck(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    raise_exception: bool = True,
) -> bool:
    """Whether backward() through `fn` agrees with central differences, as torch.autograd.gradcheck.

    Calls fn with `args`, a sequence of numbers, arrays and nested lists, tuples and dicts of them, as Values, and
    differentiates every Value in the result with respect to every number in args. The step is eps * max(1, |number|);
    |engine - difference| must not exceed atol + rtol * |difference|. At kinks (relu at 0) differences are meaningless.

    Raises GradcheckError, with a table of all differences, or returns False if raise_exception=False. Raises
    ValueError if args or the result have no numbers; passes on exceptions of fn. Source: Griewank & Walther,
    Evaluating Derivatives (2nd ed., 2008), ch. 1.

    >>> gradcheck(lambda x, y: x * y.tanh(), [2.0, 0.5])
    True
    """
    if not isinstance(args, Sequence) and not is_array(args):
        raise TypeError(
            f"gradcheck: args={shown(args)} must be a list of fn's arguments: gradcheck(fn, [{shown(args)}])"
        )
    given, structure = tree_flatten(tuple(args))
    numbers = [x.data if isinstance(x, Value) else real_number(x, "gradcheck") for x in tree_leaves(tuple(args))]
    names = [f"args{path}{index}" for path, shape in tree_paths(structure) for index in _indices(shape)]
    if not numbers:
        raise ValueError(f"gradcheck: there is no number in args={tuple(args)!r} to differentiate with respect to")

    def call(at: Sequence[float]) -> tuple[list[Value], list[Value]]:
        values = [Value(x) for x in at]
        rest = iter(values)
        result = fn(*tree_unflatten(structure, [_filled(leaf, rest) for leaf in given]))
        return values, [as_value(x) for x in tree_leaves(result)]

    inputs, outputs = call(numbers)
    if not outputs:
        raise ValueError("gradcheck: there is no number in the result: fn must return Values, or lists of them")
    analytic = []
    for output in outputs:
        for value in inputs:
            value.grad = 0.0
        output.backward()
        analytic.append([value.grad for value in inputs])
    wrong = []
    for i, x in enumerate(numbers):
        h = eps * max(1.0, abs(x))
        high, low = ([*numbers[:i], x + step, *numbers[i + 1 :]] for step in (h, -h))
        for k, (above, below) in enumerate(zip(call(high)[1], call(low)[1])):
            difference = (above.data - below.data) / (2 * h)
            apart = abs(analytic[k][i] - difference)
            if not (apart <= atol + rtol * abs(difference) or (math.isnan(difference) and math.isnan(analytic[k][i]))):
                wrong.append((names[i], k, analytic[k][i], difference, apart))
    if not wrong:
        return True
    if not raise_exception:
        return False
    raise GradcheckError(_table(wrong, len(numbers) * len(outputs)))


def _table(wrong: list[tuple[str, int, float, float, float]], count: int) -> str:
    """The table of wrong derivatives among `count`: input, output, both derivatives, and their difference."""
    head = f"{len(wrong)} of {count} derivatives differ from finite differences"
    rows = [("input", "output", "engine", "difference", "apart")]
    rows += [(name, str(k), f"{a:.9g}", f"{b:.9g}", f"{c:.2e}") for name, k, a, b, c in wrong[:50]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    more = [f"... and {len(wrong) - 50} more"] if len(wrong) > 50 else []
    return "\n".join([head, *table, *more])


def _filled(leaf: Any, values: Any) -> Any:
    if not is_array(leaf):
        return next(values)
    np = need_numpy()
    array = np.empty(leaf.size, dtype=object)
    array[:] = [next(values) for _ in range(leaf.size)]
    return array.reshape(leaf.shape)


def _indices(shape: tuple[int, ...] | None) -> list[str]:
    """The index of each number, as text; of a scalar, none."""
    return [""] if shape is None else [f"[{', '.join(map(str, index))}]" for index in need_numpy().ndindex(*shape)]
