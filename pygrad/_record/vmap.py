"""vmap: map a function over slices of its arguments, as lanes where the arrays allow it."""

from __future__ import annotations

import functools
from typing import Any, Callable

from pygrad._core.trees import elements, is_array, need_numpy, tree_flatten, tree_map, tree_unflatten
from pygrad._record.arrays import Array, as_array, like, object_array
from pygrad._record.function import Function
from pygrad._record.recording import Lanes, Recording, Source, lane_sum, recordings
from pygrad.engine import Value, as_value


def vmap(
    fn: Callable[..., Any] | None = None,
    in_axes: Any = 0,
    reduce: str | None = None,
    *,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """Map `fn` over slices of its arguments along an axis, as jax.vmap.

    in_axes: the axis to map over, for each argument; None passes the whole argument to every call. reduce: None
    returns results with a new first axis; 'sum' and 'mean' add them up during the run. If the mapped arrays are
    arguments of the recorded function, the slices become lanes of SIMD registers; otherwise fn is recorded for each
    slice. Sums over lanes are added in blocks, in an order that depends on the number of lanes, not of workers (see
    jit).

    >>> import numpy as np
    >>> vmap(lambda x: x ** 2)(np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 4.0, 9.0]
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
        out = tree_flatten(arg)[0]
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


# A mapped array: its source, the offsets in its first slice, the stride between slices.
_Slices = tuple[Source, Any, int]


def _slices(recording: Recording, args: tuple[Any, ...], axes: list[Any]) -> list[_Slices] | None:
    """The slices of each mapped array; None if some array's can't be lanes."""
    found: list[_Slices] = []
    for arg, axis in zip(args, axes):
        if axis is None:
            continue
        for leaf in tree_flatten(arg)[0]:
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

    mapped = [arg if axis is None else tree_map(lanes, arg) for arg, axis in zip(args, axes)]
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
            return like(leaf, [total(x) for x in places]) if is_array(leaf) else total(leaf)
        width = len(places)
        values = [as_value(x) for x in places]
        shape = (count, *(leaf.shape if is_array(leaf) else ()))
        return Array.of(Lanes(recording, group, list(range(width)), width, values), shape)

    return tree_map(finish, result)


def _unrolled(fn: Callable[..., Any], args: tuple[Any, ...], axes: list[Any], count: int, reduce: str | None) -> Any:
    results = []
    for i in range(count):
        sliced = []
        for arg, axis in zip(args, axes):
            sliced.append(arg if axis is None else tree_map(functools.partial(_slice, axis=axis, i=i), arg))
        results.append(fn(*sliced))
    flat = [tree_flatten(result) for result in results]
    out, structure = [leaves for leaves, _ in flat], flat[-1][1]
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
    return tree_unflatten(structure, joined)


def _slice(leaf: Any, axis: int, i: int) -> Any:
    return leaf[(slice(None),) * (axis % leaf.ndim) + (i,)]
