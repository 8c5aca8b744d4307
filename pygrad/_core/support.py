"""What pygrad can't run on is refused here, in one sentence, before anything else is loaded."""

from __future__ import annotations

import importlib
import sysconfig
from importlib.util import find_spec
from pathlib import Path

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise ImportError("pygrad needs a Python with its global lock: free-threaded builds are not supported yet")

for _name in ("_interpreters", "_xxsubinterpreters"):  # of Python 3.13, and before
    if find_spec(_name) is not None:
        _interpreters = importlib.import_module(_name)
        if _interpreters.get_current() != _interpreters.get_main():
            raise ImportError("pygrad has one tape for the whole process, so it works in the main interpreter only")
        break

if find_spec("pygrad._pgr") is None:
    raise ImportError(
        f"pygrad's C extension is not built in {Path(__file__).parent}: leave this folder if pygrad is installed, "
        "or build it here with pip install -e ."
    )
