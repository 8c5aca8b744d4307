"""Against micrograd itself: its own tests, and random programs."""

from __future__ import annotations

import builtins
import os
import pkgutil
import runpy
import sys
import types
from pathlib import Path

import micrograd.engine
import micrograd.nn
import pytest
from helpers import close


class _Number:
    def __init__(self, number):
        self.number = number

    def item(self):
        return self.number


class _Tensor:
    """As much of torch.Tensor as micrograd's tests use, computed by micrograd."""

    def __init__(self, numbers):
        self.value = (
            numbers[0] if isinstance(numbers[0], micrograd.engine.Value) else micrograd.engine.Value(numbers[0])
        )

    def double(self):
        return self

    def relu(self):
        return _Tensor([self.value.relu()])

    def backward(self):
        self.value.backward()

    data = property(lambda self: _Number(self.value.data))
    grad = property(lambda self: _Number(self.value.grad))


def _delegate(name):
    def method(self, other):
        return _Tensor([getattr(self.value, name)(other.value if isinstance(other, _Tensor) else other)])

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow"):
    setattr(_Tensor, f"__{_name}__", _delegate(f"__{_name}__"))
_Tensor.__neg__ = lambda self: _Tensor([-self.value])


@pytest.fixture(params=["micrograd", "torch"])
def torch(request, monkeypatch):
    if request.param == "torch":
        return pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(Tensor=_Tensor))
    return None


@pytest.mark.parametrize("test", ["test_sanity_check", "test_more_ops"])
def test_micrograds_own_tests_pass_with_the_import_line_changed(pg, torch, test):
    del pg, torch  # fixtures that the file's imports need
    runpy.run_path(str(Path(__file__).with_name("micrograd_test_engine.py")))[test]()


def random_program(rng, length):
    """A list of steps (op, i, j): i and j index the numbers so far, or j is a constant."""
    inputs = [rng.uniform(-2, 2) for _ in range(rng.randint(1, 5))]
    data = list(inputs)
    steps = []
    for _ in range(length):
        i, j = rng.randrange(len(data)), rng.randrange(len(data))
        a, b, c = data[i], data[j], round(rng.uniform(-2, 2), 3) or 0.5
        choices = [
            ("+", j, a + b),
            ("-", j, a - b),
            ("*", j, a * b),
            ("+c", c, a + c),
            ("c-", c, c - a),
            ("c*", c, c * a),
            ("neg", None, -a),
            ("**2", None, a * a),
        ]
        # Not where rounding decides: our / and - round once, micrograd's twice.
        choices += [("relu", None, max(a, 0.0))] if abs(a) > 1e-9 else []
        choices += [("/", j, a / b)] if abs(b) > 0.3 else []
        choices += [("c/", c, c / a), ("**-1", None, 1 / a), ("**-2", None, a**-2)] if abs(a) > 0.3 else []
        choices += [("**.5", None, a**0.5)] if a > 0.3 else []
        op, j, result = rng.choice(choices)
        if abs(result) > 10:  # keep the numbers, and so the conditioning, tame
            op, j, result = "c*", 0.05, 0.05 * a
        data.append(result)
        steps.append((op, i, j))
    return inputs, steps


STEPS = {
    "+": lambda v, i, j: v[i] + v[j],
    "-": lambda v, i, j: v[i] - v[j],
    "*": lambda v, i, j: v[i] * v[j],
    "/": lambda v, i, j: v[i] / v[j],
    "+c": lambda v, i, c: v[i] + c,
    "c-": lambda v, i, c: c - v[i],
    "c*": lambda v, i, c: c * v[i],
    "c/": lambda v, i, c: c / v[i],
    "neg": lambda v, i, _: -v[i],
    "relu": lambda v, i, _: v[i].relu(),
    "**2": lambda v, i, _: v[i] ** 2,
    "**-1": lambda v, i, _: v[i] ** -1,
    "**-2": lambda v, i, _: v[i] ** -2,
    "**.5": lambda v, i, _: v[i] ** 0.5,
}


