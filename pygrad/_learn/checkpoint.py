"""Checkpoints: fit writes one after every epoch, and can resume from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pygrad._core.trees import need_numpy
from pygrad._learn import npz
from pygrad._learn.history import Best, History
from pygrad.optim import Optimizer


def save(file: Path, w: Any, opt: Optimizer, history: History, epoch: int, best: Best) -> None:
    """Write the state of a training, for `load`. Replaces the file as a whole."""
    np = need_numpy()
    state = opt.state_dict()
    text = {
        "settings": state["settings"],
        "step": state["step"],
        "epoch": epoch,
        "best": [best.loss, best.epoch],
        "history": [history.loss, history.validation, history.seconds],
    }
    buffers = {f"state_{k}": v for k, v in state["buffers"].items()}
    npz.write(file, {"w": w, "best": best.w, "text": np.array(json.dumps(text)), **buffers})


def load(file: Path, w: Any, opt: Optimizer, history: History) -> tuple[int, Best]:
    """Restore a state from `save`. Raises ValueError, naming the file, with nothing changed, if it does not fit."""
    arrays = npz.read(file, (2 + len(opt.state_dict()["buffers"])) * w.size, texts=("text",))
    try:
        text = _checked_text(arrays.pop("text", ""))
        best = arrays.pop("best", None)
        numbers = arrays.pop("w", None)
        for array in (numbers, best):
            if array is None or array.ndim != 1:
                raise ValueError("it has no parameters")
            if array.shape != w.shape:
                raise ValueError(f"a checkpoint of {array.size} parameters; the model has {w.size}")
        if not all(name.startswith("state_") and array.ndim == 1 for name, array in arrays.items()):
            raise ValueError("it has arrays that do not belong in a checkpoint")
        buffers = {name[6:]: array.astype(float).tolist() for name, array in arrays.items()}
        opt.load_state_dict({"settings": text["settings"], "step": text["step"], "buffers": buffers})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    w[:] = numbers
    history.loss, history.validation, history.seconds = text["history"]
    return text["epoch"], Best(text["best"][0], text["best"][1], best.astype(float))


def _checked_text(text: str) -> dict[str, Any]:
    """A checkpoint's metadata. Raises ValueError if `save` cannot have written it."""
    try:
        x = json.loads(text)
        epoch, loss_and_more, best = x["epoch"], x["history"], x["best"]
        lists = [[float(number) for number in numbers] for numbers in loss_and_more]
        fits = (
            all(type(number) is float for numbers in loss_and_more for number in numbers)
            and type(epoch) is int
            and [len(numbers) for numbers in lists] in ([epoch, 0, epoch], [epoch] * 3)
            and all(type(numbers) is list for numbers in loss_and_more)
            and type(best) is list
            and [type(part) for part in best] == [float, int]
            and 0 <= best[1] < max(1, epoch)
            and isinstance(x["settings"], dict)
            and "step" in x
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        fits = False
    if not fits:
        raise ValueError("damaged checkpoint: its metadata cannot be read")
    return dict(x)
