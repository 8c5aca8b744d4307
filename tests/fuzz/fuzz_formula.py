#!/usr/bin/env python3
"""Any text as a formula: it is parsed or refused, and then evaluated or refused, as documented.

`python tests/fuzz/fuzz_formula.py -runs=1000000 tests/fuzz/corpus/formula` (atheris); `check` alone needs nothing.
"""

from __future__ import annotations

import math
import sys
import time


def check(data: bytes) -> str:
    """One input, UTF-8 with lone surrogates. Returns 'refused', 'evaluated' or 'no value'."""
    from pygrad._core.layer import TAPE, lib
    from pygrad.formula import CONSTANTS, MAX_LENGTH, FormulaError, parse

    text = data.decode("utf-8", "surrogatepass") if _is_text(data) else data.decode("latin-1")
    start = time.process_time()
    try:
        formula = parse(text)
    except FormulaError as error:
        assert str(error) and len(str(error)) < 1000, f"a message of {len(str(error))} characters"
        assert error.position is None or 0 <= error.position <= max(len(text), MAX_LENGTH), error.position
        return "refused"
    finally:
        assert time.process_time() - start < 5, f"{time.process_time() - start} s"
    assert len(formula._steps) <= len(text) <= MAX_LENGTH
    assert all(math.isfinite(step.number) for step in formula._steps)
    before = lib.pgr_tape_size(TAPE)  # for tape_stats(), PyPy would look at all objects there are
    result = "no value"
    for at in (0.5, -2.0):
        names = [*formula.names, *(name for name in formula.constants if at < 0)]
        try:
            value = formula.value(**dict.fromkeys(names, at))
        except (FormulaError, ZeroDivisionError, ValueError, OverflowError) as error:
            assert str(error), "an error without a message"
            continue
        assert isinstance(value.data, float)
        value.backward()
        result = "evaluated"
    assert lib.pgr_tape_size(TAPE) <= before + 2 * (2 * len(formula._steps) + 2)  # or it has collected
    if formula.names:
        try:
            formula.value()
        except FormulaError as error:
            assert error.position is not None and 0 <= error.position < len(text)
        else:
            raise AssertionError(f"a value without {formula.names}")
    assert set(formula.constants) <= set(CONSTANTS)
    return result


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _once(data: bytes) -> None:
    check(data)


if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["pygrad.formula"]):
        import pygrad.formula  # noqa: F401
    atheris.Setup(sys.argv, _once)
    atheris.Fuzz()
