"""The examples: each runs as a script and finds what it claims; the GPT learns as the plain Python program does."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def load(name, folder=EXAMPLES):
    spec = importlib.util.spec_from_file_location(f"example_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NEEDS = {
    "lecture": ["graphviz"],
    "moons": ["sklearn", "matplotlib"],
    "digits": ["sklearn"],
    "gpt": ["names"],
    "greeks": ["scipy"],
    "greeks_cluster": ["distributed"],
    "implied_volatility": ["scipy"],
    "control": ["scipy", "matplotlib"],
    "differential_equation": ["scipy"],
    "curve_fit": ["scipy"],
    "ode_estimation": ["scipy"],
    "race_car": ["scipy"],
    "rnn": ["scipy"],
}


@pytest.fixture
def example(request):
    for module in NEEDS[request.param]:
        pytest.importorskip(module)
    return load(request.param)


def test_every_example_is_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_examples_run_as_scripts(name, tmp_path):
    for module in NEEDS[name]:
        pytest.importorskip(module)
    budget = {"gpt": ["--steps", "20"], "differential_equation": ["--iterations", "20"]}
    budget |= {"ode_estimation": ["--steps", "20000"], "rnn": ["--steps", "5000", "--iterations", "10"]}
    budget |= {"greeks_cluster": ["--paths", "2e5", "--chunk", "1e5"]}
    budget = budget.get(name, [])
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", EXAMPLES / f"{name}.py", *budget],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and "Traceback" not in done.stderr


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_from_top_to_bottom(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    namespace = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), namespace)


@pytest.mark.parametrize("example", ["lecture"], indirect=True)
def test_the_lectures_gradients_by_hand_and_by_backward_agree(example):
    hand, engine = example.neuron(), example.neuron()
    example.by_hand(hand)
    engine["o"].backward()
    assert {n: v.grad for n, v in hand.items()} == pytest.approx({n: v.grad for n, v in engine.items()}, abs=1e-12)
    model, losses = example.train()
    assert losses[-1] < 1e-3 and len(model.parameters()) == 41


@pytest.mark.parametrize("example", ["moons"], indirect=True)
def test_moons_end_on_their_own_sides(example):
    *_, found = example.train([0, 100])
    assert found[-1][3] == 1.0 and found[-1][2] < 0.05 < found[0][2]


@pytest.mark.parametrize("example", ["digits"], indirect=True)
def test_digits_are_read(example):
    assert example.train()[2] >= 0.96


@pytest.mark.parametrize("example", ["greeks"], indirect=True)
def test_greeks_equal_their_closed_forms(example):
    many = example.scenarios(10_000)
    values, found = example.vmap(example.greeks)(*many)
    price, exact, exact_gamma = example.closed_forms(*many)
    for ours, theirs in zip([values, *found], [price, *exact]):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(example.vmap(example.gamma)(*many), exact_gamma, rtol=1e-10, atol=1e-13)
    market = example.SPOT, example.STRIKE, example.RATE, example.VOLATILITY, example.YEARS
    price, exact, _ = example.closed_forms(*market)
    (value, (delta, rho, vega)), (asian, _) = example.monte_carlo(paths=50_000)
    assert value == pytest.approx(price, rel=0.03) and asian < value
    assert [delta, rho, vega] == pytest.approx([exact[0], exact[2], exact[3]], rel=0.03)


@pytest.mark.parametrize("example", ["implied_volatility"], indirect=True)
def test_implied_volatilities_and_their_derivatives_equal_closed_forms(example):
    spot, strike, rate, volatility, years = example.quotes(1000, seed=1)
    prices = example.vmap(example.call)(spot, strike, rate, volatility, years)
    slopes_of = example.vmap(example.value_and_grad(example.implied_volatility, argnums=(0, 1, 2, 3, 4)))
    found, slopes = slopes_of(prices, spot, strike, rate, years)
    expected, curvature = example.closed_forms(spot, strike, rate, volatility, years)
    np.testing.assert_allclose(found, volatility, rtol=1e-12)
    for slope, closed in zip(slopes, expected):
        np.testing.assert_allclose(slope, closed, rtol=1e-12)
    second = example.vmap(example.hessian(example.implied_volatility))(prices, spot, strike, rate, years)
    np.testing.assert_allclose(second, curvature, rtol=1e-11, atol=1e-12 * np.abs(curvature).max())
    # The solver's steps have no part in the derivatives: as many instructions as its steps and one equation's.
    assert slopes_of.program(prices, spot, strike, rate, years).stats.instructions < 400


@pytest.mark.parametrize("example", ["control"], indirect=True)
def test_the_pendulum_stands_within_its_limits(example):
    found = example.solve()
    angle, velocity, torque = example.split(found.x)
    assert found.success and np.abs(example.jit(example.defects)(found.x)).max() < 1e-8
    assert angle[-1] == pytest.approx(np.pi) and velocity[-1] == pytest.approx(0, abs=1e-8)
    assert np.abs(torque).max() <= example.MOST + 1e-9 and angle.min() < -0.3  # gathers momentum first


@pytest.mark.parametrize("example", ["differential_equation"], indirect=True)
def test_the_network_is_the_sine(example):
    start, found = example.solve()
    assert example.error(found.x) < 2e-3 < example.error(start)


@pytest.mark.parametrize("example", ["curve_fit"], indirect=True)
def test_the_fit_has_nists_certified_digits(example):
    found = example.fit()
    np.testing.assert_allclose(found.x, example.CERTIFIED, rtol=1e-10)
    np.testing.assert_allclose(example.deviations(found), example.DEVIATIONS, rtol=1e-9)


@pytest.mark.parametrize("example", ["gpt"], indirect=True)
def test_the_gpt_learns_the_same_recorded_and_eagerly_and_as_plain_python(example, monkeypatch):
    _, recorded = example.train(15)
    _, eager = example.train(15, eager=True)
    np.testing.assert_allclose(recorded, eager, rtol=1e-9)
    # The plain program: the benchmarks' own, over Values in Python, with the same numbers to start from.
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    adapters, transformer = load("adapters", ROOT / "benchmarks"), load("transformer", ROOT / "benchmarks")
    names = example.first_names()[:15]
    lib, workload = adapters.Plain(), transformer.Workload({"names": names})
    lib.prepare(workload)
    left = iter(workload.numbers)
    m = {
        name: np.array([[next(left) for _ in range(n)] for _ in range(rows)])
        for name, rows, n in transformer.matrices()
    }
    optimizer, step = example.Adam(m, lr=0.01, betas=(0.9, 0.95)), example.value_and_grad(example.loss)
    for name in names:
        root = lib.forward()
        lib.backward(root)
        workload.update(lib, lib.leaves, 0)
        value, grads = step(m, example.one_hot(name))
        optimizer.step(grads)
        assert value == pytest.approx(root.data, abs=1e-6)


@pytest.mark.parametrize("example", ["gpt"], indirect=True)
def test_the_gpt_makes_names(example):
    m, losses = example.train(150)
    made = example.sample(m, 5)
    assert losses[0] == pytest.approx(np.log(27), abs=0.1) and np.mean(losses[-50:]) < 2.75
    assert len(made) == 5 and all(set(name) <= set(example.LETTERS) for name in made)


@pytest.mark.parametrize("example", ["ode_estimation"], indirect=True)
def test_the_oscillators_parameters_are_found(example):
    truth, _, found, *_ = example.estimate(steps=20_000)
    assert np.abs(found.x - truth).max() < 0.02 and found.fun < 0.003


@pytest.mark.parametrize("example", ["race_car"], indirect=True)
def test_the_car_drives_within_the_limit(example):
    found, pattern = example.drive(steps=100)
    made = example.constraints(found.x)
    assert found.x[-1] == pytest.approx(1.905, abs=0.001)  # 1.9046 with 50 steps
    assert np.abs(made[:200]).max() < 1e-5 and made[200:].min() > -1e-5
    assert pattern.nnz < 1300


@pytest.mark.parametrize("example", ["rnn"], indirect=True)
def test_the_network_learns_the_filter(example):
    xs, ys = example.record(3000, 2)
    start, found, _ = example.train(steps=3000, iterations=30)
    assert example.error(found, xs, ys) < 0.2 * example.error(start, xs, ys)
