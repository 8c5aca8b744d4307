"""Listings: a program's instructions with names instead of registers, as text and for drawings."""

from __future__ import annotations

import bisect
import linecache
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

from pygrad._core.ops import TABLE
from pygrad._core.text import visible
from pygrad._pgr import lib
from pygrad._program.code import Code, Leaf
from pygrad._program.inner import Inner, inner_of, operand_counts, result_count

SHOWN_TERMS = 4  # products of a dot
SHOWN_OPERANDS = 8  # of a call, of each kind


class Step(NamedTuple):
    """One instruction: `result` = `operation` of `operands`, names of arguments, numbers and earlier results."""

    number: int  # of the instruction in its program
    group: int | None  # of lanes; None: it runs once
    result: str
    operation: str
    operands: list[str]
    sources: list[tuple[Any, ...]]  # of operands: ("result", number), or a key that separates equal names
    text: str  # as an expression
    is_call: bool = False


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
    """The contents of registers, created on demand: a file may claim more registers than fit in memory.

    read, write: how elements of the input arrays, and of the results, are called; number: of an inner program.
    """

    def __init__(
        self, parts: Any, read: Callable[..., str], write: Callable[..., str], number: Callable[..., int]
    ) -> None:
        self._parts = parts
        self._read, self.write, self.number = read, write, number
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
        return Named(("input", array, offset, stride), self._read(array, offset, stride))


class _Numbers(dict[Inner, int]):
    """The programs that are called, by their numbers, from 1 on in the order in which calls name them."""

    def __missing__(self, inner: Inner) -> int:
        self[inner] = len(self) + 1
        return self[inner]


def steps(code: Code, numbers: dict[Inner, int] | None = None) -> Iterator[Step]:
    """The instructions, in order. numbers: gets the programs that are called."""
    inputs, outputs = code.arrays()
    read = lambda array, offset, stride=0: element(inputs[array], offset, stride)  # noqa: E731
    write = lambda array, offset, stride=0: element(outputs[array], offset, stride)  # noqa: E731
    number = (_Numbers() if numbers is None else numbers).__getitem__
    return _steps(code.parts(), _Names(code.parts(), read, write, number))


def _steps(parts: Any, names: _Names) -> Iterator[Step]:
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
        if i.op == lib.PGR_PROGRAM_CALL:
            yield _call(parts, names, i, index, group)
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
    place = names.write(output.array, output.offset, output.stride if number >= 0 else 0)
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


# ---- Calls ------------------------------------------------------------------------------------------


def kind_of(call: Any) -> str:
    """A call in words."""
    if call.flags & lib.PGR_CALL_SWITCH:
        return f"one of {call.program_count} branches"
    steps = f"{call.steps} step{'s' * (call.steps != 1)}"
    if call.flags & lib.PGR_CALL_TESTED:
        return "loop with a test" if call.steps == 2**64 - 1 else f"loop with a test, of at most {steps}"
    if call.flags & lib.PGR_CALL_COUNTED:
        steps = f"at most {steps}"
    return f"loop of {steps}{', backwards' if call.flags & lib.PGR_CALL_REVERSED else ''}"


def _call(parts: Any, names: _Names, i: Any, index: int, group: int | None) -> Step:
    """A call, whose results become the names of registers: %12, or %12.0, %12.1, .. if there are several."""
    call = parts.calls[i.a]
    inner = [inner_of(parts, call, k, group is not None) for k in range(call.program_count)]
    numbers = [str(names.number(one)) for one in inner]
    kinds, results = operand_counts(call), result_count(call)
    at, texts, operands = i.b, [], []
    for what, count in kinds:
        given = [names[parts.args[at + k]] for k in range(count)]
        operands += given
        at += count
        if count and what:
            texts.append(f"{what} {_shortened([x.name for x in given])}")
    for j in range(call.memory_count):
        m = parts.memory[call.first_memory + j]
        begin = f"{names.read(m.array, m.offset).name} on"
        operands.append(Named(("memory", m.array, m.offset), begin))
        texts.append(f"memory{j} {begin}" + f", {m.stride} further at each step" * (m.stride > 0 and call.steps > 1))
    kind = kind_of(call)
    if call.flags & lib.PGR_CALL_SWITCH:
        text = f"one of programs {', '.join(numbers)} by {operands[0].name}"
    elif call.flags & lib.PGR_CALL_TESTED:
        text = f"{kind}, over program {numbers[0]} while program {numbers[1]}"
    else:
        count = call.const_count + call.carry_count  # the place of the number of steps
        counted = f" ({operands[count].name})" if call.flags & lib.PGR_CALL_COUNTED else ""
        text = f"{kind}{counted}, over program {numbers[0]}"
    used = [k for k in range(results) if parts.args[i.out + k] != lib.PGR_REGISTER_NONE]
    made = [f"%{index}" if results == 1 else f"%{index}.{k}" for k in used]
    for k, name in zip(used, made):
        names[parts.args[i.out + k]] = Named(("result", index), name)
    step = _step(
        index, group, _shortened(made) or "nothing", kind, operands, f"{text}: {'; '.join(texts)}".rstrip(": ")
    )
    return step._replace(is_call=True)


def _shortened(names: list[str]) -> str:
    if len(names) <= SHOWN_OPERANDS:
        return ", ".join(names)
    return f"{', '.join(names[: SHOWN_OPERANDS - 1])}, ... {len(names) - SHOWN_OPERANDS} more, {names[-1]}"


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
    for shown, line in enumerate(_lines(code, lines)):
        if limit is not None and shown >= limit:
            text.append(f"... more than {limit} lines: program.listing() has all of them")
            break
        text += line
    return "\n".join(text)


def _lines(code: Code, lines: list[str] | None) -> Iterator[list[str]]:
    """A line for each instruction, with the titles before it: of the program, then of those that it calls."""
    numbers = _Numbers()
    yield from _with_titles(code.parts(), steps(code, numbers), lines, False)
    done = 0
    while done < len(numbers):  # their instructions may add to it
        inner = list(numbers)[done]
        done += 1
        parts = inner.parts()
        stats = f"{parts.instruction_count} instruction{'s' * (parts.instruction_count != 1)}"
        found = _steps(parts, _Names(parts, inner.read, inner.write, numbers.__getitem__))
        title = ["", f"program {done}, {inner.role}: {stats}"]
        for line in _with_titles(parts, found, None, inner.lanes):
            yield [*title, *line]
            title = []


def _with_titles(parts: Any, found: Iterator[Step], lines: list[str] | None, is_of_lane: bool) -> Iterator[list[str]]:
    """is_of_lane: its lanes are those of the program that calls it."""
    group: int | None = -1
    last = ""
    for step in found:
        text = []
        if step.group != group:
            group = step.group
            lanes = "the lanes" if is_of_lane or group is None else f"{parts.group_lanes[group]} lanes"
            text.append("once:" if group is None else f"for each of {lanes}:")
        line = f"  {step.result} = {step.text}"
        where = "" if lines is None or step.number < 0 else lines[step.number]
        if where != last and where:
            file, _, number = where.rpartition(":")
            line = f"{line:<50}  # {Path(file).name}:{number}: {linecache.getline(file, int(number)).strip()}"
        last = where or last
        yield [*text, visible(line)]
