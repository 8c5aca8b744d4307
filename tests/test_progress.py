"""The bar of pygrad.progress: how far a recorded function has run, in each kind of loop."""

from __future__ import annotations

import sys
import threading

import pytest

np = pytest.importorskip("numpy")


def orbit(pg, steps):
    def f(mu):
        def step(c, _):
            x, v = c
            return (x + 0.001 * v, v + 0.001 * (mu * (1 - x * x) * v - x)), None

        return pg.scan(step, (2.0, 0.0), None, length=steps)[0][0]

    return f


class Bar:
    """Stands for tqdm: keeps what it is told."""

    def __init__(self, **options):
        self.options, self.n, self.total, self.shown, self.closed = options, 0, None, [], False

    def reset(self, total):
        self.n, self.total = 0, total
        self.shown.append([])

    def update(self, by):
        self.n += by
        self.shown[-1].append(self.n)

    def set_postfix(self, refresh, **given):
        assert given["call"] == len(self.shown)

    def close(self):
        self.closed = True


@pytest.fixture
def bars(pg, monkeypatch):
    made = []

    def bar(**options):
        made.append(Bar(**options))
        return made[-1]

    monkeypatch.setattr(sys.modules["pygrad._program.progress"], "need_tqdm", lambda: bar)
    return made


CALLS = {
    "jit": lambda pg: (pg.jit(orbit(pg, 1_000_000)), 1.0),
    "grad": lambda pg: (pg.grad(orbit(pg, 300_000)), 1.0),
    "vmap": lambda pg: (pg.jit(pg.vmap(orbit(pg, 30_000))), np.linspace(0, 1, 300)),
    "gradients of lanes": lambda pg: (pg.vmap(pg.grad(orbit(pg, 3000))), np.linspace(0, 1, 300)),
    "sum of lanes": lambda pg: (pg.grad(lambda mus: pg.vmap(orbit(pg, 3000))(mus).sum()), np.linspace(0, 1, 300)),
    "lanes in a step": lambda pg: (
        pg.jit(lambda x: pg.fori_loop(0, 3000, lambda i, s: s + pg.vmap(pg.math.sin)(x).sum(), 0.0)),
        np.ones(2000),
    ),
    "loops in branches of loops": lambda pg: (
        pg.jit(
            lambda x: pg.fori_loop(
                0, 1000, lambda i, s: pg.cond(s > -1, orbit(pg, 1000), orbit(pg, 990), s - pg.math.floor(s)), x
            )
        ),
        0.5,
    ),
    "no loop": lambda pg: (pg.jit(pg.vmap(lambda x: x.sin() * x.cos() + x.exp() * x.tanh())), np.ones(3_000_000)),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_bar_goes_to_the_whole_work_of_a_call(pg, bars, name):
    f, x = CALLS[name](pg)
    expected = f(x)
    assert bars == []
    with pg.progress("simulate"):
        found = f(x)
    assert np.array_equal(found, expected)
    (bar,) = bars
    assert bar.options["desc"] == "simulate"
    assert bar.closed
    (shown,) = bar.shown
    assert len(shown) > 3
    assert shown == sorted(shown)
    assert 0.8 * bar.total < shown[-2] <= bar.total
    assert shown[-1] == bar.total


def test_a_loop_without_a_bound_shows_its_rate(pg, bars):
    with pg.progress():
        assert pg.jit(lambda a: pg.while_loop(lambda s: s < 1e6, lambda s: s + a, 0.0))(0.25) == 1e6
    (bar,) = bars
    assert bar.total is None
    assert bar.n > 4e6


def test_each_call_is_shown_from_its_start(pg, bars):
    f = pg.jit(orbit(pg, 500_000))
    with pg.progress():
        f(1.0)
        f(2.0)
        pg.jit(orbit(pg, 600_000))(1.0)
    (bar,) = bars
    assert len(bar.shown) == 3
    assert all(shown == sorted(shown) and shown[0] < 6e6 for shown in bar.shown)


def test_each_thread_has_its_bar_and_blocks_may_be_nested(pg, bars):
    f = pg.jit(orbit(pg, 500_000))
    f(1.0)

    def run():
        with pg.progress("inner"):
            f(1.0)

    thread = threading.Thread(target=run)
    with pg.progress("outer"):
        thread.start()
        thread.join()
        run()
        assert "outer" not in [bar.options["desc"] for bar in bars]
        f(2.0)
    f(3.0)
    assert sorted((bar.options["desc"], len(bar.shown), bar.closed) for bar in bars) == [
        ("inner", 1, True),
        ("inner", 1, True),
        ("outer", 1, True),
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_the_bar_ends_the_call_and_the_next_one_runs(pg, bars, monkeypatch, error):
    f = pg.jit(orbit(pg, 500_000))
    expected = f(1.0)

    def reset(self, total):
        raise error("no terminal")

    monkeypatch.setattr(Bar, "reset", reset)
    with pytest.raises(error, match="no terminal"), pg.progress():
        f(1.0)
    assert bars[0].closed
    assert f(1.0) == expected


def test_tqdm_draws_it(pg, capsys):
    pytest.importorskip("tqdm")
    f = pg.jit(orbit(pg, 5_000_000))
    with pg.progress("orbit"):
        f(1.0)
    assert "orbit: 100%" in capsys.readouterr().err


def test_without_tqdm_it_says_how_to_install_it(pg, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="needs tqdm: pip install tqdm"), pg.progress():
        pass
