"""Write files so that a failure leaves the old file in place."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to; it replaces the one at `path` when it is complete.

    It is written in the same folder, which must be writable. Devices and pipes are written directly. An OSError names
    `path`.
    """
    target = Path(os.path.realpath(path))  # keep links
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    part = target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        try:
            with part.open("xb") as file:
                yield file
            if target.exists():
                shutil.copymode(target, part)
            part.replace(target)
        except OSError as error:
            if error.filename in (part, str(part)):  # PyPy gives the Path
                error.filename, error.filename2 = os.fspath(path), None
            raise
    finally:
        part.unlink(missing_ok=True)


def write(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write text, as UTF-8, or bytes to a file; if that fails, the old content stays."""
    data = text.encode() if isinstance(text, str) else text
    with replacing(path) as file:
        file.write(data)
