"""The set that `_prev` returns: it reports changes, so that no one has to check for them."""

from __future__ import annotations

from typing import Any, Callable

CHANGES = (
    *("add", "discard", "remove", "pop", "clear", "update"),
    *("difference_update", "intersection_update", "symmetric_difference_update"),
    *("__ior__", "__iand__", "__isub__", "__ixor__"),
)


def operand_set(changed: Callable[[], None]) -> type[set[Any]]:
    """A subclass of set that calls `changed` on every change; its copies and pickles are plain sets."""

    class OperandSet(set[Any]):
        __slots__ = ()

        def __repr__(self) -> str:
            return repr(set(self))

        def __reduce_ex__(self, _protocol: Any) -> Any:
            return set, (list(self),)

        def copy(self) -> set[Any]:
            return set(self)

        __copy__ = copy

    def telling(name: str) -> Callable[..., Any]:
        change = getattr(set, name)

        def method(self: Any, *args: Any) -> Any:
            try:
                return change(self, *args)
            finally:
                changed()

        method.__name__ = method.__qualname__ = name
        method.__doc__ = change.__doc__
        return method

    for name in CHANGES:
        setattr(OperandSet, name, telling(name))
    return OperandSet
