"""Writing files so that a failure leaves what was there."""

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
    """A file to write to, which takes the place of the one at `path` once all is written.

    It is written beside that one, so the folder must be writable. Devices and pipes are written directly. OSError names
    `path`.
    """
    target = Path(os.path.realpath(path))  # a link stays one
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
            if error.filename == str(part):
                error.filename, error.filename2 = os.fspath(path), None
            raise
    finally:
        part.unlink(missing_ok=True)


def write(path: str | os.PathLike[str], text: str | bytes) -> None:
    """Write text, as UTF-8, or bytes to a file; what was there stays if that fails."""
    data = text.encode() if isinstance(text, str) else text
    with replacing(path) as file:
        file.write(data)
