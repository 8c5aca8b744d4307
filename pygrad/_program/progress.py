"""How far a recorded function that runs for long has come."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

from pygrad._core.bars import need_tqdm
from pygrad._core.layer import on_progress
from pygrad._pgr import ffi, lib

UNBOUNDED = 1e15  # days of work: of a loop whose number of steps has no bound

_present: contextvars.ContextVar[_Progress | None] = contextvars.ContextVar("progress", default=None)


class _Progress:
    """The bar of a block: of the call that runs in it."""

    def __init__(self, description: str) -> None:
        self._tqdm, self._description = need_tqdm(), description
        self._bar: Any = None  # until a call takes long enough
        self._program = self._calls = 0

    def show(self, program: int, done: int) -> None:
        if self._bar is None:
            self._bar = self._tqdm(desc=self._description, unit="op", unit_scale=True)
        if program != self._program or done < self._bar.n:
            self._program, self._calls = program, self._calls + 1
            work = lib.pgr_program_work(ffi.cast("pgr_program *", program))
            self._bar.reset(total=work if work < UNBOUNDED else None)
            if self._calls > 1:
                self._bar.set_postfix(call=self._calls, refresh=False)
        self._bar.update(min(done, self._bar.total or done) - self._bar.n)

    def close(self, finished: bool) -> None:
        if self._bar is None:
            return
        if finished and self._bar.total:
            self._bar.update(self._bar.total - self._bar.n)
        self._bar.close()


def _show(program: int, done: int) -> None:
    if (progress := _present.get()) is not None:
        progress.show(program, done)


@contextlib.contextmanager
def progress(description: str = "") -> Iterator[None]:
    """In a `with` block: a bar (tqdm) shows how far a recorded function has run.

    If several functions run, one after another, it shows the current one. It counts instructions, for each step of a
    loop and each lane. At the end it jumps over the steps that a while_loop did not take, and over the share of other
    workers. Without a bound on the steps, it shows only the rate. Runs of less than some 10 ms show nothing. Each
    thread has a bar of its own. Raises ImportError without tqdm.

    >>> from pygrad import fori_loop, jit
    >>> with progress("simulate"):
    ...     jit(lambda x: fori_loop(0, 1000, lambda i, s: s * 0.5 + x, x))(1.0)
    2.0
    """
    shown = _Progress(description)
    token = _present.set(shown)
    on_progress(_show)  # from now on: it costs nothing
    finished = False
    try:
        yield
        finished = True
    finally:
        _present.reset(token)
        shown.close(finished)
