"""Makes docs/explore.gif, the animated picture of the README, from the page itself.

    python docs/animate.py

Needs Chromium on the PATH and pip install '.[browser,demo]' (Pillow comes with Matplotlib).
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pygrad import Value, explore, label_from

OUT = Path(__file__).with_name("explore.gif")
SIZE = {"width": 1000, "height": 560}
STEP, PAUSE = 900, 2200  # milliseconds


def neuron(path: Path) -> None:
    """Write the page of the README's neuron."""
    x, w, b = Value(2.0), Value(-3.0), Value(6.5)
    o = (x * w + b).tanh()
    label_from({"x": x, "w": w, "b": b, "o": o})
    explore(o, path)


def shown(page: Page) -> Image.Image:
    page.wait_for_timeout(400)  # transitions end
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def frames(page: Page) -> list[tuple[Image.Image, int]]:
    """(picture, milliseconds): every step of both passes, then numbers that are changed."""
    made = [(shown(page), STEP)]
    steps = int(page.locator("#slider").get_attribute("max") or 0)
    for _ in range(steps):
        page.click("#next")
        made.append((shown(page), STEP))
    made[-1] = (made[-1][0], PAUSE)
    for number in ("2.1", "2.2", "2.3"):
        page.get_by_role("button", name="x", exact=False).first.focus()
        page.keyboard.press("e")
        page.fill("#edited", number)
        page.keyboard.press("Enter")
        made.append((shown(page), STEP))
    made[-1] = (made[-1][0], PAUSE)
    return made


def main() -> None:
    """Run the page and write the picture."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        neuron(Path(folder) / "neuron.html")
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto((Path(folder) / "neuron.html").as_uri())
        made = frames(page)
        browser.close()
    palette = made[-1][0].quantize(128, method=Image.Quantize.MEDIANCUT)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in made]
    times = [time for _, time in made]
    pictures[0].save(OUT, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=True)


if __name__ == "__main__":
    main()
