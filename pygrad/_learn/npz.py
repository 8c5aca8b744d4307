"""Write .npz files of NumPy, and read untrusted ones: numbers or a ValueError, in bounded memory.

numpy.load raises a dozen kinds of exceptions for damaged files, and allocates as much memory as their headers claim.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pygrad._core.files import replacing
from pygrad._core.trees import need_numpy

_MAGIC = b"\x93NUMPY"
# Headers as NumPy and others write them: kinds of real numbers, bools and text, never objects.
_HEADER = re.compile(
    r"\{'descr': '([<>|=][fiubU][0-9]{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,15}, ?)*[0-9]{0,15})\),? ?\}\s*",
    re.ASCII,
)
_SPARE = 1 << 20  # bytes for headers and text


class _DamagedError(Exception):
    pass


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write arrays by name; if that fails, the old file stays."""
    archive = io.BytesIO()  # a disk that is full leaves NumPy's zip file open, which would be closed after `file`
    need_numpy().savez(archive, **arrays)
    with replacing(path) as file:
        file.write(archive.getvalue())


def read(path: str | os.PathLike[str], numbers: int, texts: Collection[str] = ()) -> dict[str, Any]:
    """The arrays of a file by name; those named in `texts` as str. `numbers`: the expected number of numbers.

    Raises ValueError, naming the file, if it is damaged or would need much more memory than the file itself and
    `numbers` numbers; OSError if it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return _read(data, numbers, texts)
    except _DamagedError as damage:
        raise ValueError(f"{path}: not an .npz file of numbers, or a damaged one: {damage}") from None


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise _DamagedError(what)


def _read(data: bytes, numbers: int, texts: Collection[str]) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            _need(size <= len(data) + 16 * numbers + _SPARE, f"it unpacks to {size} bytes")
            plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            _need(all(entry.compress_type in plain for entry in entries), "its compression is not one of NumPy's")
            _need(all(entry.filename.endswith(".npy") for entry in entries), "an entry is not a .npy")
            contents = {entry.filename[:-4]: archive.read(entry) for entry in entries}
            _need(len(contents) == len(entries), "a name is there twice")
    except (zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise _DamagedError(str(error).rstrip(".")) from None
    except (EOFError, OSError, RuntimeError, ValueError, OverflowError, NotImplementedError):  # zipfile, on odd files
        raise _DamagedError("its entries cannot be read") from None
    arrays = {}
    for name, content in contents.items():
        array = _array(name, content)
        if name in texts:
            arrays[name] = _text(name, array)
        else:
            _need(array.dtype.kind != "U", f"{name!r} holds text")
            arrays[name] = array
    return arrays


def _array(name: str, data: bytes) -> Any:
    np = need_numpy()
    version = data[6:8]
    _need(data.startswith(_MAGIC) and version in (b"\1\0", b"\2\0") and len(data) >= 12, f"{name!r} is not an array")
    at = 10 if version == b"\1\0" else 12
    length = int.from_bytes(data[8:at], "little")
    header = _HEADER.fullmatch(data[at : at + min(length, 10_000)].decode("latin-1"))
    _need(header is not None and at + length <= len(data), f"{name!r} has no header, or one of objects")
    assert header is not None
    kind, order, lengths = header.groups()
    shape = tuple([int(n) for n in lengths.split(",") if n.strip()])
    try:
        dtype = np.dtype(kind)
    except TypeError:
        raise _DamagedError(f"{name!r} is of the unknown type {kind!r}") from None
    content = data[at + length :]
    size = math.prod(shape) * dtype.itemsize
    _need(
        len(shape) <= 32 and size == len(content) and size > 0,
        f"{name!r} has {len(content)} bytes, where its header says {size}",
    )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "True" else "C")


def _text(name: str, array: Any) -> str:
    _need(array.dtype.kind == "U" and array.shape == (), f"{name!r} is not text")
    try:
        return str(array.astype("<U").tobytes().decode("utf-32-le")).rstrip("\0")
    except UnicodeDecodeError:
        raise _DamagedError(f"{name!r} is not text") from None
