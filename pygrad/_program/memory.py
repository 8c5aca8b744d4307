"""Memory for results, used again: the system takes about as long to hand out fresh pages as a program to fill them."""

from __future__ import annotations

import contextlib
import math
import platform
import sys
from collections import deque
from collections.abc import Iterable
from typing import Any

from pygrad._core.trees import need_numpy

_FEWEST = 1 << 15  # numbers: the memory of smaller arrays the allocator keeps by itself
_MOST = 1 << 23  # numbers that are kept, in all: 64 MB
_MOST_ARRAYS = 64  # since each is looked at
_kept: deque[Any] = deque()  # flat arrays; results are views of them


def is_worth_it(shapes: Iterable[tuple[int, ...] | None]) -> bool:
    """Whether arrays of some of these shapes are kept."""
    return _ALONE is not None and any(shape is not None and _FEWEST <= math.prod(shape) <= _MOST for shape in shapes)


def empty(shape: tuple[int, ...]) -> Any:
    """As numpy.empty, in the memory of an earlier result that nobody holds any more, if there is one of this size."""
    np = need_numpy()
    size = math.prod(shape)
    if not is_worth_it([shape]):
        return np.empty(shape)
    array = _left_over(size)
    if array is None:
        array = np.empty(size)
        _make_room(size)
    _kept.append(array)  # in use: this function holds it, then the result
    return array.reshape(shape)


def _left_over(size: int) -> Any:
    """A kept array that nobody holds. Taken off first, so that no two threads look at one."""
    with contextlib.suppress(IndexError):
        for _ in range(len(_kept)):
            array = _kept.popleft()
            if array.size == size and _references(array) == _ALONE:
                return array
            _kept.append(array)
    return None


def _make_room(size: int) -> None:
    with contextlib.suppress(IndexError):
        while len(_kept) >= _MOST_ARRAYS or sum([array.size for array in tuple(_kept)]) + size > _MOST:
            _kept.popleft()


def _references(array: Any) -> int:
    return sys.getrefcount(array)


def _references_when_alone() -> int | None:
    """What _references says in _left_over of an array that nobody else holds; None without reference counts."""
    if platform.python_implementation() != "CPython":
        return None
    one = deque([bytearray()])
    array = one.popleft()
    return _references(array)


_ALONE = _references_when_alone()
