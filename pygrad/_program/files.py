"""Programs as bytes.

A file is a line of text, a header in JSON and the program's numbers, little-endian. Loading verifies everything: any
file yields an error or a program, and such a program touches only its own memory.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from pygrad._core.errors import check
from pygrad._core.ops import OPS, TABLE
from pygrad._core.trees import is_leaf, need_numpy, parts as inner_parts
from pygrad._pgr import ffi, lib
from pygrad._program.code import ARRAYS, COUNTS, Called, Code, array_bytes, count_of, parts_of

_MAGIC = b"pygrad program 2\n"
_MOST_NESTED = 50  # programs within one another


def to_bytes(code: Code, nodes: list[Any] | None = None) -> bytes:
    """The bytes that from_bytes reads. Raises ValueError for dict keys that JSON can't write.

    nodes: takes the Nodes of the structures, classes of the user's, which from_bytes needs; without it they raise
    ValueError.
    """
    if sys.byteorder != "little":
        raise NotImplementedError("programs are saved by little-endian machines only")
    header = {
        "counts": _counts(Called(code.c, list(code.called))),
        # Save operations by name: their numbers change between versions.
        "operations": {row.op: row.name for row in TABLE},
        "arguments": _numbered(code.structure_in, nodes),
        "results": _numbered(code.structure_out, nodes),
        "names": code.names,
        "constants": [constant.shape for constant in code.constants],
        "outside": len(code.captured),
    }
    text = json.dumps(header).encode()
    arrays = [*array_bytes(code.c, code.called), *[constant.tobytes() for constant in code.constants]]
    return b"".join([_MAGIC, f"{len(text)}\n".encode(), text, *arrays])


def _counts(program: Called) -> dict[str, Any]:
    """The counts of a program's parts, and of those that it calls."""
    parts = parts_of(program.c)
    return {**{name: getattr(parts, name) for name in COUNTS}, "called": [_counts(one) for one in program.called]}


def _numbered(structure: Any, nodes: list[Any] | None) -> Any:
    """The structure for JSON, with numbers for its Nodes."""
    if is_leaf(structure):
        return structure
    kind, inner = structure[0], [_numbered(part, nodes) for part in inner_parts(structure)]
    if kind == "registered":
        if nodes is None:
            raise ValueError(
                f"the program cannot be saved: its arguments or results hold a {structure[1].kind.__name__}, and files "
                "have no classes; pickle the program, or use tuples and dicts"
            )
        nodes.append(structure[1])
        return (kind, len(nodes) - 1, *inner)
    if kind != "dict":
        return (kind, *inner)
    for key in structure[1]:
        if type(key) not in (str, int, float):
            raise ValueError(
                f"the program cannot be saved: the key {key!r} is of type {type(key).__name__}; in files keys are "
                "str, int or float"
            )
    return (kind, structure[1], *inner)


def from_bytes(
    data: bytes, where: str, captured: Sequence[Any] = (), nodes: Sequence[Any] = (), prints: Sequence[Any] = ()
) -> Code:
    """The program in these bytes. Raises ValueError, naming `where`, if they hold none.

    captured, nodes, prints: what a pickle has besides the bytes.
    """
    try:
        return _from_bytes(data, captured, nodes, prints)
    except _DamagedError as damage:
        raise ValueError(f"{where}: not a program, or a damaged one: {damage}") from None


class _DamagedError(Exception):
    pass


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise _DamagedError(what)


def _from_bytes(data: bytes, captured: Sequence[Any], nodes: Sequence[Any], prints: Sequence[Any]) -> Code:
    _need(data.startswith(_MAGIC), f"it does not begin with {_MAGIC.decode().strip()!r}")
    if sys.byteorder != "little":
        raise NotImplementedError("programs are loaded by little-endian machines only")
    end = data.find(b"\n", len(_MAGIC), len(_MAGIC) + 12)
    length = data[len(_MAGIC) : end]
    _need(end > 0 and length.isdigit(), "the header has no length")
    at = end + 1 + int(length)
    _need(at <= len(data), "the header is cut off")
    try:
        header = json.loads(data[end + 1 : at])
    except (ValueError, RecursionError):
        raise _DamagedError("the header is not JSON") from None
    _need(isinstance(header, dict), "the header is not an object")
    made, at = _parts(header.get("counts"), data, at, header.get("operations"))
    structures = tuple([_structure(header.get(name), nodes) for name in ("arguments", "results")])
    _need(structures[0][0] == "tuple", "the arguments are not a tuple")
    constants = []
    constant_shapes = header.get("constants")
    _need(isinstance(constant_shapes, list), "the constants have no shapes")
    for shape in map(_shape, constant_shapes):
        size = 8 * math.prod(shape)
        _need(at + size <= len(data), "constants are cut off")
        constant = need_numpy().frombuffer(data[at : at + size], dtype="<f8").reshape(shape).astype(float)
        constant.setflags(write=False)  # a copy, since PyPy's bytes may begin anywhere
        constants.append(constant)
        at += size
    _need(at == len(data), f"{len(data) - at} bytes follow its end")
    _need(header.get("outside") == len(captured), "it reads Values that the file does not hold")
    names = header.get("names")
    _need(
        isinstance(names, list) and len(names) == len(structures[0]) - 1 and all(isinstance(n, str) for n in names),
        "its arguments have no names",
    )
    in_sizes, out_sizes = Code(ffi.NULL, structures, constants, captured, prints=prints).sizes()
    program = _program(made, (len(in_sizes), in_sizes, len(out_sizes), out_sizes))
    return Code(program.c, structures, constants, captured, names, True, prints, program.called)


