"""Recorded functions as methods: what `obj.f` is, where `f` is a recorded function of the class."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections import OrderedDict
from types import MemberDescriptorType
from typing import Any, Callable


class Method:
    """A recorded function, bound to an object. A tree is its first argument; for any other object see Bound."""

    __slots__ = ("__func__", "__self__", "_is_tree")

    def __init__(self, function: Any, self_: Any, is_tree: bool) -> None:
        self.__func__, self.__self__, self._is_tree = function, self_, is_tree

    @property
    def __wrapped__(self) -> Any:
        return self.__func__.__wrapped__.__get__(self.__self__)

    @property
    def __name__(self) -> str:
        return str(self.__func__.__name__)

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return self.__func__.__doc__

    def __repr__(self) -> str:
        return f"<{self.__func__!r} of {self.__self__!r}>"

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if self._is_tree:
            return self.__func__(self.__self__, *args, **keywords)
        return self.__func__.bound(self.__self__)(*args, **keywords)

    def program(self, *args: Any, **keywords: Any) -> Any:
        """The program for these arguments; records it now if needed."""
        if self._is_tree:
            return self.__func__.program(self.__self__, *args, **keywords)
        return self.__func__.bound(self.__self__).program(*args, **keywords)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and other.__func__ is self.__func__ and other.__self__ is self.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)


class Weak:
    """A method's function with an object that it does not keep alive: it is called only through that object."""

    def __init__(self, function: Any, self_: Any) -> None:
        functools.update_wrapper(self, function, updated=())
        try:
            self._self: Callable[[], Any] = weakref.ref(self_)
        except TypeError:  # its class has __slots__ without __weakref__
            self._self = lambda: self_

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.__wrapped__.__get__(self._self())(*args, **keywords)  # type: ignore[attr-defined]


class Bound:
    """The functions of objects that are no trees: what they read of the object is a constant when it is recorded.

    So there is one for each object and what its attributes are bound to: assigning an attribute records anew.
    """

    def __init__(self) -> None:
        self._objects: dict[int, tuple[Any, OrderedDict[Any, Any]]] = {}

    def __call__(self, self_: Any, make: Callable[[], Any], most: int) -> Any:
        """The function of an object as it is now, made by `make` if there is none; keeps `most` per object."""
        number = id(self_)
        if number not in self._objects:
            try:
                reference: Any = weakref.ref(self_, lambda _: self._objects.pop(number, None))
            except TypeError:
                return make()
            self._objects.setdefault(number, (reference, OrderedDict()))
        functions = self._objects[number][1]
        values = _bindings(self_)
        key = tuple([(name, _identity(x)) for name, x in values.items()])
        found = functions.get(key)
        if found is None:
            found = functions[key] = (make(), list(values.values()))  # which stay alive, and so keep their ids
            with contextlib.suppress(KeyError):  # another thread may have emptied it
                while len(functions) > most:
                    functions.popitem(last=False)
        return found[0]


def _bindings(self_: Any) -> dict[str, Any]:
    """What an object's attributes are bound to, its own, those in slots and its classes' data."""
    values: dict[str, Any] = {}
    for kind in type(self_).__mro__[-2::-1]:
        for name, x in vars(kind).items():
            if type(x) is MemberDescriptorType:
                if hasattr(self_, name):
                    values[name] = getattr(self_, name)
            elif not (name.startswith("__") or hasattr(x, "__get__") or callable(x)):
                values[name] = x
    values.update(getattr(self_, "__dict__", {}))
    return values


def _identity(x: Any) -> Any:
    return (type(x), repr(x)) if isinstance(x, (float, int, str, type(None))) else id(x)
