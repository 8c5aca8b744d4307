"""The parts of the build that pyproject.toml can't say: the extension, and the stub of its type."""

import atexit
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import setuptools
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

if sys.version_info < (3, 9):  # noqa: UP036
    raise SystemExit(f"pygrad needs Python 3.9 or later; this is {sys.version.split()[0]}")

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise SystemExit(
        "this Python is free-threaded, which pygrad does not support yet: use the ordinary build of the same version, "
        "whose name does not end in t"
    )

ROOT = Path(__file__).resolve().parent
WRITABLE = os.access(ROOT, os.W_OK)

STUB = '''\
"""Generated from csrc/ops/pgr_ops.h by setup.py."""

from collections.abc import Iterable
from typing import Any, Callable, SupportsFloat, SupportsIndex, Union

from pygrad.engine import Value

ffi: Any
lib: Any
Number = Union[SupportsFloat, SupportsIndex]  # a Value is none, so that mypy finds math.tanh(v)
Other = Union[Value, Number]

def _present_scope() -> int: ...
def _enter_scope(number: int, /) -> None: ...
def _active_scopes() -> list[tuple[int, int, int]]: ...
def _call_in_scopes(functions: list[Any], x: Any, first: int, /) -> list[Any]: ...
def _note_change() -> None: ...
def _adopt(
    *, value_type: type[Value], notes: dict[int, dict[str, Any]], set_type: type[set[Any]], **used: Any
) -> None: ...
def _run(
    program: int,
    numbers: tuple[float, ...],
    arrays: tuple[Any, ...],
    results: tuple[Any, ...],
    count: int,
    workers: int,
    /,
) -> tuple[float, ...]: ...
def _call(plan: tuple[Any, ...], args: tuple[Any, ...], /) -> Any: ...
def _on_progress(f: Callable[[int, int], object] | None, /) -> None: ...
def _plan_items() -> tuple[str, ...]: ...
def _structure_kinds() -> tuple[str, ...]: ...
def dot(ws: Iterable[Any], xs: Iterable[Any], b: Any = ..., /) -> Value: ...

class Operand:
    data: float
    grad: float
    @property
    def _handle(self) -> int: ...
    @staticmethod
    def _of(handle: int, /) -> Value: ...
    def _sweep(self, checked: bool, /) -> Value | None: ...
    def _settle(self) -> None: ...
    def _operands(self) -> list[Value]: ...
    @property
    def _own(self) -> dict[str, Any]: ...
    @property
    def _prev(self) -> set[Value]: ...
    @_prev.setter
    def _prev(self, values: Iterable[Value], /) -> None: ...
    _op: str
    _backward: Callable[[], Any]
    def __init__(
        self,
        data: Number,
        _children: Iterable[Value] = ...,
        _op: str | Iterable[Number] = ...,
        label: str = ...,
        *,
        children: Iterable[Value] = ...,
        local_grads: Iterable[Number] = ...,
    ) -> None: ...
    def __add__(self, other: Other, /) -> Value: ...
    def __radd__(self, other: Other, /) -> Value: ...
    def __sub__(self, other: Other, /) -> Value: ...
    def __rsub__(self, other: Other, /) -> Value: ...
    def __mul__(self, other: Other, /) -> Value: ...
    def __rmul__(self, other: Other, /) -> Value: ...
    def __truediv__(self, other: Other, /) -> Value: ...
    def __rtruediv__(self, other: Other, /) -> Value: ...
    def __mod__(self, other: Other, /) -> Value: ...
    def __rmod__(self, other: Other, /) -> Value: ...
    def __pow__(self, other: Other, mod: None = ..., /) -> Value: ...
    def __rpow__(self, other: Other, mod: None = ..., /) -> Value: ...
    def __neg__(self) -> Value: ...
    def __pos__(self) -> Value: ...
    def __abs__(self) -> Value: ...
    def __bool__(self) -> bool: ...
    def __lt__(self, other: Other, /) -> bool: ...
    def __le__(self, other: Other, /) -> bool: ...
    def __gt__(self, other: Other, /) -> bool: ...
    def __ge__(self, other: Other, /) -> bool: ...
'''

ARGUMENTS = {"UNARY": "", "CUT": "", "BINARY": ", other: Other, /", "PARAM": ", param: float = ..., /"}


def rows() -> list[tuple[str, str, str]]:
    """Name, kind and docstring of each row of the table of operations."""
    table = (ROOT / "csrc" / "ops" / "pgr_ops.h").read_text(encoding="utf-8")
    return re.findall(r'^X\(\w+,\s*"(\w+)",\s*"[^"]*",\s*(\w+),.*?"([^"]*)"\)', table, re.MULTILINE | re.DOTALL)


def stub() -> str:
    """The stub of pygrad._pgr, with a method for each row."""
    methods = [f"    def {name}(self{ARGUMENTS[kind]}) -> Value:\n        {doc!r}\n" for name, kind, doc in rows()]
    return STUB + "".join(methods)


