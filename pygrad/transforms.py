"""Recorded functions: jit, grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp, vmap, named as in JAX.

A function of numbers, arrays and nested lists, tuples and dicts of them is called once with Values that have no
value yet; what it does with them is recorded, and built into a program that C runs from then on. There is a program for
each structure and shape of the arguments. Transforms are functions of Values themselves: called within
a function that is being recorded, they record what they stand for, so they compose.

Source: Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 3, 5 and 7; Frostig, Johnson & Leary,
Compiling machine learning programs via high-level tracing, SysML 2018.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Callable, Union

from pygrad import scopes
from pygrad._errors import RecordingError, check, custom_operation, users_line
from pygrad._pgr import ffi, lib
from pygrad._randomness import recorded
from pygrad.engine import TAPE, Value, _call, taken
from pygrad.program import Program, build, shapes
from pygrad.recording import (
    Argument,
    Array,
    Copy,
    Lanes,
    Recording,
    Source,
    as_array,
    as_value,
    is_lane,
    lane_sum,
    object_array,
    passed,
    recordings,
    value_of,
)
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
            tracers.append(Array.of(Argument(recording), leaf.shape))
        else:
            tracers.append(recording.scalar(0, scalars))
            scalars += 1
    with recordings.recorded(recording):
        result = function(*rebuild(structure, iter(tracers)))
        return build(recording, structure, result)


def _lines(function: Callable[..., Any], structure: Any) -> list[str] | None:
    """For each instruction of the program of `function` 'file:line', which is found by recording it once more."""
    args = rebuild(structure, iter([_stand_in(shape) for shape in shapes(structure)]))
    try:
        with scopes.watched_lines(scopes.tag_line, lambda: recordings.stack):
            program = _record(function, args)
    finally:
        scopes.tag_line("")
    tags = ffi.unpack(lib.pgr_program_lines(program._c), program.stats.instructions)
    return [scopes.line(tag) for tag in tags]


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
        self._derived: dict[Any, Function] = {}  # see _directional

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
            made = recorded(self._function, functools.partial(_record, self._function, args))
            again = functools.partial(_lines, self._function, key)
            made.remember(self.__wrapped__, again)  # type: ignore[attr-defined]
            program = self._programs.setdefault(key, made)  # another thread may have been first
        with contextlib.suppress(KeyError):  # another thread may have dropped it, or the last one that is too many
            self._programs.move_to_end(key)
            while len(self._programs) > self.cache_size:
                self._programs.popitem(last=False)
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


class _Variables:
    """What a function is derived by: `value` is `x` with new nodes for its Values, and for its arrays' elements.

    While a function is recorded, an array is copied as it is used, so that slices that a vmap takes stay lanes.
    along: arrays that the same lanes must be had of, structured as x. by_element: copy every element now.
    """

    def __init__(self, x: Any, along: Any = None, by_element: bool = False) -> None:
        given: list[Any] = []
        structure = describe(x, given)
        others: list[Any] = []
        if along is not None:
            describe(along, others)
        self._recording = recordings.stack[-1] if recordings.stack and not by_element else None
        self._leaves = [self._copy(leaf, other) for leaf, other in itertools.zip_longest(given, others)]
        self.value = rebuild(structure, iter(self._leaves))
        self._structure = structure
        self._layouts: list[Any] = []
        self.order: list[int] = []  # of the caller's argnums

    def _copy(self, leaf: Any, other: Any) -> Any:
        if not is_array(leaf):
            return _fresh(leaf)
        if self._recording is None:
            return object_array([_fresh(element) for element in elements(leaf)], leaf.shape)
        along = None if other is None else as_array(self._recording, other)
        return Array.of(Copy(as_array(self._recording, leaf), along), leaf.shape)

    def nodes(self) -> list[Value]:
        """The nodes that have been used so far."""
        found: list[Value] = []
        self._layouts = []
        for leaf in self._leaves:
            if isinstance(leaf, Array):
                copy = leaf.source
                assert isinstance(copy, Copy)
                made, lanes = dict(copy.made), dict(copy.made_lanes)
                self._layouts.append((made, lanes))
                found += [*made.values(), *(value for _, value in lanes.values())]
            else:
                self._layouts.append(None)
                found += elements(leaf) if is_array(leaf) else [leaf]
        return found

    def tangents(self, x: Any) -> list[Value]:
        """What stands in `x`, structured alike, where the nodes stand."""
        given: list[Any] = []
        describe(x, given)
        found: list[Value] = []
        for leaf, layout in zip(given, self._layouts):
            if layout is None:
                found += [as_value(y) for y in (elements(leaf) if is_array(leaf) else [leaf])]
                continue
            assert self._recording is not None
            made, lanes = layout
            array = as_array(self._recording, leaf)
            found += array.elements(list(made))
            found += [array.lane(group, place, stride) for (_, place, stride), (group, _) in lanes.items()]
        return found

    def filled(self, grads: list[Value]) -> Any:
        """The grads of the nodes, structured as the variables."""
        rest = iter(grads)
        out = []
        for leaf, layout in zip(self._leaves, self._layouts):
            if layout is not None:
                made, lanes = layout
                out.append(self._joined(leaf.shape, made, lanes, rest))
            elif is_array(leaf):
                out.append(object_array([next(rest) for _ in range(leaf.size)], leaf.shape))
            else:
                out.append(next(rest))
        return rebuild(self._structure, iter(out))

    def _joined(self, shape: tuple[int, ...], made: dict[int, Value], lanes: dict[Any, Any], grads: Any) -> Any:
        """The gradient of an array, by the grads of its elements and of its lanes."""
        size = int(need_numpy().prod(shape, dtype=int))
        zero = Value(0.0)
        parts: list[tuple[list[int], list[Value]]] = []  # places, their grads
        if made:
            parts.append((list(made), [next(grads) for _ in made]))
        layouts: dict[tuple[int, int], tuple[Any, dict[int, Value]]] = {}  # by count and stride: group; by place
        for (count, place, stride), (group, _) in lanes.items():
            home, grad_of = layouts.setdefault((count, stride), (group, {}))
            grad_of[place] = passed(next(grads), home)
        assert self._recording is not None
        for (count, stride), (group, grad_of) in layouts.items():
            axis = _axis_of(shape, count, stride)
            if axis is None:
                rows = self._recording.lane_values(count, list(grad_of.values()), list(range(count)))
                for k, place in enumerate(grad_of):
                    parts.append(([place + stride * i for i in range(count)], [row[k] for row in rows]))
                continue
            places = [place for place in range(size) if place // stride % count == 0]
            source = Lanes(self._recording, group, places, stride, [grad_of.get(place, zero) for place in places])
            if len(layouts) == 1 and not made:
                return Array.of(source, shape)
            parts.append((list(range(size)), source.elements(list(range(size)))))
        total: list[Any] = [None] * size
        for part, values in parts:
            for place, value in zip(part, values):
                total[place] = value if total[place] is None else total[place] + value
        return object_array([zero if value is None else value for value in total], shape)


def _axis_of(shape: tuple[int, ...], count: int, stride: int) -> int | None:
    """The axis of an array that has this length and stride."""
    width = 1
    for axis in reversed(range(len(shape))):
        if width == stride and shape[axis] == count:
            return axis
        width *= shape[axis]
    return None


class _Results:
    """What is derived: the Values of a result. Those of a vmap stay lanes where `along` has such lanes, too."""

    def __init__(self, x: Any, along: Any = None) -> None:
        self._leaves: list[Any] = []
        self._structure = describe(x, self._leaves)
        self._recording = recordings.stack[-1] if recordings.stack and recordings.stack[-1].within is None else None
        others: list[Any] = [None] * len(self._leaves)
        if along is not None:
            others = []
            describe(along, others)
        self.nodes: list[Value] = []
        self.seeds: list[Value] = []
        self._lanes: list[Lanes | None] = []
        for leaf, other in zip(self._leaves, others):
            self._add(leaf, other)

    def _add(self, leaf: Any, other: Any) -> None:
        found = leaf.lane_layout() if isinstance(leaf, Array) and self._recording is not None else None
        if found is not None and all(place == offset for (_, place, _), offset in zip(found[1], found[0].offsets)):
            lanes = found[0]
            seeds: list[Value] | None = []
            if other is not None and self._recording is not None:
                seeds = self._lane_seeds(lanes, as_array(self._recording, other))
            if seeds is not None:
                self.nodes += lanes.values
                self.seeds += seeds
                self._lanes.append(lanes)
                return
        self._lanes.append(None)
        self.nodes += [as_value(x) for x in (elements(leaf) if is_array(leaf) else [leaf])]
        if other is not None:
            self.seeds += [as_value(x) for x in (elements(other) if is_array(other) else [other])]

    @staticmethod
    def _lane_seeds(lanes: Lanes, array: Array) -> list[Value] | None:
        """A seed for each Value of lanes: a lane of the array, its sum for one that is the same in all lanes."""
        group, seeds = lanes.group, []
        for offset, value in zip(lanes.offsets, lanes.values):
            if array.lanes_of(offset, lanes.stride, group.count) is None:
                return None
            seed = array.lane(group, offset, lanes.stride)
            seeds.append(seed if is_lane(value) else lane_sum(seed, group))
        return seeds

    def filled(self, values: list[Value]) -> Any:
        """`values`, one for each node, structured as the result."""
        rest = iter(values)
        out: list[Any] = []
        for leaf, lanes in zip(self._leaves, self._lanes):
            if lanes is not None:
                given = [next(rest) for _ in lanes.values]
                source = Lanes(lanes.recording, lanes.group, lanes.offsets, lanes.stride, given)
                out.append(Array.of(source, leaf.shape))
            elif is_array(leaf):
                count = int(need_numpy().prod(leaf.shape, dtype=int))
                out.append(object_array([next(rest) for _ in range(count)], leaf.shape))
            else:
                out.append(next(rest))
        return rebuild(self._structure, iter(out))


def _fresh(x: Any) -> Value:
    return x * 1.0 if isinstance(x, Value) else Value(x)


def _as_value(x: Any, what: str) -> Value:
    if isinstance(x, Value):
        return x
    if is_array(x) or isinstance(x, (list, tuple, dict)):
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
        count = int(need_numpy().prod(leaf.shape, dtype=int))
        return object_array([next(rest) for _ in range(count)], leaf.shape)

    return map_leaves(fill, x)


def _derive(function: Callable[[Any, Any], int], count: int) -> list[Value]:
    """The Values of what `function` writes, `count` handles."""
    out, bad = ffi.new("pgr_handle[]", count), ffi.new("pgr_handle *")
    status = function(out, bad)
    if status == lib.PGR_ERR_OPAQUE:
        raise RecordingError(
            f"{users_line()}\nThe function uses {custom_operation(value_of(bad[0]))}, whose derivative is Python code: "
            "it cannot be recorded, nor derived twice. backward() can do it, and so can grad and value_and_grad "
            "with record=False"
        )
    check(status)
    return taken(out)


def _handles(values: list[Value]) -> list[int]:
    return [value._handle for value in values]


def _vjp(roots: list[Value], seeds: list[Value], wrt: list[Value]) -> list[Value]:
    # Within a vmap each lane has a derivative of its own.
    within = recordings.stack[-1].within if recordings.stack else None
    group = lib.PGR_NO_GROUP if within is None else within.number
    given = (_handles(roots), _handles(seeds), _handles(wrt))
    return _derive(
        lambda *out: lib.pgr_h_vjp(TAPE, group, len(roots), given[0], given[1], len(wrt), given[2], *out), len(wrt)
    )


def _jvp(wrt: list[Value], tangents: list[Value], roots: list[Value]) -> list[Value]:
    given = (_handles(wrt), _handles(tangents), _handles(roots))
    return _derive(
        lambda *out: lib.pgr_h_jvp(TAPE, len(wrt), given[0], given[1], len(roots), given[2], *out), len(roots)
    )


def _selected(args: tuple[Any, ...], argnums: Argnums, by_element: bool = False) -> tuple[_Variables, tuple[Any, ...]]:
    """The arguments that are derived by, as a tuple, and all of them with those copied."""
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in positions:
        if not isinstance(i, int):
            raise TypeError(f"argnums={argnums!r}: must be an int or a sequence of them, counted from 0")
        if not -len(args) <= i < len(args):
            raise TypeError(f"argnums={argnums!r}: the function was called with {len(args)} arguments")
    positions = [i % len(args) for i in positions]
    distinct = list(dict.fromkeys(positions))
    variables = _Variables(tuple([args[i] for i in distinct]), by_element=by_element)
    copies = dict(zip(distinct, variables.value))
    variables.order = [distinct.index(i) for i in positions]
    return variables, tuple([copies.get(i, x) for i, x in enumerate(args)])


def _value_and_grad(function: Callable[..., Any], argnums: Argnums) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        variables, copied = _selected(args, argnums)
        with recordings.derived():
            value = _as_value(function(*copied), "grad")
        nodes = variables.nodes()
        try:
            grads = _vjp([value], [Value(1.0)], nodes)
        except RecordingError:
            if recordings.stack or recordings.deriving:
                raise
            value.backward()  # through custom operations, once
            grads = [Value(v.grad) for v in nodes]
        results = variables.filled(grads)
        return value, results[0] if isinstance(argnums, int) else tuple([results[i] for i in variables.order])

    return inline


def jit(fn: Callable[..., Any] | None = None, *, record: bool = True, workers: int = 1) -> Any:
    """`fn` as a recorded function: the same results at C's speed. A decorator, too.

    Results are floats and NumPy arrays, structured as what fn returns. Raises RecordingError where fn asks for a
    value that is not known yet, or draws random numbers; to be sure of that, fn may be recorded more than once.
    workers: threads that share the lanes of a vmap; results do not depend on them.
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


