"""All pages: accessible at every size in both themes, and quick to look at. See browser.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from browser import accessible, new_page, screenshot

from pygrad.formula import parse

SIZES = {"phone": (390, 780), "tablet": (820, 1100), "desktop": (1280, 760)}


def explored(pg):
    with pg.scope("neuron"):
        x, w = pg.Value(2.0, label="x"), pg.Value(-3.0, label="w")
        return pg.explore((x * w + 1).tanh(), None)


def story(page):
    page.locator("#n0").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("e")


def quiz(page):
    page.click("#quiz")
    page.click("#next")
    page.click("#values summary")


def trained(pg):
    return pg.playground(pg.nn.MLP(2, [4, 1]), [[0, 1], [1, 0]], [1, -1], None)


def mistake(page):
    page.fill("#text", "tanh(x")


PAGES = {
    "story": (explored, story),
    "quiz": (explored, quiz),
    "formula": (lambda pg: parse("tanh(x*w)").explore(None, x=1.0, w=2.0), mistake),
    "playground": (
        lambda pg: pg.playground(pg.nn.MLP(2, [4, 1]), [[0, 1], [1, 0]], [1, -1], None),
        lambda page: page.click("#one"),
    ),
}


@pytest.mark.skipif("AXE" not in os.environ, reason="needs axe-core")
@pytest.mark.parametrize("name", PAGES)
def test_every_state_is_accessible_at_every_size_in_both_themes(pg, chromium, tmp_path, name):
    make, reach = PAGES[name]
    path = tmp_path / "page.html"
    path.write_text(make(pg).html, encoding="utf-8")
    page, said = new_page(chromium)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-engine=runs]")
    reach(page)
    for theme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            assert accessible(page) == [], (theme, size)
            screenshot(page, f"{name}-{theme}-{size}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (theme, size)
        page.eval_on_selector("#theme", "button => button.click()")
    assert not said
    page.close()


@pytest.mark.skipif("SITE" not in os.environ, reason="needs the site that is built: SITE=docs/_build/html")
@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_every_page_of_the_site_is_accessible_fits_and_loads_nothing_from_elsewhere(chromium, size, theme):
    width, height = SIZES[size]
    site = Path(os.environ["SITE"]).resolve()
    pages = sorted(path for path in site.rglob("*.html") if not path.relative_to(site).parts[0].startswith("_"))
    assert len(pages) > 80
    page, said = new_page(chromium, viewport={"width": width, "height": height}, color_scheme=theme)
    wrong = {}
    for path in pages:
        said.clear()
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth") - width
        page.wait_for_timeout(100)
        found = [*said, *([f"{wide} pixels too wide"] if wide > 0 else []), *accessible(page)]
        if found:
            wrong[path.relative_to(site).as_posix()] = found
    assert not wrong
    page.close()
