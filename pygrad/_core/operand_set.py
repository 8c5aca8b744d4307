"""The set that `_prev` returns: it reports changes, so that no one has to check for them."""

from __future__ import annotations

from typing import Any, Callable

_CHANGES = (
    *("add", "discard", "remove", "pop", "clear", "update"),
    *("difference_update", "intersection_update", "symmetric_difference_update"),
    *("__ior__", "__iand__", "__isub__", "__ixor__"),
)


def wrap_changes(kind: type[set[Any]], wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace each method that changes sets of this type by wrapped(method)."""
    for name in _CHANGES:
        change = getattr(kind, name)
        method = wrapped(change)
        method.__name__ = method.__qualname__ = name
        method.__doc__ = change.__doc__
        setattr(kind, name, method)


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

    def telling(change: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *args: Any) -> Any:
            try:
                return change(self, *args)
            finally:
                changed()

        return method

    wrap_changes(OperandSet, telling)
    return OperandSet
