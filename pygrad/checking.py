"""Checking: gradients against finite differences, and where the first inf or nan comes from."""

from __future__ import annotations

import contextlib
import linecache
import math
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NoReturn

from pygrad import scopes
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Value, _check_backward
from pygrad.structures import describe, is_array, leaves, need_numpy, real_number, rebuild
from pygrad.text import visible

__all__ = ["GradcheckError", "detect_anomaly", "gradcheck"]


class GradcheckError(AssertionError):
    """Gradients differ from finite differences; the text is a table of where, and by how much."""


def gradcheck(
    fn: Callable[..., Any],
    args: Sequence[Any],
    *,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    raise_exception: bool = True,
) -> bool:
    """Whether backward() through `fn` gives what central differences do, as torch.autograd.gradcheck.

    fn is called with `args`, a sequence of numbers, arrays and nested lists, tuples and dicts of them, as Values;
    every Value that it returns is differentiated by every number that goes in. The step is eps times the number's
    size, or eps below 1; |engine - difference| must not exceed atol + rtol * |difference|. At kinks (relu at 0)
    differences mean nothing.

    Raises GradcheckError, a table of all that differ, or with raise_exception=False returns False; ValueError if
    nothing goes in or comes out; and what fn raises. Source: Griewank & Walther, Evaluating Derivatives (2nd ed.,
    2008), ch. 1.
    """
    given: list[Any] = []
    structure = describe(tuple(args), given)
    numbers = [x.data if isinstance(x, Value) else real_number(x, "gradcheck") for x in leaves(tuple(args))]
    names = _names(tuple(args))
    if not numbers:
        raise ValueError(
            f"gradcheck: no number goes in with args={tuple(args)!r}: there is nothing to differentiate by"
        )

    def call(at: Sequence[float]) -> tuple[list[Value], list[Value]]:
        values = [Value(x) for x in at]
        rest = iter(values)
        result = fn(*rebuild(structure, iter([_filled(leaf, rest) for leaf in given])))
        return values, [x if isinstance(x, Value) else Value(x) for x in leaves(result)]

    inputs, outputs = call(numbers)
    if not outputs:
        raise ValueError("gradcheck: nothing comes out: fn must return Values, or lists of them")
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
    head = f"{len(wrong)} of {len(numbers) * len(outputs)} derivatives differ from finite differences"
    rows = [("input", "output", "engine", "difference", "apart")]
    rows += [(name, str(k), f"{a:.9g}", f"{b:.9g}", f"{c:.2e}") for name, k, a, b, c in wrong[:50]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]
    more = [f"... and {len(wrong) - 50} more"] if len(wrong) > 50 else []
    raise GradcheckError("\n".join([head, *table, *more]))


def _filled(leaf: Any, values: Any) -> Any:
    if not is_array(leaf):
        return next(values)
    np = need_numpy()
    array = np.empty(leaf.size, dtype=object)
    array[:] = [next(values) for _ in range(leaf.size)]
    return array.reshape(leaf.shape)


def _names(x: Any, name: str = "") -> list[str]:
    """How each number in nested arguments is reached: args[0][1, 2]."""
    if is_array(x):
        if not x.ndim:
            return [name]
        np = need_numpy()
        return [f"{name}[{', '.join(map(str, index))}]" for index in np.ndindex(*x.shape)]
    if isinstance(x, dict):
        return [n for key in sorted(x, key=str) for n in _names(x[key], f"{name}[{key!r}]")]
    if isinstance(x, (list, tuple)):
        return [n for i, y in enumerate(x) for n in _names(y, f"{name}[{i}]" if name else f"args[{i}]")]
    return [name]


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """In a `with` block: every backward() is backward(check=True), and its error names the line that made the node.

    As torch.autograd.detect_anomaly. What is recorded within is tagged with the line of the user's code, which makes
    recording 20 to 80 times slower: for finding a mistake, not for training.
    """
    _check_backward(1)
    try:
        with scopes.watched_lines(scopes.tag_line):
            yield
    finally:
        _check_backward(-1)
        scopes.tag_line("")


def not_finite(node: Value) -> NoReturn:
    """Raise FloatingPointError: `node` has a number, or gives a grad, that is inf or nan."""
    scope = "/".join(scopes.path(lib.pgr_h_tag(TAPE, lib.PGR_TAG_SCOPE, node._handle)))
    leaf = "the constant" if lib.pgr_h_op(TAPE, node._handle) == lib.PGR_OP_CONST else "the leaf"
    name = (
        f"{node._op or leaf}{f' {node.label!r}' if node.label else ''}{f' in scope {visible(scope)}' if scope else ''}"
    )
    operands = node._operands()
    given = ", ".join(f"{visible(x.label) or f'operand {i}'} = {x.data!r}" for i, x in enumerate(operands, 1))
    if not math.isfinite(node.data):
        text = f"{name} is {node.data!r}" + (f", of {given}" if given else "")
    elif not math.isfinite(node.grad) and not operands:
        text = f"{name} has the grad {node.grad!r} from before this pass: set it to 0"
    else:
        i = next(i for i, x in enumerate(operands) if not math.isfinite(x.grad))
        to = visible(operands[i].label) or f"operand {i + 1}"
        text = f"{name} with the grad {node.grad!r} gives {to} the grad {operands[i].grad!r}"
        if "_backward" not in node._own and "_custom" not in node._own:
            partials = ffi.new("double[2]")
            lib.pgr_h_partials(TAPE, node._handle, partials)
            given = f"its partial derivative is {partials[i]!r}; {given}"
        text += f" ({given})"
    line = scopes.line(lib.pgr_h_tag(TAPE, lib.PGR_TAG_LINE, node._handle))
    if line:
        file, _, number = line.rpartition(":")
        code = linecache.getline(file, int(number)).strip()
        raise FloatingPointError(f"{text}\n{line}{f': {code}' if code else ''}")
    raise FloatingPointError(
        f"{text}\nRecord and run it in `with pygrad.detect_anomaly():` to see the line that made it."
    )
