"""vmap: map a function over slices of its arguments, as lanes where the arrays allow it."""

from __future__ import annotations

import functools
from typing import Any, Callable

from pygrad._core.layer import node_values
from pygrad._core.trees import elements, is_array, is_axis, need_numpy, tree_flatten, tree_spread, tree_unflatten
from pygrad._record.arrays import Array, as_array, like, object_array
from pygrad._record.function import Function, static_of
from pygrad._record.recording import Lanes, Recording, Source, is_lane, lane_sum, recordings
from pygrad.engine import Value, as_value


def vmap(
    fn: Callable[..., Any] | None = None,
    in_axes: Any = 0,
    out_axes: Any = 0,
    *,
    reduce: str | None = None,
    record: bool = True,
    workers: int = 1,
) -> Any:
    """Map `fn` over slices of its arguments along an axis, as jax.vmap.

    in_axes: the axis to map over, for each argument; None passes the whole argument to every call. For an argument that
    is a tree, it may be a tree of axes. Negative axes count from the end. Arguments by name are mapped over axis 0.
    out_axes: where results have the new axis, an int or a tree of ints; None, for a result that is the same for all
    slices, returns it once. reduce: 'sum' and 'mean' add results up during the run instead. If the mapped arrays are
    arguments of the recorded function, the slices become lanes of SIMD registers; otherwise fn is recorded for each
    slice. Sums over lanes are added in blocks, in an order that depends on the number of lanes, not of workers (see
    jit). Raises ValueError if mapped axes differ in length, an argument lacks its axis, or no axis is mapped.

    >>> import numpy as np
    >>> vmap(lambda x: x ** 2)(np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 4.0, 9.0]
    >>> vmap(lambda x, p: x * p["a"], in_axes=(0, {"a": None}))(np.arange(3.0), {"a": 2.0}).tolist()
    [0.0, 2.0, 4.0]
    """
    if fn is None:
        return functools.partial(
            vmap, in_axes=in_axes, out_axes=out_axes, reduce=reduce, record=record, workers=workers
        )
    if not (in_axes is None or isinstance(in_axes, (list, tuple)) or is_axis(in_axes)):
        way = f": in_axes=({in_axes!r},)" if isinstance(in_axes, dict) else ""
        raise ValueError(
            f"in_axes={in_axes!r}: must be an int, None, or a tuple with one of these, or a tree of them, for each "
            f"argument{way}"
        )
    if reduce not in (None, "sum", "mean"):
        raise ValueError(f"reduce={reduce!r}: must be None, 'sum' or 'mean'")
    if isinstance(out_axes, str):
        raise ValueError(f"out_axes={out_axes!r}: must be an int, None, or a tree of them; write reduce={out_axes!r}")
    if reduce is not None and not (is_axis(out_axes) and out_axes == 0):
        raise ValueError(f"out_axes={out_axes!r}: reduce={reduce!r} leaves no axis")
    options = {"in_axes": in_axes, "out_axes": out_axes, "reduce": reduce, "is_recorded": record}
    return Function(_mapped, fn, "vmap", record, workers, None, **options)


def _mapped(
    fn: Callable[..., Any], in_axes: Any, out_axes: Any, reduce: str | None, is_recorded: bool
) -> Callable[..., Any]:
    static = static_of(fn)

    def inline(*args: Any, **keywords: Any) -> Any:
        axes = list(in_axes) if isinstance(in_axes, (list, tuple)) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ValueError(f"in_axes={in_axes!r} is for {len(axes)} arguments; there are {len(args)}")
        given = [_Given(f"argument {i}", *pair) for i, pair in enumerate(zip(args, axes))]
        by_name = {name: None if static is not None and static.has(name) else 0 for name in keywords}
        given += [_Given(f"argument {name}", x, by_name[name]) for name, x in keywords.items()]
        count = _count(given)

        def call(each: Callable[[Any, int], Any]) -> Any:
            sliced = [x.mapped(each) for x in given]
            return fn(*sliced[: len(args)], **dict(zip(keywords, sliced[len(args) :])))

        recording = recordings.stack[-1] if recordings.stack and is_recorded else None
        if recording is not None and recording.within is None and count > 1:
            slices = _slices(recording, given)
            if slices is not None:
                return _in_lanes(call, recording, slices, count, reduce, out_axes)
        return _unrolled(call, count, reduce, out_axes)

    return inline


class _Given:
    """An argument: its scalars and arrays, each with the axis to map over, or None; not opened if that is None."""

    def __init__(self, name: str, x: Any, axes: Any) -> None:
        self.name, self._whole = name, x
        self.leaves: list[Any] = []
        self.axes: list[int | None] = []
        if axes is not None:
            self.leaves, self._structure = tree_flatten(x)
            self.axes = tree_spread(axes, self._structure, f"{name}: in_axes")

    def mapped(self, each: Callable[[Any, int], Any]) -> Any:
        """The argument with `each(array, axis)` in place of the arrays mapped over."""
        if not self.axes:
            return self._whole
        return tree_unflatten(
            self._structure,
            [leaf if axis is None else each(leaf, axis) for leaf, axis in zip(self.leaves, self.axes)],
        )

    def arrays(self) -> list[tuple[Any, int]]:
        """The arrays mapped over, with their axes."""
        return [(leaf, axis) for leaf, axis in zip(self.leaves, self.axes) if axis is not None]


