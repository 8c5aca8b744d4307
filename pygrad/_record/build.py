"""Building: turn a recording and the function's result into a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from pygrad._core.trees import elements, is_array, tree_flatten
from pygrad._program.code import Code
from pygrad._program.program import Program
from pygrad._record.arrays import Array
from pygrad._record.calls import built
from pygrad._record.recording import Recording, is_lane
from pygrad.engine import Value, as_value


def _written(leaves: list[Any]) -> tuple[list[Value], list[tuple[int, int, int]]]:
    """The Values of a result's scalars and arrays; and of each its array, its offset, and its stride between lanes."""
    values: list[Value] = []
    places: list[tuple[int, int, int]] = []
    array, scalar = 1, 0
    for leaf in leaves:
        layout = leaf.lane_layout() if isinstance(leaf, Array) else None
        if layout is not None:
            # Only lanes can be written as lanes. Subtracting a lane's zero makes one of a Value that is the same in all
            # lanes; adding it would turn -0.0 into 0.0.
            nothing = Value(0.0).pick(layout[0].group.witness())
            values += [value if is_lane(value) else value - nothing for value, _, _ in layout[1]]
            places += [(array, place, stride) for _, place, stride in layout[1]]
        elif is_array(leaf):
            here = elements(leaf)
            values += [as_value(x) for x in here]
            places += [(array, k, 0) for k in range(len(here))]
        else:
            values.append(as_value(leaf))
            places.append((0, scalar, 0))
            scalar += 1
            continue
        array += 1
    return values, places


def build(
    recording: Recording,
    structure: Any,
    result: Any,
    names: Sequence[str] | None = None,
    again: Callable[[], list[str] | None] | None = None,
) -> Program:
    """The program that computes a recorded function's result. Raises RecordingError if there can be none."""
    out, out_structure = tree_flatten(result)
    prints = []
    for printed, given in recording.prints:
        leaves, print_structure = tree_flatten(given)
        out += leaves
        prints.append((printed, print_structure))
    values, places = _written(out)
    program, captured = built(recording, values, places, [(group.count, group.inputs) for group in recording.groups])
    constants = [constant for _, constant in sorted(recording.constants.items())]
    return Program(
        Code(program.c, (structure, out_structure), constants, captured, names, prints=prints, called=program.called),
        again,
    )
