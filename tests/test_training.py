"""Modules beyond micrograd's, losses, and fit."""

import math

import pytest

np = pytest.importorskip("numpy")


def softmax_of(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
def test_softmax_and_cross_entropy_are_stable_and_right(pg, rng, shift):
    x = np.array([rng.gauss(0, 3) for _ in range(5)])
    values = [pg.Value(v + shift) for v in x]
    np.testing.assert_allclose([p.data for p in pg.nn.softmax(values)], softmax_of(x), rtol=1e-11)
    loss = pg.nn.cross_entropy(values, 2)
    loss.backward()
    assert loss.data == pytest.approx(-math.log(softmax_of(x)[2]), rel=1e-11)
    np.testing.assert_allclose([v.grad for v in values], softmax_of(x) - np.eye(5)[2], rtol=1e-10, atol=1e-12)
    soft = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    expected = -(soft * np.log(softmax_of(x))).sum()
    assert pg.nn.cross_entropy(values, soft).data == pytest.approx(expected, rel=1e-10)
    with pytest.raises(ValueError, match="class 5; there are 5 logits"):
        pg.nn.cross_entropy(values, 5)


def test_losses_of_one_sample(pg):
    assert pg.nn.mse([pg.Value(1.0), pg.Value(3.0)], [0.0, 1.0]).data == 2.5
    assert pg.nn.mse(pg.Value(1.0), 3.0).data == 4.0
    assert pg.nn.hinge(pg.Value(0.5), -1).data == 1.5 and pg.nn.hinge([pg.Value(2.0)], 1).data == 0.0
    for x, t in [(0.3, 1), (-800.0, 0), (800.0, 1), (2.0, 0.25)]:
        p = 1 / (1 + math.exp(-max(min(x, 700), -700)))
        expected = 0.0 if abs(x) == 800 else -(t * math.log(p) + (1 - t) * math.log1p(-p))
        assert pg.nn.binary_cross_entropy(pg.Value(x), t).data == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="2 outputs and 1 targets"):
        pg.nn.mse([1.0, 2.0], [1.0])


WRONG_TARGETS = [
    ("binary_cross_entropy", [0.0, 1.0, 2.0], 2),
    ("binary_cross_entropy", [1.0, -1.0, 1.0], 1),
    ("binary_cross_entropy", [[0.5], [1.5], [0.0]], 1),
    ("hinge", [0.0, 1.0, 1.0], 0),
    ("hinge", [1.0, -1.0, 2.0], 2),
]


@pytest.mark.parametrize(("loss", "y", "row"), WRONG_TARGETS)
def test_targets_that_a_loss_does_not_take_are_refused_before_training(pg, loss, y, row):
    """Their loss would be of nothing: that of the labels 1 and 2 has no least value."""
    X, right = np.eye(3), np.ones(np.shape(y))
    model = pg.nn.MLP(3, [1])
    before = pg.tape_stats(), [p.data for p in model.parameters()]
    for targets, validation, name in [(y, None, "y"), (right, (X, np.array(y)), "validation's y")]:
        with pytest.raises(ValueError, match=rf"^{name}: sample {row} has the target .* targets of {loss} are"):
            pg.fit(model, X, targets, loss=loss, epochs=1, validation=validation)
        with pytest.raises(ValueError, match=rf"^{name}: sample {row} has the target"):
            pg.fit(model, X, targets, loss=getattr(pg.nn, loss), epochs=1, validation=validation)
    assert before == (pg.tape_stats(), [p.data for p in model.parameters()])
    with pytest.raises(ValueError, match=f"{loss}: the target .* targets are"):
        getattr(pg.nn, loss)(pg.Value(0.5), np.ravel(y)[row])
    with pytest.raises(ValueError, match=f"{loss}: the target nan"):
        getattr(pg.nn, loss)(pg.Value(0.5), math.nan)


def test_norms_and_embeddings(pg, rng):
    x = np.array([rng.gauss(0, 2) for _ in range(6)])
    values = [pg.Value(v) for v in x]
    expected = x / np.sqrt((x * x).mean() + 1e-5)
    np.testing.assert_allclose([v.data for v in pg.nn.RMSNorm(6)(values)], expected, rtol=1e-12)
    expected = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    np.testing.assert_allclose([v.data for v in pg.nn.LayerNorm(6)(values)], expected, rtol=1e-11)
    table = pg.nn.Embedding(4, 3)
    assert table(2) == table.rows[2] and len(table.parameters()) == 12
    assert [v.data for v in table([0, 0, 1, 0])] == [v.data for v in table.rows[2]]
    with pytest.raises(IndexError, match="symbol 4"):
        table(4)
    with pytest.raises(ValueError, match="3 inputs for a norm of 6"):
        pg.nn.RMSNorm(6)(values[:3])


