"""Random programs against a plain model: build, drop, copy, pickle, edit, differentiate, collect, in any order.

200 programs by default, 50,000 with LONG=1; SEED=... repeats them.
"""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import random
import sys
import time
from collections import Counter

import pytest
from helpers import COUNTS, close
from hypothesis import HealthCheck, Phase, assume, seed, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from model import VALUES, Node

PROGRAMS = 50_000 if os.environ.get("LONG") else 200  # in both layers together
STEPS = 40
TOO_LARGE = 1e4  # results beyond it are not recorded, so that errors stay comparable
SELDOM = 1 if COUNTS else 32  # how often to have PyPy look at all objects: it takes longer than a program
ops = {}


def squares(*xs):
    return sum(x * x for x in xs)


def squares_vjp(g, _v, *xs):
    return tuple([2 * x * g for x in xs])


def twice(pg, x):
    """An operation as micrograd's users write them, whose closure holds its own output."""
    out = pg.Value(2 * x.data, (x,), "twice")

    def _backward():
        x.grad += 2 * out.grad

    out._backward = _backward
    return out


SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "relu": "ReLU", "sum_of_squares": "squares"}
NUMBERS = st.floats(-2, 2, allow_subnormal=False).map(lambda x: round(x, 3))
PICK = st.integers(0, 10**6)


def symbol(node):
    return f"**{int(node.param)}" if node.op == "powc" else SYMBOLS.get(node.op, node.op)


