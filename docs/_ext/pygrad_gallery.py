"""How the gallery runs examples: with their pictures in a folder of its own, which are shown below."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

FOLDER = Path(tempfile.mkdtemp(prefix="pygrad-gallery-"))
PICTURE = {"control": "--picture", "moons": "--picture", "lecture": "--folder"}
# Shown where an example has more than one picture, or its text says more than its file's name.
ALT = {
    "control.png": "Two panels: the pendulum's angle rises to pi in swings; the torque stays within 6 N m",
    "moons.png": "Six panels: the boundary between two moons forms over 100 epochs",
    "neuron-after.svg": "The graph of a neuron, with its gradients",
}


class Arguments:
    """Command-line arguments for each example."""

    def __repr__(self) -> str:
        return "arguments of the gallery"

    def __call__(self, _: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
        name = Path(script_vars["src_file"]).stem
        if name not in PICTURE:
            return []
        return [PICTURE[name], str(FOLDER / name if PICTURE[name] == "--folder" else FOLDER / f"{name}.png")]


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
