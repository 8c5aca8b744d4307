"""Control flow: scan, fori_loop, while_loop, cond, switch, checkpoint, named as in jax.lax.

While a function is recorded, the steps of a loop are recorded once, and run by one instruction. With plain numbers and
eager Values they are Python's own loops and branches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from pygrad._core.errors import shown
from pygrad._core.trees import is_array, need_numpy, tree_flatten, tree_leaves, tree_map, tree_structure, tree_unflatten
from pygrad._pgr import lib
from pygrad._record.arrays import Array, as_array, like, object_array
from pygrad._record.loops import UNBOUNDED, Loop, Switch
from pygrad._record.recording import Argument, recordings
from pygrad._record.rules import values_of
from pygrad.engine import Value, as_value

STATES = 4096  # the most numbers of states that a loop keeps by itself for its reverse


def _need_alike(after: Any, before: Any, what: str) -> None:
    if tree_structure(after) != tree_structure(before):
        raise TypeError(
            f"{what} must return what it carries in the same structure and shapes: it takes {_described(before)}, and "
            f"returns {_described(after)}"
        )


def _pair(out: Any, carry: Any) -> tuple[Any, Any]:
    """What a scan's function returns."""
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"scan needs a function that returns (carry, y), not {shown(out)}")
    _need_alike(out[0], carry, "scan's function")
    return out[0], out[1]


def _described(tree: Any) -> str:
    found = tree_map(lambda x: f"array {x.shape}" if is_array(x) else "number", tree)
    return "a number" if found == "number" else str(found).replace("'", "")


def _count(value: Any, name: str, what: str = "a positive int") -> int:
    if isinstance(value, bool) or not hasattr(type(value), "__index__") or value.__index__() < 1:
        more = ", a static argument: jit(f, static_argnums=...)" if isinstance(value, Value) else ""
        raise ValueError(f"{name}={value!r}: must be {what}{more}")
    return int(value.__index__())


# ---- scan ----------------------------------------------------------------------------------------------


class _Rows(NamedTuple):
    """An array whose rows the steps of a scan take: read in place, or Values."""

    array: Any
    slices: Any  # (offsets of the first row, stride) of an argument's memory; None: Values

    @staticmethod
    def of(x: Any) -> _Rows:
        recording = recordings.stack[-1]
        array = x if isinstance(x, Array) else as_array(recording, x)
        slices = array.slices(0) if isinstance(array.source, Argument) and recording.within is None else None
        return _Rows(array, slices) if slices is not None else _Rows(array.__array__(), None)

    @property
    def width(self) -> int:
        return 0 if self.slices is not None else math.prod(self.array.shape[1:])

    def values(self) -> list[Value]:
        """The Values of all rows."""
        return [as_value(x) for x in self.array.ravel().tolist()] if self.slices is None else []

    def row(self, values: Any) -> Any:
        """The row of the present step; values: an iterator of its Values."""
        if self.slices is None:
            given = [next(values) for _ in range(self.width)]
            return object_array(given, self.array.shape[1:]) if self.array.ndim > 1 else given[0]
        source, (offsets, stride) = self.array.source, self.slices
        recording = recordings.stack[-1]
        assert recording.outer is not None
        number = recording.memory_of(recording.outer.imported(source.number, source.recording), 0, stride)
        here = Argument(recording, number)
        return Array(here, offsets) if offsets.ndim else here.elements([int(offsets)])[0]

    def cut(self, first: int, count: int, shape: tuple[int, ...] = ()) -> Any:
        """Rows from `first` on, in groups of this shape."""
        part = self.array[first : first + count]
        return part.reshape((*shape, *part.shape[1:])) if shape else part


_Flat = Callable[[Sequence[Value], Sequence[Any]], "tuple[list[Value], list[Value]]"]


def _scanned(step: _Flat, carry: list[Value], xs: list[Any], steps: int, reverse: bool, sizes: list[int]) -> Any:
    """(carried at last, results of all steps in order). sizes: of nested loops, the outermost first; the last is 1."""
    if steps == 0:
        return carry, []
    if len(sizes) > 1 and steps < sizes[0]:
        return _scanned(step, carry, xs, steps, reverse, sizes[1:])
    rows = [_Rows.of(x) for x in xs]
    if len(sizes) == 1:
        return _loop(step, carry, rows, steps, reverse)
    size = sizes[0]
    whole = steps // size
    rest = steps - whole * size
    first = rest if reverse else 0  # the last steps that are taken are the rest

    def chunk(state: Sequence[Value], parts: Sequence[Any]) -> tuple[list[Value], list[Value]]:
        after, made = _scanned(step, list(state), list(parts), size, reverse, sizes[1:])
        return after, made

    chunks = [_Rows.of(one.cut(first, whole * size, (whole, size))) for one in rows]
    after, made = _loop(chunk, carry, chunks, whole, reverse)
    others = [one.cut(0 if reverse else whole * size, rest) for one in rows]
    last, more = _scanned(step, after, others, rest, reverse, sizes[1:])
    return last, more + made if reverse else made + more


