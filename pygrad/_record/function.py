"""Recorded functions: the first call for each structure and shape of the arguments records a program and keeps it.

Source: Frostig, Johnson & Leary, Compiling machine learning programs via high-level tracing, SysML 2018.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Callable

from pygrad._core import anomaly, scopes
from pygrad._core.layer import call
from pygrad._core.numbers import positions
from pygrad._core.tree_nodes import exact, is_node
from pygrad._core.trees import (
    elements,
    flat_arguments,
    is_array,
    need_numpy,
    real_number,
    refuse_values,
    tree_flatten,
    tree_leaves,
    tree_map,
    tree_shapes,
    tree_unflatten,
)
from pygrad._pgr import ffi, lib
from pygrad._program.program import Program
from pygrad._record.arrays import Array, with_scalars
from pygrad._record.build import build
from pygrad._record.chunks import has_chunks, over_chunks
from pygrad._record.methods import Bound, Method, Weak
from pygrad._record.randomness import recorded
from pygrad._record.reads import Reads
from pygrad._record.recording import Argument, Recording, recordings
from pygrad._record.refusals import refusals
from pygrad._record.travel import digest, findable, packed, unpacked
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

    def program() -> Program:
        with recordings.recorded(recording):
            result = function(*tree_unflatten(structure, tracers))
            return build(recording, structure, result, names, again)

    return recordings.restored(program)


def _lines(function: Callable[..., Any], structure: Any) -> list[str] | None:
    """'file:line' for each instruction of the program of `function`, found by recording it once more."""
    args = tree_unflatten(structure, [_stand_in(shape) for shape in tree_shapes(structure)])
    try:
        with scopes.watched_lines(scopes.tag_line, lambda: recordings.stack):
            program = _record(function, args)
    finally:
        scopes.tag_line("")
    tags = ffi.unpack(lib.pgr_program_lines(program.code.c), program.stats.instructions)
    return [scopes.line(tag) for tag in tags]


def _names(function: Any, count: int, places: list[Any] | None) -> list[str] | None:
    """The names of the function's first arguments, or of those at these places; None if they are unknown."""
    try:
        names = [p.name for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return None
    places = [*range(count)] if places is None else places
    if any(isinstance(i, int) and i >= len(names) for i in places):
        return None
    return [names[i] if isinstance(i, int) else i for i in places]


def _stand_in(shape: Any) -> Any:
    return 0.0 if shape is None else need_numpy().zeros(shape)


class Function:
    """A function that is recorded on its first call for each structure and shape of its arguments.

    Called inside another function that is being recorded, it runs inline, on that function's Values. Arguments by name
    are recorded, too. Static arguments are not: for each of their values there is a recording of its own.
    """

    cache_size = 64  # programs kept, the most recently used

    def __init__(
        self,
        make: Callable[..., Callable[..., Any]],
        of: Callable[..., Any],
        name: str,
        record: bool = True,
        workers: int = 1,
        static: Static | None = None,
        **options: Any,
    ) -> None:
        """`make(of, **options)` is the function that is recorded. `make` can be pickled."""
        if not callable(of):
            raise TypeError(f"{name} takes a function, not {of!r}")
        functools.update_wrapper(self, of)
        if "argnums" in options:
            options["argnums"] = positions(options["argnums"], "argnums")
        if static is None and ("argnums" in options or "in_axes" in options):  # whose arguments are those of `of`
            static = static_of(of)
        if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= lib.PGR_MAX_WORKERS:
            raise ValueError(f"workers={workers!r}: must be an int from 1 to {lib.PGR_MAX_WORKERS}")
        self._made_by = (make, of, name, record, workers, static, options)
        self._function = make(of, **options)
        self._name = name
        self._eager = not record
        self._workers = workers
        self._static = static
        self._forget()

    def _forget(self) -> None:
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._plan: Any = None  # the plan of the program that ran last
        self._reads: Reads | None = None
        self._variants: OrderedDict[Any, Function] = OrderedDict()  # for static arguments and those by name
        self._places: list[Any] | None = None  # a variant's arguments: positions and names
        self._recipe: Any = None  # what _variant_of made a variant of
        self._bound = Bound()
        self.derived: dict[Any, Function] = {}  # see derivatives.py's _directional

    def __repr__(self) -> str:
        return f"{self._name}({getattr(self.__wrapped__, '__name__', self.__wrapped__)})"  # type: ignore[attr-defined]

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if recordings.stack:
            return self._function(*args, **keywords)
        if recordings.eager:  # within another transform that runs eagerly
            return one_deeper(self._function, args, keywords)
        if self._plan is not None and not keywords and not anomaly.contexts:
            result = call(self._plan, args)
            if result is not NotImplemented:
                return result
        if has_chunks(args, keywords):
            return over_chunks(self, args, keywords)
        if keywords or self._static is not None:
            variant, given = self._variant(args, keywords)
            return variant(*given)
        refuse_values(args, repr(self), self._places)
        if self._eager:
            return run_eagerly(self._function, args)
        leaves, key = flat_arguments(args, repr(self), self._places)
        program = self._program(key, args)
        self._plan = program.plan(self._workers, self._reads.bindings if self._reads else ())
        result = program.run(leaves, self._workers)
        if anomaly.contexts and not all(map(_is_finite, tree_leaves(result))):
            run_eagerly(self._function, args)  # raises an error that names the origin
        return result

    def _variant(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Function, list[Any]]:
        """The function of recorded arguments alone, all by position, and these arguments."""
        order = [*range(len(args)), *sorted(keywords)]
        given = dict(zip(order, (*args, *[keywords[name] for name in sorted(keywords)])))
        fixed = {} if self._static is None else {i: x for i, x in given.items() if self._static.has(i)}
        places = [i for i in order if i not in fixed]
        try:
            return self._variant_of(len(args), places, fixed), [given[i] for i in places]
        except _UnhashableError:
            bad = {i: x for i, x in fixed.items() if not _is_hashable(x)}
            raise TypeError(f"{self!r}: static arguments must be hashable, not {bad}: make a tuple of a list") from None

    def _variant_of(self, count: int, places: list[Any], fixed: dict[Any, Any]) -> Function:
        """The same with `count` arguments by position, those at `places` recorded, the others fixed."""

        def make() -> Function:
            def function(*rest: Any) -> Any:
                every = {**fixed, **dict(zip(places, rest))}
                positional = [every[i] for i in range(count)]
                return self._function(*positional, **{i: x for i, x in every.items() if isinstance(i, str)})

            variant = object.__new__(Function)
            vars(variant).update(vars(self), _function=function, _static=None)
            variant._forget()
            variant._places, variant._recipe = places, (count, places, fixed)
            return variant

        key = (tuple(places), tuple([(i, exact(x)) for i, x in fixed.items()]))
        if fixed and not _is_hashable(key):
            raise _UnhashableError
        found: Function = self._kept(self._variants, key, make)
        return found

    def _kept(self, cache: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
        """What the cache has under a key, made if needed; drops what was not used for the longest time."""
        found = cache.get(key)
        if found is None:
            found = cache.setdefault(key, make())  # another thread may have been first
        with contextlib.suppress(KeyError):  # another thread may have dropped it already
            cache.move_to_end(key)
            while len(cache) > self.cache_size:
                cache.popitem(last=False)
        return found

    def _program(self, key: Any, args: tuple[Any, ...]) -> Program:
        if self._reads is not None and self._reads.have_changed():
            self._programs, self._plan, self._reads = OrderedDict(), None, None

        def make() -> Program:
            names = _names(self.__wrapped__, len(args), self._places)  # type: ignore[attr-defined]
            again = functools.partial(_lines, self._function, key)
            record = functools.partial(_record, self._function, args, names, again)
            return recorded(self._function, functools.partial(with_scalars, record))

        program: Program = self._kept(self._programs, key, make)
        if self._reads is None:
            self._reads = Reads(self.__wrapped__)  # type: ignore[attr-defined]
        return program

    def as_it_is(self) -> Function:
        """The same with the programs that it has, whatever the function reads later."""
        frozen = object.__new__(Function)
        vars(frozen).update(vars(self), _programs=OrderedDict(self._programs), _reads=Reads(None), _plan=None)
        return frozen

    def program(self, *args: Any, **keywords: Any) -> Program:
        """The program for arguments of this structure and shape; records it now if needed.

        It takes all arguments by position, those by name at the end, in the order of their names, and none that is
        static.
        """
        if keywords or self._static is not None:
            variant, given = self._variant(args, keywords)
            return variant.program(*given)
        return self._program(flat_arguments(args, repr(self), self._places)[1], args)

    @property
    def programs(self) -> list[Program]:
        """The programs kept, the most recently used at the end."""
        return [program for function in self._all() for program in [*function._programs.values()]]

    # ---- Copies and pickles ----

    def __reduce__(self) -> tuple[Any, ...]:
        make, of, *rest = self._made_by
        # A program that reads Values from outside would read copies of them elsewhere.
        known = digest(of)
        kept = [f for f in self._all() if known is not None and not (f._reads and f._reads.have_changed())]
        own = [[f._recipe, [p for p in [*f._programs.values()] if not p.code.captured]] for f in kept]
        return _arrived, (make, findable(of), *rest, known, packed(own))

    def _all(self) -> list[Function]:
        return [self, *self._variants.values()]

    def _take(self, own: list[Any]) -> None:
        """Keep the programs that __reduce__ saved."""
        for recipe, programs in own:
            function = self if recipe is None else self._variant_of(*recipe)
            for program in programs:
                key = program.code.structure_in
                function._programs[key] = program.recorded_by(functools.partial(_lines, function._function, key))

    def __dask_tokenize__(self) -> Any:
        from dask.base import normalize_token

        _, of, name, record, workers, static, options = self._made_by
        return normalize_token(("pygrad", name, findable(of), record, workers, static and vars(static), options))

    # ---- Methods ----

    def __get__(self, self_: Any, owner: Any = None) -> Any:
        return self if self_ is None else Method(self, self_, _is_tree(type(self_)))

    def bound(self, self_: Any) -> Function:
        """The function of an object that is not a tree. See Bound."""

        def make() -> Function:
            make, of, name, record, workers, static, options = self._made_by
            rest = {key: _without_self(key, x, self) for key, x in options.items()}
            static = None if static is None else static.without_self()
            return Function(make, Weak(of, self_), name, record, workers, static, **rest)

        found: Function = self._bound(self_, make, self.cache_size)
        return found


class _UnhashableError(TypeError):
    pass


def _arrived(
    make: Any, of: Any, name: str, record: bool, workers: int, static: Any, options: Any, known: str | None, data: bytes
) -> Function:
    """The function that __reduce__ described, and its programs if they were recorded from the same code."""
    function = Function(make, of, name, record, workers, static, **options)
    if known is not None and digest(of) == known:
        function._take(unpacked(data) or [])
    return function


def _is_tree(kind: type) -> bool:
    return is_node(kind) or issubclass(kind, (list, tuple, dict))


def _without_self(option: str, x: Any, function: Function) -> Any:
    """An option of a method's function, argnums or in_axes, which count self, without it."""
    if option == "argnums" and isinstance(x, int):
        return x - 1 if x > 0 else x  # 0 is the first that can be differentiated by
    if option == "argnums":
        if 0 in x:
            raise TypeError(f"{function!r}: argnums={x!r} counts self, which is not a tree: start from 1")
        return tuple([i - 1 if i > 0 else i for i in x])
    if option == "in_axes" and isinstance(x, (list, tuple)):
        return tuple(x[1:])
    return x


def static_of(function: Any) -> Static | None:
    """Which arguments of a function are static already, since it is, or is a method of, a recorded function."""
    if isinstance(function, Method):
        static = static_of(function.__func__)
        return static and static.without_self()
    return function._static if isinstance(function, Function) else None


class Static:
    """Which arguments of a function are static: positions, and names."""

    def __init__(self, fn: Callable[..., Any], argnums: Any, argnames: Any) -> None:
        found_at = positions(() if argnums is None else argnums, "static_argnums", "; names are static_argnames")
        self.positions = [found_at] if isinstance(found_at, int) else [*found_at]
        self.names = _names_in(argnames)
        try:
            found = [*inspect.signature(fn).parameters.values()]
        except (TypeError, ValueError):
            return
        names = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        has_more = any(p.kind is p.VAR_KEYWORD for p in found)
        for name in self.names:
            if name not in [p.name for p in found] and not has_more:
                raise ValueError(f"static_argnames={argnames!r}: the function has no argument {name!r}")
        has_rest = any(p.kind is p.VAR_POSITIONAL for p in found)
        for i in self.positions:
            if not -len(names) <= i < (math.inf if has_rest and i >= 0 else len(names)):
                raise ValueError(f"static_argnums={argnums!r}: the function has {len(names)} arguments by position")
        self.positions = [i + len(names) if i < 0 else i for i in self.positions]
        self.positions += [names.index(name) for name in self.names if name in names]
        self.names += [names[i] for i in self.positions if i < len(names)]

    def has(self, place: Any) -> bool:
        """Whether the argument at a position, or of a name, is static."""
        return place in self.positions or place in self.names

    def without_self(self) -> Static:
        """The same for a method bound to an object."""
        rest = Static.__new__(Static)
        rest.positions, rest.names = [i - 1 for i in self.positions if i > 0], self.names
        return rest


def _names_in(argnames: Any) -> list[str]:
    if isinstance(argnames, str):
        return [argnames]
    names = [*argnames] if isinstance(argnames, Iterable) else [] if argnames is None else [argnames]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"static_argnames={argnames!r}: must be a str or a sequence of them; numbers are static_argnums"
        )
    return names


def _is_hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def run_eagerly(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Run `function` on Values; return its result as numbers and arrays."""
    with refusals():
        result = one_deeper(function, args)
        for leaf in tree_leaves(result) if anomaly.contexts else ():
            for x in elements(leaf) if is_array(leaf) else (leaf,):
                if isinstance(x, Value):
                    anomaly.check_result(x)
        return tree_map(number_of, result)


def _is_finite(leaf: Any) -> bool:
    return bool(need_numpy().isfinite(leaf).all()) if is_array(leaf) else math.isfinite(leaf)


def one_deeper(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> Any:
    def deeper() -> Any:
        recordings.eager += 1
        return function(*args, **(keywords or {}))

    return recordings.restored(deeper)


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


def _itself(fn: Callable[..., Any]) -> Callable[..., Any]:
    return fn


def jit(
    fn: Callable[..., Any] | None = None,
    static_argnums: Any = None,
    static_argnames: Any = None,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """`fn` as a recorded function: the same results at C's speed, as jax.jit. Also works as a decorator.

    Results are floats and NumPy arrays, in the structure that fn returns. Raises RecordingError if fn needs a number
    that is not known while recording, or draws random numbers; to detect draws, fn may be recorded more than once.
    static_argnums, static_argnames: positions and names of arguments that fn gets as they are, such as the length of a
    loop; they must be hashable, and fn is recorded for each of their values. workers: threads that share the lanes of
    a vmap; results do not depend on their number.

    >>> f = jit(lambda x, y: x * y + 1)
    >>> f(2.0, y=3.0)
    7.0
    >>> jit(lambda x, n: sum(x ** k for k in range(n)), static_argnames="n")(2.0, n=4)
    15.0
    """
    if fn is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames, record=record, workers=workers
        )
    static = None if static_argnums is None and static_argnames is None else Static(fn, static_argnums, static_argnames)
    return Function(_itself, fn, "jit", record, workers, static)
