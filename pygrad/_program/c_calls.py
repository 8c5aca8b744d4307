"""C source of calls: loops and switches over the functions of the programs that are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pygrad._pgr import lib
from pygrad._program.inner import Inner, inner_of

# Of a call's number of steps, or of a branch.
STEPS = """static unsigned long long op_up_to(double x, unsigned long long most)
{
    return !(x > 0.0) ? 0 : x >= (double)most ? most : (unsigned long long)x;
}"""


class Inside:
    """How C writes the elements of a called program's arrays. is_lane: its function is for a single lane, whose numbers
    are all in `in`, and its results in `out`.
    """

    def __init__(self, is_lane: bool) -> None:
        self.is_lane = is_lane

    def read(self, array: int, offset: int, lane: str = "") -> str:
        """An element of the numbers that it is given, or of the caller's memory."""
        if array == 0 or self.is_lane:
            return f"in[{offset if array == 0 else array - 1}{lane}]"
        return f"memory[{array - 1}][{offset}{lane}]"

    def address(self, array: int, offset: int) -> str:
        """Where numbers of an array begin."""
        return f"{'in' if array == 0 else f'memory[{array - 1}]'} + {offset}"

    def write(self, array: int, offset: int, lane: str = "") -> str:
        """An element of its results."""
        return f"out[{array - 1 if self.is_lane else offset}{lane}]"


def register(reg: int) -> str:
    """A register as C writes it."""
    return f"v[{reg - lib.PGR_REGISTER_LANE}]" if reg >= lib.PGR_REGISTER_LANE else f"u[{reg}]"


def called_by(parts: Any) -> list[Inner]:
    """The programs that these parts call, each once, after those that it calls itself."""
    found: dict[Inner, bool] = {}

    def visit(each: Any) -> None:
        for s in range(each.segment_count):
            segment = each.segments[s]
            for i in range(segment.first, segment.first + segment.count):
                if each.instructions[i].op != lib.PGR_PROGRAM_CALL:
                    continue
                call = each.calls[each.instructions[i].a]
                for k in range(call.program_count):
                    inner = inner_of(each, call, k, segment.group != 2**32 - 1)
                    if inner not in found:
                        visit(inner.parts())
                        found[inner] = True

    visit(parts)
    return list(found)


def call_source(parts: Any, i: Any, places: Any, names: dict[Inner, str], lanes: bool) -> Iterator[str]:
    """The lines of a call, in a block of their own."""
    call = parts.calls[i.a]
    functions = [names[inner_of(parts, call, k, lanes)] for k in range(call.program_count)]
    operands, results = (lambda k: parts.args[i.b + k]), (lambda k: parts.args[i.out + k])
    is_switch = bool(call.flags & lib.PGR_CALL_SWITCH)
    lines = _switch(call, functions, operands, results) if is_switch else _loop(call, functions, operands, results)
    moved = [
        f"from[{j}] = {places.address(m.array, m.offset)}{f' + t * {m.stride}' if m.stride and call.steps > 1 else ''};"
        for j, m in enumerate(parts.memory[call.first_memory + j] for j in range(call.memory_count))
    ]
    yield "{"
    given = call.const_count + (0 if is_switch else call.carry_count + call.x_count)
    yield f"    double given[{max(1, given)}] = {{0.0}}, made[{max(1, call.carry_count + call.y_count)}] = {{0.0}};"
    if moved:
        yield f"    const double *from[{len(moved)}];"
    for line in lines:
        if line.strip() == "MEMORY":
            yield from (line.replace("MEMORY", f"    {move}") for move in moved)
        else:
            yield f"    {line.replace('FROM', 'from' if moved else '0')}"
    yield "}"


def _switch(call: Any, functions: list[str], operands: Any, results: Any) -> Iterator[str]:
    for k in range(call.const_count):
        yield f"given[{k}] = {register(operands(1 + k))};"
    yield "MEMORY"
    yield f"switch (op_up_to({register(operands(0))}, {call.program_count - 1})) {{"
    for k, function in enumerate(functions):
        yield f"{'default' if k == call.program_count - 1 else f'case {k}'}: {function}(given, FROM, made); break;"
    yield "}"
    yield from _written(range(call.carry_count), results, "made", 0)


