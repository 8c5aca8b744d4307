"""Recorded functions: the first call for each structure and shape of the arguments records a program and keeps it.

Source: Frostig, Johnson & Leary, Compiling machine learning programs via high-level tracing, SysML 2018.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Callable

from pygrad._core import scopes
from pygrad._core.layer import call
from pygrad._core.trees import (
    elements,
    is_array,
    need_numpy,
    real_number,
    refuse_values,
    tree_flatten,
    tree_map,
    tree_structure,
    tree_unflatten,
)
from pygrad._pgr import ffi, lib
from pygrad._program.code import shapes
from pygrad._program.program import Program
from pygrad._record.arrays import Array, with_scalars
from pygrad._record.build import build
from pygrad._record.randomness import recorded
from pygrad._record.recording import Argument, Recording, recordings
from pygrad.engine import Value


def _record(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    names: Sequence[str] | None = None,
    again: Callable[[], list[str] | None] | None = None,
) -> Program:
    recording = Recording()
    given, structure = tree_flatten(args)
    tracers: list[Any] = []
    scalars = 0
    for leaf in given:
        if is_array(leaf):
            tracers.append(Array.of(Argument(recording), leaf.shape))
        else:
            tracers.append(recording.scalar(0, scalars))
            scalars += 1
    with recordings.recorded(recording):
        result = function(*tree_unflatten(structure, tracers))
        return build(recording, structure, result, names, again)


def _lines(function: Callable[..., Any], structure: Any) -> list[str] | None:
    """'file:line' for each instruction of the program of `function`, found by recording it once more."""
    args = tree_unflatten(structure, [_stand_in(shape) for shape in shapes(structure)])
    try:
        with scopes.watched_lines(scopes.tag_line, lambda: recordings.stack):
            program = _record(function, args)
    finally:
        scopes.tag_line("")
    tags = ffi.unpack(lib.pgr_program_lines(program.code.c), program.stats.instructions)
    return [scopes.line(tag) for tag in tags]


def _names(function: Any, count: int) -> list[str] | None:
    """The names of the function's first arguments; None if they are unknown."""
    try:
        names = [p.name for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return None
    return names[:count] if len(names) >= count else None


def _stand_in(shape: Any) -> Any:
    return 0.0 if shape is None else need_numpy().zeros(shape)


class Function:
    """A function that is recorded on its first call for each structure and shape of its arguments.

    Called inside another function that is being recorded, it runs inline, on that function's Values.
    """

    cache_size = 64  # programs kept, the most recently used

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
        self._plan: Any = None  # the plan of the program that ran last
        self.derived: dict[Any, Function] = {}  # see derivatives.py's _directional

    def __repr__(self) -> str:
        return f"{self._name}({getattr(self.__wrapped__, '__name__', self.__wrapped__)})"  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{self!r} takes its arguments by position, not as {', '.join(keywords)}=")
        if recordings.stack:
            return self._function(*args)
        if recordings.eager:  # within another transform that runs eagerly
            return one_deeper(self._function, args)
        if self._plan is not None:
            result = call(self._plan, args)
            if result is not NotImplemented:
                return result
        refuse_values(args, repr(self))
        if self._eager:
            return run_eagerly(self._function, args)
        given, key = tree_flatten(args)
        program = self._program(key, args)
        self._plan = program.plan(self._workers)
        return program.run(given, self._workers)

    def _program(self, key: Any, args: tuple[Any, ...]) -> Program:
        program = self._programs.get(key)
        if program is None:
            names = _names(self.__wrapped__, len(args))  # type: ignore[attr-defined]
            again = functools.partial(_lines, self._function, key)
            record = functools.partial(_record, self._function, args, names, again)
            made = recorded(self._function, functools.partial(with_scalars, record))
            program = self._programs.setdefault(key, made)  # another thread may have been first
        with contextlib.suppress(KeyError):  # another thread may have dropped it already
            self._programs.move_to_end(key)
            while len(self._programs) > self.cache_size:
                self._programs.popitem(last=False)
        return program

    def program(self, *args: Any) -> Program:
        """The program for arguments of this structure and shape; records it now if needed."""
        return self._program(tree_structure(args), args)

    @property
    def programs(self) -> list[Program]:
        """The programs kept, the most recently used at the end."""
        return list(self._programs.values())


def run_eagerly(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run `function` on Values; return its result as numbers and arrays."""
    return tree_map(number_of, one_deeper(function, args))


def one_deeper(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    recordings.eager += 1
    try:
        return function(*args)
    finally:
        recordings.eager -= 1


def number_of(leaf: Any) -> Any:
    """A scalar or an array of a result as float64, as a program returns it."""
    if isinstance(leaf, Value):
        return leaf.data
    if not is_array(leaf):
        return real_number(leaf, "result")
    if leaf.dtype != object:
        return need_numpy().array(leaf, dtype="d", order="C")
    numbers = [x.data if isinstance(x, Value) else real_number(x, "result") for x in elements(leaf)]
    return need_numpy().array(numbers).reshape(leaf.shape)


def jit(fn: Callable[..., Any] | None = None, *, record: bool = True, workers: int = 1) -> Any:
    """`fn` as a recorded function: the same results at C's speed. Also works as a decorator.

    Results are floats and NumPy arrays, in the structure that fn returns. Raises RecordingError if fn needs a number
    that is not known while recording, or draws random numbers; to detect draws, fn may be recorded more than once.
    workers: threads that share the lanes of a vmap; results do not depend on their number.

    >>> f = jit(lambda x, y: x * y + 1)
    >>> f(2.0, 3.0)
    7.0
    """
    if fn is None:
        return functools.partial(jit, record=record, workers=workers)
    return Function(fn, fn, "jit", record, workers)
