"""Loops and branches of recorded functions as calls of programs, and their derivatives, which are loops and branches.

The reverse of a loop starts from the states before each step, which the loop then has as results; its step records the
loop's step anew, and pulls back. See Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from pygrad._core.errors import RecordingError, check, users_line
from pygrad._pgr import lib
from pygrad._record.calls import Call, Traced
from pygrad._record.recording import Group, is_lane, recordings
from pygrad._record.regions import Adjoints, Place, Region, jvp, take, vjp
from pygrad.engine import Value, as_value

Step = Callable[[Sequence[Value], Sequence[Value]], "tuple[Sequence[Value], Sequence[Value]]"]
Test = Callable[[Sequence[Value]], Value]
UNBOUNDED = 2**64 - 1


class _State(Place):
    """Where lanes of a call's results are taken from."""

    region: Any

    def elements(self, offsets: list[int]) -> list[Value]:
        region, width = self.region, self.region.width
        return [region.of_lane(i // width).call.result(i % width) for i in offsets]


class CallRegion(Region):
    """A call of programs, as derivatives see it."""

    def __init__(self, rule: Any, call: Call, inputs: Sequence[Value], results: list[Value], whole: Any = None) -> None:
        self.call, self._made = call, {value._handle for value in results}
        self.width = rule.width
        super().__init__(rule, inputs, results, results, (), whole=whole)

    def result(self, k: int) -> Value:
        """A result that is not one of those that derivatives see."""
        value = self.call.result(k)
        if self.group is not None and value._handle not in self._made and is_lane(value):
            self._made.add(value._handle)
            self.group.places.append((value, _State(self), k, self.width))
        return value

    def cuts_of(self, lane: int) -> list[Value]:
        return list(self.of_lane(lane).cuts)

    def of_lane(self, lane: int) -> Any:
        if lane not in self._lanes:
            assert self.group is not None
            ((inputs,),) = self._of_lanes([self.inputs], [lane])
            self._lanes[lane] = self.rule.region(self.group.recording, inputs, self)  # type: ignore[attr-defined]
        return self._lanes[lane]


class _Rule:
    """What loops and branches share. A subclass traces its functions, and makes the call."""

    is_for_each = is_primitive = True
    group: Group | None = None
    traced: list[Traced]
    captured: list[Value]  # what the functions read from around, in the order of the operands
    width: int  # the number of results

    def trace(self, group: Group | None) -> None:
        raise NotImplementedError

    def call(self, recording: Any, inputs: Sequence[Value]) -> tuple[Call, list[Value]]:
        """The call, and its results that derivatives see."""
        raise NotImplementedError

    def _settle(self, given: Sequence[Value], group: Group | None) -> None:
        """Trace the functions, on the lanes of the vmap around them if something is a lane."""
        within = group or recordings.stack[-1].within
        is_in_lanes = group is not None or (within is not None and any(map(is_lane, given)))
        if not is_in_lanes:
            try:
                self.trace(None)
                is_in_lanes = any(map(is_lane, self.captured))
            except RecordingError:  # perhaps since a vmap within the step met lanes of the one around it
                if within is None:
                    raise
                is_in_lanes = True
            if is_in_lanes and within is None and recordings.stack[-1].outer is None:  # lanes of a vmap that is over
                check(lib.PGR_ERR_LANES)
        if is_in_lanes and within is not None:
            self.trace(within)

    def region(self, recording: Any, inputs: Sequence[Value], whole: Any = None) -> CallRegion:
        call, results = self.call(recording, inputs)
        if recordings.deriving or whole is not None:
            return CallRegion(self, call, inputs, results, whole)
        with recordings.at(0):  # no derivative sees it, but its lanes may be taken one by one
            return CallRegion(self, call, inputs, results)

    def record(
        self, given: Sequence[Value], group: Group | None = None, replaced: dict[int, Value] | None = None
    ) -> list[Value]:
        """The results of a call with what is captured, and these operands.

        replaced: Values in place of captured ones, by handle: those of a single lane.
        """
        self._settle(given, group)
        replaced = replaced or {}
        inputs = [*[replaced.get(value._handle, value) for value in self.captured], *given]
        within = recordings.stack[-1].within
        if not recordings.deriving and (within is None or not any(map(is_lane, inputs))):
            return self.call(recordings.stack[-1], inputs)[1]
        return self.region(recordings.stack[-1], inputs).outs

    def _replaced(self, region: Region) -> dict[int, Value]:
        return {old._handle: new for old, new in zip(self.captured, region.inputs)}

    @staticmethod
    def _joined(traced: Sequence[Traced]) -> list[Value]:
        return [*{value._handle: value for one in traced for value in one.captured}.values()]


def _or_zero(values: Adjoints) -> list[Value]:
    return [Value(0.0) if value is None else value for value in values]


def _at(places: Sequence[int], values: Sequence[Value], count: int) -> list[Value | None]:
    """`count` values, these at their places, else None."""
    out: list[Value | None] = [None] * count
    for place, value in zip(places, values):
        out[place] = value
    return out


def _pulled(
    outs: Sequence[Value], seeds: Sequence[Value], wrt: Sequence[Value], cuts: Sequence[Value], level: Any
) -> list[Value]:
    """The adjoints of wrt, within a step. cuts: what is constant, or a variable, for the step."""
    level.cuts = cuts
    take(level, wrt)
    return vjp(outs, seeds, wrt, level)


def _pushed(
    wrt: Sequence[Value], tangents: Sequence[Value], outs: Sequence[Value], cuts: Sequence[Value], level: Any
) -> list[Value]:
    level.cuts = cuts
    take(level, wrt)
    return jvp(wrt, tangents, outs, level)


class Loop(_Rule):
    """A loop: its step maps (carried, of the step) to (carried, the step's results). See pgr_call in pgr.h."""

    name = "a loop"

    def __init__(
        self, step: Step, steps: int, counts: tuple[int, int], flags: int = 0, test: Test | None = None
    ) -> None:
        """counts: of carried numbers, and of those of a step."""
        self._step, self._test, self._steps = step, test, steps
        self._carry, self._x = counts
        self._flags = flags | (0 if test is None else lib.PGR_CALL_TESTED)
        self._is_tested, self._is_counted = test is not None, bool(flags & lib.PGR_CALL_COUNTED)
        self._has_states = recordings.deriving > 0 and steps != UNBOUNDED

    def trace(self, group: Group | None) -> None:
        n = self._carry

        def step(given: list[Value]) -> list[Value]:
            after, made = self._step(given[:n], given[n:])
            return [*after, *made, *(given[:n] if self._has_states else [])]

        self.group = group
        self.traced = [Traced(step, n + self._x, group)]
        if self._test is not None:
            test = self._test
            self.traced.append(Traced(lambda given: [as_value(test(given))], n, group, self.traced[0]))
        self.captured = self._joined(self.traced)
        self._row = len(self.traced[0].outs) - n  # results of a step, states included
        self._y = self._row - (n if self._has_states else 0)
        self.width = n + self._is_tested + (self._steps * self._row if self._row else 0)

    def call(self, recording: Any, inputs: Sequence[Value]) -> tuple[Call, list[Value]]:
        counts = (len(self.captured), self._carry, self._x, self._row)
        handles = [value._handle for value in self.captured]
        call = Call(recording, self.traced, handles, inputs, self._steps, self._flags, counts)
        first = self._carry + self._is_tested
        steps = range(self._steps if self._y else 0)
        places = [*range(first), *[self._place(t, j) for t in steps for j in range(self._y)]]
        return call, [call.result(k) for k in places]

    def _place(self, t: int, j: int) -> int:
        """The number of result j of step t; states follow the step's results."""
        return self._carry + self._is_tested + t * self._row + j

    def _inputs_of(self, inputs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any], list[Any]]:
        """Captured, carried at first, the count if there is one, and the numbers of each step."""
        a = len(self.captured)
        b = a + self._carry
        c = b + self._is_counted
        xs = inputs[c:]
        rows = [xs[t * self._x : (t + 1) * self._x] for t in range(self._steps if self._x else 0)]
        return inputs[:a], inputs[a:b], inputs[b:c], rows

    def _rows_of(self, results: Sequence[Any]) -> list[Any]:
        ys = results[self._carry + self._is_tested :]
        return [ys[t * self._y : (t + 1) * self._y] for t in range(self._steps if self._y else 0)]

    def pullback(self, region: Any, cotangents: Adjoints) -> Adjoints:
        if not self._has_states:
            raise RecordingError(
                f"{users_line()}\nreverse derivatives of a while_loop need a bound on its steps: write max_steps=, or "
                "use jvp or jacfwd"
            )
        n, steps = self._carry, self._steps
        wanted = self._inputs_of(region.wanted)
        used = [i for i, is_wanted in enumerate(wanted[0]) if is_wanted]
        by_x = [any(row[j] for row in wanted[3]) for j in range(self._x)]
        given = self._rows_of(cotangents)
        columns = [j for j in range(self._y) if any(row[j] is not None for row in given)]
        is_counted = self._is_tested or self._is_counted
        flags = (self._flags ^ lib.PGR_CALL_REVERSED) & lib.PGR_CALL_REVERSED
        flags |= lib.PGR_CALL_COUNTED if is_counted else 0
        targets = [self.captured[i] for i in used]
        step = self._back(targets, by_x, columns)
        reverse = Loop(step, steps, (n + len(used), n + self._x + len(columns)), flags)
        _, _, count, rows = self._inputs_of(region.inputs)
        operands = [*_or_zero(cotangents[:n]), *[Value(0.0) for _ in used]]
        operands += [region.result(n)] if self._is_tested else list(count)
        states = self._states_of(region, by_x, targets)
        for t in range(steps):
            operands += states[t]
            operands += rows[t] if rows else []
            operands += _or_zero([given[t][j] for j in columns])
        results = reverse.record(operands, self.group, self._replaced(region))
        captured = _at(used, results[n:], len(self.captured))
        grads = iter(results[n + len(used) :])
        xs = [next(grads) if is_wanted else None for _ in rows for is_wanted in by_x]
        return [*captured, *results[:n], *[None for _ in count], *xs]

    def _back(self, targets: Sequence[Value], by_x: Sequence[bool], columns: Sequence[int]) -> Step:
        """The reverse's step. It carries the adjoints of the state, and sums of those of targets, which are captured.

        by_x: which of a step's numbers have adjoints; columns: which of its results have.
        """
        n = self._carry

        def step(carry: Sequence[Value], x: Sequence[Value]) -> tuple[list[Value], list[Value]]:
            state, own, seeds = x[:n], x[n : n + self._x], [*carry[:n], *x[n + self._x :]]
            with recordings.derived() as level:
                after, made = self._step(state, own)
            outs = [*after, *[made[j] for j in columns]]
            wrt = [*state, *[value for value, is_wanted in zip(own, by_x) if is_wanted], *targets]
            grads = _pulled(outs, seeds, wrt, self.captured, level)
            end = len(grads) - len(targets)
            sums = [before + more for before, more in zip(carry[n:], grads[end:])]
            return [*grads[:n], *sums], grads[n:end]

        return step

    def _states_of(self, region: Any, by_x: Sequence[bool], targets: Sequence[Value]) -> list[Any]:
        """The states before each step. Derivatives around this one see them as another loop's results.

        Calls with rules that depend on the state, on x by_x, or on the targets, are taken by this derivative.
        """
        n, steps = self._carry, self._steps
        if not n:
            return [[] for _ in range(steps)]
        if not recordings.deriving:
            return [[region.result(self._place(t, self._y + j)) for j in range(n)] for t in range(steps)]

        def step(carry: Sequence[Value], x: Sequence[Value]) -> tuple[Sequence[Value], Sequence[Value]]:
            with recordings.derived() as level:
                after = self._step(carry, x)[0]
            take(level, [*carry, *[value for value, is_wanted in zip(x, by_x) if is_wanted], *targets])
            return after, carry

        again = Loop(step, steps, (n, self._x), self._flags & ~lib.PGR_CALL_TESTED, self._test)
        return again._rows_of(again.record(region.inputs[len(self.captured) :], self.group, self._replaced(region)))

    def pushforward(self, region: Any, tangents: Adjoints) -> Adjoints:
        n, steps = self._carry, self._steps
        by_captured, by_carry, _, by_x = self._inputs_of(tangents)
        used = [i for i, tangent in enumerate(by_captured) if tangent is not None]
        columns = [j for j in range(self._x) if any(row[j] is not None for row in by_x)]
        targets = [self.captured[i] for i in used]
        fixed = [by_captured[i] for i in used]

        def step(carry: Sequence[Value], x: Sequence[Value]) -> tuple[list[Value], list[Value]]:
            state, own = carry[:n], x[: self._x]
            with recordings.derived() as level:
                after, made = self._step(state, own)
            wrt = [*state, *[own[j] for j in columns], *targets]
            slopes = _pushed(wrt, [*carry[n:], *x[self._x :], *fixed], [*after, *made], self.captured, level)
            return [*after, *slopes[:n]], slopes[n:]

        test = self._test
        flags = self._flags & ~lib.PGR_CALL_TESTED
        forward = Loop(
            step,
            steps,
            (2 * n, self._x + len(columns)),
            flags,
            None if test is None else (lambda carry: test(carry[:n])),
        )
        _, carry, count, rows = self._inputs_of(region.inputs)
        operands = [*carry, *_or_zero(by_carry), *count]
        for row, slopes in zip(rows, by_x):
            operands += [*row, *_or_zero([slopes[j] for j in columns])]
        results = forward.record(operands, self.group, self._replaced(region))
        return [*results[n : 2 * n], *[None] * self._is_tested, *results[2 * n + self._is_tested :]]


class Switch(_Rule):
    """One of several functions without arguments, chosen by a number, the first operand."""

    name = "a branch"

    def __init__(self, branches: Sequence[Callable[[], Sequence[Value]]], index: Value) -> None:
        self._branches, self._index = branches, index
        self.width = 0

    def trace(self, group: Group | None) -> None:
        self.group = group
        self.traced = []
        for branch in self._branches:
            beside = self.traced[0] if self.traced else None
            self.traced.append(Traced(lambda _, branch=branch: branch(), 0, group, beside))  # type: ignore[misc]
        if group is not None:  # a lane for branches that read none
            for one in self.traced:
                one.captured = [*one.captured, self._index]
        self.captured = self._joined(self.traced)
        self.width = len(self.traced[0].outs)

    def select(self, group: Group | None = None, replaced: dict[int, Value] | None = None) -> list[Value]:
        self._index = (replaced or {}).get(self._index._handle, self._index)
        return self.record([], group, replaced)

    def _settle(self, given: Sequence[Value], group: Group | None) -> None:
        super()._settle([*given, self._index], group)

    def call(self, recording: Any, inputs: Sequence[Value]) -> tuple[Call, list[Value]]:
        index = self._index
        for old, new in zip(self.captured, inputs):
            if old._handle == index._handle:
                index = new
        counts = (len(inputs), self.width, 0, 0)
        handles = [value._handle for value in self.captured]
        call = Call(recording, self.traced, handles, [index, *inputs], 1, lib.PGR_CALL_SWITCH, counts)
        return call, [call.result(k) for k in range(self.width)]

    def pullback(self, region: Any, cotangents: Adjoints) -> Adjoints:
        used = [i for i, is_wanted in enumerate(region.wanted) if is_wanted]
        given = {k: value for k, value in enumerate(cotangents) if value is not None}
        places, seeds = list(given), list(given.values())
        targets = [self.captured[i] for i in used]

        def pulled(branch: Callable[[], Sequence[Value]]) -> Callable[[], Sequence[Value]]:
            def back() -> Sequence[Value]:
                with recordings.derived() as level:
                    outs = branch()
                return _pulled([outs[k] for k in places], seeds, targets, self.captured, level)

            return back

        grads = self._derived([pulled(branch) for branch in self._branches], region)
        return _at(used, grads, len(self.captured))

    def pushforward(self, region: Any, tangents: Adjoints) -> Adjoints:
        used = {i: tangent for i, tangent in enumerate(tangents) if tangent is not None}
        targets, given = [self.captured[i] for i in used], list(used.values())

        def pushed(branch: Callable[[], Sequence[Value]]) -> Callable[[], Sequence[Value]]:
            def forth() -> Sequence[Value]:
                with recordings.derived() as level:
                    outs = branch()
                return _pushed(targets, given, outs, self.captured, level)

            return forth

        return self._derived([pushed(branch) for branch in self._branches], region)

    def _derived(self, branches: list[Callable[[], Sequence[Value]]], region: Any) -> list[Value]:
        index = region.call.operands[0]
        return Switch(branches, index).select(self.group, self._replaced(region))
