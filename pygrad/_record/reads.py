"""What a recorded function reads from outside, by name: its programs hold for these bindings alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CellType, MappingProxyType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from pygrad._core.layer import Operand
from pygrad._core.trees import is_array
from pygrad._record.randomness import _is_library, _is_users, _names, _reached

_MISSING = object()  # what reading gives where nothing is
_AT_MOST = 10_000  # objects looked at


class Reads:
    """The names that a function and those that it calls read, and what they are bound to.

    These are variables of closures and globals, and the attributes of modules, classes and objects that the code names.
    What changes within a list, a dict or an array goes unseen.
    """

    def __init__(self, function: Any) -> None:
        self._bindings: list[Any] = []
        self._code_names: set[str] = set()
        self._owners: list[Any] = []  # of attributes
        self._looked_up: set[tuple[int, str]] = set()
        self._seen = {id(function)}
        todo = [function]
        while todo:
            self._walk(todo)
            todo = self._look_up()
        # As csrc/python/reads.h has them.
        self.bindings: tuple[Any, ...] = (_MISSING, *self._bindings) if self._bindings else ()

    def have_changed(self) -> bool:
        """Whether one of them is bound to something else now. Equal numbers and texts are the same."""
        found = list(self.bindings)
        for i in range(1, len(found), 3):
            holder, name, before = found[i : i + 3]
            now = _bound_in(holder, name)
            if now is not before and _differ(before, now):
                return True
            found[i + 2] = now
        self.bindings = tuple(found)
        return False

    def _walk(self, todo: list[Any]) -> None:
        while todo and len(self._seen) < _AT_MOST:
            x = todo.pop()
            names = _names(x.__code__) if _is_users(x) else None
            if names is not None:
                self._code_names |= names
                for cell in x.__closure__ or ():
                    self._bind(cell, "")
                for name in names & x.__globals__.keys():
                    self._bind(x.__globals__, name)
            if _has_attributes(x):
                self._owners.append(x)
            todo += self._new(_reached(x, names))

    def _look_up(self) -> list[Any]:
        """Attributes that the code names, of the objects found so far; returns new objects among them."""
        found = []
        for owner in self._owners:
            for name in _names_in(owner, self._code_names):
                if (id(owner), name) in self._looked_up:
                    continue
                self._looked_up.add((id(owner), name))
                for holder in _holders(owner, name):
                    value = self._bind(holder, name)
                    found += self._new([getattr(value, "__func__", None) or getattr(value, "fget", None) or value])
        return found

    def _new(self, values: Any) -> list[Any]:
        found = [x for x in values if id(x) not in self._seen]
        self._seen.update(map(id, found))
        return found

    def _bind(self, holder: Any, name: str) -> Any:
        value = _bound_in(holder, name)
        if type(value) is not MemberDescriptorType:  # of a slot: the object is looked at, too
            self._bindings += holder, name, value
        return value


class _Slots:
    """An object with slots, as what holds them: such an object may be a dict, too."""

    def __init__(self, owner: Any) -> None:
        self.__owner = owner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__owner, name)


def _bound_in(holder: Any, name: str) -> Any:
    """What a name is bound to; csrc/python/reads.c's twin."""
    if isinstance(holder, (dict, MappingProxyType)):
        return holder.get(name, _MISSING)
    if isinstance(holder, CellType):
        try:
            return holder.cell_contents
        except ValueError:  # empty
            return _MISSING
    return getattr(holder, name, _MISSING)


def _has_attributes(x: Any) -> bool:
    """Whether the program depends on attributes of x, if the code names them: not of Values, arrays, and libraries."""
    if isinstance(x, (ModuleType, type)):
        return not _is_library(x.__name__ if isinstance(x, ModuleType) else x.__module__)
    if isinstance(x, (Operand, MethodType, functools.partial)) or is_array(x) or hasattr(x, "__wrapped__"):
        return False
    return hasattr(x, "__dict__") or not _is_library(type(x).__module__)


def _own(owner: Any) -> Any:
    """An object's own attributes, None if it has none or is a class."""
    return None if isinstance(owner, type) else getattr(owner, "__dict__", None)


def _users_classes(owner: Any) -> list[Any]:
    """The attributes of each class of an object's, or of a class's, that is from user code."""
    kinds = (owner if isinstance(owner, type) else type(owner)).__mro__[:-1]
    return [vars(kind) for kind in kinds if not _is_library(kind.__module__)]


def _names_in(owner: Any, names: set[str]) -> set[str]:
    """Those of the names that are attributes of the object or its classes."""
    found: set[str] = names & (_own(owner) or {}).keys()
    return found.union(*[names & attributes.keys() for attributes in _users_classes(owner)])


def _holders(owner: Any, name: str) -> Iterator[Any]:
    """What may hold an attribute: the object, its classes."""
    own = _own(owner)
    if own is not None and name in own:
        yield own
    for inherited in _users_classes(owner):
        if name not in inherited:
            continue
        if own is not None and name not in own:  # the object's own would come first
            yield own
        yield inherited
        if type(inherited[name]) is MemberDescriptorType and not isinstance(owner, type):
            yield _Slots(owner)


def _differ(before: Any, now: Any) -> bool:
    """Whether a program recorded with `before` may be wrong for `now`, another object."""
    if type(before) is not type(now) or not isinstance(now, (float, int, str)):
        return True
    return before != now or repr(before) != repr(now)
