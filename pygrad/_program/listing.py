"""Listings: a program's instructions with names instead of registers, as text and for drawings."""

from __future__ import annotations

import bisect
import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pygrad._core.ops import TABLE
from pygrad._core.text import visible
from pygrad._pgr import lib
from pygrad._program.code import Code, Leaf

SHOWN_TERMS = 4  # products of a dot


class Step(NamedTuple):
    """One instruction: `result` = `operation` of `operands`, names of arguments, numbers and earlier results."""

    number: int  # of the instruction in its program
    group: int | None  # of lanes; None: it runs once
    result: str
    operation: str
    operands: list[str]
    sources: list[tuple[Any, ...]]  # of operands: ("result", number), or a key that separates equal names
    text: str  # as an expression


class Named(NamedTuple):
    """The content of a register."""

    source: tuple[Any, ...]
    name: str


def place(leaf: Leaf, offset: int, stride: int = 0) -> str:
    """An element of an argument or a result, as Python source; `stride` is between lanes."""
    if leaf.shape is None:
        return visible(leaf.name)
    indices, rest = [], offset
    width = leaf.size
    for length in leaf.shape:
        width //= max(1, length)
        indices.append("lane" if stride == width and length > 1 else str(rest // max(1, width)))
        rest %= max(1, width)
    return f"{visible(leaf.name)}[{', '.join(indices)}]"


def element(leaves: list[Leaf], offset: int, stride: int = 0) -> str:
    """An element of the array that holds these leaves."""
    if leaves and leaves[0].shape is None and stride:  # only in a damaged program
        return f"scalars[{offset} + {stride}*lane]"
    return visible(leaves[offset].name) if leaves and leaves[0].shape is None else place(leaves[0], offset, stride)


class _Names:
    """The contents of registers, created on demand: a file may claim more registers than fit in memory."""

    def __init__(self, code: Code) -> None:
        self._parts = code.parts()
        self._inputs, self.outputs = code.arrays()
        self._written: dict[int, Named] = {}
        starts = [(self._parts.inputs[i].reg, i) for i in range(self._parts.input_count)]
        self._runs = sorted(starts)
        ends = [reg + self._parts.inputs[i].count for reg, i in self._runs]
        self._overlap = any(end > reg for end, (reg, _) in zip(ends, self._runs[1:]))  # only in damaged programs

        self._zeros: list[range] = []

    def __setitem__(self, reg: int, named: Named) -> None:
        self._written[reg] = named

    def __getitem__(self, reg: int) -> Named:
        if reg in self._written:
            return self._written[reg]
        if any(reg in span for span in self._zeros):
            return Named(("constant", -1), "0.0")
        last = bisect.bisect_right(self._runs, (reg, 2**32)) - 1
        runs = [i for _, i in self._runs[max(0, last) : last + 1]]
        for i in reversed(range(self._parts.input_count)) if self._overlap else runs:
            run = self._parts.inputs[i]
            if run.reg <= reg < run.reg + run.count:
                return self.read(run.array, run.offset + reg - run.reg)
        return Named(("constant", reg), repr(self._parts.constants[reg]))

    def clear(self, span: range) -> None:
        """Set these registers to 0."""
        for reg in span if len(span) < len(self._written) else [reg for reg in self._written if reg in span]:
            self._written.pop(reg, None)
        self._zeros.append(span)

    def read(self, array: int, offset: int, stride: int = 0) -> Named:
        """An element of an input array."""
        return Named(("input", array, offset, stride), element(self._inputs[array], offset, stride))


def steps(code: Code) -> Iterator[Step]:
    """The instructions, in order."""
    parts = code.parts()
    names = _Names(code)
    for s in range(parts.segment_count):
        yield from _segment(parts, names, parts.segments[s])
    for i in range(parts.output_count):
        o = parts.outputs[i]
        if o.node != lib.PGR_REGISTER_LANE:
            yield _result(names, o, names[o.node], -1, None)


def _segment(parts: Any, names: _Names, segment: Any) -> Iterator[Step]:
    group = None if segment.group == 2**32 - 1 else segment.group
    sums: dict[int, Named] = {}
    for index in range(segment.first, segment.first + segment.count):
        i = parts.instructions[index]
        if i.op == lib.PGR_PROGRAM_RUN:
            continue
        if i.op == lib.PGR_PROGRAM_LOAD:
            x = parts.lane_inputs[parts.group_first_input[segment.group] + i.a]
            names[i.out] = names.read(x.array, x.offset, x.stride)
            continue
        if i.op == lib.PGR_PROGRAM_STORE:
            yield _result(names, parts.outputs[i.b], names[i.a], index, group)
            continue
        made = Named(("result", index), f"%{index}")
        if i.op in (lib.PGR_PROGRAM_LANE_SUM, lib.PGR_PROGRAM_LANE_DOT):
            what = _lane_sum(names, i, sums.get(i.out))
            sums[i.out] = made
        else:
            what = _dot(parts, names, i) if i.op == lib.PGR_PROGRAM_DOT else _operation(names, i)
            names[i.out] = made
        yield _step(index, group, made.name, *what)
    if group is not None:  # sums start from 0
        names.clear(range(segment.first_sum, segment.first_sum + segment.sum_count))
    for reg, total in sums.items():
        names[reg] = total


def _step(number: int, group: int | None, result: str, operation: str, operands: list[Named], text: str) -> Step:
    return Step(number, group, result, operation, [x.name for x in operands], [x.source for x in operands], text)


def _result(names: _Names, output: Any, value: Named, number: int, group: int | None) -> Step:
    """The step that writes a result."""
    place = element(names.outputs[output.array], output.offset, output.stride if number >= 0 else 0)
    return _step(number, group, place, "", [value], value.name)


def _lane_sum(names: _Names, i: Any, before: Named | None) -> tuple[str, list[Named], str]:
    """A sum over lanes: operation, operands, text; `before` is the sum so far."""
    operands = [names[i.a], names[i.b]] if i.op == lib.PGR_PROGRAM_LANE_DOT else [names[i.a]]
    text = f"sum over lanes of {'*'.join(x.name for x in operands)}"
    if before is not None:
        operands, text = [before, *operands], f"{before.name} + {text}"
    return "lane sum", operands, text


def _dot(parts: Any, names: _Names, i: Any) -> tuple[str, list[Named], str]:
    """A sum of products: operation, operands, text."""
    dot = parts.dots[i.b]
    terms = [] if i.a == lib.PGR_REGISTER_NONE else [[names[i.a]]]
    for k in range(dot.first, dot.first + 2 * dot.count, 2):
        terms.append([names[x] for x in (parts.args[k], parts.args[k + 1]) if x != lib.PGR_REGISTER_NONE])
    text = " + ".join("*".join(factor.name for factor in term) for term in terms[:SHOWN_TERMS]) or "0.0"
    if len(terms) > SHOWN_TERMS:
        text += f" + ... {len(terms) - SHOWN_TERMS} more"
    return "dot", [factor for term in terms for factor in term], text


def _operation(names: _Names, i: Any) -> tuple[str, list[Named], str]:
    """A row of the table: operation, operands, text."""
    row = TABLE[i.op]
    operands = [names[i.a]] if i.b == lib.PGR_REGISTER_NONE else [names[i.a], names[i.b]]
    if row.is_binary and row.is_infix:
        return row.symbol, operands, f"{operands[0].name} {row.symbol} {operands[1].name}"
    return row.symbol, operands, f"{row.name}({', '.join(x.name for x in operands)})"


def _signature(leaves: list[Leaf]) -> str:
    return ", ".join(f"{visible(leaf.name)} {'' if leaf.shape is None else leaf.shape}".strip() for leaf in leaves)


def listing(code: Code, lines: list[str] | None, limit: int | None) -> str:
    """See Program.listing."""
    stats = code.stats
    text = [
        f"program of {stats.instructions} instructions, from {stats.nodes} nodes",
        f"arguments: {_signature(code.arguments) or 'none'}",
        f"results: {_signature(code.results) or 'none'}",
        f"workspace: {stats.uniform_registers} numbers, and {stats.lane_registers} for each lane "
        f"({8 * stats.lane_registers} bytes a lane), {stats.block} lanes at a time"
        if stats.block
        else f"workspace: {stats.uniform_registers} numbers",
    ]
    parts = code.parts()
    group: int | None = -1
    last = ""
    for shown, step in enumerate(steps(code)):
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
