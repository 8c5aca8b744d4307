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
import random
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Union

from pygrad._errors import RecordingError, check, users_line
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Operand, Value, _run

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


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise ImportError("arrays need NumPy: pip install 'pygrad[numpy]'") from None
    return numpy


def _is_array(x: Any) -> bool:
    np = sys.modules.get("numpy")
    return np is not None and (isinstance(x, (np.ndarray, _Input)))


def _as_float64(x: Any) -> Any:
    """The array itself where it is laid out as programs read it, else a copy."""
    return _numpy().ascontiguousarray(x, dtype="d")


def _empty(shape: tuple[int, ...]) -> Any:
    return _numpy().empty(shape)


# ---- Structures ----------------------------------------------------------------------------------

# A structure is described by nested tuples: 'scalar', ('array', shape), ('list', ...), ('tuple', ...),
# ('dict', keys, ...).


def _describe(x: Any, out: list[Any]) -> Any:
    """The structure of `x`; its scalars and arrays are appended to `out`."""
    kind = type(x)
    if kind is float or kind is int or isinstance(x, Value):
        out.append(x)
        return "scalar"
    if kind is list or kind is tuple:
        return (kind.__name__, *[_describe(y, out) for y in x])
    if kind.__name__ == "ndarray" and x.ndim:
        out.append(x)
        return ("array", x.shape)
    if kind is dict:
        keys = sorted(x, key=str)
        return ("dict", tuple(keys), *[_describe(x[key], out) for key in keys])
    if _is_array(x):
        if x.ndim == 0 and not isinstance(x, _Input):
            out.append(x.item())
            return "scalar"
        out.append(x)
        return ("array", x.shape)
    if isinstance(x, _Lanes):
        out.append(x)
        return ("array", x.shape)
    if isinstance(x, tuple):  # a named one
        return ("tuple", *[_describe(y, out) for y in x])
    if hasattr(kind, "__float__") or hasattr(kind, "__index__"):
        out.append(float(x))
        return "scalar"
    raise TypeError(
        f"{x!r} is of type {kind.__name__}: arguments and results of recorded functions are numbers, arrays, "
        "and lists, tuples and dicts of them"
    )


def _rebuild(structure: Any, values: Iterator[Any]) -> Any:
    if structure == "scalar" or structure[0] == "array":
        return next(values)
    if structure[0] == "list":
        return [_rebuild(s, values) for s in structure[1:]]
    if structure[0] == "tuple":
        return tuple(_rebuild(s, values) for s in structure[1:])
    return {key: _rebuild(s, values) for key, s in zip(structure[1], structure[2:])}


