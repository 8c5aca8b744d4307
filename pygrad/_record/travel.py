"""How recorded functions travel by pickle: names that find them, and a digest of the code of their programs."""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from pygrad._core.layer import Operand
from pygrad._record.randomness import _is_library, _is_users, _names

_HIDDEN = ".__wrapped__"


def findable(function: Any) -> Any:
    """The function itself, under a name by which pickle finds it: a decorator's result may have taken its own.

    pickle saves a function by its module and qualified name, and f.__wrapped__ is one. cloudpickle saves functions of
    the main module by value, whatever they are called.
    """
    if isinstance(function, FunctionType) and "<locals>" not in function.__qualname__:
        name = function.__qualname__
        while name.endswith(_HIDDEN):
            name = name[: -len(_HIDDEN)]
        found: Any = sys.modules.get(function.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        while found is not function and hasattr(found, "__wrapped__"):
            found, name = found.__wrapped__, name + _HIDDEN
        if found is function:
            function.__qualname__ = name
    return function


def digest(function: Any) -> str | None:
    """Of the code that a function reaches, and of all that it reads, by name. None if part of that can't be seen.

    Values are left out, since programs read them at every call.
    """
    try:
        return hashlib.blake2b(repr(_Description().of(function)).encode(), digest_size=16).hexdigest()
    except (_UnseenError, RecursionError):
        return None


class _UnseenError(Exception):
    """An object that may hold anything."""


class _Description:
    """What objects are, as nested tuples of text. Two functions with equal ones record equal programs."""

    _AT_MOST = 10_000  # objects

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no other object gets the id of one that was seen

    def of(self, x: Any) -> Any:
        if x is None or type(x) in (bool, int, float, complex, str, bytes):
            return type(x).__name__, repr(x)
        if id(x) in self._seen:
            return "again", self._seen[id(x)]
        self._seen[id(x)] = len(self._seen)
        self._alive.append(x)
        if len(self._seen) > self._AT_MOST:
            raise _UnseenError
        kind = type(x)
        if kind in (list, tuple):
            return kind.__name__, [self.of(y) for y in x]
        if kind is dict:
            return "dict", [(self.of(key), self.of(y)) for key, y in x.items()]
        if isinstance(x, Operand):
            return "Value"
        if hasattr(x, "dtype") and hasattr(x, "tobytes") and x.dtype.kind in "biufc":
            return str(x.dtype), getattr(x, "shape", ()), hashlib.blake2b(x.tobytes(), digest_size=16).hexdigest()
        if isinstance(x, (FunctionType, MethodType, functools.partial)):
            return self._of_function(x)
        return self._of_class(x) if isinstance(x, type) else self._of_object(x)

    def _of_function(self, x: Any) -> Any:
        if isinstance(x, MethodType):
            return "method", self.of(x.__func__), self.of(x.__self__)
        if isinstance(x, functools.partial):
            return "partial", self.of(x.func), self.of(x.args), self.of(x.keywords)
        own = {name: y for name, y in vars(x).items() if name != "__wrapped__"}
        cells = [self._of_cell(cell) for cell in x.__closure__ or ()]
        rest = self.of(x.__defaults__), self.of(x.__kwdefaults__), cells, self.of(own)
        if not _is_users(x):
            return x.__module__, x.__qualname__, rest
        names = sorted(_names(x.__code__))
        scope = x.__globals__
        read = [(name, self.of(scope[name])) for name in names if name in scope]
        modules = [scope[name] for name in names if isinstance(scope.get(name), ModuleType)]
        for module in modules:
            if not _is_library(module.__name__):
                read += [(f"{module.__name__}.{name}", self.of(y)) for name, y in vars(module).items() if name in names]
        return [*_code(x.__code__)], rest, read

    def _of_cell(self, cell: Any) -> Any:
        try:
            return self.of(cell.cell_contents)
        except ValueError:
            return "empty"

    def _of_class(self, x: Any) -> Any:
        if _is_library(x.__module__):
            return x.__module__, x.__qualname__
        parts = [(name, self._member(y)) for name, y in vars(x).items() if name not in _OF_EVERY_CLASS]
        return x.__qualname__, [self.of(base) for base in x.__bases__], parts

    def _member(self, x: Any) -> Any:
        if isinstance(x, (staticmethod, classmethod)):
            return type(x).__name__, self.of(x.__func__)
        return ("property", self.of(x.fget)) if isinstance(x, property) else self.of(x)

    def _of_object(self, x: Any) -> Any:
        if isinstance(x, ModuleType):
            return "module", x.__name__
        if type(x).__name__ in ("builtin_function_or_method", "ufunc", "wrapper_descriptor", "method_descriptor"):
            bound_to = getattr(x, "__self__", None)
            owner = None if isinstance(bound_to, ModuleType) else self.of(bound_to)
            return getattr(x, "__module__", None), getattr(x, "__qualname__", x.__name__), owner
        if hasattr(x, "_made_by"):  # a recorded function
            return "recorded", self.of(x._made_by)
        if hasattr(x, "nondiff_argnums"):  # custom_vjp or custom_jvp
            return "rule", self.of((x._fun, x._rule, x.nondiff_argnums))
        return self._of_contents(x)

    def _of_contents(self, x: Any) -> Any:
        """By what pickle would save of the object, and by its class."""
        users = [kind for kind in type(x).__mro__[:-1] if not _is_library(kind.__module__)]
        if any(name in vars(kind) for kind in users for name in ("__reduce__", "__reduce_ex__", "__getstate__")):
            raise _UnseenError  # it may leave things out
        try:
            made = x.__reduce_ex__(2)
            parts = [list(part) if isinstance(part, Iterator) else part for part in made[1:]]
        except Exception:  # of whatever class it is
            raise _UnseenError from None
        if isinstance(made, str):
            raise _UnseenError
        return self.of(type(x)), self.of(made[0]), self.of(parts)


_OF_EVERY_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__firstlineno__"}
_OF_EVERY_CLASS |= {"__static_attributes__", "__annotations_cache__", "__annotate__", "__annotate_func__"}


def _code(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code!r} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def packed(programs: Any) -> bytes:
    """Programs as bytes; no bytes if they hold what pickle can't save: then they are recorded again elsewhere."""
    try:
        return pickle.dumps(programs)
    except Exception:  # of whatever classes the arguments have
        return b""


def unpacked(data: bytes) -> Any:
    """What was packed; None if it can't be loaded here, for want of a class, or by another version."""
    try:
        return pickle.loads(data) if data else None
    except Exception:
        return None
