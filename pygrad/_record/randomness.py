"""Detect functions that draw random numbers while they are recorded: every call would reuse the same numbers.

The check changes nothing global and ignores draws of other threads. A recording is suspicious if a generator that the
function can reach has changed its state meanwhile, or if the function's code names a source of fresh generators or of
the system's entropy. With no other thread running, a changed state is proof. Otherwise the function is recorded again
under a profile function, which belongs to this thread: it sees calls of Python's generators and of os.urandom. It does
not see NumPy's methods or calls by C code; but then the programs differ, or the state stays when nobody draws.
"""

from __future__ import annotations

import _thread
import functools
import os
import random
import sys
import time
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from pygrad._core.errors import _NOBODY, RecordingError, users_line
from pygrad._pgr import ffi

if TYPE_CHECKING:
    from pygrad._program.program import Program

_SOURCES = {
    *("default_rng", "SeedSequence", "RandomState", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"),
    *("Random", "SystemRandom", "urandom", "getrandom", "uuid1", "uuid4"),
    *("secrets", "token_bytes", "token_hex", "token_urlsafe", "randbits", "randbelow"),
}
_DRAWS = (
    "The function draws random numbers, which would be the same on every call: draw them outside and pass them as "
    "arguments, or use record=False"
)
_DIFFERS = (
    "Two recordings of the function differ: it draws random numbers, or reads state that changes. Pass such numbers as "
    "arguments, or use record=False"
)
_AGAIN = 9  # recordings, while other threads draw from the same generators
_WAIT = 0.1  # seconds to watch whether others draw
_QUIET = 4  # recordings that drew while nobody else did: enough to rule out chance


def recorded(function: Any, record: Callable[[], Program]) -> Program:
    """Return record(), a recording of `function`. Raises RecordingError if it draws random numbers."""
    generators, names_source = _sources(function)
    before = _states(generators)
    program = record()
    changed = not all(map(_is_at, generators, before))
    if changed and _is_alone():
        _refuse(_DRAWS)
    if not changed and not names_source:
        return program
    quiet = 0  # recordings that drew, while nobody drew before and after
    for _ in range(_AGAIN):
        before = _states(generators)
        _record_again(record, program, generators)
        after = _states(generators)
        if after == before:
            return program
        time.sleep(_WAIT)
        quiet += _states(generators) == after
        if quiet == _QUIET:
            _refuse(_DRAWS)
    return program


def _is_alone() -> bool:
    """Whether there is no other thread.

    sys._current_frames() would know of those that C has made, too. But it may collect while it holds a lock of the
    interpreter's, and a finaliser that waits for another thread then waits for ever.
    """
    count: int = getattr(_thread, "_count", lambda: 1)()  # without the main thread
    return count == 0


def _record_again(record: Callable[[], Program], program: Program, generators: list[Any]) -> None:
    """Record again. Raises RecordingError if that draws, or gives another program."""
    watched = {id(generator) for generator in generators}
    seen = False

    def watch(_frame: Any, event: str, called: Any) -> None:
        nonlocal seen
        if event == "c_call" and (called is os.urandom or id(getattr(called, "__self__", None)) in watched):
            seen = True

    profiles = sys.getprofile() is None  # leave another profiler alone
    error = None
    again = None
    try:
        if profiles:
            sys.setprofile(watch)
        again = record()
    except Exception as raised:
        error = raised
    finally:
        if profiles:
            sys.setprofile(None)
    if seen:
        _refuse(_DRAWS)
    if again is None or again.code.content() != program.code.content():
        _refuse(_DIFFERS, error)


def _refuse(text: str, cause: Exception | None = None) -> NoReturn:
    raise RecordingError(f"{users_line()}\n{text}") from cause


def _states(generators: list[Any]) -> list[Any]:
    """States of the generators: they change with every draw."""
    return [_state(generator) for generator in generators]


def _state(generator: Any) -> Any:
    """A generator's state, that can be compared and does not change with it."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    is_new = hasattr(generator, "bit_generator")
    return _frozen(generator.bit_generator.state if is_new else generator.get_state(legacy=False))


def _frozen(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _frozen(x) for name, x in state.items()}
    return state.tobytes() if hasattr(state, "tobytes") else state


def _is_at(generator: Any, state: Any) -> bool:
    """Whether a generator has this state.

    NumPy needs 30 us to tell that of a Mersenne Twister. But if it keeps no second normal aside, the state is an array
    of numbers and a position, which are the same while they are the same bytes in memory.
    """
    if isinstance(state, dict) and state.get("bit_generator") == "MT19937" and not state.get("has_gauss"):
        expected = state["state"]["key"] + state["state"]["pos"].to_bytes(ffi.sizeof("int"), sys.byteorder)
        bits = generator.bit_generator if hasattr(generator, "bit_generator") else generator._bit_generator
        if ffi.buffer(ffi.cast("char *", bits.ctypes.state_address), len(expected)) == expected:
            return True
    return bool(_state(generator) == state)


def _sources(function: Any) -> tuple[list[Any], bool]:
    """(generators that the function may draw from, whether it may reach a source of others).

    These are Python's and NumPy's global generators, and all that it reaches through its closure, defaults and
    globals, and through those of the functions in them.
    """
    found: list[Any] = [random._inst]
    kinds: tuple[type, ...] = (random.Random,)
    np = sys.modules.get("numpy")
    if np is not None:
        found.append(np.random.mtrand._rand)
        kinds = (random.Random, np.random.Generator, np.random.RandomState)
    names_source = False
    todo, seen = [function], {id(function)}
    while todo and len(seen) < 10_000:
        x = todo.pop()
        names_source = names_source or getattr(x, "__name__", None) in _SOURCES
        if isinstance(x, kinds) and not isinstance(x, random.SystemRandom):
            found.append(x)
            continue
        names = _names(x.__code__) if _is_users(x) else None
        names_source = names_source or (names is not None and not names.isdisjoint(_SOURCES))
        for y in _reached(x, names):
            if id(y) not in seen:
                seen.add(id(y))
                todo.append(y)
    return found, names_source


def _is_library(module: Any) -> bool:
    """Whether a module's name is a library's, not one of user code."""
    return str(module).partition(".")[0] in _NOBODY


def _is_users(x: Any) -> bool:
    """Whether `x` is a function from user code. PyPy's built-in functions have no code to look into."""
    return isinstance(x, FunctionType) and isinstance(x.__code__, CodeType) and not _is_library(x.__module__)


def _reached(x: Any, names: set[str] | None) -> list[Any]:
    """The objects that `x` may call or read; `names` if it is a function from user code: those in its code."""
    if isinstance(x, FunctionType):
        reached = [cell.cell_contents for cell in x.__closure__ or () if not _is_empty(cell)]
        reached += [*(x.__defaults__ or ()), *(x.__kwdefaults__ or {}).values()]
        return reached if names is None else reached + _globals_of(x, names)
    if isinstance(x, MethodType):
        return [x.__func__, x.__self__]
    if isinstance(x, functools.partial):
        return [x.func, *x.args, *x.keywords.values()]
    if hasattr(x, "__wrapped__"):
        return [x.__wrapped__]
    if callable(x) and not isinstance(x, type) and hasattr(x, "__dict__"):
        return [*x.__dict__.values(), type(x).__call__]
    return []


def _globals_of(function: FunctionType, names: set[str]) -> list[Any]:
    """The globals that a function's code names, and the names it may use from user modules among them."""
    used = [function.__globals__[name] for name in names if name in function.__globals__]
    modules = [x for x in used if isinstance(x, ModuleType) and x.__name__.partition(".")[0] not in _NOBODY]
    return used + [vars(module)[name] for module in modules for name in names if name in vars(module)]


def _is_empty(cell: Any) -> bool:
    try:
        return cell.cell_contents is None
    except ValueError:
        return True


def _names(code: CodeType) -> set[str]:
    """The globals and attributes that a function and its inner functions may use. Names with @ are not the user's:
    where pytest has rewritten an assert, they would lead through all of pytest.
    """
    names = {name for name in code.co_names if not name.startswith("@")}
    return names.union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))
