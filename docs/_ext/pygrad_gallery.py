"""How the gallery runs examples: with their pictures in a folder of its own, which are shown below."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

FOLDER = Path(tempfile.mkdtemp(prefix="pygrad-gallery-"))
# The pictures of each example, and what they show.
ALT = {
    "control.png": "Two panels: the pendulum's angle rises to pi in swings; the torque stays within 6 N m",
    "curve_fit.png": "Eleven measurements, and the curve through them",
    "differential_equation.png": "The network before training is far from the sine, after training upon it",
    "digits.png": "Images of digits that the network gets wrong",
    "gpt.png": "The loss falls over a thousand names",
    "greeks.png": "Three panels: price, delta and vega of a call over the spot, for three times",
    "greeks_cluster.png": "Bars: price and Greeks by simulation differ from the closed forms by a few thousandths",
    "implied_volatility.png": "Two panels: the implied volatility rises with the price, and its slope",
    "moons.png": "Six panels: the boundary between two moons forms over 100 epochs",
    "neuron_backward.svg": "The graph of a neuron, with its gradients",
    "ode_estimation.png": "Measured points, and the motion with the guessed and with the found parameters",
    "race_car.png": "The car's speed touches its limit where the track is slowest; the throttle is fully on elsewhere",
    "rnn.png": "The network's output follows the filter's",
}


class Arguments:
    """Command-line arguments for each example."""

    def __repr__(self) -> str:
        return "arguments of the gallery"

    def __call__(self, _: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
        name = Path(script_vars["src_file"]).stem
        if name == "lecture":
            return ["--folder", str(FOLDER / name)]
        return [*(["--paths", "2e6"] if name == "greeks_cluster" else []), "--picture", str(FOLDER / f"{name}.png")]


arguments = Arguments()


class Pictures:
    """Takes the pictures that a block of an example has written."""

    def __repr__(self) -> str:
        return "pictures of the gallery"

    def __call__(self, _: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
        shown = []
        for path in sorted(FOLDER.rglob("*.*")):
            if path.suffix in (".png", ".svg") and path.name in ALT:
                target = Path(next(block_vars["image_path_iterator"])).with_suffix(path.suffix)
                shutil.move(path, target)
                shown.append((str(target), ALT[path.name]))
        return "".join(figure_rst([path], gallery_conf["src_dir"], alt) for path, alt in shown)


pictures = Pictures()