def _need_alike(x: Any, y: Any, what: str, whose: str) -> None:
    """ValueError unless `y` is structured as `x`."""
    if describe(x, []) != describe(y, []):
        raise ValueError(f"{what} must have the structure and shapes of {whose}")


def _inline_jvp(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inline(primals: Any, tangents: Any) -> Any:
        primals, tangents = tuple(primals), tuple(tangents)
        _need_alike(primals, tangents, "tangents", "the arguments")
        variables = _Variables(primals, along=tangents)
        with recordings.derived():
            result = fn(*variables.value)
        results = _Results(result)
        nodes = variables.nodes()
        return result, results.filled(_jvp(nodes, variables.tangents(tangents), results.nodes))

    return inline


class _Pullback:
    """fn called once, and a function from cotangents of its result to the arguments' gradients."""

    def __init__(self, fn: Callable[..., Any], primals: tuple[Any, ...]) -> None:
        self._fn, self._primals = fn, primals
        self._within = recordings.stack[-1].within if recordings.stack else None
        self._variables = _Variables(primals)
        with recordings.derived():
            self.result = fn(*self._variables.value)

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        _need_alike(self.result, cotangent, "the cotangent", "the result")
        if recordings.stack and recordings.stack[-1].within is not self._within:
            # Within a vmap, lanes of fn's own vmaps would meet that one's: there fn is recorded slice by slice.
            return _Pullback(self._fn, self._primals)(cotangent)
        results = _Results(self.result, along=cotangent)
        nodes = self._variables.nodes()
        grads: tuple[Any, ...] = self._variables.filled(_vjp(results.nodes, results.seeds, nodes))
        return grads


def _inline_vjp(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda primals, cotangent: _Pullback(fn, tuple(primals))(cotangent)


def _directional(make: Callable[..., Any], fn: Callable[..., Any], name: str, record: bool) -> Function:
    """What `make` makes of fn. A recorded function keeps it, any other is recorded anew: it may have changed."""
    if not isinstance(fn, Function):
        return Function(make(fn), fn, name, record)
    if (name, record) not in fn._derived:
        fn._derived[name, record] = Function(make(fn), fn, name, record)
    return fn._derived[name, record]


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], *, record: bool = True) -> Any:
    """(fn(*primals), its derivative in the direction of `tangents`), as jax.jvp.

    primals and tangents are sequences of arguments, structured alike; ValueError if they are not. fn is recorded at
    every call, since what it reads may have changed. Where that takes too long, pass jit(fn), which is recorded once
    for each structure and shape of the arguments, or call jvp within a jit. Source: Griewank & Walther, ch. 3.1.
    """
    return _directional(_inline_jvp, fn, "jvp", record)(tuple(primals), tuple(tangents))


