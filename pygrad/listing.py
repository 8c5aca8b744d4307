"""Listings: a program's instructions with names instead of slots, as text and for drawings."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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
    text: str  # as an expression


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
    return visible(leaves[offset].name) if leaves and leaves[0].shape is None else place(leaves[0], offset, stride)


def steps(program: Program) -> Iterator[Step]:
    """The instructions, in order."""
    parts = program.parts()
    table = operations()
    inputs, outputs = arrays(program)
    names: dict[int, str] = {i: repr(parts.constants[i]) for i in range(parts.constant_count)}  # of what slots hold
    for i in range(parts.input_count):
        given = parts.inputs[i]
        for k in range(given.count):
            names[given.slot + k] = element(inputs[given.array], given.offset + k)
    for s in range(parts.segment_count):
        segment = parts.segments[s]
        group = None if segment.group == 2**32 - 1 else segment.group
        for index in range(segment.first, segment.first + segment.count):
            i = parts.instructions[index]
            if i.op == lib.PGR_PROGRAM_RUN:
                continue
            result = f"%{index}"
            operands = [names[x] for x in (i.a, i.b) if x in names]
            if i.op == lib.PGR_PROGRAM_LOAD:
                x = parts.lane_inputs[parts.group_first_input[segment.group] + i.a]
                names[i.out] = element(inputs[x.array], x.offset, x.stride)
                continue
            if i.op == lib.PGR_PROGRAM_STORE:
                o = parts.outputs[i.b]
                yield Step(index, group, element(outputs[o.array], o.offset, o.stride), "", [names[i.a]], names[i.a])
                continue
            if i.op == lib.PGR_PROGRAM_DOT:
                dot = parts.dots[i.b]
                terms: list[tuple[str, ...]] = [] if i.a == lib.PGR_SLOT_NONE else [(names[i.a],)]
                for k in range(dot.first, dot.first + 2 * dot.count, 2):
                    pair = (parts.args[k], parts.args[k + 1])
                    terms.append(tuple([names[x] for x in pair if x != lib.PGR_SLOT_NONE]))
                operands = [name for term in terms for name in term]
                text = " + ".join("*".join(term) for term in terms[:SHOWN_TERMS])
                if len(terms) > SHOWN_TERMS:
                    text += f" + ... {len(terms) - SHOWN_TERMS} more"
                operation = "dot"
            elif i.op in (lib.PGR_PROGRAM_LANE_SUM, lib.PGR_PROGRAM_LANE_DOT):
                if i.op == lib.PGR_PROGRAM_LANE_SUM:
                    operands = operands[:1]
                operation, text = "lane sum", f"sum over lanes of {'*'.join(operands)}"
            else:
                name, symbol, kind = table[i.op]
                operation = symbol
                if kind == lib.PGR_KIND_BINARY and not symbol[0].isalpha():
                    text = f"{operands[0]} {symbol} {operands[1]}"
                else:
                    text = f"{name}({', '.join(operands)})"
            names[i.out] = result
            yield Step(index, group, result, operation, operands, text)
    for i in range(parts.output_count):
        o = parts.outputs[i]
        if o.node != lib.PGR_SLOT_LANE:
            yield Step(-1, None, element(outputs[o.array], o.offset), "", [names[o.node]], names[o.node])


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