class _Parts(NamedTuple):
    """The parts of a program, as read, and of those that it calls."""

    c: Any
    alive: list[Any]
    called: list[_Parts]


def _parts(counts: Any, data: bytes, at: int, operations: Any, depth: int = 0) -> tuple[_Parts, int]:
    """The parts of a program in these bytes from `at` on, and where they end."""
    _need(isinstance(counts, dict) and set(counts) == {*COUNTS, "called"}, "the header has no counts")
    _need(depth < _MOST_NESTED, "programs call one another too deeply")
    _need(all(_is_count(counts[name], 2**32) for name in COUNTS), "a count is not a number")
    called = counts["called"]
    _need(isinstance(called, list) and len(called) == counts["program_count"], "called programs are missing")
    parts = ffi.new("pgr_program_parts *", {name: counts[name] for name in COUNTS})
    alive = []
    for name, (_, kind) in ARRAYS.items():
        count = count_of(name, counts)
        size = count * ffi.sizeof(kind)
        _need(at + size <= len(data), f"{name} are cut off")
        array = ffi.new(f"{kind}[]", count)
        ffi.memmove(array, data[at : at + size], size)
        alive.append(array)
        setattr(parts, name, array)
        at += size
    _renumber(alive[0], operations)
    inner = []
    for one in called:
        made, at = _parts(one, data, at, operations, depth + 1)
        inner.append(made)
    return _Parts(parts, alive, inner), at


def _program(parts: _Parts, sizes: tuple[int, Any, int, Any]) -> Called:
    """The program of these parts. A called one may have arrays of any length: who calls it is checked for that."""
    called = [_program(one, (2**63, ffi.NULL, 2**63, ffi.NULL)) for one in parts.called]
    pointers = ffi.new("pgr_program *[]", [one.c for one in called])
    parts.c.programs = pointers
    c = ffi.new("pgr_program **")
    status = lib.pgr_program_from_parts(parts.c, *sizes, c)
    _need(status != lib.PGR_ERR_PROGRAM, "its instructions are malformed, or reach beyond its registers and arrays")
    check(status)
    return Called(ffi.gc(c[0], lib.pgr_program_free), called)


def _is_count(x: Any, limit: int) -> bool:
    return type(x) is int and 0 <= x < limit


def _renumber(instructions: Any, names: Any) -> None:
    """Give operations the numbers of this version."""
    _need(isinstance(names, dict), "the header has no operations")
    numbers = {}
    for number, name in names.items():
        _need(number.isascii() and number.isdigit() and len(number) < 4, "an operation has no number")
        numbers[int(number)] = OPS.get(name) if isinstance(name, str) else None
    if all(number == new for number, new in numbers.items()):
        return
    for instruction in instructions:
        if instruction.op < lib.PGR_PROGRAM_DOT:
            new = numbers.get(instruction.op)
            _need(new is not None, f"this version does not know the operation {names.get(str(instruction.op))!r}")
            instruction.op = new


def _shape(x: Any) -> tuple[int, ...]:
    _need(isinstance(x, list) and len(x) <= 32 and all(_is_count(n, 2**48) for n in x), "malformed shape")
    _need(math.prod(x) < 2**48, "a shape is too large")
    return tuple(x)


def _structure(x: Any, nodes: Sequence[Any], depth: int = 0) -> Any:
    """A structure, from its JSON form: tuples again, checked."""
    if x == "scalar":
        return "scalar"
    _need(depth < 100, "arguments or results are nested too deeply")
    _need(isinstance(x, list) and len(x) > 0, "malformed structure")
    kind = x[0]
    if kind == "array":
        _need(len(x) == 2, "malformed structure")
        return ("array", _shape(x[1]))
    if kind in ("list", "tuple"):
        return (kind, *[_structure(part, nodes, depth + 1) for part in x[1:]])
    if kind == "none":
        _need(len(x) == 1, "malformed structure")
        return ("none",)
    _need(kind in ("dict", "registered") and len(x) > 1, "malformed structure")
    if kind == "registered":
        _need(_is_count(x[1], len(nodes)), "it holds classes that the file does not")
        return (kind, nodes[x[1]], *[_structure(part, nodes, depth + 1) for part in x[2:]])
    _need(isinstance(x[1], list) and len(x[1]) == len(x) - 2, "malformed structure")
    _need(all(type(key) in (str, int, float) for key in x[1]), "malformed key")
    return ("dict", tuple(x[1]), *[_structure(part, nodes, depth + 1) for part in x[2:]])
