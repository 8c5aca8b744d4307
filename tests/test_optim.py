"""Optimisers against PyTorch where it is installed, and against its documented algorithms written out here."""

import math

import pytest

CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01, "maximize": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True}),
]
DEFAULTS = {"SGD": {"lr": 1e-3}, "Adam": {"lr": 1e-3}, "AdamW": {"lr": 1e-3, "weight_decay": 1e-2}}
STEPS = 30


def start(rng):
    return [rng.uniform(-2, 2) for _ in range(7)]


def gradients(rng):
    # Small ones too: there eps counts.
    return [[rng.gauss(0, 1) * 10.0 ** rng.randint(-6, 1) for _ in range(7)] for _ in range(STEPS)]


def by_the_book(name, settings, data, steps):
    s = {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False}
    s.update({"betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False, **DEFAULTS[name], **settings})
    data = list(data)
    b1, b2 = s["betas"]
    n = len(data)
    buffer, m, v, v_max = [0.0] * n, [0.0] * n, [0.0] * n, [0.0] * n
    for t, grads in enumerate(steps, 1):
        for i, g in enumerate(grads):
            g = -g if s["maximize"] else g
            if name == "AdamW":
                data[i] -= s["lr"] * s["weight_decay"] * data[i]
            else:
                g += s["weight_decay"] * data[i]
            if name == "SGD":
                if s["momentum"]:
                    buffer[i] = g if t == 1 else s["momentum"] * buffer[i] + (1 - s["dampening"]) * g
                    g = g + s["momentum"] * buffer[i] if s["nesterov"] else buffer[i]
                data[i] -= s["lr"] * g
                continue
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            v_max[i] = max(v_max[i], v[i])
            second = (v_max[i] if s["amsgrad"] else v[i]) / (1 - b2**t)
            data[i] -= s["lr"] * m[i] / (1 - b1**t) / (math.sqrt(second) + s["eps"])
    return data


def run(optimizer, params, steps):
    for grads in steps:
        for p, g in zip(params, grads):
            p.grad = g
        optimizer.step()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_updates_follow_the_documented_algorithm(pg, rng, name, settings):
    data, steps = start(rng), gradients(rng)
    params = [pg.Value(x) for x in data]
    run(getattr(pg.optim, name)(params, **settings), params, steps)
    assert [p.data for p in params] == pytest.approx(by_the_book(name, settings, data, steps), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_updates_equal_pytorch_on_the_same_grads(pg, rng, name, settings):
    torch = pytest.importorskip("torch")
    data, steps = start(rng), gradients(rng)
    params = [pg.Value(x) for x in data]
    run(getattr(pg.optim, name)(params, **settings), params, steps)
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in data]
    optimizer = getattr(torch.optim, name)(theirs, **settings)
    for grads in steps:
        for p, g in zip(theirs, grads):
            p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
    assert [p.data for p in params] == pytest.approx([p.item() for p in theirs], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_saved_state_goes_on_where_it_stopped(pg, rng, name, settings):
    data, steps = start(rng), gradients(rng)
    straight = [pg.Value(x) for x in data]
    run(getattr(pg.optim, name)(straight, **settings), straight, steps)
    params = [pg.Value(x) for x in data]
    first = getattr(pg.optim, name)(params, **settings)
    run(first, params, steps[:11])
    second = getattr(pg.optim, name)(params, **{**settings, "lr": 99.0})
    second.load_state_dict(first.state_dict())
    run(second, params, steps[11:])
    assert [p.data for p in params] == [p.data for p in straight]


def test_zero_grad_clears_only_the_parameters(pg):
    a, b = pg.Value(2.0), pg.Value(3.0)
    optimizer = pg.optim.SGD([a])
    (a * b).backward()
    optimizer.zero_grad()
    assert (a.grad, b.grad) == (0.0, 2.0)


def test_the_learning_rate_can_be_changed_between_steps(pg):
    a = pg.Value(1.0)
    optimizer = pg.optim.SGD([a], lr=0.5)
    a.grad = 1.0
    optimizer.step()
    optimizer.lr = 0.25
    optimizer.step()
    assert a.data == 0.25


def test_parameters_survive_collections_and_go_on_being_updated(pg):
    params = [pg.Value(1.0) for _ in range(3)]
    optimizer = pg.optim.SGD(params, lr=1.0)
    garbage = [pg.Value(1.0) for _ in range(50_000)]
    del garbage
    pg.collect()
    for p in params:
        p.grad = 0.5
    optimizer.step()
    assert [p.data for p in params] == [0.5] * 3


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("SGD", {"lr": -1.0}, "lr=-1.0: must not be negative"),
        ("SGD", {"nesterov": True}, "nesterov=True needs a momentum"),
        ("SGD", {"lr": math.nan}, "lr=nan"),
        ("Adam", {"betas": (0.9, 1.0)}, r"beta2=1.0: must lie in \[0, 1\)"),
        ("AdamW", {"eps": -1e-8}, "eps=-1e-08"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(pg, name, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(pg.optim, name)([pg.Value(1.0)], **settings)


def test_what_can_not_be_optimized_is_refused(pg):
    a = pg.Value(1.0)
    with pytest.raises(ValueError, match="params is empty"):
        pg.optim.SGD([])
    with pytest.raises(ValueError, match="twice"):
        pg.optim.SGD([a, a])
    with pytest.raises(TypeError, match="float"):
        pg.optim.SGD([1.0])
    optimizer = pg.optim.Adam([a])
    with pytest.raises(ValueError, match="must not be negative"):
        optimizer.lr = -1.0
    assert optimizer.lr == 1e-3
    with pytest.raises(ValueError, match="not the state of Adam"):
        optimizer.load_state_dict(pg.optim.SGD([a]).state_dict())
    with pytest.raises(ValueError, match="there are 1 parameters"):
        optimizer.load_state_dict(pg.optim.Adam([a, pg.Value(2.0)]).state_dict())


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_arrays_are_updated_in_place_as_values_are(pg, rng, name, settings):
    np = pytest.importorskip("numpy")
    data, steps = start(rng), gradients(rng)
    values = [pg.Value(x) for x in data]
    run(getattr(pg.optim, name)(values, **settings), values, steps)
    params = {"w": np.array(data[:6]).reshape(2, 3), "b": [np.array(data[6:])]}
    optimizer = getattr(pg.optim, name)(params, **settings)
    for grads in steps:
        optimizer.step({"w": np.array(grads[:6]).reshape(2, 3), "b": [np.array(grads[6:])]})
    assert [*params["w"].ravel(), *params["b"][0]] == [v.data for v in values]
    again = getattr(pg.optim, name)(params, **settings)
    again.load_state_dict(optimizer.state_dict())
    assert again.state_dict() == optimizer.state_dict()


def test_mistakes_with_arrays_are_named_and_change_nothing(pg):
    np = pytest.importorskip("numpy")
    w = np.ones((2, 2))
    optimizer = pg.optim.SGD([w], lr=1.0)
    for grads, error, says in [
        (None, TypeError, "pass their grads"),
        ([np.ones(4)], ValueError, "shapes of the parameters"),
        (np.ones((2, 2)), ValueError, "structure"),
    ]:
        with pytest.raises(error, match=says):
            optimizer.step(grads)
    assert (w == 1).all() and optimizer.state_dict()["step"] == 0
    for params in (np.ones(3, dtype=int), [np.ones((4, 4))[:, ::2]], [w, 1.0]):
        with pytest.raises(TypeError, match="C-contiguous, writeable float64"):
            pg.optim.SGD(params)
    with pytest.raises(ValueError, match="twice"):
        pg.optim.SGD([w, w])
