"""C source of programs: one C99 file that needs only libm."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pygrad._core.ops import OPERATIONS, SPECIAL, TABLE
from pygrad._pgr import lib
from pygrad._program.c_calls import STEPS, Inside, call_source, called_by, register
from pygrad._program.code import Code, Leaf
from pygrad._program.inner import Inner

SIMD = "#pragma omp simd"
# Of compilers that don't know the above without a flag.
NO_WARNING = """
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunknown-pragmas"
#endif"""
MOST_LINES = 64  # one per number of an array; longer arrays become a loop
_KEYWORDS = """auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main"""
# Names of <math.h>: of functions for double, which have relatives with f and l at their end; of POSIX, and macros.
_MATH = """acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim floor
fma fmax fmin fmod frexp hypot ilogb ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nan
nearbyint nextafter nexttoward pow remainder remquo rint round scalbln scalbn sin sinh sqrt tan tanh tgamma trunc"""
_OTHERS = """drem finite gamma isinf isnan isfinite isnormal isgreater isless isunordered fpclassify signbit significand
j0 j1 jn y0 y1 yn scalb exp10 pow10 sincos signgam float_t double_t math_errhandling NAN INFINITY HUGE_VAL"""
_TAKEN = {*_KEYWORDS.split(), *_OTHERS.split(), *(name + end for name in _MATH.split() for end in ("", "f", "l"))}


def number(x: float) -> str:
    """A float64 as C writes it, to the last bit."""
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    return repr(x)


def to_c(code: Code, name: str) -> str:
    """See Program.to_c."""
    if not re.fullmatch(r"(?!_[A-Z_]|op_)[A-Za-z_][A-Za-z0-9_]*", name) or name in _TAKEN:
        rule = "letters, digits and _ only, no keyword, no name of <math.h>, no op_ at the start"
        raise ValueError(f"{name!r} cannot be the name of a C function: {rule}")
    inputs, _ = code.arrays()
    in_start, in_table = _layout(code.arguments, "in")
    out_start, out_table = _layout(code.results, "out")
    for array in range(len(in_start), len(inputs)):  # constants are written in the file; Values from outside come last
        in_start.append([-1] if inputs[array] and inputs[array][0].shape is not None else [])
    outside = inputs[-1]
    in_size = sum(_size(leaf) for leaf in code.arguments)
    for i, leaf in enumerate(outside):
        in_start[-1].append(in_size + i)
        in_table.append(f"in[{in_size + i}]  {leaf.name}, a Value from outside")
    parts = code.parts()
    inner = called_by(parts)
    everything = [parts, *[one.parts() for one in inner]]
    ops = {each.instructions[i].op for each in everything for i in range(each.instruction_count)}
    used = sorted(ops & {row.op for row in OPERATIONS})
    names = {one: f"{name}_program{i}" for i, one in enumerate(inner, 1)}
    body = "\n".join(f"    {line}" for line in _body(parts, _Places(code, in_start, out_start), names))
    table = "\n".join(f" *   {_in_comment(line)}" for line in [*in_table, *out_table])
    functions = "\n".join(
        [*_special(" ".join(TABLE[op].c for op in used)), *map(_function, used), *[STEPS] * _chooses(everything)]
    )
    arrays = [(i, array) for i, array in enumerate(code.constants) if array.size and f"constant{i}[" in body]
    constants = "\n".join(_constant(i, array) for i, array in arrays)
    programs = "".join(_program(one, names) for one in inner)
    return f"""/* Written by pygrad from a recorded function. C99 and libm.
 *
 * void {name}(const double *in, double *out)
 *
{table} */
#include <math.h>{NO_WARNING if SIMD in body else ""}

{functions}
{constants}
{programs}void {name}(const double *in, double *out);

void {name}(const double *in, double *out)
{{
    double u[{max(1, parts.uniform_registers)}];
    (void)u;
    (void)in;
{body}
}}
"""


def _chooses(programs: list[Any]) -> bool:
    """Whether a call takes a number of steps, or of a branch."""
    flags = lib.PGR_CALL_SWITCH | lib.PGR_CALL_COUNTED
    called = [
        each.calls[each.instructions[i].a]
        for each in programs
        for i in range(each.instruction_count)
        if each.instructions[i].op == lib.PGR_PROGRAM_CALL
    ]
    return any(call.flags & flags for call in called)


def _program(inner: Inner, names: dict[Inner, str]) -> str:
    """A program that others call, as a function."""
    parts = inner.parts()
    body = "\n".join(f"    {line}" for line in _body(parts, Inside(inner.lanes), names))
    return f"""
static void {names[inner]}(const double *in, const double *const *memory, double *out)
{{
    double u[{max(1, parts.uniform_registers)}];
    (void)u;
    (void)in;
    (void)memory;
{body}
}}
"""


