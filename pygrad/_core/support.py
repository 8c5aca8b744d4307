"""Reject unsupported platforms and broken installations up front, each with a one-line ImportError."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from pathlib import Path

if sys.version_info < (3, 9):  # noqa: UP036
    raise ImportError(f"pygrad needs Python 3.9 or later; this is {sys.version.split()[0]}")

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise ImportError(
        "this Python is free-threaded, which pygrad does not support yet: use the ordinary build of the same version, "
        "whose name does not end in t"
    )

for _name in ("_interpreters", "_xxsubinterpreters"):  # of Python 3.13, and of earlier ones
    try:
        _interpreters = importlib.import_module(_name)
    except ImportError:
        continue
    if _interpreters.get_current() != _interpreters.get_main():
        raise ImportError("pygrad has one tape for the whole process, so it works in the main interpreter only")
    break

_FOLDER = Path(__file__).parent.parent

try:
    importlib.import_module("pygrad._pgr")
except ModuleNotFoundError as _error:
    if _error.name != "pygrad._pgr":
        raise
    if not _FOLDER.is_dir():
        raise ImportError(
            f"pygrad's C extension can't be imported from {_FOLDER}, inside an archive: shiv, pex and PyInstaller make "
            "one file that unpacks itself"
        ) from None
    raise ImportError(
        f"pygrad's C extension is not built in {_FOLDER}: leave this folder if pygrad-engine is installed, "
        "or build it here with pip install -e ."
    ) from None

# Two distributions with a package of the same name overwrite each other's files.
if any(_FOLDER.parent.glob("pygrad-*.dist-info")):
    raise ImportError(
        "another distribution, named pygrad, is installed beside pygrad-engine, and has files in the same folder: "
        "pip uninstall pygrad pygrad-engine, then pip install pygrad-engine"
    )