def machine(pg, taken):
    """The state machine over one operand layer; `taken` counts the rules by name."""
    engine = pg.engine
    sum_of_squares = ops.setdefault(id(pg), pg.custom_op(squares, squares_vjp, "squares"))
    sys.modules[__name__].sum_of_squares = sum_of_squares

    turns = itertools.count(1)

    def collect():
        if next(turns) % SELDOM:
            assert engine.lib.pgr_h_collect(engine.TAPE) == 0
        else:
            pg.collect()

    class Programs(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.alive = []  # pairs of a Value and the model's node

        @initialize(threshold=st.integers(1, 30), data=NUMBERS)
        def start(self, threshold, data):
            engine.lib.pgr_tape_limits(engine.TAPE, threshold, 2**32 - 2)
            self.leaf(data)

        def keep(self, name, value, node):
            taken[name] += 1
            self.alive.append((value, node))

        def any(self, pick):
            assume(self.alive)
            # The last ones more often, so that graphs get deep.
            i = pick % len(self.alive) if pick % 3 else len(self.alive) - 1 - (pick // 3) % min(3, len(self.alive))
            return self.alive[i]

        # ---- Building ----

        @rule(data=NUMBERS)
        def leaf(self, data):
            self.keep("leaf", pg.Value(data), Node(data))

        @rule(i=PICK, j=PICK, op=st.sampled_from(["add", "sub", "mul", "div", "mod"]))
        def binary(self, i, j, op):
            (a, x), (b, y) = self.any(i), self.any(j)
            assume(op not in ("div", "mod") or abs(y.data) > 1e-2)
            assume(op != "mod" or abs(x.data) < 100 * abs(y.data))  # likewise
            data = VALUES[op](x.data, y.data)
            assume(abs(data) < TOO_LARGE)
            method = {"div": "truediv"}.get(op, op)
            self.keep(op, getattr(a, f"__{method}__")(b), Node(data, op, (x, y)))

        @rule(i=PICK, number=NUMBERS, op=st.sampled_from(["add", "sub", "mul"]), reflected=st.booleans())
        def with_number(self, i, number, op, reflected):
            a, x = self.any(i)
            constant = Node(number)
            pair = (constant, x) if reflected else (x, constant)
            data = VALUES[op](*(node.data for node in pair))
            assume(abs(data) < TOO_LARGE)
            value = getattr(a, f"__{'r' if reflected else ''}{op}__")(number)
            self.keep("with a number", value, Node(data, op, pair))

        @rule(i=PICK, op=st.sampled_from(["tanh", "exp", "asinh", "floor", "sin", "relu", "neg"]))
        def unary(self, i, op):
            a, x = self.any(i)
            assume(op != "exp" or x.data < 9)
            assume(op != "sin" or abs(x.data) < 100)  # of larger ones, the last bits of exp decide
            self.keep(op, getattr(a, op)(), Node(VALUES[op](x.data), op, (x,)))

        @rule(i=PICK, exponent=st.sampled_from([2.0, 3.0, 1.0]))
        def power(self, i, exponent):
            a, x = self.any(i)
            data = x.data**exponent
            assume(abs(data) < TOO_LARGE)
            self.keep("power", a**exponent, Node(data, "powc", (x,), exponent))

        @rule(i=PICK)
        def detach(self, i):
            a, x = self.any(i)
            node = Node(x.data, "detach")
            self.keep("detach", a.detach(), node)

        @rule(picks=st.lists(PICK, min_size=2, max_size=8), b=PICK)
        def dot(self, picks, b):
            half = len(picks) // 2
            pairs = [self.any(i) for i in picks]
            value, total = self.any(b)
            ws, xs = pairs[:half], pairs[half : 2 * half]
            for (_, w), (_, x) in zip(ws, xs):
                total = Node(total.data + w.data * x.data, "add", (total, Node(w.data * x.data, "mul", (w, x))))
            assume(abs(total.data) < TOO_LARGE)
            self.keep("dot", pg.dot([w for w, _ in ws], [x for x, _ in xs], value), total)

        @rule(picks=st.lists(PICK, min_size=1, max_size=5))
        def custom(self, picks):
            pairs = [self.any(i) for i in picks]
            data = sum(x.data * x.data for _, x in pairs)
            assume(data < TOO_LARGE)
            node = Node(data, "sum_of_squares", [x for _, x in pairs])
            self.keep("custom", sum_of_squares(*(a for a, _ in pairs)), node)

        @rule(i=PICK)
        def own(self, i):
            a, x = self.any(i)
            self.keep("own", twice(pg, a), Node(2 * x.data, "twice", (x,)))

        # ---- Holding and dropping ----

        @rule(picks=st.lists(PICK, min_size=1, max_size=12))
        def drop(self, picks):
            for pick in picks:
                if len(self.alive) > 1:
                    del self.alive[pick % len(self.alive)]
            taken["drop"] += 1

        @rule(i=PICK)
        def hold_once_more(self, i):
            self.keep("hold", *self.any(i))

        @rule(i=PICK)
        def hold_operands(self, i):
            a, x = self.any(i)
            operands = a._operands()
            assert len(operands) == len(x.operands) and a._prev == set(operands)
            for value, node in zip(operands, x.operands):
                self.keep("operand", value, node)

        # ---- Changing ----

        @rule(i=PICK, data=NUMBERS)
        def edit(self, i, data):
            a, x = self.any(i)
            assume(x.op != "div" or data)  # a quotient that is 0 counts as an underflow of its operands
            a.data = x.data = data
            taken["edit"] += 1

        @rule(i=PICK, grad=NUMBERS)
        def set_grad(self, i, grad):
            a, x = self.any(i)
            a.grad = x.grad = grad
            taken["grad"] += 1

        @rule(i=PICK, label=st.sampled_from(["", "a", "loss", "w[1]"]))
        def relabel(self, i, label):
            a, x = self.any(i)
            a.label = x.label = label
            taken["label"] += 1

        # ---- Copying ----

        @rule(i=PICK, way=st.sampled_from(["deepcopy", "pickle"]))
        def clone(self, i, way):
            a, x = self.any(i)
            below = x.below()
            assume(len(below) < 200 and not any(node.op == "twice" for node in below))
            made = {}
            for node in reversed(below):
                new = made[node] = Node(node.data, node.op, [made[o] for o in node.operands], node.param)
                new.grad, new.label = node.grad, node.label
            value = copy.deepcopy(a) if way == "deepcopy" else pickle.loads(pickle.dumps(a))
            self.keep(way, value, made[x])

        @rule(i=PICK)
        def copy(self, i):
            a, x = self.any(i)
            assume(x.op != "twice")
            new = Node(x.data, x.op, x.operands, x.param)
            new.grad, new.label = x.grad, x.label
            self.keep("copy", copy.copy(a), new)

        # ---- Sweeping ----

        @rule(i=PICK, check=st.booleans())
        def backward(self, i, check):
            a, x = self.any(i)
            below = x.below()
            assume(len(below) < 400)
            assume(not any(node.op in ("div", "mod") and abs(node.operands[1].data) < 1e-2 for node in below))
            before = [node.grad for node in below]
            x.backward()
            if not all(abs(node.grad) < 1e9 for node in below):  # rounding errors would be all that is left
                for node, grad in zip(below, before):
                    node.grad = grad
                return
            a.backward(check=check)
            taken["backward"] += 1
            self.agree()

        @rule()
        def collect(self):
            collect()
            taken["collect"] += 1

        @rule()
        def collect_python(self):
            if next(turns) % SELDOM == 0:
                gc.collect(0)
            taken["gc"] += 1

        # ---- Comparing ----

        @rule(i=PICK)
        def look(self, i):
            """Compare the whole graph below, with nodes that no Value holds; each node has one Value."""
            a, x = self.any(i)
            below = x.below()
            assume(len(below) < 300)
            values, edges = pg.trace(a)
            assert len(values) == len(below) and len(edges) == sum(len(node.operands) for node in below)
            found, todo = {x: a}, [x]
            while todo:
                node = todo.pop()
                value = found[node]
                self.same(value, node)
                assert value._op == symbol(node)
                operands = value._operands()
                assert len(operands) == len(node.operands)
                for one, other in zip(operands, node.operands):
                    if other in found:
                        assert found[other] == one and hash(found[other]) == hash(one)
                    else:
                        found[other] = one
                        todo.append(other)
            assert len(set(found.values())) == len(below)
            taken["look"] += 1

        @staticmethod
        def same(value, node):
            assert close(value.data, node.data, 1e-12), (value.data, node.data)
            assert close(value.grad, node.grad, 1e-12), (value.grad, node.grad)
            assert value.label == node.label

        @invariant()
        def agree(self):
            for value, node in self.alive:
                self.same(value, node)

        def teardown(self):
            self.alive.clear()
            collect()
            engine.lib.pgr_tape_limits(engine.TAPE, 1 << 14, 2**32 - 2)
            taken["programs"] += 1

    return Programs


def test_random_programs_agree_with_a_plain_model(pg):
    number = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))
    print(f"SEED={number}")
    taken = Counter()
    layers = 2 if pg._core.layer.OPERANDS == "compiled" or sys.implementation.name == "cpython" else 1
    budget = settings(
        max_examples=PROGRAMS // layers,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # failing programs are short
        suppress_health_check=list(HealthCheck),
    )
    gc.collect()
    pg.collect()
    kept = len(pg._core.layer.notes)
    begun = time.monotonic()
    run_state_machine_as_test(seed(number)(machine(pg, taken)), settings=budget)
    left = None
    while left != (left := pg.tape_stats().nodes):  # on PyPy, chains of closures end link by link
        gc.collect()
        pg.collect()
    assert len(pg._core.layer.notes) <= kept, "what belonged to nodes outlives them"
    print(f"{taken['programs']:,} random programs in {time.monotonic() - begun:.0f} s")
    print(", ".join(f"{count} {name}" for name, count in taken.most_common()))
    assert taken["programs"] >= PROGRAMS // layers
    assert (
        min(taken[name] for name in ("backward", "drop", "collect", "pickle", "deepcopy", "copy", "own", "look")) > 10
    )


def test_the_model_is_right_about_gradients():
    """The model, against central differences."""
    rng = random.Random(1)
    for op, f in VALUES.items():
        xs = [Node(rng.uniform(0.3, 1.5)) for _ in range(2 if op in ("add", "sub", "mul", "div", "mod") else 1)]
        Node(f(*(x.data for x in xs)), op, xs).backward()
        for i, x in enumerate(xs):
            up, down = ([y.data + (h if j == i else 0) for j, y in enumerate(xs)] for h in (1e-6, -1e-6))
            assert close(x.grad, (f(*up) - f(*down)) / 2e-6, 1e-8), op


@pytest.mark.parametrize("op", ["twice", "sum_of_squares", "powc"])
def test_the_model_is_right_about_the_rest(op):
    x = Node(1.5)
    Node({"twice": 3.0, "sum_of_squares": 2.25, "powc": 1.5**3}[op], op, (x,), 3.0).backward()
    assert x.grad == {"twice": 2.0, "sum_of_squares": 3.0, "powc": 3 * 1.5**2}[op]