def _loop(step: _Flat, carry: list[Value], rows: list[_Rows], steps: int, reverse: bool) -> Any:
    n, width = len(carry), sum(one.width for one in rows)

    def flat(state: Sequence[Value], given: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        values = iter(given)
        return step(state, [one.row(values) for one in rows])

    loop = Loop(flat, steps, (n, width), lib.PGR_CALL_REVERSED if reverse else 0)
    by_row = [one.values() for one in rows]
    operands = list(carry)
    for t in range(steps if width else 0):
        for one, values in zip(rows, by_row):
            operands += values[t * one.width : (t + 1) * one.width]
    made = loop.record(operands)
    return made[:n], made[n:]


def _sizes(steps: int, numbers: int, checkpoint: Any) -> list[int]:
    """The steps of each loop, inside one of the loop around it: loops in loops keep the states of few steps each."""
    if checkpoint is None:
        return [1]
    if checkpoint != "auto":
        return [checkpoint, 1] if checkpoint < steps else [1]
    levels, each = 1, steps
    while each * max(1, numbers) > STATES and levels < 8 and each > 2:
        levels += 1
        each = math.ceil(steps ** (1 / levels))
    return [*[each**k for k in range(levels - 1, 0, -1)], 1]


def scan(
    f: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    *,
    checkpoint: Any = "auto",
) -> tuple[Any, Any]:
    """A loop that carries a state and stacks results, as jax.lax.scan: (last state, results of the steps).

    f(carry, x) returns (carry, y). The state is a tree of numbers and arrays, with fixed structure and shapes. x is a
    row of each array of the tree xs along their first axis; xs=None with length= gives None. Results are stacked along
    a new first axis. reverse: from the last row to the first. While a function is recorded, f is recorded once, for
    any number of steps. checkpoint: the reverse of a loop needs the state before each step. None keeps all states; k
    keeps every k-th, and takes the steps between them twice; "auto" nests loops, each of few steps, so that few states
    are kept. Raises TypeError if the state changes its structure, ValueError if arrays of xs differ in their number of
    rows. Source: Griewank & Walther, Evaluating Derivatives, ch. 12.

    >>> import numpy as np
    >>> from pygrad import grad, jit
    >>> total = jit(lambda xs: scan(lambda c, x: (c + x, c * x), 0.0, xs))
    >>> value, products = total(np.array([1.0, 2.0, 3.0]))
    >>> value, products.tolist()
    (6.0, [0.0, 2.0, 9.0])
    >>> growth = lambda r: scan(lambda c, _: (c + r * c * (1 - c), None), 0.1, length=1000)[0]
    >>> round(grad(growth)(0.01), 6)
    0.400422
    """
    steps, leaves, structure = _rows_in(xs, length)
    if checkpoint is not None and not (isinstance(checkpoint, str) and checkpoint == "auto"):
        checkpoint = _count(checkpoint, "checkpoint", "None, 'auto' or a positive int")
    if not recordings.stack:
        return _scanned_eagerly(f, init, leaves, structure, steps, reverse)
    made: list[Any] = []

    def step(state: Sequence[Value], parts: Sequence[Any]) -> tuple[list[Value], list[Value]]:
        x = None if xs is None else tree_unflatten(structure, parts)
        after, y = _pair(f(like(init, list(state)), x), init)
        made[:] = [y]
        return values_of(after), values_of(y)

    carry = values_of(init)
    last, results = _scanned(step, carry, leaves, steps, bool(reverse), _sizes(steps, len(carry), checkpoint))
    return like(init, last), _stacked(made[0], results, steps)


def _rows_in(xs: Any, length: int | None) -> tuple[int, list[Any], Any]:
    """The number of rows, the arrays, and their structure."""
    leaves, structure = tree_flatten(xs) if xs is not None else ([], None)
    for leaf in leaves:
        if not is_array(leaf):
            raise ValueError(f"scan's xs holds {shown(leaf)}, which has no rows: carry it, or read it from outside")
    counts = {leaf.shape[0] for leaf in leaves} | (set() if length is None else {_count(length, "length")})
    if len(counts) != 1:
        what = "xs, or length=" if not counts else f"as many rows everywhere, not {sorted(counts)}"
        raise ValueError(f"scan needs {what}")
    steps = counts.pop()
    if steps == 0:
        raise ValueError("scan over 0 rows: there is no step to call the function with")
    return steps, leaves, structure


def _stacked(y: Any, results: list[Value], steps: int) -> Any:
    """The results of all steps, of the structure of y, with a new first axis."""
    leaves, structure = tree_flatten(y)
    widths = [math.prod(leaf.shape) if is_array(leaf) else 1 for leaf in leaves]
    row, at, stacks = sum(widths), 0, []
    for leaf, width in zip(leaves, widths):
        values = [value for t in range(steps) for value in results[t * row + at : t * row + at + width]]
        stacks.append(object_array(values, (steps, *(leaf.shape if is_array(leaf) else ()))))
        at += width
    return tree_unflatten(structure, stacks)


def _scanned_eagerly(
    f: Callable[..., Any], carry: Any, leaves: list[Any], structure: Any, steps: int, reverse: bool
) -> tuple[Any, Any]:
    made: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        x = None if structure is None else tree_unflatten(structure, [leaf[t] for leaf in leaves])
        carry, made[t] = _pair(f(carry, x), carry)
    if any(tree_structure(y) != tree_structure(made[0]) for y in made):
        first, other = made[0], next(y for y in made if tree_structure(y) != tree_structure(made[0]))
        raise TypeError(
            "scan's function must return results of the same structure and shapes at every step, not "
            f"{_described(first)} and {_described(other)}"
        )
    flat = [tree_leaves(y) for y in made]
    results = [x for row in flat for x in row]
    if any(isinstance(x, Value) for x in results):
        return carry, _stacked(made[0], results, steps)
    np = need_numpy()
    rows, y_structure = [tree_flatten(y)[0] for y in made], tree_flatten(made[0])[1]
    return carry, tree_unflatten(y_structure, [np.stack([row[k] for row in rows]) for k in range(len(rows[0]))])


# ---- Loops -----------------------------------------------------------------------------------------------


def fori_loop(lower: Any, upper: Any, body: Callable[..., Any], init: Any, *, checkpoint: Any = "auto") -> Any:
    """body(i, state) for i from lower up to upper, as jax.lax.fori_loop.

    With ints as bounds it is a scan, and takes scan's options. A bound that is not known while a function is recorded
    makes it a while_loop, which has derivatives in forward mode only. Raises TypeError if the state changes its
    structure, ValueError for a bound that is no whole number.

    >>> from pygrad import jit
    >>> jit(lambda x: fori_loop(0, 5, lambda i, y: y * x + i, 1.0))(2.0)
    58.0
    """

    def checked(i: Any, state: Any) -> Any:
        after = body(i, state)
        _need_alike(after, state, "fori_loop's body")
        return after

    if all(hasattr(type(x), "__index__") for x in (lower, upper)):
        if not recordings.stack:
            for i in range(lower, upper):
                init = checked(i, init)
            return init
        if upper <= lower:
            return init

        def step(state: Any, _: Any) -> Any:
            i, carried = state
            return (i + 1.0, checked(i.detach(), carried)), None

        start = (as_value(float(lower)), init)
        return scan(step, start, length=upper - lower, checkpoint=checkpoint)[0][1]
    low, high = (_constant(_whole(_number(x, "a bound of fori_loop"))) for x in (lower, upper))
    last = while_loop(
        lambda state: state[0] < state[1],
        lambda state: (state[0] + 1.0, state[1], checked(_constant(state[0]), state[2])),
        (low, high, init),
    )
    return last[2]


def _whole(bound: Any) -> Any:
    if not isinstance(bound, Value) and bound % 1 != 0:
        raise ValueError(f"fori_loop: the bound {bound} is no whole number: round it first")
    return bound


def _constant(x: Any) -> Any:
    return x.detach() if isinstance(x, Value) else float(x)


def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init: Any, *, max_steps: int | None = None
) -> Any:
    """body_fun(state) while cond_fun(state) holds, as jax.lax.while_loop.

    Within a vmap each slice takes its own number of steps. Derivatives are those of the steps taken. Reverse mode keeps
    the states, so it needs max_steps=, the most steps that may be taken; forward mode does not. Raises TypeError if the
    state changes its structure, RecordingError for a reverse derivative without max_steps.

    >>> from pygrad import grad, jit
    >>> def newton(a):  # the square root of a
    ...     return while_loop(lambda x: abs(x * x - a) > 1e-12, lambda x: (x + a / x) / 2, a, max_steps=50)
    >>> round(jit(newton)(2.0), 9), round(grad(newton)(2.0), 9)
    (1.414213562, 0.353553391)
    """
    steps = UNBOUNDED if max_steps is None else _count(max_steps, "max_steps")
    if not recordings.stack:
        taken = 0
        while taken < steps and _number(cond_fun(init), "the result of while_loop's cond_fun"):
            after = body_fun(init)
            _need_alike(after, init, "while_loop's body")
            init, taken = after, taken + 1
        return init

    def step(state: Sequence[Value], _: Sequence[Value]) -> tuple[list[Value], list[Value]]:
        after = body_fun(like(init, list(state)))
        _need_alike(after, init, "while_loop's body")
        return values_of(after), []

    def test(state: Sequence[Value]) -> Value:
        return _holds(_number(cond_fun(like(init, list(state))), "the result of while_loop's cond_fun"))

    carry = values_of(init)
    loop = Loop(step, steps, (len(carry), 0), 0, test)
    return like(init, loop.record(carry)[: len(carry)])


