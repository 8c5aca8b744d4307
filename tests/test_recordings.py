"""When functions are recorded, and when again; which programs are kept; random draws are noticed."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import secrets
import sys
import threading
import time
import types
import weakref

import pytest
from helpers import COUNTS, end_dead_objects

np = pytest.importorskip("numpy")


# ---- jvp and vjp ---------------------------------------------------------------------------------


def test_jvp_and_vjp_see_what_a_closure_has_become(pg):
    factors = [2.0]

    def function(x):
        return sum((factor * x for factor in factors), 0.0 * x)

    assert pg.jvp(function, (3.0,), (1.0,)) == (6.0, 2.0)
    value, before = pg.vjp(function, 3.0)
    assert value == 6.0 and before(1.0) == (2.0,)
    factors.append(5.0)
    assert pg.jvp(function, (3.0,), (1.0,)) == (21.0, 7.0)
    value, after = pg.vjp(function, 3.0)
    assert value == 21.0 and after(1.0) == (7.0,)
    assert before(10.0) == (20.0,), "a pullback belongs to its own call"


def test_a_pullback_called_late_is_that_of_its_call(pg):
    factors = [2.0]
    _, pullback = pg.vjp(lambda x: factors[0] * x, 3.0)
    factors[0] = 9.0
    assert pullback(1.0) == (2.0,)


def test_jvp_and_vjp_keep_no_function(pg):
    kept = []

    def derive():
        array = np.ones(1000)
        kept.append(weakref.ref(array))

        def function(x):
            return (x * array[:3]).sum()

        x = np.arange(3.0)
        assert pg.jvp(function, (x,), (x,)) == (3.0, 3.0)
        value, pullback = pg.vjp(function, x)
        assert value == 3.0 and pullback(2.0)[0].tolist() == [2.0] * 3

    for _ in range(20):
        derive()
    end_dead_objects()
    pg.collect()
    end_dead_objects()
    assert not any(reference() is not None for reference in kept)


def test_jvp_and_vjp_of_a_jit_are_recorded_once(pg):
    calls = []

    @pg.jit
    def function(x):
        calls.append(x)
        return x * x

    for x in (1.0, 2.0, 3.0):
        assert pg.jvp(function, (x,), (0.5,)) == (x * x, x)
        value, pullback = pg.vjp(function, x)
        assert value == x * x and pullback(2.0) == (4.0 * x,)
    assert len(calls) == 3  # one of jvp, two of vjp
    kept = weakref.ref(function)
    del function, calls[:], pullback
    gc.collect()
    assert kept() is None


# ---- Random numbers ------------------------------------------------------------------------------


@contextlib.contextmanager
def drawing():
    """Another thread draws from both global generators all the time."""
    started, stop = threading.Event(), threading.Event()

    def draw():
        while not stop.is_set():
            random.random(), np.random.random()
            started.set()

    thread = threading.Thread(target=draw)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        started.wait()
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


@contextlib.contextmanager
def idle():
    """Another thread does nothing."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_draws_of_another_thread_do_not_refuse_a_recording(pg):
    with drawing():
        for k in range(20 if COUNTS else 3):  # PyPy records for longer: others draw meanwhile, and it waits for quiet
            function = pg.grad(lambda x, k=k: x * k + x.tanh())
            assert function(0.0) == k + 1.0


aside = types.ModuleType("aside")
exec("import random\nmade = random.Random(1)\ndef noise(): return made.random()", aside.__dict__)
noise = secrets.randbelow

DRAWS = [
    lambda x: x * random.random(),
    lambda x: x * random.gauss(0, 1),
    lambda x: x * np.random.normal(),
    lambda x: x * sum(map(random.Random.random, [random._inst])),
    lambda x: x * np.random.default_rng().normal(),
    lambda x: x * random.SystemRandom().random(),
    lambda x: x * random.Random().random(),
    lambda x: x * int.from_bytes(os.urandom(4), "little"),
    lambda x: x * noise(2**40),
    lambda x: x * aside.noise(),
    lambda x: x if random.random() < 2.0 else -x,
]


@pytest.mark.parametrize("others", [contextlib.nullcontext, idle, drawing], ids=["alone", "idle", "drawing"])
def test_a_function_that_draws_is_refused_whatever_other_threads_do(pg, others):
    with others():
        for i, draw in enumerate(DRAWS):
            with pytest.raises(pg.RecordingError, match="draws random numbers"):
                pg.jit(draw)(1.0)
                print(f"not refused: {i}")


def test_a_draw_that_changes_nothing_is_refused_where_nobody_else_draws(pg):
    def function(x):
        return x if np.random.random() < 2.0 else -x

    with idle(), pytest.raises(pg.RecordingError, match="draws random numbers"):
        pg.jit(function)(1.0)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64, np.random.SFC64])
@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.Generator])
def test_each_of_many_draws_is_noticed(pg, kind, bits):
    generator = kind(bits(1))
    for draw in (*[generator.standard_normal] * 4, generator.random, *[lambda: generator.bytes(1)] * 3):
        with pytest.raises(pg.RecordingError, match="draws random numbers"):
            pg.jit(lambda x, draw=draw: x * (generator is None) + len(str(draw())))(1.0)
    assert pg.jit(lambda x: x * (generator is None))(1.0) == 0.0


def test_seeded_generators_within_a_function_are_constants(pg):
    for others in (contextlib.nullcontext, drawing):
        with others():
            function = pg.jit(lambda x: x * np.random.default_rng(3).normal() + random.Random(4).random())
            expected = np.random.default_rng(3).normal() + random.Random(4).random()
            assert function(1.0) == expected


def test_a_second_recording_that_differs_is_refused(pg):
    def function(x):
        return x * next(counted) + (np.random.default_rng(0) is None)

    counted = iter(range(100))
    with pytest.raises(pg.RecordingError, match="Two recordings of the function differ"):
        pg.jit(function)(1.0)
    counted = iter([1.0])
    with pytest.raises(pg.RecordingError, match="Two recordings of the function differ") as caught:
        pg.jit(function)(1.0)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_recording_calls_the_function_once_where_nothing_is_suspicious(pg):
    calls = []

    def function(x):
        calls.append(x)
        return x * 2.0

    with idle():
        assert pg.jit(function)(1.0) == 2.0
    assert len(calls) == 1


def test_recording_touches_nothing_global(pg):
    before = random._urandom, sys.getprofile(), sys.gettrace()
    assert random._urandom is os.urandom
    pg.jit(lambda x: x * np.random.default_rng(3).normal())(1.0)
    assert (random._urandom, sys.getprofile(), sys.gettrace()) == before


def test_a_profile_function_that_is_there_stays(pg):
    def watch(*_):
        pass

    sys.setprofile(watch)
    try:
        with pytest.raises(pg.RecordingError, match="draws random numbers"):
            pg.jit(lambda x: x * np.random.default_rng().normal())(1.0)
        assert sys.getprofile() is watch
    finally:
        sys.setprofile(None)


# ---- Programs that are kept ----------------------------------------------------------------------


def test_threads_may_record_more_shapes_than_are_kept(pg):
    function = pg.value_and_grad(lambda x: (x * x).sum())
    function.cache_size = 1
    wrong, end = [], time.monotonic() + 0.5

    def work(rng):
        try:
            while time.monotonic() < end:
                x = np.array([float(rng.randrange(5)) for _ in range(rng.randrange(1, 6))])
                value, slope = function(x)
                if value != (x * x).sum() or not np.array_equal(slope, 2 * x):
                    wrong.append((x, value, slope))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(random.Random(i),)) for i in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong and len(function.programs) == 1