def _map(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of every scalar and array of `x`, in the same structure."""
    out: list[Any] = []
    structure = _describe(x, out)
    return _rebuild(structure, iter([function(leaf) for leaf in out]))


def leaves(tree: Any) -> list[Any]:
    """All numbers or Values in nested lists, tuples, dicts and arrays, in order."""
    out: list[Any] = []
    _describe(tree, out)
    return [x for leaf in out for x in (_elements(leaf) if _is_array(leaf) else (leaf,))]


def _elements(array: Any) -> list[Any]:
    return list(_numpy().asarray(array).ravel())


# ---- Recording -----------------------------------------------------------------------------------


class _Recordings(threading.local):
    def __init__(self) -> None:
        self.stack: list[_Recording] = []


_recordings = _Recordings()


def _value_of(handle: int) -> Value:
    check(-handle if handle < 0 else 0)
    value: Value = Operand._of(handle)
    return value


class _Recording:
    """What is known of a function while it is being recorded: its inputs and its groups of lanes."""

    def __init__(self) -> None:
        self.start = Value(0.0)  # nodes from here on are the recording's
        self.groups: list[tuple[int, list[tuple[int, int, int]]]] = []  # lanes; array, offset, stride by input
        self.in_lanes = False
        self.constants: dict[int, Any] = {}  # arrays from outside that are mapped over, by number
        self.arrays = 1  # numbers given out: array 0 holds the scalars
        self._random = random.getstate()
        np = sys.modules.get("numpy")
        self._numpy_random = None if np is None else np.random.get_state()

    def scalar(self, array: int, offset: int) -> Value:
        return _value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_INPUT, array << 32 | offset))

    def new_array(self) -> int:
        self.arrays += 1
        return self.arrays - 1

    def lane(self, group: int, array: int, offset: int, stride: int) -> Value:
        inputs = self.groups[group][1]
        inputs.append((array, offset, stride))
        return _value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_LANE, group << 32 | (len(inputs) - 1)))

    def check_random(self) -> None:
        np = sys.modules.get("numpy")
        drawn = random.getstate() != self._random
        if np is not None and self._numpy_random is not None and not drawn:
            state = np.random.get_state()
            drawn = state[2:] != self._numpy_random[2:] or not np.array_equal(state[1], self._numpy_random[1])
        if drawn:
            raise RecordingError(
                f"{users_line()}\nThe function draws random numbers, which would be the same on every call: "
                "draw them outside and pass them as arguments, or use record=False"
            )


class _Input:
    """An array argument of a function that is being recorded: its Values are made when they are asked for.

    Behaves as the NumPy array of them; `vmap` takes its axes without making any.
    """

    __array_priority__ = 100.0

    def __init__(self, recording: _Recording, number: int, view: Any, values: dict[int, Value]) -> None:
        self._recording, self._number, self._view, self._values = recording, number, view, values

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._view.shape)

    @property
    def ndim(self) -> int:
        return int(self._view.ndim)

    @property
    def T(self) -> _Input:  # noqa: N802
        return self._with(self._view.T)

    def _with(self, view: Any) -> _Input:
        return _Input(self._recording, self._number, view, self._values)

    def _value(self, offset: int) -> Value:
        if offset not in self._values:
            self._values[offset] = self._recording.scalar(self._number, offset)
        return self._values[offset]

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, index: Any) -> Any:
        view = self._view[index]
        return self._with(view) if getattr(view, "ndim", 0) else self._value(int(view))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        np = _numpy()
        values = np.empty(self._view.size, dtype=object)
        values[:] = [self._value(offset) for offset in self._view.ravel().tolist()]
        return values.reshape(self._view.shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        plain = [x.__array__() if isinstance(x, _Input) else x for x in inputs]
        return getattr(ufunc, method)(*plain, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__array__(), name)

    def reshape(self, *shape: Any) -> _Input:
        return self._with(self._view.reshape(*shape))

    def affine(self, axis: int) -> tuple[int, Any, int] | None:
        """(array, offsets of the first slice along `axis`, stride from slice to slice), if there is one stride."""
        np = _numpy()
        view = np.moveaxis(self._view, axis, 0)
        stride = int((view[1] - view[0]).ravel()[0]) if len(view) > 1 and view[0].size else 1
        steps = np.arange(len(view)).reshape(-1, *[1] * (view.ndim - 1)) * stride
        return (self._number, view[0], stride) if stride > 0 and bool((view == view[0] + steps).all()) else None


def _define_operators() -> None:
    """Arithmetic of _Input is that of the array of its Values."""
    for name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
        for reflected in ("", "r"):
            method = f"__{reflected}{name}__"
            setattr(_Input, method, lambda self, other, m=method: getattr(self.__array__(), m)(_plain(other)))
    for method in ("__neg__", "__pos__", "__abs__"):
        setattr(_Input, method, lambda self, m=method: getattr(self.__array__(), m)())
    for method in ("__lt__", "__le__", "__gt__", "__ge__"):
        setattr(_Input, method, lambda self, other, m=method: getattr(self.__array__(), m)(_plain(other)))


def _plain(x: Any) -> Any:
    return x.__array__() if isinstance(x, _Input) else x


_define_operators()


class _Lanes:
    """A result of vmap that is not reduced: a Value for each place of one lane's result."""

    def __init__(self, lanes: int, inner: tuple[int, ...], values: list[Value]) -> None:
        self.lanes, self.inner, self.values = lanes, inner, values
        self.shape = (lanes, *inner)
        self.ndim = len(self.shape)

    def _refuse(self, *_: Any) -> Any:
        raise RecordingError(
            f"{users_line()}\nThe result of vmap without reduce= can only be returned while a function is recorded: "
            "use reduce='sum' or reduce='mean', or do the rest inside the mapped function"
        )

    __getitem__ = __iter__ = __len__ = __array__ = __add__ = __radd__ = __mul__ = __rmul__ = _refuse
    __sub__ = __rsub__ = __truediv__ = __rtruediv__ = __float__ = __bool__ = _refuse


# ---- Programs ------------------------------------------------------------------------------------


class ProgramStats(NamedTuple):
    """How large a program is. `nodes`: of the recorded graph; `instructions`: what is left of them."""

    nodes: int
    instructions: int
    dots: int
    segments: int
    constants: int
    uniform_slots: int
    lane_slots: int
    block: int
    bytes: int


class Program:
    """A recorded function as C runs it. Immutable: one may run in many threads."""

    def __init__(self, recording: _Recording, inputs: list[Any], result: Any) -> None:
        self._inputs = inputs  # of each argument leaf: None for a scalar, else (array, shape)
        out: list[Any] = []
        self._structure = _describe(result, out)
        handles: list[int] = []
        places: list[tuple[int, int, int]] = []
        keep: list[Any] = []  # Values that stay until the program is built
        self._out_shapes: list[Any] = []
        scalars = sum(not (_is_array(leaf) or isinstance(leaf, _Lanes)) for leaf in out)
        self._scalars_out = scalars
        array, scalar = 1, 0
        for leaf in out:
            if isinstance(leaf, _Lanes):
                width = len(leaf.values)
                for k, value in enumerate(leaf.values):
                    handles.append(value._handle)
                    places.append((array, k, width))
                self._out_shapes.append(leaf.shape)
                array += 1
            elif _is_array(leaf):
                for k, x in enumerate(_elements(leaf)):
                    value = x if isinstance(x, Value) else Value(x)
                    keep.append(value)
                    handles.append(value._handle)
                    places.append((array, k, 0))
                self._out_shapes.append(leaf.shape)
                array += 1
            else:
                value = leaf if isinstance(leaf, Value) else Value(leaf)
                keep.append(value)
                handles.append(value._handle)
                places.append((0, scalar, 0))
                self._out_shapes.append(None)
                scalar += 1
        outputs = ffi.new("pgr_output[]", [(0, a, offset, stride) for a, offset, stride in places])
        groups = ffi.new("pgr_lane_group[]", max(1, len(recording.groups)))
        alive = []
        for group, (lanes, lane_inputs) in zip(groups, recording.groups):
            rows = ffi.new("pgr_lane_input[]", lane_inputs)
            alive.append(rows)
            group.lanes, group.input_count, group.inputs = lanes, len(lane_inputs), rows
        self._captures_array = recording.new_array()
        program = ffi.new("pgr_program **")
        status = lib.pgr_h_program_build(
            TAPE,
            recording.start._handle,
            len(handles),
            handles,
            outputs,
            len(recording.groups),
            groups,
            self._captures_array,
            program,
        )
        if status == lib.PGR_ERR_OP:
            raise RecordingError(
                "values of two different vmaps meet, or a custom operation depends on an input: neither can be recorded"
            )
        check(status)
        self._c = ffi.gc(program[0], lib.pgr_program_free)
        ids = ffi.new("const pgr_id **")
        count = lib.pgr_program_captures(self._c, ids)
        # Values from outside, whose numbers are read at every call.
        self._captured = [_value_of(lib.pgr_h_hold(TAPE, ids[0][i])) for i in range(count)]
        self._captured_handles = ffi.new("pgr_handle[]", [value._handle for value in self._captured])
        self._constants = recording.constants
        self._arrays = recording.arrays
        self._scalars_in = sum(place is None for place in inputs)
        self._address = int(ffi.cast("uintptr_t", self._c))
        self._shapes = [shape for shape in self._out_shapes if shape is not None]
        # Whether numbers go in and a number, or a tuple of them, comes out, as they are.
        self._numbers_only = not self._captured and not self._constants and not self._shapes
        self._one = self._structure == "scalar"
        self._flat = self._structure == ("tuple", *["scalar"] * (len(self._structure) - 1))

    @property
    def stats(self) -> ProgramStats:
        """The program's size."""
        stats = lib.pgr_program_stat(self._c)
        return ProgramStats(*(getattr(stats, name) for name in ProgramStats._fields))

    def __repr__(self) -> str:
        stats = self.stats
        lanes = f", {stats.lane_slots} slots of {stats.block} lanes" if stats.block else ""
        return f"<Program of {stats.instructions} instructions from {stats.nodes} nodes, {stats.dots} dots{lanes}>"

    def run(self, args: Sequence[Any]) -> Any:
        """The result for the arguments' scalars and arrays, in order."""
        numbers = tuple([x for place, x in zip(self._inputs, args) if place is None])
        arrays = [x for place, x in zip(self._inputs, args) if place is not None]
        if self._constants:
            arrays += [constant for _, constant in sorted(self._constants.items())]
        if self._captured:
            arrays.append(_numpy().frombuffer(self._read_captured(), dtype="d"))
        results = tuple([_empty(shape) for shape in self._shapes])
        try:
            out = iter(_run(self._address, numbers, tuple(arrays), results, self._scalars_out))
        except (BufferError, TypeError, ValueError):  # not laid out as programs read them
            arrays = [_as_float64(x) for x in arrays]
            out = iter(_run(self._address, numbers, tuple(arrays), results, self._scalars_out))
        if self._one:
            return next(out)
        array = iter(results)
        return _rebuild(self._structure, iter([next(out if shape is None else array) for shape in self._out_shapes]))

    def run_numbers(self, args: tuple[float, ...]) -> Any:
        """The same where all arguments are floats."""
        if not self._numbers_only:
            return self.run(args)
        out = _run(self._address, args, (), (), self._scalars_out)
        return out[0] if self._one else out if self._flat else _rebuild(self._structure, iter(out))

    def _read_captured(self) -> Any:
        captured = ffi.new("double[]", len(self._captured))
        check(lib.pgr_h_read(TAPE, len(self._captured), self._captured_handles, captured))
        return ffi.buffer(captured)


def _record(function: Callable[..., Any], args: tuple[Any, ...]) -> Program:
    recording = _Recording()
    given: list[Any] = []
    structure = _describe(args, given)
    inputs: list[Any] = []
    tracers: list[Any] = []
    scalars = 0
    for leaf in given:
        if _is_array(leaf):
            np = _numpy()
            number = recording.new_array()
            inputs.append(number)
            tracers.append(_Input(recording, number, np.arange(leaf.size).reshape(leaf.shape), {}))
        else:
            inputs.append(None)
            tracers.append(recording.scalar(0, scalars))
            scalars += 1
    _recordings.stack.append(recording)
    try:
        result = function(*_rebuild(structure, iter(tracers)))
        recording.check_random()
        return Program(recording, inputs, result)
    finally:
        _recordings.stack.pop()


class Function:
    """A function that is recorded on its first call for each structure and shape of its arguments.

    Within another one that is being recorded it does what it stands for, on that one's Values.
    """

    cache_size = 64  # programs that are kept, the last used

    def __init__(self, function: Callable[..., Any], of: Callable[..., Any], name: str, record: bool = True) -> None:
        functools.update_wrapper(self, of)
        self._function = function
        self._name = name
        self._eager = not record
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._by_count: dict[int, Program] = {}

    def __repr__(self) -> str:
        return f"{self._name}({getattr(self.__wrapped__, '__name__', self.__wrapped__)})"  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{self!r} takes its arguments by position, not as {', '.join(keywords)}=")
        program = self._by_count.get(len(args))
        if program is not None and not _recordings.stack and all(type(x) is float for x in args):
            return program.run_numbers(args)
        if self._eager or _recordings.stack:
            return self._function(*args)
        given: list[Any] = []
        key = _describe(args, given)
        return self._program(key, args).run([x.data if isinstance(x, Value) else x for x in given])

    def _program(self, key: Any, args: tuple[Any, ...]) -> Program:
        program = self._programs.get(key)
        if program is None:
            program = _record(self._function, args)
            self._programs[key] = program
            if all(type(x) is float for x in args):
                self._by_count[len(args)] = program
            while len(self._programs) > self.cache_size:
                _, dropped = self._programs.popitem(last=False)
                self._by_count = {n: p for n, p in self._by_count.items() if p is not dropped}
        else:
            self._programs.move_to_end(key)
        return program

    def program(self, *args: Any) -> Program:
        """The program for arguments of this structure and shape, recorded now if there is none."""
        return self._program(_describe(args, []), args)

    @property
    def programs(self) -> list[Program]:
        """The programs that are kept, the last used at the end."""
        return list(self._programs.values())


# ---- Derivatives ---------------------------------------------------------------------------------


def _copies(x: Any) -> Any:
    """`x` with each Value replaced by a new node of the same value: what is derived by."""

    def copy(leaf: Any) -> Any:
        if not _is_array(leaf):
            return _fresh(leaf)
        np = _numpy()
        elements = _elements(leaf)
        array = np.empty(len(elements), dtype=object)
        array[:] = [_fresh(element) for element in elements]
        return array.reshape(leaf.shape)

    return _map(copy, x)


def _fresh(x: Any) -> Value:
    return x * 1.0 if isinstance(x, Value) else Value(x)


def _as_value(x: Any, what: str) -> Value:
    if isinstance(x, Value):
        return x
    if _is_array(x) or isinstance(x, (list, tuple, dict, _Lanes)):
        raise TypeError(f"{what} needs a function whose result is a scalar, not {type(x).__name__}")
    return Value(x)


def _like(x: Any, values: list[Any]) -> Any:
    """`values` in the structure of `x`, arrays as object arrays."""
    rest = iter(values)

    def fill(leaf: Any) -> Any:
        if not _is_array(leaf):
            return next(rest)
        np = _numpy()
        count = int(np.prod(leaf.shape, dtype=int))
        array = np.empty(count, dtype=object)
        array[:] = [next(rest) for _ in range(count)]
        return array.reshape(leaf.shape)

    return _map(fill, x)


def _derive(function: Any, nodes: list[Value], weights: list[Value], others: list[Value]) -> list[Value]:
    out = ffi.new("pgr_handle[]", len(others))
    check(
        function(
            TAPE,
            len(nodes),
            [v._handle for v in nodes],
            [v._handle for v in weights],
            len(others),
            [v._handle for v in others],
            out,
        )
    )
    return [_value_of(handle) for handle in out]


def _vjp(roots: list[Value], seeds: list[Value], wrt: list[Value]) -> list[Value]:
    return _derive(lib.pgr_h_vjp, roots, seeds, wrt)


def _jvp(wrt: list[Value], tangents: list[Value], roots: list[Value]) -> list[Value]:
    return _derive(lib.pgr_h_jvp, wrt, tangents, roots)


def _selected(args: tuple[Any, ...], argnums: Argnums) -> tuple[list[int], tuple[Any, ...]]:
    """The positions that are derived by, and the arguments with those copied."""
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in positions:
        if not -len(args) <= i < len(args):
            raise TypeError(f"argnums={argnums!r}: the function was called with {len(args)} arguments")
    positions = [i % len(args) for i in positions]
    return positions, tuple(_copies(x) if i in positions else x for i, x in enumerate(args))


def _answers(argnums: Argnums, results: list[Any]) -> Any:
    return results[0] if isinstance(argnums, int) else tuple(results)


def _value_and_grad(function: Callable[..., Any], argnums: Argnums, record: bool) -> Callable[..., Any]:
    def inline(*args: Any) -> Any:
        positions, copied = _selected(args, argnums)
        value = _as_value(function(*copied), "grad")
        wrt = [leaves(copied[i]) for i in positions]
        flat = [v for group in wrt for v in group]
        if record:
            flat_grads: list[Any] = _vjp([value], [Value(1.0)], flat)
        else:
            value.backward()
            flat_grads = [v.grad for v in flat]
        grads, at = [], 0
        for i, group in zip(positions, wrt):
            grads.append(_like(args[i], flat_grads[at : at + len(group)]))
            at += len(group)
        return (value if record else value.data), _answers(argnums, grads)

    return inline


def jit(fn: Callable[..., Any] | None = None, *, record: bool = True) -> Any:
    """`fn` as a recorded function: the same results at C's speed. A decorator, too.

    Results are floats and NumPy arrays, structured as what fn returns. Raises RecordingError where fn asks for a
    value that is not known yet.
    """
    if fn is None:
        return functools.partial(jit, record=record)
    return Function(fn, fn, "jit", record)


def value_and_grad(fn: Callable[..., Any] | None = None, argnums: Argnums = 0, *, record: bool = True) -> Any:
    """A function that returns (fn(*args), its gradient), as jax.value_and_grad.

    fn's result is a scalar. The gradient is structured as the argument number `argnums`; a tuple of such where
    argnums is a sequence. record=False runs fn eagerly at every call, for control flow that depends on values.
    Source: Griewank & Walther, Evaluating Derivatives, ch. 3.2.
    """
    if fn is None:
        return functools.partial(value_and_grad, argnums=argnums, record=record)
    return Function(_value_and_grad(fn, argnums, record), fn, "value_and_grad", record)


def grad(fn: Callable[..., Any] | None = None, argnums: Argnums = 0, *, record: bool = True) -> Any:
    """A function that returns fn's gradient, structured as the argument, as jax.grad. See value_and_grad."""
    if fn is None:
        return functools.partial(grad, argnums=argnums, record=record)
    both = _value_and_grad(fn, argnums, record)
    return Function(lambda *args: both(*args)[1], fn, "grad", record)


def _flat(result: Any) -> list[Value]:
    out: list[Any] = []
    _describe(result, out)
    if any(isinstance(leaf, _Lanes) for leaf in out):
        out[0]._refuse()
    return [x if isinstance(x, Value) else Value(x) for x in leaves(result)]


def _paired(x: Any, y: Any, what: str) -> list[Value]:
    """The values of `y`, which must be structured as `x`."""
    ours: list[Any] = []
    theirs: list[Any] = []
    if _describe(x, ours) != _describe(y, theirs):
        raise ValueError(f"{what} must have the structure and shapes of what it goes with")
    return [v if isinstance(v, Value) else Value(v) for v in leaves(y)]


def _inline_jvp(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inline(primals: Any, tangents: Any) -> Any:
        copied = _copies(tuple(primals))
        result = fn(*copied)
        directions = _paired(tuple(primals), tuple(tangents), "tangents")
        return result, _like(result, _jvp(leaves(copied), directions, _flat(result)))

    return inline


def _inline_vjp(fn: Callable[..., Any]) -> Callable[..., Any]:
    def inline(primals: Any, cotangents: Any) -> Any:
        copied = _copies(tuple(primals))
        result = fn(*copied)
        grads = _vjp(_flat(result), _paired(result, cotangents, "the cotangent"), leaves(copied))
        return _like(tuple(primals), grads)

    return inline


@functools.lru_cache(maxsize=128)
def _recorded(make: Callable[..., Any], fn: Callable[..., Any], name: str) -> Function:
    return Function(make(fn), fn, name)


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """(fn(*primals), its derivative in the direction of `tangents`), as jax.jvp.

    primals and tangents are sequences of arguments, structured alike. Source: Griewank & Walther, ch. 3.1.
    """
    return _recorded(_inline_jvp, fn, "jvp")(tuple(primals), tuple(tangents))


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], Any]]:
    """(fn(*primals), pullback), as jax.vjp: pullback(cotangent) is the tuple of the arguments' gradients.

    The cotangent is structured as fn's result. Source: Griewank & Walther, ch. 3.2.
    """
    pull = _recorded(_inline_vjp, fn, "vjp")
    return _recorded(lambda f: f, fn, "jit")(*primals), lambda cotangent: pull(primals, cotangent)


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
    structure = _describe(result, out)
    at = 0
    blocks = []
    for leaf in out:
        if not _is_array(leaf):
            blocks.append(_like(x, rows[at]))
            at += 1
            continue
        np = _numpy()
        count = int(np.prod(leaf.shape, dtype=int))
        entries: list[list[Any]] = []
        inner: list[Any] = []
        inner_structure = _describe(x, inner)
        for row in rows[at : at + count]:
            entries.append([])
            _describe(_like(x, row), entries[-1])
        at += count
        joined = []
        for k, part in enumerate(inner):
            shape = part.shape if _is_array(part) else ()
            array = np.empty((count, *shape), dtype=object)
            for i in range(count):
                array[i] = entries[i][k]
            joined.append(array.reshape((*leaf.shape, *shape)))
        blocks.append(_rebuild(inner_structure, iter(joined)))
    return _rebuild(structure, iter(blocks))