def vjp(fn: Callable[..., Any], *primals: Any, record: bool = True) -> tuple[Any, Callable[[Any], Any]]:
    """(fn(*primals), pullback), as jax.vjp: pullback(cotangent) is the tuple of the arguments' gradients.

    The cotangent is structured as fn's result; ValueError if it is not. fn is recorded at every call, as by jvp; the
    pullback is the derivative of what fn was then, and can be called any number of times. Source: Griewank & Walther,
    ch. 3.2.
    """
    if recordings.stack or recordings.eager:
        pullback = _Pullback(fn, primals)
        return pullback.result, pullback
    if not record:
        pullback = _one_deeper(functools.partial(_Pullback, fn), (primals,))
        return map_leaves(_number_of, pullback.result), lambda cotangent: _run_eagerly(pullback, (cotangent,))
    pull = _directional(_inline_vjp, fn, "vjp", record)
    value = _directional(lambda f: f, fn, "jit", record)(*primals)
    pull.program(primals, value)
    return value, lambda cotangent: pull(primals, cotangent)


def _inline_jacobian(fn: Callable[..., Any], argnums: int) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        variables, copied = _selected(args, argnums, by_element=True)
        x, wrt = variables.value[0], variables.nodes()
        with recordings.derived():
            result = fn(*copied)
        roots = [as_value(value) for value in leaves(result)]
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
            joined.append(object_array(array.ravel(), (*leaf.shape, *shape)))
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
        if recording is None or recording.within is not None or count < 2:
            return _unrolled(fn, args, axes, count, reduce)
        slices = _slices(recording, args, axes)
        return (
            _unrolled(fn, args, axes, count, reduce)
            if slices is None
            else _in_lanes(fn, recording, args, axes, slices, count, reduce)
        )

    return Function(inline, fn, "vmap", record, workers)


