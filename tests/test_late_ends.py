"""Objects that end in one thread, or in a finaliser, while another looks for them; most of this is for PyPy."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
from helpers import COUNTS


def tripled(Value, x):
    out = Value(3.0 * x.data, (x,), "tripled")

    def _backward():
        x.grad += 3.0 * out.grad

    out._backward = _backward
    return out


def in_threads(work, rounds):
    """Run work(thread, round) in four threads; return what they return, and raise what they raise."""
    found, raised = [], []

    def run(k):
        try:
            for i in range(rounds):
                found.extend(work(k, i))
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error
    return found


def test_closures_that_nobody_else_keeps_run_whatever_other_threads_collect(pg):
    """A finaliser in one thread once waited for the sweep in another, which did not find the closure meanwhile."""

    def work(k, i):
        leaves, roots = [pg.Value(0.5) for _ in range(20)], []
        for x in leaves:
            y = x
            for _ in range(5):
                y = tripled(pg.Value, y)
            roots.append(y * 2.0)
        del x, y
        if (i + k) % 4 == 0:
            gc.collect()
        for root in roots:
            root.backward()
        return [x.grad for x in leaves]

    grads = in_threads(work, 12 if COUNTS else 25)
    assert len(grads) >= 960 and set(grads) == {2.0 * 3.0**5}


def test_operands_are_the_same_objects_in_every_thread(pg):
    """While one thread registered the objects of a page, another once made second objects of the same nodes."""

    def work(k, i):
        xs = [pg.Value(float(n)) for n in range(40)]
        ys = [x * 2.0 for x in xs]
        if k == 0 and i % 20 == 0:
            gc.collect()
        wrong = [x.data for x, y in zip(xs, ys) if not any(v is x for v in y._operands())]
        for x in xs:
            x.label = "x"
        return wrong + [y._operands()[0].data for y in ys if y._operands()[0].label != "x"]

    assert in_threads(work, 30 if COUNTS else 120) == []


def test_changed_sets_of_objects_that_have_ended_count_in_the_next_pass(pg):
    x, z = pg.Value(2.0), pg.Value(5.0)
    for _ in range(50):
        y = x * 3.0
        root = y * 2.0
        y._prev.discard(x)
        y._backward = lambda: None
        y._prev.add(z)
        del y
        root.backward()
        (y,) = (v for v in root._operands() if v.data == 6.0)
        assert {v.data for v in y._operands()} == {3.0, 5.0}
        y._prev.clear()
        del y
        gc.collect()
        root.backward()
        assert [len(v._operands()) for v in root._operands()] == [0, 0]
    assert x.grad == 0.0 and z.grad == 0.0


def lines_of(registry, work, at, act, functions=None):
    """Run work(), and act() before the `at`-th line that it runs in the registry, or in functions of it, by name.
    Returns how many lines there were.
    """
    count = 0

    def on_line(frame, event, _arg):
        nonlocal count
        if event == "line":
            count += 1
            if count == at:
                sys.settrace(None)
                act()
        return on_line

    def on_call(frame, _event, _arg):
        code = frame.f_code
        return (
            on_line if code.co_filename == registry.__file__ and code.co_name in (functions or code.co_name) else None
        )

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


class Pages:
    """Values on pages which are parted, get attributes, end; each y is twice the x beside it."""

    def __init__(self, pg, registry):
        self.pg, self.registry, self.pairs = pg, registry, []

    def work(self):
        for i in range(70):
            x = self.pg.Value(float(i))
            self.pairs.append((x, x * 2.0))
            if i % 30 == 20:
                self.registry._book.young = lambda: None  # as after a collection
            if i % 7 == 3:
                self.pairs[i - 2][0].label = "x"
        del self.pairs[40:50]
        self.registry.part_pages()

    def meddle(self):
        """What a finaliser or another thread may do between two lines."""
        for x, y in self.pairs[-3:]:
            assert any(v is x for v in y._operands())
        for x, y in self.pairs[-1:-40:-13]:
            x.note = y.note = "note"
        self.registry._book.young = lambda: None
        for _ in range(40):
            self.pg.Value(1.0)

    def check(self):
        for x, y in self.pairs:
            assert y.data == 2.0 * x.data and any(v is x for v in y._operands())
            x.grad = 0.0
            (y * 3.0).backward()
            assert x.grad == 6.0
        self.pairs.clear()


@pytest.mark.skipif(COUNTS, reason="objects are on no pages where references are counted")
@pytest.mark.parametrize("is_interrupt", [False, True])
def test_whatever_happens_between_two_lines_each_node_keeps_its_object_and_its_hold(pg, is_interrupt):
    registry = sys.modules["pygrad._core.portable.registry"]
    pages = Pages(pg, registry)

    def interrupt():
        raise KeyboardInterrupt

    act = interrupt if is_interrupt else pages.meddle
    lines = lines_of(registry, pages.work, 0, None)
    pages.check()
    assert lines > 1000
    pg.collect()
    before = pg.tape_stats().handles
    for at in range(1, lines, 31):
        try:
            lines_of(registry, pages.work, at, act)
        except KeyboardInterrupt:
            assert is_interrupt
        pages.check()
    pg.collect()
    pg.collect()
    # An interrupt may leave a hold or two behind, never release one that is needed.
    assert pg.tape_stats().handles - before <= (2 * lines / 31 if is_interrupt else 0)


@pytest.mark.skipif(COUNTS, reason="objects are on no pages where references are counted")
def test_an_interrupt_while_a_value_gets_its_end_releases_no_hold_that_it_needs(pg):
    registry, kept, at, lines = sys.modules["pygrad._core.portable.registry"], [], 0, 1

    def work():
        kept.clear()
        for number in (1.0, 2.0):
            registry._book.next_page()
            kept.append(pg.Value(number))  # no other keeps its page
        registry._book.next_page()
        kept[0].label = "x"
        registry.part_pages()

    def interrupt():
        raise KeyboardInterrupt

    while at < lines:
        at += 1
        try:
            lines = lines_of(registry, work, at, interrupt, ("give_end", "unwatch", "_part"))
        except KeyboardInterrupt:
            lines += 1
        for _ in range(3):  # values, their pages, the pages' volume
            gc.collect()
            registry.part_pages()
            registry.release_ended()
        assert [v.data for v in kept] == [1.0, 2.0]
    assert at > 30


@pytest.mark.parametrize("is_walked", [False, True])
def test_a_long_chain_of_values_is_freed_by_few_collections(pg, is_walked):
    pg.collect()
    before = pg.tape_stats().handles
    x = y = pg.Value(1.0)
    chain = [x]
    for _ in range(3000):
        y = y * 1.0
        chain.append(y)
    if is_walked:
        assert all(len(v._prev) == 2 for v in chain[1:])
    y.backward()
    assert x.grad == 1.0
    del x, y, chain
    pg.collect()
    assert pg.tape_stats().handles == before


@pytest.mark.parametrize("found", [0, 1, 2])
def test_values_that_pythons_own_collections_have_found_are_freed_by_collect(pg, found):
    def chain(y):  # its frame ends
        for _ in range(100):
            y = y.sin()

    x = pg.Value(1.0)
    pg.collect()
    before = pg.tape_stats().nodes
    chain(x)
    for _ in range(found):
        gc.collect()
    pg.collect()
    assert pg.tape_stats().nodes == before