@pytest.mark.parametrize(
    ("init", "spread"), [("uniform", 1 / math.sqrt(3)), ("xavier", math.sqrt(2 / 120)), ("he", 0.1414)]
)
def test_initial_weights_have_the_spread_that_their_source_says(pg, init, spread):
    pg.nn.seed(7)
    weights = [v.data for n in pg.nn.Layer(100, 20, init=init).neurons for v in n.w]
    assert np.std(weights) == pytest.approx(spread, rel=0.08) and abs(np.mean(weights)) < 0.1 * spread
    pg.nn.seed(7)
    assert [v.data for n in pg.nn.Layer(100, 20, init=init).neurons for v in n.w] == weights
    with pytest.raises(ValueError, match="init='glorot'"):
        pg.nn.Neuron(2, init="glorot")


def model_of(pg):
    pg.nn.seed(3)
    return pg.nn.Sequential(pg.nn.Layer(2, 5, nonlin="tanh"), pg.nn.LayerNorm(5), pg.nn.Layer(5, 2, nonlin=False))


def test_a_model_runs_recorded_as_it_does_eagerly(pg, rng):
    model = model_of(pg)
    X = np.array([[rng.uniform(-1, 1), rng.uniform(-1, 1)] for _ in range(9)])
    eager = [[v.data for v in model(x.tolist())] for x in X]
    np.testing.assert_allclose(model.predict(X), eager, rtol=1e-12)
    w = np.array([p.data for p in model.parameters()])
    f = model.function()
    value, grads = pg.value_and_grad(lambda w, x: pg.nn.mse(f(w, x), [1.0, 2.0]))(w, X[0])
    loss = pg.nn.mse(model(X[0].tolist()), [1.0, 2.0])
    model.zero_grad()
    loss.backward()
    assert value == pytest.approx(loss.data, rel=1e-12)
    np.testing.assert_allclose(grads, [p.grad for p in model.parameters()], rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="3 numbers; Sequential has"):
        f([1.0, 2.0, 3.0], X[0])


def test_states_are_named_saved_and_loaded(pg, tmp_path):
    model, other = model_of(pg), model_of(pg)
    state = model.state_dict()
    assert {"steps.0.neurons.0.w", "steps.0.neurons.0.b", "steps.1.w", "steps.1.b"} <= set(state)
    for p in model.parameters():
        p.data = 0.5
    model.save(tmp_path / "model.npz")
    other.load(tmp_path / "model.npz")
    assert [p.data for p in other.parameters()] == [0.5] * len(other.parameters())
    assert set(np.load(tmp_path / "model.npz").files) == set(state)
    with pytest.raises(ValueError, match="in only one of the two"):
        pg.nn.MLP(2, [1]).load(tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"steps.1.w: 1 numbers for 5"):
        other.load_state_dict({**state, "steps.1.w": [1.0]})


def circles(n=200):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, 2))
    return X, (np.hypot(X[:, 0], X[:, 1]) < 1).astype(int)


def train(pg, **settings):
    X, y = circles()
    pg.nn.seed(1)
    model = pg.nn.MLP(2, [8, 2], nonlin="tanh")
    history = pg.fit(model, X, y, loss="cross_entropy", lr=0.02, **{"epochs": 30, **settings})
    return model, history, X, y


def numbers(model):
    return [p.data for p in model.parameters()]


def test_fit_learns_and_is_the_same_for_a_seed_and_any_workers(pg):
    model, history, X, y = train(pg)
    assert (model.predict(X).argmax(axis=1) == y).mean() > 0.95
    assert history.loss[-1] < 0.5 * history.loss[0] and history.stopped == "finished" and len(history.seconds) == 30
    assert numbers(train(pg, workers=2)[0]) == numbers(model)
    assert numbers(train(pg, seed=1)[0]) != numbers(model)


