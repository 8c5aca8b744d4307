"""nn: micrograd's signatures, reprs and parameters; dot."""

from __future__ import annotations

import copy
import importlib
import pickle
import random

import micrograd.nn
import pytest
from helpers import gradcheck


@pytest.fixture
def nn(pg):
    del pg
    return importlib.import_module("pygrad.nn")


def test_a_seed_gives_micrograds_parameters_reprs_and_outputs(nn):
    random.seed(42)
    ours = nn.MLP(3, [4, 4, 1])
    random.seed(42)
    theirs = micrograd.nn.MLP(3, [4, 4, 1])
    assert repr(ours) == repr(theirs)
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]
    x = [0.5, -1.0, 2.0]
    a, b = ours(x), theirs(x)
    a.backward()
    b.backward()
    assert a.data == b.data
    assert [p.grad for p in ours.parameters()] == pytest.approx([p.grad for p in theirs.parameters()], rel=1e-14)
    ours.zero_grad()
    assert all(p.grad == 0.0 for p in ours.parameters())


def test_nonlin_by_name(nn, Value):
    names = {True: "ReLU", False: "Linear", "relu": "ReLU", "linear": "Linear", "tanh": "Tanh", "sigmoid": "Sigmoid"}
    names |= {"silu": "SiLU", "gelu": "GELU", "elu": "ELU"}
    for nonlin, shown in names.items():
        neuron = nn.Neuron(2, nonlin=nonlin)
        assert repr(neuron) == f"{shown}Neuron(2)"
        act = neuron.w[0] * 0.5 + neuron.w[1] * -2 + neuron.b
        expected = act if shown == "Linear" else getattr(act, shown.lower())()
        assert neuron([0.5, -2]).data == pytest.approx(expected.data, rel=1e-15)
    assert repr(nn.MLP(2, [3, 1], nonlin="tanh")) == (
        "MLP of [Layer of [TanhNeuron(2), TanhNeuron(2), TanhNeuron(2)], Layer of [LinearNeuron(3)]]"
    )
    for bad in ("nonsense", 3, None, ["relu"], 0.5):
        with pytest.raises(ValueError, match="nonlin"):
            nn.Neuron(2, nonlin=bad)


def test_nonlin_is_kept_as_it_was_given(nn):
    for nonlin in (True, False, "relu", "linear", "tanh", 1, 0):
        given = nn.Neuron(2, nonlin=nonlin).nonlin
        assert given == nonlin and type(given) is type(nonlin)
    ours, theirs = nn.MLP(2, [3, 1]), micrograd.nn.MLP(2, [3, 1])
    assert [n.nonlin for layer in ours.layers for n in layer.neurons] == [
        n.nonlin for layer in theirs.layers for n in layer.neurons
    ]


def test_a_subclass_may_branch_on_nonlin_as_micrograds_neuron_does(nn):
    results = []
    for neurons in (nn, micrograd.nn):

        class Mine(neurons.Neuron):
            def __call__(self, x):
                act = sum((wi * xi for wi, xi in zip(self.w, x)), self.b)
                return act.relu() if self.nonlin else act

        random.seed(3)
        made = [Mine(2, nonlin=nonlin) for nonlin in (True, False)]
        results.append([(neuron([1.0, -2.0]).data, repr(neuron)) for neuron in made])
    assert results[0] == results[1]
    assert min(data for data, _ in results[0]) < 0.0  # else one ReLU too many would not show


def test_nonlin_may_be_assigned_afterwards(nn, pg):
    for nonlin, shown, expected in ((False, "Linear", -4.0), ("tanh", "Tanh", -0.999329299739067), (True, "ReLU", 0.0)):
        results = []
        for neurons in (nn, micrograd.nn)[: 1 if nonlin == "tanh" else 2]:
            neuron = neurons.Neuron(2)
            for w, number in zip(neuron.w, (2.0, 3.0)):
                w.data = number
            neuron.nonlin = nonlin
            results.append((neuron([1.0, -2.0]).data, repr(neuron)))
        assert results[0] == (pytest.approx(expected, rel=1e-14), f"{shown}Neuron(2)")
        assert results[0] == results[-1]
    neuron = nn.Neuron(2)
    neuron.nonlin = "selu"
    pg.collect()
    before = pg.tape_stats().nodes
    with pytest.raises(ValueError, match="nonlin='selu': must be True, False or one of 'relu'"):
        neuron([1.0, 2.0])
    assert pg.tape_stats().nodes == before


def test_copies_pickles_states_and_functions_keep_nonlin(nn):
    model = nn.MLP(2, [3, 1], nonlin="tanh")
    old = nn.MLP(2, [3, 1], nonlin="tanh")
    old.load_state_dict(model.state_dict())
    for neuron in old.layers[1].neurons:
        neuron.nonlin = "linear"  # as pickles of earlier versions have it
    x = [0.5, -2.0]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), pickle.loads(pickle.dumps(old))):
        assert repr(other) == repr(model)
        assert other(x).data == model(x).data
        assert model.function()([p.data for p in other.parameters()], x).data == model(x).data
    assert pickle.loads(pickle.dumps(model)).layers[1].neurons[0].nonlin is False
    pytest.importorskip("numpy")
    assert list(model.predict([x])) == pytest.approx([model(x).data], rel=1e-14)


def test_a_layer_of_one_gives_its_output_and_may_feed_another(nn, Value):
    assert type(nn.Layer(2, 1)([1, 2])) is Value
    assert len(nn.Layer(2, 3)(iter([1, 2]))) == 3
    assert type(nn.MLP(2, [1, 1])([1.0, 2.0])) is Value


def test_a_wrong_number_of_inputs_raises_valueerror(nn):
    with pytest.raises(ValueError, match="takes 2 inputs, not 3"):
        nn.Neuron(2)([1, 2, 3])


def test_dot_is_the_loop_in_one_call(pg):
    ws, xs, b = [pg.Value(2.0), pg.Value(-3.0)], [pg.Value(0.5), 7], pg.Value(1.5)
    one = pg.dot(ws, xs, b)
    loop = b + ws[0] * xs[0] + ws[1] * xs[1]
    shape = [(r.op, r.data) for r in pg._views.table.node_table(one)]
    assert sorted(shape) == sorted((r.op, r.data) for r in pg._views.table.node_table(loop))
    assert sum(op == "*" for op, _ in shape) == sum(op == "+" for op, _ in shape) == 2
    one.backward()
    assert (ws[0].grad, ws[1].grad, xs[0].grad, b.grad) == (0.5, 7.0, 2.0, 1.0)
    gradcheck(lambda a, b, c: pg.dot([a, b, c], [b, c, 2.0], a), [0.3, -1.2, 2.0])


def test_dot_of_other_shapes(pg):
    b = pg.Value(1.0)
    assert pg.dot([], [], b) is b
    assert (pg.dot([], []).data, pg.dot((2,), (3,)).data) == (0.0, 6.0)
    assert pg.dot((pg.Value(i) for i in range(100)), range(100)).data == sum(i * i for i in range(100))


def test_dot_refuses_and_records_nothing(pg):
    a = pg.Value(1.0)
    pg.collect()
    before = pg.tape_stats()
    for args, error in (
        (([a], []), ValueError),
        (([a], ["x"]), TypeError),
        (([a, None], [1, 2]), TypeError),
        (([a], [1], "b"), TypeError),
        ((3, [a]), TypeError),
        (([a],), TypeError),
        (([a], [10**400]), OverflowError),
    ):
        with pytest.raises(error):
            pg.dot(*args)
    pg.collect()
    assert pg.tape_stats()[:3:2] == before[:3:2]