def _written(places: range, results: Any, array: str, first: int) -> Iterator[str]:
    for k in places:
        if results(k) != lib.PGR_REGISTER_NONE:
            yield f"{register(results(k))} = {array}[{first + k}];"


def _table(name: str, registers: list[int]) -> str:
    """Registers by step: those of lanes are negative; the one that does not exist stands for nowhere."""
    first_lane = lib.PGR_REGISTER_LANE
    numbers = ", ".join(str(first_lane - 1 - reg if reg >= first_lane else reg) for reg in registers)
    return f"static const long {name}[] = {{{numbers}}};"


def _element(table: str, registers: list[int]) -> str:
    """The register that an element of a table names."""
    kinds = {reg >= lib.PGR_REGISTER_LANE for reg in registers if reg != lib.PGR_REGISTER_NONE}
    if kinds == {True, False}:
        return f"*({table} < 0 ? &v[-1 - {table}] : &u[{table}])"
    return f"v[-1 - {table}]" if kinds == {True} else f"u[{table}]"


def _loop(call: Any, functions: list[str], operands: Any, results: Any) -> Iterator[str]:
    state = call.const_count + call.carry_count
    is_tested, is_counted = bool(call.flags & lib.PGR_CALL_TESTED), bool(call.flags & lib.PGR_CALL_COUNTED)
    xs = [operands(state + is_counted + k) for k in range(call.steps * call.x_count if call.x_count else 0)]
    first_y = call.carry_count + is_tested
    ys = [results(first_y + k) for k in range(call.steps * call.y_count if call.y_count else 0)]
    has_ys = any(reg != lib.PGR_REGISTER_NONE for reg in ys)
    steps = f"op_up_to({register(operands(state))}, {call.steps}ULL)" if is_counted else f"{call.steps}ULL"
    for k in range(state):
        yield f"given[{k}] = {register(operands(k))};"
    if xs:
        yield _table("x", xs)
    if has_ys:
        yield _table("y", ys)
    yield f"unsigned long long taken = 0, steps = {steps};"
    if has_ys and (is_tested or is_counted):
        yield from (f"{register(reg)} = 0.0;" for reg in ys if reg != lib.PGR_REGISTER_NONE)
    yield "for (; taken < steps; taken++) {"
    yield from (f"    {line}" for line in _step(call, functions, xs, ys if has_ys else []))
    yield "}"
    yield from _written(range(call.carry_count), results, "given", call.const_count)
    if is_tested and results(call.carry_count) != lib.PGR_REGISTER_NONE:
        yield f"{register(results(call.carry_count))} = (double)taken;"


def _step(call: Any, functions: list[str], xs: list[int], ys: list[int]) -> Iterator[str]:
    state = call.const_count + call.carry_count
    if xs or ys or call.memory_count:
        yield f"unsigned long long t = {'steps - 1 - taken' if call.flags & lib.PGR_CALL_REVERSED else 'taken'};"
        yield "(void)t;"
    yield "MEMORY"
    if call.flags & lib.PGR_CALL_TESTED:
        yield "double goes_on = 0.0;"
        yield f"{functions[1]}(given, FROM, &goes_on);"
        yield "if (goes_on == 0.0) break;"
    for k in range(call.x_count):
        yield f"given[{state + k}] = {_element(f'x[t * {call.x_count} + {k}]', xs)};"
    yield f"{functions[0]}(given, FROM, made);"
    for k in range(call.carry_count):
        yield f"given[{call.const_count + k}] = made[{k}];"
    for k in range(call.y_count if ys else 0):
        at = f"y[t * {call.y_count} + {k}]"
        if lib.PGR_REGISTER_NONE not in ys:
            yield f"{_element(at, ys)} = made[{call.carry_count + k}];"
        elif any(reg != lib.PGR_REGISTER_NONE for reg in ys[k :: call.y_count]):
            yield f"if ({at} != {lib.PGR_REGISTER_NONE}) {_element(at, ys)} = made[{call.carry_count + k}];"