def _in_comment(text: str) -> str:
    """Names are arbitrary text: remove everything that could end a comment or its line."""
    plain = "".join(c if c.isprintable() and c != "\\" else " " for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def _size(leaf: Leaf) -> int:
    return 1 if leaf.shape is None else leaf.size


def _layout(leaves: list[Leaf], side: str) -> tuple[list[list[int]], list[str]]:
    """Places in the flat array: of each scalar, and of each array's first element; and lines that describe them."""
    starts: list[list[int]] = [[]]
    text = []
    at = 0
    for leaf in leaves:
        if leaf.shape is None:
            starts[0].append(at)
            text.append(f"{side}[{at}]  {leaf.name}")
        else:
            starts.append([at])
            shape = "x".join(map(str, leaf.shape))
            text.append(f"{side}[{at} .. {at + leaf.size - 1}]  {leaf.name}, {shape}, row by row")
        at += _size(leaf)
    return starts, text


def _function(op: int) -> str:
    """The operation as a C function."""
    row = TABLE[op]
    second = ", double b" if row.is_binary or row.has_param else ""
    return f"static double op_{row.name}(double a{second}) {{ return {row.c}; }}"


def _special(code: str) -> list[str]:
    """The functions beside libm that this C calls, in order."""
    found: list[str] = []
    for text in reversed(SPECIAL):
        name = text.partition("(")[0].split()[-1]
        if f"{name}(" in code:
            found.insert(0, text)
            code += text.partition("{")[2]
    return found


def _constant(i: int, array: Any) -> str:
    numbers = ", ".join(map(number, array.ravel().tolist()))
    return f"static const double constant{i}[] = {{{numbers}}};"


class _Places:
    """How C writes the elements of the program's arrays, in the two flat ones that its function takes."""

    is_lane = False

    def __init__(self, code: Code, in_start: list[list[int]], out_start: list[list[int]]) -> None:
        self._in_start, self._out_start = in_start, out_start
        self._first_constant = 1 + sum(leaf.shape is not None for leaf in code.arguments)
        self._constants = range(self._first_constant, self._first_constant + len(code.constants))

    def read(self, array: int, offset: int, lane: str = "") -> str:
        """An element of an argument, of a constant array or of the Values from outside."""
        if array in self._constants:
            return f"constant{array - self._first_constant}[{offset}{lane}]"
        starts = self._in_start[array]
        many = 0 < array < self._first_constant
        return f"in[{starts[0] + offset if many else starts[offset]}{lane}]"

    def address(self, array: int, offset: int) -> str:
        """Where numbers of an array begin."""
        if array == 0:
            raise ValueError("the program cannot be written as C: it goes through its scalars as if they were an array")
        return f"&{self.read(array, offset)}"

    def write(self, array: int, offset: int, lane: str = "") -> str:
        """An element of a result."""
        return f"out[{self._out_start[array][0] + offset if array > 0 else self._out_start[0][offset]}{lane}]"


def _lane(places: Any, array: int, stride: int) -> str:
    if places.is_lane:
        return ""
    if array == 0 and stride and isinstance(places, _Places):  # only in a damaged program: scalars are not adjacent
        raise ValueError("the program cannot be written as C: it goes through its scalars as if they were an array")
    return f" + lane * {stride}"


def _body(parts: Any, places: Any, names: dict[Inner, str]) -> Iterator[str]:
    """places: a _Places, or Inside; names: of the functions of the programs that are called."""
    for i in range(parts.constant_count):
        yield f"u[{i}] = {number(parts.constants[i])};"
    for i in range(parts.input_count):
        yield from _input(places, parts.inputs[i])
    for s in range(parts.segment_count):
        segment = parts.segments[s]
        instructions = [parts.instructions[i] for i in range(segment.first, segment.first + segment.count)]
        if segment.group != 2**32 - 1:
            lines = [*_lanes(parts, places, segment, instructions, names)]
            yield from _one_lane(lines) if places.is_lane else lines
            continue
        for i in instructions:
            if i.op == lib.PGR_PROGRAM_CALL:
                yield from call_source(parts, i, places, names, False)
            elif i.op != lib.PGR_PROGRAM_RUN:
                yield f"{register(i.out)} = {_expression(parts, i)};"
    for i in range(parts.output_count):
        o = parts.outputs[i]
        if o.node != lib.PGR_REGISTER_LANE:
            yield f"{places.write(o.array, o.offset)} = {register(o.node)};"


def _one_lane(lines: list[str]) -> list[str]:
    """A block in place of the loop over lanes: of a program for a single one."""
    at = next(i for i, line in enumerate(lines) if line.startswith("for (long lane"))
    return [*lines[:at], "{", *lines[at + 1 :]]


def _input(places: Any, given: Any) -> Iterator[str]:
    """Read adjacent numbers of an argument into registers."""
    if given.array > 0 and given.count > MOST_LINES:
        first = places.read(given.array, given.offset, " + i")
        yield f"for (long i = 0; i < {given.count}; i++) u[{given.reg} + i] = {first};"
        return
    for k in range(given.count):
        yield f"u[{given.reg + k}] = {places.read(given.array, given.offset + k)};"


def _lanes(parts: Any, places: Any, segment: Any, instructions: list[Any], names: dict[Inner, str]) -> Iterator[str]:
    """A loop over the lanes of a group; one that compilers vectorise, if it calls no program."""
    sums = range(segment.first_sum, segment.first_sum + segment.sum_count)
    calls = any(i.op == lib.PGR_PROGRAM_CALL for i in instructions)
    is_simd = not (calls or places.is_lane or len(sums) > MOST_LINES)
    if len(sums) > MOST_LINES:
        yield f"for (long i = 0; i < {len(sums)}; i++) u[{segment.first_sum} + i] = 0.0;"
    elif is_simd:
        yield from (f"double sum{k} = 0.0;" for k in sums)
        yield SIMD + (f" reduction(+ : {', '.join(f'sum{k}' for k in sums)})" if sums else "")
    else:
        yield from (f"u[{k}] = 0.0;" for k in sums)
    yield f"for (long lane = 0; lane < {parts.group_lanes[segment.group]}; lane++) {{"
    lines = [*_lane_lines(parts, places, segment, instructions, names)]
    if is_simd:
        lines = [_scalars(line, sums) for line in lines]
        used = sorted({int(k) for line in lines for k in re.findall(r"\bv(\d+)\b", line)})
        if used:
            yield f"    double {', '.join(f'v{k}' for k in used)};"
    else:
        yield f"    double v[{max(1, parts.lane_registers)}];"
    yield from (f"    {line}" for line in lines)
    yield "}"
    if is_simd:
        yield from (f"u[{k}] = sum{k};" for k in sums)


def _scalars(line: str, sums: range) -> str:
    """A line of a loop with a variable for each register: not all compilers take arrays apart."""
    line = re.sub(r"\bv\[(\d+)\]", r"v\1", line)
    return re.sub(r"\bu\[(\d+)\]", lambda u: f"sum{u[1]}" if int(u[1]) in sums else u[0], line)


def _lane_lines(
    parts: Any, places: Any, segment: Any, instructions: list[Any], names: dict[Inner, str]
) -> Iterator[str]:
    for i in instructions:
        if i.op == lib.PGR_PROGRAM_LOAD:
            x = parts.lane_inputs[parts.group_first_input[segment.group] + i.a]
            yield f"{register(i.out)} = {places.read(x.array, x.offset, _lane(places, x.array, x.stride))};"
        elif i.op == lib.PGR_PROGRAM_STORE:
            o = parts.outputs[i.b]
            yield f"{places.write(o.array, o.offset, _lane(places, o.array, o.stride))} = {register(i.a)};"
        elif i.op == lib.PGR_PROGRAM_CALL:
            yield from call_source(parts, i, places, names, True)
        elif i.op == lib.PGR_PROGRAM_LANE_SUM:
            yield f"{register(i.out)} += {register(i.a)};"
        elif i.op == lib.PGR_PROGRAM_LANE_DOT:
            yield f"{register(i.out)} += {register(i.a)} * {register(i.b)};"
        else:
            yield f"{register(i.out)} = {_expression(parts, i)};"


def _expression(parts: Any, i: Any) -> str:
    if i.op == lib.PGR_PROGRAM_DOT:
        dot = parts.dots[i.b]
        terms = [] if i.a == lib.PGR_REGISTER_NONE else [register(i.a)]
        for k in range(dot.first, dot.first + 2 * dot.count, 2):
            pair = [register(x) for x in (parts.args[k], parts.args[k + 1]) if x != lib.PGR_REGISTER_NONE]
            terms.append(" * ".join(pair))
        return " + ".join(terms) or "0.0"
    row = TABLE[i.op]
    operands = f"{register(i.a)}, {register(i.b)}" if row.is_binary or row.has_param else register(i.a)
    return f"op_{row.name}({operands})"
