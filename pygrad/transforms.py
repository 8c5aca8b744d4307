"""Recorded functions: jit, grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp, vmap, named as in JAX.

A function of numbers, arrays and nested lists, tuples and dicts of them is called once with Values that have no
value yet; what it does with them is recorded, and built into a program that C runs from then on. There is a program for
each structure and shape of the arguments. Transforms are functions of Values themselves: called within
a function that is being recorded, they record what they stand for, so they compose.

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 3, 5 and 7; Frostig, Johnson & Leary,
Compiling machine learning programs via high-level tracing, SysML 2018.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Callable, Union

from pygrad._errors import RecordingError, check, users_line
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Value, _call
from pygrad.program import Program, build, origins, shapes
from pygrad.recording import Input, Lanes, Recording, recordings, users_lines, value_of
from pygrad.structures import (
    describe,
    elements,
    is_array,
    leaves,
    map_leaves,
    need_numpy,
    real_number,
    rebuild,
    refuse_values,
)

__all__ = [
    "Function",
    "Program",
    "RecordingError",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jit",
    "jvp",
    "leaves",
    "value_and_grad",
    "vjp",
    "vmap",
]

Argnums = Union[int, Sequence[int]]

# ---- Functions -----------------------------------------------------------------------------------


def _record(function: Callable[..., Any], args: tuple[Any, ...]) -> Program:
    recording = Recording()
    given: list[Any] = []
    structure = describe(args, given)
    tracers: list[Any] = []
    scalars = 0
    for leaf in given:
        if is_array(leaf):
            np = need_numpy()
            tracers.append(Input(recording, recording.new_array(), np.arange(leaf.size).reshape(leaf.shape), {}))
        else:
            tracers.append(recording.scalar(0, scalars))
            scalars += 1
    recording.watch_random(function)
    recordings.stack.append(recording)
    try:
        result = function(*rebuild(structure, iter(tracers)))
        recording.check_random()
        return build(recording, structure, result)
    finally:
        recordings.stack.pop()


def _lines(function: Callable[..., Any], structure: Any) -> list[str] | None:
    """For each instruction of the program of `function` 'file:line', which is found by recording it once more."""
    args = rebuild(structure, iter([_stand_in(shape) for shape in shapes(structure)]))
    with users_lines() as where:
        return [where(node) for node in origins(_record(function, args))]


def _stand_in(shape: Any) -> Any:
    return 0.0 if shape is None else need_numpy().zeros(shape)


class Function:
    """A function that is recorded on its first call for each structure and shape of its arguments.

    Within another one that is being recorded it does what it stands for, on that one's Values.
    """

    cache_size = 64  # programs that are kept, the last used

    def __init__(
        self, function: Callable[..., Any], of: Callable[..., Any], name: str, record: bool = True, workers: int = 1
    ) -> None:
        if not callable(of):
            raise TypeError(f"{name} takes a function, not {of!r}")
        functools.update_wrapper(self, of)
        if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= lib.PGR_MAX_WORKERS:
            raise ValueError(f"workers={workers!r}: must be an int from 1 to {lib.PGR_MAX_WORKERS}")
        self._function = function
        self._name = name
        self._eager = not record
        self._workers = workers
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._plan: Any = None  # of the program that ran last

    def __repr__(self) -> str:
        return f"{self._name}({getattr(self.__wrapped__, '__name__', self.__wrapped__)})"  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{self!r} takes its arguments by position, not as {', '.join(keywords)}=")
        if recordings.stack:
            return self._function(*args)
        if recordings.eager:  # within another transform that runs eagerly
            return _one_deeper(self._function, args)
        if self._plan is not None:
            result = _call(self._plan, args)
            if result is not NotImplemented:
                return result
        refuse_values(args, repr(self))
        if self._eager:
            return _run_eagerly(self._function, args)
        given: list[Any] = []
        key = describe(args, given)
        program = self._program(key, args)
        self._plan = program.plan(self._workers)
        return program.run(given, self._workers)

    def _program(self, key: Any, args: tuple[Any, ...]) -> Program:
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = _record(self._function, args)
            again = functools.partial(_lines, self._function, key)
            program.remember(self.__wrapped__, again)  # type: ignore[attr-defined]
            while len(self._programs) > self.cache_size:
                self._programs.popitem(last=False)
        else:
            self._programs.move_to_end(key)
        return program

    def program(self, *args: Any) -> Program:
        """The program for arguments of this structure and shape, recorded now if there is none."""
        return self._program(describe(args, []), args)

    @property
    def programs(self) -> list[Program]:
        """The programs that are kept, the last used at the end."""
        return list(self._programs.values())


def _run_eagerly(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """The result of `function`, as numbers and arrays."""
    return map_leaves(_number_of, _one_deeper(function, args))


def _one_deeper(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    recordings.eager += 1
    try:
        return function(*args)
    finally:
        recordings.eager -= 1


def _number_of(leaf: Any) -> Any:
    if isinstance(leaf, Value):
        return leaf.data
    if not is_array(leaf) or leaf.dtype != object:
        return leaf
    numbers = [x.data if isinstance(x, Value) else real_number(x, "result") for x in elements(leaf)]
    return need_numpy().array(numbers).reshape(leaf.shape)


# ---- Derivatives ---------------------------------------------------------------------------------


def _copies(x: Any) -> Any:
    """`x` with each Value replaced by a new node of the same value: what is derived by."""

    def copy(leaf: Any) -> Any:
        if not is_array(leaf):
            return _fresh(leaf)
        np = need_numpy()
        given = elements(leaf)
        array = np.empty(len(given), dtype=object)
        array[:] = [_fresh(element) for element in given]
        return array.reshape(leaf.shape)

    return map_leaves(copy, x)


def _fresh(x: Any) -> Value:
    return x * 1.0 if isinstance(x, Value) else Value(x)


def _as_value(x: Any, what: str) -> Value:
    if isinstance(x, Value):
        return x
    if is_array(x) or isinstance(x, (list, tuple, dict, Lanes)):
        raise TypeError(
            f"{what} needs a function whose result is a scalar, not {type(x).__name__}: jacobian takes others"
        )
    return Value(x)


def _like(x: Any, values: list[Any]) -> Any:
    """`values` in the structure of `x`, arrays as object arrays."""
    rest = iter(values)

    def fill(leaf: Any) -> Any:
        if not is_array(leaf):
            return next(rest)
        np = need_numpy()
        count = int(np.prod(leaf.shape, dtype=int))
        array = np.empty(count, dtype=object)
        array[:] = [next(rest) for _ in range(count)]
        return array.reshape(leaf.shape)

    return map_leaves(fill, x)


def _derive(function: Any, nodes: list[Value], weights: list[Value], others: list[Value]) -> list[Value]:
    out = ffi.new("pgr_handle[]", len(others))
    handles = [[v._handle for v in values] for values in (nodes, weights, others)]
    status = function(TAPE, len(nodes), handles[0], handles[1], len(others), handles[2], out)
    if status == lib.PGR_ERR_OP:
        raise RecordingError(
            f"{users_line()}\nThe function uses a custom operation, whose derivative is Python code: it cannot be "
            "recorded, nor derived twice. backward() can do it, and so can grad and value_and_grad with record=False"
        )
    check(status)
    return [value_of(handle) for handle in out]


def _vjp(roots: list[Value], seeds: list[Value], wrt: list[Value]) -> list[Value]:
    return _derive(lib.pgr_h_vjp, roots, seeds, wrt)


def _jvp(wrt: list[Value], tangents: list[Value], roots: list[Value]) -> list[Value]:
    return _derive(lib.pgr_h_jvp, wrt, tangents, roots)


def _selected(args: tuple[Any, ...], argnums: Argnums) -> tuple[list[int], tuple[Any, ...]]:
    """The positions that are derived by, and the arguments with those copied."""
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in positions:
        if not isinstance(i, int):
            raise TypeError(f"argnums={argnums!r}: must be an int or a sequence of them, counted from 0")
        if not -len(args) <= i < len(args):
            raise TypeError(f"argnums={argnums!r}: the function was called with {len(args)} arguments")
    positions = [i % len(args) for i in positions]
    return positions, tuple(_copies(x) if i in positions else x for i, x in enumerate(args))


def _answers(argnums: Argnums, results: list[Any]) -> Any:
    return results[0] if isinstance(argnums, int) else tuple(results)


def _value_and_grad(function: Callable[..., Any], argnums: Argnums) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        positions, copied = _selected(args, argnums)
        value = _as_value(function(*copied), "grad")
        wrt = [leaves(copied[i]) for i in positions]
        flat = [v for group in wrt for v in group]
        try:
            flat_grads: list[Any] = _vjp([value], [Value(1.0)], flat)
        except RecordingError:
            if recordings.stack or recordings.eager != 1:
                raise
            value.backward()  # through custom operations, once
            flat_grads = [Value(v.grad) for v in flat]
        grads, at = [], 0
        for i, group in zip(positions, wrt):
            grads.append(_like(args[i], flat_grads[at : at + len(group)]))
            at += len(group)
        return value, _answers(argnums, grads)

    return inline


def jit(fn: Callable[..., Any] | None = None, *, record: bool = True, workers: int = 1) -> Any:
    """`fn` as a recorded function: the same results at C's speed. A decorator, too.

    Results are floats and NumPy arrays, structured as what fn returns. Raises RecordingError where fn asks for a
    value that is not known yet. workers: threads that share the lanes of a vmap; results do not depend on them.
    """
    if fn is None:
        return functools.partial(jit, record=record, workers=workers)
    return Function(fn, fn, "jit", record, workers)


def value_and_grad(
    fn: Callable[..., Any] | None = None, argnums: Argnums = 0, *, record: bool = True, workers: int = 1
) -> Any:
    """A function that returns (fn(*args), its gradient), as jax.value_and_grad.

    fn's result is a scalar. The gradient is structured as the argument number `argnums`; a tuple of such where
    argnums is a sequence. record=False runs fn eagerly at every call, for control flow that depends on values;
    workers: see jit. Source: Griewank & Walther, Evaluating Derivatives, ch. 3.2.
    """
    if fn is None:
        return functools.partial(value_and_grad, argnums=argnums, record=record, workers=workers)
    return Function(_value_and_grad(fn, argnums), fn, "value_and_grad", record, workers)


def grad(fn: Callable[..., Any] | None = None, argnums: Argnums = 0, *, record: bool = True, workers: int = 1) -> Any:
    """A function that returns fn's gradient, structured as the argument, as jax.grad. See value_and_grad."""
    if fn is None:
        return functools.partial(grad, argnums=argnums, record=record, workers=workers)
    both = _value_and_grad(fn, argnums)
    return Function(lambda *args: both(*args)[1], fn, "grad", record, workers)


