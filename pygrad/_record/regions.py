"""Vector-Jacobian and Jacobian-vector products, and calls whose derivatives are rules: the regions of a recording.

A region's inputs are copied to cuts, of which its function makes its results; copies of these, the outs, go on. A
derivative (a Level) takes a region by its rule: it ends at the outs, calls the rule, which records what it computes,
and goes on at the inputs. What the rule records is made of the inputs, so it can be derived again. Derivatives around
this one see the copies as copies: they go through the function that the rule gave. That is what JAX's rules mean, too.
csrc/tape/sheet.h is the other half.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple, Optional, Protocol

from pygrad._core.errors import RecordingError, check, custom_operation, users_line
from pygrad._core.layer import TAPE, taken
from pygrad._pgr import ffi, lib
from pygrad._record.recording import Group, Level, is_lane, recordings
from pygrad.engine import Value, value_of

Adjoints = Sequence[Optional[Value]]


class Rule(Protocol):
    """How derivatives pass a region. None stands for zero."""

    name: str
    is_for_each: bool  # of the derivatives under way there is a region
    is_primitive: bool  # every derivative takes it, not the innermost alone

    def pullback(self, region: Region, cotangents: Adjoints) -> Adjoints:
        """The inputs' adjoints, from those of the outs."""
        ...

    def pushforward(self, region: Region, tangents: Adjoints) -> Adjoints:
        """The outs' tangents, from those of the inputs."""
        ...


class _State:
    """Which derivative has taken a region by its rule."""

    level: object = None  # its token


class Region:
    """A call with a rule. Its cuts are copies of `sources`, which are its inputs unless said otherwise.

    kept: Values that the rule needs; group: of its lanes, if it is within a vmap. `whole`: the call in all lanes, if
    this is the same in one of them.
    """

    def __init__(
        self,
        rule: Rule,
        inputs: Sequence[Value],
        cuts: Sequence[Value],
        results: Sequence[Value],
        kept: Sequence[Value],
        sources: Sequence[Value] | None = None,
        whole: Region | None = None,
    ) -> None:
        self.rule, self.inputs, self.cuts, self.results, self.kept = rule, inputs, cuts, results, kept
        self._sources = inputs if sources is None else sources
        self.state: _State = _State() if whole is None else whole.state
        within = recordings.stack[-1].within if recordings.stack and whole is None else None
        lane = None if within is None else next(filter(is_lane, (*inputs, *cuts, *results, *kept)), None)
        self.group = None if lane is None else within
        self.outs = [self._out(value, lane) for value in results]
        self.wanted: Sequence[bool] = ()  # inputs whose adjoints the present derivative needs
        self.linear: Any = None  # what its rule keeps from one of a derivative's passes to the next
        self._lanes: dict[int, Region] = {}
        self._cut_lanes: dict[int, list[Value]] = {}
        regions = recordings.regions if whole is None else whole._regions
        if self.outs:
            regions.append(self)
        if self.group is not None:
            self._regions: list[Region] = regions
            for place, values in ((_Cut(self), cuts), (_Out(self), self.outs)):
                self.group.places += [
                    (value, place, k, len(values)) for k, value in enumerate(values) if is_lane(value)
                ]

    @staticmethod
    def _out(value: Value, lane: Value | None) -> Value:
        if lane is None or is_lane(value):
            return value * 1.0
        return value - Value(0.0).pick(lane.detach())  # each lane has its own derivative

    def _of_lanes(self, parts: Sequence[Sequence[Value]], lanes: list[int]) -> list[list[list[Value]]]:
        """The Values in these parts, in single lanes."""
        assert self.group is not None
        rows = self.group.recording.lane_values(self.group.count, [value for part in parts for value in part], lanes)
        found = []
        for row in rows:
            rest = iter(row)
            found.append([[next(rest) for _ in part] for part in parts])
        return found

    def cuts_of(self, lane: int) -> list[Value]:
        """The cuts in a single lane, each made once: all that is made of a cut is made of the same."""
        if lane not in self._cut_lanes:
            ((sources,),) = self._of_lanes([self._sources], [lane])
            self._cut_lanes[lane] = [value * 1.0 for value in sources]
        return self._cut_lanes[lane]

    def of_lane(self, lane: int) -> Region:
        """The same call in a single lane."""
        if lane not in self._lanes:
            cuts = self.cuts_of(lane)
            ((inputs, results, kept),) = self._of_lanes([self.inputs, self.results, self.kept], [lane])
            self._lanes[lane] = Region(self.rule, inputs, cuts, results, kept, whole=self)
        return self._lanes[lane]

    def answer(self, is_vjp: bool, given: Adjoints) -> Adjoints:
        with recordings.at(recordings.deriving), _within(self.group):
            return self.rule.pullback(self, given) if is_vjp else self.rule.pushforward(self, given)