def _count(given: list[_Given]) -> int:
    counts: dict[str, int] = {}
    for x in given:
        arrays = x.arrays()
        for k, (leaf, axis) in enumerate(arrays):
            if not is_array(leaf):
                raise ValueError(f"{x.name} is mapped over but holds a scalar: pass an array, or None as its in_axes")
            if not -leaf.ndim <= axis < leaf.ndim:
                raise ValueError(f"{x.name}: in_axes={axis}, but its shape is {leaf.shape}")
            counts[x.name if len(arrays) == 1 else f"{x.name}, array {k}"] = leaf.shape[axis]
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


def _slices(recording: Recording, given: list[_Given]) -> list[_Slices] | None:
    """The slices of each mapped array; None if some array's can't be lanes."""
    found: list[_Slices] = []
    for leaf, axis in (pair for x in given for pair in x.arrays()):
        array = as_array(recording, leaf)
        slices = array.slices(axis)
        if slices is None:
            return None
        found.append((array.source, *slices))
    return found


def _in_lanes(
    call: Callable[..., Any],
    recording: Recording,
    slices: list[_Slices],
    count: int,
    reduce: str | None,
    out_axes: Any,
) -> Any:
    group = recording.new_group(count)
    rest = iter(slices)

    def lanes(_leaf: Any, _axis: int) -> Any:
        source, offsets, stride = next(rest)
        values = [group.take(source, offset, stride) for offset in offsets.ravel().tolist()]
        return values[0] if offsets.ndim == 0 else object_array(values, offsets.shape)

    recording.within = group
    recordings.slices.append(None)
    try:
        result = call(lanes)
    finally:
        recordings.slices.pop()
        recording.within = None

    def total(x: Any) -> Value:
        summed = lane_sum(as_value(x), group)
        return summed * (1.0 / count) if reduce == "mean" else summed

    def finish(leaf: Any, axis: int | None) -> Any:
        places = elements(leaf) if is_array(leaf) else [leaf]
        if reduce is not None:
            return like(leaf, [total(x) for x in places]) if is_array(leaf) else total(leaf)
        width = len(places)
        values = [as_value(x) for x in places]
        if axis is None:
            _need_alike(not any(map(is_lane, values)))
            return leaf
        shape = (count, *(leaf.shape if is_array(leaf) else ()))
        array = Array.of(Lanes(recording, group, list(range(width)), width, values), shape)
        return Array(array.source, need_numpy().moveaxis(array.view, 0, axis)) if axis else array

    leaves, structure = tree_flatten(result)
    return tree_unflatten(structure, map(finish, leaves, _out(out_axes, leaves, structure)))


def _out(out_axes: Any, leaves: list[Any], structure: Any) -> list[Any]:
    """The axis of each scalar and array of a result."""
    axes = tree_spread(out_axes, structure, "out_axes")
    for leaf, axis in zip(leaves, axes):
        most = leaf.ndim if is_array(leaf) else 0
        if axis is not None and not -most - 1 <= axis <= most:
            raise ValueError(f"out_axes={axis}: the result has {most + 1} axes with the new one")
    return axes


def _need_alike(is_alike: bool) -> None:
    if not is_alike:
        raise ValueError("out_axes=None: the result differs from slice to slice; give it an axis, or use reduce=")


def _unrolled(call: Callable[..., Any], count: int, reduce: str | None, out_axes: Any) -> Any:
    results = []
    used: list[Value] = []  # the slices' Values; while recording, numbers are made Values to be found among them
    for i in range(count):

        def one(leaf: Any, axis: int, i: int = i) -> Any:
            part = leaf[(slice(None),) * (axis % leaf.ndim) + (i,)]
            if reduce is not None or (is_axis(out_axes) and out_axes == 0):
                return part
            values = [as_value(x) if recordings.stack else x for x in (elements(part) if is_array(part) else [part])]
            used.extend(x for x in values if isinstance(x, Value))
            return like(part, values) if recordings.stack else part

        recordings.slices.append(i)
        try:
            results.append(call(one))
        finally:
            recordings.slices.pop()
    flat = [tree_flatten(result) for result in results]
    out, structure = [leaves for leaves, _ in flat], flat[-1][1]
    joined = []
    for parts, axis in zip(zip(*out), _out(out_axes, out[-1], structure)):
        if reduce is not None:
            total = sum(parts[1:], parts[0])
            joined.append(total * (1.0 / count) if reduce == "mean" else total)
            continue
        if axis is None:
            _need_alike(_are_alike(parts, used))
            joined.append(parts[0])
            continue
        np = need_numpy()
        shape = parts[0].shape if is_array(parts[0]) else ()
        array = np.empty((count, *shape), dtype=object)
        for i, part in enumerate(parts):
            array[i] = part
        array = np.moveaxis(array, 0, axis)
        joined.append(object_array(array.ravel(), array.shape))
    return tree_unflatten(structure, joined)


def _are_alike(parts: tuple[Any, ...], used: list[Value]) -> bool:
    """Whether results are the same numbers, or Values that need none of those used."""
    rows = [elements(part) if is_array(part) else [part] for part in parts]
    handles = {value._handle for value in used}
    for places in zip(*rows):
        values = [x for x in places if isinstance(x, Value)]
        if any(value._handle in handles for root in values for value, _ in node_values(root)):
            return False
        if not values and any(x != places[0] and (x == x or places[0] == places[0]) for x in places):
            return False
    return True