def jacobian(fn: Callable[..., Any] | None = None, argnums: int = 0) -> Any:
    """A function that returns fn's Jacobian by one argument: result's shape + argument's shape, as jax.jacobian.

    By reverse or forward derivatives, whichever needs fewer. Source: Griewank & Walther, ch. 3.
    """
    if fn is None:
        return functools.partial(jacobian, argnums=argnums)
    return Function(_inline_jacobian(fn, argnums), fn, "jacobian")


def hessian(fn: Callable[..., Any] | None = None, argnums: int = 0) -> Any:
    """A function that returns the matrix of second derivatives of fn, whose result is a scalar, by one argument."""
    if fn is None:
        return functools.partial(hessian, argnums=argnums)
    both = _value_and_grad(fn, argnums, True)
    return Function(_inline_jacobian(lambda *args: both(*args)[1], argnums), fn, "hessian")


def hvp(fn: Callable[..., Any]) -> Any:
    """A function of (x, v) that returns the Hessian of fn at x times v, without the Hessian: forward over reverse.

    x and v are structured alike. Source: Pearlmutter, Fast exact multiplication by the Hessian, 1994.
    """
    both = _value_and_grad(fn, 0, True)
    push = _inline_jvp(lambda x: both(x)[1])
    return Function(lambda x, v: push((x,), (v,))[1], fn, "hvp")


