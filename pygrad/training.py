"""fit: training a module on arrays, recorded underneath.

The loss of a batch and its gradient are one program over lanes; what an optimizer does to the parameters is one call of
C. The module's Values get their numbers when training ends, however it ends.
"""

from __future__ import annotations

import json
import os
import weakref
from pathlib import Path
from time import perf_counter
from typing import Any, Callable

from pygrad import npz
from pygrad._files import replacing
from pygrad.nn import LOSSES, Module
from pygrad.optim import SGD, Adam, AdamW, Optimizer
from pygrad.structures import need_numpy, real_array
from pygrad.transforms import Function, jit, value_and_grad, vmap

_OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


class History:
    """What a training went through: lists of one number an epoch, and how it ended.

    loss: the mean over the epoch's batches, while parameters change; validation: the loss on the validation data after
    it; seconds: since the start. stopped: 'finished', 'early' or 'interrupted'.
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.validation: list[float] = []
        self.seconds: list[float] = []
        self.stopped = ""

    def __repr__(self) -> str:
        last = f", loss {self.loss[-1]:.6g}" if self.loss else ""
        return f"<History of {len(self.loss)} epochs{last}, {self.stopped}>"

    def plot(self, ax: Any = None) -> Any:
        """Losses by epoch on a logarithmic scale (matplotlib); returns the Axes, drawn into `ax` where there is one."""
        from pygrad.plot import loss_history

        return loss_history(self, ax)


def _rows(name: str, X: Any, ndim: tuple[int, ...]) -> Any:
    """An array of finite numbers, one row a sample."""
    np = need_numpy()
    try:
        array = real_array(X, name)
    except ValueError:
        raise ValueError(f"{name}: all rows must have one length") from None
    if array.ndim not in ndim:
        wanted = " or ".join(map(str, ndim))
        raise ValueError(f"{name} has shape {array.shape}: it must have {wanted} dimensions, samples first")
    if len(array) == 0:
        raise ValueError(f"{name} is empty: there is no sample")
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"{name}: sample {row} has a nan or an infinity: {array[row]}")
    return array


def _one_hot(y: Any, classes: int | None, name: str = "y") -> Any:
    """Class numbers as rows with a one among zeros; ValueError for what is no class."""
    np = need_numpy()
    numbers = np.asarray(y)
    if numbers.ndim != 1 or not np.all(numbers == np.floor(numbers)):
        raise ValueError(f"{name}: labels must be whole numbers, one a sample; shape {numbers.shape}")
    if classes is not None and (numbers.min() < 0 or numbers.max() >= classes):
        row = int(np.argmax((numbers < 0) | (numbers >= classes)))
        raise ValueError(f"{name}: sample {row} has the label {numbers[row]}; there are {classes} classes, from 0 on")
    return np.eye(classes)[numbers.astype(int)]


def _parameters(model: Module) -> Any:
    numbers = need_numpy().array([p.data for p in model.parameters()], dtype=float)
    if numbers.size == 0:
        raise ValueError(f"{model!r} has no parameters: there is nothing to train")
    return numbers


_functions: weakref.WeakKeyDictionary[Module, Function] = weakref.WeakKeyDictionary()


def predict(model: Module, X: Any) -> Any:
    """See Module.predict."""
    X = _rows("X", X, (2,))
    if model not in _functions:
        _functions[model] = jit(vmap(model.function(), in_axes=(None, 0)))
    return _outputs_of(_with_shapes(_functions[model], "X", X)(_parameters(model), X))


def _outputs_of(result: Any) -> Any:
    """What a module gives for many samples as one array, whether it gives a number or a list of them."""
    np = need_numpy()
    return np.stack(result, axis=-1) if isinstance(result, (list, tuple)) else result


def _with_shapes(function: Callable[..., Any], name: str, X: Any) -> Callable[..., Any]:
    """`function`, whose complaint about a sample's length names the argument."""

    def run(*args: Any) -> Any:
        try:
            return function(*args)
        except ValueError as error:
            raise ValueError(
                f"{name} has samples of shape {X.shape[1:]}, which the model does not take: {error}"
            ) from None

    return run