def _number(x: Any, what: str) -> Any:
    """A condition or an index: a number."""
    if is_array(x) and x.ndim == 0:
        x = x.item()
    if is_array(x) or isinstance(x, (list, tuple, dict)) or x is None:
        raise TypeError(f"{what} must be a number, not {shown(x)}")
    return x


def _holds(x: Any) -> Value:
    """The condition that a number is not 0."""
    return as_value(as_value(x) != as_value(0.0))


# ---- Branches --------------------------------------------------------------------------------------------


def cond(pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any) -> Any:
    """true_fun(*operands) if pred holds, else false_fun(*operands), as jax.lax.cond.

    While a function is recorded, both are recorded, and one is run; they must return the same structure and shapes.
    Within a vmap, both run for a block of slices that differ in pred. Derivatives are those of the branch taken. Raises
    TypeError if the branches return different structures or shapes.

    >>> from pygrad import grad, jit
    >>> f = lambda x: cond(x > 1.0, lambda x: x ** 3, lambda x: x, x)
    >>> jit(f)(2.0), grad(f)(2.0), grad(f)(0.5)
    (8.0, 12.0, 1.0)
    """
    pred = _number(pred, "cond's pred")
    if not recordings.stack or not isinstance(pred, Value):
        return true_fun(*operands) if pred else false_fun(*operands)
    return _switched(_holds(pred), [false_fun, true_fun], operands, "cond")


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """branches[index](*operands), as jax.lax.switch: the index is clamped to the range of the branches.

    Raises TypeError if the branches return different structures or shapes, ValueError without branches.

    >>> from pygrad import jit
    >>> jit(lambda i, x: switch(i, [lambda x: x, lambda x: x * x, lambda x: -x], x))(1.0, 3.0)
    9.0
    """
    if not branches:
        raise ValueError("switch needs at least one branch")
    index = _number(index, "switch's index")
    if not recordings.stack or not isinstance(index, Value):
        i = index.data if isinstance(index, Value) else index
        return branches[int(min(i, len(branches) - 1)) if i > 0 else 0](*operands)  # nan: 0
    return _switched(index, list(branches), operands, "switch")


