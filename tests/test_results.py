"""The memory of results is used again, and never while somebody holds it."""

from __future__ import annotations

import gc
import platform
import threading
import weakref

import pytest

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.skipif(platform.python_implementation() != "CPython", reason="there are no reference counts")
LENGTH = 5000


@pytest.fixture
def memory(pg):
    """The module, without the memory of other tests."""
    memory = pg._program.memory
    memory._kept.clear()
    yield memory
    memory._kept.clear()


@pytest.fixture
def double(pg):
    f = pg.vmap(lambda x: x * 2.0 + 1.0)
    f(np.zeros(LENGTH))
    gc.collect()
    return f


def place(array):
    return array.__array_interface__["data"][0]


HOLDS = {
    "itself": lambda r: r,
    "a slice": lambda r: r[10:20],
    "a view of a view": lambda r: r[::3].reshape(-1, 1).T,
    "another type": lambda r: r.view("i8"),
    "its base": lambda r: r.base,
    "a memoryview": memoryview,
    "a slice of a memoryview": lambda r: memoryview(r)[5:],
    "an array of its buffer": lambda r: np.frombuffer(memoryview(r)),
    "an iterator": lambda r: iter(r.flat),
    "a list": lambda r: [r],
    "a closure": lambda r: lambda: r,
    "the array protocol": lambda r: np.asarray(type("Holder", (), {"__array__": lambda self, *args, **kw: r})()),
    "DLPack": np.from_dlpack if hasattr(np, "from_dlpack") else (lambda r: r),
}


@pytest.mark.parametrize("how", HOLDS)
def test_what_somebody_holds_keeps_its_numbers(memory, double, how):
    x = np.arange(float(LENGTH))
    result = double(x)
    at = place(result)
    held = HOLDS[how](result)
    del result
    others = [double(x + k) for k in range(5)]
    assert at not in map(place, others)
    assert len(set(map(place, others))) == 5
    for k, other in enumerate(others):
        assert np.array_equal(other, (x + k) * 2 + 1)
    if isinstance(held, np.ndarray) and held.dtype == float and held.size == LENGTH:
        assert np.array_equal(held.ravel(), x * 2 + 1)
    del held
    gc.collect()
    more = [double(x) for _ in range(2)]
    assert at in map(place, more)


def test_a_result_that_nobody_holds_gives_its_memory_to_the_next(memory, double):
    x = np.ones(LENGTH)
    assert len({place(double(x)) for _ in range(20)}) == 1
    a = double(x)
    b = double(a)
    assert place(a) != place(b) and np.all(a == 3.0) and np.all(b == 7.0)
    for _ in range(10):
        a = double(a)  # the argument's memory is in use until the call is over
    assert np.all(a == 4.0 * 2.0**10 - 1.0)


def test_weak_references_to_results_die_with_them(memory, double):
    result = double(np.ones(LENGTH))
    ref = weakref.ref(result)
    del result
    assert ref() is None
    double(np.ones(LENGTH))
    assert ref() is None


def test_results_of_several_leaves_and_shapes_are_apart(memory, pg):
    f = pg.vmap(pg.value_and_grad(lambda x, y: x * x * y, argnums=(0, 1)))
    x, y = np.arange(1.0, 1.0 + LENGTH), np.arange(2.0, 2.0 + LENGTH)
    held = []
    for k in range(30):
        value, (dx, dy) = f(x, y + k)
        if k % 3 == 0:
            held.append((k, value, dx, dy))
    for k, value, dx, dy in held:
        assert np.array_equal(value, x * x * (y + k))
        assert np.array_equal(dx, 2 * x * (y + k))
        assert np.array_equal(dy, x * x)


def test_no_more_is_kept_than_is_said(memory, double, monkeypatch):
    monkeypatch.setattr(memory, "_MOST", 10 * LENGTH)
    held = [double(np.full(LENGTH, float(k))) for k in range(100)]
    assert sum(array.size for array in memory._kept) <= 10 * LENGTH
    assert all(np.all(result == 2.0 * k + 1.0) for k, result in enumerate(held))
    del held
    double(np.zeros(LENGTH // 2))
    assert sum(array.size for array in memory._kept) <= 10 * LENGTH
    monkeypatch.setattr(memory, "_MOST", 1000 * LENGTH)
    held = [double(np.full(LENGTH, float(k))) for k in range(100)]
    assert len(memory._kept) <= memory._MOST_ARRAYS
    assert all(np.all(result == 2.0 * k + 1.0) for k, result in enumerate(held))


def test_threads_do_not_get_each_others_memory(memory, double):
    wrong = []

    def work(number):
        x = np.full(LENGTH, float(number))
        held = []
        for k in range(200):
            held.append((k, double(x + k)))
            if len(held) > k % 7:
                held.pop(0)
            wrong.extend((number, j) for j, result in held if not np.all(result == 2.0 * (number + j) + 1.0))

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_results_may_be_changed_and_their_memory_used_again(memory, double):
    x = np.ones(LENGTH)
    for _ in range(5):
        result = double(x)
        assert np.all(result == 3.0) and result.flags.writeable and result.flags.c_contiguous
        result[:] = np.nan
        result.flags.writeable = False
        del result
