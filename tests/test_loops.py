"""Random functions with loops and branches, nested in each other and in transforms, against unrolled ones and JAX.

120 programs for each layer by default; with LONG=1 10,000, and 1,000 against JAX. Each has a seed: SEED=... starts at
another one, PROGRAM=seed shows and runs one alone.
"""

from __future__ import annotations

import importlib.util
import os
import random
from collections import Counter

import pytest

np = pytest.importorskip("numpy")
import loops  # noqa: E402

LONG = bool(os.environ.get("LONG"))
PROGRAMS = 10_000 if LONG else 120  # for each operand layer
AGAINST_JAX = 1_000 if LONG else 4


def seeds(count):
    if "PROGRAM" in os.environ:
        return [int(os.environ["PROGRAM"])]
    first = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={first}")
    return range(first, first + count)


def check(numbers, sides, mains=tuple(loops.MAINS), most=3):
    """Run the programs of these seeds on both sides; fail with the smallest of each kind of failure."""
    taken, sorts = Counter(), {}
    for seed in numbers:
        program = loops.Loops(seed, depth=random.Random(seed).choice([1, 2, 2, most]))
        main = mains[seed % len(mains)]
        found = []
        for side in sides(program, main):
            try:
                found.append(loops.run(program.text, loops.MAINS[main], side, loops.arguments(seed)))
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
        taken.update([*program.features, main])
        if "PROGRAM" in os.environ:
            print(program.text, main, *found, sep="\n")
        is_error = [isinstance(result, str) for result in found]
        if any(is_error) or loops.differ(*found):
            sort = str([result[:60] for result in found if isinstance(result, str)]) if any(is_error) else main
            if len(program.text) < len(sorts.get(sort, (program.text + " ",))[0]):
                sorts[sort] = (program.text, f"PROGRAM={seed}, {main}: {found}")
    print(", ".join(f"{count} {name}" for name, count in taken.most_common()))
    for text, failure in [*sorts.values()][:5]:
        print(f"\n{failure}\n{text}")
    assert not sorts, [failure[:200] for _, failure in sorts.values()]
    return taken


def test_random_loops_equal_their_unrolled_versions(pg):
    taken = check(seeds(PROGRAMS), lambda program, main: loops.of_pygrad(pg))
    if "PROGRAM" not in os.environ:
        assert [name for name in (*loops.MAINS, *loops.FEATURES) if taken[name] < 3] == []


FORWARD = {"jit", "jacfwd", "jvp", "vmap", "vmap of both", "vmap of p", "lanes one by one", "vmap in vmap"}


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax")
def test_random_loops_equal_those_of_jax():
    import jax

    import pygrad

    def sides(program, main):
        jax.clear_caches()  # some 100 mappings of memory for each program, of 65,530 that a process may have
        is_forward = main in FORWARD and not program.features & {"grad", "grad of an array"}
        return loops.of_pygrad(pygrad)[0], loops.of_jax(is_forward)

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        check(seeds(AGAINST_JAX), sides, most=2)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_a_wrong_derivative_of_a_loop_is_noticed(pg, monkeypatch):
    """The harness finds faults, planted in Python."""
    rules = pg._record.loops
    faults = {
        "_pulled": lambda *args, real=rules._pulled: [grad * 1.0001 for grad in real(*args)],
        "_pushed": lambda *args, real=rules._pushed: [slope * 1.0001 for slope in real(*args)],
        "_or_zero": lambda values, real=rules._or_zero: [value * 1.0001 for value in real(values)],
    }
    for name, fault in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr(rules, name, fault)
            with pytest.raises(AssertionError, match="PROGRAM"):
                check(range(15), lambda program, main: loops.of_pygrad(pg), ["hessian", "jvp of grad"], most=1)