def _switched(index: Value, branches: list[Callable[..., Any]], operands: tuple[Any, ...], what: str) -> Any:
    made: list[Any] = []

    def flat(branch: Callable[..., Any]) -> Callable[[], list[Value]]:
        def one() -> list[Value]:
            out = branch(*operands)
            if made and tree_structure(out) != tree_structure(made[0]):
                raise TypeError(
                    f"the branches of {what} must return the same structure and shapes: one returns "
                    f"{_described(made[0])}, another {_described(out)}"
                )
            made[:] = [out]
            return values_of(out)

        return one

    results = Switch([flat(branch) for branch in branches], index).select()
    return like(made[0], results)


def checkpoint(fn: Callable[..., Any] | None = None, **options: Any) -> Any:
    """`fn`, whose derivatives recompute its intermediate numbers, as jax.checkpoint.

    These numbers are not kept for the reverse pass, which then takes less memory and more time. It is worth it for
    long code within a loop's step. options: JAX's; they are ignored.

    >>> from pygrad import grad
    >>> grad(checkpoint(lambda x: x ** 2))(3.0)
    6.0
    """
    if fn is None:
        return functools.partial(checkpoint, **options)

    @functools.wraps(fn)
    def again(*args: Any, **keywords: Any) -> Any:
        if not recordings.deriving or not recordings.stack:
            return fn(*args, **keywords)
        return _switched(as_value(0.0), [lambda: fn(*args, **keywords)], (), "checkpoint")

    return again