def _count(args: tuple[Any, ...], axes: list[Any]) -> int:
    counts: dict[str, int] = {}
    for i, (arg, axis) in enumerate(zip(args, axes)):
        if axis is None:
            continue
        out: list[Any] = []
        describe(arg, out)
        for k, leaf in enumerate(out):
            if not is_array(leaf):
                raise ValueError(f"argument {i} is mapped over but holds a scalar: its in_axes must be None")
            if not -leaf.ndim <= axis < leaf.ndim:
                raise ValueError(f"argument {i}: in_axes={axis}, but its shape is {leaf.shape}")
            counts[f"argument {i}" if len(out) == 1 else f"argument {i}, array {k}"] = leaf.shape[axis]
    if not counts:
        raise ValueError("vmap needs at least one argument with an axis to map over")
    if 0 in counts.values():
        raise ValueError("vmap over an axis of length 0: there is no slice to call the function with")
    if len(set(counts.values())) > 1:
        raise ValueError(
            "the mapped axes differ in length: " + ", ".join(f"{which}: {n}" for which, n in counts.items())
        )
    count: int = next(iter(counts.values()))
    return count


# A mapped array: its source, the offsets in a slice, the stride from slice to slice.
_Slices = tuple[Source, Any, int]


def _slices(recording: Recording, args: tuple[Any, ...], axes: list[Any]) -> list[_Slices] | None:
    """The slices of each mapped array; None if those of one can't be lanes."""
    found: list[_Slices] = []
    for arg, axis in zip(args, axes):
        if axis is None:
            continue
        out: list[Any] = []
        describe(arg, out)
        for leaf in out:
            array = as_array(recording, leaf)
            slices = array.slices(axis)
            if slices is None:
                return None
            found.append((array.source, *slices))
    return found