# ---- vmap ----------------------------------------------------------------------------------------


def vmap(
    fn: Callable[..., Any] | None = None, in_axes: Any = 0, reduce: str | None = None, *, record: bool = True
) -> Any:
    """`fn` for every slice of its arguments along an axis, as jax.vmap.

    in_axes: the axis to map over, for each argument; None for one that is the same for all. reduce: None gives
    results with a new first axis, 'sum' and 'mean' their sum or mean, which is worked out on the way. Where the
    mapped arrays are arguments of the recorded function, the slices are lanes of SIMD registers; else fn is called
    for each slice.
    """
    if fn is None:
        return functools.partial(vmap, in_axes=in_axes, reduce=reduce, record=record)
    if reduce not in (None, "sum", "mean"):
        raise ValueError(f"reduce={reduce!r}: must be None, 'sum' or 'mean'")

    def inline(*args: Any) -> Any:
        axes = [in_axes] * len(args) if in_axes is None or isinstance(in_axes, int) else list(in_axes)
        if len(axes) != len(args):
            raise ValueError(f"in_axes={in_axes!r} is for {len(axes)} arguments; there are {len(args)}")
        count = _count(args, axes)
        recording = _recordings.stack[-1] if _recordings.stack and record else None
        if recording is None or recording.in_lanes or count < 2:
            return _unrolled(fn, args, axes, count, reduce)
        sources = _sources(recording, args, axes)
        if sources is None:
            return _unrolled(fn, args, axes, count, reduce)
        return _in_lanes(fn, recording, args, axes, sources, count, reduce)

    return Function(inline, fn, "vmap", record)


