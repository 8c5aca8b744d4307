"""Inventories for intersphinx of the names of other projects that our pages mention, so that a build needs no network.

To mention another one, add it here: what it is, and the page that documents it.
"""

from __future__ import annotations

import zlib
from pathlib import Path

_SPARSE = "reference/generated/scipy.sparse.csr_array.html"
NAMES = {
    "python": {
        "collections.abc.Callable": ("py:class", "library/collections.abc.html#collections.abc.Callable"),
        "collections.abc.Sequence": ("py:class", "library/collections.abc.html#collections.abc.Sequence"),
        "typing.Any": ("py:data", "library/typing.html#typing.Any"),
        "os.PathLike": ("py:class", "library/os.html#os.PathLike"),
        "threading.Thread": ("py:class", "library/threading.html#threading.Thread"),
        "ArithmeticError": ("py:exception", "library/exceptions.html#ArithmeticError"),
        "FloatingPointError": ("py:exception", "library/exceptions.html#FloatingPointError"),
        "OverflowError": ("py:exception", "library/exceptions.html#OverflowError"),
        "TypeError": ("py:exception", "library/exceptions.html#TypeError"),
        "ValueError": ("py:exception", "library/exceptions.html#ValueError"),
        "ZeroDivisionError": ("py:exception", "library/exceptions.html#ZeroDivisionError"),
        "bool": ("py:class", "library/functions.html#bool"),
        "dict": ("py:class", "library/stdtypes.html#dict"),
        "float": ("py:class", "library/functions.html#float"),
        "int": ("py:class", "library/functions.html#int"),
        "list": ("py:class", "library/stdtypes.html#list"),
        "str": ("py:class", "library/stdtypes.html#str"),
        "tuple": ("py:class", "library/stdtypes.html#tuple"),
        "None": ("py:data", "library/constants.html#None"),
    },
    "numpy": {"numpy.ndarray": ("py:class", "reference/generated/numpy.ndarray.html")},
    "scipy": {
        "scipy.optimize.minimize": ("py:function", "reference/generated/scipy.optimize.minimize.html"),
        "scipy.optimize.least_squares": ("py:function", "reference/generated/scipy.optimize.least_squares.html"),
        "scipy.integrate.solve_ivp": ("py:function", "reference/generated/scipy.integrate.solve_ivp.html"),
        "scipy.sparse.csr_array": ("py:class", _SPARSE),
    },
}


def write(folder: Path) -> None:
    """Write an .inv file for each project, in Sphinx's format (version 2)."""
    folder.mkdir(parents=True, exist_ok=True)
    for project, names in NAMES.items():
        header = f"# Sphinx inventory version 2\n# Project: {project}\n# Version:\n"
        header += "# The remainder of this file is compressed using zlib.\n"
        rows = "".join(f"{name} {role} 1 {uri} -\n" for name, (role, uri) in names.items())
        content = header.encode() + zlib.compress(rows.encode(), 9)
        path = folder / f"{project}.inv"
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