def _in_lanes(
    fn: Callable[..., Any],
    recording: Recording,
    args: tuple[Any, ...],
    axes: list[Any],
    slices: list[_Slices],
    count: int,
    reduce: str | None,
) -> Any:
    group = recording.new_group(count)
    rest = iter(slices)

    def lanes(_leaf: Any) -> Any:
        source, offsets, stride = next(rest)
        values = [group.take(source, offset, stride) for offset in offsets.ravel().tolist()]
        return values[0] if offsets.ndim == 0 else object_array(values, offsets.shape)

    mapped = [arg if axis is None else map_leaves(lanes, arg) for arg, axis in zip(args, axes)]
    recording.within = group
    try:
        result = fn(*mapped)
    finally:
        recording.within = None

    def total(x: Any) -> Value:
        summed = lane_sum(as_value(x), group)
        return summed * (1.0 / count) if reduce == "mean" else summed

    def finish(leaf: Any) -> Any:
        places = elements(leaf) if is_array(leaf) else [leaf]
        if reduce is not None:
            return _like(leaf, [total(x) for x in places]) if is_array(leaf) else total(leaf)
        width = len(places)
        values = [as_value(x) for x in places]
        shape = (count, *(leaf.shape if is_array(leaf) else ()))
        return Array.of(Lanes(recording, group, list(range(width)), width, values), shape)

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
        joined.append(object_array(array.ravel(), array.shape))
    return rebuild(structure, iter(joined))


def _slice(leaf: Any, axis: int, i: int) -> Any:
    return leaf[(slice(None),) * (axis % leaf.ndim) + (i,)]
