"""Listings: a program's instructions with names instead of slots, as text and for drawings."""

from __future__ import annotations

import bisect
import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pygrad._pgr import ffi, lib
from pygrad.program import Leaf, Program
from pygrad.text import visible

SHOWN_TERMS = 4  # of a dot


class Step(NamedTuple):
    """One instruction: `result` = `operation` of `operands`, names of arguments, numbers and earlier results."""

    number: int  # of the instruction in its program
    group: int | None  # of lanes; None: run once
    result: str
    operation: str
    operands: list[str]
    sources: list[tuple[Any, ...]]  # of the operands: ("result", number), else what tells two with one name apart
    text: str  # as an expression


class Named(NamedTuple):
    """What a slot holds."""

    source: tuple[Any, ...]
    name: str


def place(leaf: Leaf, offset: int, stride: int = 0) -> str:
    """An element of an argument or a result, as Python writes it; `stride` is that of lanes."""
    if leaf.shape is None:
        return visible(leaf.name)
    indices, rest = [], offset
    width = leaf.size
    for length in leaf.shape:
        width //= max(1, length)
        indices.append("lane" if stride == width and length > 1 else str(rest // max(1, width)))
        rest %= max(1, width)
    return f"{visible(leaf.name)}[{', '.join(indices)}]"


def operations() -> dict[int, tuple[str, str, int]]:
    """By op its name, its symbol and its kind."""
    rows = {op: lib.pgr_op_row(op) for op in range(lib.PGR_OP_FIRST, lib.pgr_op_count())}
    return {op: (ffi.string(row.name).decode(), ffi.string(row.symbol).decode(), row.kind) for op, row in rows.items()}


def arrays(program: Program) -> tuple[list[list[Leaf]], list[list[Leaf]]]:
    """The arrays that C reads and writes, by number, each as the leaves that it holds: the first holds the scalars."""
    sides = []
    for leaves in (program.arguments, program.results):
        scalars = [leaf for leaf in leaves if leaf.shape is None]
        sides.append([scalars, *([leaf] for leaf in leaves if leaf.shape is not None)])
    sides[0] += [[Leaf(f"constant{i}", constant.shape)] for i, constant in enumerate(program._constants)]
    outside = [Leaf(getattr(value, "label", "") or f"outside{i}", None) for i, value in enumerate(program._captured)]
    return ([*sides[0], outside], sides[1])


def element(leaves: list[Leaf], offset: int, stride: int = 0) -> str:
    """An element of such an array."""
    if leaves and leaves[0].shape is None and stride:  # in a damaged program
        return f"scalars[{offset} + {stride}*lane]"
    return visible(leaves[offset].name) if leaves and leaves[0].shape is None else place(leaves[0], offset, stride)


class _Names:
    """What slots hold, looked up when it is needed: a file may claim more of them than there is memory."""

    def __init__(self, program: Program) -> None:
        self._parts = program.parts()
        self._inputs, self.outputs = arrays(program)
        self._written: dict[int, Named] = {}
        starts = [(self._parts.inputs[i].slot, i) for i in range(self._parts.input_count)]
        self._runs = sorted(starts)
        ends = [slot + self._parts.inputs[i].count for slot, i in self._runs]
        self._overlap = any(end > slot for end, (slot, _) in zip(ends, self._runs[1:]))  # in damaged programs

        self._zeros: list[range] = []

    def __setitem__(self, slot: int, named: Named) -> None:
        self._written[slot] = named

    def __getitem__(self, slot: int) -> Named:
        if slot in self._written:
            return self._written[slot]
        if any(slot in slots for slots in self._zeros):
            return Named(("constant", -1), "0.0")
        last = bisect.bisect_right(self._runs, (slot, 2**32)) - 1
        runs = [i for _, i in self._runs[max(0, last) : last + 1]]
        for i in reversed(range(self._parts.input_count)) if self._overlap else runs:
            run = self._parts.inputs[i]
            if run.slot <= slot < run.slot + run.count:
                return self.read(run.array, run.offset + slot - run.slot)
        return Named(("constant", slot), repr(self._parts.constants[slot]))

    def clear(self, slots: range) -> None:
        """From now on they hold 0."""
        for slot in slots if len(slots) < len(self._written) else [slot for slot in self._written if slot in slots]:
            self._written.pop(slot, None)
        self._zeros.append(slots)

    def read(self, array: int, offset: int, stride: int = 0) -> Named:
        """An element of an array that goes in."""
        return Named(("input", array, offset, stride), element(self._inputs[array], offset, stride))


def steps(program: Program) -> Iterator[Step]:
    """The instructions, in order."""
    parts = program.parts()
    table = operations()
    names = _Names(program)

    def step(number: int, group: int | None, result: str, operation: str, operands: list[Named], text: str) -> Step:
        return Step(number, group, result, operation, [x.name for x in operands], [x.source for x in operands], text)

    for s in range(parts.segment_count):
        segment = parts.segments[s]
        group = None if segment.group == 2**32 - 1 else segment.group
        sums: dict[int, Named] = {}
        for index in range(segment.first, segment.first + segment.count):
            i = parts.instructions[index]
            if i.op == lib.PGR_PROGRAM_RUN:
                continue
            result = f"%{index}"
            if i.op == lib.PGR_PROGRAM_LOAD:
                x = parts.lane_inputs[parts.group_first_input[segment.group] + i.a]
                names[i.out] = names.read(x.array, x.offset, x.stride)
                continue
            if i.op == lib.PGR_PROGRAM_STORE:
                o = parts.outputs[i.b]
                value = names[i.a]
                yield step(index, group, element(names.outputs[o.array], o.offset, o.stride), "", [value], value.name)
                continue
            if i.op == lib.PGR_PROGRAM_DOT:
                dot = parts.dots[i.b]
                terms = [] if i.a == lib.PGR_SLOT_NONE else [[names[i.a]]]
                for k in range(dot.first, dot.first + 2 * dot.count, 2):
                    terms.append([names[x] for x in (parts.args[k], parts.args[k + 1]) if x != lib.PGR_SLOT_NONE])
                operands = [factor for term in terms for factor in term]
                text = " + ".join("*".join(factor.name for factor in term) for term in terms[:SHOWN_TERMS]) or "0.0"
                if len(terms) > SHOWN_TERMS:
                    text += f" + ... {len(terms) - SHOWN_TERMS} more"
                operation = "dot"
            elif i.op in (lib.PGR_PROGRAM_LANE_SUM, lib.PGR_PROGRAM_LANE_DOT):
                operands = [names[i.a], names[i.b]] if i.op == lib.PGR_PROGRAM_LANE_DOT else [names[i.a]]
                operation, text = "lane sum", f"sum over lanes of {'*'.join(x.name for x in operands)}"
                before = sums.get(i.out)
                if before is not None:
                    operands, text = [before, *operands], f"{before.name} + {text}"
                sums[i.out] = Named(("result", index), result)
                yield step(index, group, result, operation, operands, text)
                continue
            else:
                name, symbol, kind = table[i.op]
                operands = [names[i.a]] if i.b == lib.PGR_SLOT_NONE else [names[i.a], names[i.b]]
                operation = symbol
                if kind == lib.PGR_KIND_BINARY and not symbol[0].isalpha():
                    text = f"{operands[0].name} {symbol} {operands[1].name}"
                else:
                    text = f"{name}({', '.join(x.name for x in operands)})"
            names[i.out] = Named(("result", index), result)
            yield step(index, group, result, operation, operands, text)
        if group is not None:  # sums that nothing is added to are 0
            names.clear(range(segment.first_sum, segment.first_sum + segment.sum_count))
        for slot, total in sums.items():
            names[slot] = total
    for i in range(parts.output_count):
        o = parts.outputs[i]
        if o.node != lib.PGR_SLOT_LANE:
            value = names[o.node]
            yield step(-1, None, element(names.outputs[o.array], o.offset), "", [value], value.name)


def _signature(leaves: list[Leaf]) -> str:
    return ", ".join(f"{visible(leaf.name)} {'' if leaf.shape is None else leaf.shape}".strip() for leaf in leaves)


def listing(program: Program, limit: int | None) -> str:
    """See Program.listing."""
    stats = program.stats
    lines = program.lines()
    text = [
        f"program of {stats.instructions} instructions, from {stats.nodes} nodes",
        f"arguments: {_signature(program.arguments) or 'none'}",
        f"results: {_signature(program.results) or 'none'}",
        f"workspace: {stats.uniform_slots} numbers, and {stats.lane_slots} for each lane "
        f"({8 * stats.lane_slots} bytes a lane), {stats.block} lanes at a time"
        if stats.block
        else f"workspace: {stats.uniform_slots} numbers",
    ]
    parts = program.parts()
    group: int | None = -1
    last = ""
    for shown, step in enumerate(steps(program)):
        if limit is not None and shown >= limit:
            text.append(f"... more than {limit} lines: program.listing() has all of them")
            break
        if step.group != group:
            group = step.group
            text.append("once:" if group is None else f"for each of {parts.group_lanes[group]} lanes:")
        line = f"  {step.result} = {step.text}"
        where = "" if lines is None or step.number < 0 else lines[step.number]
        if where != last and where:
            file, _, number = where.rpartition(":")
            line = f"{line:<50}  # {Path(file).name}:{number}: {linecache.getline(file, int(number)).strip()}"
        last = where or last
        text.append(visible(line))
    return "\n".join(text)
