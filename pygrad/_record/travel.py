"""How recorded functions travel by pickle: names that find them, and a digest of the code of their programs."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

from pygrad._core.trees import is_array
from pygrad._record.randomness import _is_users, _reached

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


def digest(function: Any) -> str:
    """Of the code that a function reaches, and of the numbers, text and arrays that it reads: all that is recorded.

    Values are left out, since programs read them at every call.
    """
    found: list[bytes] = []
    todo, seen = [function], {id(function)}
    while todo and len(seen) < 10_000:
        x = todo.pop()
        found.append(hashlib.blake2b("\n".join(_text(x)).encode(), digest_size=16).digest())
        below = [*x] if isinstance(x, (list, tuple)) else [*x, *x.values()] if isinstance(x, dict) else _reached(x)
        if hasattr(x, "_made_by"):  # a recorded function
            below = [*below, *x._made_by]
        for y in below:
            if id(y) not in seen:
                seen.add(id(y))
                todo.append(y)
    return hashlib.blake2b(b"".join(sorted(found)), digest_size=16).hexdigest()  # the order of globals is arbitrary


def _text(x: Any) -> Iterator[str]:
    if isinstance(x, (int, float, str, bytes, type(None))):
        yield f"{type(x).__name__} {x!r}"
    elif _is_users(x):
        yield from _code(x.__code__)
    elif is_array(x) and x.dtype.kind != "O":
        yield f"{x.dtype} {x.shape} {hashlib.blake2b(x.tobytes(), digest_size=16).hexdigest()}"


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