def _count(args: tuple[Any, ...], axes: list[Any]) -> int:
    counts = {}
    for i, (arg, axis) in enumerate(zip(args, axes)):
        if axis is None:
            continue
        out: list[Any] = []
        _describe(arg, out)
        for leaf in out:
            if not _is_array(leaf):
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


def _sources(recording: _Recording, args: tuple[Any, ...], axes: list[Any]) -> list[Any] | None:
    """For each mapped array (its number, offsets in a slice, stride); None if one is not an input of the function."""
    np = _numpy()
    found = []
    for arg, axis in zip(args, axes):
        if axis is None:
            continue
        out: list[Any] = []
        _describe(arg, out)
        for leaf in out:
            if isinstance(leaf, _Input):
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
    recording: _Recording,
    args: tuple[Any, ...],
    axes: list[Any],
    sources: list[Any],
    count: int,
    reduce: str | None,
) -> Any:
    np = _numpy()
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

    mapped = [arg if axis is None else _map(lanes, arg) for arg, axis in zip(args, axes)]
    recording.in_lanes = True
    try:
        result = fn(*mapped)
    finally:
        recording.in_lanes = False

    def total(x: Any) -> Value:
        value = x if isinstance(x, Value) else Value(x)
        summed = _value_of(lib.pgr_h_lane_sum(TAPE, value._handle, witness[0]._handle))
        return summed * (1.0 / count) if reduce == "mean" else summed

    def finish(leaf: Any) -> Any:
        elements = _elements(leaf) if _is_array(leaf) else [leaf]
        if reduce is not None:
            return _like(leaf, [total(x) for x in elements]) if _is_array(leaf) else total(leaf)
        # Only lanes are written by lanes: what is the same in all becomes one by adding nothing of a lane.
        nothing = Value(0.0).pick(witness[0])
        return _Lanes(count, leaf.shape if _is_array(leaf) else (), [nothing + x for x in elements])

    return _map(finish, result)


def _unrolled(fn: Callable[..., Any], args: tuple[Any, ...], axes: list[Any], count: int, reduce: str | None) -> Any:
    results = []
    for i in range(count):
        sliced = []
        for arg, axis in zip(args, axes):
            sliced.append(arg if axis is None else _map(functools.partial(_slice, axis=axis, i=i), arg))
        results.append(fn(*sliced))
    out: list[list[Any]] = []
    structure = None
    for result in results:
        out.append([])
        structure = _describe(result, out[-1])
    joined = []
    for parts in zip(*out):
        if reduce is not None:
            total = sum(parts[1:], parts[0])
            joined.append(total * (1.0 / count) if reduce == "mean" else total)
            continue
        np = _numpy()
        shape = parts[0].shape if _is_array(parts[0]) else ()
        array = np.empty((count, *shape), dtype=object)
        for i, part in enumerate(parts):
            array[i] = part
        joined.append(array)
    return _rebuild(structure, iter(joined))


def _slice(leaf: Any, axis: int, i: int) -> Any:
    return leaf[(slice(None),) * (axis % leaf.ndim) + (i,)]