def _optimizer(optimizer: Any, parameters: Any, lr: float | None) -> Optimizer:
    if isinstance(optimizer, str):
        if optimizer not in _OPTIMIZERS:
            raise ValueError(
                f"optimizer={optimizer!r}: must be one of {', '.join(map(repr, _OPTIMIZERS))}, or a function"
            )
        optimizer = _OPTIMIZERS[optimizer]
    made = optimizer(parameters) if lr is None else optimizer(parameters, lr=lr)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer: {optimizer!r} gave {made!r}, which is no pygrad.optim.Optimizer")
    return made


def fit(
    model: Module,
    X: Any,
    y: Any,
    *,
    loss: str | Callable[[Any, Any], Any] = "mse",
    optimizer: str | Callable[..., Optimizer] = "adam",
    lr: float | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | float | None = None,
    patience: int | None = None,
    l2: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
    progress: bool = False,
    workers: int = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> History:
    """Train `model` on samples X, shape (n, inputs), with targets y, shape (n,) or (n, outputs).

    loss: 'mse', 'cross_entropy' (y: class numbers), 'binary_cross_entropy', 'hinge', or a function of a sample's output
    and target, Values both; what is minimised is its mean over a batch plus l2 times the sum of squares of the
    parameters. optimizer: 'sgd', 'adam', 'adamw', or what makes one of an array, such as Adam; lr: its learning rate.
    batch_size=None: all at once. validation: (X, y), or the share of samples that is set aside, the last ones.
    patience: epochs without a better validation loss (training loss where there is none) after which training stops,
    with the best parameters.

    The same seed gives the same numbers, whatever `workers`. progress: a bar (tqdm) with loss and rate. Ctrl-C ends
    training with what is reached. checkpoint: a file that is written after every epoch; with resume=True training goes
    on from there if it exists, as if it had never stopped.

    Raises ValueError for samples and targets that do not fit the model, have nan among them, or labels out of range;
    FloatingPointError if the loss turns nan or infinite, naming epoch, step and what else is known.
    """
    np = need_numpy()
    X = _rows("X", X, (2,))
    categorical = loss == "cross_entropy"
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r}: must be one of {', '.join(map(repr, LOSSES))}, or a function")
        function = LOSSES[loss]
    else:
        function = loss
    y = _rows("y", y, (1, 2))
    if len(X) != len(y):
        raise ValueError(f"X has {len(X)} samples and y {len(y)}; there must be as many of each")
    if epochs < 0:
        raise ValueError(f"epochs={epochs}: must not be negative")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1, or None for all samples at once")
    held = None
    if isinstance(validation, (int, float)):
        if not 0 < validation < 1:
            raise ValueError(f"validation={validation!r}: as a share it must lie between 0 and 1")
        cut = len(X) - max(1, round(validation * len(X)))
        if cut < 1:
            raise ValueError(f"validation={validation!r} leaves none of {len(X)} samples to train on")
        X, y, held = X[:cut], y[:cut], (X[cut:], y[cut:])
    elif validation is not None:
        held = _rows("validation's X", validation[0], (2,)), _rows("validation's y", validation[1], (1, 2))

    w = _parameters(model)
    call = model.function()
    if categorical and y.ndim == 1:
        out = predict(model, X[:1])
        classes = out.shape[1] if out.ndim == 2 else 1
        y = _one_hot(y, classes)
        held = None if held is None else (held[0], _one_hot(held[1], classes, "validation's y"))

    def sample(w: Any, x: Any, t: Any) -> Any:
        return function(call(w, x), t)

    def data_loss(w: Any, X: Any, y: Any) -> Any:
        return vmap(sample, in_axes=(None, 0, 0), reduce="mean")(w, X, y)

    def objective(w: Any, X: Any, y: Any) -> Any:
        return data_loss(w, X, y) + l2 * sum(p * p for p in w) if l2 else data_loss(w, X, y)

    step = _with_shapes(value_and_grad(objective, workers=workers), "X", X)
    measure = _with_shapes(jit(data_loss, workers=workers), "validation's X", X if held is None else held[0])
    opt = _optimizer(optimizer, w, lr)
    history, done, best = History(), 0, (float("inf"), 0, w.copy())
    file = None if checkpoint is None else Path(checkpoint)
    if resume and file is None:
        raise ValueError("resume=True needs checkpoint=, the file to resume from")
    if resume and file is not None and file.exists():
        done, best = _load(file, w, opt, history)
    size = len(X) if batch_size is None else min(batch_size, len(X))
    before = history.seconds[-1] if history.seconds else 0.0
    start = perf_counter()
    bar = _bar(epochs, done) if progress else None
    try:
        for epoch in range(done, epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(X)) if shuffle else np.arange(len(X))
            total = 0.0
            for k in range(0, len(X), size):
                batch = order[k : k + size]
                value, grads = step(w, X[batch], y[batch])
                if not np.isfinite(value) or not np.isfinite(grads).all():
                    raise FloatingPointError(_why(model, w, value, grads, epoch, k // size))
                opt.step(grads)
                total += value * len(batch)
            history.loss.append(total / len(X))
            history.seconds.append(before + perf_counter() - start)
            if held is not None:
                history.validation.append(measure(w, *held))
            now = history.validation[-1] if held is not None else history.loss[-1]
            if now < best[0]:
                best = now, epoch, w.copy()
            if bar is not None:
                bar.update(1)
                bar.set_postfix(
                    {"loss": f"{now:.4g}", "samples/s": f"{len(X) * (epoch + 1) / history.seconds[-1]:,.0f}"}
                )
            if file is not None:
                _save(file, w, opt, history, epoch + 1, best)
            if patience is not None and epoch - best[1] >= patience:
                history.stopped = "early"
                w[:] = best[2]
                break
        history.stopped = history.stopped or "finished"
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:
        if bar is not None:
            bar.close()
        for p, number in zip(model.parameters(), w.tolist()):
            p.data = number
    return history


def _bar(epochs: int, done: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from None
    return tqdm(total=epochs, initial=done, unit="epoch")


def _why(model: Module, w: Any, value: float, grads: Any, epoch: int, k: int) -> str:
    """What is known of a loss that is no number."""
    np = need_numpy()
    text = f"epoch {epoch + 1}, step {k + 1}: the loss is {value}"
    odd = np.flatnonzero(~np.isfinite(w) if not np.isfinite(w).all() else ~np.isfinite(grads))
    if odd.size:
        what = "grad" if np.isfinite(w).all() else "value"
        text += (
            f", and {odd.size} of {w.size} parameters have no finite {what}, the first in {_name(model, int(odd[0]))}"
        )
    return text + ": a smaller lr, or inputs of about 1, may help; the model keeps what it had before this step"


def _name(model: Module, index: int) -> str:
    """The name of the parameter of that number."""
    from pygrad.nn import _named

    wanted = model.parameters()[index]
    for name, value in _named(model, model.parameters()):
        if value is wanted or (isinstance(value, list) and wanted in value):
            return str(name)
    return f"parameter {index}"


def _save(file: Path, w: Any, opt: Optimizer, history: History, epoch: int, best: tuple[float, int, Any]) -> None:
    np = need_numpy()
    state = opt.state_dict()
    text = {
        "settings": state["settings"],
        "step": state["step"],
        "epoch": epoch,
        "best": [best[0], best[1]],
        "history": [history.loss, history.validation, history.seconds],
    }
    with replacing(file) as out:
        np.savez(
            out,
            w=w,
            best=best[2],
            text=np.array(json.dumps(text)),
            **{f"state_{k}": v for k, v in state["buffers"].items()},
        )


def _load(file: Path, w: Any, opt: Optimizer, history: History) -> tuple[int, tuple[float, int, Any]]:
    """What _save has written. ValueError, naming the file, with nothing changed, if it is damaged or another's."""
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
            raise ValueError("it has an array that no checkpoint has")
        buffers = {name[6:]: array.astype(float).tolist() for name, array in arrays.items()}
        opt.load_state_dict({"settings": text["settings"], "step": text["step"], "buffers": buffers})
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    w[:] = numbers
    history.loss, history.validation, history.seconds = text["history"]
    return text["epoch"], (text["best"][0], text["best"][1], best.astype(float))


def _checked_text(text: str) -> dict[str, Any]:
    """The part of a checkpoint that is no array. ValueError if _save cannot have written it."""
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
        raise ValueError("a damaged checkpoint: its text is none")
    return dict(x)


__all__ = ["History", "fit", "predict"]
