"""The page that trains a network: its losses against Python's."""

from __future__ import annotations

import math
import random
import re

import pytest
from browser import accessible, new_page, screenshot


def moons(rng, count=30):
    points = [(rng.uniform(-1, 2), rng.uniform(-1, 1)) for _ in range(count)]
    return points, [1 if b > 0.3 * math.sin(3 * a) else -1 for a, b in points]


def losses(pg, model, X, y, steps, l2=1e-4):
    """The losses of the demo's training, before each step."""
    found = []
    for k in range(steps):
        inputs = [list(map(pg.Value, point)) for point in X]
        scores = list(map(model, inputs))
        parts = [(1 + -yi * score).relu() for yi, score in zip(y, scores)]
        total = sum(parts) * (1.0 / len(parts)) + l2 * sum(p * p for p in model.parameters())
        model.zero_grad()
        total.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / steps) * p.grad
        found.append(total.data)
    return found


def open_page(chromium, page, tmp_path, **settings):
    path = tmp_path / "playground.html"
    path.write_text(page.html, encoding="utf-8")
    tab, said = new_page(chromium, **settings)
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-engine=runs]")
    return tab, said


def test_training_in_the_page_has_pythons_losses(pg, chromium, tmp_path, rng):
    X, y = moons(rng)
    pg.nn.seed(5)
    model = pg.nn.MLP(2, [8, 8, 1])
    page = pg.playground(model, X, y, None, steps=12)
    assert len(page.html.encode()) <= 250_000
    tab, said = open_page(chromium, page, tmp_path)
    expected = losses(pg, model, X, y, 12)
    for k in range(6):
        tab.click("#one")
        assert float(tab.get_attribute("#loss", "title")) == expected[k]  # relu only: the same digits
    screenshot(tab, "playground")
    tab.click("#play")
    tab.get_by_text("Step 12:").wait_for()
    assert float(tab.get_attribute("#loss", "title")) == expected[-1]
    assert not accessible(tab)
    tab.click("#reset")
    tab.click("#one")
    assert float(tab.get_attribute("#loss", "title")) == expected[0] and not said
    tab.close()


def test_a_new_network_has_the_weights_that_python_draws(pg, chromium, tmp_path, rng):
    X, y = moons(rng)
    tab, said = open_page(chromium, pg.playground(pg.nn.MLP(2, [3, 1]), X, y, None), tmp_path, color_scheme="dark")
    for seed in (7, 2**40 + 3):
        tab.fill("#layers", "5, 4")
        tab.select_option("#nonlin", "leaky_relu")
        tab.select_option("#l2", "0.01")
        tab.fill("#seed", str(seed))
        tab.keyboard.press("Enter")
        tab.click("#one")
        tab.click("#one")
        pg.nn.seed(seed)
        expected = losses(pg, pg.nn.MLP(2, [5, 4, 1], nonlin="leaky_relu"), X, y, 100, l2=0.01)
        assert math.isclose(float(tab.get_attribute("#loss", "title")), expected[1], rel_tol=1e-12)
    tab.click("#weights")
    screenshot(tab, "playground-dark")
    assert tab.inner_text("#showing") == "Gradients" and not accessible(tab)
    tab.fill("#layers", "0, x")
    tab.keyboard.press("Enter")
    assert tab.get_attribute("#layers", "aria-invalid") == "true" and "widths" in tab.inner_text("#status")
    tab.set_viewport_size({"width": 390, "height": 780})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390 and not said
    screenshot(tab, "playground-phone")
    tab.close()


def test_the_demos_network_trains_in_the_page_as_in_python(pg, chromium, tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    demo = pytest.importorskip("pygrad._cli.demo")
    state = random.getstate()
    try:
        assert demo.play(20, 1337, tmp_path / "play.html") == 0
        expected = demo.train(20, 1337).loss
    finally:
        random.setstate(state)
    tab, said = new_page(chromium)
    tab.goto((tmp_path / "play.html").as_uri())
    tab.wait_for_selector("html[data-engine=runs]")
    tab.select_option("#pace", "fast")
    tab.click("#play")
    tab.get_by_text("Step 20:").wait_for()
    assert float(tab.get_attribute("#loss", "title")) == expected and not said
    tab.close()


def test_a_page_without_webassembly_says_so(pg, chromium, tmp_path):
    path = pg.playground(pg.nn.MLP(2, [2, 1]), [[0, 1], [1, 0]], [1, -1], tmp_path / "p.html").path
    tab, said = new_page(chromium)
    tab.add_init_script("delete window.WebAssembly")
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-engine=none]")
    assert "needs WebAssembly" in tab.inner_text("#status") and not said
    tab.close()


def test_other_models_and_samples_are_refused(pg):
    model, X, y = pg.nn.MLP(2, [2, 1]), [[0, 1], [1, 0]], [1, -1]
    with pytest.raises(TypeError, match="trains an nn.MLP"):
        pg.playground(lambda x: x, X, y, None)
    for wrong in (pg.nn.MLP(3, [1]), pg.nn.MLP(2, [2])):
        with pytest.raises(ValueError, match="2 inputs and 1 output"):
            pg.playground(wrong, X, y, None)
    with pytest.raises(ValueError, match="2 samples and 1 classes"):
        pg.playground(model, X, [1], None)
    with pytest.raises(ValueError, match=r"y has 0\.0"):
        pg.playground(model, X, [0, 1], None)
    with pytest.raises(ValueError, match="steps=0"):
        pg.playground(model, X, y, None, steps=0)
    with pytest.raises(ValueError, match="writes a page"):
        pg.playground(model, X, y, "a.png")
    page = pg.playground(model, X, y, None).html
    assert not re.search(r"(src|href)=|@import|url\(|fetch\(|XMLHttp", page)
