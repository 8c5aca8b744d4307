"""debug_print: print numbers of a recorded function at each of its runs."""

from __future__ import annotations

from typing import Any

from pygrad._core.trees import elements, is_array, need_numpy, tree_flatten, tree_map, tree_unflatten
from pygrad._program.code import Print
from pygrad._record.arrays import Array
from pygrad._record.function import number_of
from pygrad._record.recording import Lanes, recordings
from pygrad.engine import as_value, is_condition


def debug_print(text: str, *args: Any, **keywords: Any) -> None:
    """Print text.format(*args, **keywords) at each run of the recorded function, as jax.debug.print.

    args are trees of numbers: floats and NumPy arrays when they are formatted, and bools if they are comparisons.
    Within a vmap there is a line for each slice, which begins with its number, "lane 3: ". A run prints when it is
    done, in the order of the recording. Raises what str.format raises for this text.

    >>> from pygrad import grad, jit
    >>> @jit
    ... def f(x):
    ...     y = x * x
    ...     debug_print("y = {}, y + 1 = {z:.2f}", y, z=y + 1)
    ...     return y
    >>> f(2.0) + f(3.0)
    y = 4.0, y + 1 = 5.00
    y = 9.0, y + 1 = 10.00
    13.0
    """
    given = (args, keywords)
    leaves, structure = tree_flatten(given)
    conditions = tuple(map(_is_condition, leaves))
    if not recordings.stack:
        Print(text, None, tuple(recordings.slices), conditions).write(tree_map(number_of, given))
        return
    recording = recordings.stack[-1]
    group = recording.within
    if group is not None:
        leaves = [_lanes(leaf, recording, group) for leaf in leaves]
    made = Print(text, None if group is None else group.count, tuple(recordings.slices), conditions)
    row, named = made.with_truth(tree_map(lambda x: need_numpy().zeros(x.shape) if is_array(x) else 0.0, given))
    text.format(*row, **named)  # raises now if it does not fit
    recording.prints.append((made, tree_unflatten(structure, leaves)))


def _is_condition(leaf: Any) -> bool:
    """Whether a number or an array holds comparisons, all of them."""
    if isinstance(leaf, Array):
        return isinstance(leaf.source, Lanes) and all(map(is_condition, leaf.source.values))
    return all(map(is_condition, elements(leaf) if is_array(leaf) else [leaf]))


def _lanes(leaf: Any, recording: Any, group: Any) -> Array:
    """The leaf in all lanes, an array with a new first axis."""
    values = [as_value(x) for x in (elements(leaf) if is_array(leaf) else [leaf])]
    width = len(values)
    shape = (group.count, *(leaf.shape if is_array(leaf) else ()))
    return Array.of(Lanes(recording, group, list(range(width)), width, values), shape)
