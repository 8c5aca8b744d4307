"""Recording: what stands for a function's arguments while it is called once, and what is known of the call.

Scalars are Values without a value (pgr_input); an array is an Input, whose Values are made when they are asked for; the
result of a vmap that is not reduced is Lanes.
"""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Callable

from pygrad import scopes
from pygrad._errors import RecordingError, check, users_line
from pygrad._pgr import lib
from pygrad.engine import TAPE, Operand, Value
from pygrad.structures import Tracer, need_numpy


class Recordings(threading.local):
    """The recordings under way in a thread, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[Recording] = []
        self.eager = 0  # transforms with record=False under way, within each other


recordings = Recordings()


def value_of(handle: int) -> Value:
    """The Value of a handle that C has returned, or its failure raised."""
    check(-handle if handle < 0 else 0)
    value: Value = Operand._of(handle)
    return value


class Recording:
    """What is known of a function while it is being recorded: its inputs and its groups of lanes."""

    def __init__(self) -> None:
        self.start = Value(0.0)  # nodes from here on are the recording's
        self.groups: list[tuple[int, list[tuple[int, int, int]]]] = []  # lanes; array, offset, stride by input
        self.in_lanes = False
        self.constants: dict[int, Any] = {}  # arrays from outside that are mapped over, by number
        self.arrays = 1  # numbers given out: array 0 holds the scalars

    def scalar(self, array: int, offset: int) -> Value:
        return value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_INPUT, array << 32 | offset))

    def new_array(self) -> int:
        self.arrays += 1
        return self.arrays - 1

    def lane(self, group: int, array: int, offset: int, stride: int) -> Value:
        inputs = self.groups[group][1]
        inputs.append((array, offset, stride))
        return value_of(lib.pgr_h_input(TAPE, lib.PGR_OP_LANE, group << 32 | (len(inputs) - 1)))


@contextlib.contextmanager
def users_lines() -> Iterator[Callable[[int], str]]:
    """Watches the lines of the user's code that are run: yields what tells of a node recorded meanwhile which it was.

    Nodes stay where they are meanwhile: the tape is not collected. The line is 'file:line', '' if there is none.
    """
    sizes: list[
        int
    ] = []  # of the tape when a line was reached; kept here, since nodes may be gone when it is asked for
    lines: list[str] = []

    def reached(line: str) -> None:
        size = lib.pgr_tape_stat(TAPE).nodes + 1  # the next node's id
        while sizes and sizes[-1] >= size:
            del sizes[-1], lines[-1]
        sizes.append(size)
        lines.append(line)

    def where(node: int) -> str:
        at = bisect.bisect_right(sizes, node) - 1
        return "" if at < 0 else lines[at]

    lib.pgr_tape_hold(TAPE, 1)
    try:
        with scopes.watched_lines(reached, lambda: recordings.stack):
            yield where
    finally:
        lib.pgr_tape_hold(TAPE, 0)


class _AsArray(Tracer):
    """Behaves as the NumPy array of its Values, `__array__()`, in all that it does not do itself."""

    __array_priority__ = 100.0

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        return self.__array__()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise RecordingError(
            f"{users_line()}\nA function is being recorded, and its arguments are not to be changed: assign to a copy, "
            "x = 1 * x or np.array(x)"
        )

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        return getattr(ufunc, method)(*map(_plain, inputs), **keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__array__(), name)


def _plain(x: Any) -> Any:
    return x.__array__() if isinstance(x, _AsArray) else x


def _define_operators() -> None:
    """Arithmetic is that of the array of Values."""
    for name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
        for reflected in ("", "r"):
            method = f"__{reflected}{name}__"
            setattr(_AsArray, method, lambda self, other, m=method: getattr(self.__array__(), m)(_plain(other)))
    for method in ("__neg__", "__pos__", "__abs__"):
        setattr(_AsArray, method, lambda self, m=method: getattr(self.__array__(), m)())
    for method in ("__lt__", "__le__", "__gt__", "__ge__"):
        setattr(_AsArray, method, lambda self, other, m=method: getattr(self.__array__(), m)(_plain(other)))


_define_operators()


class Input(_AsArray):
    """An array argument of a function that is being recorded: its Values are made when they are asked for.

    `vmap` takes its axes without making any.
    """

    def __init__(self, recording: Recording, number: int, view: Any, values: dict[int, Value]) -> None:
        self._recording, self._number, self._view, self._values = recording, number, view, values
        self.shape, self.ndim = tuple(view.shape), int(view.ndim)

    @property
    def T(self) -> Input:  # noqa: N802
        return self._with(self._view.T)

    def reshape(self, *shape: Any) -> Input:
        return self._with(self._view.reshape(*shape))

    def _with(self, view: Any) -> Input:
        return Input(self._recording, self._number, view, self._values)

    def _value(self, offset: int) -> Value:
        if offset not in self._values:
            self._values[offset] = self._recording.scalar(self._number, offset)
        return self._values[offset]

    def __getitem__(self, index: Any) -> Any:
        view = self._view[index]
        return self._with(view) if getattr(view, "ndim", 0) else self._value(int(view))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        values = need_numpy().empty(self._view.size, dtype=object)
        values[:] = [self._value(offset) for offset in self._view.ravel().tolist()]
        return values.reshape(self._view.shape)

    def affine(self, axis: int) -> tuple[int, Any, int] | None:
        """(array, offsets of the first slice along `axis`, stride from slice to slice), if there is one stride."""
        np = need_numpy()
        view = np.moveaxis(self._view, axis, 0)
        stride = int((view[1] - view[0]).ravel()[0]) if len(view) > 1 and view[0].size else 1
        steps = np.arange(len(view)).reshape(-1, *[1] * (view.ndim - 1)) * stride
        return (self._number, view[0], stride) if stride > 0 and bool((view == view[0] + steps).all()) else None


class Lanes(_AsArray):
    """A result of vmap that is not reduced: a Value for each place of one lane's result.

    Returned, it is written lane by lane. Whoever goes on working with it gets an array with a Value for every
    slice instead, which `unroll` records.
    """

    def __init__(self, shape: tuple[int, ...], values: list[Value], unroll: Callable[[], Any]) -> None:
        self.shape, self.ndim, self.values, self._unroll = shape, len(shape), values, unroll

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._unroll()
