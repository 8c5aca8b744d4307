"""What a recorded function reads from outside, by name: its programs hold for these bindings alone."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

from pygrad._record.randomness import _is_users, _names, _reached

_MISSING = object()
_AT_MOST = 10_000  # objects looked at


class Reads:
    """The variables that a function and those that it calls read, closures' and globals, and what they are bound to.

    Attributes of callable objects are among them. What changes within an object that stays bound goes unseen.
    """

    def __init__(self, function: Any) -> None:
        self._cells: list[tuple[Any, Any]] = []
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        todo, seen = [function], {id(function)}
        while todo and len(seen) < _AT_MOST:
            x = todo.pop()
            self._add(x)
            for y in _reached(x):
                if id(y) not in seen:
                    seen.add(id(y))
                    todo.append(y)

    def _add(self, x: Any) -> None:
        if _is_users(x):
            for cell in x.__closure__ or ():
                content = _content(cell)
                if _may_change(content):
                    self._cells.append((cell, content))
            self._add_names(x.__globals__, _names(x.__code__))
        elif callable(x) and hasattr(x, "__dict__") and not hasattr(x, "__wrapped__") and _is_of_user(type(x)):
            self._add_names(x.__dict__, x.__dict__)

    def _add_names(self, scope: dict[str, Any], names: Any) -> None:
        self._names += [(scope, name, scope[name]) for name in names if name in scope and _may_change(scope[name])]

    def __len__(self) -> int:
        return len(self._cells) + len(self._names)

    def have_changed(self) -> bool:
        """Whether one of them is bound to something else now."""
        for cell, before in self._cells:
            now = _content(cell)
            if now is not before and _differ(before, now):
                return True
        for scope, name, before in self._names:
            now = scope.get(name, _MISSING)
            if now is not before and _differ(before, now):
                return True
        return False


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return _MISSING


def _is_of_user(kind: type) -> bool:
    """Whether a class has methods of user code."""
    return _is_users(getattr(kind, "__call__", None))  # noqa: B004 - the function, not whether there is one


def _may_change(x: Any) -> bool:
    """Whether a program may depend on what else a variable is bound to: not for modules, classes, and library code."""
    if isinstance(x, (ModuleType, type)) or x is _MISSING:
        return False
    return _is_users(x) or not (
        isinstance(x, FunctionType) or type(x).__name__ in ("builtin_function_or_method", "ufunc")
    )


def _differ(before: Any, now: Any) -> bool:
    """Whether a program recorded with `before` may be wrong for `now`, another object."""
    if type(before) is not type(now) or not isinstance(now, (float, int, str)):
        return True
    return before != now or repr(before) != repr(now)