class Place:
    """Where lanes of a region's Values are taken from, by lane and place."""

    def __init__(self, region: Region) -> None:
        self.region = region

    def values(self, lane: int) -> list[Value]:
        raise NotImplementedError

    def elements(self, offsets: list[int]) -> list[Value]:
        width = len(self.region.outs if isinstance(self, _Out) else self.region.cuts)
        return [self.values(offset // width)[offset % width] for offset in offsets]

    def has_lane(self, _offset: int, _stride: int, _count: int) -> bool:
        return False

    def lane(self, group: Group, offset: int, stride: int) -> Value:
        raise NotImplementedError


class _Cut(Place):
    def values(self, lane: int) -> list[Value]:
        return self.region.cuts_of(lane)


class _Out(Place):
    def values(self, lane: int) -> list[Value]:
        return self.region.of_lane(lane).outs


@contextlib.contextmanager
def _within(group: Group | None) -> Iterator[None]:
    """Context in which rules of a vmap's regions run: each lane has its own derivative."""
    if group is None:
        yield
        return
    before, group.recording.within = group.recording.within, group
    try:
        yield
    finally:
        group.recording.within = before


# ---- Derivatives ------------------------------------------------------------------------------------


def _group() -> int:
    """Within a vmap, every lane has its own derivative."""
    within = recordings.stack[-1].within if recordings.stack else None
    return int(lib.PGR_NO_GROUP if within is None else within.number)


def vjp(roots: Sequence[Value], seeds: Sequence[Value], wrt: Sequence[Value], level: Level) -> list[Value]:
    """Adjoints of `wrt`: the sums over roots of seed * d root / d wrt."""
    group = _group()
    given = (handles(roots), handles(seeds), handles(wrt))
    regions = _seen(level)
    if regions is not None:
        return _through(True, group, given, regions, level)
    return _derive(
        lambda *out: lib.pgr_h_vjp(TAPE, group, len(roots), given[0], given[1], len(wrt), given[2], *out), len(wrt)
    )


def jvp(wrt: Sequence[Value], tangents: Sequence[Value], roots: Sequence[Value], level: Level) -> list[Value]:
    """Tangents of the roots: the sums over wrt of tangent * d root / d wrt."""
    given = (handles(wrt), handles(tangents), handles(roots))
    regions = _seen(level)
    if regions is not None:
        return _through(False, lib.PGR_NO_GROUP, given, regions, level)
    return _derive(
        lambda *out: lib.pgr_h_jvp(TAPE, len(wrt), given[0], given[1], len(roots), given[2], *out), len(roots)
    )


class Rows(NamedTuple):
    """A sparse matrix: the entries of row i are numbers starts[i] up to starts[i + 1]."""

    starts: Sequence[int]
    columns: Sequence[int]  # ascending in a row
    values: list[Value]


def jacobian(roots: Sequence[Value], wrt: Sequence[Value], level: Level, lower: bool = False) -> Rows | None:
    """The roots' derivatives by `wrt` that may differ from zero; with `lower`, those on and below the diagonal.

    None where a vjp for each root is cheaper, or the way leads through calls with rules.
    """
    return None if has_rules(level) else entries(roots, wrt, lower)


def has_rules(level: Level) -> bool:
    """Whether a derivative may meet calls that it takes by their rules."""
    return _seen(level) is not None


def entries(roots: Sequence[Value], wrt: Sequence[Value], lower: bool = False) -> Rows | None:
    """The same, through all nodes."""
    out, bad = ffi.new("pgr_sparse *"), ffi.new("pgr_handle *")
    status = lib.PGR_OK

    def write() -> None:
        nonlocal status
        status = lib.pgr_h_jacobian(TAPE, len(roots), handles(roots), len(wrt), handles(wrt), lower, out, bad)
        if status != lib.PGR_ERR_FULL:
            _check(status, bad)

    try:
        values = taken(write, lambda: out.values[0 : out.count] if out.count else ())
        if status == lib.PGR_ERR_FULL:
            return None
        return Rows(list(out.starts[0 : len(roots) + 1]), list(out.columns[0 : out.count]), values)
    finally:
        lib.pgr_sparse_free(TAPE, out)


def jacobian_by_rows(roots: Sequence[Value], wrt: Sequence[Value], level: Level) -> Rows:
    """The same, a vjp for each root."""
    one = Value(1.0)
    starts, columns, values = [0], [], []
    for root in roots:
        for j, value in enumerate(vjp([root], [one], wrt, level)):
            if not is_zero(value):
                columns.append(j)
                values.append(value)
        starts.append(len(values))
    return Rows(starts, columns, values)


def is_zero(value: Value) -> bool:
    """Whether a Value is the number 0, whatever the arguments."""
    return bool(lib.pgr_h_op(TAPE, value._handle) == lib.PGR_OP_CONST and value.data == 0.0)


def handles(values: Sequence[Value]) -> list[int]:
    return [value._handle for value in values]


def captured(start: Value, roots: Sequence[Value]) -> list[Value]:
    """The Values from before `start` that nodes from there on use, to make the roots."""
    count = found = len(roots) + 16

    def write() -> None:
        nonlocal found
        found = lib.pgr_h_captures(TAPE, start._handle, len(roots), handles(roots), count, out)
        check(-found if found < 0 else 0)

    while True:
        out = ffi.new("pgr_handle[]", count)
        values = taken(write, lambda out=out: out)  # type: ignore[misc]
        if found <= count:
            return values
        count = found


def _seen(level: Level) -> list[Region] | None:
    """The regions that a derivative takes by their rules; None if it can go through all nodes."""
    regions = level.regions()
    if not regions and not level.cuts:
        return None
    return [region for region in regions if region.rule.is_primitive or region.state.level in (None, level.token)]


def _derive(function: Callable[[Any, Any], int], count: int) -> list[Value]:
    """The Values of the `count` handles that `function` writes."""
    out, bad = ffi.new("pgr_handle[]", count), ffi.new("pgr_handle *")
    return taken(lambda: _check(function(out, bad), bad), lambda: out)


def _check(status: int, bad: Any, regions: Sequence[Region] = ()) -> None:
    if status == lib.PGR_ERR_OPAQUE:
        error = RecordingError(
            f"{users_line()}\nThe function uses {custom_operation(value_of(bad[0]))}, whose derivative is Python code: "
            "it cannot be recorded, nor differentiated twice. backward() can do it, and so can grad and value_and_grad "
            "with record=False"
        )
        error.is_opaque = True
        raise error
    if status == lib.PGR_ERR_CAPTURED:
        out = value_of(bad[0])
        name = next(region.rule.name for region in regions if out._handle in handles(region.outs))
        raise RecordingError(
            f"{users_line()}\n{name} is differentiated with respect to a number that is not one of its "
            "arguments, so its rule does not cover it: pass the number as an argument, one not in nondiff_argnums"
        )
    check(status)


class _Derivation:
    """C's derivation through regions, and the cuts of `level`. Freed by `with`."""

    def __init__(self, is_vjp: bool, group: int, given: Any, regions: Sequence[Region], level: Level) -> None:
        self._parts = [(region.cuts, region.inputs, region.outs) for region in regions] + [(level.cuts, (), ())]
        self._alive = [ffi.new("pgr_handle[]", [h for part in three for h in handles(part)]) for three in self._parts]
        described = [(*map(len, three), nodes) for three, nodes in zip(self._parts, self._alive)]
        inputs = (len(given[0]), given[0], given[1], len(given[2]), given[2])
        found = ffi.new("pgr_derivation **")
        check(lib.pgr_derivation_new(TAPE, is_vjp, group, *inputs, len(described), described, found))
        self.c = found[0]
        self.most = max(len(given[2]), *(len(part) for three in self._parts for part in three))
        self.end = len(described)  # the number of no region

    def wanted(self, region: int, count: int) -> Sequence[bool]:
        """Which of a region's inputs depend on the variables."""
        flags = ffi.new("uint8_t[]", max(1, count))
        lib.pgr_derivation_wanted(self.c, region, flags)
        return [bool(flags[k]) for k in range(count)]

    def __enter__(self) -> _Derivation:
        return self

    def __exit__(self, *_: Any) -> None:
        lib.pgr_derivation_free(self.c)


def _through(is_vjp: bool, group: int, given: Any, regions: list[Region], level: Level) -> list[Value]:
    """A derivative that stops at regions, and records what their rules give."""
    with _Derivation(is_vjp, group, given, regions, level) as derivation:
        bad, at = ffi.new("pgr_handle *"), ffi.new("size_t *")
        answer: Adjoints = ()
        while True:
            out = ffi.new("pgr_handle[]", derivation.most)
            answered = [0 if value is None else value._handle for value in answer]

            def run(answered: list[int] = answered, out: Any = out) -> None:
                _check(lib.pgr_derivation_run(derivation.c, answered, at, out, bad), bad, regions)

            values = taken(run, lambda out=out: out)  # type: ignore[misc]
            if at[0] == derivation.end:
                return values
            region = regions[at[0]]
            region.state.level = level.token
            region.wanted = derivation.wanted(at[0], len(region.inputs)) if is_vjp else ()
            found = out[0 : len(region.outs if is_vjp else region.inputs)]
            held = iter(values)
            answer = region.answer(is_vjp, [next(held) if h else None for h in found])


def take(level: Level, wrt: Sequence[Value]) -> None:
    """Take the calls whose arguments depend on the variables `wrt`, whether or not the derivative reaches them.

    So derivatives around this one see what the rules' functions computed, as in JAX. custom_root has a region for each
    derivative, each to be taken where it is reached.
    """
    regions = [region for region in level.regions() if region.state.level is None]
    outs = handles([out for region in regions if not region.rule.is_for_each for out in region.outs])
    if not outs:
        return
    with _Derivation(True, _group(), (outs, outs, handles(wrt)), regions, level) as derivation:
        for i, region in enumerate(regions):
            if not region.rule.is_for_each and lib.pgr_derivation_is_active(derivation.c, i):
                region.state.level = level.token
