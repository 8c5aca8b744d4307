"""Ties: objects that keep Values alive, and that nodes keep."""

from __future__ import annotations

import functools
import gc
import time
import types

import pytest
from helpers import is_count


class Model:
    """Values that closures share."""

    def __init__(self, pg, count):
        self.layers = [[pg.Value(0.1 * i) for i in range(100)] for _ in range(count // 100)]


def operation(pg, x, model):
    out = pg.Value(x.data, (x,), "uses the model")

    def _backward():
        x.grad += out.grad * len(model.layers)

    out._backward = _backward
    return out


def settle(pg):
    """Collect until nothing more is freed: the portable layer takes one round for each link of a chain."""
    before = None
    while before != pg.tape_stats().nodes:
        before = pg.tape_stats().nodes
        gc.collect()
        pg.collect()


@pytest.mark.parametrize("held", [False, True])
def test_closures_that_share_a_model_are_collected_in_linear_time(pg, held):
    settle(pg)
    before = pg.tape_stats().nodes
    x = pg.Value(1.0)
    model = Model(pg, 8000)
    outs = [operation(pg, x, model) for _ in range(4000)]
    kept = model if held else None
    del model
    started = time.perf_counter()
    pg.collect()
    took = time.perf_counter() - started
    print(f"{took:.3f} s")
    assert took < 1.0  # a walk from each closure takes five
    assert is_count(pg.tape_stats().nodes, before + 1 + 8000 + 4000)
    outs[-1].backward()
    assert x.grad == 80.0
    del outs[1:]
    settle(pg)
    assert is_count(pg.tape_stats().nodes, before + 1 + 8000 + 1)
    outs.clear()
    settle(pg)
    assert is_count(pg.tape_stats().nodes, before + 1 + (8000 if held else 0))
    del kept, x
    settle(pg)
    assert pg.tape_stats().nodes == before


def test_a_chain_of_attributes_is_collected_in_linear_time(pg):
    if pg._core.layer.OPERANDS == "cffi":
        pytest.skip("a link at a time, by Python's own collector")
    settle(pg)
    before = pg.tape_stats().nodes
    first = value = pg.Value(0.0)
    for _ in range(20_000):
        value.next = pg.Value(1.0)
        value = value.next
    del value
    started = time.perf_counter()
    pg.collect()
    assert time.perf_counter() - started < 1.0
    assert pg.tape_stats().nodes == before + 20_001
    del first
    settle(pg)
    assert pg.tape_stats().nodes == before


class Box:
    """An instance that refers to others."""

    def method(self):
        pass


def held_by(target, rng):
    """The object, or something that holds it: a bound method, compiled or not, or a function."""
    methods = {list: "append", dict: "get", Box: "method"}
    return rng.choice(
        [target, target, getattr(target, methods.get(type(target), "exp")), getattr(target, "backward", target)]
        + [lambda: target, functools.partial(print, target)]
    )


def behind(held):
    """The object that held_by was given."""
    if isinstance(held, types.FunctionType):
        return held.__closure__[0].cell_contents
    return held.args[0] if isinstance(held, functools.partial) else getattr(held, "__self__", held)


def link(holder, target, rng):
    """Make an object refer to another."""
    target = held_by(target, rng)
    if isinstance(holder, list):
        holder.append(target)
    elif isinstance(holder, dict):
        holder[len(holder)] = target
    else:
        setattr(holder, f"link{rng.randrange(1000)}", target)


def reachable(pg, roots):
    """The data of Values reachable by operands and references, and the number of their nodes."""
    found, stack = {}, list(roots)
    while stack:
        thing = stack.pop()
        if id(thing) in found:
            continue
        found[id(thing)] = thing
        if isinstance(thing, pg.Value):
            stack.extend(thing._operands())
        links = thing if isinstance(thing, list) else (thing if isinstance(thing, dict) else thing.__dict__).values()
        stack.extend(link for link in map(behind, links) if isinstance(link, (pg.Value, list, dict, Box)))
    values = [thing for thing in found.values() if isinstance(thing, pg.Value)]
    return sorted(value.data for value in values), sum(max(1, len(value._operands()) - 1) for value in values)


def make_web(pg, rng):
    """Values and objects that refer to each other at random; returns those that are kept."""
    values = [pg.Value(float(i)) for i in range(rng.randint(1, 12))]
    for i in range(rng.randint(0, 20)):
        values.append(pg.Value(100.0 + i, tuple(rng.choices(values, k=rng.randint(1, 4))), "op"))
    things = values + [rng.choice([list, dict, Box])() for _ in range(rng.randint(0, 15))]
    for _ in range(rng.randint(0, 60)):
        link(rng.choice(things), rng.choice(things), rng)
    return [thing for thing in things if rng.random() < 0.15]


def test_random_webs_of_objects_live_and_die_as_python_says(pg, rng):
    if pg._core.layer.OPERANDS == "cffi":
        pytest.skip("Python's collector finalises Values that notes keep: their nodes may go first")
    settle(pg)
    before = pg.tape_stats().nodes
    for _ in range(60):
        kept = make_web(pg, rng)
        numbers, nodes = reachable(pg, kept)
        settle(pg)
        assert pg.tape_stats().nodes == before + nodes
        assert reachable(pg, kept) == (numbers, nodes)
        kept.clear()
        settle(pg)
        assert pg.tape_stats().nodes == before
