"""Programs as bytes.

A file is a line of text, a header in JSON and the program's numbers, little-endian. Loading verifies everything: any
file yields an error or a program, and such a program touches only its own memory.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pygrad._core.errors import check
from pygrad._core.ops import OPS, TABLE
from pygrad._core.trees import need_numpy
from pygrad._pgr import ffi, lib
from pygrad._program.code import ARRAYS, COUNTS, Code, count_of

_MAGIC = b"pygrad program 1\n"


def to_bytes(code: Code) -> bytes:
    """The bytes that from_bytes reads. Raises ValueError for dict keys that JSON can't write."""
    if sys.byteorder != "little":
        raise NotImplementedError("programs are saved by little-endian machines only")
    parts = code.parts()
    header = {
        "counts": {name: getattr(parts, name) for name in COUNTS},
        # Save operations by name: their numbers change between versions.
        "operations": {row.op: row.name for row in TABLE},
        "arguments": code.structure_in,
        "results": code.structure_out,
        "names": code.names,
        "constants": [constant.shape for constant in code.constants],
        "outside": len(code.captured),
    }
    for key in (*_keys(code.structure_in), *_keys(code.structure_out)):
        if type(key) not in (str, int, float):
            raise ValueError(
                f"the program cannot be saved: the key {key!r} is of type {type(key).__name__}; in files keys are "
                "str, int or float"
            )
    text = json.dumps(header).encode()
    arrays = [*code.array_bytes(), *[constant.tobytes() for constant in code.constants]]
    return b"".join([_MAGIC, f"{len(text)}\n".encode(), text, *arrays])


def _keys(structure: Any) -> Iterator[Any]:
    """The keys of all dicts in a structure."""
    if structure != "scalar" and structure[0] != "array":
        if structure[0] == "dict":
            yield from structure[1]
        for part in structure[2 if structure[0] == "dict" else 1 :]:
            yield from _keys(part)


def from_bytes(data: bytes, where: str, captured: Sequence[Any] = ()) -> Code:
    """The program in these bytes. Raises ValueError, naming `where`, if they hold none."""
    try:
        return _from_bytes(data, captured)
    except _DamagedError as damage:
        raise ValueError(f"{where}: not a program, or a damaged one: {damage}") from None


class _DamagedError(Exception):
    pass


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise _DamagedError(what)


def _from_bytes(data: bytes, captured: Sequence[Any]) -> Code:
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
    counts = header.get("counts")
    _need(isinstance(counts, dict) and set(counts) == set(COUNTS), "the header has no counts")
    _need(all(_is_count(x, 2**32) for x in counts.values()), "a count is not a number")
    parts = ffi.new("pgr_program_parts *", counts)
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
    _renumber(alive[0], header.get("operations"))
    structures = tuple([_structure(header.get(name)) for name in ("arguments", "results")])
    _need(structures[0][0] == "tuple", "the arguments are not a tuple")
    constants = []
    constant_shapes = header.get("constants")
    _need(isinstance(constant_shapes, list), "the constants have no shapes")
    for shape in map(_shape, constant_shapes):
        size = 8 * math.prod(shape)
        _need(at + size <= len(data), "constants are cut off")
        constants.append(need_numpy().frombuffer(data[at : at + size], dtype="<f8").reshape(shape))
        at += size
    _need(at == len(data), f"{len(data) - at} bytes follow its end")
    _need(header.get("outside") == len(captured), "it reads Values that the file does not hold")
    names = header.get("names")
    _need(
        isinstance(names, list) and len(names) == len(structures[0]) - 1 and all(isinstance(n, str) for n in names),
        "its arguments have no names",
    )
    in_sizes, out_sizes = Code(ffi.NULL, structures, constants, captured).sizes()
    c = ffi.new("pgr_program **")
    status = lib.pgr_program_from_parts(parts, len(in_sizes), in_sizes, len(out_sizes), out_sizes, c)
    _need(status != lib.PGR_ERR_PROGRAM, "its instructions are malformed, or reach beyond its registers and arrays")
    check(status)
    return Code(ffi.gc(c[0], lib.pgr_program_free), structures, constants, captured, names, is_loaded=True)


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


def _structure(x: Any, depth: int = 0) -> Any:
    """A structure, from its JSON form: tuples again, checked."""
    if x == "scalar":
        return "scalar"
    _need(depth < 100, "arguments or results are nested too deeply")
    _need(isinstance(x, list) and len(x) > 0, "malformed structure")
    kind = x[0]
    if kind == "array":
        _need(len(x) == 2, "malformed structure")
        return ("array", _shape(x[1]))
    if kind == "dict":
        _need(len(x) > 1 and isinstance(x[1], list) and len(x[1]) == len(x) - 2, "malformed structure")
        _need(all(type(key) in (str, int, float) for key in x[1]), "malformed key")
        return ("dict", tuple(x[1]), *[_structure(part, depth + 1) for part in x[2:]])
    _need(kind in ("list", "tuple"), "malformed structure")
    return (kind, *[_structure(part, depth + 1) for part in x[1:]])
