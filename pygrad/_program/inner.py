"""Programs that others call, as listings and C need them: what their numbers are called. See pgr_call in pgr.h."""

from __future__ import annotations

from typing import Any, NamedTuple

from pygrad._pgr import ffi, lib
from pygrad._program.code import parts_of


class Inner(NamedTuple):
    """A program that is called, as one kind of call sees it. Two that are equal are the same."""

    address: int
    role: str
    lanes: bool  # whether it runs on the lanes of its caller
    counts: tuple[int, ...]  # of constants, carried numbers, numbers of a step
    is_test: bool

    def parts(self) -> Any:
        return parts_of(ffi.cast("pgr_program *", self.address))

    def read(self, array: int, offset: int, stride: int = 0) -> str:
        """The name of a number that it reads."""
        if array > 0 and not self.lanes:
            return f"memory{array - 1}[{offset}{f' + {stride}*lane' if stride else ''}]"
        place = array - 1 if array > 0 else offset  # a lane of operand k is in array 1 + k
        if stride and not self.lanes:  # through numbers that are one after another: only in programs by hand
            return f"given[{offset} + {stride}*lane]"
        for name, count in zip(("const", "carried", "given"), self.counts):
            if place < count:
                return f"{name}[{place}]"
            place -= count
        return f"given[{place}]"  # only in damaged programs

    def write(self, array: int, offset: int, stride: int = 0) -> str:
        """The name of a number that it writes."""
        if self.is_test:
            return "goes on"
        place = array - 1 if self.lanes and array > 0 else offset
        lane = f" + {stride}*lane" if stride and not self.lanes else ""
        if self.role == _BRANCH:
            return f"result[{place}{lane}]"
        carried = self.counts[1]
        return f"next[{place}{lane}]" if place < carried else f"result[{place - carried}{lane}]"


_BRANCH = "a branch"


def inner_of(parts: Any, call: Any, k: int, lanes: bool) -> Inner:
    """Program k of a call of these parts."""
    is_switch, is_test = bool(call.flags & lib.PGR_CALL_SWITCH), k == 1 and bool(call.flags & lib.PGR_CALL_TESTED)
    role = _BRANCH if is_switch else "a test" if is_test else "a step"
    counts = (call.const_count,) if is_switch else (call.const_count, call.carry_count, call.x_count)
    address = int(ffi.cast("uintptr_t", parts.programs[call.first_program + k]))
    return Inner(address, role, lanes, counts, is_test)


def operand_counts(call: Any) -> list[tuple[str, int]]:
    """The kinds of a call's operands, in order, and how many there are."""
    if call.flags & lib.PGR_CALL_SWITCH:
        return [("", 1), ("const", call.const_count)]
    counted = int(bool(call.flags & lib.PGR_CALL_COUNTED))
    given = call.steps * call.x_count
    return [("const", call.const_count), ("carried", call.carry_count), ("", counted), ("given", given)]


def result_count(call: Any) -> int:
    if call.flags & lib.PGR_CALL_SWITCH:
        return int(call.carry_count)
    return int(call.carry_count + bool(call.flags & lib.PGR_CALL_TESTED) + call.steps * call.y_count)
