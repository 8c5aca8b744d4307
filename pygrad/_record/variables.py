"""Variables and results of a derivative: arguments as new nodes, results as roots, arrays as lanes if possible."""

from __future__ import annotations

import itertools
from typing import Any

from pygrad._core.trees import elements, is_array, need_numpy, tree_flatten, tree_unflatten
from pygrad._record.arrays import Array, as_array, axis_of, object_array
from pygrad._record.recording import Group, Lanes, is_lane, lane_sum, note_late, passed, recordings
from pygrad.engine import Value, as_value


class Copy:
    """A copy of an array to differentiate by. Elements and lanes are copied when they are used."""

    def __init__(self, array: Array, along: Array | None = None) -> None:
        self.array, self.along = array, along  # both must be able to supply a lane
        self._recording = recordings.stack[-1]
        self.made: dict[int, Value] = {}
        self.made_lanes: dict[tuple[int, int, int], tuple[Group, Value]] = {}  # by count, offset, stride

    def elements(self, offsets: list[int]) -> list[Value]:
        missing = [offset for offset in dict.fromkeys(offsets) if offset not in self.made]
        if missing:
            fresh = {offset: value * 1.0 for offset, value in zip(missing, self.array.elements(missing))}
            self.made.update(fresh)
            note_late(self._recording, fresh.values())
        return [self.made[offset] for offset in offsets]

    def has_lane(self, offset: int, stride: int, count: int) -> bool:
        is_here = recordings.stack[-1] is self._recording  # the lanes of a loop's step are not those of its recording
        return is_here and all(
            a is None or a.lanes_of(offset, stride, count) is not None for a in (self.array, self.along)
        )

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        key = (group.count, offset, stride)
        if key not in self.made_lanes:
            value = self.array.lane(group, offset, stride) * 1.0
            if not is_lane(value):  # the same in all lanes, but each lane needs its own derivative
                value = value - Value(0.0).pick(group.witness())
            self.made_lanes[key] = (group, value)
        home, value = self.made_lanes[key]
        return value if home is group else passed(value, group)


class Variables:
    """The arguments to differentiate by: `value` is `x` with new nodes for its Values and its arrays' elements.

    While a function is recorded, arrays are copied lazily, so that a vmap's slices stay lanes. along: arrays, in the
    structure of x, that must be able to supply the same lanes. by_element: copy every element now.
    """

    def __init__(self, x: Any, along: Any = None, by_element: bool = False) -> None:
        given, structure = tree_flatten(x)
        others = [] if along is None else tree_flatten(along)[0]
        self._recording = recordings.stack[-1] if recordings.stack and not by_element else None
        self._leaves = [self._copy(leaf, other) for leaf, other in itertools.zip_longest(given, others)]
        # Arrays of nodes as copies: the function may assign to its arguments.
        own = [x.copy() if is_array(x) and not isinstance(x, Array) else x for x in self._leaves]
        self.value = tree_unflatten(structure, own)
        self._structure = structure
        self._layouts: list[Any] = []
        self.order: list[int] = []  # index of each of the caller's argnums

    def _copy(self, leaf: Any, other: Any) -> Any:
        if not is_array(leaf):
            return _fresh(leaf)
        if self._recording is None:
            return object_array([_fresh(element) for element in elements(leaf)], leaf.shape)
        along = None if other is None else as_array(self._recording, other)
        return Array.of(Copy(as_array(self._recording, leaf), along), leaf.shape)

    def nodes(self) -> list[Value]:
        """The nodes used so far."""
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
        """The elements of `x`, of the same structure, at the nodes' places."""
        found: list[Value] = []
        for leaf, layout in zip(tree_flatten(x)[0], self._layouts):
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
        """The nodes' grads, in the structure of the variables."""
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
        return tree_unflatten(self._structure, out)

    def _joined(self, shape: tuple[int, ...], made: dict[int, Value], lanes: dict[Any, Any], grads: Any) -> Any:
        """The gradient of an array, joined from the grads of its elements and lanes."""
        size = int(need_numpy().prod(shape, dtype=int))
        zero = Value(0.0)
        parts: list[tuple[list[int], list[Value]]] = []  # places, their grads
        if made:
            parts.append((list(made), [next(grads) for _ in made]))
        layouts: dict[tuple[int, int], tuple[Any, dict[int, Value]]] = {}  # (count, stride): (group, {place: grad})
        for (count, place, stride), (group, _) in lanes.items():
            home, grad_of = layouts.setdefault((count, stride), (group, {}))
            grad_of[place] = passed(next(grads), home)
        assert self._recording is not None
        for (count, stride), (group, grad_of) in layouts.items():
            axis = axis_of(shape, count, stride)
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


class Results:
    """The Values to differentiate. A vmap's stay lanes if `along`, the cotangent, can supply the same lanes."""

    def __init__(self, x: Any, along: Any = None) -> None:
        self._leaves, self._structure = tree_flatten(x)
        self._recording = recordings.stack[-1] if recordings.stack and recordings.stack[-1].within is None else None
        others = [None] * len(self._leaves) if along is None else tree_flatten(along)[0]
        self.nodes: list[Value] = []
        self.seeds: list[Value] = []
        self._lanes: list[Lanes | None] = []
        for leaf, other in zip(self._leaves, others):
            self._add(leaf, other)

    def _add(self, leaf: Any, other: Any) -> None:
        lanes = _lanes_of(leaf) if isinstance(leaf, Array) and self._recording is not None else None
        if lanes is not None:
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
        """A seed for each Value: a lane of the array, or the lane's sum for a Value that is the same in all lanes."""
        group, seeds = lanes.group, []
        for offset, value in zip(lanes.offsets, lanes.values):
            if array.lanes_of(offset, lanes.stride, group.count) is None:
                return None
            seed = array.lane(group, offset, lanes.stride)
            seeds.append(seed if is_lane(value) else lane_sum(seed, group))
        return seeds

    def filled(self, values: list[Value]) -> Any:
        """`values`, one per node, in the structure of the result."""
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
        return tree_unflatten(self._structure, out)


def _lanes_of(array: Array) -> Lanes | None:
    """A vmap's whole result as Lanes by the array's own places, if its lanes are one of the array's axes; else None."""
    found = array.lane_layout()
    if found is None or not found[1]:
        return None
    lanes, placed = found
    stride = placed[0][2]
    if any(step != stride for _, _, step in placed) or axis_of(array.shape, lanes.group.count, stride) is None:
        return None
    values, places, _ = zip(*placed)
    return Lanes(lanes.recording, lanes.group, list(places), stride, list(values))


def _fresh(x: Any) -> Value:
    return x * 1.0 if isinstance(x, Value) else Value(x)
