"""Linear functions of unknowns: rules are transposed by them, and Jacobians found where the way leads through rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

from pygrad._core.errors import RecordingError, check, users_line
from pygrad._core.layer import TAPE
from pygrad._pgr import lib
from pygrad._record.recording import Level, recordings
from pygrad._record.regions import Adjoints, Rows, entries, handles, has_rules, is_zero, jvp, vjp
from pygrad.engine import Value


class Unknowns:
    """Numbers that a function is given to see what it makes of them, which must be linear."""

    def __init__(self, count: int) -> None:
        self._root = recordings.stack[-1].scalar(0, 2**32 - 1) if recordings.stack else Value(0.0)
        self.values = [self._root * 1.0 for _ in range(count)]

    def are_in(self, results: Iterable[Value]) -> bool:
        """Whether some of the results are made of them."""
        return any(lib.pgr_h_is_made_from(TAPE, value._handle, self._root._handle) for value in results)

    def make_linear(self, results: Sequence[Value], cuts: Sequence[Value] = ()) -> bool:
        """Whether the results are sums of multiples of them, without a way through cuts."""
        parts = (len(results), handles(results), len(cuts), handles(cuts))
        found = lib.pgr_h_is_linear(TAPE, self._root._handle, *parts)
        check(-found if found < 0 else 0)
        return bool(found)


class Transposed:
    """A linear function of `count` numbers, recorded once. `what` is the error if it is not linear."""

    def __init__(self, count: int, function: Callable[[list[Value]], Adjoints], what: str) -> None:
        self._what = what
        with recordings.derived() as self._level:
            self._unknowns = Unknowns(count)
            self._made = function(self._unknowns.values)
        self._need(self._unknowns.make_linear([value for value in self._made if value is not None]))

    def __call__(self, weights: Adjoints) -> Adjoints:
        """The adjoints of the numbers, from those of the results."""
        unknowns = self._unknowns
        pairs = [(value, weight) for value, weight in zip(self._made, weights) if not (value is None or weight is None)]
        if not pairs:
            return [None] * len(unknowns.values)
        roots, seeds = zip(*pairs)
        adjoints = [None if is_zero(x) else x for x in vjp(roots, seeds, unknowns.values, self._level)]
        self._need(not unknowns.are_in(x for x in adjoints if x is not None))  # by the rules of what it calls
        return adjoints

    def _need(self, is_linear: bool) -> None:
        if not is_linear:
            error = RecordingError(f"{users_line()}\n{self._what}")
            error.is_linear = False
            raise error


def jacobian_by_tangents(roots: Sequence[Value], wrt: Sequence[Value], level: Level) -> Rows | None:
    """The roots' derivatives by `wrt` that may differ from zero, where the way leads through calls with rules.

    All rules are asked once, for the tangents of the roots by unknown tangents of wrt. These are linear, so that their
    derivatives by the unknowns, through what the rules recorded, are the entries. None where a rule is not linear, or
    calls a function with a rule on a tangent; and outside of a recording, where it may look at numbers.
    """
    if not recordings.stack or not has_rules(level):
        return None
    with recordings.derived() as own:
        unknowns = Unknowns(len(wrt))
        try:
            tangents = jvp(wrt, unknowns.values, roots, level)
        except RecordingError as error:
            if error.is_linear:
                raise
            return None
    if any(region.state.level is not None for region in own.regions()):  # a transposed rule's
        return None
    cuts = [cut for region in own.regions() for cut in region.cuts]
    return entries(tangents, unknowns.values) if unknowns.make_linear(tangents, cuts) else None
