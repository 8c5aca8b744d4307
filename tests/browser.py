"""Pages in a real browser, for tests: skipped where there is none.

pip install playwright, Chromium on the PATH; AXE=path/to/axe.min.js for the check of accessibility; SCREENSHOTS=folder
keeps pictures.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None or "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("no Chromium, or one that would run under sanitizers")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def screenshot(page, name):
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def accessible(page):
    """What axe-core finds wrong."""
    if "AXE" not in os.environ:
        return []
    page.evaluate(Path(os.environ["AXE"]).read_text(encoding="utf-8"))
    return [
        (v["id"], [n["html"] for n in v["nodes"]])
        for v in page.evaluate("axe.run({preload: false, resultTypes: ['violations']})")["violations"]
    ]


def new_page(chromium, **settings):
    page = chromium.new_page(**{"viewport": {"width": 1280, "height": 760}, "reduced_motion": "reduce", **settings})
    page.set_default_timeout(5000)
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    return page, said


def wait_for(page, expression):
    """Until it is true. Playwright's own way needs a policy that lets strings run."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)