def test_fit_takes_the_steps_that_a_loop_over_values_takes(pg):
    X, y = circles(20)
    target = 2.0 * y - 1
    pg.nn.seed(1)
    model = pg.nn.MLP(2, [4, 1])
    start = numbers(model)
    pg.fit(model, X, target, loss="hinge", optimizer="sgd", lr=0.1, epochs=3, batch_size=7, shuffle=False, l2=1e-3)
    by_hand = pg.nn.MLP(2, [4, 1])
    for p, number in zip(by_hand.parameters(), start):
        p.data = number
    optimizer = pg.optim.SGD(by_hand.parameters(), lr=0.1)
    for _ in range(3):
        for k in range(0, 20, 7):
            batch = range(k, min(k + 7, 20))
            total = sum(pg.nn.hinge(by_hand(X[i].tolist()), target[i]) for i in batch) * (1 / len(batch))
            total = total + 1e-3 * sum(p * p for p in by_hand.parameters())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    np.testing.assert_allclose(numbers(model), numbers(by_hand), rtol=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resumed_training_equals_uninterrupted_training_to_the_bit(pg, tmp_path, optimizer):
    whole, history, *_ = train(pg, optimizer=optimizer, validation=0.2)
    file = tmp_path / "training.npz"
    train(pg, optimizer=optimizer, validation=0.2, epochs=11, checkpoint=file)
    resumed, again, *_ = train(pg, optimizer=optimizer, validation=0.2, checkpoint=file, resume=True)
    assert numbers(resumed) == numbers(whole)
    assert again.loss == history.loss and again.validation == history.validation
    with pytest.raises(ValueError, match="a checkpoint of"):
        pg.fit(pg.nn.MLP(2, [3, 1]), *circles(), checkpoint=file, resume=True)


def test_patience_stops_early_with_the_best_parameters(pg):
    model, history, X, _ = train(pg, epochs=400, patience=5, validation=0.25, batch_size=8)
    assert history.stopped == "early" and len(history.loss) < 400
    assert min(history.validation) == history.validation[-6]
    assert len(model.predict(X)) == len(X)


def test_ctrl_c_ends_training_with_what_is_reached(pg):
    class Impatient(pg.optim.Adam):
        def step(self, grads=None):
            super().step(grads)
            if self._step == 20:
                raise KeyboardInterrupt

    model, history, *_ = train(pg, optimizer=Impatient)
    assert history.stopped == "interrupted" and 0 < len(history.loss) < 30
    assert numbers(model) != numbers(train(pg, epochs=0)[0])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"X": np.ones((5, 3))}, ValueError, "X has samples of shape"),
        ({"X": np.ones(5)}, ValueError, r"X has shape \(5,\)"),
        ({"X": np.ones((4, 2))}, ValueError, "X has 4 samples and y 5"),
        ({"X": np.full((5, 2), np.nan)}, ValueError, "X: sample 0 has a nan"),
        ({"X": np.empty((0, 2)), "y": []}, ValueError, "X is empty"),
        ({"y": [0, 1, 2, 0, 1]}, ValueError, "y: sample 2 has the label 2.0; there are 2 classes"),
        ({"y": [0, 1, 0.5, 0, 1]}, ValueError, "whole numbers"),
        ({"loss": "crossentropy"}, ValueError, "loss='crossentropy'"),
        ({"optimizer": "adamax"}, ValueError, "optimizer='adamax'"),
        ({"optimizer": lambda w, lr=0: 3}, TypeError, "not a pygrad.optim.Optimizer"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"validation": 1.5}, ValueError, "validation=1.5"),
        ({"resume": True}, ValueError, "checkpoint="),
        ({"loss": lambda o, t: (o[0] - o[0] - 1).log()}, FloatingPointError, "epoch 1, step 1: the loss is nan"),
    ],
)
def test_mistakes_in_training_are_named(pg, change, error, says):
    settings = {"X": np.ones((5, 2)), "y": [0, 1, 0, 1, 0], "loss": "cross_entropy", "optimizer": "sgd", **change}
    X, y = settings.pop("X"), settings.pop("y")
    with pytest.raises(error, match=says):
        pg.fit(pg.nn.MLP(2, [3, 2]), X, y, **settings)


def test_a_history_plots_itself(pg):
    pytest.importorskip("matplotlib").use("Agg")
    ax = train(pg, epochs=3, validation=0.2)[1].plot()
    assert [line.get_label() for line in ax.lines] == ["training", "validation"] and len(ax.lines[0].get_xdata()) == 3


def test_progress_shows_loss_and_rate(pg, capsys):
    pytest.importorskip("tqdm")
    train(pg, epochs=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown and "loss=" in shown and "samples/s=" in shown