def run_program(Value, inputs, steps):
    values = [Value(x) for x in inputs]
    for op, i, j in steps:
        values.append(STEPS[op](values, i, j))
    values[-1].backward()
    return values


def test_random_programs_equal_micrograd(Value, rng):
    for program in range(2000 if "LONG" in os.environ else 300):
        inputs, steps = random_program(rng, rng.randint(5, 300))
        ours = run_program(Value, inputs, steps)
        theirs = run_program(micrograd.engine.Value, inputs, steps)
        scale = max(1.0, *(abs(v.grad) for v in theirs))
        for i, (a, b) in enumerate(zip(ours, theirs)):
            assert close(a.data, b.data, 1e-10), f"program {program}, data of number {i}"
            assert abs(a.grad - b.grad) <= 1e-10 * scale, f"program {program}, grad of number {i}: {a.grad}, {b.grad}"


def test_moons_training_step_equals_micrograd(pg, rng):
    points = [([rng.uniform(-1, 1), rng.uniform(-1, 1)], rng.choice([-1, 1])) for _ in range(10)]
    seed = rng.randrange(1000)
    # Biases of 0 behind units that are all off would leave it to rounding whether the next unit is on.
    biases = [rng.uniform(-0.5, 0.5) for _ in range(9)]
    results = []
    for engine, nn in ((pg.engine, sys.modules["pygrad.nn"]), (micrograd.engine, micrograd.nn)):
        import random

        random.seed(seed)
        model = nn.MLP(2, [4, 4, 1])
        for neuron, bias in zip([neuron for layer in model.layers for neuron in layer.neurons], biases):
            assert neuron.b.data == 0
            neuron.b.data = bias
        for _ in range(3):
            scores = [model([engine.Value(x) for x in xs]) for xs, _ in points]
            losses = [(1 + -y * score).relu() for (_, y), score in zip(points, scores)]
            loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
            model.zero_grad()
            loss.backward()
            for p in model.parameters():
                p.data -= 0.1 * p.grad
        results.append([loss.data, *(p.data for p in model.parameters()), *(p.grad for p in model.parameters())])
    assert len(results[0]) == len(results[1])
    for a, b in zip(*results):
        assert close(a, b, 1e-12)


# ---- Star imports ----------------------------------------------------------------------------------


def starred(module):
    """What `from module import *` brings."""
    names = {}
    exec(f"from {module} import *", names)
    return {name for name in names if name != "__builtins__"}


@pytest.mark.parametrize(("module", "more"), [("engine", set()), ("nn", {"Sequential", "softmax", "mse", "seed"})])
def test_a_star_import_brings_micrograds_names_and_no_helper(pg, module, more):
    ours = starred(f"pygrad.{module}")
    assert ours >= starred(f"micrograd.{module}") | more
    assert not ours & {"dot", "math", "collect", "series", "copy", "os", "npz", "each", "TAPE", "OPERANDS", "tables"}
    assert not [name for name in ours if name.startswith("_")]
    assert not ours & set(dir(builtins))


def test_a_star_import_of_the_functions_replaces_no_builtin(pg):
    ours = starred("pygrad.math")
    assert not ours & set(dir(builtins))
    assert ours >= {"exp", "tanh", "where", "maximum", "minimum", "clip"}
    assert pg.math.abs(-2.0).data == pg.math.max(1.0, 2.0).data == 2.0 == -pg.math.min(1.0, -2.0).data


def test_every_name_that_a_module_exports_is_there(pg):
    for module in pkgutil.iter_modules(pg.__path__, "pygrad."):
        module = sys.modules.get(module.name)
        names = getattr(module, "__all__", [])
        assert len(set(names)) == len(names), module
        assert [name for name in names if not hasattr(module, name)] == [], module
    assert len(starred("pygrad")) == len(pg.__all__) > 30