MATH = '''\
"""Generated from csrc/ops/pgr_ops.h by setup.py."""

from typing import Any, overload

from numpy.typing import NDArray

from pygrad._pgr import Number, Other
from pygrad.engine import Value

Array = NDArray[Any]

@overload
def where(condition: Any, a: Array, b: Any) -> Array: ...
@overload
def where(condition: Any, a: Any, b: Array) -> Array: ...
@overload
def where(condition: Any, a: Value, b: Other) -> Value: ...
@overload
def where(condition: Any, a: Other, b: Value) -> Value: ...
@overload
def where(condition: Any, a: float, b: float) -> float: ...
def chosen(condition: Any, a: Any, b: Any) -> Any: ...
def _elementwise(function: Any, *args: Any) -> Any: ...
def of_values(array: Any) -> Any: ...
'''
# A function's arguments: with an array among them, and else. Arrays have __float__, too: mypy sees an overlap.
ELEMENTWISE = {
    "UNARY": ("a: Array, /", "a: Other, /"),
    "CUT": ("a: Array, /", "a: Other, /"),
    "BINARY": ("a: Array, b: Any, /", "a: Any, b: Array, /", "a: Other, b: Other, /"),
    "PARAM": ("a: Array, /, *param: float", "a: Other, /, *param: float"),
    "clip": ("x: Array, low: Any, high: Any", "x: Other, low: Other, high: Other"),
    "maximum": ("a: Array, b: Any", "a: Any, b: Array", "a: Other, b: Other"),
}


def math_stub() -> str:
    """The stub of pygrad.math, with a function for each row that it does not hide."""
    text = (ROOT / "pygrad" / "math.py").read_text(encoding="utf-8")
    hidden = re.findall(r'"(\w+)"', re.search(r"hidden = \{(.*?)\}", text)[1])
    functions = [(name, ELEMENTWISE[kind], doc) for name, kind, doc in rows() if name not in hidden]
    functions += [(name, ELEMENTWISE["maximum"], "") for name in ("maximum", "minimum")]
    text = MATH
    for name, overloads, doc in [*functions, ("clip", ELEMENTWISE["clip"], "")]:
        for args in overloads:
            result = "Array" if "Array" in args else "Value"
            overlap = "  # type: ignore[overload-overlap]" if result == "Array" and "Any" not in args else ""
            body = f"\n    {doc!r}" if doc and result == "Value" else " ..."
            text += f"@overload\ndef {name}({args}) -> {result}:{body}{overlap}\n"
    return text


def check_folder(in_place: bool) -> None:
    if in_place and not WRITABLE:
        raise SystemExit(
            f"{ROOT} can't be written, so nothing can be built in it: pip install . works, and -e does not"
        )


class BuildWithStub(build_py):
    def run(self) -> None:
        check_folder(self.editable_mode)
        super().run()
        folder = ROOT if self.editable_mode else Path(self.build_lib)
        (folder / "pygrad").mkdir(parents=True, exist_ok=True)
        for name, text in (("_pgr.pyi", stub()), ("math.pyi", math_stub())):
            (folder / "pygrad" / name).write_text(text, encoding="utf-8")


class BuildWithCompiler(build_ext):
    def run(self) -> None:
        check_folder(self.inplace)
        try:
            super().run()
        except Exception as error:
            if os.name != "nt" and self._has_compiler():
                raise
            raise SystemExit(
                f"pygrad is written in C, and no compiler was found ({error}): apt install gcc python3-dev, "
                "dnf install gcc python3-devel, xcode-select --install, or Visual Studio's Build Tools; or install a "
                "wheel, which needs none: pip install --only-binary :all: pygrad-engine"
            ) from None

    def build_extensions(self) -> None:
        """Compiles the files side by side, and links when all are done. MSVC's compiler class takes all at once."""
        compile_one, link = self.compiler._compile, self.compiler.link_shared_object
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            begun: list[Future[None]] = []

            def link_all(*args, **options):
                for compilation in begun:
                    compilation.result()
                link(*args, **options)

            self.compiler._compile = lambda *args: begun.append(pool.submit(compile_one, *args))
            self.compiler.link_shared_object = link_all
            super().build_extensions()

    def _has_compiler(self) -> bool:
        command = getattr(self.compiler, "compiler_so", None) or ["cc"]
        return bool(shutil.which(command[0]))


if importlib.util.find_spec("cffi") is None or int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit("pygrad is built with cffi and setuptools >= 77: pip install them, or build with pip, which does")


def folders() -> dict[str, dict[str, str]]:
    """Where the build writes, if the source can't be written: pip builds in it."""
    if WRITABLE:
        return {}
    scratch = tempfile.mkdtemp(prefix="pygrad-build-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return {"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}}


setuptools.setup(
    cffi_modules=["build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": BuildWithCompiler, "build_py": BuildWithStub},
    options=folders(),
)