def _flat(result: Any) -> list[Value]:
    return [x if isinstance(x, Value) else Value(x) for x in leaves(result)]


def _paired(x: Any, y: Any, what: str, whose: str) -> list[Value]:
    """The values of `y`, which must be structured as `x`."""
    ours: list[Any] = []
    theirs: list[Any] = []
    if describe(x, ours) != describe(y, theirs):
        raise ValueError(f"{what} must have the structure and shapes of {whose}")
    return [v if isinstance(v, Value) else Value(v) for v in leaves(y)]


def _inline_jvp(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inline(primals: Any, tangents: Any) -> Any:
        copied = _copies(tuple(primals))
        result = fn(*copied)
        directions = _paired(tuple(primals), tuple(tangents), "tangents", "the arguments")
        return result, _like(result, _jvp(leaves(copied), directions, _flat(result)))

    return inline


def _inline_vjp(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inline(primals: Any, cotangents: Any) -> Any:
        copied = _copies(tuple(primals))
        result = fn(*copied)
        grads = _vjp(_flat(result), _paired(result, cotangents, "the cotangent", "the result"), leaves(copied))
        return _like(tuple(primals), grads)

    return inline


@functools.lru_cache(maxsize=128)
def _recorded(make: Callable[..., Any], fn: Callable[..., Any], name: str, record: bool) -> Function:
    return Function(make(fn), fn, name, record)


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, record: bool = True) -> Any:
    """(fn(*primals), its derivative in the direction of `tangents`), as jax.jvp.

    primals and tangents are sequences of arguments, structured alike; ValueError if they are not. Recorded once for
    each fn. Source: Griewank & Walther, ch. 3.1.
    """
    return _recorded(_inline_jvp, fn, "jvp", record)(tuple(primals), tuple(tangents))


def vjp(fn: Callable[..., Any], *primals: Any, record: bool = True) -> tuple[Any, Callable[[Any], Any]]:
    """(fn(*primals), pullback), as jax.vjp: pullback(cotangent) is the tuple of the arguments' gradients.

    The cotangent is structured as fn's result; ValueError if it is not. Source: Griewank & Walther, ch. 3.2.
    """
    pull = _recorded(_inline_vjp, fn, "vjp", record)
    value = _recorded(lambda f: f, fn, "jit", record)(*primals)
    return value, lambda cotangent: pull(primals, cotangent)


def _inline_jacobian(fn: Callable[..., Any], argnums: int) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        _, copied = _selected(args, argnums)
        x = copied[argnums]
        wrt = leaves(x)
        result = fn(*copied)
        roots = _flat(result)
        one, zero = Value(1.0), Value(0.0)
        if len(roots) <= len(wrt):
            rows = [_vjp([root], [one], wrt) for root in roots]
        else:
            columns = [_jvp(wrt, [one if j == i else zero for j in range(len(wrt))], roots) for i in range(len(wrt))]
            rows = [list(row) for row in zip(*columns)]
        return _nest(result, x, rows)

    return inline


def _nest(result: Any, x: Any, rows: list[list[Any]]) -> Any:
    """Rows of a Jacobian in the structure of the result, each entry in that of the argument; arrays joined."""
    out: list[Any] = []
    structure = describe(result, out)
    at = 0
    blocks = []
    for leaf in out:
        if not is_array(leaf):
            blocks.append(_like(x, rows[at]))
            at += 1
            continue
        np = need_numpy()
        count = int(np.prod(leaf.shape, dtype=int))
        entries: list[list[Any]] = []
        inner: list[Any] = []
        inner_structure = describe(x, inner)
        for row in rows[at : at + count]:
            entries.append([])
            describe(_like(x, row), entries[-1])
        at += count
        joined = []
        for k, part in enumerate(inner):
            shape = part.shape if is_array(part) else ()
            array = np.empty((count, *shape), dtype=object)
            for i in range(count):
                array[i] = entries[i][k]
            joined.append(array.reshape((*leaf.shape, *shape)))
        blocks.append(rebuild(inner_structure, iter(joined)))
    return rebuild(structure, iter(blocks))


def jacobian(fn: Callable[..., Any] | None = None, argnums: int = 0, *, record: bool = True, workers: int = 1) -> Any:
    """A function that returns fn's Jacobian by one argument: result's shape + argument's shape, as jax.jacobian.

    By reverse or forward derivatives, whichever needs fewer. record, workers: see value_and_grad, jit. Source:
    Griewank & Walther, ch. 3.
    """
    if fn is None:
        return functools.partial(jacobian, argnums=argnums, record=record, workers=workers)
    return Function(_inline_jacobian(fn, argnums), fn, "jacobian", record, workers)


def hessian(fn: Callable[..., Any] | None = None, argnums: int = 0, *, record: bool = True, workers: int = 1) -> Any:
    """A function that returns the matrix of second derivatives of fn by one argument. fn's result is a scalar.

    Its shape is the argument's, twice. record, workers: see value_and_grad, jit. Source: Griewank & Walther, ch. 5.
    """
    if fn is None:
        return functools.partial(hessian, argnums=argnums, record=record, workers=workers)
    both = _value_and_grad(fn, argnums)
    return Function(_inline_jacobian(lambda *args: both(*args)[1], argnums), fn, "hessian", record, workers)


def hvp(fn: Callable[..., Any] | None = None, *, record: bool = True, workers: int = 1) -> Any:
    """A function of (x, v) that returns the Hessian of fn at x times v, without the Hessian: forward over reverse.

    x and v are structured alike. record, workers: see value_and_grad, jit. Source: Pearlmutter, Fast exact
    multiplication by the Hessian, Neural Computation 6(1), 1994.
    """
    if fn is None:
        return functools.partial(hvp, record=record, workers=workers)
    both = _value_and_grad(fn, 0)
    push = _inline_jvp(lambda x: both(x)[1])
    return Function(lambda x, v: push((x,), (v,))[1], fn, "hvp", record, workers)


# ---- vmap ----------------------------------------------------------------------------------------


def vmap(
    fn: Callable[..., Any] | None = None,
    in_axes: Any = 0,
    reduce: str | None = None,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """`fn` for every slice of its arguments along an axis, as jax.vmap.

    in_axes: the axis to map over, for each argument; None for one that is the same for all. reduce: None gives
    results with a new first axis, 'sum' and 'mean' their sum or mean, which is worked out on the way. Where the
    mapped arrays are arguments of the recorded function, the slices are lanes of SIMD registers; else fn is recorded
    for each slice. Sums over lanes are added up in blocks, in an order that depends on how many there are, not on
    workers (see jit).
    """
    if fn is None:
        return functools.partial(vmap, in_axes=in_axes, reduce=reduce, record=record, workers=workers)
    if reduce not in (None, "sum", "mean"):
        raise ValueError(f"reduce={reduce!r}: must be None, 'sum' or 'mean'")

    def inline(*args: Any) -> Any:
        axes = [in_axes] * len(args) if in_axes is None or isinstance(in_axes, int) else list(in_axes)
        if len(axes) != len(args):
            raise ValueError(f"in_axes={in_axes!r} is for {len(axes)} arguments; there are {len(args)}")
        count = _count(args, axes)
        recording = recordings.stack[-1] if recordings.stack and record else None
        if recording is None or recording.in_lanes or count < 2:
            return _unrolled(fn, args, axes, count, reduce)
        sources = _sources(recording, args, axes)
        if sources is None:
            return _unrolled(fn, args, axes, count, reduce)
        return _in_lanes(fn, recording, args, axes, sources, count, reduce)

    return Function(inline, fn, "vmap", record, workers)


def _count(args: tuple[Any, ...], axes: list[Any]) -> int:
    counts = {}
    for i, (arg, axis) in enumerate(zip(args, axes)):
        if axis is None:
            continue
        out: list[Any] = []
        describe(arg, out)
        for leaf in out:
            if not is_array(leaf):
                raise ValueError(f"argument {i} is mapped over but holds a scalar: its in_axes must be None")
            if not -leaf.ndim <= axis < leaf.ndim:
                raise ValueError(f"argument {i}: in_axes={axis}, but its shape is {leaf.shape}")
            counts[i] = leaf.shape[axis]
    if not counts:
        raise ValueError("vmap needs at least one argument with an axis to map over")
    if 0 in counts.values():
        raise ValueError("vmap over an axis of length 0: there is no slice to call the function with")
    if len(set(counts.values())) > 1:
        raise ValueError(
            "the mapped axes differ in length: " + ", ".join(f"argument {i}: {n}" for i, n in counts.items())
        )
    count: int = next(iter(counts.values()))
    return count


def _sources(recording: Recording, args: tuple[Any, ...], axes: list[Any]) -> list[Any] | None:
    """For each mapped array (its number, offsets in a slice, stride); None if one is not an input of the function."""
    np = need_numpy()
    found = []
    for arg, axis in zip(args, axes):
        if axis is None:
            continue
        out: list[Any] = []
        describe(arg, out)
        for leaf in out:
            if isinstance(leaf, Input):
                source = leaf.affine(axis)
                if source is None:
                    return None
                found.append(source)
            elif leaf.dtype != object:  # numbers from outside
                constant = np.array(np.moveaxis(leaf, axis, 0), dtype=np.float64, order="C")
                number = recording.new_array()
                recording.constants[number] = constant
                width = int(np.prod(constant.shape[1:], dtype=int))
                found.append((number, np.arange(width).reshape(constant.shape[1:]), width))
            else:
                return None
    return found


def _in_lanes(
    fn: Callable[..., Any],
    recording: Recording,
    args: tuple[Any, ...],
    axes: list[Any],
    sources: list[Any],
    count: int,
    reduce: str | None,
) -> Any:
    np = need_numpy()
    group = len(recording.groups)
    recording.groups.append((count, []))
    source = iter(sources)
    witness: list[Value] = []

    def lanes(_leaf: Any) -> Any:
        number, offsets, stride = next(source)
        values = [recording.lane(group, number, offset, stride) for offset in np.ravel(offsets).tolist()]
        witness.extend(values[:1])
        if np.ndim(offsets) == 0:
            return values[0]
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array.reshape(np.shape(offsets))

    mapped = [arg if axis is None else map_leaves(lanes, arg) for arg, axis in zip(args, axes)]
    recording.in_lanes = True
    try:
        result = fn(*mapped)
    finally:
        recording.in_lanes = False

    def total(x: Any) -> Value:
        value = x if isinstance(x, Value) else Value(x)
        summed = value_of(lib.pgr_h_lane_sum(TAPE, value._handle, witness[0]._handle))
        return summed * (1.0 / count) if reduce == "mean" else summed

    unrolled: list[Any] = []

    def unroll(i: int) -> Any:
        """The i-th array of the result with a Value for every slice: for who goes on working with it."""
        if not unrolled:
            describe(_unrolled(fn, args, axes, count, None), unrolled)
        return unrolled[i]

    numbers = itertools.count()

    def finish(leaf: Any) -> Any:
        places = elements(leaf) if is_array(leaf) else [leaf]
        if reduce is not None:
            return _like(leaf, [total(x) for x in places]) if is_array(leaf) else total(leaf)
        # Only lanes are written by lanes: what is the same in all becomes one by taking nothing of a lane away. If it
        # were added, -0.0 would become 0.0.
        nothing = Value(0.0).pick(witness[0])
        shape = (count, *(leaf.shape if is_array(leaf) else ()))
        return Lanes(
            shape,
            [(x if isinstance(x, Value) else Value(x)) - nothing for x in places],
            functools.partial(unroll, next(numbers)),
        )

    return map_leaves(finish, result)


def _unrolled(fn: Callable[..., Any], args: tuple[Any, ...], axes: list[Any], count: int, reduce: str | None) -> Any:
    results = []
    for i in range(count):
        sliced = []
        for arg, axis in zip(args, axes):
            sliced.append(arg if axis is None else map_leaves(functools.partial(_slice, axis=axis, i=i), arg))
        results.append(fn(*sliced))
    out: list[list[Any]] = []
    structure = None
    for result in results:
        out.append([])
        structure = describe(result, out[-1])
    joined = []
    for parts in zip(*out):
        if reduce is not None:
            total = sum(parts[1:], parts[0])
            joined.append(total * (1.0 / count) if reduce == "mean" else total)
            continue
        np = need_numpy()
        shape = parts[0].shape if is_array(parts[0]) else ()
        array = np.empty((count, *shape), dtype=object)
        for i, part in enumerate(parts):
            array[i] = part
        joined.append(array)
    return rebuild(structure, iter(joined))


def _slice(leaf: Any, axis: int, i: int) -> Any:
    return leaf[(slice(None),) * (axis % leaf.ndim) + (i,)]
