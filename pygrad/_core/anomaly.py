"""Checked backward passes: find the origin of the first inf or nan."""

from __future__ import annotations

import contextlib
import linecache
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from pygrad._core import scopes
from pygrad._core.layer import TAPE
from pygrad._core.text import visible
from pygrad._pgr import ffi, lib

contexts = 0  # active detect_anomaly() blocks


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """In a `with` block: every backward() is backward(check=True), and its error names the line that made the node.

    As torch.autograd.detect_anomaly. Every node recorded in the block is tagged with its line of user code, which
    makes recording 20 to 80 times slower: use it to find a mistake, not to train. A recorded function whose results
    have an inf or nan runs again on Values, to raise an error that names the first operation that gave one. So do
    functions with record=False.

    >>> from pygrad import Value
    >>> with detect_anomaly():
    ...     (Value(0.0) ** 0.5).backward()
    Traceback (most recent call last):
    FloatingPointError: ...
    """
    global contexts
    contexts += 1
    try:
        with scopes.watched_lines(scopes.tag_line):
            yield
    finally:
        contexts -= 1
        scopes.tag_line("")


def check_result(node: Any) -> None:
    """Raise FloatingPointError, which names the origin, if a function's result is inf or nan."""
    if not math.isfinite(node.data):
        not_finite(node._sweep(True), " in the function or its derivative")  # the sweep stops before it changes grads


def _is_constant(node: Any) -> bool:
    return bool(lib.pgr_h_op(TAPE, node._handle) == lib.PGR_OP_CONST)


def not_finite(node: Any, where: str = "") -> NoReturn:
    """Raise FloatingPointError: `node` holds, or passes on, an inf or nan."""
    scope = "/".join(scopes.path(lib.pgr_h_tag(TAPE, lib.PGR_TAG_SCOPE, node._handle)))
    leaf = "the constant" if _is_constant(node) else "the leaf"
    name = (
        f"{node._op or leaf}{f' {node.label!r}' if node.label else ''}{f' in scope {visible(scope)}' if scope else ''}"
    )
    operands = node._operands()
    given = ", ".join(f"{visible(x.label) or f'operand {i}'} = {x.data!r}" for i, x in enumerate(operands, 1))
    if not math.isfinite(node.data):
        text = f"{name}{where} is {node.data!r}" + (f", of {given}" if given else "")
    elif not math.isfinite(node.grad) and not operands:
        text = f"{name} has the grad {node.grad!r} from before this pass: set it to 0"
    else:
        i = next(i for i, x in enumerate(operands) if not (math.isfinite(x.grad) or _is_constant(x)))
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
